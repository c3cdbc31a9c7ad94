"""A session: its defaults, its runs, its dict, and the filters the observations leave open."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import logging
import pickle
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

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
from strategies import message_filters, workflow_sessions

FIELDS = [
    "session_id",
    "user_id",
    "workflow_id",
    "workflow_name",
    "runs",
    "session_data",
    "workflow_data",
    "metadata",
    "created_at",
    "updated_at",
]


def session_of(*executor_runs: Any) -> WorkflowSession:
    run = WorkflowRunOutput(run_id="w", step_executor_runs=list(executor_runs))
    return WorkflowSession("s", runs=[run])


def from_dict(data: dict[str, Any]) -> WorkflowSession:
    session = WorkflowSession.from_dict(data)
    assert session is not None
    return session


def test_fields_are_positional_in_documented_order() -> None:
    assert [field.name for field in dataclasses.fields(WorkflowSession)] == FIELDS


def test_the_constructor_that_type_checkers_see_is_the_one_there_is() -> None:
    tree = ast.parse(inspect.getsource(WorkflowSession))
    (seen,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    made = inspect.signature(WorkflowSession).parameters
    hints = get_type_hints(WorkflowSession)

    assert [argument.arg for argument in seen.args.args] == ["self", *made]
    assert [ast.unparse(default) for default in seen.args.defaults] == ["None"] * (len(made) - 1)
    for argument in seen.args.args[2:]:
        assert type(None) in get_args(hints[argument.arg]), "a library that reads annotations lets None in"


def test_none_becomes_empty_or_now() -> None:
    session = WorkflowSession("s")

    assert session.runs == []
    assert session.session_data == session.workflow_data == session.metadata == {}
    assert session.created_at == session.updated_at
    assert session.created_at


def test_zero_times_and_given_containers_are_kept() -> None:
    runs: list[WorkflowRunOutput] = []

    session = WorkflowSession("s", runs=runs, created_at=0, updated_at=0)

    assert (session.created_at, session.updated_at) == (0, 0)
    assert session.runs is runs


@pytest.mark.parametrize("data", [None, {}, {"session_id": None, "user_id": "secret"}])
def test_no_session_id_is_no_session_and_said_so(
    data: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sessioncache"):
        session = WorkflowSession.from_dict(data)

    assert session is None
    assert "session_id" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("key", ["agent_id", "agent_name", "team_id", "team_name"])
def test_runs_of_agents_and_teams_are_no_workflow_runs(key: str, caplog: pytest.LogCaptureFixture) -> None:
    session = from_dict(
        {"session_id": "s", "runs": [{"run_id": "x", key: "secret"}, {"run_id": "w", key: ""}]}
    )

    assert [run.run_id for run in session.runs or ()] == ["w"]
    assert "1 runs" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("runs", [5, "runs", {"w": {"run_id": "w"}}, [None, 5, "x", []]])
def test_malformed_runs_are_skipped(runs: Any, caplog: pytest.LogCaptureFixture) -> None:
    session = from_dict({"session_id": "s", "runs": runs})

    assert session.runs == []
    assert "skipped" in caplog.text


def test_built_runs_are_kept_and_unknown_keys_ignored() -> None:
    run = WorkflowRunOutput(run_id="w")

    session = from_dict({"session_id": "s", "runs": [run], "unknown": 1})

    assert session.runs is not None
    assert session.runs[0] is run
    assert not hasattr(session, "unknown")


def test_to_dict_leaves_nothing_out() -> None:
    assert WorkflowSession("s", created_at=1, updated_at=2).to_dict() == {
        "session_id": "s",
        "user_id": None,
        "workflow_id": None,
        "workflow_name": None,
        "session_data": {},
        "workflow_data": {},
        "metadata": {},
        "created_at": 1,
        "updated_at": 2,
        "runs": None,
    }


def test_to_dict_without_runs_says_none() -> None:
    assert session_of().to_dict(include_runs=False)["runs"] is None


def test_upsert_replaces_the_first_run_in_place() -> None:
    session = WorkflowSession("s", runs=[WorkflowRunOutput(run_id=i) for i in ("a", "b", "a")], updated_at=5)
    new = WorkflowRunOutput(run_id="a", content="new")

    session.upsert_run(new)

    assert [run.content for run in session.runs or ()] == ["new", None, None]
    assert session.get_run("a") is new
    assert session.updated_at == 5


def test_upsert_appends_a_new_run() -> None:
    session = WorkflowSession("s")
    no_runs: Any = None
    session.runs = no_runs

    session.upsert_run(WorkflowRunOutput(run_id="a"))

    assert [run.run_id for run in session.runs or ()] == ["a"]
    assert session.get_run("b") is None


@pytest.mark.parametrize(("given_attempt", "kept"), [(None, 3), (0, 0), (4, 4)])
def test_upsert_carries_the_queue_attempt_over(given_attempt: int | None, kept: int) -> None:
    session = WorkflowSession("s", runs=[WorkflowRunOutput(run_id="a", queue_attempt=3)])

    session.upsert_run(WorkflowRunOutput(run_id="a", queue_attempt=given_attempt))

    run = session.get_run("a")
    assert run is not None
    assert run.queue_attempt == kept


def test_history_does_not_load_bodies() -> None:
    class Source:
        def read(self) -> tuple[dict[str, Any], Any]:
            def refuse() -> dict[str, Any]:
                raise AssertionError("a body was loaded")

            return {"run_id": "w", "status": "COMPLETED", "input": "q", "content": "a"}, refuse

    session = WorkflowSession("s", runs=[WorkflowRunOutput.pending(Source())])

    assert session.get_workflow_history() == [("q", "a")]
    assert [item.input for item in session.get_chat_history()] == ["q"]
    assert session.get_workflow_history_context(1)
    assert session.get_run("w") is not None


@pytest.mark.parametrize("skip", [[RunStatus.error], ["ERROR"], {"ERROR"}, ("ERROR",)])
def test_statuses_to_skip_may_be_members_or_strings(skip: Any) -> None:
    runs = [
        RunOutput(agent_id="A", status=status, messages=[Message(id=str(status), role="user")])
        for status in (RunStatus.error, "ERROR", "odd", None)
    ]

    messages = session_of(*runs).get_messages("A", skip_statuses=skip)

    assert [message.id for message in messages] == ["odd", "None"]


def test_what_is_no_message_is_not_answered() -> None:
    session = from_dict(
        {
            "session_id": "s",
            "runs": [
                {"step_executor_runs": "none"},
                {"step_executor_runs": [5, {"agent_id": "A", "messages": "none", "status": []}]},
                {"step_executor_runs": [{"agent_id": "A", "messages": [5, {"id": "m", "role": "user"}]}]},
            ],
        }
    )

    messages = session.get_messages("A", skip_statuses={"ERROR"})

    assert [message.id for message in messages] == ["m"]


def test_teams_and_agents_of_one_id_are_kept_apart() -> None:
    session = session_of(
        RunOutput(agent_id="X", messages=[Message(id="a", role="user")]),
        TeamRunOutput(team_id="X", messages=[Message(id="t", role="user")]),
    )

    assert [message.id for message in session.get_messages(agent_id="X")] == ["a"]
    assert [message.id for message in session.get_messages(team_id="X")] == ["t"]


def test_the_revision_is_that_of_the_origin_and_none_of_a_new_session() -> None:
    session = WorkflowSession("s", created_at=1, updated_at=1)
    session.__dict__["_snapshot"] = SimpleNamespace(rev=7)

    assert session.rev == 7
    assert session == WorkflowSession("s", created_at=1, updated_at=1)
    assert "_snapshot" not in session.to_dict()
    assert "_snapshot" not in repr(session)
    assert copy.copy(session).rev == copy.deepcopy(session).rev == 7
    assert pickle.loads(pickle.dumps(session)).rev == 7
    assert dataclasses.replace(session).rev is None
    assert WorkflowSession("s").rev is None


@given(workflow_sessions())
def test_any_session_comes_back_equal(session: WorkflowSession) -> None:
    assert WorkflowSession.from_dict(session.to_dict()) == session


@given(workflow_sessions(), message_filters())
def test_a_session_answers_alike_after_a_round_trip(session: WorkflowSession, kwargs: dict[str, Any]) -> None:
    def answer(asked: WorkflowSession | None) -> Any:
        assert asked is not None
        try:
            return asked.get_messages(**kwargs)
        except ValueError as error:
            return str(error)

    assert answer(WorkflowSession.from_dict(session.to_dict())) == answer(session)
