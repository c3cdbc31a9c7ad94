"""agno's durable queue, with workers that die and one that comes back too late: each run is stored once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest
from agno.os import job_queue

if not hasattr(job_queue, "aenqueue_ticket"):
    pytest.skip("the queue of agno 3.0 takes no jobs of its users", allow_module_level=True)

from tests.agno.queue_at_work import AT_ONCE, Whiteboard, work

from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS: Final = 200
"""Of all processes."""

KILLED, STOPPED, *OTHERS = range(4)
PATIENCE: Final = 240.0


@pytest.fixture
def start(redis_url: str) -> Iterator[Callable[[type], list[Any]]]:
    """Start four processes of AgentOS on a Db; each accepts its share of the runs when told to begin."""
    context = multiprocessing.get_context("spawn")
    started: list[Any] = []

    def start_all(db_class: type) -> list[Any]:
        for worker in (KILLED, STOPPED, *OTHERS):
            share = [f"r{worker}-{number}" for number in range(RUNS // 4)]
            started.append(context.Process(target=work, args=(db_class, redis_url, worker, share)))
            started[-1].start()
        return started

    yield start_all
    for process in started:
        process.kill()
        process.join()


@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.parametrize("db_class", [SessionCacheDb, AsyncSessionCacheDb])
def test_each_run_is_stored_once_by_its_last_attempt(
    db_class: type, start: Callable[[type], list[Any]], redis_url: str, db: Any
) -> None:
    board = Whiteboard(redis_url)
    processes = start(db_class)

    for worker in (KILLED, STOPPED):
        board.note("begin", worker)
    for worker in (KILLED, STOPPED):
        board.wait("accepted", worker)
        board.wait("asked", worker, count=AT_ONCE)
    for worker in OTHERS:
        board.note("let go", worker)
        board.note("begin", worker)
    os.kill(processes[KILLED].pid, signal.SIGKILL)
    os.kill(processes[STOPPED].pid, signal.SIGSTOP)
    wait_for(lambda: db.queue_stats()["counts"] == {"completed": RUNS}, "all runs", seconds=PATIENCE)
    stored = runs_of(db)

    board.note("let go", STOPPED)
    os.kill(processes[STOPPED].pid, signal.SIGCONT)
    board.wait("refused", STOPPED, count=AT_ONCE)
    board.note("done")
    for process in processes:
        process.join(PATIENCE)

    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0, 0]
    assert runs_of(db) == stored
    assert sorted(run["run_id"] for run in stored) == sorted(
        f"r{worker}-{number}" for worker in range(4) for number in range(RUNS // 4)
    )
    for run in stored:
        last = max(map(int, board.notes("attempts", run["run_id"])))
        assert (run["status"], run["content"]) == ("COMPLETED", f"ask {run['run_id']} by {last}")
        assert run["queue_attempt"] == db.get_job(run["run_id"])["attempt"]
    for worker in (STOPPED, *OTHERS):
        assert not [warning for warning in board.notes("warned", worker) if "falling back" in warning]
    for worker in (KILLED, STOPPED):
        assert all(db.get_job(run_id)["attempt"] > 1 for run_id in board.notes("asked", worker)[:AT_ONCE])


def runs_of(db: Any) -> list[dict[str, Any]]:
    """All runs as they are stored, in an order of their own."""
    rows, _ = db.get_runs(deserialize=False)
    return sorted((row["run_data"] for row in rows), key=lambda run: run["run_id"])
