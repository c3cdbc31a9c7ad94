"""The blocking carrier: it performs the effects of flows, and decides nothing."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import redis
from redis.retry import Retry

from .base import CacheBase
from .embedded import embedded_client
from .endpoint import ConnectionClasses, Endpoint
from .errors import InvalidArgumentError, ReplyMismatchError
from .faults import REDIS_ERRORS
from .flow import Address, Await, Effect, Flow, Look, Sleep
from .pool import Pool
from .settings import Settings
from .strangers import misfit

T = TypeVar("T")


class BlockingCarrier(CacheBase):
    """Connections that block, kept by server, and the loop that runs flows over them."""

    _classes = ConnectionClasses(
        redis.Connection,
        redis.SSLConnection,
        redis.UnixDomainSocketConnection,
        Retry,
        embedded_client,
    )

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        super()._set_up(endpoint, settings)
        self._pools: dict[Address, Pool] = {}

    def _run(self, flow: Flow[T]) -> T:
        step: Any = flow.send
        value: Any = None
        try:
            while True:
                effect = step(value)
                try:
                    step, value = flow.send, self._perform(effect)
                except REDIS_ERRORS as exc:
                    step, value = flow.throw, exc
        except StopIteration as done:
            result: T = done.value
            return result
        except ReplyMismatchError:
            self._pools.clear()
            raise

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, Await):
            return _refuse(effect.awaitable)
        if isinstance(effect, Look):
            return misfit(effect.address, effect.seconds, is_tls=self._endpoint.is_tls)
        try:
            seconds = min(effect.seconds, self._endpoint.socket_timeout)
            return self._pool(effect.address).exchange(effect.commands, seconds)
        except REDIS_ERRORS:
            raise
        except BaseException:
            self._pools.pop(effect.address, None)
            raise

    def _pool(self, address: Address) -> Pool:
        pool = self._pools.get(address)
        if pool is None or pool.pid != os.getpid():
            pool = self._pools[address] = Pool(address, self._endpoint)
        return pool

    def close(self) -> None:
        """Close the connections; a cache that is used again opens new ones."""
        while self._pools:
            self._pools.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return the cache, to be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()


def _refuse(awaitable: Awaitable[object]) -> NoReturn:
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    raise InvalidArgumentError("change must not be asynchronous here: only AsyncSessionCache awaits it")
