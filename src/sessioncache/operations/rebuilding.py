"""Indexes made anew from what is stored, for repair and for stores that had none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sessioncache import keys
from sessioncache.errors import DamagedSessionError, InvalidArgumentError
from sessioncache.flow import Flow, Request
from sessioncache.resilience import Call, ask, ask_all

from .index import WHEREABOUTS, listing_request, read_whereabouts, repair
from .tolerant import TolerantRequest, checked
from .writing import optional_number

log = logging.getLogger("sessioncache")

SCAN_COUNT: Final = b"500"
"""Keys that the server looks at in one step: a millisecond at the most."""

FOR_EVER: Final = -1
GONE: Final = -2
"""What Redis answers for the time left of a key without a TTL, and of one that does not exist."""

Progress = Callable[[int], object]


def rebuild_indexes(call: Call, progress: Progress | None = None) -> Flow[int]:
    """List every session in its indexes again (SCAN on each server); return how many there are.

    A session of another version is listed too, if the same fields say whose it is. One that cannot be read is
    passed over, and an index that is no sorted set is replaced. `progress` is called after each step with the
    number of sessions so far.
    """
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    done = 0
    prefix = call.settings.prefix
    index = keys.index_of_all(prefix)
    yield from ask(call, Request(index, ((b"EXISTS", index),)))  # finds out where keys are
    for address in call.routing.servers():
        cursor = b"0"
        while True:
            step = Call(call.routing, call.settings, call.name)
            scan = (b"SCAN", cursor, b"MATCH", keys.pattern_of_all(prefix), b"COUNT", SCAN_COUNT)
            cursor, found = yield from ask(step, Request(b"", (scan,), address=address))
            done += yield from _list_again(step, found)
            if progress is not None:
                progress(done)
            if cursor == b"0":
                break
    return done


class _Place(NamedTuple):
    """Where a session is to be listed: in which indexes, and for how long."""

    session_id: bytes
    updated_at: bytes
    indexes: tuple[bytes, ...]
    ttl: bytes

    def requests(self) -> list[Request]:
        """Return what lists it."""
        return [listing_request(index, self.session_id, self.updated_at, self.ttl) for index in self.indexes]


def _list_again(call: Call, found: Sequence[bytes]) -> Flow[int]:
    """List the sessions among some keys that were found; return how many they are."""
    prefix = call.settings.prefix
    metas = [key for key in found if keys.is_meta(prefix, key)]
    reads = [((b"HMGET", meta, b"session_id", *WHEREABOUTS), (b"PTTL", meta)) for meta in metas]
    requests = [TolerantRequest(meta, read) for meta, read in zip(metas, reads, strict=True)]
    replies = yield from ask_all(call, requests)
    places = [place for reply in zip(metas, replies, strict=True) if (place := _place(prefix, *reply))]
    indexes = [key for key in found if keys.is_index(prefix, key)]
    yield from repair(call, {*indexes, *(index for place in places for index in place.indexes)})
    yield from ask_all(call, [request for place in places for request in place.requests()])
    return len(places)


def _place(prefix: str, meta: bytes, reply: Any) -> _Place | None:
    """Return where a session is to be listed; None if it is gone, or does not say so, which is logged."""
    try:
        (session_id, *fields), left = checked(reply)
        if left == GONE:
            return None
        where = read_whereabouts(fields)
        if keys.session_keys(prefix, (session_id or b"").decode())[0] == meta:
            ttl = optional_number(None if left == FOR_EVER else max(left, 1))
            return _Place(session_id, b"%d" % where.updated_at, keys.indexes(prefix, *where[:2]), ttl)
    except (DamagedSessionError, ValueError):
        pass
    log.warning("what %r holds is in no index: it is damaged, or of another version", meta)
    return None
