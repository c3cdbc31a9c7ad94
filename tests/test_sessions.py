"""Whole sessions: merging, ownership, revisions, and that what is deleted stays deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    InvalidArgumentError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    WorkflowRunOutput,
    WorkflowSession,
)
from sessioncache.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

SECTIONS = ["session_data", "session_state", "workflow_data", "metadata"]


def run(number: int, **fields: Any) -> WorkflowRunOutput:
    """A run; those of higher numbers are newer."""
    defaults = {
        "run_id": f"r{number}",
        "input": "in",
        "content": f"out {number}",
        "created_at": 1000 + number,
    }
    return WorkflowRunOutput(**{**defaults, **fields})


def session_of(*numbers: int, session_id: str = "s", **fields: Any) -> WorkflowSession:
    """A session with these runs."""
    return WorkflowSession(session_id, runs=[run(number) for number in numbers], **fields)


def ids(session: WorkflowSession) -> list[str | None]:
    return [each.run_id for each in session.runs or ()]


def stored(admin: redis.Redis, caches: Caches) -> Any:
    """All that the session's keys hold."""
    meta, runs = keys.session_keys(caches.prefix, "s")
    return admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)


def section(session: WorkflowSession, name: str) -> dict[str, Any]:
    """One of the four dicts of which single keys are merged."""
    if name == "session_state":
        assert session.session_data is not None
        state: dict[str, Any] = session.session_data.setdefault("session_state", {})
        return state
    return getattr(session, name)


# loading


def test_a_session_that_does_not_exist_is_none(cache: Any) -> None:
    assert cache.get_session("s") is None
    assert cache.get_session("s", last_n_runs=0) is None
    assert cache.get_session("s", user_id="u") is None


@pytest.mark.parametrize("last_n", [None, 0, -1, 1, 2, 3, 4, 10**30])
def test_the_newest_runs_are_loaded_oldest_first(cache: Any, last_n: int | None) -> None:
    cache.upsert_session(session_of(1, 2, 3))

    session = cache.get_session("s", last_n_runs=last_n)

    wanted = 3 if last_n is None else max(0, min(last_n, 3))
    assert ids(session) == ["r1", "r2", "r3"][3 - wanted :]


def test_metadata_alone_is_loaded_of_a_session_with_runs(cache: Any) -> None:
    cache.upsert_session(session_of(1, 2, metadata={"k": 1}))

    session = cache.get_session("s", last_n_runs=0)

    assert (session.runs, session.metadata) == ([], {"k": 1})


def test_sessions_are_loaded_in_the_order_of_their_ids(cache: Any) -> None:
    for name in ("a", "b", "c"):
        cache.upsert_session(session_of(1, 2, session_id=name))

    found = cache.get_sessions(["c", "missing", "a", "c"], last_n_runs=1)

    assert [each and each.session_id for each in found] == ["c", None, "a", "c"]
    assert [ids(each) for each in found if each] == [["r2"]] * 3


def test_no_sessions_are_an_empty_list(cache: Any) -> None:
    assert cache.get_sessions([]) == []


# merging


@pytest.mark.parametrize("name", SECTIONS)
def test_two_workers_who_change_different_keys_both_survive(cache: Any, name: str) -> None:
    session = session_of()
    section(session, name).update({"a": 0, "b": 0, "c": 0})
    cache.upsert_session(session)
    one, other = cache.get_session("s"), cache.get_session("s")

    section(one, name)["a"] = 1
    section(other, name)["b"] = 2
    cache.upsert_session(one)
    cache.upsert_session(other)

    merged = section(cache.get_session("s"), name)
    assert {key: merged[key] for key in "abc"} == {"a": 1, "b": 2, "c": 0}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_key_that_one_worker_removes_stays_removed_when_another_saves(cache: Any, name: str) -> None:
    session = session_of()
    section(session, name).update({"gone": 1, "kept": 1})
    cache.upsert_session(session)
    one, other = cache.get_session("s"), cache.get_session("s")

    del section(one, name)["gone"]
    section(other, name)["new"] = 2
    cache.upsert_session(one)
    cache.upsert_session(other)

    merged = section(cache.get_session("s"), name)
    assert ("gone" in merged, merged["kept"], merged["new"]) == (False, 1, 2)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_dict_that_loses_its_last_key_is_an_empty_dict(cache: Any, name: str) -> None:
    session = session_of()
    section(session, name)["only"] = 1
    cache.upsert_session(session)
    loaded = cache.get_session("s")

    section(loaded, name).clear()
    cache.upsert_session(loaded)

    assert section(cache.get_session("s"), name) == {}
    if name == "session_state":
        assert cache.get_session("s").session_data == {"session_state": {}}


