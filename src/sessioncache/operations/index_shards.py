"""The entries of an index in their order, from all of its shards: one key, or many in a cluster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any, Final, NamedTuple

from sessioncache.errors import DamagedSessionError
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Command, Flow
from sessioncache.transport.request import Request

from .context import Context
from .index import DAMAGE, checked, shards

SWEEP: Final = 16
"""Oldest entries checked with each listing: sessions expire there first, and are removed."""

SAMPLE: Final = 8
"""Random entries checked with each listing: else those behind old sessions that live on would stay."""

DEVIATIONS: Final = 4
"""How far, in standard deviations, a shard's share of a page may be above the mean."""


class Found(NamedTuple):
    """An entry of an index, in the order of Redis: by score, then by member."""

    score: float
    member: bytes
    listed: bytes
    """The score as Redis wrote it."""
    key: bytes


class _Shard:
    """A part of an index: how far it was read."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.is_read = False
        self.last: Found | None = None
        self._start = 0

    def slice(self, size: int | None, order: tuple[bytes, ...]) -> Command:
        """Return the command for the next entries, or all."""
        stop = -1 if size is None else self._start + size - 1
        return (b"ZRANGE", self.key, b"%d" % self._start, b"%d" % stop, *order, b"WITHSCORES")

    def take(self, scored: Sequence[bytes], size: int | None) -> list[Found]:
        """Return the entries of a slice."""
        self._start += size or 0
        self.is_read = size is None or len(scored) < 2 * size
        entries = _entries(self.key, scored)
        self.last = entries[-1] if entries else self.last
        return entries


class ShardedIndex:
    """One reading of an index: what was read of each shard, and is yet to be returned."""

    def __init__(self, ctx: Context, key: bytes, *, newest_first: bool) -> None:
        self._shards = [_Shard(each) for each in shards(ctx, key)]
        self._waiting: list[Found] = []
        self._ctx = ctx
        self._newest_first = newest_first

    @property
    def is_read(self) -> bool:
        """Return whether all entries have been returned."""
        return not self._waiting and all(shard.is_read for shard in self._shards)

    def read_first(self, size: int) -> Flow[tuple[list[Found], list[Found], int]]:
        """Return the first entries, others to be checked, and how many there are: one round trip.

        One more is needed if the first entries are in few shards.
        """
        share = self._share(size)
        checks = self._checks()
        units = [
            ((b"ZCARD", shard.key), shard.slice(share, self._order), *checks[shard.key])
            for shard in self._shards
        ]
        others, total = [], 0
        replies = yield from self._send(units)
        for shard, (number, scored, *more) in zip(self._shards, replies, strict=True):
            self._waiting += shard.take(scored, share)
            total += number
            others += [entry for reply in more for entry in _entries(shard.key, reply)]
        self._waiting.sort(reverse=self._newest_first)
        return (yield from self.read(size)), others, total

    def read(self, size: int | None = None) -> Flow[list[Found]]:
        """Return the next entries, or all: one round trip, or none."""
        while behind := self._behind(size):
            share = None if size is None else self._share(size)
            replies = yield from self._send([(shard.slice(share, self._order),) for shard in behind])
            for shard, scored in zip(behind, replies, strict=True):
                self._waiting += shard.take(scored, share)
            self._waiting.sort(reverse=self._newest_first)
        found = self._waiting[:size]
        self._waiting = self._waiting[len(found) :]
        return found

    def _behind(self, size: int | None) -> list[_Shard]:
        """Return the shards that have to be read on before the next entries are known."""
        unread = [shard for shard in self._shards if not shard.is_read]
        if size is None or len(self._waiting) < size:
            return unread
        last = self._waiting[size - 1]
        return [shard for shard in unread if shard.last is None or self._is_before(shard.last, last)]

    def _is_before(self, one: Found, other: Found) -> bool:
        return one > other if self._newest_first else one < other

    @property
    def _order(self) -> tuple[bytes, ...]:
        return (b"REV",) if self._newest_first else ()

    def _share(self, size: int) -> int:
        """Return how many entries of each shard are read for so many of all: hardly ever too few."""
        if len(self._shards) == 1:
            return size
        mean = size / len(self._shards)
        return ceil(mean + DEVIATIONS * (sqrt(mean) + 1))

    def _checks(self) -> dict[bytes, list[Command]]:
        """Return the commands that read entries to be checked, by shard: of some, if there are many."""
        checks: dict[bytes, list[Command]] = {shard.key: [] for shard in self._shards}
        swept = random.sample(self._shards, min(SWEEP, len(self._shards)))
        for shard in swept:
            stop = b"%d" % (SWEEP // len(swept) - 1)
            checks[shard.key].append((b"ZRANGE", shard.key, b"0", stop, b"WITHSCORES"))
        sampled = random.sample(self._shards, min(SAMPLE, len(self._shards)))
        for shard in sampled:
            count = b"%d" % (SAMPLE // len(sampled))
            checks[shard.key].append((b"ZRANDMEMBER", shard.key, count, b"WITHSCORES"))
        return checks

    def _send(self, units: Sequence[tuple[Command, ...]]) -> Flow[list[Any]]:
        requests = [Request(unit[0][1], unit, tolerates=DAMAGE) for unit in units]
        replies = yield from send_all(self._ctx, requests)
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(reply, DamagedSessionError):
                raise DamagedSessionError(
                    f"index {request.key.decode()} is no sorted set: "
                    "SessionCache.rebuild_indexes() replaces it"
                ) from reply
        return replies


class EntryWalk:
    """A walk over one key of an index, from the entry with the lowest score on.

    Entries that move meanwhile, which go up, are met where they are then; no other one is met twice, and none
    is left out.
    """

    def __init__(self, key: bytes, page_size: int) -> None:
        self.key = key
        self._page_size = page_size
        self._last = b"-inf"
        self._at_last: set[bytes] = set()

    def next_page(self, ctx: Context, end: bytes = b"+inf") -> Flow[list[Found]]:
        """Return the next entries, none at the end; raise DamagedSessionError if it is no sorted set."""
        size = self._page_size
        while True:
            window = (b"LIMIT", b"0", b"%d" % size, b"WITHSCORES")
            entries = yield from read_entries(
                ctx, (b"ZRANGE", self.key, self._last, end, b"BYSCORE", *window)
            )
            fresh = [entry for entry in entries if entry.member not in self._at_last]
            if fresh or len(entries) < size:
                break
            size *= 2  # so many have one score
        if fresh:
            same = {entry.member for entry in fresh if entry.listed == fresh[-1].listed}
            self._at_last = same | self._at_last if fresh[-1].listed == self._last else same
            self._last = fresh[-1].listed
        return fresh


def read_entries(ctx: Context, command: Command) -> Flow[list[Found]]:
    """Return the entries that one command reads with their scores: one round trip."""
    key = command[1]
    scored: Any = checked((yield from send_all(ctx, [Request(key, (command,), tolerates=DAMAGE)]))[0])
    return _entries(key, scored)


def _entries(key: bytes, scored: Sequence[bytes]) -> list[Found]:
    """Return members and scores as entries."""
    pairs = zip(scored[::2], scored[1::2], strict=True)
    return [Found(float(score), member, score, key) for member, score in pairs]
