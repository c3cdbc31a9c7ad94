"""A connection URL, taken apart against a list of what is known.

    redis://[[user]:password@]host[:port][/db][?option=value&...]       rediss:// with TLS
    unix://[[user]:password@]/path/to.sock[?db=0&...]
    redis+cluster://host:port,host:port                                 rediss+cluster:// with TLS
    redis+sentinel://host:port,host:port/service[/db]                   rediss+sentinel:// with TLS
    memory://[name]                                                     in this process

A typing error is an error at once, not an option that silently does nothing; only what redis-py knows and
this library decides by itself is taken without effect. No message repeats the URL or a value of it: it may
hold a password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sessioncache.errors import InvalidArgumentError

from .flow import Address

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

LAST_PORT: Final = 65535

SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
    "memory",
)


_ENCODE: Final = "percent-encode what belongs to a password"

LONGEST_NUMBER: Final = 9
"""Digits: no number in a URL has more, and a text of thousands of them is slow to read."""


@dataclass(frozen=True)
class ParsedUrl:
    """What a URL says: scheme, servers (host, port), service of the Sentinels, options of connections."""

    scheme: str
    addresses: tuple[Address, ...]
    service: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def topology(self) -> str:
        """Return `cluster`, `sentinel`, or the empty string for one server."""
        return self.scheme.partition("+")[2]

    @property
    def is_tls(self) -> bool:
        """Return whether connections are encrypted."""
        return self.scheme.startswith("rediss")


def parse_url(url: str) -> ParsedUrl:
    """Take a URL apart; raise InvalidArgumentError naming what is unknown or wrong in it."""
    if not isinstance(url, str):
        raise InvalidArgumentError(f"url must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may repeat the password
        raise InvalidArgumentError(f"url cannot be read: {_ENCODE}") from None
    if parts.scheme not in SCHEMES:
        raise InvalidArgumentError(
            f"url has the unknown scheme {parts.scheme!r}; known: {', '.join(SCHEMES)}"
        )
    if parts.fragment:
        raise InvalidArgumentError(f"url has a fragment ('#...'): {_ENCODE}")
    if "@" in parts.query:
        raise InvalidArgumentError(f"url has an '@' after a '?': {_ENCODE}")
    login, _, hosts = parts.netloc.rpartition("@")
    options = _merged(_read_login(login), _read_query(parts.query))
    if parts.scheme in ("unix", "memory"):
        return _local(parts, hosts, options)
    return _remote(parts, hosts, options)


def _local(parts: SplitResult, hosts: str, options: dict[str, Any]) -> ParsedUrl:
    name = unquote(hosts + parts.path)
    _refuse(options, "sentinel_" if parts.scheme == "unix" else "", parts.scheme)
    if parts.scheme == "unix" and not name.startswith("/"):
        raise InvalidArgumentError("url has no absolute path of a socket: unix:///path/to.sock")
    return ParsedUrl(parts.scheme, (Address(name, 0),), None, options)


def _remote(parts: SplitResult, hosts: str, options: dict[str, Any]) -> ParsedUrl:
    topology = parts.scheme.partition("+")[2]
    is_sentinel = topology == "sentinel"
    if not is_sentinel:
        _refuse(options, "sentinel_", parts.scheme)
    port = SENTINEL_PORT if is_sentinel else REDIS_PORT
    addresses = tuple(_read_address(host, port, is_sentinel) for host in hosts.split(","))
    if len(addresses) > 1 and not topology:
        raise InvalidArgumentError("url names several servers: use redis+cluster:// or redis+sentinel://")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = None
    if is_sentinel:
        if not path:
            raise InvalidArgumentError("url names no service: redis+sentinel://host:port/service")
        service = path.pop(0)
    if path:
        options = _merged(options, {"db": _read_whole_number("db", path.pop(0))})
    if path:
        raise InvalidArgumentError("url has a path with too many parts")
    if topology == "cluster" and options.get("db"):
        raise InvalidArgumentError("url selects a db: a cluster has only db 0")
    return ParsedUrl(parts.scheme, addresses, service, options)


def _merged(options: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; which of two values is meant, nobody can tell."""
    for name in options.keys() & more.keys():
        raise InvalidArgumentError(f"url gives {name} twice")
    return {**options, **more}


