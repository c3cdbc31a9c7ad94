"""A row of the table: a call, its baseline, the ratio to be reached, and what came out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .fixture import Fixture
from .timing import Pair, Sample


@dataclass(frozen=True)
class Target:
    """What a ratio has to be."""

    limit: float
    faster: bool = False
    """Whether the ratio counts how many times faster ours is, at least; else how much of theirs, at most."""
    throughput: bool = False
    """Whether what is compared is a throughput, of which more is better: at least."""

    def is_met(self, ratio: float) -> bool:
        """Tell whether a ratio reaches the target."""
        return ratio >= self.limit if self.faster or self.throughput else ratio <= self.limit

    def __str__(self) -> str:
        """Return the target as the table shows it."""
        if self.faster:
            return f"≥ {self.limit:,.0f} x faster"
        return f"{'≥' if self.throughput else '≤'} {self.limit:g} x"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    call: str
    against: str
    baseline: str
    """The system that has to take part: a name that `--without` knows, or empty for sessioncache itself."""
    target: Target
    measure: Callable[[Fixture, float], Awaitable[Pair]]
    """Takes how many seconds the measurement may last, about."""
    note: str = ""


@dataclass
class Result:
    """What came out of a row: a pair, or why there is none."""

    row: Row
    pair: Pair | None = None
    why_not: str = ""

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Return the ratio as the target counts it: its median and quartiles."""
        assert self.pair is not None
        return self._counted(self.pair.ratio)

    @property
    def limit_ratio(self) -> tuple[float, float, float] | None:
        """Return the ratio that bare commands reach, counted as `ratio`; None where they were not run."""
        limit = self.pair and self.pair.limit_ratio
        return self._counted(limit) if limit else None

    def _counted(self, sample: Sample) -> tuple[float, float, float]:
        low, high = sample.spread
        if self.row.target.faster:
            return 1 / sample.median, 1 / high, 1 / low
        return sample.median, low, high

    @property
    def verdict(self) -> str:
        """Return met, missed, or why there is no telling."""
        if self.pair is None:
            return self.why_not
        return "met" if self.row.target.is_met(self.ratio[0]) else "missed"


def why_not(found: Row, without: frozenset[str]) -> str:
    """Return why a row cannot be measured; empty if it can."""
    left_out = without & {found.baseline, "sessioncache"}
    return f"without {', '.join(sorted(left_out))}" if left_out else ""
