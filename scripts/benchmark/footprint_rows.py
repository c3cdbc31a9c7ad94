"""Rows of what a cache costs before it is called: memory in Redis, time to import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Final

import redis

from sessioncache import SessionCache

from . import sample
from .rows import Target, row
from .stage import Stage, fill_agno
from .timing import Duel, Sample

SESSIONS: Final = 1_000
QUICK_SESSIONS: Final = 100
RUNS: Final = 20
"""Sessions stored to weigh them, and runs of each."""

IMPORTS: Final = 21
QUICK_IMPORTS: Final = 5
"""Imports timed of each module, in processes of their own."""


@row(
    "memory",
    f"memory in Redis, {SESSIONS:,} sessions x {RUNS} runs",
    "agno, the same data",
    "agno",
    Target(0.9),
    note=f"--quick: {QUICK_SESSIONS} sessions",
)
async def _memory(stage: Stage, seconds: float) -> Duel:
    ours, theirs = _weigh(stage, "sessioncache"), _weigh(stage, "agno")
    return Duel(Sample([ours]), Sample([theirs]), unit="B")


def _weigh(stage: Stage, system: str) -> float:
    """Return the bytes that Redis takes for all sessions in one system."""
    client = stage.client("memory")
    client.flushdb()
    before = _used(client)
    cache, database = SessionCache.from_url(stage.url("memory")), stage.agno_database("memory")
    for number in range(QUICK_SESSIONS if stage.quick else SESSIONS):
        stage.say(f"storing for {system}: session {number} of {SESSIONS:,}")
        session_id = f"weighed-{number}"
        if system == "agno":
            fill_agno(database, session_id, sample.run_records(session_id, RUNS))
        else:
            cache.upsert_session(sample.session(session_id, RUNS))
    weight = _used(client) - before
    client.flushdb()
    return weight


def _used(client: redis.Redis) -> float:
    used: float = client.info("memory")["used_memory_dataset"]
    return used


@row("imports", "import sessioncache", "import redis", "redis-py", Target(1.3))
async def _import_time(stage: Stage, seconds: float) -> Duel:
    ours, theirs = Sample(), Sample()
    with tempfile.TemporaryDirectory() as cache:
        _time_import("sessioncache", cache)
        for _ in range(QUICK_IMPORTS if stage.quick else IMPORTS):
            ours.values.append(_time_import("sessioncache", cache))
            theirs.values.append(_time_import("redis", cache))
    return Duel(ours, theirs)


def _time_import(module: str, cache: str) -> float:
    """Return the seconds that an import takes in a new process, from bytecode as an installed package has."""
    code = f"from time import perf_counter as t; s = t(); import {module}; print(t() - s)"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings["PYTHONPYCACHEPREFIX"] = cache
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=settings).stdout
    )
