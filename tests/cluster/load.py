"""Writers and readers at work while something happens to the servers, and what became of their writes."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from redis.crc import key_slot

from faults.reaching import a_run, run_ids, session
from sessioncache import OutcomeUnknownError
from support.waiting import wait_for
from support.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

figures = logging.getLogger("figures")
"""What was measured; `pytest -o log_cli=true --log-cli-level=INFO` shows it."""


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
class Load(Workload):
    """Threads that add runs to shared sessions, and read them whole.

    A reader must find every run that had been acknowledged before it asked, unless the load `may_lose`.
    """

    session_ids: list[str] = field(default_factory=list)
    writers: int = 4
    readers: int = 2
    may_lose: bool = False
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    pace = 0.002  # sessions stay short enough to be read whole

    def prepare(self) -> None:
        """Create the sessions."""
        for session_id in self.session_ids:
            self.cache.upsert_session(session(session_id, runs=1))
            self.acknowledged[session_id] = {"r0"}

    def jobs(self) -> list[Callable[[], None]]:
        """Return the writers, each with run ids of its own, and the readers."""
        names = [(f"w{number}.{serial}" for serial in itertools.count()) for number in range(self.writers)]
        return [*(partial(self._write, run_ids) for run_ids in names), *[self._read] * self.readers]

    def __enter__(self) -> Self:
        super().__enter__()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        assert not self.wrong, self.wrong[0]

    def goes_on(self, calls: int = 20, *, seconds: float = 30) -> None:
        """Wait until so many further writes and reads have succeeded."""
        self.wait(calls if self.writers else 0, calls if self.readers else 0, seconds=seconds)
        assert not self.wrong, self.wrong[0]

    def go_on_a_little(self, _: object = None) -> None:
        """Wait for some further calls, but not for ever: all threads may be waiting for one session."""
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
            ids = run_ids(self.cache.get_session(session_id))
            assert len(ids) == len(set(ids))
            assert set(ids) <= acknowledged | self.unknown
            assert (acknowledged if guaranteed is None else guaranteed[session_id]) <= set(ids)
            lost += len(acknowledged - set(ids))
        return lost

    def _write(self, new_ids: Iterator[str]) -> None:
        session_id, run_id = random.choice(self.session_ids), next(new_ids)
        try:
            self.cache.upsert_run(session_id, a_run(run_id))
        except OutcomeUnknownError:
            self.unknown.add(run_id)
            raise
        self.acknowledged[session_id].add(run_id)
        self.writes += 1

    def _read(self) -> None:
        session_id = random.choice(self.session_ids)
        before = set(self.acknowledged[session_id])
        found = self.cache.get_session(session_id)
        if found is None:
            self.wrong.append(f"session {session_id} was not found")
        elif found.session_id != session_id:
            self.wrong.append(f"session {session_id} was answered by {found.session_id}")
        elif not self.may_lose and (missing := before - set(run_ids(found))):
            self.wrong.append(f"session {session_id} lacks {missing}")
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
        if replicas := cluster.replicas_of(master):
            with contextlib.suppress(TimeoutError):
                cluster.fail_over(master, replicas[0], seconds=1)
        return not cluster.replicas_of(master)

    wait_for(swapped, "the failover")
    cluster.wait_for_failover(master)


def total(runs: Iterable[set[str]]) -> int:
    """How many there are in all sets."""
    return sum(len(some) for some in runs)
