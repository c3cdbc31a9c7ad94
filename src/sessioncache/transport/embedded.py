"""In-process servers for `memory://` (extra `embedded`): the same name is the same data, in this process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import redis

from sessioncache.errors import InvalidArgumentError

from .url import parse_url, without_ignored

_servers: dict[str, Any] = {}


def embedded_client(name: str, **options: Any) -> Any:
    """Return a blocking client on the server of a name; the empty name is a server of its own."""
    return _fakeredis().FakeRedis(server=_server(name), **options)


def embedded_async_client(name: str) -> Any:
    """Return an asyncio client on the server of a name; the empty name is a server of its own."""
    return _fakeredis().FakeAsyncRedis(server=_server(name))


def plain_client(url: str, **options: Any) -> Any:
    """Return a client of redis-py for what this library does not do, on one server or an embedded one."""
    if url.startswith("memory://"):
        return embedded_client(parse_url(url).addresses[0].host, **options)
    # In RESP3, redis-py 8.0 refuses unix sockets: it asks for the host that notifies of maintenance.
    return redis.Redis.from_url(without_ignored(url), protocol=2, **options)


def _server(name: str) -> Any:
    """Return a server whose database exists: of threads that connect first, each could make its own."""
    server = _fakeredis().FakeServer()
    _fakeredis().FakeRedis(server=server).ping()
    return _servers.setdefault(name, server) if name else server


def _fakeredis() -> Any:
    try:
        return import_module("fakeredis")
    except ImportError as exc:
        raise InvalidArgumentError("memory:// needs fakeredis: pip install 'sessioncache[embedded]'") from exc
