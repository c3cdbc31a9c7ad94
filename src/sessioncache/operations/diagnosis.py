"""`doctor`: what each server says of itself, and what this user may do there."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any, Final, NamedTuple

from sessioncache.errors import SessionCacheError
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.transport.together import together

from .context import Context

_NEEDED: Final = (
    "EXISTS",
    "DEL",
    "UNLINK",
    "PERSIST",
    "PEXPIRE 1",
    "PEXPIREAT 1",
    "PTTL",
    "HGET f",
    "HGETALL",
    "HKEYS",
    "HMGET f",
    "HSET f v odd",
    "HDEL f",
    "ZADD XX 0 m",
    "ZCARD",
    "ZCOUNT 0 0",
    "ZRANDMEMBER",
    "ZRANGE 0 0",
    "ZREM m",
    "ZREMRANGEBYSCORE 0 0",
    "ZSCORE m",
)
"""Commands that every cache needs, with what follows the key; none of them stores anything."""

OPTIONAL: Final[Mapping[str, str]] = {
    "SCAN": "rebuild_indexes, verify and stats",
    "MEMORY|USAGE": "sizes in stats",
}
"""Commands that some calls need."""


class ServerInfo(NamedTuple):
    """What is known of one server."""

    name: str
    info: dict[str, str]
    """The lines of INFO; empty if it is not permitted."""
    config: dict[str, str]
    """Some of CONFIG GET; empty if it is not permitted."""
    skew: float
    """By how many seconds its clock is ahead of ours."""
    refused: list[str]
    """Commands that this user may not run there."""


def diagnose(ctx: Context) -> Flow[list[ServerInfo]]:
    """Ask all servers at once; raise UnavailableError if one does not reply."""
    yield from send(ctx, Request(_key(ctx), ((b"EXISTS", _key(ctx)),)))  # finds out where keys are
    return (yield from together([_ask(ctx, address) for address in ctx.topology.servers()]))


def _key(ctx: Context) -> bytes:
    return f"{ctx.settings.prefix}:index:absent".encode()


def _ask(ctx: Context, address: Any) -> Flow[ServerInfo]:
    key = _key(ctx)
    options = (b"maxmemory-policy", b"min-replicas-to-write", b"appendonly", b"save")
    asked: list[tuple[bytes, ...]] = [(b"TIME",), (b"INFO",)]
    asked += [(b"CONFIG", b"GET", name) for name in options]
    seconds, info, *config = yield from _replies(ctx, address, asked)
    refused = yield from _refused(ctx, address, key)
    now = time()
    skew = int(seconds[0]) + int(seconds[1]) / 1e6 - now if isinstance(seconds, list) else 0.0
    found: dict[str, str] = {}
    for reply in config:
        if isinstance(reply, list):
            texts = [text.decode(errors="replace") for text in reply]
            found |= dict(zip(texts[::2], texts[1::2], strict=True))
    return ServerInfo(str(address), _lines(info), found, skew, refused)


def _replies(ctx: Context, address: Any, commands: list[tuple[bytes, ...]]) -> Flow[list[Any]]:
    """Return replies of one server, and in place of each that it refuses the error."""
    replies = []
    for command in commands:
        request = Request(_key(ctx), (command,), address=address)
        try:
            replies.append((yield from send(ctx, request)))
        except SessionCacheError as exc:
            replies.append(exc)
    return replies


def _refused(ctx: Context, address: Any, key: bytes) -> Flow[list[str]]:
    """Return the commands that this user may not run."""
    tries = {}
    for line in _NEEDED:
        name, *rest = line.encode().split()
        tries[name.decode()] = (name, key, *rest)
    tries |= {"EVAL": (b"EVAL", b"return 1", b"1", key), "TIME": (b"TIME",)}
    tries |= {"SCAN": (b"SCAN", b"0", b"COUNT", b"1"), "MEMORY|USAGE": (b"MEMORY", b"USAGE", key)}
    replies = yield from _replies(ctx, address, list(tries.values()))
    return [name for name, reply in zip(tries, replies, strict=True) if "NOPERM" in str(reply)]


def _lines(info: Any) -> dict[str, str]:
    if not isinstance(info, bytes):
        return {}
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}
