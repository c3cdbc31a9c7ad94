"""What all reads share: slices of runs, and whether they are whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError, ReplyMismatchError
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


def is_whole(
    session_id: str,
    stored_id: bytes | None,
    count: bytes | None,
    limit: int | None,
    *found: float,
    offset: int = 0,
) -> bool:
    """Tell whether a session exists and its slices are as long as they have to be; log where one is damaged.

    `found` is how many runs each slice has. Raises ReplyMismatchError for the answer of another session.
    """
    if stored_id is None or count is None:
        if stored_id is not None or count is not None or any(found):
            log.warning("session %r is damaged: it counts as absent", session_id)
        return False
    if stored_id != session_id.encode():
        raise ReplyMismatchError(f"the answer is not about session {session_id!r}")
    left = max(0, int(count) - offset)
    expected = left if limit is None else min(limit, left)
    if any(length != expected for length in found):
        log.warning("session %r is damaged: it counts as absent", session_id)
        return False
    return True
