"""The transport of blocking code: connections to each server, and the loop that runs flows over them."""

from __future__ import annotations

import inspect
import os
import socket
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final, TypeVar

import redis
from redis import Connection
from redis.exceptions import BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from sessioncache.errors import InvalidArgumentError, ReplyMismatchError

from .at_once import Outcome, Part, exchange_all
from .embedded import embedded_client
from .endpoint import ConnectionClasses, Endpoint, Transport, count_addresses
from .flow import Address, Await, Command, Effect, Flow, Probe, Send, SendAll, Sleep
from .probe import misfit
from .redis_errors import REDIS_ERRORS, NotSentError, without_arguments
from .retry import pack_commands

T = TypeVar("T")

SHORTEST_WAIT: Final = 0.001
"""Least seconds that a socket waits: 0 would mean non-blocking."""


class BlockingTransport(Transport):
    """Runs flows over blocking connections; safe to share between threads and across forks."""

    classes = ConnectionClasses(
        redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection, Retry, embedded_client
    )

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._pools = _Pools(endpoint)

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its result."""
        if self._pools.pid != os.getpid():
            self._pools = _Pools(self._endpoint)
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
        if not isinstance(effect, Send):
            return self._perform_rare(effect)
        seconds = min(effect.seconds, self._endpoint.socket_timeout)
        try:
            return self._pools[effect.address].exchange(effect.commands, seconds)
        except REDIS_ERRORS:
            raise
        except BaseException:
            self._pools.pop(effect.address, None)
            raise

    def _perform_rare(self, effect: SendAll | Sleep | Probe | Await) -> Any:
        if isinstance(effect, SendAll):
            return self._exchange_all(effect.parts)
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, Probe):
            return misfit(effect.address, effect.seconds, is_tls=self._endpoint.is_tls)
        if inspect.iscoroutine(effect.awaitable):
            effect.awaitable.close()
        raise InvalidArgumentError("change must not be asynchronous here: only AsyncSessionCache awaits it")

    def _exchange_all(self, sends: Sequence[Send]) -> list[Outcome]:
        limit = self._endpoint.socket_timeout
        parts = [Part(self._pools[each.address], each.commands, min(each.seconds, limit)) for each in sends]
        try:
            return exchange_all(parts)
        except BaseException:
            for each in sends:
                self._pools.pop(each.address, None)
            raise

    def close(self) -> None:
        """Close the connections; a transport that is used again opens new ones."""
        while self._pools:
            self._pools.popitem()[1].close()


class _Pools(dict[Address, "Pool"]):
    """The connections of one process, by server."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.pid = os.getpid()
        self._endpoint = endpoint

    def __missing__(self, address: Address) -> Pool:
        """Return the pool of a server that is asked for the first time."""
        return self.setdefault(address, Pool(address, self._endpoint))


