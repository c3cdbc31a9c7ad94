"""How often each call goes to the server, counted on the wire, once scripts and connection are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import RunStatus, WorkflowRunOutput, WorkflowSession
from support.subjects import Caches, Subject
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer


def run(number: int, **fields: Any) -> WorkflowRunOutput:
    return WorkflowRunOutput(
        **{
            "run_id": f"r{number}",
            "input": "in",
            "content": "out",
            "created_at": 1000 + number,
            "status": RunStatus.completed,
            **fields,
        }
    )


def owned(number: int) -> WorkflowRunOutput:
    """A run as real ones are: it carries its user and its workflow."""
    return run(number, user_id="u", workflow_id="w")


def owned_session(session_id: str = "owned") -> WorkflowSession:
    runs = [owned(number) for number in range(1, 30)]
    return WorkflowSession(session_id, "u", "w", runs=runs, session_data={"session_state": {}})


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CountingProxy]:
    with redis_server.client() as admin:
        admin.flushall()
    with CountingProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def make_far_cache(proxy: CountingProxy, client_kind: str) -> Iterator[Callable[..., Any]]:
    """Make caches behind the proxy."""
    caches = Caches(Subject("redis", proxy), client_kind)  # type: ignore[arg-type]
    yield caches.make
    caches.close()


@pytest.fixture
def far_cache(make_far_cache: Callable[..., Any]) -> Any:
    """A cache behind the proxy, and two sessions: one of a user and a workflow, one of nobody."""
    cache = make_far_cache()
    cache.upsert_session(owned_session())
    cache.upsert_session(WorkflowSession("plain", runs=[run(number) for number in range(1, 30)]))
    return cache


ONE: dict[str, Callable[[Any], object]] = {
    "get_session": lambda cache: cache.get_session("owned"),
    "get_session, last run": lambda cache: cache.get_session("owned", last_n_runs=1),
    "get_session, last runs": lambda cache: cache.get_session("owned", last_n_runs=20),
    "get_session, no runs": lambda cache: cache.get_session("owned", last_n_runs=0),
    "get_session, of its user": lambda cache: cache.get_session("owned", user_id="u"),
    "get_session, absent": lambda cache: cache.get_session("absent"),
    "get_sessions": lambda cache: cache.get_sessions(["owned", "plain", "absent"], last_n_runs=2),
    "get_run": lambda cache: cache.get_run("owned", "r1"),
    "get_run, absent": lambda cache: cache.get_run("owned", "absent"),
    "get_runs": lambda cache: cache.get_runs("owned"),
    "get_runs, last ones": lambda cache: cache.get_runs("owned", last_n_runs=2),
    "get_chat_history": lambda cache: cache.get_chat_history("owned", 3),
    "get_workflow_history": lambda cache: cache.get_workflow_history("owned", 3),
    "upsert_session": lambda cache: cache.upsert_session(owned_session()),
    "upsert_session, created": lambda cache: cache.upsert_session(owned_session("another")),
    "upsert_run": lambda cache: cache.upsert_run("owned", owned(99)),
    "upsert_run, again": lambda cache: cache.upsert_run("owned", owned(1)),
    "upsert_run, of nobody": lambda cache: cache.upsert_run("plain", run(99)),
    "upsert_runs": lambda cache: cache.upsert_runs("owned", [owned(98), owned(99)]),
    "delete_run, of nobody": lambda cache: cache.delete_run("plain", "r1"),
    "rename_session, of nobody": lambda cache: cache.rename_session("plain", "name"),
    "touch_session, of nobody": lambda cache: cache.touch_session("plain", 60),
    "delete_session": lambda cache: cache.delete_session("owned"),
    "delete_session, of its user": lambda cache: cache.delete_session("owned", user_id="u"),
    "delete_session, absent": lambda cache: cache.delete_session("absent"),
}
AND_ITS_INDEXES: dict[str, Callable[[Any], object]] = {
    "rename_session": lambda cache: cache.rename_session("owned", "name"),
    "touch_session": lambda cache: cache.touch_session("owned", 60),
    "delete_run": lambda cache: cache.delete_run("owned", "r1"),
    "upsert_run, that does not say whose it is": lambda cache: cache.upsert_run("owned", run(99)),
}


def round_trips(cache: Any, proxy: CountingProxy, call: Callable[[Any], object]) -> int:
    """Count a call's round trips the second time, when the server knows the scripts."""
    call(cache)
    cache.upsert_session(owned_session())  # what the first call may have deleted
    cache.upsert_session(WorkflowSession("plain", runs=[run(1)]))
    proxy.reset()
    call(cache)
    return proxy.round_trips


