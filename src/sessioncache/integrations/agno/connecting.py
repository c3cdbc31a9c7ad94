"""How both Dbs reach Redis: a cache for the sessions, and a client for what stays agno's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast

import redis

from sessioncache.aiocarrier import AsyncCarrier
from sessioncache.base import Options
from sessioncache.carrier import BlockingCarrier
from sessioncache.embedded import embedded_client
from sessioncache.errors import InvalidArgumentError
from sessioncache.flow import Flow
from sessioncache.resilience import Call

from .model import RecordModel

P = ParamSpec("P")
T = TypeVar("T")

Operation = Callable[Concatenate[Call, P], Flow[T]]

_PLAIN: Final = ("redis://", "rediss://", "unix://")
_EMBEDDED: Final = "memory://"


class BlockingRecords(BlockingCarrier):
    """Carries operations on records, for blocking code."""

    @classmethod
    def sharing(cls, cache: BlockingCarrier) -> Self:
        """Make one on the Redis of a cache, with its options."""
        shared = cls.__new__(cls)
        shared._set_up(cache._endpoint, replace(cache._settings, model=RecordModel()))  # noqa: SLF001 - ours
        return shared

    def perform(self, operation: Operation[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run an operation to its result."""
        return self._run(operation(self._call(operation.__name__), *args, **options))


class AsyncRecords(AsyncCarrier):
    """Carries operations on records, for asyncio."""

    async def perform(self, operation: Operation[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run an operation to its result."""
        return await self._run(operation(self._call(operation.__name__), *args, **options))


C = TypeVar("C", BlockingRecords, AsyncRecords)


def records(kind: type[C], client: Any, db_url: str | None, prefix: str, options: Options) -> C:
    """Make a cache of agno's sessions on the Redis of a URL, else on that of a client."""
    settings = cast("Any", {"prefix": prefix, "model": RecordModel(), **options})
    if db_url is not None:
        return kind.from_url(db_url, **settings)
    if client is None:
        raise InvalidArgumentError("one of redis_client or db_url must be given")
    return kind(_in_bytes(client), **settings)


def _in_bytes(client: Any) -> Any:
    """Return what a cache reads of a client, less its decoding: it opens connections of its own anyway."""
    pool: Any = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", {})
    if not options.get("decode_responses") or hasattr(pool, "sentinel_manager"):
        return client
    kept = {name: value for name, value in options.items() if name not in ("decode_responses", "encoding")}
    return SimpleNamespace(
        connection_pool=SimpleNamespace(connection_class=pool.connection_class, connection_kwargs=kept)
    )


def client_for_the_rest(client: Any, db_url: str | None) -> Any:
    """Return the blocking client that agno's RedisDb uses for all that is no session and no run."""
    if client is not None:
        return client
    if db_url is None:
        raise InvalidArgumentError("one of redis_client or db_url must be given")
    if db_url.startswith(_PLAIN):
        return redis.Redis.from_url(db_url, decode_responses=True)
    if db_url.startswith(_EMBEDDED):
        return embedded_client(db_url.removeprefix(_EMBEDDED))
    raise InvalidArgumentError(
        "a db_url of a cluster or of Sentinels needs redis_client too: agno's own data goes there"
    )
