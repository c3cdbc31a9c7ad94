"""The one way a session is read: its header, fields and slices of runs, all as of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

from sessioncache import validation
from sessioncache.errors import InvalidArgumentError, ReplyMismatchError
from sessioncache.storage.keys import session_keys
from sessioncache.storage.run_members import (
    MEMBERS_PER_RUN,
    Slice,
    StoredRun,
    newest_bodies,
    newest_heads,
    read_run,
)
from sessioncache.storage.session_hash import (
    CONTROL_FIELDS,
    SCHEMA,
    are_numbers,
    from_fields,
    of_another_version,
)
from sessioncache.storage.snapshot import SNAPSHOT, Snapshot
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send

from .context import Context
from .touch import send_and_touch
from .write import log_damaged

HEADER: Final = (b"session_id", b"schema", b"count", b"rev", b"born", b"seq", b"updated_at")
"""Fields that every read asks for, to know whether what it got is a whole session."""


class Reading(NamedTuple):
    """What a read found of a session."""

    n_runs: int
    rev: int
    born: bytes
    fields: Mapping[bytes, Any]
    """The stored fields, or those asked for; then None stands for one that is not stored."""
    slices: Sequence[Sequence[bytes]]


def get_session(
    ctx: Context, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
) -> Flow[Any]:
    """Load a session with all runs or the newest; None if it does not exist for this user."""
    if user_id is not None:
        validation.encoded_id(user_id, "user_id")
    limit = validation.count(last_n_runs, "last_n_runs")
    reading = yield from read(ctx, session_id, newest_runs(limit), user_id=user_id)
    if reading is None or (user_id is not None and reading.fields.get(b"user_id") != user_id.encode()):
        return None
    return build_session(ctx, session_id, reading, limit)


def get_sessions(
    ctx: Context, session_ids: Iterable[str], *, last_n_runs: int | None = None
) -> Flow[list[Any]]:
    """Load sessions in the order of their ids; None for each that does not exist."""
    if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
        raise InvalidArgumentError(f"session_ids must be a list of ids, not {type(session_ids).__name__}")
    limit = validation.count(last_n_runs, "last_n_runs")
    slices = newest_runs(limit)
    requests = [(session_id, read_request(ctx, session_id, slices)) for session_id in session_ids]
    if ctx.settings.touch_on_read:
        replies = yield from send_and_touch(ctx, requests)
    else:
        replies = yield from send_all(ctx, [request for _, request in requests])
    readings = [
        (session_id, parse_reply(session_id, reply, slices))
        for (session_id, _), reply in zip(requests, replies, strict=True)
    ]
    return [reading and build_session(ctx, session_id, reading, limit) for session_id, reading in readings]


def newest_runs(limit: int | None) -> tuple[Slice, ...]:
    """Return the slices of the newest runs, newest first: heads and bodies, or none if the limit is 0."""
    return () if limit == 0 else (newest_heads(limit), newest_bodies(limit))


def read(
    ctx: Context,
    session_id: str,
    slices: Sequence[Slice] = (),
    fields: Sequence[bytes] | None = None,
    user_id: str | None = None,
) -> Flow[Reading | None]:
    """Read fields of a session, all for None, and slices of its runs: one round trip.

    Returns None if the session does not exist, or is damaged, which is logged.
    """
    request = read_request(ctx, session_id, slices, fields)
    reply = yield from send_read(ctx, session_id, request, user_id)
    reading = parse_reply(session_id, reply, slices, fields)
    if reading is None and (yield from ctx.fetch(session_id)):
        reply = yield from send_read(ctx, session_id, request, user_id)
        reading = parse_reply(session_id, reply, slices, fields)
    return reading


def send_read(ctx: Context, session_id: str, request: Request, user_id: str | None = None) -> Flow[Any]:
    """Send a request that reads a session, and touch the session if the cache's reads do."""
    if not ctx.settings.touch_on_read:
        return (yield from send(ctx, request))
    (reply,) = yield from send_and_touch(ctx, [(session_id, request)], user_id)
    return reply


def read_request(
    ctx: Context,
    session_id: str,
    slices: Iterable[Slice],
    fields: Sequence[bytes] | None = None,
    tolerates: tuple[type[Exception], ...] = (),
) -> Request:
    """Return the request of a read, for those who send many."""
    validation.encoded_id(session_id, "session_id")
    meta, runs = session_keys(ctx.settings.prefix, session_id)
    hash_read = (b"HGETALL", meta) if fields is None else (b"HMGET", meta, *HEADER, *fields)
    ranges = [(b"ZRANGE", runs, *part.arguments) for part in slices]
    return Request(meta, (hash_read, (b"ZCARD", runs), *ranges), tolerates=tolerates)


def parse_reply(
    session_id: str, reply: Any, slices: Sequence[Slice] = (), fields: Sequence[bytes] | None = None
) -> Reading | None:
    """Return what the reply of a read holds; None if there is no session, or if it is damaged.

    Raises ReplyMismatchError for the reply about another session, SessionVersionError for another version.
    """
    row, n_members, *found = reply
    names, values = (row[::2], row[1::2]) if fields is None else ((*HEADER, *fields), row)
    stored: dict[bytes, Any] = dict(zip(names, values, strict=True))
    stored_id, schema, *numbers = header = [stored.get(name) for name in HEADER]
    if stored_id is not None and stored_id != session_id.encode():
        raise not_about(session_id)
    if schema is not None and schema != SCHEMA:
        raise of_another_version(session_id)
    if not n_members and not any(header):
        return None
    if stored_id and schema and are_numbers(numbers):
        count, rev = int(numbers[0]), int(numbers[1])
        is_whole = n_members == count * MEMBERS_PER_RUN and int(numbers[2]) <= rev < validation.LARGEST_NUMBER
        if is_whole and all(map(Slice.fits, slices, repeat(count), found)):
            return Reading(count, rev, numbers[2], stored, found)
    log_damaged(session_id)
    return None


def not_about(session_id: str) -> ReplyMismatchError:
    """Return the error for a reply about another session."""
    return ReplyMismatchError(f"the reply is not about session {session_id!r}", session_id=session_id)


def build_session(ctx: Context, session_id: str, reading: Reading, limit: int | None) -> Any:
    """Return the session object of a reading of all fields and the newest runs."""
    adapter = ctx.settings.adapter
    heads, bodies = reading.slices or ((), ())
    stored = [StoredRun(*members) for members in zip(reversed(heads), reversed(bodies), strict=True)]
    runs = [read_run(adapter, session_id, members) for members in stored]
    session = adapter.session_class(**from_fields(reading.fields, session_id, adapter.names), runs=runs)
    by_id = {run.run_id: members for run, members in zip(runs, stored, strict=True)}
    vars(session)[SNAPSHOT] = snapshot_from(reading, by_id, limit)
    return session


def snapshot_from(reading: Reading, runs: dict[str, StoredRun], limit: int | None) -> Snapshot:
    """Return the snapshot of a reading of all fields."""
    own = {name: value for name, value in reading.fields.items() if name not in CONTROL_FIELDS}
    return Snapshot(reading.rev, reading.born, own, runs, limit)
