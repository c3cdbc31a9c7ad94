"""The row of asyncio: many lookups at once, on as many connections as bare redis.asyncio has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final

import redis.asyncio

import sessioncache
from benchmark import bare
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST
from benchmark.timing import FEWEST, Pair, Sample

AT_ONCE: Final = 500
"""Lookups that wait at the same time."""

CONNECTIONS: Final = 32

RUNS: Final = 1_000


async def _throughput(fixture: Fixture, seconds: float) -> Pair:
    session_id = fixture.session(RUNS)
    url = f"{fixture.url('cache')}&max_connections={CONNECTIONS}"
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, timeout=None)
    client = redis.asyncio.Redis(connection_pool=pool)

    async def fetch() -> Any:
        async with client.pipeline(transaction=True) as pipeline:
            bare.fill_pipeline(pipeline, session_id, LAST)
            return await pipeline.execute()

    ours, theirs = Sample(), Sample()
    async with sessioncache.AsyncSessionCache.from_url(url) as cache:

        async def look_up() -> Any:
            return await cache.get_session(session_id, last_n_runs=LAST)

        await _rate(look_up), await _rate(fetch)
        until = perf_counter() + seconds
        while perf_counter() < until or len(ours.values) < FEWEST:
            ours.values.append(await _rate(look_up))
            theirs.values.append(await _rate(fetch))
    await client.aclose()
    await pool.aclose()
    return Pair(ours, theirs, unit="/s")


async def _rate(call: Callable[[], Awaitable[Any]]) -> float:
    """Return the calls done in a second, all of them begun at once."""
    started = perf_counter()
    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    return AT_ONCE / (perf_counter() - started)


ROWS: Final = (
    Row(
        f"{AT_ONCE} get_session(last_n_runs={LAST}) at once, asyncio: lookups/s",
        f"redis.asyncio, the same bytes, {CONNECTIONS} connections each",
        "redis-py",
        Target(0.8, throughput=True),
        _throughput,
    ),
)
