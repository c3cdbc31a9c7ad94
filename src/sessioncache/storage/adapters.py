"""Which classes users see: those of `models`, unless an integration has its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol, Self

from sessioncache.errors import InvalidArgumentError
from sessioncache.models import WorkflowRunOutput, WorkflowSession
from sessioncache.models.lazy import Source


class Run(Protocol):
    """A run in two parts, a head and a body, each decoded on first use."""

    @property
    def run_id(self) -> Any:
        """Return its id, which is checked before it is stored."""

    @classmethod
    def pending(cls, source: Source) -> Self:
        """Return a run that reads its source when it is first looked at; if damaged, it has its run_id."""

    @classmethod
    def from_head_only(cls, head: dict[str, Any]) -> Self:
        """Return a run without a body: it is asked only what heads say, and never returned to users."""

    @property
    def untouched_source(self) -> Source | None:
        """Return the source of a run that nobody has looked at or changed."""

    @property
    def has_pending_body(self) -> bool:
        """Return whether the body was never decoded, and is unchanged therefore."""

    @property
    def is_unreadable(self) -> bool:
        """Return whether only its run_id could be read, and nothing was assigned."""

    @classmethod
    def pending_all(cls, sources: Sequence[Source]) -> Sequence[Self]:
        """Return a run of each source."""

    def head_dict(self) -> dict[str, Any]:
        """Return the light part; at least run_id, created_at, user_id, workflow_id, session_id."""

    def body_dict(self) -> dict[str, Any]:
        """Return the heavy part."""


class Adapter(Protocol):
    """The classes of sessions and runs that a cache takes and returns."""

    names: Collection[str]
    """The fields of a session. Stored fields of other names, of a newer version, stay as they are."""
    session_class: Any
    """Called with the fields of a session by name, and its `runs`, a list; or its `pending` with the fields,
    and a function that makes the runs when they are first asked for."""
    run_class: type[Run]

    def to_dict(self, session: Any) -> dict[str, Any]:
        """Return the fields of a session, without its runs."""

    def runs(self, session: Any) -> Sequence[Any]:
        """Return the runs of a session, oldest first."""

    def refill(self, session: Any, other: Any) -> None:
        """Give a session object the fields and runs of another, in place."""


class WorkflowAdapter:
    """The documented classes: WorkflowSession and WorkflowRunOutput."""

    names: Collection[str] = frozenset(item.name for item in dataclasses.fields(WorkflowSession)) - {"runs"}
    session_class: Any = WorkflowSession
    run_class: type[Run] = WorkflowRunOutput

    def to_dict(self, session: Any) -> dict[str, Any]:
        """Return the fields of a session, without its runs."""
        if not isinstance(session, WorkflowSession):
            raise InvalidArgumentError(f"session must be a WorkflowSession, not {type(session).__name__}")
        fields = session.to_dict(include_runs=False)
        del fields["runs"]
        for name in ("session_data", "workflow_data", "metadata"):
            if not isinstance(fields[name], dict | None):
                raise InvalidArgumentError(f"session.{name} must be a dict or None")
        return fields

    def runs(self, session: WorkflowSession) -> Sequence[Any]:
        """Return the runs of a session, oldest first."""
        if not isinstance(session.runs, list | tuple | None):
            raise InvalidArgumentError(f"session.runs must be a list, not {type(session.runs).__name__}")
        return session.runs or ()

    def refill(self, session: WorkflowSession, other: WorkflowSession) -> None:
        """Give a session object the fields and runs of another; its list of runs stays the same list."""
        kept = session.runs  # made now, if they are pending
        vars(session).update(vars(other))
        if isinstance(kept, list):
            kept[:] = session.runs
            session.runs = kept


WORKFLOWS: Final[Adapter] = WorkflowAdapter()
