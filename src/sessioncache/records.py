"""Runs as members of a sorted set, and back; and what a session object was like when it was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any, Final, NamedTuple
from zlib import crc32

from . import codec
from .errors import DamagedRunError, InvalidArgumentError, RunTooLargeError
from .fields import CONTROL_FIELDS, Fields, unix_seconds
from .keys import MAX_ID_BYTES, encoded_id
from .kinds import Model
from .models import RunStatus
from .models.record import write_enum

UNLIMITED: Final = 2**63
"""No limit, where a run is packed only to be compared."""

_STATUSES: Final = frozenset(status.value for status in RunStatus)

_YES: Final = codec.pack(True, "True")

MAX_ATTEMPT: Final = 2**53
"""Attempts are compared as doubles, in the scripts."""


class StoredRun(NamedTuple):
    """The two members that hold a run, as they are in the sorted set."""

    head: bytes
    body: bytes


class PackedRun(NamedTuple):
    """A run about to be written: what the scripts take of it."""

    run_id: str
    created_at: int
    attempt: bytes
    head: bytes
    body: bytes
    user_id: str | None
    workflow_id: str | None
    session_id: Any
    marks: Fields
    """Fields of the session's hash that say who has a message of the system."""

    def stored(self, version: int) -> StoredRun:
        """Return the members that the write of this version makes of it."""
        return StoredRun(b"h%b:%d:%b" % (self.attempt, version, self.head), self.body)

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        """Return all of it that is compared to tell whether a run has changed."""
        return self.attempt, self.head, self.body

    def arguments(self, only_if_stored: bool) -> tuple[bytes, ...]:
        """Return the six arguments that scripts take for a run."""
        flag = b"1" if only_if_stored else b""
        run_id, created_at = self.run_id.encode(), b"%d" % self.created_at
        return run_id, created_at, self.attempt, flag, self.head, self.body

    @property
    def size(self) -> int:
        """Return its size in bytes."""
        return len(self.head) + len(self.body)


def pack_run(model: Model, run: Any, max_bytes: int) -> PackedRun:
    """Check and pack a run; whatever is wrong with it raises before anything is sent."""
    run_id = model.run_id(run)
    try:
        packed = _pack(model, run, run_id)
    except InvalidArgumentError as exc:
        exc.run_id = run_id
        raise
    if packed.size > max_bytes:
        raise RunTooLargeError(
            f"run {run_id!r} has {packed.size} bytes packed; max_run_bytes is {max_bytes}",
            run_id=run_id,
            size=packed.size,
            limit=max_bytes,
        )
    return packed


def _pack(model: Model, run: Any, run_id: str) -> PackedRun:
    head, body = model.head(run), model.body(run)
    created_at = head.get("created_at")
    return PackedRun(
        run_id,
        unix_seconds(time() if created_at is None else created_at, "run.created_at"),
        _attempt(head.pop("queue_attempt", None)),
        codec.pack(head, "run"),
        b"b" + codec.pack_pair(run_id, body, "run"),
        _optional_id(head.get("user_id"), "run.user_id"),
        _optional_id(head.get("workflow_id"), "run.workflow_id"),
        head.get("session_id"),
        _marks(body),
    )


SYSTEM_MESSAGES: Final = b"system_messages"
"""The field of a session whose writers have all said, from its birth on, who has a message of the system."""


def system_mark(kind: str, executor_id: Any) -> bytes:
    """Return the field that says that an agent or a team (`kind`) has a message of the system in some run."""
    return b"%b.%b:%b" % (SYSTEM_MESSAGES, kind.encode(), str(executor_id).encode(errors="replace"))


