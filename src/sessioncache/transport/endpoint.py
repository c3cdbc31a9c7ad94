"""Where and how to connect: what a URL or a client of redis-py says, as arguments of connections."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, Self

from redis import Connection, SSLConnection
from redis.backoff import NoBackoff

from sessioncache.errors import InvalidArgumentError

from .flow import Address
from .handshake import OPTIONS as HANDSHAKE_OPTIONS
from .handshake import Handshake
from .topology import Cluster, Sentinels, SingleServer, Topology
from .url import REDIS_PORT, SENTINEL_PORT, TCP_ONLY, ParsedUrl, parse_url

MAX_CONNECTIONS: Final = 32
"""Connections to one server: one thread of Redis serves them all, so more of them would only wait there."""

OTHER_STEPS: Final = 2
"""Shares of a call's time, beside one for each address of the host: TLS, and all that follows."""


class ConnectionClasses(NamedTuple):
    """The classes of redis-py, blocking or asyncio, that speak to a server."""

    tcp: type[Any]
    tls: type[Any]
    unix: type[Any]
    retry: type[Any]
    embedded: Callable[[str], Any]
    """Return a client of fakeredis on the in-process server of that name."""


@dataclass(frozen=True)
class Endpoint:
    """Everything it takes to reach a Redis, whatever its topology."""

    make_topology: Callable[[], Topology]
    connection_class: type[Any]
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_cluster: bool = False
    is_tls: bool = False
    max_connections: int = MAX_CONNECTIONS
    socket_timeout: float = math.inf
    socket_connect_timeout: float = math.inf

    def make_connection(self, address: Address, seconds: float, ways: int = 1) -> Any:
        """Return a connection to one server, yet to be opened in so many seconds.

        `ways` is how many addresses the host has: each may keep silent, and gets its share of the time.
        """
        unused = HANDSHAKE_OPTIONS if address.port else {*HANDSHAKE_OPTIONS, *TCP_ONLY}
        options = {name: value for name, value in self._options(address).items() if name not in unused}
        if address.port:
            options |= {"host": address.host, "port": address.port}
        share = seconds / (ways + OTHER_STEPS)
        return self.connection_class(
            **options,
            socket_timeout=share,
            socket_connect_timeout=min(share, self.socket_connect_timeout),
        )

    def handshake(self, address: Address) -> Handshake:
        """Return the first round trip of a connection to a server."""
        mode = b"sentinel" if address.is_sentinel else b"cluster" if self.is_cluster else b"standalone"
        return Handshake(mode, self._options(address))

    def _options(self, address: Address) -> Mapping[str, Any]:
        return self.sentinel_options if address.is_sentinel else self.options


