"""Runs as members of a sorted set, and back; and the slices of the set that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import time
from typing import Any, Final, NamedTuple
from zlib import crc32

from sessioncache.errors import DamagedRunError, InvalidArgumentError, RunTooLargeError
from sessioncache.models import RunStatus
from sessioncache.models.record import write_enum
from sessioncache.validation import MAX_ID_BYTES, MOST_RUNS, encoded_id, optional_id, unix_seconds

from . import codec
from .adapters import Adapter
from .session_hash import Fields
from .system_messages import system_marks

MEMBERS_PER_RUN: Final = 3

_STATUSES: Final = frozenset(status.value for status in RunStatus)

MAX_ATTEMPT: Final = 2**53
"""Attempts are compared as doubles, in the scripts."""


class StoredRun(NamedTuple):
    """The two members that hold a run, as they are in the sorted set."""

    head: bytes
    body: bytes


IS_GONE: Final = b"1"
IS_STORED: Final = b"0"


class PackedRun(NamedTuple):
    """A run about to be written: the parts that the scripts take."""

    run_id: str
    created_at: int
    attempt: bytes
    head: bytes
    body: bytes
    user_id: str | None
    workflow_id: str | None
    session_id: Any
    marks: Fields
    """Fields of the session's hash: which agents and teams have a system message in this run."""
    unless: bytes = b""
    """IS_GONE or IS_STORED, to skip the run then; what `is_not` returns, to write nothing at all then."""

    def stored(self, version: int) -> StoredRun:
        """Return the members that a write of this version stores."""
        return StoredRun(b"h%b:%d:%b" % (self.attempt, version, self.head), self.body)

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        """Return what is compared to find out whether a run has changed."""
        return self.attempt, self.head, self.body

    @property
    def size(self) -> int:
        """Return its size in bytes."""
        return len(self.head) + len(self.body)


def run_id_of(adapter: Adapter, run: Any) -> str:
    """Return the id of a run; raise InvalidArgumentError if it is no run, or has none."""
    if not isinstance(run, adapter.run_class):
        raise InvalidArgumentError(f"run must be a {adapter.run_class.__name__}, not {type(run).__name__}")
    return encoded_id(run.run_id, "run.run_id").decode()


def pack_run(adapter: Adapter, run: Any, max_bytes: int | None = None) -> PackedRun:
    """Check and pack a run; raise InvalidArgumentError for whatever is wrong with it."""
    run_id = run_id_of(adapter, run)
    try:
        packed = _pack(run, run_id)
    except InvalidArgumentError as exc:
        exc.run_id = run_id
        if isinstance(exc.__cause__, codec.TooLargeError):
            raise _too_large(run_id, exc.__cause__.size, codec.MAX_PACKED_BYTES) from exc
        raise
    if max_bytes is not None and packed.size > max_bytes:
        raise _too_large(run_id, packed.size, max_bytes)
    return packed


def _too_large(run_id: str, size: int, limit: int) -> RunTooLargeError:
    message = f"run {run_id!r} has {size} bytes packed, more than {limit} (max_run_bytes; at most 64 MiB)"
    return RunTooLargeError(message, run_id=run_id, size=size, limit=limit)


def _pack(run: Any, run_id: str) -> PackedRun:
    head, body = run.head_dict(), run.body_dict()
    created_at = head.get("created_at")
    return PackedRun(
        run_id,
        unix_seconds(time() if created_at is None else created_at, "run.created_at"),
        _attempt(head.pop("queue_attempt", None)),
        codec.pack(head, "run"),
        b"b" + codec.pack_pair(run_id, body, "run"),
        optional_id(head.get("user_id"), "run.user_id"),
        optional_id(head.get("workflow_id"), "run.workflow_id"),
        head.get("session_id"),
        system_marks(body),
    )


def is_not(stored: StoredRun | None) -> bytes:
    """Return the condition that a run is not stored as it was; None if it was not stored."""
    return b"=" if stored is None else b"=" + _split_head(stored.head)[1]


def is_unchanged(adapter: Adapter, session_id: str, run: Any, loaded: StoredRun) -> bool:
    """Return whether a run is what it was loaded as; if its body was never decoded, by its head alone."""
    if run.is_unreadable:
        return True
    attempt, _, packed_head = _split_head(loaded.head)
    if run.has_pending_body:
        head = _pack_head(run)
        return head == (attempt, packed_head) or head == _pack_head(read_run(adapter, session_id, loaded))
    content = pack_run(adapter, run).content
    if content == (attempt, packed_head, loaded.body):
        return True
    return content == _content_as_packed_here(adapter, session_id, loaded)


