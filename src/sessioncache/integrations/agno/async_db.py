"""AsyncSessionCacheDb: a Db for agno on asyncio, which agno has none of for Redis."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from agno.db.base import AsyncBaseDb, BaseDb
from agno.db.redis import RedisDb

from sessioncache.errors import InvalidArgumentError
from sessioncache.options import Options
from sessioncache.transport.awaited import AsyncTransport

from .calls import SessionCalls
from .connect import client_for_the_rest, connect


def _in_a_thread(name: str) -> Callable[..., Any]:
    """Return a method that has the blocking RedisDb do it, in a thread."""

    async def method(self: Any, *args: Any, **options: Any) -> Any:
        if self.blocking is None:
            raise NotImplementedError(
                f"{name} is done by agno's blocking RedisDb: give db_url or blocking_client"
            )
        return await asyncio.to_thread(getattr(self.blocking, name), *args, **options)

    method.__name__ = name
    method.__doc__ = f"Do what `RedisDb.{name}` does, in a thread."
    return method


def _what_redis_db_can() -> dict[str, Callable[..., Any]]:
    """Return the methods of the asynchronous base that RedisDb has and its own base has not."""
    declared = (name for name, _ in inspect.getmembers(AsyncBaseDb, inspect.iscoroutinefunction))
    return {
        name: _in_a_thread(name)
        for name in declared
        if not name.startswith("_")
        and getattr(RedisDb, name, None) not in (None, getattr(BaseDb, name, None))
    }


_TABLES = tuple(name for name in inspect.signature(RedisDb).parameters if name.endswith("_table"))
"""What agno calls the names of its tables."""

_RedisDbInThreads: Any = type("_RedisDbInThreads", (AsyncBaseDb,), _what_redis_db_can())


class AsyncSessionCacheDb(SessionCalls, _RedisDbInThreads):  # type: ignore[misc]
    """A Db for `arun` of agno's Agent, Team and Workflow: as `SessionCacheDb`, awaited.

    Sessions and runs never leave the event loop. Everything else, such as memories, is done by agno's
    blocking RedisDb in a thread; what RedisDb lacks raises NotImplementedError here too.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RedisDb's name for it
        redis_client: Any = None,
        db_url: str | None = None,
        db_prefix: str = "agno",
        expire: int | None = None,
        *,
        blocking_client: Any = None,
        tables: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Make a Db on the Redis of `db_url`, or on that of `redis_client`, a client of redis.asyncio.

        `blocking_client`, of redis, is for all but sessions and runs; a `db_url` of one server makes one.
        `tables` are the names that agno's Dbs call `session_table` and so on.
        """
        names = dict(tables or {})
        if unknown := names.keys() - _TABLES:
            raise InvalidArgumentError(f"tables has {min(unknown)!r}; known: {', '.join(_TABLES)}")
        self.transport, self.settings = connect(
            AsyncTransport, redis_client, db_url, db_prefix, expire, options
        )
        self.blocking: RedisDb | None = None
        if blocking_client is not None or db_url is not None:
            client = client_for_the_rest(blocking_client, db_url)
            self.blocking = RedisDb(id, client, db_url, db_prefix, expire, **names)
        super().__init__(id=self.blocking.id if self.blocking else id, **names)

    async def close(self) -> None:
        """Close the connections of the running event loop; a Db that is used again opens new ones."""
        await self.transport.aclose()

    aclose = close
