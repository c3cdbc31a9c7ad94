"""Connections to one server, lent to one blocking call at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final

from redis import Connection
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from .endpoint import Endpoint
from .faults import REDIS_ERRORS, NotSentError, without_arguments
from .flow import Address, Command, pack_commands

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

    def __init__(self, address: Address, endpoint: Endpoint) -> None:
        self._address = address
        self._endpoint = endpoint
        self._idle: list[Connection] = []
        self._slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(endpoint.max_connections):
            self._slots.put(None)
        self._turn: SimpleQueue[None] = SimpleQueue()
        self._turn.put(None)
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
            raise NotSentError from TimeoutError(f"all {self._endpoint.max_connections} connections are busy")
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
        try:
            count = _count_addresses(self._address)
            seconds = max(deadline - monotonic(), SHORTEST_WAIT)
            connection: Connection = self._endpoint.make_connection(self._address, seconds, count)
            connection.redis_connect_func = partial(_limit_reading, deadline)
            connection.connect()
            self._introduce(connection, deadline)
        except NotSentError:
            raise
        except (*REDIS_ERRORS, UnicodeError) as exc:  # the latter of a host that IDNA cannot encode
            raise NotSentError from exc
        return connection

    def _introduce(self, connection: Connection, deadline: float) -> None:
        introduction = self._endpoint.introduction(self._address)
        provider = introduction.credential_provider
        commands = introduction.commands(connection, provider.get_credentials() if provider else ())
        try:
            introduction.check(commands, _converse(connection, commands, deadline))
        except BaseException:
            connection.disconnect()
            raise

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().disconnect()


def _take(tokens: SimpleQueue[None], taken: list[None], deadline: float) -> None:
    """Move a token into a list: one step, in which no exception of a signal handler can lose it."""
    taken.extend(map(tokens.get, (True,), (max(deadline - monotonic(), 0),)))


def _count_addresses(address: Address) -> int:
    """Return how many addresses a host has, each of which is tried; 1 for what is no host."""
    if not address.port:
        return 1
    return len(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))


def _limit_reading(deadline: float, connection: Any) -> None:
    """Time a socket just opened, before it is read; an embedded server has no socket, and no waiting."""
    sock = connection._sock  # noqa: SLF001 - the only way to a time limit for each call
    if isinstance(sock, socket.socket):
        connection._sock = TimedSocket(sock, max(deadline - monotonic(), SHORTEST_WAIT))  # noqa: SLF001
    connection.on_connect()


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
        return connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:  # the latter is a reply, too, and no lost connection
        return without_arguments(error)
