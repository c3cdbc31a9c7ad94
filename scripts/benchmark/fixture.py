"""The fixture of the benchmark: one private Redis, a database for each purpose, filled when needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import redis
import redis.asyncio

from sessioncache import SessionCache, WorkflowRunOutput

from . import dataset

if TYPE_CHECKING:
    from agno.db.redis import RedisDb

    from support.servers import RedisServer

DATABASES: Final = ("cache", "agno", "agents", "json", "limit", "cache listing", "agno listing", "memory")
"""Databases of the one server, so that no system has to search through the keys of another."""

LISTED: Final = 10_000
QUICK_LISTED: Final = 3_000
"""Sessions that a list is made of."""

LISTED_USERS: Final = 100
"""Users that the sessions to be listed belong to, in turn."""


@dataclass
class Fixture:
    """The server, and every system's connection to its database; sessions are stored when first asked for."""

    server: RedisServer
    quick: bool = False
    say: Callable[[str], Any] = lambda _: None
    stored: set[str] = field(default_factory=set)

    @property
    def listed(self) -> int:
        """Return how many sessions a list is made of."""
        return QUICK_LISTED if self.quick else LISTED

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"{self.server.url}?db={DATABASES.index(database)}"

    def client(self, database: str) -> redis.Redis:
        """Make a plain client as most people would, with redis-py's defaults."""
        return redis.Redis.from_url(self.url(database))

    @functools.cached_property
    def cache(self) -> SessionCache:
        """Make the cache, as its README does."""
        return SessionCache.from_url(self.url("cache"))

    @functools.cached_property
    def agno(self) -> RedisDb:
        """Make agno's database, as its documentation does."""
        return self.agno_database("agno")

    def agno_database(self, database: str) -> RedisDb:
        """Make agno's RedisDb on one of the databases."""
        from agno.db.redis import RedisDb  # noqa: PLC0415 - slow to import, may be left out

        return RedisDb(db_url=self.url(database))

    @functools.cached_property
    def bare(self) -> redis.Redis:
        """Make a plain client on the keys of the cache."""
        return self.client("cache")

    @functools.cached_property
    def plain(self) -> redis.Redis:
        """Make a plain client for values that only the limit is measured with."""
        return self.client("limit")

    @functools.cached_property
    def blobs(self) -> redis.Redis:
        """Make a plain client for sessions in one JSON text each."""
        return self.client("json")

    @functools.cached_property
    def awaited(self) -> redis.asyncio.Redis:
        """Make a plain asyncio client for openai-agents."""
        return redis.asyncio.Redis.from_url(self.url("agents"))

    def session(self, runs: int) -> str:
        """Return the id of a session of so many runs that is in the cache."""
        session_id = f"session-{runs}"
        if self.is_new("cache", runs):
            self.cache.upsert_session(dataset.session(session_id))
            records = dataset.run_records(session_id, runs)
            self.cache.upsert_runs(session_id, map(WorkflowRunOutput.from_dict, records))
        return session_id

    def agno_session(self, runs: int) -> str:
        """Return the id of a session of so many runs, the same, that is in agno's database."""
        session_id = f"session-{runs}"
        if self.is_new("agno", runs):
            fill_agno(self.agno, session_id, dataset.run_records(session_id, runs))
        return session_id

    def is_new(self, system: str, runs: int) -> bool:
        """Tell whether a system's session of so many runs is still to be stored; it counts as stored now."""
        name = f"{system}: a session of {runs:,} runs" if runs else f"{system}: {self.listed:,} sessions"
        if name in self.stored:
            return False
        self.say(f"storing for {name}")
        self.stored.add(name)
        return True

    def listing_cache(self) -> SessionCache:
        """Return a cache that holds `listed` sessions without runs."""
        cache = SessionCache.from_url(self.url("cache listing"))
        if self.is_new("cache listing", 0):
            for session_id, user_id in self._to_list():
                cache.upsert_session(dataset.session(session_id, user_id=user_id))
        return cache

    def listing_agno(self) -> RedisDb:
        """Return a database of agno that holds as many, the same."""
        database = self.agno_database("agno listing")
        if self.is_new("agno listing", 0):
            for session_id, user_id in self._to_list():
                fill_agno(database, session_id, (), user_id)
        return database

    def _to_list(self) -> Iterable[tuple[str, str]]:
        """Return ids of sessions to be listed, and of the users that they belong to."""
        return ((f"listed-{number}", f"user-{number % LISTED_USERS}") for number in range(self.listed))


def cache_keys(session_id: str) -> tuple[str, str]:
    """Return the keys of a session in the cache: its fields and its runs."""
    return f"sessioncache:{{{session_id}}}:meta", f"sessioncache:{{{session_id}}}:runs"


def fill_agno(
    database: RedisDb, session_id: str, records: Iterable[dataset.Json], user_id: str = dataset.USER
) -> None:
    """Store a session the way agno does: the session, then each run."""
    from agno.session import WorkflowSession  # noqa: PLC0415 - slow to import, may be left out

    stored = WorkflowSession.from_dict(dataset.session_record(session_id, user_id))
    assert stored is not None
    database.upsert_session(stored)
    for number, record in enumerate(records):
        database.upsert_run(record, session_id=session_id, user_id=user_id, run_index=number)
