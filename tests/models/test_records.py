"""Runs and messages: nothing stored is lost, changed or reordered."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from sessioncache.models import (
    Message,
    RunOutput,
    RunStatus,
    TeamRunOutput,
    WorkflowRunOutput,
    WorkflowSession,
)
from strategies import messages, workflow_runs

MESSAGE = {"id": "m1", "role": "user", "citations": {"urls": ["u"]}, "mood": "fine"}
AGENT_RUN = {"run_id": "a1", "messages": [MESSAGE], "status": "COMPLETED", "agent_id": "A", "heat": 3}
TEAM_RUN = {"run_id": "t1", "team_id": "T", "member_responses": [AGENT_RUN], "size": None}
INNER = {
    "workflow_name": "W",
    "run_id": "w2",
    "parent_run_id": "w1",
    "step_executor_runs": [TEAM_RUN],
    "k": 1,
}
RUN = {"run_id": "w1", "step_executor_runs": [AGENT_RUN, TEAM_RUN, INNER], "future": {"x": [1]}}

RECORDS = [Message, RunOutput, TeamRunOutput, WorkflowRunOutput]


def steps_of(*items: Any) -> list[Any]:
    return WorkflowRunOutput.from_dict({"step_executor_runs": list(items)}).step_executor_runs or []


def nested_runs(depth: int) -> dict[str, Any]:
    """Return a workflow run with others nested in it, an agent's run in the innermost."""
    data: dict[str, Any] = {"run_id": "innermost", "step_executor_runs": [AGENT_RUN]}
    for _ in range(depth):
        step = {**data, "workflow_name": "W", "parent_run_id": "p"}
        data = {"run_id": "w", "step_executor_runs": [step]}
    return data


def descend(run: Any, depth: int) -> Any:
    for _ in range(depth):
        run = run.step_executor_runs[0]
    return run


def test_unknown_fields_survive_at_every_level() -> None:
    before = copy.deepcopy(RUN)

    assert WorkflowRunOutput.from_dict(RUN).to_dict() == RUN
    assert WorkflowRunOutput.from_dict(RUN).to_dict() == RUN
    assert before == RUN


def test_unknown_fields_are_extra_fields() -> None:
    message = Message.from_dict(MESSAGE)

    assert message.extra_fields == {"mood": "fine"}
    assert message.citations == {"urls": ["u"]}


@pytest.mark.parametrize("name", ["extra_fields", "_load_body", "__dict__", "to_dict", "HEAD_FIELDS"])
@pytest.mark.parametrize("cls", RECORDS)
def test_hostile_names_are_ordinary_unknown_fields(cls: Any, name: str) -> None:
    record = cls.from_dict({name: 1})

    assert record.extra_fields == {name: 1}
    assert record.to_dict() == {name: 1}


def test_none_is_dropped_from_known_fields_and_kept_in_unknown_ones() -> None:
    run = RunOutput.from_dict({"agent_id": None, "unheard_of": None})

    assert run.to_dict() == {"unheard_of": None}


@pytest.mark.parametrize("cls", RECORDS)
def test_missing_fields_of_stored_records_are_none(cls: Any) -> None:
    assert cls.from_dict({}).to_dict() == {}


def test_an_extra_field_never_hides_a_known_one() -> None:
    run = WorkflowRunOutput(run_id="w1", extra_fields={"run_id": "other", "metrics": 1, "new": 2})

    assert run.to_dict()["run_id"] == "w1"
    assert "metrics" not in run.to_dict()
    assert run.body_dict()["new"] == 2


def test_extra_fields_are_not_shared_between_records() -> None:
    first, second = Message.from_dict({}), Message.from_dict({})

    first.extra_fields["x"] = 1

    assert second.extra_fields == {}


def test_key_order_does_not_depend_on_the_order_given() -> None:
    backwards = dict(reversed([*RUN.items(), ("another", 1)]))

    assert list(WorkflowRunOutput.from_dict(backwards).to_dict()) == [
        "run_id",
        "step_executor_runs",
        "another",
        "future",
    ]


def test_executor_runs_are_told_by_their_keys() -> None:
    agent, team, inner, other, nameless = steps_of(
        AGENT_RUN, TEAM_RUN, INNER, {"run_id": "x"}, {"team_id": None, "agent_id": "A"}
    )

    assert [type(agent), type(team), type(inner)] == [RunOutput, TeamRunOutput, WorkflowRunOutput]
    assert [type(other), type(nameless)] == [RunOutput, RunOutput]
    assert type(team.member_responses[0]) is RunOutput
    assert type(inner.step_executor_runs[0]) is TeamRunOutput


