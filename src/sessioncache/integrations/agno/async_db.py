"""AsyncSessionCacheDb: a Db for agno on asyncio, which agno has none of for Redis."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from agno.db.base import AsyncBaseDb, BaseDb
from agno.db.redis import RedisDb

from sessioncache.base import Options
from sessioncache.errors import InvalidArgumentError

from . import runs, sessions
from .connecting import AsyncRecords, client_for_the_rest, records
from .listing import Wanted, get_sessions
from .runs import WantedRuns
from .sessions import upsert_sessions


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


class AsyncSessionCacheDb(_RedisDbInThreads):  # type: ignore[misc]
    """A Db for `arun` of agno's Agent, Team and Workflow: as `SessionCacheDb`, awaited.

    Sessions and runs never leave the event loop. Everything else, memories say, is agno's blocking RedisDb in
    a thread; what RedisDb has not raises NotImplementedError here too.
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
        self.records = records(AsyncRecords, redis_client, db_url, db_prefix, expire, options)
        self.blocking: RedisDb | None = None
        if blocking_client is not None or db_url is not None:
            client = client_for_the_rest(blocking_client, db_url)
            self.blocking = RedisDb(id, client, db_url, db_prefix, expire, **names)
        super().__init__(id=self.blocking.id if self.blocking else id, **names)

    async def close(self) -> None:
        """Close the connections of the running event loop; a Db that is used again opens new ones."""
        await self.records.aclose()

    aclose = close

    # Sessions

    async def get_session(
        self,
        session_id: str,
        session_type: Any = None,
        user_id: str | None = None,
        deserialize: bool | None = True,
        runs_limit: int | None = None,
    ) -> Any:
        """Load a session, all runs or the newest that count as history; None where this user has none."""
        return await self.records.perform(
            sessions.get_session, session_id, session_type, user_id, deserialize, runs_limit
        )

    async def get_sessions(
        self,
        session_type: Any = None,
        user_id: str | None = None,
        component_id: str | None = None,
        session_name: str | None = None,
        start_timestamp: int | None = None,
        end_timestamp: int | None = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
        include_runs: bool = True,
    ) -> Any:
        """Load a page of sessions; without `deserialize`, dicts and how many there are on all pages."""
        wanted = Wanted(session_type, user_id, component_id, session_name, start_timestamp, end_timestamp)
        return await self.records.perform(
            get_sessions,
            wanted,
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
            include_runs=include_runs,
        )

    async def rename_session(
        self,
        session_id: str,
        session_type: Any,
        session_name: str,
        user_id: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Set a session's name; return the session, None where this user has none."""
        return await self.records.perform(
            sessions.rename_session, session_id, session_type, session_name, user_id, deserialize
        )

    async def upsert_session(self, session: Any, deserialize: bool | None = True) -> Any:
        """Create a session or merge what changed of it, but for its runs; None where it is another user's."""
        return await self.records.perform(sessions.upsert_session, session, deserialize)

    async def upsert_sessions(
        self, sessions: list[Any], deserialize: bool | None = True, preserve_updated_at: bool = False
    ) -> list[Any]:
        """Save sessions one by one; those that are another user's are left out of the answer."""
        return await self.records.perform(upsert_sessions, sessions, deserialize, preserve_updated_at)

    async def delete_session(self, session_id: str, user_id: str | None = None) -> bool:
        """Remove a session with its runs; False where this user has none."""
        return await self.records.perform(sessions.delete_session, session_id, user_id)

    async def delete_sessions(self, session_ids: list[str], user_id: str | None = None) -> None:
        """Remove sessions with their runs, as far as this user has them."""
        return await self.records.perform(sessions.delete_sessions, session_ids, user_id)

    async def reassign_session_owner(
        self, session_id: str, *, previous_user_id: str, user_id: str | None
    ) -> bool:
        """Give a session to another user if its owner is as expected and no run of it is active."""
        return await self.records.perform(
            sessions.reassign_session_owner, session_id, previous_user_id=previous_user_id, user_id=user_id
        )

    # Runs

    async def upsert_run(
        self, run: Any, session_id: str, user_id: str | None = None, run_index: int | None = None
    ) -> None:
        """Store a run of a session that exists, or replace it in its place."""
        return await self.records.perform(runs.upsert_run, run, session_id, user_id, run_index)

    async def get_run(self, run_id: str, deserialize: bool | None = True) -> Any:
        """Load a run; without `deserialize`, its row."""
        return await self.records.perform(runs.get_run, run_id, deserialize)

    async def get_runs(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        team_id: str | None = None,
        workflow_id: str | None = None,
        status: Any = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Load a page of runs; without `deserialize`, rows and how many there are on all pages."""
        return await self.records.perform(
            runs.get_runs,
            WantedRuns(session_id, user_id, agent_id, team_id, workflow_id, status),
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
        )

    async def delete_run(self, run_id: str) -> bool:
        """Remove a run; False where there is none."""
        return await self.records.perform(runs.delete_run, run_id)

    async def delete_runs(self, run_ids: list[str]) -> None:
        """Remove runs, as far as they exist."""
        return await self.records.perform(runs.delete_runs, run_ids)

    async def cancel_pending_run(
        self,
        run_id: str,
        *,
        session_id: str,
        reason: str,
        user_id: str | None = None,
        expected_status: str = "PENDING",
    ) -> bool:
        """Cancel a run if its status is the one expected; tell whether it was."""
        return await self.records.perform(
            runs.cancel_pending_run,
            run_id,
            session_id=session_id,
            reason=reason,
            user_id=user_id,
            expected_status=expected_status,
        )
