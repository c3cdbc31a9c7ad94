"""Times in alternation: A, B, A, B, ... so that what disturbs the machine disturbs both."""

from __future__ import annotations

import gc
import inspect
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

BATCH_SECONDS: Final = 0.003
"""Time of one batch of calls: much longer than the clock takes, much shorter than a disturbance lasts."""

LONGEST_BATCH_SECONDS: Final = 0.03
"""Time of one batch if a baseline's single call takes as long: nobody is to find the caches always cold."""

MAX_BATCH: Final = 1_000

ROUGH_CALLS: Final = 5
"""Calls that tell how many make a batch."""

FEWEST: Final = 5
"""Batches of each candidate at the least, however slow it is."""


@dataclass
class Candidate:
    """A call to be timed, blocking or awaited; what it is given is made before the clock starts."""

    call: Callable[[Any], Any]
    prepare: Callable[[int], Sequence[Any]] = lambda count: [None] * count
    restore: Callable[[Sequence[Any]], Any] = lambda _: None
    """Undo what a batch did, off the clock."""
    max_batch: int = MAX_BATCH
    batch: int = 1
    _tried: int = 1

    async def time_batch(self) -> float:
        """Return the seconds that a call takes, on average over a batch."""
        given = self.prepare(self.batch)
        started = perf_counter()
        if inspect.iscoroutinefunction(self.call):
            for argument in given:
                await self.call(argument)
        else:
            for argument in given:
                self.call(argument)
        seconds = perf_counter() - started
        undoing = self.restore(given)
        if inspect.isawaitable(undoing):
            await undoing
        return seconds / len(given)

    async def rough(self) -> float:
        """Return how long a call takes, roughly; the first ones connect, and make sure of the way."""
        self.batch = 1
        seconds = await self.time_batch()
        while seconds < LONGEST_BATCH_SECONDS and self._tried < ROUGH_CALLS:
            self._tried += 1
            seconds = min(seconds, await self.time_batch())
        return seconds


@dataclass
class Sample:
    """What was measured: a median and its spread."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the quartiles on both sides of the median."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def as_dict(self) -> dict[str, float]:
        """Return median, quartiles and how many there were."""
        low, high = self.spread
        return {"median": self.median, "low": low, "high": high, "count": len(self.values)}


@dataclass
class Pair:
    """What two candidates took, and the ratio of each pair of neighbours (ours over theirs)."""

    ours: Sample
    theirs: Sample
    limit: Sample | None = None
    """What bare commands took in the same rounds."""
    unit: str = "s"

    @property
    def ratio(self) -> Sample:
        """Return ours over theirs, pair by pair."""
        return _ratio(self.ours, self.theirs)

    @property
    def limit_ratio(self) -> Sample | None:
        """Return the limit over theirs: what ours could reach."""
        return _ratio(self.limit, self.theirs) if self.limit else None


def _ratio(one: Sample, other: Sample) -> Sample:
    return Sample([a / b for a, b in zip(one.values, other.values, strict=True)])


async def measure_pair(
    ours: Candidate, theirs: Candidate, seconds: float, limit: Candidate | None = None
) -> Pair:
    """Time candidates in alternation for about so long, the first of one round the last of the next."""
    candidates = [ours, theirs, limit] if limit else [ours, theirs]
    return Pair(*await measure_all(candidates, seconds))


async def measure_all(candidates: Sequence[Candidate], seconds: float) -> list[Sample]:
    """Time candidates in turn, round after round, for about so long; return their samples in order."""
    rough = [await candidate.rough() for candidate in candidates]
    batch_seconds = max(BATCH_SECONDS, min(max(rough), LONGEST_BATCH_SECONDS))
    for candidate, call_seconds in zip(candidates, rough, strict=True):
        candidate.batch = max(1, min(int(batch_seconds / call_seconds), candidate.max_batch))
    samples = [Sample() for _ in candidates]
    gc.collect()
    gc.freeze()  # what the benchmark itself holds is not to be searched for garbage in somebody's time
    per_round = sum(t * c.batch for t, c in zip(rough, candidates, strict=True))
    order = list(zip(candidates, samples, strict=True))
    for _ in range(max(FEWEST, int(seconds / per_round))):
        for candidate, sample in order:
            sample.values.append(await candidate.time_batch())
        order.reverse()
    gc.unfreeze()
    return samples