@pytest.mark.parametrize("state", [{}, None, [], 0, {"a": None}, {"a": {}}])
def test_a_state_of_any_kind_is_told_from_none_at_all(cache: Any, state: Any) -> None:
    cache.upsert_session(session_of(session_data={"session_state": state}))

    assert cache.get_session("s").session_data == {"session_state": state}


@pytest.mark.parametrize("before", [{}, None, 7, {"a": 1}])
@pytest.mark.parametrize("after", [{}, None, 7, {"b": 2}, ...])
def test_a_state_becomes_what_it_is_set_to(cache: Any, before: Any, after: Any) -> None:
    cache.upsert_session(session_of(session_data={"session_state": before}))
    session = cache.get_session("s")

    if after is ...:
        del session.session_data["session_state"]
    else:
        session.session_data["session_state"] = after
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == ({} if after is ... else {"session_state": after})


def test_a_key_set_to_none_is_kept(cache: Any) -> None:
    cache.upsert_session(session_of(metadata={"a": 1}))
    session = cache.get_session("s")

    session.metadata["a"] = None
    cache.upsert_session(session)

    assert cache.get_session("s").metadata == {"a": None}


def test_values_are_not_merged_below_the_top_level(cache: Any) -> None:
    cache.upsert_session(session_of(metadata={"deep": {"a": 0, "b": 0}}))
    one, other = cache.get_session("s"), cache.get_session("s")

    one.metadata["deep"]["a"] = 1
    other.metadata["deep"]["b"] = 2
    cache.upsert_session(one)
    cache.upsert_session(other)

    assert cache.get_session("s").metadata == {"deep": {"a": 0, "b": 2}}


def test_a_change_in_place_deep_inside_a_value_is_saved(cache: Any) -> None:
    session = session_of(session_data={"session_state": {"list": [{"n": 1}]}})
    cache.upsert_session(session)

    session.session_data["session_state"]["list"][0]["n"] = 2
    cache.upsert_session(session)

    assert cache.get_session("s") == session


def test_plain_fields_are_written_only_where_they_changed(cache: Any) -> None:
    cache.upsert_session(session_of(workflow_id="w", workflow_name="old"))
    one, other = cache.get_session("s"), cache.get_session("s")

    one.workflow_name = "new"
    cache.upsert_session(one)
    other.metadata["k"] = 1
    cache.upsert_session(other)

    loaded = cache.get_session("s")
    assert (loaded.workflow_id, loaded.workflow_name, loaded.metadata) == ("w", "new", {"k": 1})


@pytest.mark.parametrize("name", ["workflow_id", "workflow_name"])
def test_a_plain_field_set_to_none_is_removed(cache: Any, name: str) -> None:
    cache.upsert_session(session_of(**{name: "x"}))
    session = cache.get_session("s")

    setattr(session, name, None)
    cache.upsert_session(session)

    assert getattr(cache.get_session("s"), name) is None


def test_an_object_made_new_is_merged_into_the_session_that_is_stored(cache: Any) -> None:
    cache.upsert_session(session_of(1, metadata={"a": 1, "b": 1}, workflow_name="kept"))

    cache.upsert_session(session_of(2, metadata={"b": 2}))

    loaded = cache.get_session("s")
    assert ids(loaded) == ["r1", "r2"]
    assert (loaded.metadata, loaded.workflow_name) == ({"a": 1, "b": 2}, "kept")


