"""Workers that append to one session at once: processes, or threads where the server is within this one."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.dummy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any, Final

from sessioncache.errors import SessionCacheError

from .cache import open_cache
from .samples import copy_of_run

PATIENCE: Final = 30.0
"""Seconds to wait for a worker: to start a Python takes most of it on a busy machine."""

Outcome = tuple[float, float] | SessionCacheError
"""When a worker began and ended (unix seconds), or why it could not."""


@dataclass(frozen=True)
class Work:
    """What every worker does: append so many runs like this one."""

    url: str
    prefix: str
    run: Mapping[str, Any]
    runs_each: int

    def run_id(self, worker: int, number: int) -> str:
        """Return the id of a worker's n-th run."""
        return f"worker-{worker}-run-{number}"


def crew_of(url: str) -> tuple[str, Any]:
    """Return what workers are on this server, in words, and what makes them."""
    if url.startswith("memory:"):
        return "threads of this process, which the embedded server lives in", multiprocessing.dummy
    return "processes", multiprocessing.get_context("spawn")


def append_at_once(crew: Any, work: Work, workers: int) -> float:
    """Have workers append their runs, all beginning together; return the seconds it took them."""
    start, outcomes = crew.Barrier(workers), crew.Queue()
    members = [crew.Process(target=_append, args=(work, n, start, outcomes)) for n in range(workers)]
    for member in members:
        member.daemon = True
        member.start()
    spans = [_span(outcomes.get(timeout=PATIENCE)) for _ in members]
    for member in members:
        member.join(PATIENCE)
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def _span(outcome: Outcome) -> tuple[float, float]:
    if isinstance(outcome, SessionCacheError):
        raise outcome
    return outcome


def _append(work: Work, worker: int, start: Any, outcomes: Any) -> None:
    """Be a worker: append this worker's runs, one call each, and say when, or why not."""
    logging.getLogger("sessioncache").addHandler(logging.NullHandler())  # as in the process it comes from
    try:
        outcomes.put(_append_all(work, worker, start))
    except SessionCacheError as exc:
        start.abort()
        outcomes.put(exc)
    except BrokenBarrierError:
        return  # another worker says why


def _append_all(work: Work, worker: int, start: Any) -> tuple[float, float]:
    session_id = work.run["session_id"]
    runs = [copy_of_run(work.run, work.run_id(worker, number)) for number in range(work.runs_each)]
    with open_cache(work.url, work.prefix) as cache:
        cache.load(session_id, last_n_runs=0)  # connects, so that what follows is the appending alone
        start.wait(PATIENCE)
        begin = time.time()
        for run in runs:
            cache.upsert_run(session_id, run)
        return begin, time.time()
