"""Whose session it is: every method that names one, for its user, for another, and for nobody's sessions."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import a_run, session
from sessioncache import (
    InvalidArgumentError,
    SessionCache,
    SessionNotFoundError,
    SessionOwnershipError,
)
from support.interleaving import watched

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT = SessionNotFoundError
CALLS: dict[str, tuple[Callable[[Any, str], Any], Any]] = {
    "delete_run": (lambda cache, sid: cache.delete_run(sid, "r0"), False),
    "delete_session": (lambda cache, sid: cache.delete_session(sid), False),
    "get_chat_history": (lambda cache, sid: cache.get_chat_history(sid), ABSENT),
    "get_messages": (lambda cache, sid: cache.get_messages(sid, agent_id="a"), ABSENT),
    "get_run": (lambda cache, sid: cache.get_run(sid, "r0"), None),
    "get_runs": (lambda cache, sid: cache.get_runs(sid), ABSENT),
    "get_session": (lambda cache, sid: cache.get_session(sid), None),
    "get_sessions": (lambda cache, sid: cache.get_sessions([sid]), [None]),
    "get_ttls": (lambda cache, sid: cache.get_ttls([sid]), [None]),
    "get_workflow_history": (lambda cache, sid: cache.get_workflow_history(sid), ABSENT),
    "get_workflow_history_context": (lambda cache, sid: cache.get_workflow_history_context(sid, 1), ABSENT),
    "iter_runs": (lambda cache, sid: list(cache.iter_runs(sid)), ABSENT),
    "lease": (lambda cache, sid: _take(cache.lease(sid)), ABSENT),
    "refresh": (lambda cache, sid: cache.refresh(cache.loaded[sid]), ABSENT),
    "rename_session": (lambda cache, sid: cache.rename_session(sid, "new"), False),
    "touch_session": (lambda cache, sid: cache.touch_session(sid, 60), False),
    "update_session": (lambda cache, sid: cache.update_session(sid, _touch_metadata), ABSENT),
    "update_session_state": (lambda cache, sid: cache.update_session_state(sid, {"k": 1}), ABSENT),
    "upsert_run": (lambda cache, sid: cache.upsert_run(sid, a_run("new")), ABSENT),
    "upsert_runs": (lambda cache, sid: cache.upsert_runs(sid, [a_run("new")]), ABSENT),
    "upsert_session": (lambda cache, sid: cache.upsert_session(cache.loaded[sid]), SessionOwnershipError),
}
"""One call of every method that names a session, and what it returns or raises of one that does not exist."""

LISTING = {"iter_sessions", "list_sessions"}
OF_ALL_USERS = {"rebuild_indexes", "rotate_keys", "stats", "verify"}
OF_NO_SESSION = {"aclose", "close", "for_user", "from_url", "near_cache_info", "ping"}


def _take(lease: Any) -> None:
    with lease:
        pass


def _touch_metadata(found: Any) -> None:
    found.metadata = {"changed": True}


def test_every_method_is_of_one_of_these_kinds() -> None:
    methods = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    assert methods - LISTING - OF_ALL_USERS - OF_NO_SESSION == CALLS.keys()
    for name in CALLS:
        assert "user_id" in inspect.signature(getattr(SessionCache, name)).parameters


@pytest.fixture(params=["plain", "near", "touching"])
def owned(request: pytest.FixtureRequest, make_cache: Any) -> Any:
    """A cache with sessions of `alice`, of `bob` and of nobody, all of them loaded before."""
    options = {"plain": {}, "near": {"near_cache": 2**20}, "touching": {"touch_on_read": True}}
    cache = make_cache(**options[request.param])
    for name, user_id in (("a", "alice"), ("b", "bob"), ("n", None)):
        cache.upsert_session(session(name, runs=2, user_id=user_id, session_data={"k": 0}))
    return cache


def outcome(call: Callable[[Any, str], Any], cache: Any, session_id: str) -> Any:
    """Return what a call returns, or the class of what it raises."""
    try:
        return call(cache, session_id)
    except (SessionNotFoundError, SessionOwnershipError) as error:
        return type(error)


def view_of(owned: Any, user_id: str) -> Any:
    """Return the view of a user, with what everybody's sessions are loaded as."""
    view = owned.for_user(user_id)
    view.loaded = {name: owned.get_session(name) for name in ("a", "b", "n")}
    return view


