"""Pages of sessions, by the indexes: an entry is a hint, and what is stored of its session is the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from sessioncache import validation
from sessioncache.errors import InvalidArgumentError
from sessioncache.models import SessionPage, SessionSummary
from sessioncache.storage import codec, keys
from sessioncache.storage.session_hash import field_name
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow

from .context import Context
from .index import optional_text
from .index_reader import GROWTH, LARGEST_READ, SPARE, Entries, IndexReader, look_request
from .lookup import parse_reply
from .sealing import opened

MAX_PAGE: Final = 10_000
"""Most sessions of a page."""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are listed; None means any."""

    user_id: str | None = None
    workflow_id: str | None = None
    name: str | None = None
    created_after: int | None = None
    created_before: int | None = None

    def check(self) -> None:
        """Raise InvalidArgumentError naming the argument that is wrong."""
        validation.optional_id(self.user_id, "user_id")
        validation.optional_id(self.workflow_id, "workflow_id")
        if self.name is not None and not isinstance(self.name, str):
            raise InvalidArgumentError(f"name must be a str, not {type(self.name).__name__}")
        for name in ("created_after", "created_before"):
            if (seconds := getattr(self, name)) is not None:
                validation.unix_seconds(seconds, name)

    def scoped(self, ctx: Context) -> SessionFilter:
        """Return the filter for the user of a call."""
        if ctx.user_id is None:
            return self
        if self.user_id not in (None, ctx.user_id):
            raise InvalidArgumentError("user_id is another user's than the call")
        return replace(self, user_id=ctx.user_id)

    @property
    def looks_at_sessions(self) -> bool:
        """Return whether an index alone cannot tell which sessions are listed."""
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
        """Return whether a session is one of those wanted."""
        return (
            self.user_id in (None, session.user_id)
            and self.workflow_id in (None, session.workflow_id)
            and (self.name is None or self.name.casefold() in (session.session_name or "").casefold())
            and (self.created_after is None or (session.created_at or 0) >= self.created_after)
            and (self.created_before is None or (session.created_at or 0) <= self.created_before)
        )


def list_sessions(
    ctx: Context, wanted: SessionFilter, *, limit: int = 20, offset: int = 0, newest_first: bool = True
) -> Flow[SessionPage]:
    """Return a page of sessions by the time of their last update: two round trips.

    More are needed for a large offset, for sessions that are gone, and for filters that no index serves.
    """
    wanted = wanted.scoped(ctx)
    wanted.check()
    validation.whole_number(limit, "limit", 0, MAX_PAGE)
    validation.whole_number(offset, "offset", 0)
    index = IndexReader(ctx, wanted.index(ctx.settings.prefix), newest_first=newest_first)
    found = yield from _collect(ctx, index, wanted, limit, offset)
    yield from index.finish()
    return SessionPage(found, None if wanted.looks_at_sessions else index.total)


def _collect(
    ctx: Context, index: IndexReader, wanted: SessionFilter, limit: int, offset: int
) -> Flow[list[SessionSummary]]:
    """Read entries and look at their sessions until the page is full, or there are no more.

    Sessions before the page are looked at too: those that are gone do not count.
    """
    size = min(offset, LARGEST_READ) + limit + SPARE
    entries, others = yield from index.read_first(size)
    summaries = yield from look_at(ctx, index, entries | others)
    page = index.arrange({name: summaries[name] for name in entries if name in summaries})
    fitting = [session for session in page if wanted.admits(session)]
    found = fitting[offset:]
    while not index.is_read and len(found) < limit:
        offset = max(0, offset - len(fitting))
        size = min(size * GROWTH, LARGEST_READ)
        page = index.arrange((yield from look_at(ctx, index, (yield from index.read(size)))))
        fitting = [session for session in page if wanted.admits(session)]
        found += fitting[offset:]
    return found[:limit]


def look_at(ctx: Context, index: IndexReader, entries: Entries) -> Flow[dict[str, SessionSummary]]:
    """Read the summaries of sessions: one round trip for each server."""
    requests = [look_request(ctx, session_id, _SUMMARY_FIELDS) for session_id in entries]
    return index.sift(entries, (yield from send_all(ctx, requests)), partial(_summary, ctx))


_SUMMARY_FIELDS: Final = (
    b"user_id",
    b"workflow_id",
    b"workflow_name",
    field_name("session_data", "session_name"),
    b"created_at",
    b"updated_at",
)


def _summary(ctx: Context, session_id: str, reply: Any) -> SessionSummary | None:
    found = opened(ctx, session_id, parse_reply(session_id, reply, fields=_SUMMARY_FIELDS))
    if found is None:
        return None
    *texts, name, created_at, updated_at = map(found.fields.get, _SUMMARY_FIELDS)
    user_id, workflow_id, workflow_name = map(optional_text, texts)
    return SessionSummary(
        session_id,
        user_id,
        workflow_id,
        workflow_name,
        packed_text(name),
        None if created_at is None else int(created_at),
        int(updated_at or 0),
        found.n_runs,
    )


def packed_text(packed: bytes | None) -> str | None:
    """Return a packed text; in a listing, what is no text or does not decode is None."""
    try:
        text = None if packed is None else codec.unpack(packed)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
