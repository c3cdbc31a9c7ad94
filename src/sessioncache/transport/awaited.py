"""The transport of asyncio: connections to each server, and the loop that runs flows over them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sessioncache.errors import ReplyMismatchError

from .embedded import embedded_async_client
from .endpoint import ConnectionClasses, Endpoint, Transport
from .flow import Address, Command, Effect, Flow, Probe, Send, SendAll, Sleep
from .probe import misfit
from .redis_errors import REDIS_ERRORS, NotSentError, without_arguments
from .retry import pack_commands

T = TypeVar("T")

_inherited: list[object] = []
"""Pools of parent processes: redis-py closes a connection that is garbage, so these never become it."""


class AsyncTransport(Transport):
    """Runs flows over the connections of each event loop; safe to share between tasks, loops and forks."""

    classes = ConnectionClasses(
        redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection, Retry, embedded_async_client
    )

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._pid = os.getpid()
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[Address, AsyncPool]] = {}

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its result."""
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
        if isinstance(effect, Send):
            return await self._exchange(effect)
        if isinstance(effect, SendAll):
            return await self._exchange_all(effect.parts)
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Probe):
            is_tls = self._endpoint.is_tls
            return await asyncio.to_thread(misfit, effect.address, effect.seconds, is_tls=is_tls)
        return await effect.awaitable

    async def _exchange(self, send: Send) -> list[Any]:
        seconds = min(send.seconds, self._endpoint.socket_timeout)
        return await self._pool(send.address).exchange(send.commands, seconds)

    async def _exchange_all(self, sends: Sequence[Send]) -> list[Any]:
        """Return the outcome of each; wait for all to end, in a cancellation too."""
        outcomes = await asyncio.gather(*map(self._exchange, sends), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, REDIS_ERRORS):
                raise outcome
        return outcomes

    def _pool(self, address: Address) -> AsyncPool:
        pools = self._pools()
        if address not in pools:
            pools[address] = AsyncPool(address, self._endpoint)
        return pools[address]

    def _pools(self) -> dict[Address, AsyncPool]:
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
        """Close the connections of the running loop; a transport that is used again opens new ones."""
        pools = self._pools()
        while pools:
            await pools.popitem()[1].close()


class AsyncPool:
    """A limited number of connections to one server; tasks wait in line while all are busy."""

    def __init__(self, address: Address, endpoint: Endpoint) -> None:
        self._address = address
        self._endpoint = endpoint
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(endpoint.max_connections)
        self._closed = False

    async def exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and return their replies; an error of the server is a reply too."""
        connection = None
        try:
            async with asyncio.timeout(seconds), self._slots:
                connection = await self._idle_connection()
                if connection is None:
                    connection = await _open(self._endpoint, self._address, seconds)
                replies = await _converse(connection, commands)
                await self._put_back(connection)
                return replies
        except TimeoutError as exc:
            if connection is None:
                raise NotSentError from exc
            raise

    async def _idle_connection(self) -> Connection | None:
        """Return an idle connection that is open and has nothing unread."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if not _is_closing(connection) and not await connection.can_read():
                    return connection
            except RedisConnectionError:
                pass
            await connection.disconnect(nowait=True)
        return None

    async def _put_back(self, connection: Connection) -> None:
        if self._closed:
            await connection.disconnect()
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close the idle connections, and from now on each that is in use after its call.

        Errors during the shutdown of TLS are ignored.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.disconnect() for connection in idle), return_exceptions=True)


async def _open(endpoint: Endpoint, address: Address, seconds: float) -> Connection:
    """Open a connection: connect to the first address of the host that takes it, and shake hands."""
    connection = None
    try:
        hosts = await _addresses(address)
        connection = endpoint.make_connection(address, seconds, len(hosts))
        await _connect(connection, hosts)
        connection.socket_timeout = None
        handshake = endpoint.handshake(address)
        provider = handshake.credential_provider
        credentials = await provider.get_credentials_async() if provider else ()
        commands = handshake.commands(connection, credentials)
        handshake.check(commands, await _converse(connection, commands))
    except BaseException as exc:
        if connection is not None:
            await connection.disconnect(nowait=True)
        if not isinstance(exc, NotSentError) and isinstance(exc, (*REDIS_ERRORS, UnicodeError)):
            raise NotSentError from exc  # UnicodeError: a host that IDNA cannot encode
        raise
    return connection


async def _addresses(address: Address) -> list[str]:
    """Return the addresses of a host, each of which is tried; one empty address if it is no host."""
    if not address.port:
        return [""]
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


async def _connect(connection: Any, hosts: Sequence[str]) -> None:
    """Connect to the first address that takes it; asyncio would give all the time to the first of them."""
    if len(hosts) == 1:
        return await connection.connect()
    arguments = connection._connection_arguments()  # noqa: SLF001 - redis-py takes no other name for TLS
    if "ssl" in arguments:
        arguments = {**arguments, "server_hostname": connection.host}
    for place, host in enumerate(hosts, 1):
        connection._connection_arguments = partial(dict, arguments, host=host)  # noqa: SLF001 - as above
        try:
            return await connection.connect()
        except (RedisConnectionError, RedisTimeoutError):
            if place == len(hosts):
                raise
    return None


async def _converse(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Send commands and read as many replies; close on any error, so that no later call reads ours."""
    try:
        if _is_closing(connection):
            raise NotSentError from RedisConnectionError("the server closed the connection")  # noqa: TRY301
        await connection.send_packed_command([pack_commands(commands)], check_health=False)
        return [await _read(connection) for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def _is_closing(connection: Connection) -> bool:
    """Return whether the socket was reset or closed; an embedded server has none."""
    transport = getattr(connection._writer, "transport", None)  # noqa: SLF001 - redis-py does not tell
    return transport is not None and transport.is_closing()


async def _read(connection: Connection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:  # the latter is a reply, too, and no lost connection
        return without_arguments(error)
