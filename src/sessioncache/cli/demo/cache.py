"""The cache of the demo: it counts round trips, looks at positions, and leaves nothing behind."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

from sessioncache import keys
from sessioncache.client import SessionCache
from sessioncache.endpoint import Endpoint
from sessioncache.errors import UnavailableError
from sessioncache.flow import Effect, Request, Send
from sessioncache.models import WorkflowSession
from sessioncache.resilience import ask, ask_all
from sessioncache.settings import Settings

TTL: Final = timedelta(minutes=10)
"""Lifetime of what a demo stores that is killed before it cleans up."""

TIMEOUT: Final = 3.0
"""Seconds for one call: nobody who tries a demo waits longer to learn that there is no server."""


def open_cache(url: str, prefix: str, ttl: timedelta = TTL) -> DemoCache:
    """Make a cache for the demo."""
    return DemoCache.from_url(url, prefix=prefix, ttl=ttl, timeout=TIMEOUT)


class DemoCache(SessionCache):
    """A SessionCache that removes, at the end of its block, the sessions saved through it."""

    round_trips = 0

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        super()._set_up(endpoint, settings)
        self._saved: set[bytes] = set()

    def _perform(self, effect: Effect) -> Any:
        self.round_trips += isinstance(effect, Send)
        return super()._perform(effect)

    def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Save a session, and remember its keys."""
        prefix = self._settings.prefix
        self._saved.update(keys.session_keys(prefix, session.session_id))
        self._saved.update(keys.indexes(prefix, session.user_id, session.workflow_id))
        super().upsert_session(session, expect_rev=expect_rev)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the keys of every session saved, and close."""
        with suppress(UnavailableError):
            self._remove(self._saved)
        super().__exit__(kind, exc, traceback)

    def _remove(self, saved: set[bytes]) -> None:
        requests = [Request(key, ((b"UNLINK", key),), writes=True) for key in sorted(saved)]
        self._run(ask_all(self._call(), requests))

    def positions(self, session_id: str) -> list[float]:
        """Return the position of every run, in order: the scores of the heads."""
        _, runs = keys.session_keys(self._settings.prefix, session_id)
        command = (b"ZRANGE", runs, b"1", b"+inf", b"BYSCORE", b"WITHSCORES")
        flat = self._run(ask(self._call(), Request(runs, (command,))))
        return [float(score) for score in flat[1::2]]

    def lists_as_it_writes(self) -> bool:
        """Return whether a write takes its session's indexes along: in a cluster they live elsewhere."""
        return self._routing.indexes_join_writes

    def load(self, session_id: str, last_n_runs: int | None = None) -> WorkflowSession:
        """Load a session that is known to exist."""
        session = self.get_session(session_id, last_n_runs=last_n_runs)
        if session is None:
            raise LookupError(f"session {session_id!r} is gone")
        return session
