"""A reply of another question, well-formed as it is, is told from the right one: ReplyMismatchError."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import ReplyMismatchError, SessionCache
from sessioncache.transport.flow import Send
from support.samples import a_run, a_run_of, a_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer


def _take(cache: SessionCache, session_id: str) -> None:
    with cache.lease(session_id):
        pass


def _change_nothing(_: Any) -> None: ...


Calls = dict[str, "Callable[[SessionCache, str], object]"]

CALLS: Calls = {
    "upsert_session": lambda cache, sid: cache.upsert_session(a_session(sid, user_id=sid)),
    "get_session": lambda cache, sid: cache.get_session(sid),
    "get_sessions": lambda cache, sid: cache.get_sessions([sid], last_n_runs=1),
    "list_sessions": lambda cache, sid: cache.list_sessions(user_id=sid),
    "rename_session": lambda cache, sid: cache.rename_session(sid, "n"),
    "touch_session": lambda cache, sid: cache.touch_session(sid),
    "upsert_run": lambda cache, sid: cache.upsert_run(sid, a_run("r", user_id=sid)),
    "upsert_runs": lambda cache, sid: cache.upsert_runs(sid, [a_run("r"), a_run("r2")]),
    "get_run": lambda cache, sid: cache.get_run(sid, "r0"),
    "get_run, none": lambda cache, sid: cache.get_run(sid, "none"),
    "get_runs": lambda cache, sid: cache.get_runs(sid),
    "iter_runs": lambda cache, sid: list(cache.iter_runs(sid)),
    "delete_run": lambda cache, sid: cache.delete_run(sid, "r0"),
    "get_chat_history": lambda cache, sid: cache.get_chat_history(sid, 2),
    "get_workflow_history": lambda cache, sid: cache.get_workflow_history(sid, 2),
    "get_workflow_history_context": lambda cache, sid: cache.get_workflow_history_context(sid, 2),
    "get_messages": lambda cache, sid: cache.get_messages(sid, agent_id="A", last_n_runs=2),
    "lease": _take,
    "refresh": lambda cache, sid: cache.refresh(_loaded(cache, sid)),
    "update_session_state": lambda cache, sid: cache.update_session_state(sid, {"k": 1}),
    "update_session": lambda cache, sid: cache.update_session(sid, _change_nothing),
    "delete_session": lambda cache, sid: cache.delete_session(sid),
}

WITHOUT_A_NAME = {"rebuild_indexes", "ping", "close", "for_user", "from_url", "near_cache_info"}
WITHOUT_A_NAME |= {"get_ttls", "iter_sessions", "rotate_keys", "stats", "verify"}
"""Calls of no single session, or whose first reply says nothing of one."""


def _loaded(cache: SessionCache, session_id: str) -> Any:
    return vars(cache)["loaded"][session_id]


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[SessionCache]:
    """A cache of sessions a and b, which are unlike each other in name, owner and runs alone."""
    with SessionCache.from_url(redis_server.url, prefix="swapped", ttl=60, touch_on_read=False) as cache:
        for session_id in ("a", "b"):
            runs = [a_run_of(f"r{number}", at=number + 1) for number in range(3)]
            cache.upsert_session(a_session(session_id, runs, user_id=session_id))
        vars(cache)["loaded"] = {session_id: cache.get_session(session_id) for session_id in ("a", "b")}
        yield cache
        for session_id in ("a", "b"):
            cache.delete_session(session_id)


@contextlib.contextmanager
def answering(cache: SessionCache, replies: list[Any] | None, seen: list[list[Any]]) -> Iterator[None]:
    """Let the first reply be another one, if one is given, as far as the question has room for it."""
    perform = cache.transport._perform

    def perform_swapped(effect: Any) -> Any:
        if replies is None or seen or not isinstance(effect, Send):
            found = perform(effect)
        elif len(replies) < len(effect.commands):
            raise _ShorterError
        else:
            found = replies[: len(effect.commands)]
        seen.append(found)
        return found

    vars(cache.transport)["_perform"] = perform_swapped
    try:
        yield
    finally:
        del vars(cache.transport)["_perform"]


class _ShorterError(Exception):
    """The call waits for more replies than there are: no wrong answer can come of that."""


def _replies_about(cache: SessionCache, session_id: str) -> dict[str, list[Any]]:
    replies = {}
    for name, call in CALLS.items():
        seen: list[list[Any]] = []
        with answering(cache, None, seen):
            call(cache, session_id)
        replies[name] = seen[0]
    cache.upsert_session(a_session(session_id, 3, user_id=session_id))
    return replies


def test_every_call_tells_a_reply_about_another_session_from_its_own(cache: SessionCache) -> None:
    for call in CALLS.values():
        call(cache, "a")  # the server knows all scripts
    cache.upsert_session(a_session("a", 3, user_id="a"))
    swaps = [
        (asked, call, other, replies)
        for other, replies in _replies_about(cache, "b").items()
        for asked, call in CALLS.items()
        if {asked, other} != {"list_sessions"}  # an index does not say whose it is; what it lists does
    ]

    outcomes = {(asked, other): _outcome(cache, call, replies) for asked, call, other, replies in swaps}

    assert {swap: found for swap, found in outcomes.items() if found not in ("mismatch", "short")} == {}
    assert sum(found == "mismatch" for found in outcomes.values()) > len(outcomes) / 2


def _outcome(cache: SessionCache, call: Callable[[SessionCache, str], object], replies: list[Any]) -> object:
    try:
        with answering(cache, replies, []):
            return call(cache, "a")
    except ReplyMismatchError:
        return "mismatch"
    except _ShorterError:
        return "short"


def test_no_call_is_forgotten() -> None:
    public = {name for name in dir(SessionCache) if not name.startswith("_")}

    assert public == {name.partition(",")[0] for name in CALLS} | WITHOUT_A_NAME & public