def _pack_head(run: Any) -> tuple[bytes, bytes]:
    head = run.head_dict()
    return _attempt(head.pop("queue_attempt", None)), codec.pack(head, "run")


def _content_as_packed_here(
    adapter: Adapter, session_id: str, loaded: StoredRun
) -> tuple[bytes, bytes, bytes] | None:
    """Return a run that another version may have written, loaded and packed again by this one."""
    try:
        return pack_run(adapter, read_run(adapter, session_id, loaded)).content
    except DamagedRunError:
        return None


def _attempt(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ATTEMPT:
        raise InvalidArgumentError("run.queue_attempt must be a whole number from 0")
    return b"%d" % value


def read_run(adapter: Adapter, session_id: str, stored: StoredRun) -> Any:
    """Return the run of two members; using a part that does not decode raises DamagedRunError."""
    try:
        head = _read_head(stored.head)
    except ValueError:
        return _unreadable(adapter, session_id, stored)
    return adapter.run_class.from_head(head, partial(_load_body, session_id, head["run_id"], stored.body))


def read_head(adapter: Adapter, session_id: str, member: bytes) -> Any:
    """Return a run of its head alone, without a body."""
    try:
        head = _read_head(member)
    except ValueError:
        return _unreadable(adapter, session_id, StoredRun(member, b""))
    return adapter.run_class.from_head_only(head)


def run_id_of_head(member: bytes) -> str | None:
    """Return the run_id that a head member holds, None if it does not decode."""
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


def _unreadable(adapter: Adapter, session_id: str, stored: StoredRun) -> Any:
    try:
        run_id, _ = codec.unpack_pair(stored.body[1:])
        encoded_id(run_id, "run_id")
    except ValueError:
        run_id = f"(unreadable {crc32(stored.head):08x})"

    def fail() -> dict[str, Any]:
        raise _damaged(session_id, run_id, "its head does not decode")

    return adapter.run_class.unreadable(run_id, fail)


class Slice(NamedTuple):
    """A part of the sorted set: the arguments of a ZRANGE after its key, and how many members it has."""

    arguments: tuple[bytes, ...]
    limit: int | None = None
    offset: int = 0
    width: int = 1
    """2 if each member comes with its score."""
    is_open: bool = False
    """Whether the number of members cannot be known beforehand."""

    def fits(self, count: int, members: Sequence[bytes]) -> bool:
        """Return whether the slice has as many members as it must if the session has so many runs."""
        left = max(0, count - self.offset)
        expected = left if self.limit is None else min(self.limit, left)
        return self.is_open or len(members) == self.width * expected

    def with_scores(self) -> Slice:
        """Return the same members, each with its score."""
        return self._replace(arguments=(*self.arguments, b"WITHSCORES"), width=2)


def _slice(start: bytes, stop: bytes, order: tuple[bytes, ...], limit: int | None, offset: int = 0) -> Slice:
    if limit is None and not offset:
        return Slice((start, stop, b"BYSCORE", *order))
    bounds = (b"LIMIT", b"%d" % offset, b"%d" % (MOST_RUNS if limit is None else limit))
    return Slice((start, stop, b"BYSCORE", *order, *bounds), limit, offset)


newest_heads = partial(_slice, b"+inf", b"1", (b"REV",))
"""Return the heads of the newest runs beyond an offset, newest first; of all for the limit None."""
newest_bodies = partial(_slice, b"-inf", b"-1", ())
"""Return the bodies of the newest runs, newest first."""
oldest_heads = partial(_slice, b"1", b"+inf", ())
"""Return the heads of the oldest runs, oldest first."""
oldest_bodies = partial(_slice, b"-1", b"-inf", (b"REV",))
"""Return the bodies of the oldest runs, oldest first."""


def body_at(order: bytes) -> Slice:
    """Return the body of the run of an order."""
    return Slice((b"-" + order, b"-" + order, b"BYSCORE"), is_open=True)


def heads_after(order: bytes, limit: int) -> Slice:
    """Return the heads, with their orders, of the runs after an order, oldest first."""
    bounds = (b"LIMIT", b"0", b"%d" % limit)
    return Slice((b"(" + order, b"+inf", b"BYSCORE", *bounds), is_open=True).with_scores()


def bodies_after(order: bytes, limit: int) -> Slice:
    """Return the bodies of the runs after an order, oldest first."""
    return Slice((b"(-" + order, b"-inf", b"BYSCORE", b"REV", b"LIMIT", b"0", b"%d" % limit), is_open=True)
