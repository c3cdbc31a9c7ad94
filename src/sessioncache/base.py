"""What both clients are made of: options, an endpoint, and where keys are."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, ClassVar, Self, TypedDict, Unpack

from .endpoint import ConnectionClasses, Endpoint, endpoint_from_url, endpoint_of_client
from .resilience import Call
from .settings import Settings, make_settings


class Options(TypedDict, total=False):
    """The options of a cache, all of them keyword-only."""

    prefix: str
    """What the names of all keys begin with; `sessioncache` unless said otherwise."""
    ttl: int | timedelta | None
    """Lifetime of a session after each write, in seconds or as a timedelta; None for ever."""
    touch_on_read: bool
    """Whether reading a session, too, starts its lifetime anew."""
    max_runs: int | None
    """Most runs of a session: a write that adds one removes the oldest beyond it."""
    max_run_bytes: int
    """Largest run, packed; 8 MiB unless said otherwise."""
    timeout: float
    """Seconds that one call may take, retries included; 5 unless said otherwise."""


class CacheBase:
    """A cache's options and how to reach its Redis."""

    _classes: ClassVar[ConnectionClasses]

    def __init__(self, client: Any, **options: Unpack[Options]) -> None:
        """Make a cache on the Redis that a client of redis-py is connected to: a server or a cluster.

        The client is only read, for where and how to connect: the cache has connections of its own.

        Args:
            client: A client of redis-py, of redis.asyncio for the asynchronous cache.
            **options: Those of `from_url`.

        Raises:
            InvalidArgumentError: The client is none, or an option is unknown or wrong.
        """
        self._set_up(endpoint_of_client(client, self._classes), make_settings(**options))

    @classmethod
    def from_url(cls, url: str, **options: Unpack[Options]) -> Self:
        """Make a cache on the Redis at a URL; nothing is connected yet.

        Args:
            url: redis:// rediss:// unix:// redis+cluster:// rediss+cluster:// redis+sentinel://
                rediss+sentinel:// or memory://, an in-process server (extra `embedded`).
            **options: Any of these:

                prefix: what the names of all keys begin with; `sessioncache` unless said otherwise.
                ttl: lifetime of a session after each write, in seconds or as a timedelta; None for ever.
                touch_on_read: whether reading a session, too, starts its lifetime anew.
                max_runs: most runs of a session: a write that adds one removes the oldest beyond it.
                max_run_bytes: largest run, packed; 8 MiB unless said otherwise.
                timeout: seconds that one call may take, retries included; 5 unless said otherwise.

        Raises:
            InvalidArgumentError: The URL or an option is unknown or wrong.
        """
        cache = cls.__new__(cls)
        cache._set_up(endpoint_from_url(url, cls._classes), make_settings(**options))  # noqa: SLF001 - ours
        return cache

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._routing = endpoint.make_routing()

    def _call(self, name: str = "") -> Call:
        """Begin a call; its name, in the log, is that of the method that begins it."""
        return Call(self._routing, self._settings, name or sys._getframe(1).f_code.co_name)  # noqa: SLF001

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._routing!r}, prefix={self._settings.prefix!r})"
