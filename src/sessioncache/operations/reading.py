"""What all reads share: slices of runs, and whether they are whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError, ReplyMismatchError
from sessioncache.fields import LARGEST_NUMBER, SCHEMA, are_numbers, of_another_version
from sessioncache.flow import Command
from sessioncache.records import StoredRun

log = logging.getLogger("sessioncache")

MEMBERS_PER_RUN: Final = 3

MAX_SLICE: Final = 2**31
"""No session has as many runs: what is more is all."""


def checked_count(value: Any, name: str) -> int | None:
    """Return how many of the newest runs are wanted: None for all, never less than 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{name} must be a whole number or None, not {type(value).__name__}")
    return max(0, min(value, MAX_SLICE))


def newest_heads(runs_key: bytes, limit: int | None, offset: int = 0) -> Command:
    """Return the command that reads the heads of the newest runs, newest first."""
    return (b"ZRANGE", runs_key, b"+inf", b"1", b"BYSCORE", b"REV", *_limit(limit, offset))


def newest_bodies(runs_key: bytes, limit: int | None, offset: int = 0) -> Command:
    """Return the command that reads the bodies of the newest runs, newest first."""
    return (b"ZRANGE", runs_key, b"-inf", b"-1", b"BYSCORE", *_limit(limit, offset))


def oldest_heads(runs_key: bytes, limit: int | None, offset: int = 0) -> Command:
    """Return the command that reads the heads of the oldest runs, oldest first."""
    return (b"ZRANGE", runs_key, b"1", b"+inf", b"BYSCORE", *_limit(limit, offset))


def oldest_bodies(runs_key: bytes, limit: int | None, offset: int = 0) -> Command:
    """Return the command that reads the bodies of the oldest runs, oldest first."""
    return (b"ZRANGE", runs_key, b"-1", b"-inf", b"BYSCORE", b"REV", *_limit(limit, offset))


def _limit(limit: int | None, offset: int) -> Command:
    if limit is None and not offset:
        return ()
    return (b"LIMIT", b"%d" % offset, b"%d" % (MAX_SLICE if limit is None else limit))


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the hash of a flat HGETALL reply."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def oldest_first(heads: Sequence[bytes], bodies: Sequence[bytes]) -> list[StoredRun]:
    """Return the runs of two slices that were read newest first."""
    return [StoredRun(head, body) for head, body in zip(reversed(heads), reversed(bodies), strict=True)]


IDENTITY: Final = (b"session_id", b"schema", b"count", b"rev", b"born", b"seq", b"updated_at")
"""Fields of the hash that every read asks for, to know whether its answer is one."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What every read knows of its session, besides what it asked."""

    count: int
    rev: int
    born: bytes


def identify(session_id: str, stored: Sequence[bytes | None], members: int) -> Identity | None:
    """Return what the IDENTITY fields say; None where there is no session, or it is damaged, which is logged.

    `members` is how many the sorted set has. Raises ReplyMismatchError for the answer of another session,
    SessionVersionError for one of another version.
    """
    stored_id, schema, *numbers = stored
    check_answer(session_id, stored_id)
    if schema is not None and schema != SCHEMA:
        raise of_another_version(session_id)
    if not members and not any(stored):
        return None
    if stored_id and schema and are_numbers(numbers):
        count, rev, born = map(int, numbers[:3])
        if members == count * MEMBERS_PER_RUN and born <= rev < LARGEST_NUMBER:
            return Identity(count, rev, numbers[2])
    log_damaged(session_id)
    return None


def check_answer(session_id: str, stored_id: bytes | None) -> None:
    """Raise ReplyMismatchError if an answer is about another session."""
    if stored_id is not None and stored_id != session_id.encode():
        raise ReplyMismatchError(f"the answer is not about session {session_id!r}", session_id=session_id)


def has_all(session_id: str, count: int, limit: int | None, *found: int, offset: int = 0) -> bool:
    """Tell whether slices are as long as they have to be; `found` is how many runs each has."""
    left = max(0, count - offset)
    expected = left if limit is None else min(limit, left)
    if all(length == expected for length in found):
        return True
    log_damaged(session_id)
    return False


def log_damaged(session_id: str) -> None:
    """Say in the log that a session is damaged."""
    log.warning("session %r is damaged: it counts as absent", session_id)