@pytest.mark.parametrize("count", [2000, 2500, 5001, 9000])
def test_thousands_of_keys_are_set_and_removed_in_one_save(cache: Any, count: int) -> None:
    session = session_of(metadata={f"k{number}": number for number in range(count)})
    cache.upsert_session(session)
    assert cache.get_session("s").metadata == session.metadata

    session.metadata = {"k1": 1}
    cache.upsert_session(session)

    assert cache.get_session("s").metadata == {"k1": 1}


@pytest.mark.parametrize("last_n", [0, 1, 2])
def test_a_session_loaded_in_part_keeps_its_older_runs_when_it_is_saved(cache: Any, last_n: int) -> None:
    cache.upsert_session(session_of(1, 2, 3))
    session = cache.get_session("s", last_n_runs=last_n)

    session.metadata["k"] = 1
    session.runs.append(run(4))
    cache.upsert_session(session)

    loaded = cache.get_session("s")
    assert loaded.runs == [run(1), run(2), run(3), run(4)]
    assert loaded.metadata == {"k": 1}


def test_a_run_taken_off_the_object_is_not_removed(cache: Any) -> None:
    session = session_of(1, 2)
    cache.upsert_session(session)

    session.runs.clear()
    cache.upsert_session(session)

    assert ids(cache.get_session("s")) == ["r1", "r2"]


def test_only_the_runs_that_changed_in_this_object_are_written(cache: Any) -> None:
    cache.upsert_session(session_of(1, 2))
    one, other = cache.get_session("s"), cache.get_session("s")

    one.runs[0].content = "of one"
    cache.upsert_session(one)
    other.runs[1].step_results.append("of other")
    cache.upsert_session(other)

    loaded = cache.get_session("s")
    assert (loaded.runs[0].content, loaded.runs[1].step_results) == ("of one", ["of other"])


@pytest.mark.parametrize("field", ["metadata", "events", "step_results", "step_executor_runs"])
def test_a_field_of_a_body_that_is_assigned_before_the_body_was_read_is_saved(cache: Any, field: str) -> None:
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")

    setattr(session.runs[0], field, ["new"])
    cache.upsert_session(session)

    assert getattr(cache.get_run("s", "r1"), field) == ["new"]


def test_looking_at_a_body_does_not_make_a_run_changed(cache: Any) -> None:
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")
    assert session.runs[0].to_dict()
    cache.upsert_run("s", run(1, content="of another worker"))

    session.metadata["k"] = 1
    cache.upsert_session(session)

    assert cache.get_run("s", "r1").content == "of another worker"


def test_a_session_saved_twice_with_changes_between_is_stored_as_it_is(cache: Any) -> None:
    session = session_of(1, metadata={"a": 1})
    cache.upsert_session(session)
    session.metadata = {"b": 2}
    session.runs[0].content = "changed"
    session.runs.append(run(2))
    cache.upsert_session(session)
    session.metadata["c"] = 3
    session.runs[1].content = "changed too"
    cache.upsert_session(session)

    assert cache.get_session("s") == session


def test_session_data_set_to_none_while_another_worker_sets_a_key_of_the_state_is_readable(
    cache: Any,
) -> None:
    cache.upsert_session(session_of(session_data={"session_state": {"a": 1}}))
    one, other = cache.get_session("s"), cache.get_session("s")

    one.session_data = None
    cache.upsert_session(one)
    other.session_data["session_state"]["b"] = 2
    cache.upsert_session(other)

    assert cache.get_session("s").session_data == {"session_state": {"b": 2}}


# deleted stays deleted