@pytest.mark.parametrize("other", ["b", "n"])
@pytest.mark.parametrize("name", CALLS)
def test_a_session_of_another_does_not_exist_in_a_view(owned: Any, name: str, other: str) -> None:
    call, absent = CALLS[name]
    view = view_of(owned, "alice")
    before = [owned.get_session(each).to_dict() for each in ("a", "b", "n")]

    found = outcome(call, view, other)
    assert found == absent or (name == "upsert_session" and found in (ABSENT, SessionOwnershipError))
    assert [owned.get_session(each).to_dict() for each in ("a", "b", "n")] == before


@pytest.mark.parametrize("name", CALLS)
def test_an_own_session_is_there(owned: Any, name: str) -> None:
    call, absent = CALLS[name]

    found = outcome(call, view_of(owned, "alice"), "a")
    assert not isinstance(found, type)
    assert found != absent or absent is None or found is None


@pytest.mark.parametrize("name", CALLS)
def test_user_id_does_the_same_without_a_view(owned: Any, name: str) -> None:
    class Scoped:
        def __init__(self) -> None:
            self.loaded = {each: owned.get_session(each) for each in ("a", "b", "n")}

        def __getattr__(self, method: str) -> Any:
            return lambda *args, **options: getattr(owned, method)(*args, **options, user_id="alice")

    call, absent = CALLS[name]
    found = outcome(call, Scoped(), "b")
    assert found == absent or (name == "upsert_session" and found in (ABSENT, SessionOwnershipError))
    assert not isinstance(outcome(call, Scoped(), "a"), type)


def test_the_check_takes_no_round_trip_more(cache: Any) -> None:
    cache.upsert_session(session("a", runs=2, user_id="alice", workflow_id="w"))
    for name, (call, _) in CALLS.items():
        if name in ("refresh", "upsert_session", "delete_session"):
            continue
        call(cache, "a")
        trips = []
        for each in (cache, cache.for_user("alice")):
            with watched(each) as seen:
                call(each, "a")
            trips.append(len(seen))
        assert trips[1] <= trips[0], name


def test_a_view_lists_its_users_sessions_alone(owned: Any) -> None:
    view = owned.for_user("alice")

    assert [found.session_id for found in view.list_sessions().sessions] == ["a"]
    assert [found.session_id for found in view.iter_sessions()] == ["a"]
    for call in (view.list_sessions, lambda **by: list(view.iter_sessions(**by))):
        with pytest.raises(InvalidArgumentError):
            call(user_id="bob")


def test_what_a_view_creates_is_its_users(owned: Any) -> None:
    view = owned.for_user("alice")
    view.upsert_session(session("new"))

    assert owned.get_session("new").user_id == "alice"
    with pytest.raises(SessionOwnershipError):
        view.upsert_session(session("of bob", user_id="bob"))
    with pytest.raises(SessionOwnershipError):
        view.upsert_run("a", a_run("r9", user_id="bob"))
    with pytest.raises(SessionOwnershipError):
        view.upsert_session(session("b"))
    assert owned.get_session("of bob") is None
    assert owned.get_session("b").user_id == "bob"


def test_there_is_no_way_out_of_a_view(owned: Any) -> None:
    view = owned.for_user("alice")

    with pytest.raises(InvalidArgumentError):
        view.for_user("bob")
    with pytest.raises(InvalidArgumentError):
        view.get_session("b", user_id="bob")
    for name in OF_ALL_USERS:
        with pytest.raises(InvalidArgumentError):
            getattr(view, name)()
    for wrong in ("", None, 5, "x" * 600):
        with pytest.raises(InvalidArgumentError):
            owned.for_user(wrong)
    assert view.for_user("alice").get_session("a") is not None


def test_closing_a_view_closes_nothing(owned: Any) -> None:
    owned.for_user("alice").close()

    assert owned.get_session("a") is not None