class Pool:
    """A limited number of connections to one server; callers wait their turn while all are busy.

    An exception from elsewhere (Ctrl-C, a worker's time limit) can strike at any instruction: its connection
    is closed, and its slot goes back. A `threading.Semaphore` would not do: its lock, left held by an
    exception, holds up every other thread for ever.
    """

    def __init__(self, address: Address, endpoint: Endpoint) -> None:
        self.address = address
        self._endpoint = endpoint
        self.idle: list[Connection] = []
        self.slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(endpoint.max_connections):
            self.slots.put(None)
        self._turn: SimpleQueue[None] = SimpleQueue()
        self._turn.put(None)

    def exchange(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Send commands in one write and return their replies; an error of the server is a reply too."""
        deadline = monotonic() + seconds
        slot: list[None] = []
        try:
            self.take_slot(slot, deadline)
            connection = self.idle_connection() or self.open_connection(deadline)
            replies = _converse(connection, commands, deadline)
            self.idle.append(connection)
        finally:
            if slot:
                self.slots.put(None)
        return replies

    def take_slot(self, slot: list[None], deadline: float) -> None:
        """Take a slot into a list. One thread waits for it, and all others for their turn to do so.

        Otherwise the thread that has just given a slot back would always be the first to take it again.
        `extend(map(...))` is one step, in which no exception of a signal handler can lose what it takes.
        """
        turn: list[None] = []
        try:
            for queue, taken in ((self._turn, turn), (self.slots, slot)):
                taken.extend(map(queue.get, (True,), (max(deadline - monotonic(), 0),)))
        except Empty:
            raise NotSentError from TimeoutError(f"all {self._endpoint.max_connections} connections are busy")
        finally:
            if turn:
                self._turn.put(None)

    def idle_connection(self) -> Connection | None:
        """Return an idle connection that is open and has nothing unread."""
        while True:
            try:
                connection = self.idle.pop()
            except IndexError:
                return None
            try:
                if not connection.can_read():
                    return connection
            except RedisConnectionError:
                pass
            connection.disconnect()

    def open_connection(self, deadline: float) -> Connection:
        """Return a new connection."""
        return _open(self._endpoint, self.address, deadline)

    def write(self, connection: Connection, commands: Sequence[Command], deadline: float) -> None:
        """Send commands in one write."""
        _write(connection, commands, deadline)

    def read(self, connection: Connection, n_replies: int) -> list[Any]:
        """Return replies; an error of the server is one too."""
        return [_read(connection) for _ in range(n_replies)]

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().disconnect()


def _open(endpoint: Endpoint, address: Address, deadline: float) -> Connection:
    """Open a connection: connect, let its socket keep the deadline, and shake hands."""
    connection = None
    try:
        n_addresses = count_addresses(address)
        seconds = max(deadline - monotonic(), SHORTEST_WAIT)
        connection = endpoint.make_connection(address, seconds, n_addresses)
        connection.connect()
        _time_socket(connection, deadline)
        handshake = endpoint.handshake(address)
        provider = handshake.credential_provider
        commands = handshake.commands(connection, provider.get_credentials() if provider else ())
        handshake.check(commands, _converse(connection, commands, deadline))
    except BaseException as exc:
        if connection is not None:
            connection.disconnect()
        if not isinstance(exc, NotSentError) and isinstance(exc, (*REDIS_ERRORS, UnicodeError)):
            raise NotSentError from exc  # UnicodeError: a host that IDNA cannot encode
        raise
    return connection


def _time_socket(connection: Any, deadline: float) -> None:
    """Put a TimedSocket between a connection and its socket; an embedded server has no socket."""
    sock = connection._sock  # noqa: SLF001 - the only way to a time limit for each call
    if isinstance(sock, socket.socket):
        connection._sock = TimedSocket(sock, max(deadline - monotonic(), SHORTEST_WAIT))  # noqa: SLF001
        connection._parser.on_connect(connection)  # noqa: SLF001 - it holds the socket too


class TimedSocket:
    """A socket with one timeout for everything that is done until it is set again.

    The timeout of a plain socket begins again with each call: a server that sends, or takes, a byte now and
    then could hold a call for ever.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        # Asked for before every call, to find out whether something is unread.
        self.fileno = sock.fileno
        self.pending = getattr(sock, "pending", int)
        self.settimeout(seconds)

    def settimeout(self, seconds: float | None) -> None:
        """Set one deadline for all following operations; 0 means non-blocking, None no deadline."""
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


def _converse(connection: Connection, commands: Sequence[Command], deadline: float) -> list[Any]:
    """Send commands and read as many replies; close on any error, so that no later call reads ours."""
    try:
        _write(connection, commands, deadline)
        return [_read(connection) for _ in commands]
    except BaseException:
        connection.disconnect()
        raise


def _write(connection: Connection, commands: Sequence[Command], deadline: float) -> None:
    """Send commands, and let the connection keep the deadline from then on."""
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise NotSentError from TimeoutError("no time is left")
    sock: Any = connection._sock  # noqa: SLF001 - as in _time_socket
    if isinstance(sock, TimedSocket):
        sock.settimeout(seconds)
    connection.send_packed_command([pack_commands(commands)], check_health=False)


def _read(connection: Connection) -> Any:
    try:
        return connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError) as error:  # the latter is a reply, too, and no lost connection
        return without_arguments(error)
