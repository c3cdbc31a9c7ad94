"""Many processes write one session: nothing of anybody's is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import SessionCache, SessionConflictError, WorkflowRunOutput, WorkflowSession
from sessioncache.storage import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.subjects import Subject

PROCESSES = 8
WRITES = 50
PREFIX = "test-concurrency"


def append_runs(url: str, worker: int) -> None:
    """Append runs to the session, one call each; all of them were made in the same second."""
    with SessionCache.from_url(url, prefix=PREFIX, ttl=60) as cache:
        for number in range(WRITES):
            cache.upsert_run("s", WorkflowRunOutput(run_id=f"{worker}-{number}", created_at=1000))


def set_keys(url: str, worker: int) -> None:
    """Load the session, set a key of its state, save it, again and again."""
    with SessionCache.from_url(url, prefix=PREFIX, ttl=60) as cache:
        for number in range(WRITES):
            session = cache.get_session("s")
            assert session is not None
            assert session.session_data is not None
            session.session_data["session_state"][f"{worker}-{number}"] = number
            cache.upsert_session(session)


def count_up(url: str, worker: int) -> None:
    """Add to a number in the session, and begin again where another worker was faster."""
    with SessionCache.from_url(url, prefix=PREFIX, ttl=60, timeout=60) as cache:
        done = 0
        while done < 10:
            session = cache.get_session("s")
            assert session is not None
            assert session.metadata is not None
            session.metadata["sum"] += 1
            try:
                cache.upsert_session(session, expect_rev=session.rev)
            except SessionConflictError:
                continue
            done += 1


def append_and_delete(url: str, worker: int) -> None:
    """Append two runs, and delete the first of them again."""
    with SessionCache.from_url(url, prefix=PREFIX, ttl=60) as cache:
        for number in range(WRITES // 2):
            for half in ("gone", "kept"):
                run = WorkflowRunOutput(run_id=f"{worker}-{number}-{half}", created_at=1000 + number)
                cache.upsert_run("s", run)
            assert cache.delete_run("s", f"{worker}-{number}-gone")


def in_processes(work: Callable[[str, int], None], url: str) -> None:
    """Let every process do the work at the same time."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(work, url, worker) for worker in range(PROCESSES)]:
            done.result()


real_server = pytest.mark.parametrize("server", ["redis"], indirect=True)


@real_server
def test_runs_that_processes_append_at_once_are_all_kept_at_places_of_their_own(server: Subject) -> None:
    with SessionCache.from_url(server.url, prefix=PREFIX, ttl=60) as cache, server.client() as admin:
        cache.upsert_session(WorkflowSession("s"))
        in_processes(append_runs, server.url)

        session = cache.get_session("s")
        members = admin.zrange(keys.session_keys(PREFIX, "s")[1], 0, -1, withscores=True)
        count = admin.hget(keys.session_keys(PREFIX, "s")[0], "count")

    assert session is not None
    everybodys = {f"{worker}-{number}" for worker in range(PROCESSES) for number in range(WRITES)}
    assert {run.run_id for run in session.runs or ()} == everybodys
    assert len({score for member, score in members if member[:1] == b"i"}) == PROCESSES * WRITES
    assert len(members) == PROCESSES * WRITES * 3
    assert int(count) == PROCESSES * WRITES
    for worker in range(PROCESSES):
        own = [run.run_id for run in session.runs or () if str(run.run_id).startswith(f"{worker}-")]
        assert own == [f"{worker}-{number}" for number in range(WRITES)]


@real_server
def test_keys_that_processes_set_by_loading_and_saving_are_all_kept(server: Subject) -> None:
    with SessionCache.from_url(server.url, prefix=PREFIX, ttl=60) as cache:
        cache.upsert_session(WorkflowSession("s", session_data={"session_state": {}}))
        in_processes(set_keys, server.url)
        session = cache.get_session("s")

    assert session is not None
    assert session.session_data == {
        "session_state": {
            f"{worker}-{number}": number for worker in range(PROCESSES) for number in range(WRITES)
        }
    }


@real_server
def test_numbers_that_processes_add_to_under_a_revision_add_up(server: Subject) -> None:
    with SessionCache.from_url(server.url, prefix=PREFIX, ttl=60) as cache:
        cache.upsert_session(WorkflowSession("s", metadata={"sum": 0}))
        in_processes(count_up, server.url)
        session = cache.get_session("s")

    assert session is not None
    assert session.metadata == {"sum": PROCESSES * 10}


@real_server
def test_runs_that_processes_append_and_delete_at_once_leave_a_whole_session(server: Subject) -> None:
    with SessionCache.from_url(server.url, prefix=PREFIX, ttl=60) as cache:
        cache.upsert_session(WorkflowSession("s"))
        in_processes(append_and_delete, server.url)
        session = cache.get_session("s")

    assert session is not None
    kept = {f"{worker}-{number}-kept" for worker in range(PROCESSES) for number in range(WRITES // 2)}
    assert {run.run_id for run in session.runs or ()} == kept


def test_threads_that_share_a_cache_lose_nothing(cache: Any) -> None:
    cache.upsert_session(WorkflowSession("s"))
    start = threading.Barrier(8)

    def append(worker: int) -> None:
        start.wait()
        for number in range(20):
            cache.upsert_run("s", WorkflowRunOutput(run_id=f"{worker}-{number}", created_at=1000))
            assert cache.get_run("s", f"{worker}-{number}").run_id == f"{worker}-{number}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))

    assert len(cache.get_session("s").runs) == 160


def test_of_many_who_create_one_session_at_once_nobody_loses_a_run(cache: Any) -> None:
    start = threading.Barrier(8)

    def create(worker: int) -> None:
        start.wait()
        run = WorkflowRunOutput(run_id=str(worker), created_at=1000)
        cache.upsert_session(WorkflowSession("s", runs=[run], metadata={str(worker): worker}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))

    session = cache.get_session("s")
    assert {run.run_id for run in session.runs} == {str(worker) for worker in range(8)}
    assert session.metadata == {str(worker): worker for worker in range(8)}
