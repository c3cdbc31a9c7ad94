"""Many processes and threads work on one session: nothing of anybody's is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import NearCache, SessionCache, SessionConflictError
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.subjects import Subject

WORKERS = 8
TURNS = 50
PREFIX = "test-concurrency"
LONGEST_START = 120
"""Seconds until the slowest of the processes has imported everything, on a machine with much else to do."""

EVERY_KEY = {f"{worker}.{turn}": turn for worker in range(WORKERS) for turn in range(TURNS)}


# what each process does


def append_runs(cache: Any, worker: int) -> None:
    """Append runs, all made in the same second, and delete every fifth again."""
    for turn in range(TURNS):
        cache.upsert_run("s", a_run(f"{worker}.{turn}", 1000))
        assert turn % 5 or cache.delete_run("s", f"{worker}.{turn}")


def save_keys(cache: Any, worker: int) -> None:
    session = cache.get_session("s")
    for turn in range(TURNS):
        session.session_data["session_state"][f"{worker}.{turn}"] = turn
        cache.upsert_session(session)


def load_and_save_keys(cache: Any, worker: int) -> None:
    for turn in range(TURNS):
        session = cache.get_session("s")
        session.session_data["session_state"][f"{worker}.{turn}"] = turn
        cache.upsert_session(session)


def update_keys(cache: Any, worker: int) -> None:
    for turn in range(TURNS):
        cache.update_session_state("s", {f"{worker}.{turn}": turn})


def _increment(session: Any) -> None:
    session.session_data["session_state"]["n"] += 1


def update_sum(cache: Any, _: int) -> None:
    for _ in range(TURNS):
        cache.update_session("s", _increment, retries=10_000)


def save_sum(cache: Any, _: int) -> None:
    """Save on condition of a revision, and begin again if another worker was faster."""
    done = 0
    while done < TURNS:
        session = cache.get_session("s")
        _increment(session)
        try:
            cache.upsert_session(session, expect_rev=session.rev)
        except SessionConflictError:
            continue
        done += 1


def connected(url: str, near_cache: int | None = None) -> SessionCache:
    return SessionCache.from_url(url, prefix=PREFIX, ttl=3600, timeout=60, near_cache=near_cache)


def work(url: str, job: Callable[[Any, int], None], worker: int) -> None:
    """Begin when the processes of all workers are there; every other one has a near cache."""
    with connected(url, 2**26 if worker % 2 else None) as cache:
        cache.get_session("s")
        _barrier.wait(LONGEST_START)
        job(cache, worker)


def _share(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 - a barrier is inherited, and cannot be sent to a pool
    _barrier = barrier


@pytest.fixture
def after(server: Subject) -> Iterator[Callable[..., Any]]:
    """Let processes do a job at the same time, and load what they leave: `after(update_keys, n=0)`."""
    context = get_context("spawn")
    with connected(server.url) as cache:

        def run(job: Callable[[Any, int], None], **state: Any) -> Any:
            cache.upsert_session(a_session("s", 3, session_data={"session_state": state}))
            barrier = context.Barrier(WORKERS)
            with ProcessPoolExecutor(WORKERS, context, _share, (barrier,)) as pool:
                for done in [pool.submit(work, server.url, job, worker) for worker in range(WORKERS)]:
                    done.result()
            return cache.get_session("s")

        yield run


real_server = pytest.mark.parametrize("server", ["redis"], indirect=True)


@real_server
def test_runs_of_many_processes_have_places_of_their_own(after: Any, server: Subject) -> None:
    session = after(append_runs)

    kept = [[f"{worker}.{turn}" for turn in range(TURNS) if turn % 5] for worker in range(WORKERS)]
    found = ids(session.runs)
    assert found[:3] == ["r0", "r1", "r2"]
    assert [[name for name in found if name.startswith(f"{w}.")] for w in range(WORKERS)] == kept
    count = sum(map(len, kept)) + 3
    with server.client() as admin:
        members = admin.zrange(f"{PREFIX}:{{s}}:runs", 0, -1, withscores=True)
        assert int(admin.hget(f"{PREFIX}:{{s}}:meta", "count")) == count == len(found)
    assert len({score for member, score in members if member[:1] == b"i"}) == count
    assert len(members) == 3 * count


@real_server
@pytest.mark.parametrize("job", [save_keys, load_and_save_keys, update_keys], ids=lambda job: job.__name__)
def test_no_key_of_many_processes_is_lost(after: Any, job: Callable[[Any, int], None]) -> None:
    session = after(job, first=1)

    assert session.session_data == {"session_state": {"first": 1} | EVERY_KEY}
    assert len(session.runs) == 3


@real_server
@pytest.mark.parametrize("job", [update_sum, save_sum], ids=lambda job: job.__name__)
def test_numbers_of_many_processes_add_up(after: Any, job: Callable[[Any, int], None]) -> None:
    assert after(job, n=0).session_data == {"session_state": {"n": WORKERS * TURNS}}


# threads that share a cache


def in_threads(job: Callable[[int], None]) -> None:
    """Let every thread do a job at the same time."""
    start = threading.Barrier(WORKERS)
    with ThreadPoolExecutor(WORKERS, initializer=start.wait) as pool:
        list(pool.map(job, range(WORKERS)))


@pytest.mark.parametrize("near_cache", [None, 100_000, NearCache(max_staleness=60)], ids=str)
def test_threads_that_share_a_cache_lose_nothing(make_cache: Callable[..., Any], near_cache: Any) -> None:
    cache = make_cache(near_cache=near_cache)
    cache.upsert_session(a_session("s"))

    def append(worker: int) -> None:
        for number in range(20):
            cache.upsert_run("s", a_run(f"{worker}.{number}"))
            assert cache.get_run("s", f"{worker}.{number}").run_id == f"{worker}.{number}"
            assert f"{worker}.{number}" in ids(cache.get_session("s").runs)

    in_threads(append)

    assert len(cache.get_session("s").runs) == WORKERS * 20


def test_of_many_who_create_one_session_nobody_loses_a_run(cache: Any) -> None:
    def create(worker: int) -> None:
        cache.upsert_session(a_session("s", [a_run(str(worker))], metadata={str(worker): worker}))

    in_threads(create)

    session = cache.get_session("s")
    assert set(ids(session.runs)) == {str(worker) for worker in range(WORKERS)}
    assert session.metadata == {str(worker): worker for worker in range(WORKERS)}
