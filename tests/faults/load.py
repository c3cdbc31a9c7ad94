"""Writers that append to sessions of their own, and readers of all, while something happens to the server."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from faults.reaching import a_run
from sessioncache import SessionNotFoundError, UnavailableError, WorkflowSession
from support.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = 2


@dataclass
class Written:
    """What a writer knows of its session: a life is from one creation to the next loss."""

    session_id: str
    life: int = 0
    acknowledged: int = 0


@dataclass
class Load(Workload):
    """A session is never shorter than what was acknowledged, nor another life's, unless it `may_vanish`."""

    may_vanish: bool = False
    payload: str = ""
    sessions: list[Written] = field(default_factory=lambda: [Written(f"s{number}") for number in range(4)])

    def prepare(self) -> None:
        """Create the sessions."""
        for written in self.sessions:
            self._create(written)

    def jobs(self) -> list[Callable[[], None]]:
        """Return a writer for each session, and the readers."""
        return [*(partial(self._append, written) for written in self.sessions), *[self._read] * READERS]

    def check_all(self) -> None:
        """Compare every session with what is known, now that nothing is written any more."""
        for written in self.sessions:
            self._compare(written, written.life, written.acknowledged, self._load(written))

    def _create(self, written: Written) -> None:
        written.life += 1
        written.acknowledged = 0
        session = WorkflowSession(written.session_id, session_data={"life": written.life})
        while written.life == 1 or not self.is_over:
            with contextlib.suppress(UnavailableError):
                return self.cache.upsert_session(session)
        return None

    def _append(self, written: Written) -> None:
        number = written.acknowledged
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
            self.writes += 1

    def _read(self) -> None:
        written = random.choice(self.sessions)
        life, acknowledged = written.life, written.acknowledged
        self._compare(written, life, acknowledged, self._load(written))
        self.reads += 1

    def _load(self, written: Written) -> list[str] | None:
        """Ask for a session's history in one of several ways; None if there is no such session."""
        ask = random.choice([self._as_session, self._as_history, self._as_runs])
        with contextlib.suppress(SessionNotFoundError):
            return ask(written.session_id)
        return None

    def _as_session(self, session_id: str) -> list[str] | None:
        session = self.cache.get_session(session_id)
        return session and [run.content for run in session.runs if run.metadata["payload"] == self.payload]

    def _as_history(self, session_id: str) -> list[str]:
        return [output for _, output in self.cache.get_workflow_history(session_id)]

    def _as_runs(self, session_id: str) -> list[str]:
        return [run.content for run in self.cache.get_runs(session_id)]

    def _compare(self, written: Written, life: int, acknowledged: int, found: list[str] | None) -> None:
        if found is None:
            if not self.may_vanish:
                self.wrong.append(f"{written.session_id} is said not to exist")
            return
        found_life = max({int(text.split()[1]) for text in found} or {written.life})
        right = [f"{written.session_id} {found_life} {number}" for number in range(len(found))]
        least = acknowledged if found_life == life else 0
        if found != right or not (life <= found_life <= written.life) or len(found) < least:
            self.wrong.append(f"{written.session_id}, life {life}, {acknowledged} acknowledged: {found[-5:]}")
