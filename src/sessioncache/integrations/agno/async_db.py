"""AsyncSessionCacheDb: a Db for agno on asyncio, which agno has none of for Redis."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Unpack

from agno.db.base import AsyncBaseDb, BaseDb
from agno.db.redis import RedisDb

from sessioncache.operations.context import near_cache_of
from sessioncache.operations.listed import ListedSessions
from sessioncache.operations.observed import observers_of
from sessioncache.options import Options
from sessioncache.transport.awaited import AsyncTransport

from .calls import SessionCalls
from .connect import client_for_the_rest, connect
from .legacy import legacy_if


def _in_a_thread(name: str) -> Callable[..., Any]:
    """Return a method that has the blocking RedisDb do it, in a thread."""

    async def method(self: Any, *args: Any, **options: Any) -> Any:
        if self.blocking is None:
            raise NotImplementedError(
                f"{name} is done by agno's blocking RedisDb: give db_url or blocking_client"
            )
        return await asyncio.to_thread(getattr(self.blocking, name), *args, **options)

    method = wraps(getattr(RedisDb, name))(method)
    method.__doc__ = f"Do what `RedisDb.{name}` does, in a thread."
    return method


def _what_redis_db_can() -> dict[str, Callable[..., Any]]:
    """Return what RedisDb has and its base has not; the job queue is declared by no base at all."""
    return {
        name: _in_a_thread(name)
        for name, method in inspect.getmembers(RedisDb, inspect.isfunction)
        if not name.startswith("_") and method is not getattr(BaseDb, name, None) and name != _OF_OLD_SESSIONS
    }


_OF_OLD_SESSIONS = "cleanup_legacy_runs_field"
"""Changes the sessions that RedisDb itself keeps."""


def _awaited(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method as a coroutine function: agno has any other run in a thread, and awaits no result."""

    @wraps(method)
    async def call(self: Any, *args: Any, **options: Any) -> Any:
        return await method(self, *args, **options)

    return call


_PLAIN = {"near_cache_info"}
"""What is known without asking Redis, and is not awaited."""


def _awaited_session_calls() -> dict[str, Callable[..., Any]]:
    public = (name for name in vars(SessionCalls) if not name.startswith("_") and name not in _PLAIN)
    return {name: _awaited(getattr(SessionCalls, name)) for name in public}


_AwaitedSessionCalls: Any = type("_AwaitedSessionCalls", (), _awaited_session_calls())
_RedisDbInThreads: Any = type("_RedisDbInThreads", (AsyncBaseDb,), _what_redis_db_can())


class AsyncSessionCacheDb(_AwaitedSessionCalls, SessionCalls, _RedisDbInThreads):  # type: ignore[misc]
    """A Db for `arun` of agno's Agent, Team and Workflow: as `SessionCacheDb`, awaited.

    Sessions and runs never leave the event loop. Everything else, such as memories, is done by agno's
    blocking RedisDb in a thread; what RedisDb lacks raises NotImplementedError here too.
    """

    serializes_sessions: bool = getattr(RedisDb, "serializes_sessions", False)

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RedisDb's name for it
        redis_client: Any = None,
        db_url: str | None = None,
        db_prefix: str = "agno",
        expire: int | None = None,
        session_table: str | None = None,
        runs_table: str | None = None,
        memory_table: str | None = None,
        metrics_table: str | None = None,
        eval_table: str | None = None,
        knowledge_table: str | None = None,
        traces_table: str | None = None,
        spans_table: str | None = None,
        read_legacy: bool = True,
        *,
        blocking_client: Any = None,
        **options: Unpack[Options],
    ) -> None:
        """Make a Db on the Redis of `db_url`, or on that of `redis_client`, a client of redis.asyncio.

        `blocking_client`, of redis, is for all but sessions and runs; a `db_url` of one server makes one.
        With `read_legacy`, sessions that a RedisDb of the same prefix left there are imported when needed.
        """
        tables = {
            "session_table": session_table,
            "runs_table": runs_table,
            "memory_table": memory_table,
            "metrics_table": metrics_table,
            "eval_table": eval_table,
            "knowledge_table": knowledge_table,
            "traces_table": traces_table,
            "spans_table": spans_table,
        }
        self.transport, self.settings = connect(
            AsyncTransport, redis_client, db_url, db_prefix, expire, options
        )
        self.near = near_cache_of(self.settings)
        self.listed = ListedSessions()
        self.observers = observers_of(self.settings)
        self.legacy = legacy_if(read_legacy)
        self.blocking: RedisDb | None = None
        if blocking_client is not None or db_url is not None:
            client = client_for_the_rest(blocking_client, db_url)
            self.blocking = RedisDb(id, client, db_url, db_prefix, expire, **tables)
        super().__init__(id=self.blocking.id if self.blocking else id, **tables)

    async def close(self) -> None:
        """Close the connections of the running event loop; a Db that is used again opens new ones."""
        await self.transport.aclose()

    aclose = close
