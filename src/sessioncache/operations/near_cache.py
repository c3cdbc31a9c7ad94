"""What a process holds of sessions that it has read: readings, until memory is short or the process forks."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from threading import Lock
from time import monotonic
from typing import Any, Final, NamedTuple

from sessioncache.storage.run_range import RunRange
from sessioncache.storage.snapshot import Reading

STAMPS: Final = 1024
"""Sessions share as many times of their last own write; one that shares it is only validated more often."""

RUN_OVERHEAD: Final = 400
"""Bytes that a held run takes besides its members: four objects, and its places in a list and in a dict."""

COPY_OVERHEAD: Final = 4096
"""Bytes that a held session takes besides fields and runs."""

OBJECT_OVERHEAD: Final = 4096
OBJECT_FACTOR: Final = 4
"""Bytes that the object of a run takes: some for itself, and so many for each byte packed."""

FIELD_OVERHEAD: Final = 250
"""Bytes that a held field takes besides its name and its value."""


class NearCacheInfo(NamedTuple):
    """What a near cache did, and what it holds. Each lookup counts in one of the first four."""

    hits: int
    """Answered from memory, with no round trip (`max_staleness`)."""
    validated_hits: int
    """Answered from memory: Redis said that nothing had changed."""
    delta_reads: int
    """Answered from memory and what Redis said had changed."""
    misses: int
    """Read from Redis, whole."""
    bytes_held: int
    evictions: int
    """Sessions that were dropped because others needed the memory."""


@dataclass(slots=True, eq=False)
class Copy:
    """A reading that is held."""

    reading: Reading
    asked_at: float
    """When the lookup began that last found the reading to be true, by the monotonic clock."""
    deadline: float
    """When the session expires, if nobody extends its lifetime."""
    run_bytes: int = -1
    """How many bytes the members of its runs have; counted if it is not given."""
    content: bytes = b""
    """The fields, decoded and packed as one value, if they were asked for."""
    objects: Mapping[str, Mapping[bytes, Any]] = field(default_factory=dict)
    """Run objects that lookups share, by their kind and the order of the run."""

    def __post_init__(self) -> None:
        """Count the bytes of the runs."""
        if self.run_bytes < 0:
            self.run_bytes = sum(len(head) + len(body) for head, body, _, _ in self.reading.runs)

    @property
    def size(self) -> int:
        """Return how many bytes are held, rounded up."""
        fields, runs = self.reading.fields, self.reading.runs
        n_bytes = sum(map(len, fields)) + sum(map(len, fields.values())) + len(self.content)
        overhead = COPY_OVERHEAD + FIELD_OVERHEAD * len(fields) + RUN_OVERHEAD * len(runs)
        objects = sum(
            OBJECT_OVERHEAD * len(each) + OBJECT_FACTOR * bytes_at(self.reading, each)
            for each in self.objects.values()
        )
        return n_bytes + overhead + self.run_bytes + objects

    def replaced(self, reading: Reading, orders: Collection[bytes], asked_at: float, deadline: float) -> Copy:
        """Return the copy of a later reading, in which the runs of some orders are others."""
        run_bytes = self.run_bytes + bytes_at(reading, orders) - bytes_at(self.reading, orders)
        kept = {
            kind: {order: objects[order] for order in objects.keys() - orders}
            for kind, objects in self.objects.items()
        }
        return Copy(reading, asked_at, deadline, run_bytes, objects=kept)


def bytes_at(reading: Reading, orders: Iterable[bytes]) -> int:
    """Return how many bytes the runs of some orders have, as far as they were read."""
    runs = filter(None, map(reading.by_order.get, orders))
    return sum(len(head) + len(body) for head, body, _, _ in runs)


Key = tuple[str, RunRange]
"""A session, and which of its runs are held: each kind of lookup costs what it returns."""


class NearCacheStore:
    """The copies of one cache: those used least lately go first; safe between threads, empty after a fork."""

    def __init__(self, max_bytes: int, max_staleness: float) -> None:
        self._max_bytes = max_bytes
        self._max_staleness = max_staleness
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._copies: OrderedDict[Key, Copy] = OrderedDict()
        self._sizes: dict[Key, int] = {}
        self._bytes = 0
        self._written = [-inf] * STAMPS
        self._counts = dict.fromkeys(NearCacheInfo._fields, 0)

    def _locked(self) -> Lock:
        if self._pid != os.getpid():  # the lock may be held for ever by a thread that was not forked
            self._begin()
        return self._lock

    def get(self, key: Key) -> Copy | None:
        """Return the copy of a session, None if there is none."""
        with self._locked():
            copy = self._copies.get(key)
            if copy is not None:
                self._copies.move_to_end(key)
            return copy

    def put(self, key: Key, copy: Copy) -> None:
        """Hold a copy, unless one is held that was asked for later."""
        size = copy.size
        with self._locked():
            held = self._copies.get(key)
            if held is None or held.asked_at <= copy.asked_at:
                self._copies[key] = copy
                self._copies.move_to_end(key)
                self._fit(key, size)

    def resize(self, key: Key, copy: Copy) -> None:
        """Count what was added to a copy."""
        size = copy.size
        with self._locked():
            if self._copies.get(key) is copy:
                self._fit(key, size)

    def _fit(self, key: Key, size: int) -> None:
        """Make room for a copy of this size; one that is larger than all there is goes at once, alone."""
        self._bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        if size > self._max_bytes:
            self._copies.move_to_end(key, last=False)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._copies)))
            self._counts["evictions"] += 1

    def _remove(self, key: Key) -> None:
        del self._copies[key]
        self._bytes -= self._sizes.pop(key)

    def drop(self, key: Key) -> None:
        """Hold a session no longer."""
        with self._locked():
            if key in self._copies:
                self._remove(key)

    def renew(self, copy: Copy, asked_at: float, deadline: float) -> None:
        """Note, and count, that a copy was found to be true again."""
        with self._locked():
            self._counts["validated_hits"] += 1
            if asked_at > copy.asked_at:
                copy.asked_at, copy.deadline = asked_at, deadline

    def is_fresh(self, key: Key, copy: Copy, now: float) -> bool:
        """Return whether a copy may be returned as it is: young, not expired, and not written to here."""
        is_young = now - copy.asked_at < self._max_staleness and now < copy.deadline
        return is_young and copy.asked_at > self._written[hash(key[0]) % STAMPS]

    def note_write(self, session_id: str) -> None:
        """Answer no copy of a session that was asked for before now, without asking again."""
        with self._locked():
            self._written[hash(session_id) % STAMPS] = monotonic()

    def count(self, outcome: str) -> None:
        """Count a lookup: the name of a field of NearCacheInfo."""
        with self._locked():
            self._counts[outcome] += 1

    def info(self) -> NearCacheInfo:
        """Return what was counted, and how much is held."""
        with self._locked():
            return NearCacheInfo(**self._counts | {"bytes_held": self._bytes})
