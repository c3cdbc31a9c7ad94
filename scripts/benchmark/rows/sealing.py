"""Rows of encryption and compression: beside the same call in the clear."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from benchmark import dataset
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture, cache_keys
from benchmark.systems import LAST
from benchmark.timing import Candidate, Pair, Sample, measure_pair
from sessioncache import Keyring, SessionCache, WorkflowRunOutput

RUNS: Final = 100

SEALED: Final[dict[str, Any]] = {"encryption": Keyring({"bench": bytes(range(32))})}
COMPRESSED: Final[dict[str, Any]] = {"compression": "zstd"}


def _store(fixture: Fixture, name: str, options: dict[str, Any]) -> tuple[SessionCache, str]:
    """Return a cache with options, and the id of a session of the same runs as in the clear."""
    cache = SessionCache.from_url(fixture.url("cache"), **options)
    session_id = f"session-{RUNS}-{name}"
    cache.upsert_session(dataset.session(session_id))
    records = dataset.run_records(session_id, RUNS)
    cache.upsert_runs(session_id, map(WorkflowRunOutput.from_dict, records))
    return cache, session_id


def _read(cache: SessionCache, session_id: str, *, uses: bool) -> Candidate:
    def read(_: None) -> None:
        session = cache.get_session(session_id, last_n_runs=LAST)
        if uses and session is not None:
            for run in session.runs or []:
                run.step_executor_runs  # noqa: B018 - decodes the body

    return Candidate(read)


def _write(cache: SessionCache, session_id: str) -> Candidate:
    run = WorkflowRunOutput.from_dict(next(iter(dataset.run_records(session_id, RUNS))))
    return Candidate(lambda _: cache.upsert_run(session_id, run))


async def _reading(name: str, options: dict[str, Any], uses: bool, fixture: Fixture, seconds: float) -> Pair:
    ours = _read(*_store(fixture, name, options), uses=uses)
    return await measure_pair(ours, _read(fixture.cache, fixture.session(RUNS), uses=uses), seconds)


async def _writing(name: str, options: dict[str, Any], fixture: Fixture, seconds: float) -> Pair:
    ours = _write(*_store(fixture, name, options))
    return await measure_pair(ours, _write(fixture.cache, fixture.session(RUNS)), seconds)


async def _memory(fixture: Fixture, _: float) -> Pair:
    """Memory of a session, compressed and not."""
    _store(fixture, "memory", COMPRESSED)
    sizes = [
        sum(fixture.bare.memory_usage(key, samples=0) or 0 for key in cache_keys(session_id))
        for session_id in (f"session-{RUNS}-memory", fixture.session(RUNS))
    ]
    return Pair(Sample([float(sizes[0])]), Sample([float(sizes[1])]), unit="B")


_READ: Final = f"get_session, last {LAST}"

ROWS: Final = (
    Row(f"{_READ}, sealed", "plain", "", Target(1.25), partial(_reading, "sealed", SEALED, False)),
    Row("upsert_run, sealed", "plain", "", Target(1.25), partial(_writing, "sealed", SEALED)),
    Row(f"{_READ}, zstd, bodies used", "plain", "", Target(1.5), partial(_reading, "zstd", COMPRESSED, True)),
    Row("upsert_run, zstd", "plain", "", Target(1.25), partial(_writing, "zstd", COMPRESSED)),
    Row("memory of a session, zstd", "plain", "", Target(0.4), _memory),
)
