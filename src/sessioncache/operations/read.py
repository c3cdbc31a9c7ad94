"""The one way a session is read: fields and some of its runs, all as of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from sessioncache import validation
from sessioncache.errors import InvalidArgumentError
from sessioncache.storage.run_range import NO_RUNS, RunRange
from sessioncache.storage.snapshot import SNAPSHOT, Reading, Snapshot
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send

from .context import Context
from .lookup import Lookup
from .near_lookup import NearLookup
from .touch import send_and_touch


def get_session(
    ctx: Context,
    session_id: str,
    *,
    user_id: str | None = None,
    last_n_runs: int | None = None,
    validates: bool = False,
) -> Flow[Any]:
    """Load a session with all runs or the newest; None if it does not exist for this user."""
    lookup = yield from find_session(
        ctx, session_id, user_id=user_id, last_n_runs=last_n_runs, validates=validates
    )
    return lookup and build_session(lookup)


def find_session(
    ctx: Context,
    session_id: str,
    *,
    user_id: str | None = None,
    last_n_runs: int | None = None,
    validates: bool = False,
) -> Flow[Lookup | None]:
    """Look a session up, with all runs or the newest; None if it does not exist for this user.

    Who is going to save it `validates`: it is as it is now, whatever the near cache may return.
    """
    if user_id is not None:
        validation.encoded_id(user_id, "user_id")
    limit = validation.count(last_n_runs, "last_n_runs")
    lookup = lookup_of(ctx, session_id, RunRange(limit), validates=validates)
    reading = yield from look_up(lookup, user_id)
    if reading is None or (user_id is not None and reading.fields.get(b"user_id") != user_id.encode()):
        return None
    return lookup


def get_sessions(
    ctx: Context, session_ids: Iterable[str], *, last_n_runs: int | None = None
) -> Flow[list[Any]]:
    """Load sessions in the order of their ids; None for each that does not exist."""
    if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
        raise InvalidArgumentError(f"session_ids must be a list of ids, not {type(session_ids).__name__}")
    limit = validation.count(last_n_runs, "last_n_runs")
    lookups = [lookup_of(ctx, session_id, RunRange(limit)) for session_id in session_ids]
    while unanswered := [lookup for lookup in lookups if not lookup.is_answered]:
        requests = [(lookup.session_id, lookup.request()) for lookup in unanswered]
        if ctx.settings.touch_on_read:
            replies = yield from send_and_touch(ctx, requests)
        else:
            replies = yield from send_all(ctx, [request for _, request in requests])
        for lookup, reply in zip(unanswered, replies, strict=True):
            lookup.take(reply)
    for lookup in lookups:
        lookup.hide_others()
    return [*map(build_session, lookups)]


def read(
    ctx: Context, session_id: str, wanted: RunRange = NO_RUNS, fields: Sequence[bytes] | None = None
) -> Flow[Reading | None]:
    """Read fields of a session, all for None, and some of its runs: one round trip, or none.

    Returns None if the session does not exist, or is damaged, which is logged.
    """
    return (yield from look_up(lookup_of(ctx, session_id, wanted, fields)))


def lookup_of(
    ctx: Context,
    session_id: str,
    wanted: RunRange,
    fields: Sequence[bytes] | None = None,
    *,
    validates: bool = False,
) -> Lookup:
    """Return a lookup that is yet to be sent, unless the near cache has the answer."""
    if ctx.near is None or wanted.after is not None:
        return Lookup(ctx, session_id, wanted, fields)
    return NearLookup(ctx, ctx.near, session_id, wanted, validates=validates)


def look_up(lookup: Lookup, user_id: str | None = None) -> Flow[Reading | None]:
    """Send what a lookup asks for, until it is answered."""
    ctx, session_id = lookup.ctx, lookup.session_id
    while not lookup.is_answered:
        lookup.take((yield from send_read(ctx, session_id, lookup.request(), user_id)))
    if lookup.reading is None and (yield from ctx.fetch(session_id)):
        lookup.again()
        lookup.take((yield from send_read(ctx, session_id, lookup.request(), user_id)))
    if ctx.user_id is not None:
        lookup.hide_others()
    return lookup.reading


def send_read(ctx: Context, session_id: str, request: Request, user_id: str | None = None) -> Flow[Any]:
    """Send a request that reads a session, and touch the session if the cache's reads do."""
    if not ctx.settings.touch_on_read:
        return (yield from send(ctx, request))
    (reply,) = yield from send_and_touch(ctx, [(session_id, request)], user_id)
    return reply


def build_session(lookup: Lookup) -> Any:
    """Return the session object of a lookup of all fields and the newest runs, None if it found none."""
    reading = lookup.reading
    if reading is None:
        return None
    adapter = lookup.ctx.settings.adapter
    make_runs = partial(adapter.run_class.pending_all, reading.runs)
    session = adapter.session_class.pending(make_runs, **lookup.content())
    vars(session)[SNAPSHOT] = snapshot_from(reading, lookup.wanted.limit)
    return session


def snapshot_from(reading: Reading, limit: int | None) -> Snapshot:
    """Return the snapshot of a reading of all fields."""
    return Snapshot(reading.rev, reading.born, reading.fields, reading.runs, limit, reading.rev)
