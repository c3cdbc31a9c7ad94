"""The lines of the plot: what reading and adding cost in every system, by the length of the session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .fixture import Fixture
from .systems import READ, STORE, SYSTEMS, WHOLE
from .timing import Sample, measure_all

LENGTHS: Final = (10, 100, 1_000, 10_000)
QUICK_LENGTHS: Final = LENGTHS[:-1]

TITLES: Final = (READ, WHOLE, STORE)


@dataclass(frozen=True)
class Point:
    """What one call cost in one system, at one length."""

    system: str
    title: str
    runs: int
    sample: Sample

    def as_dict(self) -> dict[str, Any]:
        """Return the point for the JSON file."""
        return {"system": self.system, "call": self.title, "runs": self.runs, **self.sample.as_dict()}


async def measure(fixture: Fixture, runs: int, without: frozenset[str], seconds: float) -> list[Point]:
    """Measure all systems in turn, at one length."""
    points = []
    systems = [name for name in SYSTEMS if name not in without]
    for title in TITLES:
        makers = {name: SYSTEMS[name][title] for name in systems if title in SYSTEMS[name]}
        candidates = [make(fixture, runs) for make in makers.values()]
        fixture.say(f"{title}, {runs:,} runs")
        samples = await measure_all(candidates, seconds)
        points += [Point(name, title, runs, got) for name, got in zip(makers, samples, strict=True)]
    return points
