"""Sessions and runs made by hand, for tests that know what is in them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

from sessioncache.models import Message, RunOutput, WorkflowRunOutput, WorkflowSession


def a_run(run_id: str, at: int = 1, **fields: Any) -> WorkflowRunOutput:
    """Make a completed run that says of itself whose it is."""
    usual = {"input": f"in {run_id}", "content": f"out {run_id}", "status": "COMPLETED", "created_at": at}
    return WorkflowRunOutput(run_id=run_id, **{**usual, **fields})


def a_run_of(run_id: str, *messages: Message, agent_id: str = "A", at: int = 1) -> WorkflowRunOutput:
    """Make a run in which one agent exchanged these messages."""
    step = RunOutput(run_id=f"step of {run_id}", agent_id=agent_id, messages=list(messages), created_at=at)
    return a_run(run_id, at, step_executor_runs=[step])


def a_message(name: str, role: str = "user", size: int = 0) -> Message:
    """Make a message, its content padded to a size in bytes."""
    return Message(id=name, role=role, content=name.ljust(size, "."), created_at=1)


def a_session(session_id: str, runs: int | list[WorkflowRunOutput] = 0, **fields: Any) -> WorkflowSession:
    """Make a session with these runs, or so many r0, r1, ..., each a second later than the one before."""
    if isinstance(runs, int):
        runs = [a_run(f"r{number}", at=number + 1) for number in range(runs)]
    return WorkflowSession(session_id=session_id, runs=runs, **{"created_at": 1, **fields})


def ids(runs: Any) -> list[str]:
    """The ids of runs, in order."""
    return [run.run_id for run in runs]


def repeated(session: WorkflowSession, times: int) -> WorkflowSession:
    """Return the session with all of its runs so many times over, under ids of their own."""
    runs = session.runs or []
    session.runs = [
        replace(deepcopy(run), run_id=f"{run.run_id}#{turn}") for turn in range(times) for run in runs
    ]
    return session


def named(session: WorkflowSession, session_id: str) -> WorkflowSession:
    """Return the session, runs included, under another id."""
    session.session_id = session_id
    for run in session.runs:
        run.session_id = session_id
    return session
