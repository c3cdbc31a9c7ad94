"""The entries of indexes: read, compared with what is stored, and kept true.

An entry is a hint, what is stored of its session is the truth. It is stale, and taken off, if the session is
gone or belongs to another index. If the session is there and cannot be read, because it is damaged or of
another version, its entry stays: else it would be lost to those who can read it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sessioncache import faults, keys
from sessioncache.errors import (
    DamagedSessionError,
    InvalidArgumentError,
    SessionVersionError,
    UnavailableError,
)
from sessioncache.fields import unix_seconds
from sessioncache.flow import Command, Flow, Request, Script
from sessioncache.resilience import Call, ask, ask_all

from .reading import IDENTITY, Identity, identify, pairs
from .tolerant import TolerantRequest, checked

log = logging.getLogger("sessioncache")

LIST_SESSION: Final = Script("list_session")
UNLIST_SESSIONS: Final = Script("unlist_sessions")
REPAIR_INDEX: Final = Script("repair_index")

SPARE: Final = 8
"""Entries read beyond a page's limit: so many sessions may be gone before another round trip is needed."""

GROWTH: Final = 2
LARGEST_READ: Final = 2000
"""Entries of one further read at the most, and entries taken off at once: some milliseconds of a server."""

SWEEP: Final = 16
"""Oldest entries looked at with each listing: sessions expire there first, and are taken off the index."""

SAMPLE: Final = 8
"""Entries looked at by chance with each listing: else those behind old sessions that live on would stay."""

NAMED: Final = 10
"""Sessions that one line of the log names."""

Entries = dict[str, bytes]
"""Session ids and the update times they are listed with, in the order of the index."""


class Listed(Protocol):
    """What is read of a session has to say whose it is."""

    @property
    def user_id(self) -> str | None: ...  # noqa: D102
    @property
    def workflow_id(self) -> str | None: ...  # noqa: D102


S = TypeVar("S", bound=Listed)


