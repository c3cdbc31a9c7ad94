"""Rows of writes: a run is added, or replaced, whatever the session's length."""

from __future__ import annotations

from typing import Final

from . import systems
from .rows import Target, row
from .stage import Stage
from .timing import Duel, duel

RUNS: Final = 1_000
SHORT: Final = 10
LONG: Final = 10_000
QUICK_LONG: Final = 1_000
"""Runs of the sessions written to."""


@row(
    "writes",
    f"upsert_run, a new run, {RUNS:,} runs",
    "redis-py SET of the same bytes",
    "redis-py",
    Target(3.5),
)
async def _add_against_limit(stage: Stage, seconds: float) -> Duel:
    return await duel(systems.cache_add(stage, RUNS), systems.bare_add(stage, RUNS), seconds)


@row("writes", "upsert_run, replacing one", "redis-py SET of the same bytes", "redis-py", Target(3.5))
async def _replace_against_limit(stage: Stage, seconds: float) -> Duel:
    return await duel(systems.cache_replace(stage, RUNS), systems.bare_add(stage, RUNS), seconds)


@row(
    "writes",
    f"upsert_run, a new run, {LONG:,} runs",
    f"the same at {SHORT} runs",
    "",
    Target(1.15),
    note=f"--quick: {QUICK_LONG:,} runs instead of {LONG:,}",
)
async def _add_whatever_the_length(stage: Stage, seconds: float) -> Duel:
    length = QUICK_LONG if stage.quick else LONG
    return await duel(systems.cache_add(stage, length), systems.cache_add(stage, SHORT), seconds)


@row(
    "writes",
    f"upsert_run, a new run, {RUNS:,} runs",
    "agno upsert_run",
    "agno",
    Target(8, faster=True),
    note="limit: the script called by redis-py, its arguments packed beforehand",
)
async def _add_against_agno(stage: Stage, seconds: float) -> Duel:
    limit = systems.script_add(stage, RUNS)
    return await duel(systems.cache_add(stage, RUNS), systems.agno_add(stage, RUNS), seconds, limit)
