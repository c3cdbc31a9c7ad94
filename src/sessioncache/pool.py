"""Connections to one server, lent to one blocking call at a time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from redis import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .faults import REDIS_ERRORS, NotSentError
from .flow import Command

CONNECT_STEPS: Final = 4
"""Steps of connecting that may each wait for the server (socket and TLS, AUTH, SELECT, ROLE): they share
the time that is left of a call."""

SHORTEST_WAIT: Final = 0.001
"""Seconds a socket waits at the least: 0 would mean non-blocking."""


class Pool:
    """A limited number of connections; who finds all of them busy waits in line.

    An exception that is none of redis-py's (Ctrl-C, a worker's time limit) can strike at any instruction:
    its connection is closed, and the owner of the pool has to let go of it, for a slot may be lost.
    """

    def __init__(self, make_connection: Callable[[float], Connection], size: int) -> None:
        self._make_connection = make_connection
        self._idle: list[Connection] = []
        self._slots = threading.Semaphore(size)
        self._size = size
        self.pid = os.getpid()

    def exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and return their replies; an error of the server is a reply too."""
        deadline = monotonic() + seconds
        if not self._slots.acquire(timeout=max(seconds, 0)):
            raise NotSentError from TimeoutError(f"all {self._size} connections are busy")
        try:
            connection = self._quiet_connection() or self._new_connection(deadline - monotonic())
            replies = _converse(connection, commands, deadline - monotonic())
            self._idle.append(connection)
        finally:
            self._slots.release()
        return replies

    def _quiet_connection(self) -> Connection | None:
        """Return an idle connection that is open and has nothing unread."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            try:
                if not connection.can_read():
                    return connection
            except RedisConnectionError:
                pass
            connection.disconnect()

    def _new_connection(self, seconds: float) -> Connection:
        try:
            connection = self._make_connection(max(seconds / CONNECT_STEPS, SHORTEST_WAIT))
            connection.connect()
        except REDIS_ERRORS as exc:
            raise NotSentError from exc
        return connection

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().disconnect()


def _converse(connection: Connection, commands: Sequence[Command], seconds: float) -> list[Any]:
    """Send commands and read as many replies; whatever goes wrong, close: a later call must not read ours."""
    try:
        _limit_waiting(connection, seconds)
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [_read(connection) for _ in commands]
    except BaseException:
        connection.disconnect()
        raise


def _limit_waiting(connection: Connection, seconds: float) -> None:
    """Let reads and writes wait so long at the most; an embedded server has no socket and no waiting."""
    sock: Any = connection._sock  # noqa: SLF001 - the only way to a time limit for each call
    if isinstance(sock, socket.socket):
        sock.settimeout(max(seconds, SHORTEST_WAIT))


def _read(connection: Connection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
