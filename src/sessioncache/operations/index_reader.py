"""Reading an index: its entries, compared with what is stored of their sessions.

An entry is stale, and is removed, if its session is gone or belongs to another index. If its session is there
but cannot be read, because it is damaged or of another version, the entry stays: those who can read the
session would lose it. An entry is ahead, and is lowered, if its session was updated earlier than it says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from sessioncache.errors import DamagedSessionError, SessionVersionError, UnavailableError
from sessioncache.storage import keys
from sessioncache.storage.run_range import NO_RUNS
from sessioncache.storage.scripts import Correction
from sessioncache.transport import redis_errors
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.together import together
from sessioncache.validation import is_id

from .context import TALLY, Context
from .index import (
    DAMAGE,
    WHEREABOUTS,
    Entry,
    Whereabouts,
    checked,
    correct_index,
    make_entries,
    read_whereabouts,
)
from .index_shards import Found, ShardedIndex
from .lookup import parse_reply, read_request

log = logging.getLogger("sessioncache")

SPARE: Final = 8
"""Entries read beyond a page's limit: so many sessions may be gone before another round trip is needed."""

GROWTH: Final = 2
LARGEST_READ: Final = 2000
"""Most entries of one further read, and most entries removed at once: some milliseconds of a server."""

Entries = dict[str, Found]
"""Session ids and their entries, in the order of the index."""

NAMED: Final = 10
"""Most sessions that one line of the log names."""


class Listed(Protocol):
    """What is read of a session has to say whose it is, and when it was updated."""

    @property
    def user_id(self) -> str | None: ...  # noqa: D102
    @property
    def workflow_id(self) -> str | None: ...  # noqa: D102
    @property
    def updated_at(self) -> int | None: ...  # noqa: D102


S = TypeVar("S", bound=Listed)


