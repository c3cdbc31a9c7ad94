"""What the tests run against: a server of one of several kinds, and a client of one of two."""

from __future__ import annotations

import argparse
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import fakeredis
import redis

from support.facade import BlockingFacade, LoopThread
from support.servers import CARRIED

if TYPE_CHECKING:
    from support.servers import RedisServer

CLIENTS = ["sync", "async"]
SERVERS = ["redis", *CARRIED, "embedded"]
DEFAULT_SERVERS = "redis,redis62,redis82-sync,valkey91-sync,embedded"
SPREAD = [(server, client) for server in SERVERS for client in CLIENTS]
TTL_SECONDS = 3600
"""Of the caches made by the fixtures, unless a test says otherwise."""


def chosen_subjects(text: str) -> list[tuple[str, str]]:
    """Return the pairs of server and client that `--servers` names.

    It is a comma list of servers, each with `-sync` or `-async` for one client only; `all` is all with both,
    `spread` leaves it to `spread`.
    """
    if text == "spread":
        return SPREAD
    chosen: dict[tuple[str, str], None] = {}
    for entry in SERVERS if text == "all" else text.split(","):
        server, _, kind = entry.partition("-")
        if server not in SERVERS or kind not in {"", *CLIENTS}:
            raise argparse.ArgumentTypeError(f"{entry!r} is none of {', '.join(SERVERS)}, -sync, -async")
        chosen |= dict.fromkeys((server, client) for client in CLIENTS if kind in {"", client})
    return list(chosen)


def spread(test: str) -> list[tuple[str, str]]:
    """Return the pairs for one test: the same in each run, and over all tests every pair."""
    others = SPREAD[1:]
    return [SPREAD[0], others[crc32(test.encode()) % len(others)]]


def _fake_server() -> fakeredis.FakeServer:
    """A server whose database exists: of threads that connect first, each could make one of its own."""
    server = fakeredis.FakeServer()
    fakeredis.FakeRedis(server=server).ping()
    return server


@dataclass
class Subject:
    """A server with nothing in it: a real one, or (`real` is None) an embedded one of its own."""

    name: str
    real: RedisServer | None = None
    fake: fakeredis.FakeServer = field(default_factory=_fake_server)

    @property
    def url(self) -> str:
        """The address; an embedded one has none."""
        assert self.real is not None, f"{self.name} has no address"
        return self.real.url

    def client(self, **options: Any) -> redis.Redis:
        """Make a plain client that blocks."""
        if self.real:
            return self.real.client(**options)
        return fakeredis.FakeRedis(server=self.fake, protocol=2, **options)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """Make a plain client to be awaited."""
        if self.real:
            return redis.asyncio.Redis(unix_socket_path=self.real.socket_path, protocol=2, **options)
        return fakeredis.FakeAsyncRedis(server=self.fake, protocol=2, **options)


@dataclass
class Caches:
    """Makes caches over one server, remembers them, and closes them."""

    subject: Subject
    kind: str
    prefix: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    made: list[dict[str, Any]] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _loop_thread: LoopThread | None = None

    def make(self, **options: Any) -> Any:
        """Make a cache with these options; all have one prefix, so they see the same sessions."""
        options = {"prefix": self.prefix, "ttl": TTL_SECONDS, **options}
        self.made.append(options)
        return self._stack.enter_context(self._sync(options) if self.kind == "sync" else self._async(options))

    def close(self) -> None:
        """Close all caches, then the loop they ran in."""
        self._stack.close()
        if self._loop_thread:
            self._loop_thread.close()

    def keys_without_ttl(self) -> list[bytes]:
        """The caches' keys that would stay for ever; none, where a cache was made without a ttl."""
        if not self.made or any(options["ttl"] is None for options in self.made):
            return []
        prefixes = {options["prefix"].encode() for options in self.made}
        admin = self.subject.client()
        with contextlib.closing(admin):
            return [
                key
                for key in admin.scan_iter(count=1000)
                if any(prefix in key for prefix in prefixes) and admin.pttl(key) == -1
            ]

    def _sync(self, options: dict[str, Any]) -> Any:
        from sessioncache import SessionCache

        if self.subject.real:
            return SessionCache.from_url(self.subject.url, **options)
        return SessionCache(self._stack.enter_context(contextlib.closing(self.subject.client())), **options)

    def _async(self, options: dict[str, Any]) -> BlockingFacade:
        from sessioncache import AsyncSessionCache

        self._loop_thread = loop_thread = self._loop_thread or LoopThread()
        if self.subject.real:
            return BlockingFacade(AsyncSessionCache.from_url(self.subject.url, **options), loop_thread)
        client = self.subject.async_client()
        self._stack.callback(lambda: loop_thread.run(client.aclose()))
        return BlockingFacade(AsyncSessionCache(client, **options), loop_thread)