@pytest.mark.parametrize("call", ONE.values(), ids=ONE)
def test_a_call_is_one_round_trip(
    far_cache: Any, proxy: CountingProxy, call: Callable[[Any], object]
) -> None:
    assert round_trips(far_cache, proxy, call) == 1


@pytest.mark.parametrize("call", AND_ITS_INDEXES.values(), ids=AND_ITS_INDEXES)
def test_a_write_that_does_not_know_whose_the_session_is_is_one_more_for_its_indexes(
    far_cache: Any, proxy: CountingProxy, call: Callable[[Any], object]
) -> None:
    assert round_trips(far_cache, proxy, call) == 2


def test_saving_a_loaded_session_is_one_round_trip(far_cache: Any, proxy: CountingProxy) -> None:
    session = far_cache.get_session("owned", last_n_runs=2)
    session.metadata["k"] = 1
    session.runs[0].content = "changed"
    session.runs.append(owned(99))
    proxy.reset()

    far_cache.upsert_session(session, expect_rev=session.rev)

    assert proxy.round_trips == 1


def test_reading_bodies_of_a_loaded_session_is_none(far_cache: Any, proxy: CountingProxy) -> None:
    session = far_cache.get_session("owned")
    proxy.reset()

    assert session.to_dict()["runs"]
    assert proxy.round_trips == 0


@pytest.mark.parametrize("call", ["get_session", "get_sessions"])
def test_a_read_that_touches_is_one_round_trip(
    make_far_cache: Any, far_cache: Any, proxy: CountingProxy, call: str
) -> None:
    cache = make_far_cache(touch_on_read=True)
    arguments: Any = "plain" if call == "get_session" else ["plain", "absent"]

    assert round_trips(cache, proxy, lambda cache: getattr(cache, call)(arguments)) == 1


def test_a_read_does_not_fetch_what_it_does_not_return(far_cache: Any, proxy: CountingProxy) -> None:
    far_cache.upsert_runs("plain", [run(number, events=["x" * 10_000]) for number in range(100, 150)])
    received = {}
    for name, call in {
        "one": lambda: far_cache.get_run("plain", "r1"),
        "newest": lambda: far_cache.get_session("plain", last_n_runs=2),
        "metadata": lambda: far_cache.get_session("plain", last_n_runs=0),
        "history": lambda: far_cache.get_chat_history("plain"),
    }.items():
        proxy.reset()
        call()
        received[name] = proxy.bytes_received

    assert received["one"] < 1_000
    assert 20_000 < received["newest"] < 22_000
    assert received["metadata"] < 1_000
    assert received["history"] < 20_000


def test_an_upsert_of_a_run_costs_the_same_whatever_the_length(far_cache: Any, proxy: CountingProxy) -> None:
    sent = []
    for first in (1_000, 2_000):
        far_cache.upsert_runs("plain", [run(number) for number in range(first, first + 400)])
        far_cache.upsert_run("plain", run(first + 900))
        proxy.reset()
        far_cache.upsert_run("plain", run(first + 901))
        sent.append((proxy.round_trips, proxy.bytes_sent, proxy.bytes_received))

    assert sent[0] == sent[1]


@pytest.mark.parametrize("call", ["upsert_session", "upsert_run", "get_run", "delete_session"])
def test_a_script_that_the_server_does_not_know_is_one_more(
    far_cache: Any, proxy: CountingProxy, redis_server: RedisServer, call: str
) -> None:
    with redis_server.client() as admin:
        admin.script_flush()
    proxy.reset()

    ONE[call](far_cache)

    assert proxy.round_trips == 2


def test_calls_one_after_the_other_share_a_connection(far_cache: Any, proxy: CountingProxy) -> None:
    proxy.reset()
    for call in ONE.values():
        call(far_cache)

    assert proxy.connections == 0
    assert proxy.open_connections == 1
