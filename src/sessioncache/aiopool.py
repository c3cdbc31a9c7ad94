"""Connections to one server, lent to one task of one event loop at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .endpoint import Endpoint
from .faults import REDIS_ERRORS, NotSentError, without_arguments
from .flow import Address, Command, pack_commands


class AsyncPool:
    """A limited number of connections; tasks that find all of them busy wait in line."""

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
                connection = await self._quiet_connection() or await self._new_connection(seconds)
                replies = await _converse(connection, commands)
                await self._put_back(connection)
                return replies
        except TimeoutError as exc:
            if connection is None:
                raise NotSentError from exc
            raise

    async def _quiet_connection(self) -> Connection | None:
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

    async def _new_connection(self, seconds: float) -> Connection:
        try:
            hosts = await _addresses(self._address)
            connection: Connection = self._endpoint.make_connection(self._address, seconds, len(hosts))
        except (*REDIS_ERRORS, UnicodeError) as exc:  # the latter of a host that IDNA cannot encode
            raise NotSentError from exc
        try:
            await _open(connection, hosts)
            connection.socket_timeout = None
            await self._introduce(connection)
        except REDIS_ERRORS as exc:
            await connection.disconnect(nowait=True)
            raise NotSentError from exc
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _introduce(self, connection: Connection) -> None:
        introduction = self._endpoint.introduction(self._address)
        provider = introduction.credential_provider
        credentials = await provider.get_credentials_async() if provider else ()
        commands = introduction.commands(connection, credentials)
        introduction.check(commands, await _converse(connection, commands))

    async def _put_back(self, connection: Connection) -> None:
        if self._closed:
            await connection.disconnect()
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close the connections that are idle, and from now on each that is in use after its call.

        A server that does not say goodbye, as TLS wants it to, is no problem of the caller.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.disconnect() for connection in idle), return_exceptions=True)


async def _addresses(address: Address) -> list[str]:
    """Return the addresses of a host, each of which is tried; one that is empty for what is no host."""
    if not address.port:
        return [""]
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


async def _open(connection: Any, hosts: Sequence[str]) -> None:
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
    """Send commands and read as many replies; whatever goes wrong, close: a later call must not read ours."""
    try:
        if _is_closing(connection):
            raise NotSentError from RedisConnectionError("the server closed the connection")  # noqa: TRY301
        await connection.send_packed_command([pack_commands(commands)], check_health=False)
        return [await _read(connection) for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


def _is_closing(connection: Connection) -> bool:
    """Tell whether the socket was reset or closed; an embedded server has none."""
    transport = getattr(connection._writer, "transport", None)  # noqa: SLF001 - redis-py does not tell
    return transport is not None and transport.is_closing()


async def _read(connection: Connection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:  # the latter is a reply, too, and no lost connection
        return without_arguments(error)
