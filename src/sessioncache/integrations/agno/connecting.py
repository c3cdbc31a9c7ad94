"""How both Dbs reach Redis: a cache for the sessions, and a client for what stays agno's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import redis

from sessioncache.aiocarrier import AsyncCarrier
from sessioncache.base import CacheBase, Options
from sessioncache.carrier import BlockingCarrier
from sessioncache.embedded import embedded_client
from sessioncache.endpoint import Endpoint
from sessioncache.errors import InvalidArgumentError
from sessioncache.flow import Flow
from sessioncache.resilience import Call
from sessioncache.settings import Settings, make_settings, milliseconds

from .model import RecordModel

P = ParamSpec("P")
T = TypeVar("T")

Operation = Callable[Concatenate[Call, P], Flow[T]]

_PLAIN: Final = ("redis://", "rediss://", "unix://")
_EMBEDDED: Final = "memory://"


class _OfRecords(CacheBase):
    """A cache of records in place of the documented classes."""

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        super()._set_up(endpoint, replace(settings, model=RecordModel()))


class BlockingRecords(_OfRecords, BlockingCarrier):
    """Carries operations on records, for blocking code."""

    @classmethod
    def sharing(cls, cache: BlockingCarrier) -> Self:
        """Make one on the Redis of a cache, with its options."""
        shared = cls.__new__(cls)
        shared._set_up(cache._endpoint, cache._settings)  # noqa: SLF001 - ours
        return shared

    def perform(self, operation: Operation[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run an operation to its result."""
        return self._run(operation(self._call(operation.__name__), *args, **options))


class AsyncRecords(_OfRecords, AsyncCarrier):
    """Carries operations on records, for asyncio."""

    async def perform(self, operation: Operation[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run an operation to its result."""
        return await self._run(operation(self._call(operation.__name__), *args, **options))


C = TypeVar("C", BlockingRecords, AsyncRecords)


def records(
    kind: type[C], client: Any, db_url: str | None, prefix: str, expire: int | None, options: Options
) -> C:
    """Make a cache of agno's sessions on the Redis of a URL, else on that of a client."""
    if "prefix" in options:
        raise InvalidArgumentError("prefix is called db_prefix here")
    milliseconds(expire, "expire")
    settings: Options = {"ttl": expire, **options, "prefix": prefix}
    if db_url is not None:
        return kind.from_url(db_url, **settings)
    if isinstance(client, str):
        raise InvalidArgumentError("redis_client must be a client of redis-py, not str; db_url takes a URL")
    if client is None:
        make_settings(**settings)  # a name that is unknown may be that of one of the two
        raise InvalidArgumentError("one of redis_client or db_url must be given")
    return kind(client, **settings)


def client_for_the_rest(client: Any, db_url: str | None) -> Any:
    """Return the blocking client that agno's RedisDb uses for all that is no session and no run.

    `db_url` has been checked by `records`, which has refused it if both are None.
    """
    if client is not None or db_url is None:
        return client
    if db_url.startswith(_PLAIN):
        return redis.Redis.from_url(db_url, decode_responses=True)
    if db_url.startswith(_EMBEDDED):
        return embedded_client(db_url.removeprefix(_EMBEDDED))
    raise InvalidArgumentError(
        "a db_url of a cluster or of Sentinels needs redis_client too: agno's own data goes there"
    )
