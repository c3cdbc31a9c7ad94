"""Runs shaped like real ones: those of the recorded sample that are of middling size, under new ids."""

from __future__ import annotations

import copy
import functools
import json
import random
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgpack

from sessioncache import WorkflowRunOutput, WorkflowSession

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE: Final = Path(__file__).parents[2] / "tests" / "data" / "agno_sessions.jsonl"

HEAD_BYTES: Final = range(300, 500)
BODY_BYTES: Final = range(5_000, 7_500)
"""Packed sizes of the runs that are taken from the sample: about 0.4 KB of head and 6 KB of body."""

USER: Final = "user-7"
WORKFLOW: Final = "workflow-1"
AGENT: Final = "agent-0"
FIRST_CREATED_AT: Final = 1_790_000_000
"""Unix seconds of the first run of a session; each further one is a second younger."""

Json = dict[str, Any]


@functools.cache
def templates() -> tuple[Json, ...]:
    """Return the runs of the sample that have the size wanted."""
    sessions = (json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines())
    found = tuple(run for session in sessions for run in session["runs"] if _fits(run))
    assert found, "the sample has no run of the size wanted"
    return found


def _fits(record: Json) -> bool:
    run = WorkflowRunOutput.from_dict(record)
    head, body = len(msgpack.packb(run.head_dict())), len(msgpack.packb(run.body_dict()))
    return head in HEAD_BYTES and body in BODY_BYTES


@functools.cache
def _first_session() -> Json:
    with SAMPLE.open(encoding="utf-8") as lines:
        first: Json = json.loads(next(lines))
    return first | {"runs": None}


def session_record(session_id: str, user_id: str = USER) -> Json:
    """Return a session without runs, as a dict that sessioncache and agno both read."""
    own = {"session_id": session_id, "user_id": user_id, "workflow_id": WORKFLOW, "workflow_name": "Lookup"}
    times = {"created_at": FIRST_CREATED_AT, "updated_at": FIRST_CREATED_AT}
    return copy.deepcopy(_first_session()) | own | times


def session(session_id: str, runs: int = 0, user_id: str = USER) -> WorkflowSession:
    """Return a session of so many runs."""
    made = WorkflowSession.from_dict(session_record(session_id, user_id))
    assert made is not None
    made.runs = [WorkflowRunOutput.from_dict(run) for run in run_records(session_id, runs, user_id)]
    return made


def run_records(session_id: str, count: int, user_id: str = USER, first: int = 0) -> Iterator[Json]:
    """Make runs as dicts, oldest first, always the same ones for the same arguments."""
    rng = random.Random(f"{session_id} {first}")
    for number in range(first, first + count):
        template = templates()[number % len(templates())]
        yield _renewed(template, session_id, user_id, number, rng)


def _renewed(template: Json, session_id: str, user_id: str, number: int, rng: random.Random) -> Json:
    run = copy.deepcopy(template)
    run |= {"run_id": _new_id(rng), "session_id": session_id, "user_id": user_id, "workflow_id": WORKFLOW}
    run["created_at"] = FIRST_CREATED_AT + number
    for place, executor_run in enumerate(run["step_executor_runs"]):
        executor_run |= {"run_id": _new_id(rng), "parent_run_id": run["run_id"], "session_id": session_id}
        if "agent_id" in executor_run:
            executor_run["agent_id"] = f"agent-{place}"
        for message in executor_run.get("messages", ()):
            message["id"] = _new_id(rng)
    return run


def _new_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