def _marks(body: Mapping[str, Any]) -> Fields:
    return {
        system_mark(kind, executor[f"{kind}_id"]): _YES
        for executor in _dicts(body.get("step_executor_runs"))
        if any(message.get("role") == "system" for message in _dicts(executor.get("messages")))
        for kind in ("agent", "team")
        if executor.get(f"{kind}_id") is not None
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def marks_of(runs: Iterable[PackedRun]) -> Fields:
    """Return the marks of several runs."""
    return {name: value for run in runs for name, value in run.marks.items()}


def is_unchanged(model: Model, session_id: str, run: Any, loaded: StoredRun) -> bool:
    """Tell whether a run is still what it was loaded as; one whose body is packed costs its head alone."""
    if model.is_unreadable(run):
        return True
    attempt, _, packed_head = _split_head(loaded.head)
    if model.has_pending_body(run):
        head = _pack_head(model, run)
        return head == (attempt, packed_head) or head == _pack_head(
            model, read_run(model, session_id, loaded)
        )
    content = pack_run(model, run, UNLIMITED).content
    if content == (attempt, packed_head, loaded.body):
        return True
    return content == _content_as_packed_here(model, session_id, loaded)


def _pack_head(model: Model, run: Any) -> tuple[bytes, bytes]:
    head = model.head(run)
    return _attempt(head.pop("queue_attempt", None)), codec.pack(head, "run")


def _content_as_packed_here(
    model: Model, session_id: str, loaded: StoredRun
) -> tuple[bytes, bytes, bytes] | None:
    """Return what this version makes of a run that another may have written, loaded and packed again."""
    try:
        return pack_run(model, read_run(model, session_id, loaded), UNLIMITED).content
    except DamagedRunError:
        return None


def _attempt(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ATTEMPT:
        raise InvalidArgumentError("run.queue_attempt must be a whole number from 0")
    return b"%d" % value


def _optional_id(value: Any, name: str) -> str | None:
    return None if value is None else encoded_id(value, name).decode()


def read_run(model: Model, session_id: str, stored: StoredRun) -> Any:
    """Build the run that two members hold; what does not decode of it raises where it is touched."""
    try:
        head = _read_head(stored.head)
    except ValueError:
        return _unreadable(model, session_id, stored)
    return model.run(head, partial(_load_body, session_id, head["run_id"], stored.body))


def read_head(model: Model, session_id: str, member: bytes) -> Any:
    """Build a run of its head alone, for questions that heads answer."""
    try:
        head = _read_head(member)
    except ValueError:
        return _unreadable(model, session_id, StoredRun(member, b""))
    return model.head_view(head)


def run_id_of_head(member: bytes) -> str | None:
    """Return the run_id that a head member holds, None where it does not decode."""
    try:
        run_id: str = _read_head(member)["run_id"]
    except ValueError:
        return None
    return run_id


def _read_head(member: bytes) -> dict[str, Any]:
    attempt, _, packed = _split_head(member)
    head = codec.unpack_dict(packed)
    run_id, status = head.get("run_id"), head.get("status")
    if type(run_id) is not str or not (run_id.isascii() and 0 < len(run_id) <= MAX_ID_BYTES):
        encoded_id(run_id, "run_id")
    if attempt:
        head["queue_attempt"] = int(attempt)
    if isinstance(status, str) and status not in _STATUSES:
        head["status"] = write_enum(RunStatus.parse(status))
    return head


def _split_head(member: bytes) -> tuple[bytes, bytes, bytes]:
    """Return attempt, version and packed head of a head member; raise ValueError for any other."""
    kind, version, packed = member.split(b":", 2)
    if kind[:1] != b"h":
        raise ValueError("no head")
    return kind[1:], version, packed


def _load_body(session_id: str, run_id: str, member: bytes) -> dict[str, Any]:
    try:
        owner, body = codec.unpack_pair(member[1:])
    except ValueError as exc:
        raise _damaged(session_id, run_id, "its body does not decode") from exc
    if member[:1] != b"b" or owner != run_id:
        raise _damaged(session_id, run_id, "its body belongs to another run")
    return body


def _damaged(session_id: str, run_id: str, what: str) -> DamagedRunError:
    return DamagedRunError(
        f"run {run_id!r} of session {session_id!r}: {what}", session_id=session_id, run_id=run_id
    )


def _unreadable(model: Model, session_id: str, stored: StoredRun) -> Any:
    try:
        run_id, _ = codec.unpack_pair(stored.body[1:])
        encoded_id(run_id, "run_id")
    except ValueError:
        run_id = f"(unreadable {crc32(stored.head):08x})"

    def fail() -> dict[str, Any]:
        raise _damaged(session_id, run_id, "its head does not decode")

    return model.unreadable_run(run_id, fail)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a session object was loaded with or last saved as: its changes are measured against this."""

    rev: int
    born: bytes
    fields: Fields = field(repr=False)
    runs: dict[str, StoredRun] = field(repr=False)
    limit: int | None = None
    """How many of the newest runs were loaded, None for all."""


def origin_from(fields: Fields, runs: dict[str, StoredRun], limit: int | None) -> Origin:
    """Return the origin of a session that was read with these hash fields and runs."""
    own = {name: value for name, value in fields.items() if name not in CONTROL_FIELDS}
    return Origin(int(fields[b"rev"]), fields[b"born"], own, runs, limit)


_ORIGIN: Final = "_origin"


def origin_of(session: Any) -> Origin | None:
    """Return what a session object was loaded with or last saved as, None for one made new."""
    origin: Origin | None = vars(session).get(_ORIGIN)
    return origin


def set_origin(session: Any, origin: Origin) -> None:
    """Remember what a session object is like in Redis."""
    vars(session)[_ORIGIN] = origin
