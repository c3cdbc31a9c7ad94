"""Realistic sessions: what a support workflow says, does and stores; the same for the same arguments."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

from sessioncache.models import Message, RunOutput, RunStatus, WorkflowRunOutput, WorkflowSession

BEGUN: Final = 1_767_225_600
"""When the first run was created: at the beginning of 2026."""

MINUTE: Final = 60

QUESTIONS: Final = (
    "Where is my parcel? The tracking page has not changed for two days.",
    "It says that it was delivered, but there is nothing at my door.",
    "Can you send it again, to my office?",
    "How do I return an item that does not fit?",
    "The invoice has the wrong VAT number on it. Please correct it.",
    "My machine leaks while it heats up. Is that covered by the warranty?",
)
ANSWERS: Final = (
    "I have found it: the parcel left our warehouse on Monday, and is due the day after tomorrow.",
    "I am sorry about that. I have asked the carrier for the proof of delivery, which takes until tomorrow.",
    "Yes. I have changed the address, and you will get a new tracking number by mail within the hour.",
    "Use the label in the box, or print one from your account. The refund comes within five days.",
    "It is corrected; the new invoice is in your account, and the old one is void.",
    "Please unplug it first. It is covered: a courier brings a loan machine, and takes yours along.",
)

_numbers = itertools.count(1)


def make_session(
    session_id: str | None = None,
    *,
    runs: int = 3,
    user_id: str | None = "ada",
    workflow_id: str | None = "support",
    agent_id: str = "support-agent",
    **fields: Any,
) -> WorkflowSession:
    """Return a session of so many completed runs, a minute apart, each with the messages of an agent.

    Args:
        session_id: Its id; if it is not given, one that no other call returns.
        runs: How many runs it has, of about 3 KB each.
        user_id: Whose it is, None for nobody's.
        workflow_id: What it belongs to.
        agent_id: The agent of every run.
        **fields: Further fields of the session.
    """
    name = session_id or f"session-{next(_numbers)}"
    usual: dict[str, Any] = {
        "workflow_name": "Customer support",
        "metadata": {"channel": "web", "priority": "normal"},
        "session_data": {"session_name": QUESTIONS[0][:20], "session_state": {"step": runs, "open": True}},
        "created_at": BEGUN,
    }
    made = [_run(name, number, user_id, workflow_id, agent_id) for number in range(runs)]
    return WorkflowSession(name, user_id=user_id, workflow_id=workflow_id, runs=made, **{**usual, **fields})


def _run(
    session_id: str, number: int, user_id: str | None, workflow_id: str | None, agent_id: str
) -> WorkflowRunOutput:
    question, answer = QUESTIONS[number % len(QUESTIONS)], ANSWERS[number % len(ANSWERS)]
    run_id, created_at = f"{session_id}-run-{number}", BEGUN + number * MINUTE
    step = RunOutput(
        run_id=f"{run_id}-step",
        agent_id=agent_id,
        agent_name="Support",
        session_id=session_id,
        content=answer,
        messages=_messages(run_id, question, answer, created_at),
        created_at=created_at,
        status=RunStatus.completed,
    )
    return WorkflowRunOutput(
        run_id=run_id,
        session_id=session_id,
        user_id=user_id,
        workflow_id=workflow_id,
        input=question,
        content=answer,
        status=RunStatus.completed,
        created_at=created_at,
        step_executor_runs=[step],
        metrics={"input_tokens": 412 + number, "output_tokens": 96, "duration": 1.8},
    )


def _messages(run_id: str, question: str, answer: str, created_at: int) -> list[Message]:
    call = {"id": f"{run_id}-call", "type": "function"}
    call["function"] = {"name": "find_order", "arguments": json.dumps({"order": "4471"})}  # type: ignore[assignment]
    found = json.dumps(
        {"order": "4471", "state": "shipped", "events": [f"scan {each}" for each in range(20)]}
    )
    texts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("system", "You are the support agent of a shop. " * 12, {}),
        ("user", question, {}),
        ("assistant", "", {"tool_calls": [call]}),
        ("tool", found, {"tool_call_id": call["id"], "tool_name": "find_order"}),
        ("assistant", answer, {}),
    )
    return [
        Message(id=f"{run_id}-{place}", role=role, content=text, created_at=created_at, **more)
        for place, (role, text, more) in enumerate(texts)
    ]