def _refuse(options: Mapping[str, Any], prefix: str, scheme: str) -> None:
    """Refuse options that would do nothing."""
    for name in options:
        if name.startswith(prefix):
            raise InvalidArgumentError(f"url has {name}, which means nothing to {scheme}://")


def _read_address(text: str, default_port: int, is_sentinel: bool) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = unquote(host.strip("[]")) or "localhost"
    number = _read_whole_number("port", port) if port else default_port
    if not 0 < number <= LAST_PORT:
        raise InvalidArgumentError(f"url has a port that does not exist: 1 to {LAST_PORT}")
    return Address(host, number, is_sentinel)


def _read_login(login: str) -> dict[str, Any]:
    username, _, password = login.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _read_query(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in WITHOUT_EFFECT:
            continue
        if name not in _OPTIONS:
            raise InvalidArgumentError(f"url has the unknown option {name!r}; known: {', '.join(_OPTIONS)}")
        options = _merged(options, {name: _OPTIONS[name](name, value)})
    return options


def without_ignored(url: str) -> str:
    """Return a URL less the options that have no effect, and those that its scheme has no use for."""
    place, _, query = url.partition("?")
    ignored = WITHOUT_EFFECT | (TCP_ONLY if urlsplit(url).scheme == "unix" else set())
    kept = [option for option in query.split("&") if option and option.partition("=")[0] not in ignored]
    return "?".join([place, "&".join(kept)] if kept else [place])


def _read_text(name: str, value: str) -> str:
    if not value:
        raise InvalidArgumentError(f"url option {name} is empty")
    return value


def _read_whole_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER):
        raise InvalidArgumentError(f"url option {name} must be a whole number")
    return int(value)


def _read_positive_number(name: str, value: str) -> int:
    number = _read_whole_number(name, value)
    if number < 1:
        raise InvalidArgumentError(f"url option {name} must be at least 1")
    return number


def _read_bool(name: str, value: str) -> bool:
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
    except KeyError:
        raise InvalidArgumentError(f"url option {name} must be true or false") from None


def _read_seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1
    if not 0 < seconds < float("inf"):
        raise InvalidArgumentError(f"url option {name} must be a number of seconds over 0")
    return seconds


def _read_cert_reqs(name: str, value: str) -> str:
    if value not in ("none", "optional", "required"):
        raise InvalidArgumentError(f"url option {name} must be none, optional or required")
    return value


_OPTIONS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "db": _read_whole_number,
    "username": _read_text,
    "password": _read_text,
    "client_name": _read_text,
    "max_connections": _read_positive_number,
    "socket_timeout": _read_seconds,
    "socket_connect_timeout": _read_seconds,
    "socket_keepalive": _read_bool,
    "ssl_cert_reqs": _read_cert_reqs,
    "ssl_ca_certs": _read_text,
    "ssl_ca_path": _read_text,
    "ssl_certfile": _read_text,
    "ssl_keyfile": _read_text,
    "ssl_password": _read_text,
    "ssl_check_hostname": _read_bool,
    "sentinel_username": _read_text,
    "sentinel_password": _read_text,
}

WITHOUT_EFFECT: Final = frozenset(
    {
        *("decode_responses", "encoding", "encoding_errors"),  # values are bytes, which are packed here
        *("protocol", "legacy_responses"),  # RESP2
        *("health_check_interval", "retry_on_timeout", "retry_on_error"),  # a call's retries are its own
        *("socket_read_size", "lib_name", "lib_version"),
    }
)
"""Options that clients of redis-py take, and that mean nothing here."""

TCP_ONLY: Final = frozenset({"socket_keepalive", "socket_keepalive_options", "socket_type"})
"""Options that a unix socket has no use for."""
