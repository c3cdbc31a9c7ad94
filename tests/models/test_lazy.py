"""A run of which the body is pending: loaded once, on first use, and then a run like any other."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given

from sessioncache.models import RunOutput, RunStatus, WorkflowRunOutput
from strategies import workflow_runs

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = {"run_id": "w1", "status": "COMPLETED", "input": "q", "content": "a"}
BODY = {
    "step_executor_runs": [{"run_id": "a1", "agent_id": "A", "messages": [{"id": "m1", "role": "user"}]}],
    "metadata": {"k": 1},
    "future": True,
}
BODY_FIELDS = [
    field.name
    for field in dataclasses.fields(WorkflowRunOutput)
    if field.name not in WorkflowRunOutput.HEAD_FIELDS
]


class Parts(NamedTuple):
    """Where a run comes from: its head, and what loads its body."""

    head: dict[str, Any]
    load_body: Callable[[], dict[str, Any]]

    def read(self) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
        return self.head, self.load_body


class Body:
    """Count how often a body is loaded."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.loads = 0

    def __call__(self) -> dict[str, Any]:
        self.loads += 1
        return self.data


def pending() -> tuple[WorkflowRunOutput, Body]:
    body = Body(BODY)
    return WorkflowRunOutput.pending(Parts(HEAD, body)), body


def whole() -> WorkflowRunOutput:
    return WorkflowRunOutput.from_dict({**HEAD, **BODY})


def test_the_head_is_read_without_loading() -> None:
    run, body = pending()

    assert type(run) is WorkflowRunOutput
    assert (run.run_id, run.status, run.input, run.content) == ("w1", RunStatus.completed, "q", "a")
    assert (run.created_at, run.content_type, run.user_id) == (None, None, None)
    assert run.head_dict() == HEAD
    assert run.has_pending_body
    assert body.loads == 0


@pytest.mark.parametrize("name", BODY_FIELDS)
def test_every_body_field_loads_once(name: str) -> None:
    run, body = pending()

    assert getattr(run, name) == getattr(whole(), name)
    assert getattr(run, name) is getattr(run, name)
    assert not run.has_pending_body
    assert body.loads == 1


@pytest.mark.parametrize(
    "use",
    [
        WorkflowRunOutput.to_dict,
        WorkflowRunOutput.body_dict,
        repr,
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
        dataclasses.asdict,
        lambda run: pickle.loads(pickle.dumps(run)),
        lambda run: run == whole(),
        lambda run: whole() == run,
    ],
    ids=[
        "to_dict",
        "body_dict",
        "repr",
        "copy",
        "deepcopy",
        "replace",
        "asdict",
        "pickle",
        "eq",
        "eq_swapped",
    ],
)
def test_use_of_the_whole_run_loads_once_and_gives_what_an_eager_run_gives(use: Callable[[Any], Any]) -> None:
    run, body = pending()

    assert use(run) == use(whole())
    assert body.loads == 1
    assert vars(run) == vars(whole())


def test_the_copy_of_a_pending_run_is_loaded_and_independent() -> None:
    run, _ = pending()

    twin = copy.deepcopy(run)
    twin.metadata = {}

    assert not twin.has_pending_body
    assert run.metadata == {"k": 1}


def test_nested_records_of_a_loaded_body_are_built() -> None:
    run, _ = pending()

    steps = run.step_executor_runs or []

    assert [type(step) for step in steps] == [RunOutput]
    assert [message.id for message in steps[0].messages] == ["m1"]


def test_asking_for_nonsense_does_not_load() -> None:
    run, body = pending()

    assert not hasattr(run, "nonsense")
    assert not hasattr(run, "__deepcopy__")
    assert body.loads == 0


def test_a_missing_attribute_is_named() -> None:
    with pytest.raises(AttributeError, match="'WorkflowRunOutput' object has no attribute 'nonsense'"):
        _ = WorkflowRunOutput().nonsense  # type: ignore[attr-defined]


def test_an_empty_instance_does_not_recurse() -> None:
    empty = WorkflowRunOutput.__new__(WorkflowRunOutput)

    assert not hasattr(empty, "metadata")
    assert not empty.has_pending_body


def test_a_failed_load_is_raised_and_tried_again() -> None:
    answers: list[Any] = [OSError("torn"), BODY]

    def load_body() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return dict(answer)

    run = WorkflowRunOutput.pending(Parts(HEAD, load_body))

    with pytest.raises(OSError, match="torn"):
        _ = run.metadata
    assert run.has_pending_body
    assert run.metadata == {"k": 1}


def test_what_is_assigned_before_the_load_wins() -> None:
    run, body = pending()

    run.metadata = None
    run.events = ["mine"]
    run.content = "new"

    assert body.loads == 0
    assert run.extra_fields == {"future": True}
    assert (run.metadata, run.events, run.content) == (None, ["mine"], "new")
    assert run.to_dict()["step_executor_runs"] == BODY["step_executor_runs"]


@pytest.mark.parametrize("step_results", [None, []])
def test_an_empty_list_and_none_are_told_apart(step_results: list[Any] | None) -> None:
    run = WorkflowRunOutput(step_results=step_results)

    again = WorkflowRunOutput.pending(Parts(run.head_dict(), run.body_dict))

    assert again.step_results == step_results
    assert again == run


def test_fields_of_the_body_that_came_with_the_head_are_kept() -> None:
    run = WorkflowRunOutput.pending(Parts({**HEAD, "metrics": {"n": 1}, "new": 2}, lambda: BODY))

    assert run.head_dict() == {**HEAD, "metrics": {"n": 1}, "new": 2}
    assert run.to_dict() == {**HEAD, **BODY, "metrics": {"n": 1}, "new": 2}


@pytest.mark.parametrize("loads", [False, True], ids=["pending", "loaded"])
def test_what_came_with_the_head_goes_back_into_the_head(loads: bool) -> None:
    """A newer version may keep more in the head, and looks for it there."""
    run = WorkflowRunOutput.pending(Parts({**HEAD, "metrics": {"n": 1}, "new": 2, "old": 3}, lambda: BODY))
    if loads:
        run.extra_fields["new"] = 4
        del run.extra_fields["old"]
    run.content, run.metrics = "changed", {"n": 2}

    head, body = run.head_dict(), run.body_dict()

    kept = {"new": 4} if loads else {"new": 2, "old": 3}
    assert head == {**HEAD, "content": "changed", "metrics": {"n": 2}, **kept}
    assert body == BODY


def test_the_parts_are_left_as_they_are() -> None:
    head, body = copy.deepcopy(HEAD), copy.deepcopy(BODY)

    WorkflowRunOutput.pending(Parts(head, lambda: body)).to_dict()

    assert (head, body) == (HEAD, BODY)


@given(workflow_runs())
def test_any_run_split_in_two_comes_back_equal(run: WorkflowRunOutput) -> None:
    head, body = run.head_dict(), run.body_dict()
    again = WorkflowRunOutput.pending(Parts(head, lambda: body))

    assert again.head_dict() == head
    assert again.has_pending_body
    assert run.to_dict() == head | body
    assert head.keys() <= WorkflowRunOutput.HEAD_FIELDS
    assert again == run
