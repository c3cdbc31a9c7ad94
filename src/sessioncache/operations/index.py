"""The entries of indexes: the one place that adds, removes and repairs them.

An entry is a hint, and what is stored of its session is the truth: `index_reader` compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sessioncache.errors import DamagedSessionError, InvalidArgumentError, UnavailableError
from sessioncache.storage import keys
from sessioncache.storage.scripts import (
    LIST_SESSION,
    REPAIR_INDEX,
    UNLIST_SESSIONS,
    list_session_arguments,
    unlist_sessions_arguments,
)
from sessioncache.storage.session_hash import stored_time
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send

from .context import Context, writing_script

log = logging.getLogger("sessioncache")

_LIST_SESSION: Final = writing_script(LIST_SESSION)
_UNLIST_SESSIONS: Final = writing_script(UNLIST_SESSIONS)
_REPAIR_INDEX: Final = writing_script(REPAIR_INDEX)

SCAN_COUNT: Final = b"500"
"""Keys that the server looks at in one step: a millisecond at the most."""

FOR_EVER: Final = -1
GONE: Final = -2
"""Redis' replies for the time left of a key without a TTL, and of one that does not exist."""

Entries = dict[str, bytes]
"""Session ids and the update times they are listed with, in the order of the index."""

Progress = Callable[[int], object]

DAMAGE: Final = (DamagedSessionError,)
"""What a request about one of many sessions tolerates: a key of another type."""


def checked(reply: Any) -> Any:
    """Return the reply of a request that tolerates DAMAGE, or raise the error that it is."""
    if isinstance(reply, DamagedSessionError):
        raise reply
    return reply


def list_session(
    ctx: Context, indexes: Iterable[bytes], session_id: str, updated_at: bytes, index_ttl: int | None
) -> Flow[None]:
    """List a session that was written; an index that fails is logged and is no error, being only a hint."""
    requests = [_listing(index, session_id.encode(), updated_at, index_ttl) for index in indexes]
    try:
        for reply in (yield from send_all(ctx, requests)):
            checked(reply)
    except (UnavailableError, DamagedSessionError) as exc:
        log.warning("session %r is not listed in every index: %s", session_id, exc)


def _listing(index: bytes, session_id: bytes, updated_at: bytes, index_ttl: int | None) -> Request:
    arguments = list_session_arguments(session_id, updated_at, index_ttl)
    return _LIST_SESSION.call((index,), arguments)._replace(tolerates=DAMAGE)


def unlist_sessions(ctx: Context, index: bytes, entries: Mapping[bytes, bytes]) -> Flow[None]:
    """Remove entries from an index, unless they were listed again since."""
    yield from send(ctx, _UNLIST_SESSIONS.call((index,), unlist_sessions_arguments(entries)))


class Whereabouts(NamedTuple):
    """Where a session is listed, and as of when."""

    user_id: str | None
    workflow_id: str | None
    updated_at: int


WHEREABOUTS: Final = (b"user_id", b"workflow_id", b"updated_at")


def read_whereabouts(fields: Sequence[bytes | None]) -> Whereabouts:
    """Return what the WHEREABOUTS fields say; raise ValueError if one does not decode."""
    user_id, workflow_id, updated_at = fields
    updated = stored_time(updated_at or b"")
    return Whereabouts(optional_text(user_id), optional_text(workflow_id), updated)


def optional_text(stored: bytes | None) -> str | None:
    """Return a text field, if it is stored; raise ValueError if it does not decode."""
    return None if stored is None else stored.decode()


def rebuild_indexes(ctx: Context, progress: Progress | None = None) -> Flow[int]:
    """List every session in its indexes again (SCAN on each server); return how many there are.

    A session of another version is listed too, if the same fields say whose it is. One that cannot be read is
    skipped, and an index that is no sorted set is replaced. `progress` is called after each step with the
    number of sessions so far.
    """
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    done = 0
    prefix = ctx.settings.prefix
    index = keys.index_of_all(prefix)
    yield from send(ctx, Request(index, ((b"EXISTS", index),)))  # finds out where keys are
    for address in ctx.topology.servers():
        cursor = b"0"
        while True:
            step = ctx.begun_anew()
            scan = (b"SCAN", cursor, b"MATCH", keys.pattern_of_all(prefix), b"COUNT", SCAN_COUNT)
            cursor, found = yield from send(step, Request(b"", (scan,), address=address))
            done += yield from _list_again(step, found)
            if progress is not None:
                progress(done)
            if cursor == b"0":
                break
    return done


class _Place(NamedTuple):
    """Where a session is to be listed: in which indexes, and for how many milliseconds."""

    session_id: bytes
    updated_at: bytes
    indexes: tuple[bytes, ...]
    ttl: int | None

    def requests(self) -> list[Request]:
        """Return what lists it."""
        return [_listing(index, self.session_id, self.updated_at, self.ttl) for index in self.indexes]


def _list_again(ctx: Context, found: Sequence[bytes]) -> Flow[int]:
    """List the sessions among some keys; return how many they are."""
    prefix = ctx.settings.prefix
    metas = [key for key in found if keys.is_meta(prefix, key)]
    asked = (b"session_id", *WHEREABOUTS, b"deleted")
    reads = [((b"HMGET", meta, *asked), (b"PTTL", meta)) for meta in metas]
    requests = [Request(meta, read, tolerates=DAMAGE) for meta, read in zip(metas, reads, strict=True)]
    replies = yield from send_all(ctx, requests)
    places = [place for reply in zip(metas, replies, strict=True) if (place := _place(prefix, *reply))]
    indexes = [key for key in found if keys.is_index(prefix, key)]
    yield from _repair(ctx, list({*indexes, *(index for place in places for index in place.indexes)}))
    yield from send_all(ctx, [request for place in places for request in place.requests()])
    return len(places)


def _place(prefix: str, meta: bytes, reply: Any) -> _Place | None:
    """Return where a session is to be listed; None if it is gone, or does not say so, which is logged."""
    try:
        (session_id, *fields, mark), left = checked(reply)
        if left == GONE or (mark and not session_id):
            return None
        where = read_whereabouts(fields)
        if keys.session_keys(prefix, (session_id or b"").decode())[0] == meta:
            ttl = None if left == FOR_EVER else max(left, 1)
            return _Place(session_id, b"%d" % where.updated_at, keys.indexes(prefix, *where[:2]), ttl)
    except (DamagedSessionError, ValueError):
        pass
    log.warning("what %r holds is in no index: it is damaged, or of another version", meta)
    return None


def _repair(ctx: Context, indexes: Sequence[bytes]) -> Flow[None]:
    """Remove those indexes that are no sorted sets: something else wrote them."""
    counts = [Request(index, ((b"ZCARD", index),), tolerates=DAMAGE) for index in indexes]
    replies = yield from send_all(ctx, counts)
    foreign = [
        index for index, reply in zip(indexes, replies, strict=True) if isinstance(reply, DamagedSessionError)
    ]
    yield from send_all(ctx, [_REPAIR_INDEX.call((index,), ()) for index in foreign])
    for index in foreign:
        log.warning("index %r was no sorted set: it is replaced", index.decode())
