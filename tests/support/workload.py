"""Writers and readers beside a model of what was acknowledged, in the words of Jepsen.

A *register* is a value that one writer writes; its last write may have an *unknown* outcome. A *history* is
what a writer knows of a session. A *workload* is threads that call a cache while something happens to its
servers.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sessioncache import UnavailableError
from support.heartbeat import Heartbeat, Stopwatch
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessioncache import WorkflowRunOutput, WorkflowSession


@dataclass
class Register:
    """The values that something may have: the last acknowledged, and any whose outcome is unknown."""

    acknowledged: str | None = None
    unknown: set[str] = field(default_factory=set)

    def verdict(self, found: str | None) -> str:
        """Return `right`, `lost` or `wrong`."""
        if found == self.acknowledged or found in self.unknown:
            return "right"
        return "lost" if self.acknowledged is not None else "wrong"


@dataclass
class History:
    """What a writer knows of its session: runs by number, whose ids are these, and the keys of its state."""

    session_id: str
    is_in_order: Callable[[str, list[WorkflowRunOutput]], bool]
    """Whether runs can be of a session, by its id."""
    runs: dict[int, Register] = field(default_factory=dict)
    state: dict[str, Register] = field(default_factory=dict)

    @property
    def acknowledged_runs(self) -> int:
        """How many runs are stored for sure."""
        return sum(register.acknowledged is not None for register in self.runs.values())

    def verdicts(self, session: WorkflowSession | None) -> Counter[str]:
        """Compare a whole session with what is known."""
        if session is None:
            return Counter(lost=self.acknowledged_runs, wrong=1)
        runs = {int(str(run.run_id)): run.content for run in session.runs or []}
        state = (session.session_data or {}).get("session_state") or {}
        verdicts = Counter(register.verdict(runs.get(number)) for number, register in self.runs.items())
        verdicts += Counter(register.verdict(state.get(key)) for key, register in self.state.items())
        verdicts["wrong"] += len(runs.keys() - self.runs.keys()) + len(state.keys() - self.state.keys())
        verdicts["wrong"] += not self.is_in_order(session.session_id, session.runs or [])
        return verdicts


@dataclass
class Workload:
    """Threads that call a cache until the block ends.

    That Redis does not serve is counted. Any other error is a finding, and so is whatever a job finds: both
    are in `wrong`.
    """

    cache: Any
    errors: Counter[str] = field(default_factory=Counter)
    """By what was done and the error's name: `read UnavailableError`."""
    wrong: list[object] = field(default_factory=list)
    longest: float = 0.0
    """Seconds that one job took at the most, on a machine that does not stall."""
    last_error: float = 0.0
    reads: int = 0
    writes: int = 0

    pace: ClassVar[float] = 0.0
    """Seconds between two jobs of a thread."""

    def prepare(self) -> None:
        """Store what the jobs need."""

    def jobs(self) -> list[Callable[[], None]]:
        """Return what each thread repeats."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.prepare()
        self._stop = threading.Event()
        self._heartbeat = Heartbeat()
        self._heartbeat.__enter__()
        self._threads = [threading.Thread(target=self._repeat, args=(job,)) for job in self.jobs()]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._heartbeat.__exit__()

    @property
    def is_over(self) -> bool:
        """Whether the jobs are to end."""
        return self._stop.is_set()

    def wait(self, writes: int = 0, reads: int = 0, *, seconds: float = 60) -> None:
        """Wait for so many further writes and reads, or for a finding."""
        writes, reads = self.writes + writes, self.reads + reads
        wait_for(
            lambda: self.wrong or (self.writes >= writes and self.reads >= reads),
            "the workload to go on",
            seconds=seconds,
        )

    def _repeat(self, job: Callable[[], None]) -> None:
        while not self._stop.wait(self.pace) and not self.wrong:
            stopwatch = Stopwatch(self._heartbeat)
            try:
                job()
            except UnavailableError as error:
                name = getattr(job, "func", job).__name__.removeprefix("_")
                self.errors[f"{name} {type(error).__name__}"] += 1
                self.last_error = time.monotonic()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
                self.wrong.append(error)
            self.longest = max(self.longest, stopwatch.seconds())
