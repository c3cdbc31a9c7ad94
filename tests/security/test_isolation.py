"""One user's sessions are out of another's reach, and no id, however hostile, is another session's key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from faults.reaching import a_run, session
from sessioncache import InvalidArgumentError, SessionOwnershipError
from sessioncache.storage import keys

HOSTILE = [
    "*",
    "?",
    "a:meta",
    "{a}",
    "}",
    "{",
    "a}:meta",
    "%7B",
    "a%3Ab",
    "..",
    "/",
    "\x00",
    "\n",
    "\r\nDEL a",
]
HOSTILE_IDS = st.sampled_from([*HOSTILE, "a", "A", "é", "e\u0301", " ", "index:all", "🚀"]) | st.text(
    "a:{}%*\x00\r\n", min_size=1, max_size=8
)
PREFIXES = st.text("ai:%", min_size=1, max_size=6) | st.sampled_from(
    ["p", "p:index", "p:index:user", "p:index:all"]
)


@pytest.fixture
def owned(cache: Any) -> Any:
    """A cache with session `s` of user `alice`, and one of nobody."""
    cache.upsert_session(session(runs=1, user_id="alice", session_data={"a": 1}))
    cache.upsert_session(session("nobodys"))
    return cache


@pytest.mark.parametrize("user", ["bob", "Alice", "alice ", "alic", "*", "=alice", "alice\x00"])
def test_another_users_session_does_not_exist(owned: Any, user: str) -> None:
    assert owned.get_session("s", user_id=user) is None
    assert owned.get_session("s", user_id=user, last_n_runs=0) is None
    assert owned.rename_session("s", "stolen", user_id=user) is False
    assert owned.delete_session("s", user_id=user) is False
    assert owned.list_sessions(user_id=user).sessions == []
    assert owned.get_session("s", user_id="alice").session_data == {"a": 1}


def test_a_session_of_nobody_is_no_users_to_read(owned: Any) -> None:
    assert owned.get_session("nobodys", user_id="alice") is None
    assert [found.session_id for found in owned.list_sessions(user_id="alice").sessions] == ["s"]


@pytest.mark.parametrize("user", ["bob", "alic", "=alice"])
def test_another_users_session_cannot_be_written(owned: Any, user: str) -> None:
    with pytest.raises(SessionOwnershipError):
        owned.upsert_session(session(user_id=user, session_data={"a": 2}))
    with pytest.raises(SessionOwnershipError):
        owned.upsert_run("s", a_run("theirs", user_id=user))
    loaded = owned.get_session("s")
    loaded.user_id = user
    with pytest.raises(SessionOwnershipError):
        owned.upsert_session(loaded)

    stored = owned.get_session("s")
    assert stored.session_data == {"a": 1}
    assert [run.run_id for run in stored.runs] == ["r0"]


def test_an_owner_cannot_be_removed(owned: Any) -> None:
    loaded = owned.get_session("s")
    loaded.user_id = None
    owned.upsert_session(loaded)

    assert owned.get_session("s", user_id="alice") is not None
    assert owned.get_session("s", user_id="bob") is None


def _keys_of(prefix: str, name: str) -> set[bytes]:
    indexes = {keys.index_of_user(prefix, name), keys.index_of_workflow(prefix, name)}
    return {*keys.session_keys(prefix, name), *indexes, keys.index_of_all(prefix)}


@given(prefix=PREFIXES, one=HOSTILE_IDS, other=HOSTILE_IDS)
def test_two_ids_have_no_key_in_common(prefix: str, one: str, other: str) -> None:
    assume(one != other)

    assert _keys_of(prefix, one) & _keys_of(prefix, other) == {keys.index_of_all(prefix)}
    assert len(_keys_of(prefix, one)) == 5


@given(prefix=PREFIXES, other_prefix=PREFIXES, one=HOSTILE_IDS, other=HOSTILE_IDS)
@example("p", "p:index:user", "index:all", "a")
@example("p", "p:index", "all", "user")
def test_two_prefixes_have_no_key_in_common(prefix: str, other_prefix: str, one: str, other: str) -> None:
    assume(prefix != other_prefix)

    assert not _keys_of(prefix, one) & _keys_of(other_prefix, other)


@given(prefix=PREFIXES, one=HOSTILE_IDS)
def test_a_sessions_keys_share_a_slot_which_no_id_can_move(prefix: str, one: str) -> None:
    for key in keys.session_keys(prefix, one):
        assert key.count(b"{") == key.count(b"}") == 1
        assert key.index(b"{") + 1 < key.index(b"}")
        assert key.startswith(prefix.encode() + b":")


@pytest.mark.parametrize("bad", ["", "x" * 513, "é" * 257, "\ud800", None, 5, b"s", ["s"]])
def test_what_is_no_id_is_refused_before_anything_is_sent(cache: Any, bad: Any) -> None:
    for call in (cache.get_session, cache.delete_session, cache.get_runs, cache.get_workflow_history):
        with pytest.raises(InvalidArgumentError):
            call(bad)


@given(ids=st.sets(HOSTILE_IDS, min_size=2, max_size=6))
def test_sessions_of_hostile_ids_do_not_meet(cache: Any, ids: set[str]) -> None:
    for name in ids:
        stored = session(name, user_id=name, workflow_id=name, metadata={"name": name})
        stored.runs = [a_run(name, content=name)]
        cache.upsert_session(stored)

    for name in ids:
        found = cache.get_session(name, user_id=name)
        assert (found.session_id, found.metadata) == (name, {"name": name})
        assert [(run.run_id, run.content) for run in found.runs] == [(name, name)]
        assert [entry.session_id for entry in cache.list_sessions(user_id=name).sessions] == [name]
        assert cache.delete_session(name)
