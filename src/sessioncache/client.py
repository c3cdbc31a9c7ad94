"""SessionCache: the blocking client. It carries effects to Redis and decides nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from types import EllipsisType, TracebackType
from typing import Any, Self, TypeVar

import redis
from redis.retry import Retry

from .base import CacheBase
from .embedded import embedded_client
from .endpoint import ConnectionClasses, Endpoint, refuse_replica
from .errors import ReplyMismatchError
from .faults import REDIS_ERRORS
from .flow import Address, Effect, Flow, Send
from .models import WorkflowRunOutput, WorkflowSession
from .operations import runs as run_operations
from .operations import saving, sessions
from .pool import Pool
from .settings import Settings

T = TypeVar("T")


def _check_master(connection: redis.Connection) -> None:
    connection.on_connect()
    connection.send_command("ROLE")
    refuse_replica(connection.read_response())


class SessionCache(CacheBase):
    """Workflow sessions in Redis, for blocking code; safe to share between threads and across forks.

        cache = SessionCache.from_url("redis://localhost:6379/0", ttl=3600)

    A method raises errors of `sessioncache.errors` only: InvalidArgumentError before anything is sent,
    UnavailableError where Redis does not serve within `timeout`, OutcomeUnknownError where a write may or
    may not have been applied.
    """

    _classes = ConnectionClasses(
        redis.Connection,
        redis.SSLConnection,
        redis.UnixDomainSocketConnection,
        Retry,
        embedded_client,
    )

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        super()._set_up(endpoint, settings)
        self._pools: dict[Address, Pool] = {}

    def _run(self, flow: Flow[T]) -> T:
        step: Any = flow.send
        value: Any = None
        try:
            while True:
                effect = step(value)
                try:
                    step, value = flow.send, self._perform(effect)
                except REDIS_ERRORS as exc:
                    step, value = flow.throw, exc
        except StopIteration as done:
            result: T = done.value
            return result
        except ReplyMismatchError:
            self._pools.clear()
            raise

    def _perform(self, effect: Effect) -> Any:
        if not isinstance(effect, Send):
            return time.sleep(effect.seconds)
        try:
            return self._pool(effect.address).exchange(effect.commands, effect.seconds)
        except REDIS_ERRORS:
            raise
        except BaseException:
            self._pools.pop(effect.address, None)
            raise

    def _pool(self, address: Address) -> Pool:
        pool = self._pools.get(address)
        if pool is None or pool.pid != os.getpid():
            connect = partial(self._endpoint.make_connection, address, _check_master)
            pool = self._pools[address] = Pool(connect, self._endpoint.max_connections)
        return pool

    def close(self) -> None:
        """Close the connections; a cache that is used again opens new ones."""
        while self._pools:
            self._pools.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return the cache, to be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Create a session, or merge what changed in this object into the stored one: one round trip.

        Of `session_data`, `session_state`, `workflow_data` and `metadata`, those top-level keys are written
        that differ from what this object was loaded with or last saved as, so that workers who change
        different keys do not undo each other. New and changed runs are written; none is ever removed. Sets
        `session.updated_at` to the server's clock. Runs of more than 4 MiB together take further steps.

        Raises SessionNotFoundError where the object was loaded and its session is gone; only one made new
        creates a session. Raises SessionConflictError where the stored revision is not `expect_rev`,
        SessionOwnershipError where the session belongs to another user.
        """
        return self._run(saving.upsert_session(self._call(), session, expect_rev=expect_rev))

    def get_session(
        self, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
    ) -> WorkflowSession | None:
        """Load a session with all runs, or the newest `last_n_runs`: one round trip (HGETALL, 2 ZRANGE).

        None where it does not exist, or does not belong to `user_id` where that is given. 0 runs, or less,
        read the metadata alone. Bodies of runs decode on first use; one that does not decode raises
        DamagedRunError there.
        """
        return self._run(
            sessions.get_session(self._call(), session_id, user_id=user_id, last_n_runs=last_n_runs)
        )

    def get_sessions(
        self, session_ids: Sequence[str], *, last_n_runs: int | None = None
    ) -> list[WorkflowSession | None]:
        """Load sessions in the order of their ids, None where one does not exist: a round trip a server."""
        return self._run(sessions.get_sessions(self._call(), session_ids, last_n_runs=last_n_runs))

    def rename_session(self, session_id: str, name: str, *, user_id: str | None = None) -> bool:
        """Set `session_data["session_name"]`; False where the session does not exist for this user."""
        return self._run(sessions.rename_session(self._call(), session_id, name, user_id=user_id))

    def touch_session(self, session_id: str, ttl: int | timedelta | EllipsisType | None = ...) -> bool:
        """Let a session live for `ttl` from now: seconds or a timedelta, None for ever.

        Left out, it is the cache's own. False where the session does not exist.
        """
        return self._run(sessions.touch_session(self._call(), session_id, ttl))

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Remove a session with all of its runs; False where it does not exist for this user."""
        return self._run(sessions.delete_session(self._call(), session_id, user_id=user_id))

    def upsert_run(self, session_id: str, run: WorkflowRunOutput) -> None:
        """Store a run, replacing the one with its run_id: one round trip, whatever the session's length.

        Nothing is read first. A new run is placed by its `created_at`, ties by arrival; one that is replaced
        keeps its place, and its `queue_attempt` where the new one has none. Raises SessionNotFoundError where
        there is no session, StaleRunError where the stored run has a higher `queue_attempt`.
        """
        return self._run(saving.upsert_runs(self._call(), session_id, [run]))

    def upsert_runs(self, session_id: str, runs: Iterable[WorkflowRunOutput]) -> None:
        """Store runs as `upsert_run` does, in steps of at most 4 MiB or 500 runs, each atomic."""
        return self._run(saving.upsert_runs(self._call(), session_id, runs))

    def get_run(self, session_id: str, run_id: str) -> WorkflowRunOutput | None:
        """Load one run, None where it or its session does not exist: one round trip."""
        return self._run(run_operations.get_run(self._call(), session_id, run_id))

    def get_runs(self, session_id: str, *, last_n: int | None = None) -> list[WorkflowRunOutput]:
        """Load the runs of a session, or the newest `last_n`, oldest first: one round trip.

        Raises SessionNotFoundError where the session does not exist.
        """
        return self._run(run_operations.get_runs(self._call(), session_id, last_n=last_n))

    def delete_run(self, session_id: str, run_id: str) -> bool:
        """Remove one run; False where it or its session does not exist."""
        return self._run(run_operations.delete_run(self._call(), session_id, run_id))
