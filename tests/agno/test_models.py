"""What the documented model and agno's own classes return for the same data."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from agno.models.message import Message as AgnoMessage
from agno.run.agent import RunOutput as AgnoRun
from agno.run.base import RunStatus as AgnoStatus
from agno.run.team import TeamRunOutput as AgnoTeamRun
from agno.session import WorkflowSession as AgnoSession

from sessioncache import Message, RunOutput, RunStatus, TeamRunOutput, WorkflowSession

SESSIONS = Path(__file__).parents[1] / "data" / "agno_sessions.jsonl"

CONTENTS = [
    *("", "text", None, [], [""], ["a", {"text": "b"}], ["ünï"]),
    *([{"text": "first"}, {"text": "second"}], [{"type": "text"}], [{"text": ""}], [[1]]),
]


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
def test_the_content_of_a_message_as_text(content: Any) -> None:
    theirs = AgnoMessage(role="user", content=content).get_content_string()

    assert Message(role="user", content=content).get_content_string() == theirs


def test_of_real_messages() -> None:
    rows = [json.loads(line) for line in SESSIONS.read_text().splitlines()]
    found = [message for row in rows for run in row["runs"] or () for message in _messages_in(run)]
    assert len(found) > 100

    for message in found:
        ours, theirs = Message.from_dict(message), AgnoMessage.from_dict(dict(message))
        assert ours.get_content_string() == theirs.get_content_string()


def _messages_in(run: dict[str, Any]) -> list[dict[str, Any]]:
    executors = run.get("step_executor_runs") or ()
    return [message for executor in executors for message in executor.get("messages") or ()]


ROLES = ["system", "user", "assistant", "tool"]


def a_run(number: int) -> dict[str, Any]:
    """Return a run of an agent or a team with messages of every role, some repeated from earlier runs."""
    messages = [
        {"id": f"{number}-{at}", "role": role, "content": f"{role} {number}", "from_history": at % 5 == 1}
        for at, role in enumerate(ROLES[number % 4 :] + ROLES[: number % 4] + ["tool", "assistant"])
    ]
    status = ["COMPLETED", "PAUSED", "ERROR"][number % 3]
    owner = "team_id" if number % 2 else "agent_id"
    return {
        "run_id": f"r{number}",
        owner: f"o{number % 4}",
        "status": status,
        "messages": None if number == 5 else messages,
    }


FILTERS = [
    dict(
        zip(
            ("last_n_runs", "limit", "skip_roles", "skip_statuses", "skip_history_messages"),
            values,
            strict=True,
        )
    )
    for values in itertools.product(
        (None, -1, 0, 1, 3),
        (None, -1, 0, 1, 2, 5),
        (None, ["system"], ["user", "tool"]),
        (None, ["PAUSED", "ERROR"]),
        (True, False),
    )
]


def in_terms_of(status: Any, filters: dict[str, Any]) -> dict[str, Any]:
    statuses = filters["skip_statuses"]
    return filters | {"skip_statuses": statuses and [status(name) for name in statuses]}


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_messages_of_agents_runs() -> None:
    runs = [a_run(number) for number in range(0, 12, 2)]
    ours, theirs = WorkflowSession("s"), AgnoSession(session_id="s")
    our_runs = [RunOutput.from_dict(run) for run in runs]
    their_runs = [AgnoRun.from_dict(run) for run in runs]

    for filters in FILTERS:
        mine = ours.get_messages_from_agent_runs(our_runs, **in_terms_of(RunStatus, filters))
        expected = theirs.get_messages_from_agent_runs(their_runs, **in_terms_of(AgnoStatus, filters))
        assert ids(mine) == ids(expected), filters


@pytest.mark.parametrize("skip_member_messages", [True, False])
def test_messages_of_teams_runs(skip_member_messages: bool) -> None:
    runs = [a_run(number) for number in range(1, 12, 2)]
    ours, theirs = WorkflowSession("s"), AgnoSession(session_id="s")
    our_runs = [TeamRunOutput.from_dict(run) for run in runs]
    their_runs = [AgnoTeamRun.from_dict(run) for run in runs]
    options = {"skip_member_messages": skip_member_messages}

    for filters in FILTERS:
        mine = ours.get_messages_from_team_runs("o1", our_runs, **in_terms_of(RunStatus, filters), **options)
        expected = theirs.get_messages_from_team_runs(
            "o1", their_runs, **in_terms_of(AgnoStatus, filters), **options
        )
        assert ids(mine) == ids(expected), filters


@pytest.mark.parametrize("statuses", [None, ["ERROR"]])
def test_a_run_that_is_none_has_no_messages(statuses: Any) -> None:
    for session, run, status in (
        (WorkflowSession("s"), RunOutput.from_dict(a_run(0)), RunStatus),
        (AgnoSession(session_id="s"), AgnoRun.from_dict(a_run(0)), AgnoStatus),
    ):
        skipped = statuses and [status(name) for name in statuses]
        found = session.get_messages_from_agent_runs([run, None], last_n_runs=1, skip_statuses=skipped)
        assert len(found) == (0 if statuses is None else 5)
