"""Rows of the near cache: what a worker reads again, unchanged, or with one run changed."""

from __future__ import annotations

import itertools
import multiprocessing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from benchmark import dataset
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST, agno_whole, cache_whole, json_whole, near_whole
from benchmark.timing import Candidate, Pair, Sample, measure_pair
from sessioncache import NearCache, SessionCache, WorkflowRunOutput

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

RUNS: Final = 1_000
FEW: Final = 5

PROCESSES: Final = 8
SHARED_RUNS: Final = 200
"""Runs of the session that processes write and read at the same time."""

SHARED_SECONDS: Final = 2.0
QUICK_SHARED_SECONDS: Final = 0.5


async def _unchanged(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(near_whole(fixture, RUNS), cache_whole(fixture, RUNS), seconds)


async def _few_against_ping(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(near_whole(fixture, FEW), _ping(fixture), seconds)


async def _from_memory_against_ping(fixture: Fixture, seconds: float) -> Pair:
    session_id = fixture.session(RUNS)
    cache = SessionCache.from_url(fixture.url("cache"), near_cache=NearCache(max_staleness=3600))
    ours = Candidate(lambda _: cache.get_session(session_id, last_n_runs=LAST))
    return await measure_pair(ours, _ping(fixture), seconds)


def _ping(fixture: Fixture) -> Candidate:
    return Candidate(lambda _: fixture.bare.ping())


async def _one_changed(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(
        _after_a_write(fixture, near_whole(fixture, RUNS)),
        _after_a_write(fixture, cache_whole(fixture, RUNS)),
        seconds,
    )


def _after_a_write(fixture: Fixture, read: Candidate) -> Candidate:
    """Have another worker replace a run, off the clock, before each reading."""
    session_id = fixture.session(RUNS)
    stored = list(dataset.run_records(session_id, RUNS))
    runs = itertools.cycle(map(WorkflowRunOutput.from_dict, stored[:: RUNS // 10]))

    def prepare(_: int) -> list[None]:
        fixture.cache.upsert_run(session_id, next(runs))
        return [None]

    return Candidate(read.call, prepare, max_batch=1)


async def _against_agno(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(near_whole(fixture, RUNS), agno_whole(fixture, RUNS), seconds)


async def _against_json(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(near_whole(fixture, RUNS), json_whole(fixture, RUNS), seconds)


async def _shared(fixture: Fixture, seconds: float) -> Pair:
    """Readings in a second of all processes while one of them writes, with a near cache and without."""
    session_id = fixture.session(SHARED_RUNS)
    length = QUICK_SHARED_SECONDS if fixture.quick else SHARED_SECONDS
    with_near, without = Sample(), Sample()
    for _ in range(2 if fixture.quick else 4):
        with_near.values.append(_readings(fixture, session_id, 2**26, length))
        without.values.append(_readings(fixture, session_id, None, length))
    return Pair(with_near, without, unit="/s")


def _readings(fixture: Fixture, session_id: str, near_cache: int | None, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    start, pipes = context.Barrier(PROCESSES), []
    for number in range(PROCESSES):
        ours, theirs = context.Pipe()
        arguments = (theirs, start, fixture.url("cache"), session_id, near_cache, seconds, number == 0)
        context.Process(target=_work, args=arguments, daemon=True).start()
        pipes.append(ours)
    return sum(pipe.recv() for pipe in pipes) / seconds


def _work(
    pipe: Connection,
    start: Any,
    url: str,
    session_id: str,
    near_cache: int | None,
    seconds: float,
    writes: bool,
) -> None:
    """Read the whole session again and again; one process replaces a run before each reading."""
    runs = itertools.cycle(map(WorkflowRunOutput.from_dict, dataset.run_records(session_id, SHARED_RUNS)))
    readings = 0
    with SessionCache.from_url(url, near_cache=near_cache, timeout=60) as cache:
        cache.get_session(session_id)
        start.wait(60)
        end = perf_counter() + seconds
        while perf_counter() < end:
            if writes:
                cache.upsert_run(session_id, next(runs))
            cache.get_session(session_id)
            readings += 1
    pipe.send(readings)


ROWS: Final = (
    Row(
        f"get_session(), {RUNS:,} runs, near cache, unchanged",
        "the same without it",
        "",
        Target(30, faster=True),
        _unchanged,
    ),
    Row(
        "the same, one run changed since",
        "the same without it",
        "",
        Target(6, faster=True),
        _one_changed,
    ),
    Row(
        f"get_session(), {FEW} runs, near cache, unchanged",
        "redis-py PING",
        "redis-py",
        Target(1.6),
        _few_against_ping,
    ),
    Row(
        f"get_session(last_n_runs={LAST}), near cache, max_staleness=3600",
        "redis-py PING",
        "redis-py",
        Target(0.5),
        _from_memory_against_ping,
    ),
    Row(
        f"get_session(), {RUNS:,} runs, near cache, unchanged",
        "agno RedisDb get_session()",
        "agno",
        Target(100, faster=True),
        _against_agno,
    ),
    Row("the same", "json.loads(GET) of the session", "json", Target(30, faster=True), _against_json),
    Row(
        f"{PROCESSES} processes read {SHARED_RUNS} runs, one of them writes: near cache",
        "the same without it",
        "",
        Target(3, throughput=True),
        _shared,
    ),
)
