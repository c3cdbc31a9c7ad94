"""The lifetimes of sessions: `touch_session`, and reads that extend them (`touch_on_read`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from math import inf
from types import EllipsisType
from typing import Any, Final

from sessioncache.errors import (
    InvalidArgumentError,
    SessionCacheError,
    SessionNotFoundError,
    SessionOwnershipError,
)
from sessioncache.storage import keys, scripts
from sessioncache.storage.scripts import Precondition, touch_session_arguments
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.validation import encoded_id, lifetime

from .context import Context, writing_script
from .index import FOR_EVER, GONE
from .write import accepted, list_elsewhere, run_script, scoped, write_request

_TOUCH_SESSION: Final = writing_script(scripts.TOUCH_SESSION)


def touch_session(ctx: Context, session_id: str, ttl: int | timedelta | EllipsisType | None) -> Flow[bool]:
    """Let a session live for `ttl` from now, None for ever; return False if it does not exist."""
    encoded_id(session_id, "session_id")
    if not isinstance(ttl, EllipsisType):
        ctx = ctx.with_ttl(lifetime(ttl, "ttl"))
    precondition = Precondition(session_id)
    arguments = touch_session_arguments(only_longer=False)
    try:
        touched = yield from run_script(
            ctx, _TOUCH_SESSION, precondition, arguments, scripts.read_touch_reply
        )
    except SessionNotFoundError:
        return False
    yield from list_elsewhere(ctx, precondition, touched.session)
    return True


def send_and_touch(
    ctx: Context, requests: Sequence[tuple[str, Request]], user_id: str | None = None
) -> Flow[list[Any]]:
    """Send reads of sessions and begin their lifetimes again: one round trip for each server.

    Twice in a ttl, this takes another round trip, to keep alive the indexes of the session. A session that
    cannot be touched is read all the same.
    """
    preconditions = [
        scoped(ctx, Precondition(session_id, user_id, claims=False)) for session_id, _ in requests
    ]
    arguments = touch_session_arguments(only_longer=True)
    touches = [write_request(ctx, _TOUCH_SESSION, precondition, arguments) for precondition in preconditions]
    # To touch twice is to touch, so these are sent like reads.
    optional = [touch._replace(writes=False, tolerates=(SessionCacheError,)) for touch in touches]
    replies = yield from send_all(ctx, [*(request for _, request in requests), *optional])
    for precondition, reply in zip(preconditions, replies[len(requests) :], strict=True):
        yield from _touch_indexes(ctx, precondition, reply)
    return replies[: len(requests)]


def _touch_indexes(ctx: Context, precondition: Precondition, reply: Any) -> Flow[None]:
    if isinstance(reply, Exception):
        line = f"session {precondition.session_id!r} was read, but lives no longer for it: {reply}"
        ctx.topology.outages.say("touching", line)
        return
    try:
        touched = accepted(scripts.read_touch_reply, reply, precondition)
    except (SessionNotFoundError, SessionOwnershipError):
        return
    if touched.is_index_due:
        yield from list_elsewhere(ctx, precondition, touched.session)


def get_ttls(ctx: Context, session_ids: Iterable[str]) -> Flow[list[float | None]]:
    """Return how many seconds sessions live on, infinity for ever; None for each that does not exist."""
    if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
        raise InvalidArgumentError(f"session_ids must be a list of ids, not {type(session_ids).__name__}")
    prefix = ctx.settings.prefix
    metas = []
    for session_id in session_ids:
        encoded_id(session_id, "session_id")
        metas.append(keys.session_keys(prefix, session_id)[0])
    units = [((b"PTTL", meta), (b"HGET", meta, b"user_id")) for meta in metas]
    found = yield from send_all(ctx, [Request(unit[0][1], unit) for unit in units])
    owner = None if ctx.user_id is None else ctx.user_id.encode()
    lefts = [GONE if owner not in (None, user_id) else left for left, user_id in found]
    return [None if left == GONE else inf if left == FOR_EVER else left / 1000 for left in lefts]
