"""Pages of sessions, by the indexes; what an index says is a hint, what a session says is the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sessioncache import codec, keys
from sessioncache.errors import DamagedSessionError, InvalidArgumentError, UnavailableError
from sessioncache.fields import field_name, unix_seconds
from sessioncache.flow import Command, Flow, Request, Script
from sessioncache.resilience import Call, ask, ask_all
from sessioncache.settings import whole_number

from .reading import IDENTITY, identify, log_damaged, pairs
from .writing import LIST_SESSION, optional_number

log = logging.getLogger("sessioncache")

UNLIST_SESSIONS: Final = Script("unlist_sessions")

SPARE: Final = 8
"""Entries read beyond a page's limit: so many sessions may be gone before another round trip is needed."""

GROWTH: Final = 2
LARGEST_READ: Final = 2000
"""Entries of one further read at the most: a filter by name may have to look at every session."""

SWEEP: Final = 16
"""Oldest entries looked at with each listing: sessions expire there first, and are taken off the index."""

SAMPLE: Final = 8
"""Entries looked at by chance with each listing: else those behind old sessions that live on would stay."""

MAX_PAGE: Final = 10_000
"""Largest page: what is more is no page."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """What a listing says of a session; times are unix seconds."""

    session_id: str
    user_id: str | None
    workflow_id: str | None
    workflow_name: str | None
    session_name: str | None
    created_at: int | None
    updated_at: int
    run_count: int


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions; `total` is how many the index lists, where that needs no look at each of them.

    Sessions that expired since the index was last looked at may be counted in `total`.
    """

    sessions: list[SessionSummary]
    total: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sessions are listed; None stands for any."""

    user_id: str | None = None
    workflow_id: str | None = None
    name: str | None = None
    created_after: int | None = None
    created_before: int | None = None

    @property
    def looks_at_sessions(self) -> bool:
        """Tell whether an index alone cannot say which sessions are listed."""
        both = self.user_id is not None and self.workflow_id is not None
        return both or (self.name, self.created_after, self.created_before) != (None, None, None)

    def index(self, prefix: str) -> bytes:
        """Return the key of the smallest index that has all sessions wanted."""
        if self.user_id is not None:
            return keys.index_of_user(prefix, self.user_id)
        if self.workflow_id is not None:
            return keys.index_of_workflow(prefix, self.workflow_id)
        return keys.index_of_all(prefix)

    def admits(self, session: SessionSummary) -> bool:
        """Tell whether a session is one of those wanted."""
        return (
            self.user_id in (None, session.user_id)
            and self.workflow_id in (None, session.workflow_id)
            and (self.name is None or self.name.casefold() in (session.session_name or "").casefold())
            and (self.created_after is None or (session.created_at or 0) >= self.created_after)
            and (self.created_before is None or (session.created_at or 0) <= self.created_before)
        )


Entries = dict[str, bytes]
"""Session ids and the update times they are listed with, in the order of the index."""


def list_sessions(
    call: Call, wanted: Filter, *, limit: int = 20, offset: int = 0, newest_first: bool = True
) -> Flow[SessionPage]:
    """Return a page of sessions by the time of their last update: two round trips.

    More are needed where sessions are met that are gone, or that a filter leaves out which indexes know
    nothing of.
    """
    whole_number(limit, "limit", 0, MAX_PAGE)
    whole_number(offset, "offset", 0)
    listing = _Listing(call, wanted, newest_first=newest_first)
    found = yield from listing.collect(limit, offset)
    yield from listing.forget_gone()
    return SessionPage(found, None if wanted.looks_at_sessions else listing.total)


def checked_filter(
    user_id: str | None,
    workflow_id: str | None,
    name: str | None,
    created_after: int | None,
    created_before: int | None,
) -> Filter:
    """Return a filter; raise InvalidArgumentError naming the argument that is wrong."""
    for argument, value in (("user_id", user_id), ("workflow_id", workflow_id)):
        if value is not None:
            keys.encoded_id(value, argument)
    if name is not None and not isinstance(name, str):
        raise InvalidArgumentError(f"name must be a str, not {type(name).__name__}")
    for argument, time in (("created_after", created_after), ("created_before", created_before)):
        if time is not None:
            unix_seconds(time, argument)
    return Filter(user_id, workflow_id, name, created_after, created_before)


class _Listing:
    """One listing under way: the entries read so far, and those found to be stale."""

    def __init__(self, call: Call, wanted: Filter, *, newest_first: bool) -> None:
        self._call = call
        self._wanted = wanted
        self._index = wanted.index(call.settings.prefix)
        self._order = (b"REV",) if newest_first else ()
        self._stale: Entries = {}
        self._listed = 0

    @property
    def total(self) -> int:
        """Return how many sessions the index lists, less those found to be gone."""
        return self._listed - len(self._stale)

    def collect(self, limit: int, offset: int) -> Flow[list[SessionSummary]]:
        """Read entries and look at their sessions until the page is full, or there are no more."""
        start, skip = (0, offset) if self._wanted.looks_at_sessions else (offset, 0)
        size = skip + limit + SPARE
        entries, others = yield from self._first_entries(start, size)
        found = yield from self._look_at(entries, also=others)
        while len(entries) == size and len(found) < skip + limit:
            start, size = start + size, min(size * GROWTH, LARGEST_READ)
            entries = yield from self._entries(start, size)
            found += yield from self._look_at(entries)
        return found[skip : skip + limit]

    def forget_gone(self) -> Flow[None]:
        """Take stale entries off the index; one that cannot be reached is no error, for it is only a hint."""
        if not self._stale:
            return
        arguments = [part for entry, score in self._stale.items() for part in (_member(entry), score)]
        try:
            yield from ask(self._call, UNLIST_SESSIONS.call((self._index,), arguments))
            yield from self._list_again()
        except UnavailableError as exc:
            log.warning("%d sessions that are gone stay listed: %s", len(self._stale), exc)
        else:
            log.info("%d sessions that are gone are listed no more", len(self._stale))

    def _list_again(self) -> Flow[None]:
        """List those again that were made anew meanwhile, in the second that their entry was of."""
        ttl = optional_number(self._call.settings.ttl)
        summaries = yield from _summaries(self._call, self._stale)
        requests = [
            LIST_SESSION.call((self._index,), (_member(session_id), b"%d" % session.updated_at, ttl))
            for session_id, session in summaries.items()
            if session is not None and not self._is_stale(session)
        ]
        yield from ask_all(self._call, requests)

    def _first_entries(self, start: int, size: int) -> Flow[tuple[Entries, Entries]]:
        """Read a page of entries, and the oldest ones and some more to be looked at too; count them all."""
        oldest = (b"ZRANGE", self._index, b"0", b"%d" % (SWEEP - 1), b"WITHSCORES")
        some = (b"ZRANDMEMBER", self._index, b"%d" % SAMPLE, b"WITHSCORES")
        commands = (self._slice(start, size), oldest, some, (b"ZCARD", self._index))
        page, swept, sample, self._listed = yield from ask(self._call, Request(self._index, commands))
        return _entries(page), _entries(swept) | _entries(sample)

    def _entries(self, start: int, size: int) -> Flow[Entries]:
        return _entries((yield from ask(self._call, Request(self._index, (self._slice(start, size),)))))

    def _slice(self, start: int, size: int) -> Command:
        stop = start + size - 1
        return (b"ZRANGE", self._index, b"%d" % start, b"%d" % stop, *self._order, b"WITHSCORES")

    def _look_at(self, entries: Entries, *, also: Entries | None = None) -> Flow[list[SessionSummary]]:
        """Return those sessions of a page of entries that are wanted; note all that are stale."""
        looked_at = entries | (also or {})
        summaries = yield from _summaries(self._call, looked_at)
        self._stale |= {
            name: looked_at[name] for name, session in summaries.items() if self._is_stale(session)
        }
        page = (summaries[session_id] for session_id in entries)
        return [session for session in page if session is not None and self._wanted.admits(session)]

    def _is_stale(self, session: SessionSummary | None) -> bool:
        if session is None:
            return True
        prefix = self._call.settings.prefix
        return self._index not in keys.indexes(prefix, session.user_id, session.workflow_id)


def _entries(scored: Sequence[bytes]) -> Entries:
    return {member.decode(errors=_ODD_BYTES): score for member, score in pairs(scored).items()}


def _member(entry: str) -> bytes:
    return entry.encode(errors=_ODD_BYTES)


_ODD_BYTES: Final = "surrogateescape"
"""How bytes that are no text are kept: something else wrote them, and they are taken off."""


def _is_session_id(entry: str) -> bool:
    try:
        keys.encoded_id(entry, "entry")
    except InvalidArgumentError:
        return False
    return True


_SUMMARY_FIELDS: Final = (
    *IDENTITY,
    b"user_id",
    b"workflow_id",
    b"workflow_name",
    field_name("session_data", "session_name"),
    b"created_at",
    b"updated_at",
)


def _summaries(call: Call, entries: Iterable[str]) -> Flow[dict[str, SessionSummary | None]]:
    """Read what listings say of sessions, None of those that are gone or damaged: one round trip a server."""
    session_ids = list(filter(_is_session_id, entries))
    replies = yield from ask_all(call, [_summary_request(call, session_id) for session_id in session_ids])
    found = zip(session_ids, replies, strict=True)
    return dict.fromkeys(entries) | {session_id: _summary(session_id, *reply) for session_id, reply in found}


def _summary_request(call: Call, session_id: str) -> Request:
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    return Request(meta, ((b"HMGET", meta, *_SUMMARY_FIELDS), (b"ZCARD", runs)))


def _summary(session_id: str, fields: Sequence[bytes | None], members: int) -> SessionSummary | None:
    try:
        identity = identify(session_id, fields[: len(IDENTITY)], members)
        if identity is None:
            return None
        return _read_summary(session_id, fields[len(IDENTITY) :], identity.count)
    except (ValueError, DamagedSessionError):
        log_damaged(session_id)
        return None


def _read_summary(session_id: str, fields: Sequence[bytes | None], count: int) -> SessionSummary:
    *texts, name, created_at, updated_at = fields
    user_id, workflow_id, workflow_name = (None if text is None else text.decode() for text in texts)
    created = None if created_at is None else int(created_at)
    updated = int(updated_at or 0)
    return SessionSummary(
        session_id, user_id, workflow_id, workflow_name, _name(name), created, updated, count
    )


def _name(packed: bytes | None) -> str | None:
    """Return a session's name; one that is no text, or does not decode, is none here."""
    try:
        name = None if packed is None else codec.unpack(packed)
    except ValueError:
        return None
    return name if isinstance(name, str) else None
