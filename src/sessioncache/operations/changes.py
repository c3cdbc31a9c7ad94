"""What has changed of a session since it was read last: one script, which returns that and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sessioncache.storage import scripts
from sessioncache.storage.keys import session_keys
from sessioncache.storage.run_members import StoredRun
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.scripts import get_changes_arguments
from sessioncache.storage.snapshot import Reading
from sessioncache.transport.request import Request, Script
from sessioncache.transport.retry import fits

from .context import Context
from .reply import not_about, parse_reply

_GET_CHANGES: Final = Script(scripts.GET_CHANGES)


class Changes(NamedTuple):
    """What has become of a session that was read before."""

    reading: Reading
    """The same one if nothing has changed."""
    ttl: int
    """Milliseconds that the session still lives, below 0 for ever."""


def changes_request(
    ctx: Context, session_id: str, known: Reading, wanted: RunRange, since: int | None = None
) -> Request:
    """Return the request for what has changed of a session, of which some of the newest runs are known.

    `since` is the version of the last runs that are known with their orders: by default, the reading's.
    """
    since = known.version if since is None else since
    arguments = get_changes_arguments(
        known.rev, known.born, since, wanted.limit, has_bodies=wanted.has_bodies
    )
    return _GET_CHANGES.call(session_keys(ctx.settings.prefix, session_id), arguments, writes=False)


def read_changes(session_id: str, reply: Any, known: Reading, wanted: RunRange) -> Changes | None:
    """Return what a reply says; None if the session has to be read anew, for too much of it is another.

    Raises ReplyMismatchError if the reply is not about this session.
    """
    match reply:
        case []:
            return None
        case [stored_id, int(ttl), *changed] if stored_id == session_id.encode():
            reading = _changed(session_id, changed, known, wanted) if changed else known
            return None if reading is None else Changes(reading, ttl)
        case [bytes(), int(), *_]:
            raise not_about(session_id)
    raise scripts.mismatch(session_id)


def _changed(session_id: str, reply: Any, known: Reading, wanted: RunRange) -> Reading | None:
    match reply:
        case [row, int(n_members), bytes(tokens), parts] if fits(_HASH, row) and fits(_MEMBERS, parts):
            reading = parse_reply(session_id, [row, n_members])
            runs = _joined(session_id, tokens.split(), parts, known)
        case _:
            raise scripts.mismatch(session_id)
    if reading is None or runs is None or not wanted.has_all(reading.n_runs, len(runs)):
        return None
    reading.runs, reading.by_version = list(runs.values()), runs
    return reading


_HASH: Final = (b"HGETALL", b"")
_MEMBERS: Final = (b"ZRANGE", b"")


def _joined(
    session_id: str, tokens: Sequence[bytes], parts: Sequence[bytes], known: Reading
) -> dict[bytes, StoredRun] | None:
    """Return the runs of the tokens, oldest first; None if one of them was neither known nor sent."""
    changed = {
        token: StoredRun(head, body, token.partition(b":")[0], session_id)
        for token, head, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }
    found = {**known.by_version, **changed}
    try:
        return {token: found[token] for token in reversed(tokens)}
    except KeyError:
        return None
