"""Writers and readers at work while something happens to the servers, and what became of their writes."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from redis.crc import key_slot

from faults.reaching import a_run, run_ids, session
from sessioncache import OutcomeUnknownError, UnavailableError
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

figures = logging.getLogger("figures")
"""What was measured; `pytest -o log_cli=true --log-cli-level=INFO` shows it."""

PACE = 0.002
"""Seconds between two calls of a worker: sessions stay short enough to be read whole."""


def ids_in_slot(slot: int, number: int) -> list[str]:
    """Find so many session ids whose keys are in a slot."""
    found: list[str] = []
    candidate = 0
    while len(found) < number:
        candidate += 1
        if key_slot(b"%d" % candidate) == slot:
            found.append(str(candidate))
    return found


@dataclass
class Load:
    """Threads that add runs to sessions and read them whole, through one cache, until the block ends.

    A reader must find every run that had been acknowledged before it asked (unless `may_lose`), and no error
    may be any but ours: what is neither is a problem.
    """

    cache: Any
    session_ids: list[str]
    writers: int = 4
    readers: int = 2
    may_lose: bool = False
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[object] = field(default_factory=list)
    last_error: float = 0.0
    reads: int = 0
    writes: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._work, args=(self._write, n)) for n in range(self.writers)),
            *(threading.Thread(target=self._work, args=(self._read, n)) for n in range(self.readers)),
        ]

    def __enter__(self) -> Self:
        for session_id in self.session_ids:
            self.cache.upsert_session(session(session_id, runs=1))
            self.acknowledged[session_id] = {"r0"}
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.problems, self.problems[0]

    def goes_on(self, calls: int = 20, *, seconds: float = 30) -> None:
        """Wait until so many further writes and reads have been answered."""
        reads, writes = self.reads + calls, self.writes + calls
        wait_for(
            lambda: (
                self.problems
                or ((self.reads >= reads or not self.readers) and (self.writes >= writes or not self.writers))
            ),
            "the load to go on",
            seconds=seconds,
        )
        assert not self.problems, self.problems[0]

    def go_on_a_little(self, _: object = None) -> None:
        """Wait for some further calls, but not for ever: all workers may be waiting for one session."""
        with contextlib.suppress(TimeoutError):
            self.goes_on(10, seconds=0.2)

    def written(self) -> dict[str, set[str]]:
        """What has been acknowledged by now, by session."""
        return {session_id: set(runs) for session_id, runs in self.acknowledged.items()}

    def check(self, guaranteed: dict[str, set[str]] | None = None) -> int:
        """Check what is stored, and return how many acknowledged runs are missing.

        Those `guaranteed` (all, if not given) must be there.
        """
        lost = 0
        for session_id, acknowledged in self.acknowledged.items():
            stored = self.cache.get_session(session_id)
            ids = run_ids(stored)
            assert len(ids) == len(set(ids))
            assert set(ids) <= acknowledged | self.unknown
            assert (acknowledged if guaranteed is None else guaranteed[session_id]) <= set(ids)
            lost += len(acknowledged - set(ids))
        return lost

    def _work(self, call: Any, number: int) -> None:
        serial = 0
        while not self._stop.wait(PACE) and not self.problems:
            serial += 1
            session_id = random.choice(self.session_ids)
            try:
                call(session_id, f"w{number}.{serial}")
            except UnavailableError as error:
                self.errors[f"{call.__name__[1:]} {type(error).__name__}"] += 1
                self.last_error = time.monotonic()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
                self.problems.append(error)

    def _write(self, session_id: str, run_id: str) -> None:
        try:
            self.cache.upsert_run(session_id, a_run(run_id))
        except OutcomeUnknownError:
            self.unknown.add(run_id)
            raise
        self.acknowledged[session_id].add(run_id)
        self.writes += 1

    def _read(self, session_id: str, _: str) -> None:
        before = set(self.acknowledged[session_id])
        found = self.cache.get_session(session_id)
        if found is None:
            self.problems.append(f"session {session_id} was not found")
        elif found.session_id != session_id:
            self.problems.append(f"session {session_id} was answered by {found.session_id}")
        elif not self.may_lose and (missing := before - set(run_ids(found))):
            self.problems.append(f"session {session_id} lacks {missing}")
        self.reads += 1


def spread_over(cluster: Any, number: int = 4) -> list[str]:
    """Find so many session ids for each master of a cluster."""
    by_master: dict[int, list[str]] = {}
    candidate = 0
    while len(by_master) < len(cluster.masters) or any(len(ids) < number for ids in by_master.values()):
        candidate += 1
        ids = by_master.setdefault(cluster.master_of(str(candidate)).port, [])
        if len(ids) < number:
            ids.append(str(candidate))
    return [session_id for ids in by_master.values() for session_id in ids]


def fail_over(cluster: Any, master: Any) -> None:
    """Swap a live master with its replica, in good order.

    A node votes for a replica of the same master once in two node timeouts: ask until it does.
    """

    def swapped() -> bool:
        if cluster.replicas_of(master):
            with contextlib.suppress(TimeoutError):
                cluster.fail_over(master, seconds=1)
        return not cluster.replicas_of(master)

    wait_for(swapped, "the failover")
    cluster.wait_for_failover(master)


def total(runs: Iterable[set[str]]) -> int:
    """How many there are in all sets."""
    return sum(len(some) for some in runs)
