"""Indexes made anew from the sessions that are stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from sessioncache.errors import DamagedSessionError, InvalidArgumentError
from sessioncache.storage import keys
from sessioncache.storage.scripts import REPAIR_INDEX
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request

from .context import Context, writing_script
from .index import DAMAGE, FOR_EVER, GONE, WHEREABOUTS, Entry, checked, keys_of, read_whereabouts
from .scanning import scan

log = logging.getLogger("sessioncache")

_REPAIR_INDEX: Final = writing_script(REPAIR_INDEX)

Progress = Callable[[int], object]


def rebuild_indexes(ctx: Context, progress: Progress | None = None) -> Flow[int]:
    """List every session in its indexes again (SCAN on each server); return how many there are.

    A session of another version is listed too, if the same fields say whose it is. One that cannot be read is
    skipped, and an index that is no sorted set is replaced. `progress` is called after each step with the
    number of sessions so far.
    """
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    rebuilding = _Rebuilding(ctx, progress)
    yield from scan(ctx, rebuilding.list_again)
    yield from rebuilding.remove_outdated()
    return rebuilding.done


class _Rebuilding:
    """A rebuild under way, of all servers at once."""

    def __init__(self, ctx: Context, progress: Progress | None) -> None:
        self.done = 0
        self._ctx = ctx
        self._progress = progress
        self._outdated: set[bytes] = set()

    def list_again(self, step: Context, found: Sequence[bytes]) -> Flow[bool]:
        """List the sessions among some keys."""
        outdated = {key for key in found if is_outdated(step, key)}
        self._outdated |= outdated
        listed = yield from _list_again(step, [key for key in found if key not in outdated])
        self.done += listed  # only now: other servers are scanned meanwhile
        if self._progress is not None:
            self._progress(self.done)
        return True

    def remove_outdated(self) -> Flow[None]:
        """Remove the indexes that nobody reads: their sessions are listed by now as they should be."""
        requests = [Request(index, ((b"UNLINK", index),), writes=True) for index in self._outdated]
        yield from send_all(self._ctx.begun_anew(), requests)


def is_outdated(ctx: Context, key: bytes) -> bool:
    """Return whether a key is an index that is whole and should have shards, or the other way round."""
    prefix, is_shard = ctx.settings.prefix, key.endswith(b"}")
    return keys.is_index(prefix, key) and keys.is_split(prefix, key) and is_shard == ctx.is_in_one_place


def _list_again(ctx: Context, found: Sequence[bytes]) -> Flow[int]:
    """List the sessions among some keys; return how many they are."""
    prefix = ctx.settings.prefix
    metas = [key for key in found if keys.is_meta(prefix, key)]
    asked = (b"session_id", *WHEREABOUTS, b"deleted")
    reads = [((b"HMGET", meta, *asked), (b"PTTL", meta)) for meta in metas]
    requests = [Request(meta, read, tolerates=DAMAGE) for meta, read in zip(metas, reads, strict=True)]
    replies = yield from send_all(ctx, requests)
    entries = [_entries(ctx, meta, reply) for meta, reply in zip(metas, replies, strict=True)]
    requests = [entry.request() for each in entries for entry in each]
    indexes = {key for key in found if keys.is_index(prefix, key)}
    yield from _repair(ctx, list(indexes | {request.key for request in requests}))
    yield from send_all(ctx, requests)
    return sum(map(bool, entries))


def _entries(ctx: Context, meta: bytes, reply: Any) -> list[Entry]:
    """Return the entries of a session; none if it is gone, or does not say what they are, which is logged."""
    try:
        (name, *fields, mark), left = checked(reply)
        if left == GONE or (mark and not name):
            return []
        where = read_whereabouts(fields)
        session_id = (name or b"").decode()
        if keys.session_keys(ctx.settings.prefix, session_id)[0] == meta:
            ttl = None if left == FOR_EVER else max(left, 1)
            indexes = keys_of(ctx, session_id, *where[:2])
            return [Entry(index, name, b"%d" % where.updated_at, ttl) for index in indexes]
    except (DamagedSessionError, ValueError):
        pass
    log.warning("what %r holds is in no index: it is damaged, or of another version", meta)
    return []


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
