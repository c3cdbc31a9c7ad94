"""The row of the memory that sessions take in Redis."""

from __future__ import annotations

from typing import Final

import redis

from benchmark import dataset
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture, fill_agno
from benchmark.timing import Pair, Sample
from sessioncache import SessionCache

SESSIONS: Final = 1_000


QUICK_SESSIONS: Final = 100


RUNS: Final = 20
"""Sessions stored to weigh them, and runs of each."""


async def _memory(fixture: Fixture, seconds: float) -> Pair:
    ours, theirs = _weigh(fixture, "sessioncache"), _weigh(fixture, "agno")
    return Pair(Sample([ours]), Sample([theirs]), unit="B")


def _weigh(fixture: Fixture, system: str) -> float:
    """Return the bytes that Redis takes for all sessions in one system."""
    client = fixture.client("memory")
    client.flushdb()
    before = _used(client)
    cache, database = SessionCache.from_url(fixture.url("memory")), fixture.agno_database("memory")
    for number in range(QUICK_SESSIONS if fixture.quick else SESSIONS):
        fixture.say(f"storing for {system}: session {number} of {SESSIONS:,}")
        session_id = f"weighed-{number}"
        if system == "agno":
            fill_agno(database, session_id, dataset.run_records(session_id, RUNS))
        else:
            cache.upsert_session(dataset.session(session_id, RUNS))
    weight = _used(client) - before
    client.flushdb()
    return weight


def _used(client: redis.Redis) -> float:
    used: float = client.info("memory")["used_memory_dataset"]
    return used


ROWS: Final = (
    Row(
        f"memory in Redis, {SESSIONS:,} sessions x {RUNS} runs",
        "agno, the same data",
        "agno",
        Target(0.9),
        _memory,
        note=f"--quick: {QUICK_SESSIONS} sessions",
    ),
)
