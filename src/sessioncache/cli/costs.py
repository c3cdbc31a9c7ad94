"""What a call takes with this library, and with a whole session as one JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from time import perf_counter
from typing import Any, Final

from sessioncache import SessionCache, WorkflowRunOutput, WorkflowSession

from .dialogue import CUSTOMER, WORKFLOW, runs_of

SIZES: Final = (10, 1000)
"""Runs of the sessions that are measured."""

BUDGET: Final = 0.25
"""Seconds that one kind of call is measured for."""

CALLS: Final = (5, 200)
"""How many calls are measured: at least, and at most."""

READ: Final = 5
"""Runs that are read."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """The median microseconds of one task at each size: here, and as JSON."""

    task: str
    here: list[float] = field(default_factory=list)
    as_json: list[float] = field(default_factory=list)

    def times_as_fast(self) -> float:
        """Return how many times as fast it is here, in the longest session."""
        return self.as_json[-1] / self.here[-1]


def measure(cache: SessionCache, client: Any, prefix: str, ttl: timedelta) -> list[Cost]:
    """Measure each task on sessions of each size, which are removed afterwards."""
    costs = [Cost(f"load {READ} runs, all messages"), Cost("save a run"), Cost("chat history of 10 runs")]
    for size in SIZES:
        runs = runs_of(size)
        here, as_json = Here(cache, f"{size}-runs"), AsJson(client, f"{prefix}:json:{size}", ttl)
        try:
            here.store(runs)
            as_json.store(runs)
            for cost, ours, theirs in zip(costs, here.tasks(runs[-1]), as_json.tasks(runs[-1]), strict=True):
                cost.here.append(_median_microseconds(ours))
                cost.as_json.append(_median_microseconds(theirs))
        finally:
            here.remove()
            as_json.remove()
    return costs


def kilobytes(run: WorkflowRunOutput) -> float:
    """Return the size of a run as JSON."""
    return len(json.dumps(run.to_dict())) / 1000


@dataclass(frozen=True)
class Here:
    """The tasks, with this library."""

    cache: SessionCache
    session_id: str

    def store(self, runs: Sequence[WorkflowRunOutput]) -> None:
        """Store a session of these runs."""
        self.cache.upsert_session(WorkflowSession(self.session_id, CUSTOMER, WORKFLOW))
        self.cache.upsert_runs(self.session_id, runs)

    def tasks(self, run: WorkflowRunOutput) -> list[Call]:
        """Return what is measured."""
        return [
            self._load,
            lambda: self.cache.upsert_run(self.session_id, run),
            lambda: self.cache.get_chat_history(self.session_id, last_n_runs=10),
        ]

    def _load(self) -> list[Any]:
        """Load runs and unpack what lies in them: their messages would wait until somebody looks."""
        return [run.step_executor_runs for run in self.cache.get_runs(self.session_id, last_n_runs=READ)]

    def remove(self) -> None:
        """Remove the session."""
        self.cache.delete_session(self.session_id)


@dataclass(frozen=True)
class AsJson:
    """The same tasks, with a session as one JSON text under one key."""

    client: Any
    key: str
    ttl: timedelta

    def store(self, runs: Sequence[WorkflowRunOutput]) -> None:
        """Store a session of these runs."""
        self._save([run.to_dict() for run in runs])

    def tasks(self, run: WorkflowRunOutput) -> list[Call]:
        """Return what is measured."""
        return [lambda: self._load()[-READ:], lambda: self._replace_last(run), self._chat_history]

    def _load(self) -> list[Any]:
        runs: list[Any] = json.loads(self.client.get(self.key))["runs"]
        return runs

    def _save(self, runs: list[Any]) -> None:
        self.client.set(self.key, json.dumps({"user_id": CUSTOMER, "runs": runs}), ex=self.ttl)

    def _replace_last(self, run: WorkflowRunOutput) -> None:
        self._save([*self._load()[:-1], run.to_dict()])

    def _chat_history(self) -> list[tuple[Any, Any]]:
        return [(run["input"], run["content"]) for run in self._load()[-10:]]

    def remove(self) -> None:
        """Remove the text."""
        self.client.delete(self.key)


def _median_microseconds(call: Call) -> float:
    """Return the median of calls; the first, which may load a script, does not count."""
    call()
    least, most = CALLS
    seconds: list[float] = []
    while len(seconds) < least or (len(seconds) < most and sum(seconds) < BUDGET):
        begin = perf_counter()
        call()
        seconds.append(perf_counter() - begin)
    return median(seconds) * 1e6
