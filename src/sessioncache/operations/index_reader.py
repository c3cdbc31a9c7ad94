"""Reading an index: its entries, compared with what is stored of their sessions.

An entry is stale, and is removed, if its session is gone or belongs to another index. If its session is there
but cannot be read, because it is damaged or of another version, the entry stays: those who can read the
session would lose it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from sessioncache.errors import DamagedSessionError, SessionVersionError, UnavailableError
from sessioncache.storage import keys
from sessioncache.storage.run_range import NO_RUNS
from sessioncache.transport import redis_errors
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Command, Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.validation import is_id

from .context import Context
from .index import (
    DAMAGE,
    WHEREABOUTS,
    Entries,
    Whereabouts,
    checked,
    list_session,
    read_whereabouts,
    unlist_sessions,
)
from .lookup import parse_reply, read_request

log = logging.getLogger("sessioncache")

SPARE: Final = 8
"""Entries read beyond a page's limit: so many sessions may be gone before another round trip is needed."""

GROWTH: Final = 2
LARGEST_READ: Final = 2000
"""Most entries of one further read, and most entries removed at once: some milliseconds of a server."""

SWEEP: Final = 16
"""Oldest entries checked with each listing: sessions expire there first, and are removed."""

SAMPLE: Final = 8
"""Random entries checked with each listing: else those behind old sessions that live on would stay."""

NAMED: Final = 10
"""Most sessions that one line of the log names."""


class Listed(Protocol):
    """What is read of a session has to say whose it is."""

    @property
    def user_id(self) -> str | None: ...  # noqa: D102
    @property
    def workflow_id(self) -> str | None: ...  # noqa: D102


S = TypeVar("S", bound=Listed)


