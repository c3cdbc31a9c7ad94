"""How often each call goes to the server, counted on the wire, once scripts and connection are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.samples import a_run, a_session
from support.subjects import Caches, Subject
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sessioncache import WorkflowRunOutput
    from support.servers import RedisServer


def owned(number: int) -> WorkflowRunOutput:
    """A run as real ones are: it carries its user and its workflow."""
    return a_run(f"r{number}", number, user_id="u", workflow_id="w")


def store(cache: Any, session_id: str = "owned") -> None:
    """Store a session of a user and a workflow, with 30 runs."""
    runs = [owned(number) for number in range(30)]
    cache.upsert_session(a_session(session_id, runs, user_id="u", workflow_id="w"))


@pytest.fixture
def make_far_cache(proxy: CountingProxy, client_kind: str) -> Iterator[Callable[..., Any]]:
    """Make caches behind the proxy, over two sessions: one of a user and a workflow, one of nobody."""
    caches = Caches(Subject("redis", proxy), client_kind)  # type: ignore[arg-type]

    def make(**options: Any) -> Any:
        cache = caches.make(**options)
        store(cache)
        cache.upsert_session(a_session("plain", 30))
        return cache

    yield make
    caches.close()


@pytest.fixture
def far_cache(make_far_cache: Callable[..., Any]) -> Any:
    return make_far_cache()


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
    "upsert_session": store,
    "upsert_session, created": lambda cache: store(cache, "another"),
    "upsert_run": lambda cache: cache.upsert_run("owned", owned(99)),
    "upsert_run, again": lambda cache: cache.upsert_run("owned", owned(1)),
    "upsert_run, of nobody": lambda cache: cache.upsert_run("plain", a_run("r99", 99)),
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
    "upsert_run, that does not say whose it is": lambda cache: cache.upsert_run("owned", a_run("r99", 99)),
}
TOUCHING: dict[str, Callable[[Any], object]] = {
    "get_session, touching": lambda cache: cache.get_session("plain"),
    "get_sessions, touching": lambda cache: cache.get_sessions(["plain", "absent"]),
}


@pytest.mark.parametrize("name", ONE | AND_ITS_INDEXES | TOUCHING)
def test_a_call_is_one_round_trip(make_far_cache: Any, proxy: CountingProxy, name: str) -> None:
    """A write that is not told whose the session is takes one more, for the indexes."""
    cache = make_far_cache(touch_on_read=name in TOUCHING)
    call = (ONE | AND_ITS_INDEXES | TOUCHING)[name]
    call(cache)  # has the server know the script
    store(cache)  # what the call may have deleted
    cache.upsert_session(a_session("plain", 2))
    proxy.reset()

    call(cache)

    assert proxy.round_trips == (2 if name in AND_ITS_INDEXES else 1)


def test_a_loaded_session_is_read_in_none_and_saved_in_one(far_cache: Any, proxy: CountingProxy) -> None:
    session = far_cache.get_session("owned", last_n_runs=2)
    proxy.reset()
    assert session.to_dict()["runs"]
    assert proxy.round_trips == 0
    session.metadata["k"] = 1
    session.runs[0].content = "changed"
    session.runs.append(owned(99))

    far_cache.upsert_session(session, expect_rev=session.rev)

    assert proxy.round_trips == 1


@pytest.mark.parametrize("call", ["upsert_session", "upsert_run", "get_run", "delete_session"])
def test_a_script_that_is_not_known_is_one_more(
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

    assert (proxy.connections, proxy.open_connections) == (0, 1)