def test_an_object_loaded_before_its_session_was_deleted_is_not_saved(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")
    assert cache.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(session)
    assert stored(admin, caches) == ({}, [])


def test_an_object_saved_before_its_session_was_deleted_is_not_saved_again(cache: Any) -> None:
    session = session_of(1)
    cache.upsert_session(session)
    cache.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(session)
    assert cache.get_session("s") is None


@pytest.mark.parametrize("expect", [False, True], ids=["", "expect_rev"])
def test_an_object_of_a_session_deleted_is_not_merged_into_the_one_created_anew(
    cache: Any, caches: Caches, admin: redis.Redis, expect: bool
) -> None:
    cache.upsert_session(session_of(1, metadata={"life": 1}))
    old = cache.get_session("s")
    cache.delete_session("s")
    cache.upsert_session(session_of(2, metadata={"life": 2}))
    before = stored(admin, caches)

    old.metadata["old"] = True
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(old, expect_rev=old.rev if expect else None)
    assert stored(admin, caches) == before


def test_a_run_of_a_deleted_session_is_not_stored(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(session_of(1))
    cache.delete_session("s")

    for write in (lambda: cache.upsert_run("s", run(2)), lambda: cache.upsert_runs("s", [run(2), run(3)])):
        with pytest.raises(SessionNotFoundError):
            write()
    assert stored(admin, caches) == ({}, [])


def test_a_run_deleted_by_another_worker_stays_deleted_when_an_object_with_it_is_saved(cache: Any) -> None:
    cache.upsert_session(session_of(1, 2))
    session = cache.get_session("s")
    cache.delete_run("s", "r1")

    session.runs[0].content = "changed"
    session.runs[1].content = "changed"
    cache.upsert_session(session)

    loaded = cache.get_session("s")
    assert [(each.run_id, each.content) for each in loaded.runs] == [("r2", "changed")]


def test_what_does_not_exist_is_neither_renamed_nor_deleted(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    assert not cache.rename_session("s", "name")
    assert not cache.delete_session("s")
    assert not cache.delete_run("s", "r1")
    assert admin.keys(f"{caches.prefix}*") == []


def test_a_deleted_session_is_created_anew_by_a_new_object_alone(cache: Any) -> None:
    cache.upsert_session(session_of(1, metadata={"old": 1}))
    cache.delete_session("s")
    fresh = session_of(2, metadata={"fresh": 1})
    cache.upsert_session(fresh)

    assert cache.get_session("s") == fresh


def test_an_object_whose_session_id_was_changed_after_loading_is_refused(cache: Any) -> None:
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")
    session.session_id = "t"

    with pytest.raises(InvalidArgumentError, match=r"session\.session_id"):
        cache.upsert_session(session)
    assert cache.get_session("t") is None


# owners


AS_ANOTHER_USER: dict[str, Callable[[Any], object]] = {
    "upsert_session": lambda cache: cache.upsert_session(session_of(user_id="mallory")),
    "upsert_session with a run": lambda cache: cache.upsert_session(
        WorkflowSession("s", runs=[run(2, user_id="mallory")])
    ),
    "upsert_run": lambda cache: cache.upsert_run("s", run(2, user_id="mallory")),
    "upsert_run again": lambda cache: cache.upsert_run("s", run(1, user_id="mallory")),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [run(2), run(3, user_id="mallory")]),
}


@pytest.mark.parametrize("write", AS_ANOTHER_USER.values(), ids=AS_ANOTHER_USER)
def test_writing_as_another_user_is_refused_and_stores_nothing(
    cache: Any, caches: Caches, admin: redis.Redis, write: Callable[[Any], object]
) -> None:
    cache.upsert_session(session_of(1, user_id="ada"))
    before = stored(admin, caches)

    with pytest.raises(SessionOwnershipError) as caught:
        write(cache)
    assert "ada" not in str(caught.value)
    assert stored(admin, caches) == before


def test_a_loaded_object_given_to_another_user_is_not_saved(cache: Any) -> None:
    cache.upsert_session(session_of(1, user_id="ada"))
    session = cache.get_session("s")
    session.user_id = "mallory"

    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(session)
    assert cache.get_session("s").user_id == "ada"


@pytest.mark.parametrize("user_id", ["mallory", "ad", "adaa", "Ada", "ada\x00"])
def test_to_another_user_a_session_does_not_exist(
    cache: Any, caches: Caches, admin: redis.Redis, user_id: str
) -> None:
    cache.upsert_session(session_of(1, user_id="ada"))
    before = stored(admin, caches)

    assert cache.get_session("s", user_id=user_id) is None
    assert not cache.rename_session("s", "stolen", user_id=user_id)
    assert not cache.delete_session("s", user_id=user_id)
    assert stored(admin, caches) == before


def test_to_its_own_user_a_session_exists(cache: Any) -> None:
    cache.upsert_session(session_of(1, user_id="ada"))

    assert cache.get_session("s", user_id="ada").user_id == "ada"
    assert cache.rename_session("s", "mine", user_id="ada")
    cache.upsert_run("s", run(2, user_id="ada"))
    assert cache.delete_session("s", user_id="ada")


def test_a_run_without_a_user_goes_into_any_session(cache: Any) -> None:
    cache.upsert_session(session_of(user_id="ada"))
    cache.upsert_run("s", run(1))

    assert ids(cache.get_session("s")) == ["r1"]


def test_an_owner_is_never_removed(cache: Any) -> None:
    cache.upsert_session(session_of(user_id="ada"))
    session = cache.get_session("s")
    session.user_id = None
    cache.upsert_session(session)

    assert cache.get_session("s").user_id == "ada"


def test_the_first_to_name_a_user_owns_a_session_that_has_none(cache: Any) -> None:
    cache.upsert_session(session_of())
    session = cache.get_session("s")
    session.user_id = "ada"
    cache.upsert_session(session)

    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(session_of(user_id="mallory"))
    assert cache.get_session("s").user_id == "ada"


def test_a_session_whose_runs_name_another_user_is_refused(cache: Any) -> None:
    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(WorkflowSession("s", user_id="ada", runs=[run(1, user_id="mallory")]))
    assert cache.get_session("s") is None


@pytest.mark.parametrize("call", ["rename_session", "delete_session"])
def test_a_session_without_an_owner_exists_for_a_user_in_every_call_or_in_none(cache: Any, call: str) -> None:
    cache.upsert_session(session_of(1))
    exists = cache.get_session("s", user_id="ada") is not None

    arguments = ("s", "name") if call == "rename_session" else ("s",)
    assert getattr(cache, call)(*arguments, user_id="ada") == exists


# revisions


def test_a_new_object_has_no_revision_and_a_saved_one_has(cache: Any) -> None:
    session = session_of(1)
    assert session.rev is None

    cache.upsert_session(session)

    assert session.rev == cache.get_session("s").rev is not None


def test_saves_of_one_object_advance_its_revision(cache: Any) -> None:
    session = session_of(1)
    cache.upsert_session(session)
    revisions = [session.rev]
    for number in range(2, 5):
        session.runs.append(run(number))
        cache.upsert_session(session, expect_rev=session.rev)
        revisions.append(session.rev)

    assert revisions == sorted(set(revisions))
    assert session.rev == cache.get_session("s").rev


WRITES_BETWEEN: dict[str, Callable[[Any], object]] = {
    "upsert_run": lambda cache: cache.upsert_run("s", run(5)),
    "delete_run": lambda cache: cache.delete_run("s", "r1"),
    "rename_session": lambda cache: cache.rename_session("s", "new"),
    "upsert_session": lambda cache: cache.upsert_session(session_of(5)),
    "upsert_session, nothing changed": lambda cache: cache.upsert_session(cache.get_session("s")),
}


@pytest.mark.parametrize("write", WRITES_BETWEEN.values(), ids=WRITES_BETWEEN)
def test_a_write_of_another_worker_is_a_conflict_that_stores_nothing(
    cache: Any, caches: Caches, admin: redis.Redis, write: Callable[[Any], object]
) -> None:
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")
    write(cache)
    before = stored(admin, caches)

    session.metadata["k"] = 1
    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)
    assert stored(admin, caches) == before


def test_a_write_that_another_one_preceded_leaves_a_revision_that_conflicts(cache: Any) -> None:
    """The object lacks what the other worker wrote, so its own save must not make it look current."""
    session = session_of(1)
    cache.upsert_session(session)
    cache.upsert_run("s", run(2))
    cache.upsert_session(session)

    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)


