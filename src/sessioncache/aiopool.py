"""Connections to one server, lent to one task of one event loop at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from .faults import REDIS_ERRORS, NotSentError
from .flow import Command, pack_commands


class AsyncPool:
    """A limited number of connections; tasks that find all of them busy wait in line."""

    def __init__(self, make_connection: Callable[[float], Connection], size: int) -> None:
        self._make_connection = make_connection
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(size)
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
        connection = self._make_connection(seconds)
        try:
            await connection.connect()
        except REDIS_ERRORS as exc:
            # redis-py wraps in a ConnectionError what a server on a unix socket says to a login.
            said = exc.__cause__ if isinstance(exc.__cause__, RedisError) else exc
            raise NotSentError from said
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        connection.socket_timeout = None
        return connection

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
        return await connection.read_response()
    except ResponseError as error:
        return error
