"""Ranges of a session's runs: the slices of the sorted set to read, and the runs that the replies hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from sessioncache.validation import MOST_RUNS

from .run_members import StoredRun

Words = tuple[bytes, ...]

_NEWEST: Final = (b"+inf", b"1", b"BYSCORE", b"REV"), (b"-inf", b"-1", b"BYSCORE")
_OLDEST: Final = (b"1", b"+inf", b"BYSCORE"), (b"-1", b"-inf", b"BYSCORE", b"REV")
"""The arguments of ZRANGE for heads and for bodies, of which either end is that of the same runs."""


class RunRange(NamedTuple):
    """Which runs are read, and what of them."""

    limit: int | None
    """Most runs, None for all; 0 reads nothing."""
    offset: int = 0
    """How many runs at the end that reading begins from are left out."""
    is_oldest: bool = False
    """Whether reading begins from the oldest run."""
    has_bodies: bool = True
    has_orders: bool = True
    after: bytes | None = None
    """The order after which reading begins, from the oldest run on."""

    def commands(self, key: bytes) -> list[Words]:
        """Return the commands that read heads and bodies, each as many."""
        if self.limit == 0:
            return []
        heads, bodies = _after(self.after) if self.after else _OLDEST if self.is_oldest else _NEWEST
        most = MOST_RUNS if self.limit is None else self.limit
        is_part = self.offset or self.limit is not None
        window = (b"LIMIT", b"%d" % self.offset, b"%d" % most) if is_part else ()
        orders = (b"WITHSCORES",) if self.has_orders else ()
        commands = [(b"ZRANGE", key, *heads, *window, *orders)]
        return [*commands, (b"ZRANGE", key, *bodies, *window)] if self.has_bodies else commands

    def fits(self, count: int, slices: Sequence[Sequence[bytes]]) -> bool:
        """Return whether the replies have what they must if the session has so many runs."""
        if self.has_orders and slices and len(slices[0]) % 2:
            return False
        sizes = {len(each) for each in slices[1:]}
        sizes |= {len(each) // (2 if self.has_orders else 1) for each in slices[:1]}
        left = max(0, count - self.offset)
        expected = left if self.limit is None else min(self.limit, left)
        return len(sizes) <= 1 if self.after is not None else sizes <= {expected}

    def runs(self, session_id: str, slices: Sequence[Sequence[bytes]]) -> list[StoredRun]:
        """Return the runs that the replies hold, oldest first."""
        if not slices:
            return []
        step = 2 if self.has_orders else 1
        parts: list[Iterable[bytes]] = [slices[0][::step], repeat(b""), repeat(b"")]
        if self.has_bodies:
            parts[1] = slices[1]
        if self.has_orders:
            parts[2] = slices[0][1::step]
        runs = list(map(StoredRun, *parts, repeat(session_id)))
        return runs if self.is_oldest or self.after is not None else runs[::-1]


def _after(order: bytes) -> tuple[Words, Words]:
    heads, bodies = _OLDEST
    return (b"(" + order, *heads[1:]), (b"(-" + order, *bodies[1:])


NO_RUNS: Final = RunRange(0)