class Index:
    """One reading of an index: how far it was read, and which of its entries are stale."""

    def __init__(self, call: Call, key: bytes, *, newest_first: bool = True) -> None:
        self.is_read = False
        """Whether all entries have been read."""
        self._call = call
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
        """Read the first entries, and others to be looked at too; count them all: one round trip."""
        oldest = (b"ZRANGE", self._key, b"0", b"%d" % (SWEEP - 1), b"WITHSCORES")
        some = (b"ZRANDMEMBER", self._key, b"%d" % SAMPLE, b"WITHSCORES")
        commands = (self._slice(size), oldest, some, (b"ZCARD", self._key))
        page, swept, sample, self._size = yield from self._ask(commands)
        return self._next(page, size), self._entries(swept) | self._entries(sample)

    def read(self, size: int | None = None) -> Flow[Entries]:
        """Read the next entries, or all: one round trip."""
        return self._next((yield from self._ask((self._slice(size),))), size)

    def sift(
        self, entries: Entries, replies: Sequence[Any], read: Callable[[str, Any], S | None]
    ) -> dict[str, S]:
        """Return the sessions of this index, by what `read` makes of replies; note which entries are stale.

        `read` returns None for a session that is gone; one it raises DamagedSessionError or ValueError for is
        left out.
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
        """Log which sessions were left out, and take stale entries off, as far as the server lets us."""
        _log_left_out(self._damaged, "damaged")
        _log_left_out(self._of_another_version, "stored in a layout of another version")
        stale = dict(islice(self._stale.items(), LARGEST_READ))
        if not stale:
            return
        # A listing does not wait for a server that takes no writes: its first retry is beyond the timeout.
        call = replace(self._call, pause=self._call.settings.timeout)
        try:
            yield from self._unlist(call, stale)
        except (UnavailableError, DamagedSessionError) as exc:
            reason = faults.describe(exc.__cause__ or exc)
            log.warning("%d sessions that are gone stay listed: %s", len(stale), reason)
        else:
            log.info("%d sessions that are gone are listed no more", len(stale))

    def _unlist(self, call: Call, stale: Entries) -> Flow[None]:
        """Take entries off; list those again that were made anew meanwhile, in the second of their entry."""
        arguments = [part for entry, score in stale.items() for part in (_member(entry), score)]
        yield from ask(call, UNLIST_SESSIONS.call((self._key,), arguments))
        sessions = {entry: score for entry, score in stale.items() if is_session_id(entry)}
        replies = yield from ask_all(call, [look_request(call, name, WHEREABOUTS) for name in sessions])
        again = Index(call, self._key)
        found = again.sift(sessions, replies, _look_for_whereabouts)
        ttl = ttl_of_indexes(call, call.settings.ttl)
        for session_id in (*found, *again._damaged, *again._of_another_version):
            yield from list_session(call, (self._key,), session_id, stale[session_id], ttl)

    def _is_for(self, session: Listed) -> bool:
        prefix = self._call.settings.prefix
        return self._key in keys.indexes(prefix, session.user_id, session.workflow_id)

    def _ask(self, commands: tuple[Command, ...]) -> Flow[Any]:
        try:
            return (yield from ask(self._call, Request(self._key, commands)))
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
        for member, score in pairs(scored).items():
            entry = member.decode(errors=_ODD_BYTES)
            (entries if is_session_id(entry) else self._stale)[entry] = score
        return entries


_ODD_BYTES: Final = "surrogateescape"
"""How bytes that are no text are kept: they are taken off as they are."""


def _member(entry: str) -> bytes:
    return entry.encode(errors=_ODD_BYTES)


def is_session_id(text: str) -> bool:
    """Tell whether a text can be the id of a session."""
    try:
        keys.encoded_id(text, "session_id")
    except InvalidArgumentError:
        return False
    return True


def _log_left_out(session_ids: list[str], reason: str) -> None:
    """Say in one line which sessions a listing lacks: during an upgrade they may be many."""
    if not session_ids:
        return
    unique = list(dict.fromkeys(session_ids))
    named = ", ".join(map(repr, unique[:NAMED]))
    log.warning("%d sessions are left out of a listing: they are %s (%s)", len(unique), reason, named)


def look_request(call: Call, session_id: str, fields: Iterable[bytes]) -> Request:
    """Return the request that reads some fields of a session, and what tells whether it is whole."""
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    return TolerantRequest(meta, ((b"HMGET", meta, *IDENTITY, *fields), (b"ZCARD", runs)))


def read_look(session_id: str, reply: Sequence[Any]) -> tuple[Identity, Sequence[bytes | None]] | None:
    """Return what a look request read, None if the session is gone."""
    fields, members = reply
    identity = identify(session_id, fields[: len(IDENTITY)], members)
    return None if identity is None else (identity, fields[len(IDENTITY) :])


class Whereabouts(NamedTuple):
    """Where a session is listed, and as of when."""

    user_id: str | None
    workflow_id: str | None
    updated_at: int


WHEREABOUTS: Final = (b"user_id", b"workflow_id", b"updated_at")


def read_whereabouts(fields: Sequence[bytes | None]) -> Whereabouts:
    """Return what the WHEREABOUTS fields say; raise ValueError if one does not decode."""
    user_id, workflow_id, updated_at = fields
    updated = unix_seconds(int(updated_at or b""), "updated_at")
    return Whereabouts(optional_text(user_id), optional_text(workflow_id), updated)


def _look_for_whereabouts(session_id: str, reply: Sequence[Any]) -> Whereabouts | None:
    found = read_look(session_id, reply)
    return None if found is None else read_whereabouts(found[1])


def optional_text(stored: bytes | None) -> str | None:
    """Return a field that is text, if it is stored; raise ValueError if it does not decode."""
    return None if stored is None else stored.decode()


def ttl_of_indexes(call: Call, ttl: int | None) -> bytes:
    """Return how long indexes live: twice as long if reads, which touch them less often, count too."""
    if ttl is None:
        return b""
    return b"%d" % (2 * ttl if call.settings.touch_on_read else ttl)


def listing_request(index: bytes, session_id: bytes, updated_at: bytes, ttl: bytes) -> Request:
    """Return the request that lists a session in one index."""
    return TolerantRequest(*LIST_SESSION.call((index,), (session_id, updated_at, ttl)))


def list_session(
    call: Call, indexes: Iterable[bytes], session_id: str, updated_at: bytes, ttl: bytes
) -> Flow[None]:
    """List a session that is written by now; an index that cannot be is no error, for it is only a hint."""
    requests = [listing_request(index, session_id.encode(), updated_at, ttl) for index in indexes]
    try:
        for reply in (yield from ask_all(call, requests)):
            checked(reply)
    except (UnavailableError, DamagedSessionError) as exc:
        log.warning("session %r is not listed in every index: %s", session_id, exc)


def repair(call: Call, indexes: Iterable[bytes]) -> Flow[None]:
    """Remove those of some indexes that are no sorted sets: something else wrote them."""
    keys_of_indexes = list(indexes)
    counts = [TolerantRequest(index, ((b"ZCARD", index),)) for index in keys_of_indexes]
    replies = yield from ask_all(call, counts)
    foreign = [
        index
        for index, reply in zip(keys_of_indexes, replies, strict=True)
        if isinstance(reply, DamagedSessionError)
    ]
    yield from ask_all(call, [REPAIR_INDEX.call((index,), ()) for index in foreign])
    for index in foreign:
        log.warning("index %r was no sorted set: it is made anew", index.decode())