class IndexReader:
    """One reading of an index: how far it was read, and which of its entries are wrong."""

    def __init__(self, ctx: Context, key: bytes, *, newest_first: bool = True) -> None:
        self._ctx = ctx
        self._key = key
        self._newest_first = bool(newest_first)
        self._index = ShardedIndex(ctx, key, newest_first=self._newest_first)
        self._size = 0
        self._seen: dict[str, Found] = {}
        self._last: Found | None = None
        self._held: dict[str, Any] = {}
        self._stale: dict[str, Found] = {}
        self._ahead: dict[str, Correction] = {}
        self._damaged: list[str] = []
        self._of_another_version: list[str] = []

    @property
    def is_read(self) -> bool:
        """Return whether all entries have been read."""
        return self._index.is_read

    @property
    def total(self) -> int:
        """Return how many sessions the index lists, less those found to be gone."""
        return self._size - len(self._stale)

    def read_first(self, size: int) -> Flow[tuple[Entries, Entries]]:
        """Read the first entries, and others to be checked; count them all: one round trip."""
        page, others, self._size = yield from self._index.read_first(size)
        return self._next(page), self.entries_of(others)

    def read(self, size: int | None = None) -> Flow[Entries]:
        """Read the next entries, or all: one round trip."""
        return self._next((yield from self._index.read(size)))

    def sift(
        self, entries: Entries, replies: Sequence[Any], read: Callable[[str, Any], S | None]
    ) -> dict[str, S]:
        """Return the sessions of this index, as `read` makes them of replies; record which entries are wrong.

        `read` returns None for a session that is gone, and raises DamagedSessionError or ValueError for one
        that is left out.
        """
        found = {}
        for (session_id, entry), reply in zip(entries.items(), replies, strict=True):
            try:
                session = read(session_id, checked(reply))
            except SessionVersionError:
                self._of_another_version.append(session_id)
                continue
            except (DamagedSessionError, ValueError):
                self._damaged.append(session_id)
                continue
            if session is None or not self._is_for(session):
                self._stale[session_id] = entry
            else:
                found[session_id] = session
        return found

    def arrange(self, sessions: Mapping[str, S]) -> list[S]:
        """Return sessions of the entries read last, and of those before, in the order of their last update.

        An entry can be ahead of its session: its write is under way, or was refused. Such a session is held
        back until it is its turn. Oldest first, one that is ahead comes later than it should.
        """
        self._held.update(sessions)
        places = {session_id: self._place(session_id) for session_id in self._held}
        if self._newest_first and not self.is_read and self._last:
            end = self._last[:2]
            places = {session_id: place for session_id, place in places.items() if place >= end}
        order = sorted(places, key=places.__getitem__, reverse=self._newest_first)
        return [self._held.pop(session_id) for session_id in order]

    def _place(self, session_id: str) -> tuple[float, bytes]:
        entry, updated_at = self._seen[session_id], self._held[session_id].updated_at
        if updated_at is None or updated_at >= entry.score:
            return entry.score, entry.member
        self._ahead[session_id] = Correction(entry.member, entry.listed, b"%d" % updated_at)
        return updated_at, entry.member

    def finish(self) -> Flow[None]:
        """Log which sessions were left out, and correct wrong entries, as far as the server lets us."""
        TALLY.add("damaged_sessions", len(self._damaged))
        _log_left_out(self._damaged, "damaged")
        _log_left_out(self._of_another_version, "stored in a layout of another version")
        stale = dict(islice(self._stale.items(), LARGEST_READ))
        if not stale and not self._ahead:
            return
        # A listing does not wait for a server that takes no writes: its first retry is beyond the timeout.
        ctx = replace(self._ctx, pause=self._ctx.settings.timeout)
        try:
            yield from self._correct(ctx, stale)
        except (UnavailableError, DamagedSessionError) as exc:
            reason = redis_errors.describe(exc.__cause__ or exc)
            log.warning("%d sessions that are gone stay listed: %s", len(stale), reason)
        else:
            TALLY.add("healed_index_entries", len(stale) + len(self._ahead))
            log.info("%d sessions that are gone are listed no more", len(stale))

    def _correct(self, ctx: Context, stale: Entries) -> Flow[None]:
        """Correct entries; list sessions again that were created anew meanwhile, in the second of theirs."""
        by_key: dict[bytes, list[Correction]] = {}
        for entry in stale.values():
            by_key.setdefault(entry.key, []).append(Correction(entry.member, entry.listed))
        for session_id, correction in self._ahead.items():
            by_key.setdefault(self._seen[session_id].key, []).append(correction)
        yield from together([correct_index(ctx, key, wrong) for key, wrong in by_key.items()])
        sessions = {name: entry for name, entry in stale.items() if is_id(name)}
        replies = yield from send_all(ctx, [look_request(ctx, name, WHEREABOUTS) for name in sessions])
        again = IndexReader(ctx, self._key)
        found = again.sift(sessions, replies, _read_whereabouts)
        anew = [stale[name] for name in (*found, *again._damaged, *again._of_another_version)]
        ttl = ctx.settings.index_ttl
        yield from make_entries(ctx, [Entry(each.key, each.member, each.listed, ttl) for each in anew])

    def _is_for(self, session: Listed) -> bool:
        prefix = self._ctx.settings.prefix
        return self._key in keys.indexes(prefix, session.user_id, session.workflow_id)

    def _next(self, found: Sequence[Found]) -> Entries:
        """Return the entries that were not in a slice before: a write moves them."""
        self._last = found[-1] if found else self._last
        entries = self.entries_of(found)
        fresh = {session_id: entry for session_id, entry in entries.items() if session_id not in self._seen}
        self._seen |= fresh
        return fresh

    def entries_of(self, found: Sequence[Found]) -> Entries:
        """Return entries by session; what can be no session's id was written by something else."""
        entries: Entries = {}
        for entry in found:
            name = entry.member.decode(errors=_ODD_BYTES)
            (entries if is_id(name) else self._stale)[name] = entry
        return entries


_ODD_BYTES: Final = "surrogateescape"
"""How bytes that are no text are kept: they are removed as they are."""


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
