"""Leases as users hold them, of both clients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from .errors import InvalidArgumentError, LeaseLostError, UnavailableError
from .models import WorkflowRunOutput, WorkflowSession
from .operations import lease as operations
from .operations import update, upsert
from .operations.context import Held
from .validation import encoded_id, lifetime, timeout

log = logging.getLogger("sessioncache")

LEASE_SECONDS: Final = 30
"""How long a lease lasts by default: longer than a run is silent, shorter than anybody wants to wait for."""

LONGEST_SECONDS: Final = 86_400.0

Run = Callable[..., Any]


class BaseLease:
    """A lease that is to be taken: of which session, for how long, and who waits for how long."""

    def __init__(self, run: Run, session_id: str, ttl: Any, wait: float, user_id: str | None) -> None:
        encoded_id(session_id, "session_id")
        self.session_id = session_id
        self._run = run
        self._ttl = _milliseconds(ttl)
        self._wait = 0.0 if wait == 0 else timeout(wait, "wait")
        self._user_id = user_id
        self._owner = uuid4().hex.encode()
        self._held: Held | None = None

    def __repr__(self) -> str:
        state = "not held" if self._held is None else f"number {self._held.number}"
        return f"<{type(self).__name__} of session {self.session_id!r}, {state}>"

    @property
    def number(self) -> int:
        """The fencing number: later leases of the session have larger ones, for ever."""
        return self.held.number

    @property
    def held(self) -> Held:
        """What writes under this lease name; raises LeaseLostError unless it was taken."""
        if self._held is None:
            raise LeaseLostError(
                f"the lease of session {self.session_id!r} is not held", session_id=self.session_id
            )
        return self._held

    def _acquire(self) -> Any:
        wanted = (self.session_id, self._owner, self._ttl, self._wait)
        return self._run(operations.acquire, *wanted, user_id=self._user_id)

    def _extend(self, ttl: Any) -> Any:
        if ttl is not None:
            self._ttl = _milliseconds(ttl)
            self._held = self.held._replace(ttl=self._ttl)
        return self._run(operations.extend, self.held, self._owner, self._ttl, user_id=self._user_id)

    def _release(self) -> Any:
        held, self._held = self.held, None
        return self._run(operations.release, held, self._owner, user_id=self._user_id)

    def _write(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._run(operation, *args, lease=self, user_id=self._user_id, **options)


def held_by(lease: Any) -> Held:
    """Return what a lease holds; raise LeaseLostError or InvalidArgumentError."""
    if not isinstance(lease, BaseLease):
        raise InvalidArgumentError(f"lease must be a lease of this cache, not {type(lease).__name__}")
    return lease.held


def _milliseconds(ttl: Any) -> int:
    """Return the lifetime of a lease, given in seconds or as a timedelta."""
    if isinstance(ttl, float) and 0 < ttl < LONGEST_SECONDS:
        ttl = timedelta(seconds=ttl)
    milliseconds = lifetime(ttl, "ttl")
    if milliseconds is None:
        raise InvalidArgumentError("ttl must be a time: a lease ends by itself if its holder does not end it")
    return milliseconds


class Lease(BaseLease):
    """The lease of a session, held until the end of a block.

        with cache.lease("session", ttl=30, wait=5) as lease:
            lease.upsert_run(run)

    What is written under it is refused with LeaseLostError, in the same atomic step, once it is not held any
    more, however late it comes; each write begins its lifetime anew.
    """

    def __enter__(self) -> Self:
        """Take the lease; raise LeaseHeldError if somebody else keeps it, SessionNotFoundError."""
        self._held = self._acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lease; one that was lost is none, and one that cannot be released ends by itself."""
        with suppress(LeaseLostError), _logged(self.session_id):
            self._release()

    def extend(self, ttl: Any = None) -> None:
        """Let the lease last for `ttl` seconds from now, or as long as at first; raise LeaseLostError."""
        self._extend(ttl)

    def release(self) -> None:
        """Give the lease back; raise LeaseLostError if it is not held any more."""
        self._release()

    def upsert_run(self, run: WorkflowRunOutput) -> None:
        """Store a run, as the cache's `upsert_run`; raise LeaseLostError."""
        self._write(upsert.upsert_run, self.session_id, run)

    def upsert_runs(self, runs: Iterable[WorkflowRunOutput]) -> None:
        """Store runs, as the cache's `upsert_runs`; raise LeaseLostError."""
        self._write(upsert.upsert_runs, self.session_id, runs)

    def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Save the session, as the cache's `upsert_session`; raise LeaseLostError."""
        self._write(upsert.upsert_session, session, expect_rev=expect_rev)

    def update_session_state(self, changes: Mapping[str, Any], *, remove: Iterable[str] = ()) -> None:
        """Set and remove keys of the state, as the cache's `update_session_state`; raise LeaseLostError."""
        self._write(update.update_session_state, self.session_id, changes, remove=remove)


class AsyncLease(BaseLease):
    """The lease of a session, held until the end of a block: everything `Lease` has, awaited."""

    async def __aenter__(self) -> Self:
        """Take the lease; raise LeaseHeldError if somebody else keeps it, SessionNotFoundError."""
        self._held = await self._acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lease; one that was lost is none, and one that cannot be released ends by itself."""
        with suppress(LeaseLostError), _logged(self.session_id):
            await self._release()

    async def extend(self, ttl: Any = None) -> None:
        """Let the lease last for `ttl` seconds from now, or as long as at first; raise LeaseLostError."""
        await self._extend(ttl)

    async def release(self) -> None:
        """Give the lease back; raise LeaseLostError if it is not held any more."""
        await self._release()

    async def upsert_run(self, run: WorkflowRunOutput) -> None:
        """Store a run, as the cache's `upsert_run`; raise LeaseLostError."""
        await self._write(upsert.upsert_run, self.session_id, run)

    async def upsert_runs(self, runs: Iterable[WorkflowRunOutput]) -> None:
        """Store runs, as the cache's `upsert_runs`; raise LeaseLostError."""
        await self._write(upsert.upsert_runs, self.session_id, runs)

    async def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Save the session, as the cache's `upsert_session`; raise LeaseLostError."""
        await self._write(upsert.upsert_session, session, expect_rev=expect_rev)

    async def update_session_state(self, changes: Mapping[str, Any], *, remove: Iterable[str] = ()) -> None:
        """Set and remove keys of the state, as the cache's `update_session_state`; raise LeaseLostError."""
        await self._write(update.update_session_state, self.session_id, changes, remove=remove)


class _logged:  # noqa: N801 - a context manager, used like a function
    """Log that a lease could not be released: it ends by itself, and is no error of its block."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        """Log it."""
        if isinstance(exc, UnavailableError):
            log.warning(
                "the lease of session %r ends by itself, for it is not released: %s", self._session_id, exc
            )
            return True
        return False