class IndexReader:
    """One reading of an index: how far it was read, and which of its entries are stale."""

    def __init__(self, ctx: Context, key: bytes, *, newest_first: bool = True) -> None:
        self.is_read = False
        """Whether all entries have been read."""
        self._ctx = ctx
        self._key = key
        self._order = (b"REV",) if newest_first else ()
        self._start = 0
        self._size = 0
        self._seen: set[str] = set()
        self._stale: Entries = {}
        self._damaged: list[str] = []
        self._of_another_version: list[str] = []

    @property
    def total(self) -> int:
        """Return how many sessions the index lists, less those found to be gone."""
        return self._size - len(self._stale)

    def read_first(self, size: int) -> Flow[tuple[Entries, Entries]]:
        """Read the first entries, and others to be checked; count them all: one round trip."""
        oldest = (b"ZRANGE", self._key, b"0", b"%d" % (SWEEP - 1), b"WITHSCORES")
        some = (b"ZRANDMEMBER", self._key, b"%d" % SAMPLE, b"WITHSCORES")
        commands = (self._slice(size), oldest, some, (b"ZCARD", self._key))
        page, swept, sample, self._size = yield from self._send(commands)
        return self._next(page, size), self._entries(swept) | self._entries(sample)

    def read(self, size: int | None = None) -> Flow[Entries]:
        """Read the next entries, or all: one round trip."""
        return self._next((yield from self._send((self._slice(size),))), size)

    def sift(
        self, entries: Entries, replies: Sequence[Any], read: Callable[[str, Any], S | None]
    ) -> dict[str, S]:
        """Return the sessions of this index, as `read` makes them of replies; record which entries are stale.

        `read` returns None for a session that is gone, and raises DamagedSessionError or ValueError for one
        that is left out.
        """
        found = {}
        for (session_id, score), reply in zip(entries.items(), replies, strict=True):
            try:
                session = read(session_id, checked(reply))
            except SessionVersionError:
                self._of_another_version.append(session_id)
                continue
            except (DamagedSessionError, ValueError):
                self._damaged.append(session_id)
                continue
            if session is None or not self._is_for(session):
                self._stale[session_id] = score
            else:
                found[session_id] = session
        return found

    def finish(self) -> Flow[None]:
        """Log which sessions were left out, and remove stale entries, as far as the server lets us."""
        _log_left_out(self._damaged, "damaged")
        _log_left_out(self._of_another_version, "stored in a layout of another version")
        stale = dict(islice(self._stale.items(), LARGEST_READ))
        if not stale:
            return
        # A listing does not wait for a server that takes no writes: its first retry is beyond the timeout.
        ctx = replace(self._ctx, pause=self._ctx.settings.timeout)
        try:
            yield from self._unlist(ctx, stale)
        except (UnavailableError, DamagedSessionError) as exc:
            reason = redis_errors.describe(exc.__cause__ or exc)
            log.warning("%d sessions that are gone stay listed: %s", len(stale), reason)
        else:
            log.info("%d sessions that are gone are listed no more", len(stale))

    def _unlist(self, ctx: Context, stale: Entries) -> Flow[None]:
        """Remove entries; list those again that were created anew meanwhile, in the second of their entry."""
        yield from unlist_sessions(ctx, self._key, {_member(entry): stale[entry] for entry in stale})
        sessions = {entry: score for entry, score in stale.items() if is_id(entry)}
        replies = yield from send_all(ctx, [look_request(ctx, name, WHEREABOUTS) for name in sessions])
        again = IndexReader(ctx, self._key)
        found = again.sift(sessions, replies, _read_whereabouts)
        for session_id in (*found, *again._damaged, *again._of_another_version):
            index_ttl = ctx.settings.index_ttl
            yield from list_session(ctx, (self._key,), session_id, stale[session_id], index_ttl)

    def _is_for(self, session: Listed) -> bool:
        prefix = self._ctx.settings.prefix
        return self._key in keys.indexes(prefix, session.user_id, session.workflow_id)

    def _send(self, commands: tuple[Command, ...]) -> Flow[Any]:
        try:
            return (yield from send(self._ctx, Request(self._key, commands)))
        except DamagedSessionError as exc:
            raise DamagedSessionError(
                f"index {self._key.decode()} is no sorted set: SessionCache.rebuild_indexes() replaces it"
            ) from exc

    def _slice(self, size: int | None) -> Command:
        stop = -1 if size is None else self._start + size - 1
        return (b"ZRANGE", self._key, b"%d" % self._start, b"%d" % stop, *self._order, b"WITHSCORES")

    def _next(self, scored: Sequence[bytes], size: int | None) -> Entries:
        """Return the entries of the next slice that were not in one before: a write moves them."""
        self._start += size or 0
        self.is_read = size is None or len(scored) < 2 * size
        entries = self._entries(scored)
        fresh = {session_id: score for session_id, score in entries.items() if session_id not in self._seen}
        self._seen |= fresh.keys()
        return fresh

    def _entries(self, scored: Sequence[bytes]) -> Entries:
        """Return the entries of a slice; what can be no session's id was written by something else."""
        entries: Entries = {}
        for member, score in zip(scored[::2], scored[1::2], strict=True):
            entry = member.decode(errors=_ODD_BYTES)
            (entries if is_id(entry) else self._stale)[entry] = score
        return entries


_ODD_BYTES: Final = "surrogateescape"
"""How bytes that are no text are kept: they are removed as they are."""


def _member(entry: str) -> bytes:
    return entry.encode(errors=_ODD_BYTES)


def _log_left_out(session_ids: list[str], reason: str) -> None:
    """Log in one line which sessions a listing lacks: during an upgrade they may be many."""
    if not session_ids:
        return
    unique = list(dict.fromkeys(session_ids))
    named = ", ".join(map(repr, unique[:NAMED]))
    log.warning("%d sessions are left out of a listing: they are %s (%s)", len(unique), reason, named)


def look_request(ctx: Context, session_id: str, fields: Sequence[bytes]) -> Request:
    """Return the request that reads some fields of one of many sessions."""
    return read_request(ctx, session_id, NO_RUNS, fields, DAMAGE)


def _read_whereabouts(session_id: str, reply: Any) -> Whereabouts | None:
    found = parse_reply(session_id, reply, fields=WHEREABOUTS)
    return None if found is None else read_whereabouts([found.fields[name] for name in WHEREABOUTS])