def test_workflow_agent_run_is_an_agent_run() -> None:
    data = {"workflow_agent_run": {"run_id": "x", "messages": [MESSAGE], "odd": 1}}

    run = WorkflowRunOutput.from_dict(data)

    assert type(run.workflow_agent_run) is RunOutput
    assert run.to_dict() == data


@pytest.mark.parametrize("depth", [1, 10])
def test_workflow_runs_nest_ten_deep(depth: int) -> None:
    innermost: Any = descend(WorkflowRunOutput.from_dict(nested_runs(depth)), depth)

    assert type(innermost) is WorkflowRunOutput
    assert [type(run) for run in innermost.step_executor_runs or ()] == [RunOutput]


def test_workflow_runs_below_ten_stay_dicts() -> None:
    data = nested_runs(11)

    run = WorkflowRunOutput.from_dict(data)

    assert type(descend(run, 11)) is dict
    assert run.to_dict() == data


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}, [1, None, "x", ["y"]], True])
@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (RunOutput, "messages"),
        (RunOutput, "status"),
        (TeamRunOutput, "member_responses"),
        (WorkflowRunOutput, "step_executor_runs"),
        (WorkflowRunOutput, "status"),
    ],
)
def test_malformed_values_survive(cls: Any, name: str, value: Any) -> None:
    assert cls.from_dict({name: value}).to_dict() == {name: value}


def test_malformed_workflow_agent_run_survives() -> None:
    assert WorkflowRunOutput.from_dict({"workflow_agent_run": 5}).to_dict() == {"workflow_agent_run": 5}


def test_built_objects_pass_through_lists() -> None:
    built = RunOutput(agent_id="A")

    assert steps_of(built)[0] is built


def test_dicts_given_to_the_constructor_come_out_as_they_are() -> None:
    run = WorkflowRunOutput(step_executor_runs=[AGENT_RUN, RunOutput.from_dict(AGENT_RUN)])

    assert run.to_dict()["step_executor_runs"] == [AGENT_RUN, AGENT_RUN]


@pytest.mark.parametrize("status", list(RunStatus))
def test_known_status_is_a_member_and_stored_as_its_value(status: RunStatus) -> None:
    run = RunOutput.from_dict({"status": status.value})

    assert run.status is status
    assert type(run.to_dict()["status"]) is str


def test_unknown_status_stays_a_string() -> None:
    run = RunOutput.from_dict({"status": "archived"})

    assert type(run.status) is str
    assert run.to_dict() == {"status": "archived"}


@pytest.mark.parametrize("text", ["completed", "COMPLETED", "Completed"])
@pytest.mark.parametrize("cls", [RunOutput, TeamRunOutput, WorkflowRunOutput])
def test_a_status_is_known_in_any_case_where_it_is_given(cls: Any, text: str) -> None:
    """A dict is read as the original reads it: its status is known by its value alone."""
    assigned = cls()
    assigned.status = text

    for run in (assigned, cls(status=text), replace(cls(), status=text)):
        assert run.status is RunStatus.completed
        assert run == replace(run, status=RunStatus.completed)
        assert run.to_dict()["status"] == "COMPLETED"


def test_statuses_to_skip_are_known_in_any_case() -> None:
    step = RunOutput(agent_id="A", status="completed", messages=[Message(role="user")])
    session = WorkflowSession("s", runs=[WorkflowRunOutput(step_executor_runs=[step])])

    assert session.get_messages("A") == step.messages
    assert session.get_messages("A", skip_statuses=["Completed"]) == []


def test_new_records_have_the_documented_defaults() -> None:
    run, message = WorkflowRunOutput("in", "out"), Message(role="user")

    assert (run.input, run.content, run.content_type) == ("in", "out", "str")
    assert (run.status, run.step_results) == (RunStatus.pending, [])
    assert (RunOutput().status, TeamRunOutput().status) == (RunStatus.running, RunStatus.running)
    assert run.created_at is not None
    assert message.id != Message(role="user").id
    assert (message.from_history, message.stop_after_tool_call) == (False, False)


@given(messages())
def test_any_message_comes_back_equal(message: Message) -> None:
    assert Message.from_dict(message.to_dict()) == message


@given(workflow_runs())
def test_any_run_comes_back_equal_and_in_the_same_order(run: WorkflowRunOutput) -> None:
    again = WorkflowRunOutput.from_dict(run.to_dict())

    assert again == run
    assert repr(again.to_dict()) == repr(run.to_dict())
