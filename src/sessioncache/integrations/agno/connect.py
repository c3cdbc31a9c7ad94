"""How both Dbs reach Redis: a transport for the sessions, and a client for what stays agno's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

from sessioncache.errors import InvalidArgumentError
from sessioncache.options import NearCache, Options, Settings, check_options
from sessioncache.storage.codec import MAX_PACKED_BYTES
from sessioncache.transport.awaited import AsyncTransport
from sessioncache.transport.blocking import BlockingTransport
from sessioncache.transport.embedded import plain_client
from sessioncache.validation import lifetime

from .adapter import AGNO

C = TypeVar("C", BlockingTransport, AsyncTransport)

_DEFAULTS: Final[Options] = {
    "touch_on_read": True,  # a run begins with a read: no lifetime ends within a run that is shorter
    "mark_deletions": True,
    "near_cache": NearCache(),  # a run begins with a read of the whole session
    "max_run_bytes": MAX_PACKED_BYTES,  # agno keeps images and videos within runs
}

_ONE_SERVER: Final = ("redis://", "rediss://", "unix://", "memory://")


def connect(
    kind: type[C], client: Any, db_url: str | None, prefix: str, expire: int | None, options: Options
) -> tuple[C, Settings]:
    """Return the transport to the Redis of a URL, else of a client, and the checked options of a Db."""
    if "prefix" in options:
        raise InvalidArgumentError("prefix is called db_prefix here")
    lifetime(expire, "expire")
    given: Options = {**_DEFAULTS, "ttl": expire, **options, "prefix": prefix}
    settings = replace(check_options(**given), adapter=AGNO)
    if db_url is not None:
        return kind.from_url(db_url), settings
    if isinstance(client, str):
        raise InvalidArgumentError("redis_client must be a client of redis-py, not str; db_url takes a URL")
    if client is None:
        raise InvalidArgumentError("one of redis_client or db_url must be given")
    return kind.from_client(client), settings


def client_for_the_rest(client: Any, db_url: str | None) -> Any:
    """Return the blocking client that agno's RedisDb uses for what is no session and no run.

    `connect` has checked `db_url`, and refused it if both are None.
    """
    if client is not None or db_url is None:
        return client
    if db_url.startswith(_ONE_SERVER):
        return plain_client(db_url, decode_responses=True)
    raise InvalidArgumentError(
        "a db_url of a cluster or of Sentinels needs redis_client too: agno's own data goes there"
    )
