"""The row of many processes: the server's CPU time for each call, lookups and writes mixed."""

from __future__ import annotations

import itertools
import multiprocessing
import random
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Final, Self

import redis

from benchmark import bare, dataset
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST, packed_runs
from benchmark.timing import Pair, Sample
from sessioncache import SessionCache, WorkflowRunOutput

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PROCESSES: Final = 8
LOOKUPS: Final = 0.8
"""Share of the calls that read the last runs; the others store one."""

SESSIONS: Final = 16
RUNS: Final = 50
"""Sessions that all processes work on, and runs of each."""

CALLS: Final = 250
"""Calls of one process in one round."""

CALLS_PER_SECOND: Final = 250
"""Pace of each process, the same for both systems: how busy a server is changes what a call costs it."""

ROUNDS: Final = 10
QUICK_ROUNDS: Final = 2


async def _server_time(fixture: Fixture, seconds: float) -> Pair:
    for number in range(SESSIONS):
        session_id = _session_id(number)
        fixture.cache.upsert_session(dataset.session(session_id, RUNS))
    ours, theirs = Sample(), Sample()
    with _Workers(fixture.url("cache")) as workers:
        workers.work("sessioncache"), workers.work("redis-py")
        for _ in range(QUICK_ROUNDS if fixture.quick else ROUNDS):
            ours.values.append(_cpu_time(fixture, workers, "sessioncache"))
            theirs.values.append(_cpu_time(fixture, workers, "redis-py"))
    return Pair(ours, theirs)


def _session_id(number: int) -> str:
    return f"shared-{number}"


def _cpu_time(fixture: Fixture, workers: _Workers, system: str) -> float:
    """Return the seconds of CPU that the server takes for a call (INFO cpu), its network work included."""
    before = _cpu(fixture.bare)
    calls = workers.work(system)
    return (_cpu(fixture.bare) - before) / calls


def _cpu(client: redis.Redis) -> float:
    info = client.info("cpu")
    seconds: float = info["used_cpu_user"] + info["used_cpu_sys"]
    return seconds


class _Workers:
    """Processes that do a round of calls when told to."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(PROCESSES):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            process = context.Process(target=_serve, args=(theirs, url, number), daemon=True)
            self._processes.append(process)
            process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send("")
        for process in self._processes:
            process.join(10)

    def work(self, system: str) -> int:
        """Let all processes do a round; return how many calls they did."""
        for pipe in self._pipes:
            pipe.send(system)
        return sum(pipe.recv() for pipe in self._pipes)


def _serve(pipe: Connection, url: str, number: int) -> None:
    """Do rounds of calls in a process of its own."""
    worker = _Worker(url, number)
    while system := pipe.recv():
        worker.round(system)
        pipe.send(CALLS)


@dataclass
class _Worker:
    """One process's connections, and its runs to store: each a replacement, so that lengths do not change."""

    url: str
    number: int

    def __post_init__(self) -> None:
        self._rng = random.Random(self.number)
        self._cache = SessionCache.from_url(self.url)
        self._client = redis.Redis.from_url(self.url)
        self._packed = itertools.cycle(packed_runs())
        self._runs = {
            session_id: itertools.cycle(
                map(WorkflowRunOutput.from_dict, dataset.run_records(session_id, RUNS))
            )
            for session_id in map(_session_id, range(SESSIONS))
        }

    def round(self, system: str) -> None:
        """Do the calls of a round."""
        read, write = self._calls(system)
        started = perf_counter()
        for number in range(CALLS):
            sleep(max(0, started + number / CALLS_PER_SECOND - perf_counter()))
            call = read if self._rng.random() < LOOKUPS else write
            call(_session_id(self._rng.randrange(SESSIONS)))

    def _calls(self, system: str) -> tuple[Any, Any]:
        if system == "redis-py":
            return (
                lambda session_id: bare.fetch(self._client, session_id, LAST),
                lambda session_id: self._client.set(f"limit:{session_id}", next(self._packed)),
            )
        return (
            lambda session_id: self._cache.get_session(session_id, last_n_runs=LAST),
            lambda session_id: self._cache.upsert_run(session_id, next(self._runs[session_id])),
        )


ROWS: Final = (
    Row(
        f"{PROCESSES} processes, lookups and upserts 80/20, "
        f"{CALLS_PER_SECOND} calls/s each: server CPU a call",
        "redis-py, the same bytes: one MULTI, or SET",
        "redis-py",
        Target(1.5),
        _server_time,
    ),
)
