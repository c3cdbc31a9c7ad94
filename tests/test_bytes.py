"""What lookups cost, counted on the wire: what they return, and not what is stored."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

DIGITS = 300
"""Bytes that numbers, ids, counts and the versions of thirty heads may have more in a longer session."""


class Cost(NamedTuple):
    """What a call moved, and its answer."""

    trips: int
    received: int
    answer: Any


@pytest.fixture(scope="module")
def writer(redis_server: RedisServer) -> Iterator[SessionCache]:
    """A cache that is not counted, with sessions s100, s1000 and s5000: the same runs at both ends."""
    with SessionCache.from_url(redis_server.url, prefix="bytes", ttl=3600, timeout=60) as cache:
        for size in SIZES:
            cache.upsert_session(a_session(f"s{size}", user_id="u"))
            cache.upsert_runs(f"s{size}", [a_turn(size - number, number) for number in range(size, 0, -1)])
        yield cache
    with redis_server.client() as admin:
        admin.delete(*admin.keys("bytes:*"))


@pytest.fixture(scope="module")
def cost(writer: SessionCache, redis_server: RedisServer) -> Iterator[Callable[..., Cost]]:
    """Measure a call on a warm connection: `cost(lambda cache: cache.get_session("s"))`."""
    with (
        CountingProxy(redis_server.socket_path) as proxy,
        SessionCache.from_url(proxy.url, prefix="bytes", ttl=3600) as cache,
    ):

        def measured(ask: Callable[[SessionCache], Any]) -> Cost:
            ask(cache)
            proxy.reset()
            answer = ask(cache)
            return Cost(proxy.round_trips, proxy.bytes_received, answer)

        yield measured


def a_turn(age: int, at: int) -> WorkflowRunOutput:
    """Make a run with a message of the system and 1 KB of others; of the newest 50, every tenth failed."""
    said = [a_message("system", "system", 200), a_message("question"), a_message("answer", "assistant", 800)]
    run = a_run_of(f"run-{age:05}", *said, at=at)
    return replace(run, status="ERROR" if age < 50 and age % 10 == 0 else "COMPLETED")


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
    "add": lambda cache, sid: (cache.upsert_run(sid, a_run("new", 10**6)), cache.delete_run(sid, "new")),
    "save": lambda cache, sid: cache.upsert_run(sid, a_turn(7, 7)),
    "state": lambda cache, sid: cache.update_session_state(sid, {"k": 1}),
    "nothing new": lambda cache, sid: cache.refresh(cache.get_session(sid, last_n_runs=1)),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_no_call_costs_more_in_a_longer_session(cost: Any, name: str) -> None:
    costs = [cost(lambda cache, size=size: LOOKUPS[name](cache, f"s{size}")) for size in SIZES]

    assert len({each.trips for each in costs}) == 1
    received = [each.received for each in costs]
    assert max(received) - min(received) <= DIGITS, received


def real_runs(count: int) -> list[WorkflowRunOutput]:
    """Return runs of real workflows, those with plain text in and out, under new ids."""
    records = [json.loads(line) for line in (DATA / "agno_sessions.jsonl").read_text().splitlines()]
    runs = [run for record in records for run in record["runs"] or [] if 200 < len(text_of(run)) < 500]
    own = (
        {"run_id": f"{n:08}", "session_id": "real", "user_id": None, "created_at": n} for n in range(count)
    )
    return [
        WorkflowRunOutput.from_dict(run | new) for new, run in zip(own, itertools.cycle(runs), strict=False)
    ]


def text_of(run: dict[str, Any]) -> str:
    texts = (run.get("input"), run.get("content"))
    return "".join(map(str, texts)) if all(isinstance(text, str) and text for text in texts) else ""


def test_chat_history_receives_less_than_three_times_its_answer(cost: Any, writer: SessionCache) -> None:
    """On runs that real workflows made: about 0.4 KB of head and 6 KB of body."""
    writer.upsert_session(a_session("real"))
    writer.upsert_runs("real", real_runs(200))

    trips, received, answer = cost(lambda cache: cache.get_chat_history("real", last_n_runs=10))

    returned = sum(len(text.encode()) for item in answer for text in (item.input, item.output))
    assert (trips, len(answer)) == (1, 10)
    assert received < 3 * returned
    assert received * 100 < cost(lambda cache: cache.get_session("real")).received


@pytest.mark.parametrize("systems", ["in every run", "in the first run alone"])
def test_limited_messages_do_not_read_everything(cost: Any, writer: SessionCache, systems: str) -> None:
    session_id, newest = "s5000", ["question", "answer"]
    if systems == "in the first run alone":
        session_id, newest = "one", ["m998", "m999"]
        runs = [a_run_of(f"r{n}", a_message(f"m{n}", size=1000), at=n + 2) for n in range(1000)]
        writer.upsert_session(a_session("one", [a_run_of("first", a_message("system", "system"))]))
        writer.upsert_runs("one", runs)

    trips, received, answer = cost(lambda cache: cache.get_messages(session_id, agent_id="A", limit=3))

    assert [message.id for message in answer] == ["system", *newest]
    assert trips <= 3
    assert received < 20_000


HISTORIES: list[Callable[[Any], Any]] = [
    lambda cache: cache.get_chat_history("heavy"),
    lambda cache: cache.get_workflow_history("heavy", 3),
    lambda cache: cache.get_workflow_history_context("heavy"),
]


def test_history_reads_no_bodies(cost: Any, writer: SessionCache) -> None:
    """Even if it has to look behind 23 runs that failed."""
    writer.upsert_session(a_session("heavy"))
    for number in range(24):
        status = "ERROR" if number else "COMPLETED"
        run = a_run(f"r{number}", number + 1, status=status, metadata={"picture": b"x" * 2**20})
        writer.upsert_run("heavy", run)

    for ask in HISTORIES:
        _, received, answer = cost(ask)
        assert answer
        assert received < 10_000


def test_pages_of_bodies_are_bounded_in_bytes(cost: Any, writer: SessionCache) -> None:
    """If each run has a megabyte, looking for the one of an agent reads a page of two at a time."""
    writer.upsert_session(a_session("large"))
    for n in range(24):
        run = a_run_of(f"r{n}", a_message(f"m{n}", size=2**20), agent_id="A" if n == 12 else "B", at=n + 1)
        writer.upsert_run("large", run)

    trips, received, answer = cost(lambda cache: cache.get_messages("large", agent_id="A", last_n_runs=1))

    assert [message.id for message in answer] == ["m12"]
    assert received < 12 * 2**20 + 2 * pages.PAGE_BYTES
    assert trips <= 1 + 12


def test_an_absent_session_costs_next_to_nothing(cost: Any) -> None:
    trips, received, answer = cost(lambda cache: cache.get_session("gone"))

    assert (trips, answer) == (1, None)
    assert received < 100


def test_a_whole_session_is_one_round_trip(cost: Any) -> None:
    trips, received, session = cost(lambda cache: cache.get_session("s1000"))

    assert (trips, len(session.runs)) == (1, 1000)
    assert received < 3 * len(json.dumps(WorkflowSession.to_dict(session)))