class Transport:
    """What blocking and asynchronous transports share: where to connect, and where keys are."""

    classes: ClassVar[ConnectionClasses]

    def __init__(self, endpoint: Endpoint) -> None:
        self.topology = endpoint.make_topology()
        self._endpoint = endpoint

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the transport to the Redis at a URL; nothing is connected yet."""
        return cls(endpoint_from_url(url, cls.classes))

    @classmethod
    def from_client(cls, client: Any) -> Self:
        """Return a transport, with connections of its own, to where a client of redis-py connects."""
        return cls(endpoint_of_client(client, cls.classes))


def endpoint_from_url(url: str, classes: ConnectionClasses) -> Endpoint:
    """Return the endpoint of a URL; raise InvalidArgumentError naming what is wrong in it."""
    parsed = parse_url(url)
    options = dict(parsed.options)
    if parsed.scheme == "memory":
        endpoint = endpoint_of_client(classes.embedded(parsed.addresses[0].host), classes)
        name = Address(f"memory://{parsed.addresses[0].host}", 0)
        return replace(endpoint, make_topology=lambda: SingleServer(name))
    ours = {name: options.pop(name) for name in _ENDPOINT_OPTIONS if name in options}
    sentinel_login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls and not parsed.is_tls:
        raise InvalidArgumentError(f"url has {min(tls)}, but its scheme is not encrypted: use rediss")
    if parsed.scheme == "unix":
        options["path"] = parsed.addresses[0].host
    return Endpoint(
        _topology_maker(parsed),
        classes.unix if parsed.scheme == "unix" else classes.tls if parsed.is_tls else classes.tcp,
        _connection_options(options, classes),
        _connection_options(sentinel_login | tls, classes),
        is_cluster=parsed.topology == "cluster",
        is_tls=parsed.is_tls,
        **ours,
    )


_ENDPOINT_OPTIONS: Final = ("max_connections", "socket_timeout", "socket_connect_timeout")


def _topology_maker(parsed: ParsedUrl) -> Callable[[], Topology]:
    if parsed.topology == "cluster":
        return lambda: Cluster(parsed.addresses)
    db = parsed.options.get("db", 0)
    if parsed.topology == "sentinel":
        return lambda: Sentinels(parsed.addresses, parsed.service or "", db)
    return lambda: SingleServer(parsed.addresses[0]._replace(db=db))


def endpoint_of_client(client: Any, classes: ConnectionClasses) -> Endpoint:
    """Return the endpoint that a client of redis-py connects to: one server, a cluster, or behind Sentinel.

    Only read from: the cache opens connections of its own and never touches those of the client.
    """
    if hasattr(client, "nodes_manager"):
        return _endpoint_of_cluster(client.nodes_manager, classes)
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        hint = "; for a URL use from_url" if isinstance(client, str) else ""
        raise InvalidArgumentError(f"client must be a client of redis-py, not {type(client).__name__}{hint}")
    _check_client_kind(pool.connection_class, classes)
    if hasattr(pool, "sentinel_manager"):
        return _endpoint_of_sentinel_pool(pool, classes)
    options = pool.connection_kwargs
    kept = _connection_options(options, classes)
    address = Address(options.get("host", "localhost"), int(options.get("port", REDIS_PORT)), db=_db(options))
    if "path" in options:
        address = Address(options["path"], 0, db=_db(options))
    elif "server" in options:  # of fakeredis, which tells its servers by host and port, and opens no socket
        address = Address("memory://", 0, db=_db(options))
        kept |= {name: options[name] for name in ("host", "port") if name in options}
    return Endpoint(
        lambda: SingleServer(address),
        pool.connection_class,
        kept,
        is_tls=issubclass(pool.connection_class, classes.tls),
    )


def _db(options: Mapping[str, Any]) -> int:
    return int(options.get("db") or 0)


def _endpoint_of_cluster(nodes: Any, classes: ConnectionClasses) -> Endpoint:
    options = nodes.connection_kwargs
    known = [*nodes.startup_nodes.values(), *nodes.nodes_cache.values()]
    addresses = tuple(dict.fromkeys(Address(node.host, int(node.port)) for node in known))
    encrypted = (
        options.get("ssl") or "connection_class" in options or any(n.startswith("ssl_") for n in options)
    )
    # A blocking client names no class: it takes redis-py's own.
    connection_class = options.get("connection_class") or (SSLConnection if encrypted else Connection)
    _check_client_kind(connection_class, classes)
    return Endpoint(
        lambda: Cluster(addresses, nodes.address_remap),
        connection_class,
        _connection_options(options, classes),
        is_cluster=True,
        is_tls=issubclass(connection_class, classes.tls),
    )


def _endpoint_of_sentinel_pool(pool: Any, classes: ConnectionClasses) -> Endpoint:
    if not pool.is_master:
        raise InvalidArgumentError("client is connected to replicas: a cache needs the master")
    sentinels = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    addresses = tuple(
        Address(options["host"], int(options.get("port", SENTINEL_PORT)), is_sentinel=True)
        for options in sentinels
    )
    is_tls = issubclass(pool.connection_class, classes.tls)
    return Endpoint(
        lambda: Sentinels(addresses, pool.service_name, _db(pool.connection_kwargs)),
        classes.tls if is_tls else classes.tcp,
        _connection_options(pool.connection_kwargs, classes),
        _connection_options(sentinels[0], classes),
        is_tls=is_tls,
    )


def _check_client_kind(connection_class: type[Any], classes: ConnectionClasses) -> None:
    if not issubclass(connection_class, (classes.tcp, classes.tls, classes.unix)):
        raise InvalidArgumentError(
            "client must be blocking for SessionCache and asyncio for AsyncSessionCache"
        )


def _connection_options(options: Mapping[str, Any], classes: ConnectionClasses) -> dict[str, Any]:
    """Return the connection options of a client, with those that this library requires.

    RESP2: only with it is an unread reply noticed. No retries but our own: others repeat writes.
    """
    kept = {name: value for name, value in options.items() if not name.startswith(_NOT_FOR_CONNECTIONS)}
    return {
        **kept,
        "protocol": 2,
        "retry": classes.retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "driver_info": None,
    }


_NOT_FOR_CONNECTIONS: Final = (
    "host",
    "port",
    "maint_notifications",
    "orig_",
    "himport_",
    "event_dispatcher",
    "oss_cluster_",
    "connection_",
    "decode_responses",
    "encoding",
    "cache",
    "lib_",
    "response_callbacks",
    "retry",
    "redis_connect_func",
    "socket_timeout",
    "socket_connect_timeout",
    "max_connections",
)
"""Beginnings of options that belong to the client, or that every call sets anew."""


def count_addresses(address: Address) -> int:
    """Return how many addresses a host has, each of which is tried; 1 if it is no host."""
    if not address.port:
        return 1
    return len(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