def test_a_new_object_that_was_merged_has_a_revision_that_conflicts(cache: Any) -> None:
    cache.upsert_session(session_of(1))
    session = session_of(2)
    cache.upsert_session(session)

    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)


def test_a_new_object_that_is_merged_does_not_know_when_the_session_was_created(cache: Any) -> None:
    cache.upsert_session(session_of(1, created_at=5))
    cache.upsert_session(session_of(2, created_at=9, metadata={"m": 1}))

    loaded = cache.get_session("s")
    assert (loaded.created_at, loaded.metadata) == (5, {"m": 1})


@pytest.mark.parametrize("touching", ["touch_session", "get_session", "delete_run of none"])
def test_what_changes_nothing_is_no_conflict(cache: Any, touching: str) -> None:
    session = session_of(1)
    cache.upsert_session(session)
    if touching == "touch_session":
        cache.touch_session("s", 30)
    elif touching == "get_session":
        cache.get_session("s")
    else:
        cache.delete_run("s", "no such run")

    cache.upsert_session(session, expect_rev=session.rev)


def test_a_new_object_with_a_revision_expected_creates_nothing(cache: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(session_of(1), expect_rev=5)
    assert cache.get_session("s") is None


def test_revision_0_creates_a_session_only_if_there_is_none(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1), expect_rev=0)
    before = stored(admin, caches)

    with pytest.raises(SessionConflictError) as caught:
        cache.upsert_session(session_of(2), expect_rev=0)

    loaded = cache.get_session("s")
    assert (caught.value.session_id, caught.value.rev) == ("s", loaded.rev)
    assert stored(admin, caches) == before
    cache.delete_session("s")
    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(loaded, expect_rev=0)


