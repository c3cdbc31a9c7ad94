"""Runs as members of a sorted set, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import time
from typing import Any, Final, NamedTuple
from zlib import crc32

from sessioncache.errors import DamagedRunError, InvalidArgumentError, RunTooLargeError
from sessioncache.models import RunStatus
from sessioncache.models.record import write_enum
from sessioncache.validation import MAX_ID_BYTES, encoded_id, optional_id, unix_seconds

from . import codec
from .adapters import Adapter
from .session_hash import Fields
from .system_messages import system_marks

MEMBERS_PER_RUN: Final = 3

_STATUSES: Final = frozenset(status.value for status in RunStatus)

LoadBody = Callable[[], dict[str, Any]]

MAX_ATTEMPT: Final = 2**53
"""Attempts are compared as doubles, in the scripts."""


class StoredRun(NamedTuple):
    """The two members that hold a run, as they are in the sorted set; its place in it, and whose it is."""

    head: bytes
    body: bytes
    order: bytes
    """Empty if it is not known."""
    session_id: str

    @property
    def version(self) -> bytes:
        """Return as of which write of its session the run is what it is; raise ValueError for no head."""
        return _split_head(self.head)[1]

    @property
    def run_id(self) -> str:
        """Return its id; of a head that does not decode, that of the body, or a stand-in."""
        try:
            run_id: str = _read_head(self.head)["run_id"]
        except ValueError:
            return self._other_id()
        return run_id

    def read(self) -> tuple[dict[str, Any], LoadBody]:
        """Return the decoded head and a function that decodes the body; raise DamagedRunError."""
        try:
            head = _read_head(self.head)
        except ValueError as exc:
            raise self._damaged(self._other_id(), "its head does not decode") from exc
        return head, partial(self._read_body, head["run_id"])

    def _read_body(self, run_id: str) -> dict[str, Any]:
        try:
            owner, body = codec.unpack_pair(self.body[1:])
        except ValueError as exc:
            raise self._damaged(run_id, "its body does not decode") from exc
        if self.body[:1] != b"b" or owner != run_id:
            raise self._damaged(run_id, "its body belongs to another run")
        return body

    def _other_id(self) -> str:
        try:
            run_id, _ = codec.unpack_pair(self.body[1:])
            encoded_id(run_id, "run_id")
        except ValueError:
            return f"(unreadable {crc32(self.head):08x})"
        return run_id

    def _damaged(self, run_id: str, what: str) -> DamagedRunError:
        message = f"run {run_id!r} of session {self.session_id!r}: {what}"
        return DamagedRunError(message, session_id=self.session_id, run_id=run_id)


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

    def stored(self, version: int, session_id: str) -> StoredRun:
        """Return the members that a write of this version stores."""
        return StoredRun(b"h%b:%d:%b" % (self.attempt, version, self.head), self.body, b"", session_id)

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
    return b"=" if stored is None else b"=" + stored.version


def is_unchanged(adapter: Adapter, run: Any, loaded: StoredRun) -> bool:
    """Return whether a run is what it was loaded as; if its body was never decoded, by its head alone."""
    if run.is_unreadable:
        return True
    attempt, _, packed_head = _split_head(loaded.head)
    packed_head = codec.inner(packed_head)
    if run.has_pending_body:
        head = _pack_head(run)
        return head == (attempt, packed_head) or head == _pack_head(read_run(adapter, loaded))
    content = pack_run(adapter, run).content
    if content == (attempt, packed_head, b"b" + codec.inner(loaded.body[1:])):
        return True
    return content == _content_as_packed_here(adapter, loaded)


def _pack_head(run: Any) -> tuple[bytes, bytes]:
    head = run.head_dict()
    return _attempt(head.pop("queue_attempt", None)), codec.pack(head, "run")


def _content_as_packed_here(adapter: Adapter, loaded: StoredRun) -> tuple[bytes, bytes, bytes] | None:
    """Return a run that another version may have written, loaded and packed again by this one."""
    try:
        return pack_run(adapter, read_run(adapter, loaded)).content
    except DamagedRunError:
        return None


def _attempt(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ATTEMPT:
        raise InvalidArgumentError("run.queue_attempt must be a whole number from 0")
    return b"%d" % value


def read_run(adapter: Adapter, stored: StoredRun) -> Any:
    """Return the run of two members, not decoded yet: using a damaged part raises DamagedRunError."""
    return adapter.run_class.pending(stored)


def read_runs(adapter: Adapter, stored: Sequence[StoredRun]) -> Sequence[Any]:
    """Return runs, each as `read_run` does."""
    return adapter.run_class.pending_all(stored)


def read_heads(adapter: Adapter, stored: Sequence[StoredRun]) -> Sequence[Any]:
    """Return runs of their heads alone, without bodies."""
    return [_read_head_run(adapter, each) for each in stored]


def _read_head_run(adapter: Adapter, stored: StoredRun) -> Any:
    try:
        head = _read_head(stored.head)
    except ValueError:
        return read_run(adapter, stored)
    return adapter.run_class.from_head_only(head)


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
