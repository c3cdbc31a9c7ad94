"""Pages of sessions, by the indexes; what an index says is a hint, what a session says is the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sessioncache import codec, keys
from sessioncache.errors import InvalidArgumentError
from sessioncache.fields import field_name, unix_seconds
from sessioncache.flow import Flow
from sessioncache.resilience import Call, ask_all
from sessioncache.settings import whole_number

from .index import (
    GROWTH,
    LARGEST_READ,
    SPARE,
    Entries,
    Index,
    look_request,
    optional_text,
    read_look,
)

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
    """A page of sessions; `total` is how many the index lists, if that needs no look at each of them.

    `total` may count sessions that expired since the index was last looked at, and counts those that are
    damaged or of another version, which no page has.
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


def list_sessions(
    call: Call, wanted: Filter, *, limit: int = 20, offset: int = 0, newest_first: bool = True
) -> Flow[SessionPage]:
    """Return a page of sessions by the time of their last update: two round trips.

    More are needed for a large offset, for sessions that are gone, and for filters that no index serves.
    """
    whole_number(limit, "limit", 0, MAX_PAGE)
    whole_number(offset, "offset", 0)
    index = Index(call, wanted.index(call.settings.prefix), newest_first=newest_first)
    found = yield from _collect(call, index, wanted, limit, offset)
    yield from index.finish()
    return SessionPage(found, None if wanted.looks_at_sessions else index.total)


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


def _collect(call: Call, index: Index, wanted: Filter, limit: int, offset: int) -> Flow[list[SessionSummary]]:
    """Read entries and look at their sessions until the page is full, or there are no more.

    Sessions before the page are looked at too: those that are gone do not count.
    """
    size = min(offset, LARGEST_READ) + limit + SPARE
    entries, others = yield from index.read_first(size)
    summaries = yield from _look_at(call, index, entries | others)
    fitting = [summaries[name] for name in entries if name in summaries and wanted.admits(summaries[name])]
    found = fitting[offset:]
    while not index.is_read and len(found) < limit:
        offset = max(0, offset - len(fitting))
        size = min(size * GROWTH, LARGEST_READ)
        summaries = yield from _look_at(call, index, (yield from index.read(size)))
        fitting = [session for session in summaries.values() if wanted.admits(session)]
        found += fitting[offset:]
    return found[:limit]


def _look_at(call: Call, index: Index, entries: Entries) -> Flow[dict[str, SessionSummary]]:
    """Read what listings say of sessions: one round trip for each server."""
    requests = [look_request(call, session_id, _SUMMARY_FIELDS) for session_id in entries]
    return index.sift(entries, (yield from ask_all(call, requests)), _summary)


_SUMMARY_FIELDS: Final = (
    b"user_id",
    b"workflow_id",
    b"workflow_name",
    field_name("session_data", "session_name"),
    b"created_at",
    b"updated_at",
)


def _summary(session_id: str, reply: Sequence[Any]) -> SessionSummary | None:
    look = read_look(session_id, reply)
    if look is None:
        return None
    identity, (*texts, name, created_at, updated_at) = look
    user_id, workflow_id, workflow_name = map(optional_text, texts)
    return SessionSummary(
        session_id,
        user_id,
        workflow_id,
        workflow_name,
        packed_text(name),
        None if created_at is None else int(created_at),
        int(updated_at or 0),
        identity.count,
    )


def packed_text(packed: bytes | None) -> str | None:
    """Return a packed text; what is no text, or does not decode, is None in a listing."""
    try:
        text = None if packed is None else codec.unpack(packed)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
