"""The asyncio carrier: it performs the effects of flows, and decides nothing."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Self, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry

from .aiopool import AsyncPool
from .base import CacheBase
from .embedded import embedded_async_client
from .endpoint import ConnectionClasses, Endpoint
from .errors import ReplyMismatchError
from .faults import REDIS_ERRORS
from .flow import Address, Await, Effect, Flow, Look, Sleep
from .settings import Settings
from .strangers import misfit

T = TypeVar("T")
Pools = dict[Address, AsyncPool]

_inherited: list[object] = []
"""Pools of parent processes: redis-py closes a connection that is garbage, so these never become it."""


class AsyncCarrier(CacheBase):
    """Connections of each event loop, kept by server, and the loop that runs flows over them."""

    _classes = ConnectionClasses(
        redis.Connection,
        redis.SSLConnection,
        redis.UnixDomainSocketConnection,
        Retry,
        embedded_async_client,
    )

    def _set_up(self, endpoint: Endpoint, settings: Settings) -> None:
        super()._set_up(endpoint, settings)
        self._pid = os.getpid()
        self._by_loop: dict[asyncio.AbstractEventLoop, Pools] = {}

    async def _run(self, flow: Flow[T]) -> T:
        step: Any = flow.send
        value: Any = None
        try:
            while True:
                effect = step(value)
                try:
                    step, value = flow.send, await self._perform(effect)
                except REDIS_ERRORS as exc:
                    step, value = flow.throw, exc
        except StopIteration as done:
            result: T = done.value
            return result
        except ReplyMismatchError:
            await self.aclose()
            raise

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Await):
            return await effect.awaitable
        if isinstance(effect, Look):
            return await asyncio.to_thread(
                misfit, effect.address, effect.seconds, is_tls=self._endpoint.is_tls
            )
        seconds = min(effect.seconds, self._endpoint.socket_timeout)
        return await self._pool(effect.address).exchange(effect.commands, seconds)

    def _pool(self, address: Address) -> AsyncPool:
        pools = self._pools()
        if address not in pools:
            pools[address] = AsyncPool(address, self._endpoint)
        return pools[address]

    def _pools(self) -> Pools:
        """Return the pools of the running loop; those of a parent process stay as they are, untouched.

        To close them here would take their sockets out of the parent's event loop as well.
        """
        if self._pid != os.getpid():
            _inherited.append(self._by_loop)
            self._pid, self._by_loop = os.getpid(), {}
        loop = asyncio.get_running_loop()
        pools = self._by_loop.get(loop)
        if pools is None:
            for closed in [other for other in tuple(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(closed, None)  # loops of other threads come and go meanwhile
            pools = self._by_loop[loop] = {}
        return pools

    async def aclose(self) -> None:
        """Close the connections of the running loop; a cache that is used again opens new ones."""
        pools = self._pools()
        while pools:
            await pools.popitem()[1].close()

    close = aclose

    async def __aenter__(self) -> Self:
        """Return the cache, to be closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections of the running loop."""
        await self.aclose()
