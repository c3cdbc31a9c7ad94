"""The runs of a session as objects of agno's; those of the past are the same objects at each lookup.

agno's databases on SQL share them so (`SessionRunObjectCache`): what agno changes of a run of the past, it
copies first. Runs that may still go on are built anew for each lookup.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from agno.db import utils
from agno.run.agent import RunOutput
from agno.run.team import TeamRunOutput
from agno.run.workflow import WorkflowRunOutput
from agno.session import WorkflowSession

from sessioncache.operations.lookup import Lookup
from sessioncache.storage.run_members import StoredRun

from .run_record import RunRecord

ACTIVE: Final = frozenset({"PENDING", "RUNNING", "PAUSED"})
"""Statuses of runs that may still go on."""

_ARE_NEVER_CHANGED: Final = hasattr(utils, "deserialize_history_run")
"""Whether runs of the past are immutable to this agno: 3.0.0 promised nothing yet."""


def runs_of(lookup: Lookup, session: Any) -> list[Any]:
    """Return the runs that a lookup found, as `from_dict` of the session's class builds them."""
    kind = "workflow" if isinstance(session, WorkflowSession) else "agent"
    runs = lookup.objects(kind, partial(_build, kind))
    return [run for run in runs if run is not None]


def _build(kind: str, stored: StoredRun) -> tuple[Any, bool]:
    record = RunRecord.pending(stored)
    is_settled = record.head.get("status") not in ACTIVE
    data = record.data()
    run = _workflow_run(data) if kind == "workflow" else _executor_run(data)
    return run, is_settled and _ARE_NEVER_CHANGED


def _workflow_run(data: dict[str, Any]) -> Any:
    return WorkflowRunOutput.from_dict(data) if utils.get_run_type(data) == "workflow" else None


def _executor_run(data: dict[str, Any]) -> Any:
    if "agent_id" in data:
        return RunOutput.from_dict(data)
    return TeamRunOutput.from_dict(data) if "team_id" in data else None
