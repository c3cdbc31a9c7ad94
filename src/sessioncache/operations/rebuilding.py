"""Indexes made anew from what is stored, for repair and for stores that had none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sessioncache import keys
from sessioncache.errors import InvalidArgumentError
from sessioncache.flow import Flow, Request
from sessioncache.resilience import Call, ask, ask_all

from .writing import LIST_SESSION, optional_number

SCAN_COUNT: Final = b"500"
"""Keys that the server looks at in one step: a millisecond at the most."""

FOR_EVER: Final = -1
"""What Redis answers for the time that a key without a TTL has left."""

Progress = Callable[[int], object]


def rebuild_indexes(call: Call, progress: Progress | None = None) -> Flow[int]:
    """List every session in its indexes again (SCAN on each server); return how many there are.

    `progress` is called after each step with the number of sessions so far.
    """
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    done = 0
    index = keys.index_of_all(call.settings.prefix)
    yield from ask(call, Request(index, ((b"EXISTS", index),)))  # finds out where keys are
    for address in call.routing.servers():
        cursor = b"0"
        while True:
            step = Call(call.routing, call.settings, call.name)
            pattern = keys.pattern_of_metas(call.settings.prefix)
            scan = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT, b"TYPE", b"hash")
            cursor, metas = yield from ask(step, Request(b"", (scan,), address=address))
            done += yield from _list_again(step, metas)
            if progress is not None:
                progress(done)
            if cursor == b"0":
                break
    return done


def _list_again(call: Call, metas: Sequence[bytes]) -> Flow[int]:
    fields = (b"session_id", b"updated_at", b"user_id", b"workflow_id")
    reads = [((b"HMGET", meta, *fields), (b"PTTL", meta)) for meta in metas]
    replies = yield from ask_all(call, [Request(meta, read) for meta, read in zip(metas, reads, strict=True)])
    found = [reply for reply in replies if None not in reply[0][:2]]
    yield from ask_all(call, [request for reply in found for request in _listing_requests(call, *reply)])
    return len(found)


def _listing_requests(call: Call, fields: Sequence[Any], left: int) -> list[Request]:
    """Return what lists a session in its indexes, which then live at least as long as it has left."""
    session_id, updated_at, *owners = fields
    user_id, workflow_id = (None if owner is None else owner.decode(errors="replace") for owner in owners)
    arguments = (session_id, updated_at, optional_number(None if left == FOR_EVER else max(left, 1)))
    indexes = keys.indexes(call.settings.prefix, user_id, workflow_id)
    return [LIST_SESSION.call((index,), arguments) for index in indexes]