def test_a_revision_is_new_even_where_a_failover_lost_the_last_write(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1))
    meta, runs = keys.session_keys(caches.prefix, "s")
    behind = {key: admin.dump(key) for key in (meta, runs)}
    cache.update_session_state("s", {"k": "lost"})
    session = cache.get_session("s")
    for key, dump in behind.items():
        admin.restore(key, 3_600_000, dump, replace=True)
    cache.update_session_state("s", {"k": "kept"})

    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=session.rev)
    assert cache.refresh(session)
    assert session.session_data["session_state"] == {"k": "kept"}


def test_what_is_left_of_a_damaged_session_is_its_owners(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1, user_id="ada"))
    meta, _ = keys.session_keys(caches.prefix, "s")
    admin.hdel(meta, "count")
    before = stored(admin, caches)

    assert cache.delete_session("s", user_id="bob") is False
    with pytest.raises(SessionOwnershipError):
        cache.upsert_session(session_of(2, user_id="bob"))
    assert stored(admin, caches) == before
    cache.delete_session("s", user_id="ada")
    assert admin.exists(meta) == 0


def test_a_conflict_leaves_the_object_as_it_was(cache: Any) -> None:
    session = session_of(1)
    cache.upsert_session(session)
    rev, updated_at = session.rev, session.updated_at
    cache.upsert_run("s", run(2))
    with pytest.raises(SessionConflictError):
        cache.upsert_session(session, expect_rev=rev)

    assert (session.rev, session.updated_at) == (rev, updated_at)


# renaming


@pytest.mark.parametrize("name", ["new", "", "Grüße 🚀", "a\nb"])
def test_renaming_sets_the_name_and_keeps_everything_else(cache: Any, name: str) -> None:
    session = session_of(
        1, session_data={"session_name": "old", "session_state": {"k": 1}}, metadata={"m": 1}
    )
    cache.upsert_session(session)

    assert cache.rename_session("s", name)

    session.session_data["session_name"] = name
    loaded = cache.get_session("s")
    session.updated_at = loaded.updated_at
    assert loaded == session


def test_a_session_renamed_while_loaded_keeps_its_new_name_when_saved(cache: Any) -> None:
    cache.upsert_session(session_of(session_data={"session_name": "old"}))
    session = cache.get_session("s")
    cache.rename_session("s", "new")

    session.session_data["k"] = 1
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == {"session_name": "new", "k": 1}
