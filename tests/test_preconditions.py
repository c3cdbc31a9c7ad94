"""What must be true of a session that is written: it exists, is the user's, and has the revision expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    InvalidArgumentError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
)
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

ABSENT: Any = ({}, [])


@pytest.fixture
def keys(caches: Caches) -> list[str]:
    """The two keys of session `s`."""
    return [f"{caches.prefix}:{{s}}:{part}" for part in ("meta", "runs")]


@pytest.fixture
def stored(admin: redis.Redis, keys: list[str]) -> Callable[[], Any]:
    """Read all that the session's keys hold."""
    meta, runs = keys
    return lambda: (admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True))


def a_new_run(**fields: Any) -> Any:
    return a_run("new", 9, **fields)


# deleted stays deleted


@pytest.mark.parametrize("anew", [False, True], ids=["gone", "anew"])
@pytest.mark.parametrize("expect", [False, True], ids=["", "expect_rev"])
@pytest.mark.parametrize("is_loaded", [False, True], ids=["saved", "loaded"])
def test_an_object_of_a_deleted_session_is_not_saved(
    cache: Any, stored: Any, is_loaded: bool, expect: bool, anew: bool
) -> None:
    session = a_session("s", 1)
    cache.upsert_session(session)
    session = cache.get_session("s") if is_loaded else session
    assert cache.delete_session("s")
    assert stored() == ABSENT
    if anew:
        cache.upsert_session(a_session("s", 1, metadata={"life": 2}))
    before = stored()

    session.metadata["old"] = True
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(session, expect_rev=session.rev if expect else None)
    assert stored() == before


@pytest.mark.parametrize(
    ("options", "way", "reason"),
    [
        ({"mark_deletions": True}, "deleted", "deleted"),
        ({"mark_deletions": True}, "expired", "expired"),
        ({"mark_deletions": True, "ttl": None}, "expired", None),
        ({}, "deleted", None),
    ],
)
@pytest.mark.keys_without_ttl
def test_the_error_tells_deleted_from_expired_if_deletions_are_marked(
    make_cache: Callable[..., Any],
    admin: redis.Redis,
    keys: list[str],
    options: dict[str, Any],
    way: str,
    reason: str | None,
) -> None:
    cache = make_cache(**options)
    cache.upsert_session(a_session("s", 1))
    session = cache.get_session("s")
    if way == "deleted":
        assert cache.delete_session("s")
    else:
        admin.delete(*keys)

    with pytest.raises(SessionNotFoundError) as caught:
        cache.upsert_session(session)

    assert caught.value.reason == reason


def test_the_mark_of_a_deletion_is_no_session(
    make_cache: Callable[..., Any], stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(mark_deletions=True)
    cache.upsert_session(a_session("s", 1))

    assert cache.delete_session("s")
    assert not cache.delete_session("s")
    assert cache.get_session("s") is None
    assert cache.get_run("s", "r1") is None
    assert not cache.touch_session("s")
    with pytest.raises(SessionNotFoundError):
        cache.get_runs("s")
    assert cache.rebuild_indexes() == 0
    assert cache.list_sessions().sessions == []
    assert caplog.text == ""

    cache.upsert_session(a_session("s", 2))
    assert len(cache.get_session("s").runs) == 2
    assert stored()[0].keys() >= {b"deleted"}  # objects from before are refused still


def test_a_run_of_a_deleted_session_is_not_stored(cache: Any, stored: Any) -> None:
    cache.upsert_session(a_session("s", 1))
    cache.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        cache.upsert_run("s", a_new_run())
    with pytest.raises(SessionNotFoundError):
        cache.upsert_runs("s", [a_run("r1"), a_new_run()])
    assert stored() == ABSENT


def test_a_deleted_run_is_not_saved_with_an_object(cache: Any) -> None:
    cache.upsert_session(a_session("s", 2))
    session = cache.get_session("s")
    cache.delete_run("s", "r0")

    session.runs[0].content = session.runs[1].content = "changed"
    cache.upsert_session(session)

    loaded = cache.get_session("s")
    assert [(run.run_id, run.content) for run in loaded.runs] == [("r1", "changed")]


def test_what_is_absent_is_neither_renamed_nor_deleted(cache: Any, caches: Any, admin: Any) -> None:
    assert not cache.rename_session("s", "name")
    assert not cache.delete_session("s")
    assert not cache.delete_run("s", "r1")
    assert admin.keys(f"{caches.prefix}*") == []


def test_an_object_whose_id_was_changed_is_refused(cache: Any) -> None:
    cache.upsert_session(a_session("s", 1))
    session = cache.get_session("s")
    session.session_id = "t"

    with pytest.raises(InvalidArgumentError, match=r"session\.session_id"):
        cache.upsert_session(session)
    assert cache.get_session("t") is None


# owners


def _given_away(cache: Any) -> None:
    session = cache.get_session("s")
    session.user_id = "mallory"
    cache.upsert_session(session)


AS_MALLORY: dict[str, Callable[[Any], object]] = {
    "upsert_session": lambda cache: cache.upsert_session(a_session("s", user_id="mallory")),
    "upsert_session, loaded": _given_away,
    "upsert_session, a run": lambda cache: cache.upsert_session(
        a_session("s", [a_new_run(user_id="mallory")])
    ),
    "upsert_run": lambda cache: cache.upsert_run("s", a_new_run(user_id="mallory")),
    "upsert_run, again": lambda cache: cache.upsert_run("s", a_run("r0", user_id="mallory")),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run("r1"), a_new_run(user_id="mallory")]),
}


