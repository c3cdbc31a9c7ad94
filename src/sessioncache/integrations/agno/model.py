"""agno's sessions and runs as records, and back.

A session's record is what its `to_dict()` says, without runs, and its `session_type`. A run's is what its
`to_dict()` says, split into a head and a body; the head has, besides, what agno keeps in columns of a table.
Both pass through agno's own JSON encoder first, so that what is loaded is what agno's other databases load.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from agno.db.base import SessionType
from agno.db.utils import (
    HISTORY_SKIP_STATUSES,
    CustomJSONEncoder,
    deserialize_run,
    deserialize_session,
    detect_session_type,
    get_run_type,
)
from agno.session import AgentSession, TeamSession, WorkflowSession

from sessioncache.errors import InvalidArgumentError, UnserializableError
from sessioncache.fields import STATE
from sessioncache.keys import encoded_id
from sessioncache.kinds import LoadBody
from sessioncache.models import WorkflowRunOutput
from sessioncache.records import origin_of, set_origin

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

_ROW: Final = "row"
"""The entry of a head that holds what agno keeps of a run in columns and nowhere else."""

_OF_THE_ROW: Final = frozenset({"session_id", "user_id"})
"""Fields of a head that say whose the stored run is; what the run itself says of it is in the body."""

_IN_HEAD: Final = (WorkflowRunOutput.HEAD_FIELDS | {"agent_id", "team_id"}) - _OF_THE_ROW

_TYPES: Final = (
    (AgentSession, SessionType.AGENT),
    (TeamSession, SessionType.TEAM),
    (WorkflowSession, SessionType.WORKFLOW),
)


def plain(value: Any, path: str) -> Any:
    """Return a value as it is after agno has stored it as JSON; raise UnserializableError where it cannot."""
    try:
        return json.loads(json.dumps(value, cls=CustomJSONEncoder))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnserializableError(f"{path} cannot be stored: {exc}") from exc


class RunRecord:
    """One run: the head at hand, the body loaded on first use."""

    def __init__(self, head: dict[str, Any], load_body: LoadBody, *, is_unreadable: bool = False) -> None:
        self.head = head
        self.is_unreadable = is_unreadable
        self._load_body = load_body

    @classmethod
    def of(
        cls, run: Any, session_id: str, *, user_id: str | None = None, run_index: int | None = None
    ) -> RunRecord:
        """Return the record of one of agno's runs, or of the dict of one; raise ValueError without run_id."""
        data = plain(run if isinstance(run, dict) else run.to_dict(), "run")
        if not isinstance(data, dict) or data.get("run_id") is None:
            raise InvalidArgumentError("run must have a run_id")
        now = int(time.time())
        head = {name: value for name, value in data.items() if name in _IN_HEAD}
        head["session_id"] = session_id
        head["user_id"] = data.get("user_id") if user_id is None else user_id
        head["created_at"] = data.get("created_at") or now
        head[_ROW] = {
            "run_type": get_run_type(run),
            "run_index": data.get("run_index") if run_index is None else run_index,
            "updated_at": now,
            "undated": "created_at" not in data,
        }
        body = {name: value for name, value in data.items() if name not in _IN_HEAD}
        return cls(head, lambda: body)

    @property
    def run_id(self) -> str:
        """Return the id of the run, which is unique in its session."""
        return encoded_id(self.head.get("run_id"), "run.run_id").decode()

    @cached_property
    def body(self) -> dict[str, Any]:
        """Return what is not in the head; raise DamagedRunError where it does not decode."""
        return dict(self._load_body())

    @property
    def is_context(self) -> bool:
        """Tell whether the run counts as history: no run of a member, and none that went wrong."""
        from_member = self.head.get("parent_run_id") is not None
        return not from_member and self.head.get("status") not in HISTORY_SKIP_STATUSES

    def data(self) -> dict[str, Any]:
        """Return the run as its `to_dict()` said, anew each time, for agno takes such dicts apart."""
        if self.is_unreadable:
            self._load_body()
        data = {name: value for name, value in self.head.items() if name in _IN_HEAD} | self.body
        if self.head.get(_ROW, {}).get("undated"):
            del data["created_at"]
        return data

    def row(self, position: int | None = None) -> dict[str, Any]:
        """Return the run as agno's databases do: columns, and `run_data`."""
        data = self.data()
        row = self.head.get(_ROW, {})
        index = row.get("run_index")
        return {
            "run_id": data["run_id"],
            "session_id": self.head.get("session_id"),
            "run_type": row.get("run_type") or get_run_type(data),
            "agent_id": data.get("agent_id"),
            "team_id": data.get("team_id"),
            "workflow_id": data.get("workflow_id"),
            "user_id": self.head.get("user_id"),
            "parent_run_id": data.get("parent_run_id"),
            "status": data.get("status"),
            "run_index": position if index is None else index,
            "run_data": data,
            "created_at": self.head.get("created_at"),
            "updated_at": row.get("updated_at") or self.head.get("created_at"),
        }

    def cancelled(self, reason: str) -> RunRecord:
        """Return the run as cancelled, its content the reason where it has none."""
        head = self.head | {"status": "CANCELLED", "content": self.head.get("content") or reason}
        return RunRecord(head, lambda: self.body)

    def deserialized(self) -> Any:
        """Return the run as an object of agno's class."""
        row = self.row()
        return deserialize_run(row["run_type"], row["run_data"])


@dataclass
class SessionRecord:
    """A session between agno's objects and Redis; what is stored as of when is kept with it (its origin)."""

    fields: dict[str, Any]
    runs: list[RunRecord] = field(default_factory=list)

    @classmethod
    def of(cls, session: Any) -> SessionRecord:
        """Return the record of one of agno's session objects, without its runs: agno saves those one by one."""
        session_type = next((kind.value for known, kind in _TYPES if isinstance(session, known)), None)
        if session_type is None:
            raise InvalidArgumentError(f"session must be a session of agno, not {type(session).__name__}")
        record = cls(
            plain(session.to_dict(include_runs=False), "session") | {"session_type": session_type}
        )
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

    def run(self, head: dict[str, Any], load_body: LoadBody) -> RunRecord:
        """Build a run, its body to be loaded on first use."""
        return RunRecord(head, load_body)

    def unreadable_run(self, run_id: str, fail: LoadBody) -> RunRecord:
        """Build a run that calls `fail` whenever more than its run_id is looked at."""
        return RunRecord({"run_id": run_id}, fail, is_unreadable=True)
