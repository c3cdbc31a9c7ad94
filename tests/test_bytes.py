"""What lookups cost, counted on the wire: what they return, and not what is stored."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import SessionCache
from sessioncache.models import WorkflowRunOutput, WorkflowSession
from sessioncache.operations import pages
from support.samples import a_message, a_run, a_run_of, a_session
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer

DATA = Path(__file__).parent / "data"
SIZES = (100, 1_000, 5_000)
"""Runs of the sessions that are compared."""

DIGITS = 150
"""Bytes that numbers, ids, counts and the versions of ten heads may have more in a longer session."""


@pytest.fixture(scope="module")
def proxy(redis_server: RedisServer) -> Iterator[CountingProxy]:
    """A proxy that counts."""
    with CountingProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def cache(proxy: CountingProxy) -> Iterator[SessionCache]:
    """A cache behind the proxy."""
    with SessionCache.from_url(proxy.url, prefix="bytes", ttl=3600) as cache:
        yield cache


@pytest.fixture(scope="module")
def writer(redis_server: RedisServer) -> Iterator[SessionCache]:
    """A cache that is not counted; what it stored is gone at the end."""
    with SessionCache.from_url(redis_server.url, prefix="bytes", ttl=3600, timeout=60) as cache:
        yield cache
    admin = redis_server.client()
    for key in admin.keys("bytes:*"):
        admin.delete(key)


@pytest.fixture(scope="module", autouse=True)
def _sessions(writer: SessionCache) -> None:
    """Sessions s100, s1000 and s5000: the same runs at both ends, each with a message of the system."""
    for size in SIZES:
        writer.upsert_session(a_session(f"s{size}", user_id="u"))
        writer.upsert_runs(f"s{size}", [a_turn(size - number, number) for number in range(size, 0, -1)])


def a_turn(age: int, at: int) -> WorkflowRunOutput:
    """Make a run with 1 KB of messages; of the newest 50, every tenth failed."""
    said = [a_message("system", "system", 200), a_message("question"), a_message("answer", "assistant", 800)]
    run = a_run_of(f"run-{age:05}", *said, at=at)
    return replace(run, status="ERROR" if age < 50 and age % 10 == 0 else "COMPLETED")


def cost(proxy: CountingProxy, ask: Callable[[], Any]) -> tuple[int, int, Any]:
    """Return round trips, bytes received and the answer, of a call on a warm connection."""
    ask()
    proxy.reset()
    answer = ask()
    return proxy.round_trips, proxy.bytes_received, answer


LOOKUPS: dict[str, Callable[[Any, str], Any]] = {
    "chat": lambda cache, sid: cache.get_chat_history(sid, 10),
    "no chat": lambda cache, sid: cache.get_chat_history(sid, 0),
    "workflow history": lambda cache, sid: cache.get_workflow_history(sid, 10),
    "context": lambda cache, sid: cache.get_workflow_history_context(sid, 10),
    "messages of runs": lambda cache, sid: cache.get_messages(sid, agent_id="A", last_n_runs=5),
    "last messages": lambda cache, sid: cache.get_messages(sid, agent_id="A", limit=10),
    "last question": lambda cache, sid: cache.get_messages(sid, agent_id="A", limit=5, skip_roles=["system"]),
    "newest runs": lambda cache, sid: cache.get_runs(sid, last_n_runs=5),
    "failed runs": lambda cache, sid: cache.get_runs(sid, last_n_runs=2, statuses=["ERROR"]),
    "one run": lambda cache, sid: cache.get_run(sid, "run-00007"),
    "no run": lambda cache, sid: cache.get_run(sid, "none"),
    "metadata": lambda cache, sid: cache.get_session(sid, last_n_runs=0),
    "part": lambda cache, sid: cache.get_session(sid, last_n_runs=5),
    "first runs": lambda cache, sid: list(itertools.islice(cache.iter_runs(sid, page_size=5), 5)),
    "list": lambda cache, _: cache.list_sessions(user_id="u"),
    "save": lambda cache, sid: cache.upsert_run(sid, a_turn(7, 7)),
    "state": lambda cache, sid: cache.update_session_state(sid, {"k": 1}),
    "nothing new": lambda cache, sid: cache.refresh(cache.get_session(sid, last_n_runs=1)),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_no_call_costs_more_in_a_longer_session(proxy: CountingProxy, cache: SessionCache, name: str) -> None:
    costs = [cost(proxy, lambda size=size: LOOKUPS[name](cache, f"s{size}"))[:2] for size in SIZES]

    assert len({trips for trips, _ in costs}) == 1, costs
    received = [n_bytes for _, n_bytes in costs]
    assert max(received) - min(received) <= DIGITS, costs


def test_chat_history_receives_less_than_three_times_its_answer(
    proxy: CountingProxy, cache: SessionCache, writer: SessionCache
) -> None:
    """On runs that real workflows made: about 0.4 KB of head and 6 KB of body."""
    writer.upsert_session(a_session("real"))
    writer.upsert_runs("real", real_runs(200))

    trips, received, answer = cost(proxy, lambda: cache.get_chat_history("real", last_n_runs=10))

    returned = sum(len(text.encode()) for item in answer for text in (item.input, item.output))
    assert len(answer) == 10
    assert trips == 1
    assert received < 3 * returned
    _, whole, _ = cost(proxy, lambda: cache.get_session("real"))
    assert received * 100 < whole


def real_runs(count: int) -> list[WorkflowRunOutput]:
    """Return runs of real workflows, those with plain text in and out, under new ids."""
    records = [json.loads(line) for line in (DATA / "agno_sessions.jsonl").read_text().splitlines()]
    runs = [run for record in records for run in record["runs"] or [] if 200 < len(text_of(run)) < 500]
    return [
        WorkflowRunOutput.from_dict(
            {**run, "run_id": f"{number:08}", "session_id": "real", "user_id": None, "created_at": number}
        )
        for number, run in zip(range(count), itertools.cycle(runs), strict=False)
    ]


def text_of(run: dict[str, Any]) -> str:
    texts = (run.get("input"), run.get("content"))
    return "".join(texts) if all(isinstance(text, str) and text for text in texts) else ""  # type: ignore[arg-type]


def test_limited_messages_do_not_read_everything(proxy: CountingProxy, cache: SessionCache) -> None:
    arguments = {"agent_id": "A", "limit": 8}

    trips, received, answer = cost(proxy, lambda: cache.get_messages("s5000", **arguments))

    assert [message.id for message in answer][:1] == ["system"]
    assert len(answer) == 8
    assert trips <= 3
    assert received < 20_000


def test_a_system_message_in_the_first_run_alone_does_not_have_everything_read(
    proxy: CountingProxy, cache: SessionCache, writer: SessionCache
) -> None:
    runs = [a_run_of("first", a_message("system", "system"), at=1)]
    runs += [a_run_of(f"r{n}", a_message(f"m{n}", size=1000), at=n + 2) for n in range(1000)]
    writer.upsert_session(a_session("one"))
    writer.upsert_runs("one", runs)

    trips, received, answer = cost(proxy, lambda: cache.get_messages("one", agent_id="A", limit=3))

    assert [message.id for message in answer] == ["system", "m998", "m999"]
    assert trips <= 3
    assert received < 20_000


def test_history_does_not_read_bodies_of_a_megabyte(
    proxy: CountingProxy, cache: SessionCache, writer: SessionCache
) -> None:
    writer.upsert_session(a_session("heavy"))
    for number in range(24):
        run = a_run(f"r{number}", number + 1, metadata={"picture": b"x" * 2**20})
        writer.upsert_run("heavy", replace(run, status="ERROR") if number else run)

    for ask in (
        lambda: cache.get_chat_history("heavy"),
        lambda: cache.get_workflow_history("heavy", 3),
        lambda: cache.get_workflow_history_context("heavy"),
    ):
        _, received, answer = cost(proxy, ask)
        assert answer
        assert received < 10_000


def test_pages_of_bodies_are_bounded_in_bytes(
    proxy: CountingProxy, cache: SessionCache, writer: SessionCache
) -> None:
    """Where each run has a megabyte, looking for the one of an agent reads a page of two at a time."""
    writer.upsert_session(a_session("large"))
    for number in range(24):
        agent = "A" if number == 12 else "B"
        writer.upsert_run(
            "large",
            a_run_of(f"r{number}", a_message(f"m{number}", size=2**20), agent_id=agent, at=number + 1),
        )

    trips, received, answer = cost(proxy, lambda: cache.get_messages("large", agent_id="A", last_n_runs=1))

    assert [message.id for message in answer] == ["m12"]
    assert received < 12 * 2**20 + 2 * pages.PAGE_BYTES
    assert trips <= 1 + 12


def test_a_session_that_is_not_there_costs_next_to_nothing(proxy: CountingProxy, cache: SessionCache) -> None:
    trips, received, answer = cost(proxy, lambda: cache.get_session("gone"))

    assert (trips, answer) == (1, None)
    assert received < 100


def test_the_whole_session_is_one_round_trip(proxy: CountingProxy, cache: SessionCache) -> None:
    trips, received, session = cost(proxy, lambda: cache.get_session("s1000"))

    assert trips == 1
    assert len(session.runs) == 1000
    assert received < 3 * len(json.dumps(WorkflowSession.to_dict(session)))
