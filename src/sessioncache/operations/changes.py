"""What has changed of a session since it was read last: one script, which returns that and no more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from sessioncache.storage import scripts
from sessioncache.storage.keys import session_keys
from sessioncache.storage.run_members import StoredRun
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.scripts import get_changes_arguments
from sessioncache.storage.snapshot import Reading
from sessioncache.transport.request import Request, Script
from sessioncache.transport.retry import fits
from sessioncache.validation import LARGEST_NUMBER

from .context import Context
from .lookup import not_about, parse_reply
from .sealing import opened, opened_run

_GET_CHANGES: Final = Script(scripts.GET_CHANGES)


class Changes(NamedTuple):
    """What has become of a session that was read before."""

    reading: Reading
    """The same one if nothing has changed."""
    ttl: int
    """Milliseconds that the session still lives, below 0 for ever."""
    orders: Collection[bytes] = ()
    """Those of runs that changed, or that are new or gone; all others are the same objects as before."""


def changes_request(
    ctx: Context, session_id: str, known: Reading, wanted: RunRange, since: int | None = None
) -> Request:
    """Return the request for what has changed of a session, of which some of the newest runs are known.

    `since` is the revision as of which their orders are known: by default, that of the reading. Of runs from
    the other end, or beyond some, it is only asked whether anything has changed.
    """
    if wanted.offset or wanted.is_oldest:
        since = 0
    arguments = get_changes_arguments(
        known.rev,
        known.born,
        known.rev if since is None else since,
        _first_order(known, wanted),
        has_bodies=wanted.has_bodies,
    )
    return _GET_CHANGES.call(session_keys(ctx.settings.prefix, session_id), arguments, writes=False)


def _first_order(known: Reading, wanted: RunRange) -> bytes:
    """Return the order from which on all runs are known: what changes before it does not come into sight."""
    if wanted.limit == 0:
        return b"%d" % LARGEST_NUMBER
    if len(known.runs) == known.n_runs or not known.by_order:
        return b"0"
    return next(iter(known.by_order))


def read_changes(
    ctx: Context, session_id: str, reply: Any, known: Reading, wanted: RunRange
) -> Changes | None:
    """Return what a reply says; None if the session has to be read anew, for too much of it is another.

    Raises ReplyMismatchError if the reply is not about this session.
    """
    match reply:
        case [stored_id, int(ttl)] if stored_id == session_id.encode():
            return Changes(known, ttl)
        case [stored_id, int(ttl), *changed] if stored_id == session_id.encode():
            return _changed(ctx, session_id, changed, ttl, known, wanted)
        case []:
            return None
        case [bytes(), int(), *_]:
            raise not_about(session_id)
    raise scripts.mismatch(session_id)


def _changed(
    ctx: Context, session_id: str, reply: Any, ttl: int, known: Reading, wanted: RunRange
) -> Changes | None:
    match reply:
        case [row, int(n_members), gone, parts] if (
            fits(_HASH, row) and fits(_MEMBERS, gone) and fits(_MEMBERS, parts) and len(parts) % 3 == 0
        ):
            reading = opened(ctx, session_id, parse_reply(session_id, [row, n_members]))
        case _:
            raise scripts.mismatch(session_id)
    if reading is None:
        return None
    runs = _joined(ctx, session_id, known, gone, parts)
    left = reading.n_runs if wanted.limit is None else min(wanted.limit, reading.n_runs)
    beyond = list(islice(runs, max(0, len(runs) - left)))
    for order in beyond:
        del runs[order]
    reading.runs, reading.by_order = list(runs.values()), runs
    return Changes(reading, ttl, {*gone, *parts[::3], *beyond}) if len(runs) == left else None


_HASH: Final = (b"HGETALL", b"")
_MEMBERS: Final = (b"ZRANGE", b"")


def _joined(
    ctx: Context, session_id: str, known: Reading, gone: Sequence[bytes], parts: Sequence[bytes]
) -> dict[bytes, StoredRun]:
    """Return what was known with what has changed, by order, oldest first."""
    runs = dict(known.by_order)
    for order in gone:
        runs.pop(order, None)
    n_left = len(runs)
    for order, head, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        run = StoredRun(head, body, order, session_id)
        keyring = ctx.settings.encryption
        runs[order] = run if keyring is None else opened_run(keyring, session_id, run)
    if len(runs) == n_left:
        return runs
    return {order: runs[order] for order in sorted(runs, key=float)}