@pytest.mark.parametrize("write", AS_MALLORY.values(), ids=AS_MALLORY)
def test_a_write_as_another_user_stores_nothing(cache: Any, stored: Any, write: Any) -> None:
    cache.upsert_session(a_session("s", 1, user_id="ada"))
    before = stored()

    with pytest.raises(SessionOwnershipError) as caught:
        write(cache)
    assert "ada" not in str(caught.value)
    assert stored() == before


@pytest.mark.parametrize("owner", ["ada", None])
@pytest.mark.parametrize("user_id", ["ada", "mallory", "ad", "adaa", "Ada", "ada\x00"])
def test_a_session_exists_to_its_owner_alone(cache: Any, stored: Any, owner: Any, user_id: str) -> None:
    cache.upsert_session(a_session("s", 1, user_id=owner))
    before = stored()
    is_theirs = owner == user_id

    assert (cache.get_session("s", user_id=user_id) is not None) == is_theirs
    assert cache.rename_session("s", "new", user_id=user_id) == is_theirs
    assert (stored() == before) == (not is_theirs)
    assert cache.delete_session("s", user_id=user_id) == is_theirs
    assert (stored() == ABSENT) == is_theirs


def test_runs_of_no_user_and_of_the_owner_are_stored(cache: Any) -> None:
    cache.upsert_session(a_session("s", user_id="ada"))
    cache.upsert_run("s", a_run("r0"))
    cache.upsert_run("s", a_run("r1", 2, user_id="ada"))

    assert ids(cache.get_session("s").runs) == ["r0", "r1"]


def test_the_first_user_named_becomes_the_owner(cache: Any) -> None:
    cache.upsert_session(a_session("s"))
    session = cache.get_session("s")
    session.user_id = "ada"
    cache.upsert_session(session)

    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(a_session("s", user_id="mallory"))
    assert cache.get_session("s").user_id == "ada"


def test_a_new_session_with_a_run_of_another_user_is_refused(cache: Any) -> None:
    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(a_session("s", [a_new_run(user_id="mallory")], user_id="ada"))
    assert cache.get_session("s") is None


def test_what_is_left_of_a_damaged_session_is_its_owners(
    cache: Any, stored: Any, admin: Any, keys: Any
) -> None:
    cache.upsert_session(a_session("s", 1, user_id="ada"))
    admin.hdel(keys[0], "count")
    before = stored()

    assert cache.delete_session("s", user_id="bob") is False
    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(a_session("s", user_id="bob"))
    assert stored() == before
    cache.delete_session("s", user_id="ada")
    assert admin.exists(keys[0]) == 0


# revisions


def test_every_save_advances_the_revision_of_its_object(cache: Any) -> None:
    session = a_session("s", 1)
    assert session.rev is None
    cache.upsert_session(session)
    revisions = [session.rev]
    for number in range(2, 5):
        session.runs.append(a_run(f"r{number}", number))
        cache.upsert_session(session, expect_rev=session.rev)
        revisions.append(session.rev)

    assert revisions == sorted(set(revisions))
    assert session.rev == cache.get_session("s").rev


