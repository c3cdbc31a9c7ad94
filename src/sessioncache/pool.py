"""Connections to one server, lent to one blocking call at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

from redis import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .faults import REDIS_ERRORS, NotSentError
from .flow import Command, pack_commands

CONNECT_STEPS: Final = 4
"""Steps of opening a socket that may each wait for the server (one for each address of a host, one for TLS):
they share the time that is left of a call."""

SHORTEST_WAIT: Final = 0.001
"""Seconds a socket waits at the least: 0 would mean non-blocking."""


class TimedSocket:
    """A socket whose timeout is for all that is done until it is set anew.

    That of a plain one begins anew with each call, so that a server which sends, or takes, a byte now and
    then could hold a call for ever.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self.settimeout(seconds)

    def settimeout(self, seconds: float | None) -> None:
        """Let all that follows take so long together; 0 is not to wait, None is to wait for ever."""
        self._sock.settimeout(seconds)
        self._deadline = monotonic() + seconds if seconds else None

    def recv(self, *args: Any) -> bytes:
        """Receive as a socket does."""
        return self._limited().recv(*args)

    def recv_into(self, *args: Any) -> int:
        """Receive into a buffer as a socket does."""
        return self._limited().recv_into(*args)

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of it as a socket does."""
        self._limited().sendall(data)

    def _limited(self) -> socket.socket:
        if self._deadline is not None:
            left = self._deadline - monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
        return self._sock

    def __getattr__(self, name: str) -> Any:
        """Be the socket in everything else."""
        return getattr(self._sock, name)


class Pool:
    """A limited number of connections; who finds all of them busy waits in line.

    An exception that is none of redis-py's (Ctrl-C, a worker's time limit) can strike at any instruction:
    its connection is closed, and its slot goes back. A `threading.Semaphore` would not do: its lock, left
    held by an exception, holds up every other thread for ever.
    """

    def __init__(self, make_connection: Callable[[float], Connection], size: int) -> None:
        self._make_connection = make_connection
        self._idle: list[Connection] = []
        self._slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._slots.put(None)
        self._turn: SimpleQueue[None] = SimpleQueue()
        self._turn.put(None)
        self._size = size
        self.pid = os.getpid()

    def exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and return their replies; an error of the server is a reply too."""
        deadline = monotonic() + seconds
        slot: list[None] = []
        try:
            self._wait_in_line(slot, deadline)
            connection = self._quiet_connection() or self._new_connection(deadline)
            replies = _converse(connection, commands, deadline)
            self._idle.append(connection)
        finally:
            if slot:
                self._slots.put(None)
        return replies

    def _wait_in_line(self, slot: list[None], deadline: float) -> None:
        """Take a slot. One thread waits for it, and all others for their turn to do so.

        Without that, who has just given a slot back is always the first to take it again.
        """
        turn: list[None] = []
        try:
            _take(self._turn, turn, deadline)
            _take(self._slots, slot, deadline)
        except Empty:
            raise NotSentError from TimeoutError(f"all {self._size} connections are busy")
        finally:
            if turn:
                self._turn.put(None)

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

    def _new_connection(self, deadline: float) -> Connection:
        seconds = max((deadline - monotonic()) / CONNECT_STEPS, SHORTEST_WAIT)
        try:
            connection = self._make_connection(seconds)
            greet = connection.redis_connect_func or type(connection).on_connect
            connection.redis_connect_func = partial(_time_and_greet, greet, deadline)
            connection.connect()
        except (*REDIS_ERRORS, UnicodeError) as exc:  # the latter of a host that IDNA cannot encode
            raise NotSentError from exc
        return connection

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().disconnect()


def _take(tokens: SimpleQueue[None], taken: list[None], deadline: float) -> None:
    """Move a token into a list: one step, in which no exception of a signal handler can lose it."""
    taken.extend(map(tokens.get, (True,), (max(deadline - monotonic(), 0),)))


def _time_and_greet(greet: Callable[..., Any], deadline: float, connection: Any) -> None:
    """Log in over a socket just opened; an embedded server has no socket, and no waiting."""
    sock = connection._sock  # noqa: SLF001 - the only way to a time limit for each call
    if isinstance(sock, socket.socket):
        connection._sock = TimedSocket(sock, max(deadline - monotonic(), SHORTEST_WAIT))  # noqa: SLF001
    greet(connection)


def _converse(connection: Connection, commands: Sequence[Command], deadline: float) -> list[Any]:
    """Send commands and read as many replies; whatever goes wrong, close: a later call must not read ours."""
    try:
        _limit_waiting(connection, deadline)
        connection.send_packed_command([pack_commands(commands)], check_health=False)
        return [_read(connection) for _ in commands]
    except BaseException:
        connection.disconnect()
        raise


def _limit_waiting(connection: Connection, deadline: float) -> None:
    """Let what follows end at a time; where that is over, nothing is sent."""
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise NotSentError from TimeoutError("no time is left")
    sock: Any = connection._sock  # noqa: SLF001 - as above
    if isinstance(sock, TimedSocket):
        sock.settimeout(seconds)


def _read(connection: Connection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
