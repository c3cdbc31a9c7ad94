"""The model answers as the original was observed to, and loses nothing of real sessions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sessioncache.models import Message, RunOutput, WorkflowChatInteraction, WorkflowSession

DATA = Path(__file__).parent.parent / "data"
OBSERVED = json.loads((DATA / "model_cases.json").read_text())
SESSIONS = [json.loads(line) for line in (DATA / "agno_sessions.jsonl").read_text().splitlines()]


def load(data: dict[str, Any]) -> WorkflowSession:
    session = WorkflowSession.from_dict(data)
    assert session is not None
    return session


def shown(answer: Any) -> Any:
    """Return an answer in the notation of the observations."""
    if not isinstance(answer, list):
        return answer
    return [_shown_item(item) for item in answer]


def _shown_item(item: Any) -> Any:
    if isinstance(item, Message):
        return item.id
    if isinstance(item, WorkflowChatInteraction):
        return [item.input, item.output]
    return list(item)


@pytest.mark.parametrize("case", OBSERVED["cases"], ids=lambda case: case["id"])
def test_answers_as_observed(case: dict[str, Any]) -> None:
    session = load(OBSERVED["fixtures"][case["fixture"]])
    method = getattr(session, case["call"])
    expected = case["expect"]

    if "raises" in expected:
        with pytest.raises(ValueError, match=f"^{expected['message']}$"):
            method(**case["kwargs"])
    else:
        assert shown(method(**case["kwargs"])) == expected["returns"]


def test_every_observed_case_is_there() -> None:
    assert len(OBSERVED["cases"]) == 87
    assert {case["expect"].get("raises", "ValueError") for case in OBSERVED["cases"]} == {"ValueError"}


@pytest.mark.parametrize("data", SESSIONS, ids=lambda data: data["session_id"])
def test_real_session_comes_back_whole_every_time(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)

    assert load(data).to_dict() == data
    assert load(data).to_dict() == data
    assert data == before


@pytest.mark.parametrize("data", SESSIONS, ids=lambda data: data["session_id"])
def test_real_executor_runs_are_agent_runs_with_messages(data: dict[str, Any]) -> None:
    session = load(data)

    executor_runs = [item for run in session.runs or () for item in run.step_executor_runs or ()]
    messages = [message for run in executor_runs for message in run.messages]
    assert executor_runs
    assert {type(run) for run in executor_runs} == {RunOutput}
    assert {type(message) for message in messages} == {Message}
