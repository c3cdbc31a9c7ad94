"""Whole sessions: what is loaded, and how the changes of several workers merge."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from sessioncache import WorkflowSession


def section(session: WorkflowSession, name: str) -> dict[str, Any]:
    """One of the four dicts of which single keys are merged."""
    data: Any = session.session_data
    return data.setdefault("session_state", {}) if name == "session_state" else getattr(session, name)


def saved(cache: Any, *sessions: WorkflowSession) -> Any:
    """Save objects in turn, and load what is stored then."""
    for session in sessions:
        cache.upsert_session(session)
    return cache.get_session("s")


def loaded_twice(cache: Any, session: WorkflowSession) -> tuple[Any, Any]:
    """Store a session and load it, as two workers do."""
    return saved(cache, session), cache.get_session("s")


# loading


def test_an_absent_session_is_none(cache: Any) -> None:
    assert cache.get_session("s") is None
    assert cache.get_session("s", last_n_runs=0) is None
    assert cache.get_session("s", user_id="u") is None
    assert cache.get_sessions([]) == []


@pytest.mark.parametrize("last_n", [None, 0, -1, 1, 2, 3, 4, 10**30])
def test_the_newest_runs_are_loaded_oldest_first(cache: Any, last_n: int | None) -> None:
    cache.upsert_session(a_session("s", 3, metadata={"k": 1}))

    session = cache.get_session("s", last_n_runs=last_n)

    wanted = 3 if last_n is None else max(0, min(last_n, 3))
    assert ids(session.runs) == ["r0", "r1", "r2"][3 - wanted :]
    assert session.metadata == {"k": 1}


def test_sessions_come_in_the_order_of_their_ids(cache: Any) -> None:
    for name in ("a", "b", "c"):
        cache.upsert_session(a_session(name, 2))

    found = cache.get_sessions(["c", "missing", "a", "c"], last_n_runs=1)

    assert [each and each.session_id for each in found] == ["c", None, "a", "c"]
    assert [ids(each.runs) for each in found if each] == [["r1"]] * 3


# merging

SECTIONS = pytest.mark.parametrize("name", ["session_data", "session_state", "workflow_data", "metadata"])


@SECTIONS
def test_changes_of_different_keys_both_survive(cache: Any, name: str) -> None:
    session = a_session("s")
    section(session, name).update({"set": 0, "gone": 0, "kept": 0, "theirs": 0})
    one, other = loaded_twice(cache, session)

    section(one, name)["set"] = 1
    del section(one, name)["gone"]
    section(other, name).update(theirs=2, new=2)

    merged = section(saved(cache, one, other), name)
    assert merged == {"set": 1, "kept": 0, "theirs": 2, "new": 2}


@SECTIONS
def test_a_dict_that_loses_its_last_key_is_empty(cache: Any, name: str) -> None:
    session = a_session("s")
    section(session, name)["only"] = 1
    loaded, _ = loaded_twice(cache, session)
    section(loaded, name).clear()

    found = saved(cache, loaded)

    if name == "session_state":
        assert found.session_data == {"session_state": {}}
    assert section(found, name) == {}


KINDS: list[dict[str, Any]] = [
    *({}, {"k": None}, {"k": {"a": 1}}, {"k": []}, {"session_state": {}}, {"session_state": None}),
    *({"session_state": state} for state in (7, 0, [], {"a": 1}, {"a": None}, {"a": {}})),
]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        *(("session_data", *pair) for pair in itertools.product(KINDS, [*KINDS, None])),
        *(("workflow_data", *pair) for pair in itertools.pairwise(KINDS)),
        *(("metadata", *pair) for pair in itertools.pairwise(KINDS)),
    ],
    ids=str,
)
def test_missing_and_none_and_empty_stay_different(cache: Any, name: str, before: Any, after: Any) -> None:
    session = saved(cache, a_session("s", **{name: before}))
    assert getattr(session, name) == before

    setattr(session, name, after)

    assert getattr(saved(cache, session), name) == (after or {})


Change = Callable[[Any], Any]
MERGES: dict[str, tuple[dict[str, Any], Change, Change, dict[str, Any]]] = {
    "below the top level the last one wins": (
        {"metadata": {"deep": {"a": 0, "b": 0}}},
        lambda one: one.metadata["deep"].update(a=1),
        lambda other: other.metadata["deep"].update(b=2),
        {"metadata": {"deep": {"a": 0, "b": 2}}},
    ),
    "plain fields": (
        {"workflow_id": "w", "workflow_name": "old", "user_id": "ada"},
        lambda one: vars(one).update(workflow_name="new", user_id=None),
        lambda other: other.metadata.update(k=1),
        {"workflow_id": "w", "workflow_name": "new", "user_id": "ada", "metadata": {"k": 1}},
    ),
    "plain fields set to None": (
        {"workflow_id": "w", "workflow_name": "W"},
        lambda one: vars(one).update(workflow_id=None),
        lambda other: vars(other).update(workflow_name=None),
        {"workflow_id": None, "workflow_name": None},
    ),
    "no session_data beside a key of the state": (
        {"session_data": {"session_state": {"a": 1}}},
        lambda one: vars(one).update(session_data=None),
        lambda other: other.session_data["session_state"].update(b=2),
        {"session_data": {"session_state": {"b": 2}}},
    ),
    "no metadata after a new key": (
        {"metadata": {"a": 1}},
        lambda one: one.metadata.update(b=1),
        lambda other: vars(other).update(metadata=None),
        {"metadata": {}},
    ),
}
"""What is stored, what two workers change, and what is stored then."""


@pytest.mark.parametrize("name", MERGES)
def test_what_two_workers_change_is_merged(cache: Any, name: str) -> None:
    fields, change_one, change_other, merged = MERGES[name]
    one, other = loaded_twice(cache, a_session("s", **fields))
    change_one(one)
    change_other(other)

    found = saved(cache, one, other)

    assert {field: getattr(found, field) for field in merged} == merged


def test_a_new_object_is_merged_into_what_is_stored(cache: Any) -> None:
    cache.upsert_session(a_session("s", 1, created_at=5, metadata={"a": 1, "b": 1}, workflow_name="kept"))

    found = saved(cache, a_session("s", [a_run("r9", 9)], created_at=9, metadata={"b": 2}))

    assert ids(found.runs) == ["r0", "r9"]
    assert (found.metadata, found.workflow_name, found.created_at) == ({"a": 1, "b": 2}, "kept", 5)


def test_an_object_saved_again_is_stored_as_it_is(cache: Any) -> None:
    session = a_session("s", 1, metadata={"a": 1}, session_data={"session_state": {"list": [{"n": 1}]}})
    cache.upsert_session(session)
    session.metadata = {"b": 2}
    session.session_data["session_state"]["list"][0]["n"] = 2
    session.runs[0].content = "changed"
    session.runs.append(a_run("r1", 2))
    cache.upsert_session(session)
    session.metadata["c"] = 3
    session.runs[1].content = "changed too"

    assert saved(cache, session) == session


@pytest.mark.parametrize("count", [2000, 2500, 5001, 9000])
def test_thousands_of_keys_are_set_and_removed_in_one_save(cache: Any, count: int) -> None:
    session = a_session("s", metadata={f"k{number}": number for number in range(count)})
    assert saved(cache, session).metadata == session.metadata

    session.metadata = {"k1": 1}

    assert saved(cache, session).metadata == {"k1": 1}


# runs of an object that is saved


@pytest.mark.parametrize("last_n", [0, 1, 2])
def test_a_part_keeps_its_older_runs(cache: Any, last_n: int) -> None:
    cache.upsert_session(a_session("s", 3))
    session = cache.get_session("s", last_n_runs=last_n)
    session.runs.append(a_run("r3", 4))

    assert saved(cache, session).runs == [a_run(f"r{number}", number + 1) for number in range(4)]


def test_a_run_taken_off_an_object_is_not_removed(cache: Any) -> None:
    session = a_session("s", 2)
    cache.upsert_session(session)
    session.runs.clear()

    assert ids(saved(cache, session).runs) == ["r0", "r1"]


def test_only_runs_changed_in_an_object_are_written(cache: Any) -> None:
    """To look at a run is no change of it."""
    one, other = loaded_twice(cache, a_session("s", 3))
    assert [run.to_dict() for run in other.runs] == [run.to_dict() for run in one.runs]
    one.runs[0].content = one.runs[2].content = "of one"
    other.runs[1].step_results.append("of other")

    found = saved(cache, one, other)

    assert [run.content for run in found.runs] == ["of one", "out r1", "of one"]
    assert [run.step_results for run in found.runs] == [[], ["of other"], []]


@pytest.mark.parametrize("field", ["metadata", "events", "step_results", "step_executor_runs"])
def test_a_field_set_before_its_body_was_read_is_saved(cache: Any, field: str) -> None:
    session = saved(cache, a_session("s", 1))

    setattr(session.runs[0], field, ["new"])
    cache.upsert_session(session)

    assert getattr(cache.get_run("s", "r0"), field) == ["new"]
