"""A session whose runs are pending: made on first use, and then a session like any other."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from sessioncache.models import WorkflowRunOutput, WorkflowSession

RUNS = [WorkflowRunOutput(run_id=f"r{n}", status="COMPLETED", input="q", content="a") for n in range(2)]
FIELDS: dict[str, Any] = {"session_id": "s", "metadata": {"m": 1}, "created_at": 1, "updated_at": 2}


class MadeRuns:
    """Count how often runs are made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> list[WorkflowRunOutput]:
        self.times += 1
        return copy.deepcopy(RUNS)


@pytest.fixture
def made() -> MadeRuns:
    return MadeRuns()


@pytest.fixture
def pending(made: MadeRuns) -> WorkflowSession:
    return WorkflowSession.pending(made, **FIELDS)


def whole() -> WorkflowSession:
    return WorkflowSession(**FIELDS, runs=copy.deepcopy(RUNS))


def test_other_fields_make_no_runs(pending: WorkflowSession, made: MadeRuns) -> None:
    assert (pending.session_id, pending.metadata, pending.updated_at, pending.rev) == ("s", {"m": 1}, 2, None)
    assert not hasattr(pending, "other")
    assert made.times == 0


def test_runs_are_made_once(pending: WorkflowSession, made: MadeRuns) -> None:
    runs = pending.runs

    assert runs == RUNS
    assert pending.runs is runs
    assert made.times == 1


def test_runs_that_are_assigned_are_those(pending: WorkflowSession, made: MadeRuns) -> None:
    pending.runs = []

    assert pending.runs == []
    assert made.times == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda session: session,
        copy.deepcopy,
        lambda session: pickle.loads(pickle.dumps(session)),
        dataclasses.replace,
        lambda session: WorkflowSession.from_dict(session.to_dict()),
    ],
    ids=["itself", "deepcopy", "pickle", "replace", "to_dict"],
)
def test_it_is_like_one_that_was_built_whole(pending: WorkflowSession, use: Any) -> None:
    assert use(pending) == whole()
    assert repr(use(pending)) == repr(whole())
    assert dataclasses.asdict(use(pending)) == dataclasses.asdict(whole())


def test_a_shallow_copy_has_the_same_list(pending: WorkflowSession) -> None:
    twin = copy.copy(pending)

    assert twin.runs is pending.runs


def test_making_that_fails_is_tried_again() -> None:
    answers: list[Any] = [OSError("torn"), RUNS]

    def make() -> list[WorkflowRunOutput]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return list(answer)

    session = WorkflowSession.pending(make, **FIELDS)
    with pytest.raises(OSError, match="torn"):
        _ = session.runs
    assert session.get_run("r1") is not None


def test_a_method_sees_the_runs(pending: WorkflowSession) -> None:
    pending.upsert_run(WorkflowRunOutput(run_id="r1", content="new"))

    assert [run.content for run in pending.runs] == ["a", "new"]
