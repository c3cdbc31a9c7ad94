"""What a call takes: microseconds in the median, and round trips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Final

from .cache import DemoCache

REPEATS: Final = 31
"""Calls measured: an odd number, so that the median is one of them."""


@dataclass(frozen=True)
class Timing:
    """What one kind of call took."""

    call: str
    microseconds: float
    round_trips: int


def measure(cache: DemoCache, name: str, call: Callable[[int], object]) -> Timing:
    """Make a call again and again, with 0, 1, 2...; the first, which loads its script, does not count."""
    call(0)
    samples = [_sample(cache, call, number) for number in range(1, REPEATS + 1)]
    seconds, round_trips = zip(*samples, strict=True)
    return Timing(name, median(seconds) * 1e6, max(round_trips))


def _sample(cache: DemoCache, call: Callable[[int], object], number: int) -> tuple[float, int]:
    before = cache.round_trips
    begin = perf_counter()
    call(number)
    return perf_counter() - begin, cache.round_trips - before
