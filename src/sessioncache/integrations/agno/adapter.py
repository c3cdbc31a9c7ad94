"""agno's sessions as this library stores them, and back: what `to_dict()` returns, and the `session_type`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from agno.db.base import SessionType
from agno.db.utils import deserialize_session, detect_session_type
from agno.session import AgentSession, TeamSession, WorkflowSession

from sessioncache.errors import InvalidArgumentError
from sessioncache.storage import codec
from sessioncache.storage.adapters import Adapter, Run
from sessioncache.storage.scripts import NOBODY
from sessioncache.storage.session_hash import STATE
from sessioncache.storage.snapshot import SNAPSHOT, snapshot_of

from .ids import as_id, with_ids
from .run_record import RunRecord, plain

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
"""Hash fields that are no fields of a session's class, and yet belong to every class."""

_TYPES: Final = (
    (AgentSession, SessionType.AGENT),
    (TeamSession, SessionType.TEAM),
    (WorkflowSession, SessionType.WORKFLOW),
)


class SessionRecord:
    """A session between agno's objects and Redis; it carries the snapshot of what is stored."""

    def __init__(self, *, runs: list[RunRecord], **fields: Any) -> None:
        self.fields = fields
        self.runs = runs

    @cached_property
    def runs(self) -> list[RunRecord]:
        """The runs, made now if they were not given."""
        return self._make_runs()

    @classmethod
    def pending(cls, make_runs: Callable[[], list[RunRecord]], **fields: Any) -> SessionRecord:
        """Return the record of a session whose runs are made when they are first asked for."""
        record = cls(**fields, runs=[])
        del record.runs
        record._make_runs = make_runs
        return record

    _make_runs: Callable[[], list[RunRecord]] = list

    @classmethod
    def of(cls, session: Any) -> SessionRecord:
        """Return the record of one of agno's session objects, less its runs: agno saves them one by one."""
        session_type = next((kind.value for known, kind in _TYPES if isinstance(session, known)), None)
        if session_type is None:
            raise InvalidArgumentError(f"session must be a session of agno, not {type(session).__name__}")
        fields = with_ids(plain(session.to_dict(include_runs=False), "session"))
        fields |= {"session_type": session_type, "user_id": fields.get("user_id") or None}
        fields.pop("runs", None)
        loaded = snapshot_of(session)
        if loaded is not None and (stored_type := loaded.fields.get(b"session_type")) is not None:
            fields["session_type"] = codec.unpack(stored_type)
        record = cls(**fields, runs=[])
        if loaded is not None:
            vars(record)[SNAPSHOT] = loaded
        elif record.fields.get("created_at") is None:
            record.fields["created_at"] = int(time.time())
        return record

    @classmethod
    def of_row(cls, row: Mapping[str, Any], run_rows: Iterable[Mapping[str, Any]]) -> SessionRecord:
        """Return the record of a session, and of its runs, that a database of agno gave as dicts."""
        user_id = as_id(row.get("user_id")) or None
        fields = {name: value for name, value in row.items() if name in {*_COLUMNS, "workflow_name"}}
        fields |= {"session_type": detect_session_type(dict(row)), "user_id": user_id}
        fields = with_ids(plain(fields, "session"))
        runs = [RunRecord.of_row(run, fields["session_id"], user_id) for run in run_rows]
        return cls(**fields, runs=runs)

    def add_runs(self, session: Any) -> None:
        """Give the record those runs of one of agno's session objects that can be stored."""
        runs = [run if isinstance(run, dict) else run.to_dict() for run in session.runs or ()]
        self.runs = [RunRecord.of(run, self.session_id) for run in runs if run.get("run_id")]

    @property
    def session_id(self) -> str:
        """Return the session's id."""
        session_id: str = self.fields["session_id"]
        return session_id

    @property
    def user_id(self) -> str:
        """Return whose session it is: NOBODY if it has none."""
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
        self.copy_snapshot_to(session)
        return session

    def copy_snapshot_to(self, session: Any) -> None:
        """Let an object of agno's be saved as what this record was loaded or saved as.

        Fields unknown to the object's class are dropped from the snapshot, so that saving does not delete
        them; so are the runs, which are saved one by one.
        """
        loaded = snapshot_of(self)
        if loaded is not None:
            known = {item.name.encode() for item in dataclasses.fields(session)} | _ALWAYS_KNOWN
            fields = {n: value for n, value in loaded.fields.items() if n.partition(b".")[0] in known}
            vars(session)[SNAPSHOT] = dataclasses.replace(loaded, stored_fields=fields, stored=())


class AgnoAdapter:
    """The classes of a cache for agno: SessionRecord and RunRecord."""

    names: Collection[str] = frozenset({*_COLUMNS, "workflow_name"})
    session_class: Any = SessionRecord
    run_class: type[Run] = RunRecord

    def to_dict(self, session: SessionRecord) -> dict[str, Any]:
        """Return the fields of a session, without its runs."""
        return session.fields

    def runs(self, session: SessionRecord) -> Sequence[RunRecord]:
        """Return the runs of a session that are to be saved with it."""
        return session.runs

    def refill(self, session: SessionRecord, other: SessionRecord) -> None:
        """Give a session the fields and runs of another, in place."""
        session.fields, session.runs = other.fields, other.runs


AGNO: Final[Adapter] = AgnoAdapter()
