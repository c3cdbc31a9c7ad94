"""The classes that users see, on top of records: the documented `WorkflowSession` unless said otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from .errors import InvalidArgumentError
from .keys import encoded_id
from .models import WorkflowRunOutput, WorkflowSession

_SESSION_FIELDS: Final = tuple(
    item.name for item in dataclasses.fields(WorkflowSession) if item.name != "runs"
)

LoadBody = Callable[[], Mapping[str, Any]]


class Model(Protocol):
    """The classes that a user of the cache sees, on top of records."""

    names: Collection[str]
    """The fields of a session's record. Others, of a newer version, stay as they are stored."""

    def fields(self, session: Any) -> dict[str, Any]:
        """Return the record of a session, without its runs."""

    def runs(self, session: Any) -> Sequence[Any]:
        """Return the runs of a session, oldest first."""

    def session(self, fields: dict[str, Any], runs: list[Any]) -> Any:
        """Build a session."""

    def refill(self, session: Any, fields: dict[str, Any], runs: list[Any]) -> None:
        """Give a session object other fields and runs, in place."""

    def run_id(self, run: Any) -> str:
        """Return the id of a run; raise InvalidArgumentError where it is no run, or has none."""

    def head(self, run: Any) -> dict[str, Any]:
        """Return the light part of a run's record; at least run_id, created_at, user_id, workflow_id."""

    def body(self, run: Any) -> dict[str, Any]:
        """Return the heavy part of a run's record."""

    def has_pending_body(self, run: Any) -> bool:
        """Tell whether a run that was loaded has not decoded its body, which is unchanged therefore."""

    def is_unreadable(self, run: Any) -> bool:
        """Tell whether a run was built by `unreadable_run`."""

    def run(self, head: dict[str, Any], load_body: LoadBody) -> Any:
        """Build a run, its body to be loaded on first use."""

    def head_view(self, head: dict[str, Any]) -> Any:
        """Build of a head alone a run that is asked what heads answer, and is never handed out."""

    def unreadable_run(self, run_id: str, fail: LoadBody) -> Any:
        """Build a run that calls `fail`, which raises, whenever more than its run_id is looked at."""


class WorkflowModel:
    """The documented classes: WorkflowSession and WorkflowRunOutput."""

    names: Collection[str] = frozenset(_SESSION_FIELDS)

    def fields(self, session: Any) -> dict[str, Any]:
        """Return the record of a session, without its runs."""
        if not isinstance(session, WorkflowSession):
            raise InvalidArgumentError(f"session must be a WorkflowSession, not {type(session).__name__}")
        record = session.to_dict(include_runs=False)
        del record["runs"]
        for name in ("session_data", "workflow_data", "metadata"):
            if not isinstance(record[name], dict | None):
                raise InvalidArgumentError(f"session.{name} must be a dict or None")
        return record

    def runs(self, session: Any) -> Sequence[Any]:
        """Return the runs of a session, oldest first."""
        if not isinstance(session.runs, list | tuple | None):
            raise InvalidArgumentError(f"session.runs must be a list, not {type(session.runs).__name__}")
        return session.runs or ()

    def session(self, fields: dict[str, Any], runs: list[Any]) -> WorkflowSession:
        """Build a session."""
        known: dict[str, Any] = {name: fields.get(name) for name in _SESSION_FIELDS}
        return WorkflowSession(**known, runs=runs)

    def refill(self, session: WorkflowSession, fields: dict[str, Any], runs: list[Any]) -> None:
        """Give a session object other fields and runs, in place; its list of runs stays the same list."""
        kept = session.runs
        vars(session).update(vars(self.session(fields, runs)))
        if isinstance(kept, list):
            kept[:] = runs
            session.runs = kept

    def run_id(self, run: Any) -> str:
        """Return the id of a run; raise InvalidArgumentError where it is no run, or has none."""
        if not isinstance(run, WorkflowRunOutput):
            raise InvalidArgumentError(f"run must be a WorkflowRunOutput, not {type(run).__name__}")
        return encoded_id(run.run_id, "run.run_id").decode()

    def head(self, run: WorkflowRunOutput) -> dict[str, Any]:
        """Return the light part of a run's record."""
        return run.head_dict()

    def body(self, run: WorkflowRunOutput) -> dict[str, Any]:
        """Return the heavy part of a run's record."""
        return run.body_dict()

    def has_pending_body(self, run: WorkflowRunOutput) -> bool:
        """Tell whether the body of a run that was loaded is still packed."""
        return run.has_pending_body

    def is_unreadable(self, run: WorkflowRunOutput) -> bool:
        """Tell whether a run was built by `unreadable_run`."""
        return run.is_unreadable

    def run(self, head: dict[str, Any], load_body: LoadBody) -> WorkflowRunOutput:
        """Build a run, its body to be loaded on first use."""
        return WorkflowRunOutput.from_parts(head, load_body)

    def head_view(self, head: dict[str, Any]) -> WorkflowRunOutput:
        """Build a run of a head alone, to be asked what heads answer and never handed out."""
        return WorkflowRunOutput.head_view(head)

    def unreadable_run(self, run_id: str, fail: LoadBody) -> WorkflowRunOutput:
        """Build a run that calls `fail` whenever more than its run_id is looked at."""
        return WorkflowRunOutput.unreadable(run_id, fail)
