"""agno's runs as this library stores them, and back.

A run is what its `to_dict()` returns, split into a head and a body; the head also has what agno's databases
keep in columns. It passes through agno's own JSON encoder first, as sessions do, so that what is loaded is
what agno's other databases load.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Self, cast

from agno.db.utils import HISTORY_SKIP_STATUSES, CustomJSONEncoder, deserialize_run, get_run_type

from sessioncache.errors import DamagedRunError, InvalidArgumentError, UnserializableError
from sessioncache.models import WorkflowRunOutput
from sessioncache.models.lazy import LoadBody, Source

from .ids import as_id, with_ids

_ROW: Final = "row"
"""The entry of a head that holds what agno keeps of a run in columns and nowhere else."""

_OF_THE_ROW: Final = frozenset({"session_id", "user_id"})
"""Fields of a head that say whose the stored run is; what the run itself says of it is in the body."""

_IN_HEAD: Final = (WorkflowRunOutput.HEAD_FIELDS | {"agent_id", "team_id"}) - _OF_THE_ROW


def plain(value: Any, path: str) -> Any:
    """Return a value as it is after agno has stored it as JSON; raise UnserializableError if it cannot."""
    try:
        return json.loads(json.dumps(value, cls=CustomJSONEncoder))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UnserializableError(f"{path} cannot be stored: {exc}") from exc


class RunRecord:
    """One run: the head at hand, the body loaded on first use."""

    def __init__(self, head: dict[str, Any], load_body: LoadBody) -> None:
        self.head = head
        self._load_body = load_body

    @classmethod
    def pending(cls, source: Source) -> Self:
        """Return a run that reads its source when it is first looked at."""
        record = cls.__new__(cls)
        vars(record)["_source"] = source
        return record

    @classmethod
    def pending_all(cls, sources: Sequence[Source]) -> list[Self]:
        """Return a run of each source."""
        return [*map(cls.pending, sources)]

    _source: Source | None = None

    @cached_property
    def head(self) -> dict[str, Any]:
        """The light part; of a head that does not decode there is the run_id."""
        source = cast("Source", self._source)
        try:
            head, self._load_body = source.read()
        except DamagedRunError as exc:
            self._load_body = cast("LoadBody", source.read)
            return {"run_id": exc.run_id}
        return dict(head)

    @property
    def untouched_source(self) -> Source | None:
        """Return None: runs of agno are saved one by one, whoever has looked at them."""
        return None

    @property
    def is_unreadable(self) -> bool:
        """Return whether only the run_id could be read."""
        return self.head.keys() == {"run_id"}

    @classmethod
    def of(
        cls, run: Any, session_id: str, *, user_id: str | None = None, run_index: int | None = None
    ) -> Self:
        """Return the record of a run of agno, or of its dict; raise InvalidArgumentError without run_id."""
        data = plain(run if isinstance(run, dict) else run.to_dict(), "run")
        if not isinstance(data, dict) or data.get("run_id") is None:
            raise InvalidArgumentError("run must have a run_id")
        data = with_ids(data)
        now = int(time.time())
        head = {name: value for name, value in data.items() if name in _IN_HEAD}
        head["session_id"] = session_id
        head["user_id"] = (data.get("user_id") if user_id is None else user_id) or None
        head["created_at"] = data.get("created_at") or now
        head[_ROW] = {
            "run_type": get_run_type(run),
            "run_index": data.get("run_index") if run_index is None else run_index,
            "updated_at": now,
            "undated": "created_at" not in data,
        }
        body = {name: value for name, value in data.items() if name not in _IN_HEAD}
        return cls(head, lambda: body)

    @classmethod
    def of_row(cls, row: Mapping[str, Any], session_id: str, user_id: str | None) -> Self:
        """Return the record of a run that a database of agno gave as a row, or as `run_data` alone."""
        run = row["run_data"]
        user_id = as_id(row.get("user_id", user_id)) or None
        record = cls.of(run, session_id, user_id=user_id, run_index=row.get("run_index"))
        record.head["user_id"] = user_id
        if not run.get("created_at") and row.get("created_at"):
            record.head["created_at"] = row["created_at"]
        record.head[_ROW] |= {name: row[name] for name in ("run_type", "updated_at") if row.get(name)}
        return record

    @classmethod
    def from_head_only(cls, head: dict[str, Any]) -> Self:
        """Return a run without a body."""
        return cls(head, dict)

    @property
    def run_id(self) -> Any:
        """Return the id of the run, which is unique in its session."""
        return self.head.get("run_id")

    @property
    def has_pending_body(self) -> bool:
        """Return False: a run of agno is never compared with the stored one, so nobody has to know."""
        return False

    def head_dict(self) -> dict[str, Any]:
        """Return the light part."""
        return dict(self.head)

    def body_dict(self) -> dict[str, Any]:
        """Return the heavy part."""
        return self.body

    @cached_property
    def body(self) -> dict[str, Any]:
        """Return what is not in the head; raise DamagedRunError if it does not decode."""
        _ = self.head
        return dict(self._load_body())

    @property
    def is_context(self) -> bool:
        """Return whether the run counts as history: no run of a member, and none that went wrong."""
        from_member = self.head.get("parent_run_id") is not None
        return not from_member and self.head.get("status") not in HISTORY_SKIP_STATUSES

    def is_of(self, user_id: str | None) -> bool:
        """Return whether a user may change the run: it is this user's, or nobody's."""
        return self.head.get("user_id") in (None, user_id)

    def data(self) -> dict[str, Any]:
        """Return the run as its `to_dict()` did, anew each time, for agno takes such dicts apart."""
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
        """Return the run as cancelled, its content the reason if it has none."""
        head = self.head | {"status": "CANCELLED", "content": self.head.get("content") or reason}
        return RunRecord(head, lambda: self.body)

    def updated(self, changes: dict[str, Any]) -> RunRecord:
        """Return the run with some of its data changed; whose it is, its type and its index stay."""
        data = self.data() | changes | {"run_id": self.run_id}
        record = RunRecord.of(data, "")
        row = self.head.get(_ROW, {})
        kept = {name: row[name] for name in ("run_type", "run_index") if name in row}
        record.head |= {name: self.head.get(name) for name in _OF_THE_ROW} | {_ROW: record.head[_ROW] | kept}
        if data.get("created_at") is None:
            record.head["created_at"] = self.head.get("created_at")
        return record

    def deserialized(self) -> Any:
        """Return the run as an object of agno's class."""
        row = self.row()
        return deserialize_run(row["run_type"], row["run_data"])
