"""Writers and readers on one cache, and a model beside them that knows what every answer must hold.

Each session has one writer, which appends runs 0, 1, 2, ... and names in each the session and the life of it:
a session that is gone (evicted, flushed) is made anew and begins its next life. So an answer is right where
all its runs are of one session and one life, begin at 0 without a gap, and include whatever had been
acknowledged of that life before the question was asked.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from faults.reaching import a_run
from sessioncache import OutcomeUnknownError, SessionNotFoundError, UnavailableError, WorkflowSession
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = 2


@dataclass
class Written:
    """What one writer knows of its session."""

    session_id: str
    life: int = 0
    acknowledged: int = 0
    begun: int = 0


@dataclass
class Load:
    """The running load; `wrong` stays empty, and `longest` is how long one call took at the most."""

    cache: Any
    may_vanish: bool = False
    payload: str = ""
    sessions: list[Written] = field(default_factory=lambda: [Written(f"s{number}") for number in range(4)])
    acknowledged: int = 0
    unknown: int = 0
    unavailable: int = 0
    reads: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for written in self.sessions:
            self._create(written)
        jobs: list[Callable[[], None]] = [lambda w=written: self._append(w) for written in self.sessions]  # type: ignore[misc]
        self._threads = [
            threading.Thread(target=self._repeat, args=(job,)) for job in [*jobs, *[self._read] * READERS]
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_writes(self, more: int) -> None:
        """Wait until so many further writes have been acknowledged."""
        target = self.acknowledged + more
        wait_for(lambda: self.acknowledged >= target or self.wrong, f"{more} writes", seconds=60)

    def check_all(self) -> None:
        """Compare every session with the model, now that nothing is written any more."""
        for written in self.sessions:
            self._compare(written, written.life, written.acknowledged, self._load(written))

    def _repeat(self, job: Callable[[], None]) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                job()
            except OutcomeUnknownError:
                self.unknown += 1
            except UnavailableError:
                self.unavailable += 1
            except Exception as error:  # noqa: BLE001 - any other is a finding
                self.wrong.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - started)

    def _create(self, written: Written) -> None:
        written.life += 1
        written.acknowledged = written.begun = 0
        session_data = {"life": written.life}
        while not self._stop.is_set():
            with contextlib.suppress(UnavailableError):
                return self.cache.upsert_session(
                    WorkflowSession(written.session_id, session_data=session_data)
                )
        return None

    def _append(self, written: Written) -> None:
        number = written.acknowledged
        written.begun = number + 1
        text = f"{written.session_id} {written.life} {number}"
        run = a_run(f"r{number}", created_at=number + 1, content=text, metadata={"payload": self.payload})
        try:
            self.cache.upsert_run(written.session_id, run)
        except SessionNotFoundError:
            if not self.may_vanish:
                raise
            self._create(written)
        else:
            written.acknowledged += 1
            self.acknowledged += 1

    def _read(self) -> None:
        written = random.choice(self.sessions)
        life, acknowledged = written.life, written.acknowledged
        self._compare(written, life, acknowledged, self._load(written))
        self.reads += 1

    def _load(self, written: Written) -> list[str] | None:
        """Ask for a session's history in one of several ways; None where there is no such session."""
        ask = random.choice([self._as_session, self._as_history, self._as_runs])
        return ask(written.session_id)

    def _as_session(self, session_id: str) -> list[str] | None:
        session = self.cache.get_session(session_id)
        return session and [run.content for run in session.runs if run.metadata["payload"] == self.payload]

    def _as_history(self, session_id: str) -> list[str] | None:
        with contextlib.suppress(SessionNotFoundError):
            return [output for _, output in self.cache.get_workflow_history(session_id)]
        return None

    def _as_runs(self, session_id: str) -> list[str] | None:
        with contextlib.suppress(SessionNotFoundError):
            return [run.content for run in self.cache.get_runs(session_id)]
        return None

    def _compare(self, written: Written, life: int, acknowledged: int, found: list[str] | None) -> None:
        if found is None:
            if not self.may_vanish:
                self.wrong.append(f"{written.session_id} is said not to exist")
            return
        lives = {int(text.split()[1]) for text in found} or {written.life}
        found_life = max(lives)
        right = [f"{written.session_id} {found_life} {number}" for number in range(len(found))]
        least = acknowledged if found_life == life else 0
        if found != right or not (life <= found_life <= written.life) or len(found) < least:
            self.wrong.append(f"{written.session_id}, life {life}, {acknowledged} acknowledged: {found[-5:]}")
