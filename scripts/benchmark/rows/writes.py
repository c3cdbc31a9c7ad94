"""Rows of writes: a run is added, or replaced, whatever the session's length."""

from __future__ import annotations

from typing import Final

from benchmark import systems
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.timing import Pair, measure_pair

RUNS: Final = 1_000
SHORT: Final = 10
LONG: Final = 10_000
QUICK_LONG: Final = 1_000
"""Runs of the sessions written to."""


async def _add_against_limit(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(systems.cache_add(fixture, RUNS), systems.bare_add(fixture, RUNS), seconds)


async def _replace_against_limit(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(systems.cache_replace(fixture, RUNS), systems.bare_add(fixture, RUNS), seconds)


async def _add_whatever_the_length(fixture: Fixture, seconds: float) -> Pair:
    length = QUICK_LONG if fixture.quick else LONG
    return await measure_pair(systems.cache_add(fixture, length), systems.cache_add(fixture, SHORT), seconds)


async def _add_against_agno(fixture: Fixture, seconds: float) -> Pair:
    limit = systems.script_add(fixture, RUNS)
    return await measure_pair(
        systems.cache_add(fixture, RUNS), systems.agno_add(fixture, RUNS), seconds, limit
    )


ROWS: Final = (
    Row(
        f"upsert_run, a new run, {RUNS:,} runs",
        "redis-py SET of the same bytes",
        "redis-py",
        Target(3.5),
        _add_against_limit,
    ),
    Row(
        "upsert_run, replacing one",
        "redis-py SET of the same bytes",
        "redis-py",
        Target(3.5),
        _replace_against_limit,
    ),
    Row(
        f"upsert_run, a new run, {LONG:,} runs",
        f"the same at {SHORT} runs",
        "",
        Target(1.15),
        _add_whatever_the_length,
        note=f"--quick: {QUICK_LONG:,} runs instead of {LONG:,}",
    ),
    Row(
        f"upsert_run, a new run, {RUNS:,} runs",
        "agno upsert_run",
        "agno",
        Target(8, faster=True),
        _add_against_agno,
        note="limit: the script called by redis-py, its arguments packed beforehand",
    ),
)
