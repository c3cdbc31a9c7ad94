"""Read-through: sessions that agno's RedisDb left under the same prefix are imported when they are missed.

A session that is absent here is looked for in RedisDb's keys (`redis_keys`), and is imported by one script,
whole, with a mark that outlives it: deleted or expired, it never comes back from there. A listing imports all
that are left; then the marker `{prefix}:index:imported` tells every Db that nothing is left to look for.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from random import shuffle
from typing import Any, Final

from sessioncache.errors import (
    DamagedSessionError,
    InvalidArgumentError,
    ReplyMismatchError,
    SessionCacheError,
    UnavailableError,
)
from sessioncache.operations.context import Context
from sessioncache.operations.sessions import import_session
from sessioncache.storage import keys
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.validation import is_id

from . import redis_keys
from .adapter import SessionRecord
from .redis_keys import MISREAD, OldSession

log = logging.getLogger("sessioncache")

SESSIONS_AT_ONCE: Final = 500
"""Sessions looked for in one round trip, to find out which are not imported yet."""


class Legacy:
    """What a Db knows of the sessions that RedisDb left: nothing is asked that is known."""

    def __init__(self) -> None:
        self.may_be_left = True
        """Whether a session that is absent may be in RedisDb's keys."""
        self.may_be_unlisted = True
        """Whether there may be sessions that no index of ours lists."""

    def fetch(self, ctx: Context, session_id: str) -> Flow[bool]:
        """Import an absent session if RedisDb has it; return whether it may be here now: one round trip.

        Two more import it. Raises DamagedSessionError if RedisDb has it and it cannot be imported.
        """
        if not self.may_be_left:  # since the call began
            return True
        ctx, prefix = replace(ctx, elsewhere=None), ctx.settings.prefix
        first = [_whereabouts(prefix, session_id), _marker(prefix), *redis_keys.requests(prefix, session_id)]
        replies = yield from send_all(ctx, [*first, *redis_keys.index_requests(prefix, b"SCARD")])
        (is_here, was_here), is_all_imported, *found = replies[: len(first)]
        if is_here or was_here or is_all_imported:
            self.may_be_left = not is_all_imported
            return bool(is_here or is_all_imported)  # it may have been among the last that were imported
        with importing(session_id):
            old = yield from redis_keys.read(ctx, prefix, session_id, found)
            if old is not None:
                yield from _store_and_log(ctx, old)
        self.may_be_left = old is not None or any(replies[len(first) :])
        return old is not None

    def fetch_all(self, ctx: Context) -> Flow[None]:
        """Import every session that RedisDb has and that was not imported yet.

        Those that cannot be imported are logged. Each has the deadline of a call.
        """
        if not (self.may_be_left and self.may_be_unlisted):
            return
        prefix = ctx.settings.prefix
        if (yield from send(ctx, _marker(prefix))):
            self.may_be_left = False
            return
        session_ids = list((yield from redis_keys.indexed_ids(ctx, prefix)))
        shuffle(session_ids)  # so that workers who do this at once share the work
        n_failed = yield from _import_all(ctx, session_ids)
        self.may_be_unlisted, self.may_be_left = False, n_failed > 0
        if session_ids and not n_failed:
            yield from _set_marker(ctx)


def legacy_if(read_legacy: bool) -> Legacy | None:
    """Return what reads through, if it is wanted."""
    if not isinstance(read_legacy, bool):
        raise InvalidArgumentError("read_legacy must be a bool")
    return Legacy() if read_legacy else None


def _marker(prefix: str) -> Request:
    marker = keys.import_marker(prefix)
    return Request(marker, ((b"EXISTS", marker),))


def _set_marker(ctx: Context) -> Flow[None]:
    """Set the marker; to set it twice is to set it, so it is sent like a read."""
    marker = keys.import_marker(ctx.settings.prefix)
    yield from send(ctx.begun_anew(), Request(marker, ((b"HSET", marker, b"by", b"read-through"),)))


def _whereabouts(prefix: str, session_id: str) -> Request:
    """Return the request that says whether a session is here, and whether it was imported once."""
    meta, mark = keys.session_keys(prefix, session_id)[0], keys.import_mark(prefix, session_id)
    return Request(meta, ((b"EXISTS", meta), (b"EXISTS", mark)))


def imported_once(ctx: Context, session_ids: list[str]) -> Flow[set[str]]:
    """Return those sessions that were imported, be they here or not."""
    asked = [_whereabouts(ctx.settings.prefix, session_id) for session_id in session_ids]
    replies = yield from send_all(ctx, asked)
    return {name for name, (_, was_here) in zip(session_ids, replies, strict=True) if was_here}


def _import_all(ctx: Context, session_ids: list[str]) -> Flow[int]:
    """Import sessions; return how many cannot be."""
    n_failed = 0
    for start in range(0, len(session_ids), SESSIONS_AT_ONCE):
        batch = session_ids[start : start + SESSIONS_AT_ONCE]
        known = yield from imported_once(ctx.begun_anew(), [name for name in batch if is_id(name)])
        for session_id in batch:
            if session_id in known:
                continue
            try:
                yield from _import_one(ctx.begun_anew(), session_id)
            except DamagedSessionError as exc:
                log.warning("left out of a listing: %s", exc)
                n_failed += 1
    return n_failed


def _import_one(ctx: Context, session_id: str) -> Flow[None]:
    with importing(session_id):
        old = yield from redis_keys.get(ctx, ctx.settings.prefix, session_id)
        if old is not None:
            yield from _store_and_log(ctx, old)


def _store_and_log(ctx: Context, old: OldSession) -> Flow[None]:
    is_new = yield from store(ctx, old)
    for session_id, reason in old.left_out if is_new else ():
        log.warning("session %r of agno's RedisDb is imported without a run: %s", session_id, reason)


def store(ctx: Context, old: OldSession) -> Flow[bool]:
    """Store a session as RedisDb has it; return False if it is here, or was imported before."""
    record = SessionRecord.of_row(old.row, old.runs)
    return (yield from import_session(ctx, record, old.row.get("updated_at"), old.ttl))


@contextmanager
def importing(session_id: str) -> Generator[None, Any, None]:
    """Raise DamagedSessionError in place of what says that a session cannot be read or stored."""
    try:
        yield
    except (UnavailableError, ReplyMismatchError):
        raise
    except (SessionCacheError, *MISREAD) as exc:
        text = f"session {session_id!r} of agno's RedisDb cannot be imported: {type(exc).__name__}: {exc}"
        raise DamagedSessionError(text, session_id=session_id) from exc
