"""What all clients are made of."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, ClassVar, Final, Self, Unpack

from .errors import InvalidArgumentError
from .operations import rebuild, rotation, stats, verify
from .operations.context import near_cache_of
from .operations.listed import ListedSessions
from .operations.near_cache import NearCacheInfo
from .operations.observed import Observer, observers_of
from .options import Options, check_options
from .transport.endpoint import Transport
from .validation import encoded_id

OF_ALL_USERS: Final = (rebuild.rebuild_indexes, rotation.rotate_keys, stats.stats, verify.verify)
"""What looks at the sessions of all users."""


class BaseCache:
    """What both clients are made of: checked options, and a transport to Redis."""

    _transport_class: ClassVar[type[Transport]]

    _user_id: str | None = None
    """Whose sessions there are; None for everybody's."""

    def __init__(self, client: Any, **options: Unpack[Options]) -> None:
        """Make a cache on the Redis that a client of redis-py is connected to: a server or a cluster.

        The client is only read, for where and how to connect: the cache has connections of its own.

        Args:
            client: A client of redis-py, of redis.asyncio for the asynchronous cache.
            **options: Those of `from_url`.

        Raises:
            InvalidArgumentError: The client is none, or an option is unknown or wrong.
        """
        self.settings = check_options(**options)
        kind = self._transport_class
        self.transport: Any = client if isinstance(client, kind) else kind.from_client(client)
        self._near = near_cache_of(self.settings)
        self._listed = ListedSessions()
        self.observers: tuple[Observer, ...] = observers_of(self.settings)

    @classmethod
    def from_url(cls, url: str, **options: Unpack[Options]) -> Self:
        """Make a cache on the Redis at a URL; nothing is connected yet.

        Args:
            url: redis:// rediss:// unix:// redis+cluster:// rediss+cluster:// redis+sentinel://
                rediss+sentinel:// or memory://, an in-process server (extra `embedded`).
            **options: Any of these:

                prefix: beginning of the names of all keys; `sessioncache` by default.
                ttl: lifetime of a session after each write, in seconds or as a timedelta; None, the default,
                for ever.
                touch_on_read: whether reading a session also begins its lifetime again.
                max_runs: most runs of a session: a write that adds one removes the oldest beyond it.
                max_run_bytes: largest packed run, in bytes; 8 MiB by default.
                timeout: seconds that one call may take, retries included; 5 by default.
                mark_deletions: whether a deletion leaves a mark for a day, so that the `reason` of a
                    SessionNotFoundError tells what was deleted from what expired.
                near_cache: a NearCache, or its `max_bytes`: what this process holds of the sessions it reads,
                    so that it fetches only what has changed; None, the default, for nothing.
                compression: "zstd" to compress values of 512 bytes or more (extra `compression`); who reads
                    needs no option; None, the default, for none.
                encryption: a Keyring to seal what users wrote (extra `encryption`); None, the default, for
                    none.
                accept_plain: whether values that are not sealed are read although there is a keyring: only
                    while a store is moved in, for whoever can write to Redis can forge them.
                on_call: a function that is told of each call, by a CallRecord, once it is over; None, the
                    default, for none.

        Raises:
            InvalidArgumentError: The URL or an option is unknown or wrong.
        """
        return cls(cls._transport_class.from_url(url), **options)

    def for_user(self, user_id: str) -> Self:
        """Return a view of this cache for which there are this user's sessions, and no others.

        It has the same methods, and shares connections and near cache with this cache. Sessions without an
        owner, and those of others, do not exist for it; what it creates is this user's. It is closed with
        this cache: its own `close` does nothing.

        Args:
            user_id: The user.

        Returns:
            The view.

        Raises:
            InvalidArgumentError: It is no id, or this is a view of another user.

        Redis:
            Nothing.
        """
        encoded_id(user_id, "user_id")
        if self._user_id not in (None, user_id):
            raise InvalidArgumentError("user_id is not the one of this view")
        view = copy(self)
        vars(view)["_user_id"] = user_id
        return view

    def _own(self, operation: Callable[..., Any], user_id: str | None) -> str | None:
        """Return the user of a view; raise InvalidArgumentError for what is not the user's to call."""
        if operation in OF_ALL_USERS:
            raise InvalidArgumentError(f"{operation.__name__} is not for the view of one user")
        if user_id not in (None, self._user_id):
            raise InvalidArgumentError("user_id is not the one of this view")
        return self._user_id

    def near_cache_info(self) -> NearCacheInfo | None:
        """Return what the near cache of this process did and holds; None if there is none.

        Redis:
            Nothing.
        """
        return None if self._near is None else self._near.info()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transport.topology!r}, prefix={self.settings.prefix!r})"
