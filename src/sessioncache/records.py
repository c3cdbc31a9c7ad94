"""Runs as members of a sorted set, and back; and what a session object was like when it was loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any, Final, NamedTuple

from . import codec
from .errors import DamagedRunError, InvalidArgumentError, RunTooLargeError
from .fields import Fields, unix_seconds
from .keys import encoded_id
from .kinds import Model

UNLIMITED: Final = 2**63
"""No limit, where a run is packed only to be compared."""

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

    @property
    def stored(self) -> StoredRun:
        """Return the members it is going to be."""
        return StoredRun(_head_member(self.attempt, self.head), self.body)

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
    head = model.head(run)
    created_at = head.get("created_at")
    packed = PackedRun(
        run_id,
        unix_seconds(time() if created_at is None else created_at, "run.created_at"),
        _attempt(head.pop("queue_attempt", None)),
        codec.pack(head, "run"),
        b"b" + codec.pack_pair(run_id, model.body(run), "run"),
        _optional_id(head.get("user_id"), "run.user_id"),
        _optional_id(head.get("workflow_id"), "run.workflow_id"),
    )
    if packed.size > max_bytes:
        raise RunTooLargeError(f"run {run_id!r} has {packed.size} bytes packed; max_run_bytes is {max_bytes}")
    return packed


def is_unchanged(model: Model, session_id: str, run: Any, loaded: StoredRun) -> bool:
    """Tell whether a run is still what it was loaded as; one whose body is packed costs its head alone."""
    if model.is_unreadable(run):
        return True
    if model.has_pending_body(run):
        head = model.head(run)
        return _head_member(_attempt(head.pop("queue_attempt", None)), codec.pack(head, "run")) == loaded.head
    stored = pack_run(model, run, UNLIMITED).stored
    return stored == loaded or stored == _as_this_version_writes(model, session_id, loaded)


def _as_this_version_writes(model: Model, session_id: str, loaded: StoredRun) -> StoredRun | None:
    """Return how a run that another version may have written looks when it is loaded and stored here."""
    try:
        return pack_run(model, read_run(model, session_id, loaded), UNLIMITED).stored
    except DamagedRunError:
        return None


def _head_member(attempt: bytes, head: bytes) -> bytes:
    return b"h" + attempt + b":" + head


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


def _read_head(member: bytes) -> dict[str, Any]:
    kind, _, packed = member.partition(b":")
    if kind[:1] != b"h":
        raise ValueError("no head")
    head = codec.unpack_dict(packed)
    if not isinstance(head.get("run_id"), str):
        raise ValueError("a head without a run_id")
    if len(kind) > 1:
        head["queue_attempt"] = int(kind[1:])
    return head


def _load_body(session_id: str, run_id: str, member: bytes) -> dict[str, Any]:
    try:
        owner, body = codec.unpack_pair(member[1:])
    except ValueError as exc:
        raise DamagedRunError(f"run {run_id!r} of session {session_id!r}: its body does not decode") from exc
    if member[:1] != b"b" or owner != run_id:
        raise DamagedRunError(f"run {run_id!r} of session {session_id!r}: its body belongs to another run")
    return body


def _unreadable(model: Model, session_id: str, stored: StoredRun) -> Any:
    try:
        run_id, _ = codec.unpack_pair(stored.body[1:])
    except ValueError:
        run_id = ""

    def fail() -> dict[str, Any]:
        raise DamagedRunError(f"run {run_id!r} of session {session_id!r}: its head does not decode")

    return model.unreadable_run(run_id, fail)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a session object was loaded with or last saved as: its changes are measured against this."""

    rev: int
    born: bytes
    fields: Fields
    runs: dict[str, StoredRun] = field(default_factory=dict, repr=False)


_ORIGIN: Final = "_origin"


def origin_of(session: Any) -> Origin | None:
    """Return what a session object was loaded with or last saved as, None for one made new."""
    origin: Origin | None = vars(session).get(_ORIGIN)
    return origin


def set_origin(session: Any, origin: Origin) -> None:
    """Remember what a session object is like in Redis."""
    vars(session)[_ORIGIN] = origin