CONFLICTING: dict[str, Callable[[Any], object]] = {
    "upsert_run": lambda cache: cache.upsert_run("s", a_new_run()),
    "delete_run": lambda cache: cache.delete_run("s", "r0"),
    "rename_session": lambda cache: cache.rename_session("s", "new"),
    "upsert_session": lambda cache: cache.upsert_session(a_session("s", [a_new_run()])),
    "upsert_session, nothing changed": lambda cache: cache.upsert_session(cache.get_session("s")),
}
HARMLESS: dict[str, Callable[[Any], object]] = {
    "touch_session": lambda cache: cache.touch_session("s", 30),
    "get_session": lambda cache: cache.get_session("s"),
    "delete_run, absent": lambda cache: cache.delete_run("s", "no such run"),
}


@pytest.mark.parametrize("write", CONFLICTING.values(), ids=CONFLICTING)
def test_a_write_in_between_is_a_conflict(cache: Any, stored: Any, write: Any) -> None:
    """It stores nothing and leaves the object as it was."""
    session = a_session("s", 1)
    cache.upsert_session(session)
    known = (session.rev, session.updated_at)
    write(cache)
    before = stored()

    session.metadata["k"] = 1
    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)
    assert stored() == before
    assert (session.rev, session.updated_at) == known


@pytest.mark.parametrize("call", HARMLESS.values(), ids=HARMLESS)
def test_what_changes_nothing_is_no_conflict(cache: Any, call: Any) -> None:
    session = a_session("s", 1)
    cache.upsert_session(session)
    call(cache)

    cache.upsert_session(session, expect_rev=session.rev)

    assert cache.get_session("s").rev == session.rev


@pytest.mark.parametrize("is_new", [False, True], ids=["saved", "new"])
def test_an_object_merged_with_unseen_writes_conflicts(cache: Any, is_new: bool) -> None:
    """It lacks what the other worker wrote, so its own save must not make it look current."""
    session = a_session("s", 1)
    cache.upsert_session(session)
    cache.upsert_run("s", a_new_run())
    session = a_session("s", [a_run("mine", 3)]) if is_new else session
    cache.upsert_session(session)

    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)


def test_a_new_object_with_a_revision_expected_creates_nothing(cache: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(a_session("s", 1), expect_rev=5)
    assert cache.get_session("s") is None


def test_revision_0_creates_a_session_only_if_there_is_none(cache: Any, stored: Any) -> None:
    cache.upsert_session(a_session("s", 1), expect_rev=0)
    before = stored()

    with pytest.raises(SessionConflictError) as caught:
        cache.upsert_session(a_session("s", 2), expect_rev=0)

    loaded = cache.get_session("s")
    assert (caught.value.session_id, caught.value.rev) == ("s", loaded.rev)
    assert stored() == before
    cache.delete_session("s")
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(loaded, expect_rev=0)


def test_a_revision_is_new_even_if_a_failover_lost_the_last_write(cache: Any, admin: Any, keys: Any) -> None:
    cache.upsert_session(a_session("s", 1))
    behind = {key: admin.dump(key) for key in keys}
    cache.update_session_state("s", {"k": "lost"})
    session = cache.get_session("s")
    for key, dump in behind.items():
        admin.restore(key, 3_600_000, dump, replace=True)
    cache.update_session_state("s", {"k": "kept"})

    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)
    assert cache.refresh(session)
    assert session.session_data["session_state"] == {"k": "kept"}


# renaming


@pytest.mark.parametrize("name", ["new", "", "Grüße 🚀", "a\nb"])
def test_renaming_keeps_everything_else(cache: Any, name: str) -> None:
    data = {"session_name": "old", "session_state": {"k": 1}}
    session = a_session("s", 1, session_data=data, metadata={"m": 1})
    cache.upsert_session(session)

    assert cache.rename_session("s", name)

    loaded = cache.get_session("s")
    session.session_data["session_name"] = name
    session.updated_at = loaded.updated_at
    assert loaded == session


def test_a_save_keeps_the_name_that_another_worker_gave(cache: Any) -> None:
    cache.upsert_session(a_session("s", session_data={"session_name": "old"}))
    session = cache.get_session("s")
    cache.rename_session("s", "new")

    session.session_data["k"] = 1
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == {"session_name": "new", "k": 1}
