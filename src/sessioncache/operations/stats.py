"""`stats`: how many sessions and runs there are, and how large they are; of all, or of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, Final, NamedTuple

from sessioncache.errors import ConfigurationError, DamagedSessionError, InvalidArgumentError
from sessioncache.storage import codec, keys
from sessioncache.storage.run_members import MEMBERS_PER_RUN
from sessioncache.storage.sealing import SEALED
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.validation import whole_number

from .context import Context
from .index import DAMAGE, FOR_EVER
from .scanning import scan

Progress = Callable[[int], object]

LARGEST: Final = 10
"""How many of the largest sessions are named."""

PERCENTILES: Final = (50, 90, 99, 100)

FORMS: Final[Mapping[bytes, str]] = {
    codec.FORMAT: "plain",
    codec.LENIENT_FORMAT: "plain",
    codec.ZSTD_FORMAT: "zstd",
    SEALED: "sealed",
}
"""How values are stored, by their first byte."""

SESSIONS_AT_ONCE: Final = 20
"""Sessions that are asked about in one exchange: a server serves others after a millisecond."""

HOUR: Final = 3_600_000


class SessionSize(NamedTuple):
    """How long and how large a session is."""

    session_id: str
    runs: int
    n_bytes: int
    """Memory that Redis uses for both keys, in bytes."""


@dataclass(slots=True)
class StoreStats:
    """What is stored under a prefix."""

    sessions: int = 0
    """Sessions that were looked at."""
    runs: int = 0
    has_bytes: bool = True
    """Whether the server says how much memory keys use (MEMORY USAGE)."""
    metadata_bytes: int = 0
    run_bytes: int = 0
    without_ttl: int = 0
    expiring_within_hour: int = 0
    is_sample: bool = False
    """Whether there are more sessions than were looked at."""
    index_bytes: int = 0
    formats: dict[str, int] = field(default_factory=dict)
    """How many of the newest runs are stored in which form, one of each session."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """The number of runs and the bytes of each session."""
    largest: list[SessionSize] = field(default_factory=list)

    def runs_at(self, percentile: int) -> int:
        """Return how many runs a session has that is not shorter than so many of a hundred."""
        return _at(sorted(runs for runs, _ in self.sizes), percentile)

    def bytes_at(self, percentile: int) -> int:
        """Return how large a session is that is not smaller than so many of a hundred."""
        return _at(sorted(n_bytes for _, n_bytes in self.sizes), percentile)


def _at(values: Sequence[int], percentile: int) -> int:
    return values[min(len(values) * percentile // 100, len(values) - 1)] if values else 0


def stats(ctx: Context, *, sample: int | None = None, progress: Progress | None = None) -> Flow[StoreStats]:
    """Measure all sessions, or about as many as a sample has; SCAN on each server, a rest after each step."""
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    limit = None if sample is None else whole_number(sample, "sample", 1)
    measuring = _Measuring(limit, progress)
    yield from scan(ctx, measuring.measure, rests=True)
    return measuring.stats


class _Measuring:
    """A measurement under way."""

    def __init__(self, limit: int | None, progress: Progress | None) -> None:
        self.stats = StoreStats()
        self._limit = limit
        self._progress = progress
        self._formats: Counter[str] = Counter()

    def measure(self, step: Context, found: Sequence[bytes]) -> Flow[bool]:
        """Measure the sessions and indexes among some keys."""
        prefix = step.settings.prefix
        metas = [key for key in found if keys.is_meta(prefix, key)]
        for start in range(0, len(metas), SESSIONS_AT_ONCE):
            yield from self._measure_sessions(step.begun_anew(), metas[start : start + SESSIONS_AT_ONCE])
            if self._limit is not None and self.stats.sessions >= self._limit:
                self.stats.is_sample = True
                return False
        indexes = [key for key in found if keys.is_index(prefix, key)]
        self.stats.index_bytes += sum((yield from self._usages(step, indexes)))
        if self._progress is not None:
            self._progress(self.stats.sessions)
        return True

    def _usages(self, ctx: Context, names: Sequence[bytes]) -> Flow[list[int]]:
        """Return how much memory keys use; 0 where the server does not say."""
        requests = [Request(key, ((b"MEMORY", b"USAGE", key),), tolerates=_REFUSED) for key in names]
        usages = yield from send_all(ctx, requests)
        self.stats.has_bytes &= not any(isinstance(usage, Exception) for usage in usages)
        return [usage if isinstance(usage, int) else 0 for usage in usages]

    def _measure_sessions(self, ctx: Context, metas: Sequence[bytes]) -> Flow[None]:
        runs = [meta.removesuffix(b"meta") + b"runs" for meta in metas]
        replies = yield from send_all(ctx, [*map(_request, metas, runs)])
        usages = yield from self._usages(ctx, [*metas, *runs])
        for meta, reply, *sizes in zip(
            metas, replies, usages[: len(metas)], usages[len(metas) :], strict=True
        ):
            if not isinstance(reply, Exception) and reply[0] is not None:
                self._add(keys.session_id_of(ctx.settings.prefix, meta), *sizes, *reply[1:])

    def _add(self, session_id: str, meta: int, runs: int, members: int, left: int, last: Any) -> None:
        stats, count = self.stats, members // MEMBERS_PER_RUN
        stats.sessions += 1
        stats.runs += count
        stats.metadata_bytes += meta
        stats.run_bytes += runs
        stats.without_ttl += left == FOR_EVER
        stats.expiring_within_hour += 0 <= left < HOUR
        size = SessionSize(session_id, count, meta + runs)
        stats.sizes.append((count, size.n_bytes))
        stats.largest = nlargest(LARGEST, [*stats.largest, size], key=lambda each: (each.n_bytes, each.runs))
        if last:
            self._formats[FORMS.get(last[0][1:2], "unknown")] += 1
            stats.formats = dict(self._formats)


_REFUSED: Final = (ConfigurationError, DamagedSessionError)
"""How a server that knows no MEMORY, or does not permit it, replies."""


def _request(meta: bytes, runs: bytes) -> Request:
    """Return the request for what is measured of a session; its newest run tells how runs are stored."""
    newest = (b"ZRANGE", runs, b"-inf", b"-1", b"BYSCORE", b"LIMIT", b"0", b"1")
    unit = ((b"HGET", meta, b"session_id"), (b"ZCARD", runs), (b"PTTL", meta), newest)
    return Request(meta, unit, tolerates=DAMAGE)
