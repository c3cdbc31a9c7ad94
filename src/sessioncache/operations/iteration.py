"""Walks over all sessions of an index, in pages: the memory of a page, and eight bytes a session."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from sessioncache.models import SessionSummary
from sessioncache.transport.flow import Flow
from sessioncache.validation import whole_number

from .context import Context
from .index import shards
from .index_reader import IndexReader
from .index_shards import EntryWalk, Found, read_entries
from .listing import SessionFilter, look_at

CHUNK: Final = 8192
"""How many sessions that were seen are looked through at once."""


class SessionWalk:
    """A walk under way: shard by shard, in each from the session that was updated first to the last.

    A session that is written meanwhile moves to the end, where it is met again, or for the first time. So
    what is newer than all was at the beginning is read last, at once, and of it what has been seen is left
    out.
    """

    def __init__(self, wanted: SessionFilter, page_size: int) -> None:
        wanted.check()
        self.wanted = wanted
        self.page_size = whole_number(page_size, "page_size", 1)
        self._shards: list[bytes] | None = None
        self._begin()

    def _begin(self) -> None:
        self._end: float | None = None
        self._walk: EntryWalk | None = None
        self._seen = array("Q")

    def next_page(self, ctx: Context) -> Flow[list[SessionSummary] | None]:
        """Return the next sessions, perhaps none of a page; None at the end of all."""
        self.wanted = self.wanted.scoped(ctx)
        index = self.wanted.index(ctx.settings.prefix)
        if self._shards is None:
            self._shards = list(shards(ctx, index))
        if not self._shards:
            return None
        key = self._shards[0]
        if self._walk is None:
            self._end = yield from _last_score(ctx, key)
            self._walk = EntryWalk(key, self.page_size)
        found = yield from self._older(ctx, self._walk)
        if not found:
            found = yield from self._newer(ctx, key)
            del self._shards[0]
            self._begin()
        reader = IndexReader(ctx, index)
        sessions = yield from look_at(ctx, reader, reader.entries_of(found))
        yield from reader.finish()
        return [session for session in sessions.values() if self.wanted.admits(session)]

    def _older(self, ctx: Context, walk: EntryWalk) -> Flow[list[Found]]:
        """Return the next entries that are older than the walk."""
        found = yield from walk.next_page(ctx, b"(%r" % self._end)
        self._seen.extend(digest_of(entry.member) for entry in found)
        return found

    def _newer(self, ctx: Context, key: bytes) -> Flow[list[Found]]:
        """Return the entries of the time of the walk itself, but for those seen before."""
        command = (b"ZRANGE", key, b"%r" % self._end, b"+inf", b"BYSCORE", b"WITHSCORES")
        entries = yield from read_entries(ctx, command)
        by_digest = {digest_of(entry.member): entry for entry in entries}
        seen = _common(by_digest.keys(), self._seen)
        return [entry for digest, entry in by_digest.items() if digest not in seen]


def next_sessions(ctx: Context, walk: SessionWalk) -> Flow[list[SessionSummary] | None]:
    """Return the next page of a walk: two round trips, and a third at the end of each index."""
    return walk.next_page(ctx)


def _last_score(ctx: Context, key: bytes) -> Flow[float]:
    entries = yield from read_entries(ctx, (b"ZRANGE", key, b"0", b"0", b"REV", b"WITHSCORES"))
    return entries[0].score if entries else 0.0


def digest_of(member: bytes) -> int:
    """Return a number of eight bytes that stands for a member."""
    return int.from_bytes(blake2b(member, digest_size=8).digest(), "big")


def _common(wanted: Iterable[int], seen: array[int]) -> set[int]:
    """Return which of some numbers are in a long array."""
    found: set[int] = set()
    chunks: Iterable[array[int]] = (seen[start : start + CHUNK] for start in range(0, len(seen), CHUNK))
    for chunk in chunks:
        found |= set(wanted).intersection(chunk)
    return found
