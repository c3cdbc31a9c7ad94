"""The sessions the demo is about: recorded from a workflow framework, in `sessions.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from sessioncache.models import WorkflowRunOutput, WorkflowSession


def recorded() -> Iterator[dict[str, Any]]:
    """Read the recorded sessions as they are in the file."""
    text = (files(__package__) / "sessions.jsonl").read_text("utf-8")
    return map(json.loads, text.splitlines())


def session_of(data: Mapping[str, Any]) -> WorkflowSession:
    """Build a session of what was recorded."""
    session = WorkflowSession.from_dict(data)
    if session is None:
        raise LookupError("what was recorded has no session_id")
    return session


def copy_of_run(run: Mapping[str, Any], run_id: str, **changes: object) -> WorkflowRunOutput:
    """Build a run like a recorded one, under an id of its own."""
    return WorkflowRunOutput.from_dict({**run, "run_id": run_id, **changes})
