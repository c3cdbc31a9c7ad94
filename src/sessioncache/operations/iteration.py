"""Walks over all sessions of an index, in pages: the memory of a page, and eight bytes a session."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

from sessioncache.models import SessionSummary
from sessioncache.storage import keys
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.validation import whole_number

from .context import Context
from .index import DAMAGE, checked
from .index_reader import IndexReader
from .index_shards import Found
from .listing import SessionFilter, look_at

MAX_PAGE: Final = 10_000
"""Most sessions of a page."""

GROWTH: Final = 2
"""How much larger a page gets that ends within one second, and holds nothing new."""

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
        self._last = b"-inf"
        self._at_last: set[bytes] = set()
        self._seen = array("Q")

    def next_page(self, ctx: Context) -> Flow[list[SessionSummary] | None]:
        """Return the next sessions, perhaps none of a page; None at the end of all."""
        index = self.wanted.index(ctx.settings.prefix)
        if self._shards is None:
            is_split = not ctx.is_in_one_place and keys.is_split(ctx.settings.prefix, index)
            self._shards = list(keys.shards_of(index) if is_split else (index,))
        if not self._shards:
            return None
        key = self._shards[0]
        if self._end is None:
            self._end = yield from _last_score(ctx, key)
        found = yield from self._older(ctx, key)
        if not found:
            found = yield from self._newer(ctx, key)
            del self._shards[0]
            self._begin()
        reader = IndexReader(ctx, index)
        entries = {entry.member.decode(): entry for entry in found if _is_text(entry.member)}
        sessions = yield from look_at(ctx, reader, entries)
        yield from reader.finish()
        return [session for session in sessions.values() if self.wanted.admits(session)]

    def _older(self, ctx: Context, key: bytes) -> Flow[list[Found]]:
        """Return the next entries that are older than the walk."""
        size = self.page_size
        while True:
            command = (
                b"ZRANGE",
                key,
                self._last,
                b"(%r" % self._end,
                b"BYSCORE",
                b"LIMIT",
                b"0",
                b"%d" % size,
            )
            entries = yield from _entries(ctx, key, (*command, b"WITHSCORES"))
            fresh = [entry for entry in entries if entry.member not in self._at_last]
            if fresh or len(entries) < size:
                break
            size *= GROWTH
        if fresh:
            self._note(fresh)
        return fresh

    def _note(self, fresh: Sequence[Found]) -> None:
        last = fresh[-1]
        same = {entry.member for entry in fresh if entry.listed == last.listed}
        self._at_last = same | self._at_last if last.listed == self._last else same
        self._last = last.listed
        self._seen.extend(_digest(entry.member) for entry in fresh)

    def _newer(self, ctx: Context, key: bytes) -> Flow[list[Found]]:
        """Return the entries of the time of the walk itself, but for those seen before."""
        command = (b"ZRANGE", key, b"%r" % self._end, b"+inf", b"BYSCORE", b"WITHSCORES")
        entries = yield from _entries(ctx, key, command)
        by_digest = {_digest(entry.member): entry for entry in entries}
        seen = _common(by_digest.keys(), self._seen)
        return [entry for digest, entry in by_digest.items() if digest not in seen]


def next_sessions(ctx: Context, walk: SessionWalk) -> Flow[list[SessionSummary] | None]:
    """Return the next page of a walk: two round trips, and a third at the end of each index."""
    return walk.next_page(ctx)


def _last_score(ctx: Context, key: bytes) -> Flow[float]:
    entries = yield from _entries(ctx, key, (b"ZRANGE", key, b"0", b"0", b"REV", b"WITHSCORES"))
    return entries[0].score if entries else 0.0


def _entries(ctx: Context, key: bytes, command: tuple[bytes, ...]) -> Flow[list[Found]]:
    scored: Any = checked((yield from send(ctx, Request(key, (command,), tolerates=DAMAGE))))
    pairs = zip(scored[::2], scored[1::2], strict=True)
    return [Found(float(score), member, score, key) for member, score in pairs]


def _is_text(member: bytes) -> bool:
    try:
        member.decode()
    except UnicodeDecodeError:
        return False
    return True


def _digest(member: bytes) -> int:
    return int.from_bytes(blake2b(member, digest_size=8).digest(), "big")


def _common(wanted: Iterable[int], seen: array[int]) -> set[int]:
    """Return which of some numbers are in a long array."""
    found: set[int] = set()
    chunks: Iterable[array[int]] = (seen[start : start + CHUNK] for start in range(0, len(seen), CHUNK))
    for chunk in chunks:
        found |= set(wanted).intersection(chunk)
    return found
