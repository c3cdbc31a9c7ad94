"""agno's sessions as records, and back.

A session's record is what its `to_dict()` says, without runs, and its `session_type`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agno.db.base import SessionType
from agno.db.utils import deserialize_session, detect_session_type
from agno.session import AgentSession, TeamSession, WorkflowSession

from sessioncache.errors import InvalidArgumentError
from sessioncache.fields import STATE
from sessioncache.kinds import LoadBody
from sessioncache.records import origin_of, set_origin

from .run_record import RunRecord, plain

NOBODY: Final = ""
"""The user of a session without one: writing it is refused where the stored session has an owner."""

_COLUMNS: Final = (
    "session_id",
    "session_type",
    "agent_id",
    "team_id",
    "workflow_id",
    "user_id",
    "session_data",
    "agent_data",
    "team_data",
    "workflow_data",
    "metadata",
    "summary",
    "created_at",
    "updated_at",
)
"""What a session is as a dict, as agno's own databases give it."""

_ALWAYS_KNOWN: Final = frozenset({b"session_type", STATE.encode()})
"""Hash fields that stand for no field of a session's class, and are every class's all the same."""

_TYPES: Final = (
    (AgentSession, SessionType.AGENT),
    (TeamSession, SessionType.TEAM),
    (WorkflowSession, SessionType.WORKFLOW),
)


@dataclass
class SessionRecord:
    """A session between agno's objects and Redis; what is stored as of when is kept with it (its origin)."""

    fields: dict[str, Any]
    runs: list[RunRecord] = field(default_factory=list)

    @classmethod
    def of(cls, session: Any) -> SessionRecord:
        """Return the record of one of agno's session objects, less its runs: agno saves them one by one."""
        session_type = next((kind.value for known, kind in _TYPES if isinstance(session, known)), None)
        if session_type is None:
            raise InvalidArgumentError(f"session must be a session of agno, not {type(session).__name__}")
        record = cls(plain(session.to_dict(include_runs=False), "session") | {"session_type": session_type})
        if (origin := origin_of(session)) is not None:
            set_origin(record, origin)
        elif record.fields.get("created_at") is None:
            record.fields["created_at"] = int(time.time())
        return record

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> SessionRecord:
        """Return the record of a session that a database of agno gave as a dict, its runs included."""
        fields = {name: value for name, value in row.items() if name in {*_COLUMNS, "workflow_name"}}
        fields = plain(fields, "session") | {"session_type": detect_session_type(dict(row))}
        runs = [run for run in row.get("runs") or () if isinstance(run, dict) and run.get("run_id")]
        return cls(
            fields, [RunRecord.of(run, fields["session_id"], user_id=row.get("user_id")) for run in runs]
        )

    @property
    def session_id(self) -> str:
        """Return the session's id."""
        session_id: str = self.fields["session_id"]
        return session_id

    @property
    def user_id(self) -> str:
        """Return whose session it is: NOBODY's where it has no user."""
        return self.fields.get("user_id") or NOBODY

    @property
    def workflow_id(self) -> str | None:
        """Return the workflow it belongs to."""
        return self.fields.get("workflow_id")

    @property
    def updated_at(self) -> int | None:
        """Return when it was last written."""
        return self.fields.get("updated_at")

    @updated_at.setter
    def updated_at(self, seconds: int) -> None:
        self.fields["updated_at"] = seconds

    def context_runs(self, limit: int) -> list[RunRecord]:
        """Return the newest of those runs that count as history; all for a negative limit, as in SQL."""
        runs = [run for run in self.runs if run.is_context]
        return runs if limit < 0 else runs[len(runs) - min(limit, len(runs)) :]

    def row(self, *, with_runs: bool = True) -> dict[str, Any]:
        """Return the session as a dict, as agno's databases do, and with the `workflow_name` they lose."""
        row = {name: self.fields.get(name) for name in _COLUMNS}
        if self.fields.get("workflow_name") is not None:
            row["workflow_name"] = self.fields["workflow_name"]
        row["runs"] = [run.data() for run in self.runs] if with_runs else None
        return row

    def deserialized(self, session_type: SessionType | None, *, with_runs: bool = True) -> Any:
        """Return the session as an object of agno's class: of the type asked for, else of its own."""
        session = deserialize_session(session_type, self.row(with_runs=with_runs))
        self.lend_origin(session)
        return session

    def lend_origin(self, session: Any) -> None:
        """Let an object of agno's be saved as what this record was loaded or saved as.

        What its class knows nothing of is not its to remove, and runs are saved one by one.
        """
        origin = origin_of(self)
        if origin is not None:
            known = {item.name.encode() for item in dataclasses.fields(session)} | _ALWAYS_KNOWN
            fields = {n: value for n, value in origin.fields.items() if n.partition(b".")[0] in known}
            set_origin(session, dataclasses.replace(origin, fields=fields, runs={}))


class RecordModel:
    """The model of a cache for agno: `SessionRecord` and `RunRecord`."""

    names: Collection[str] = frozenset({*_COLUMNS, "workflow_name"})

    def fields(self, session: SessionRecord) -> dict[str, Any]:
        """Return the record of a session, without its runs."""
        return session.fields

    def runs(self, session: SessionRecord) -> Sequence[RunRecord]:
        """Return the runs of a session that are to be saved with it."""
        return session.runs

    def session(self, fields: dict[str, Any], runs: list[RunRecord]) -> SessionRecord:
        """Build a session."""
        return SessionRecord(fields, runs)

    def refill(self, session: SessionRecord, fields: dict[str, Any], runs: list[RunRecord]) -> None:
        """Give a session other fields and runs, in place."""
        session.fields, session.runs = fields, runs

    def run_id(self, run: RunRecord) -> str:
        """Return the id of a run; raise InvalidArgumentError where it has none."""
        return run.run_id

    def head(self, run: RunRecord) -> dict[str, Any]:
        """Return the light part of a run's record."""
        return dict(run.head)

    def body(self, run: RunRecord) -> dict[str, Any]:
        """Return the heavy part of a run's record."""
        return run.body

    def has_pending_body(self, run: RunRecord) -> bool:
        """Tell whether a run has not decoded its body: it is never compared, so never asked."""
        return False

    def is_unreadable(self, run: RunRecord) -> bool:
        """Tell whether a run was built by `unreadable_run`."""
        return run.is_unreadable

    def head_view(self, head: dict[str, Any]) -> RunRecord:
        """Build a run of a head alone, to be asked what heads answer."""
        return self.run(head, dict)

    def run(self, head: dict[str, Any], load_body: LoadBody) -> RunRecord:
        """Build a run, its body to be loaded on first use."""
        return RunRecord(head, load_body)

    def unreadable_run(self, run_id: str, fail: LoadBody) -> RunRecord:
        """Build a run that calls `fail` whenever more than its run_id is looked at."""
        return RunRecord({"run_id": run_id}, fail, is_unreadable=True)
