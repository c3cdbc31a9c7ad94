"""A proxy in front of a server: it counts what goes over the wire, and breaks it on demand.

with FaultProxy(server.socket_path) as proxy:
    cache = SessionCache.from_url(proxy.url)
    cache.get_session("warm up")        # connects
    proxy.reset()
    cache.get_session("s1")
    assert proxy.round_trips == 1

    proxy.arm("reset_after_send", match=b"EVALSHA")
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from support.cluster import RedisCluster

CHUNK = 65_536
LONG_REQUEST = 4_096
"""Bytes. A shorter request goes out in one system call; of a longer one, more may follow."""
QUIET_SECONDS = 0.02
"""After a long request the reply is held back so long, to see whether the client was still sending."""
INTRODUCTION = b"HELLO"
"""A command of the first exchange over each of the library's connections."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST, and the peer sees "connection reset"."""

Fault = Literal[
    "reset_on_connect",  # the connection is accepted, then reset before a byte is read
    "reset_before_send",  # the request is read and thrown away: the server never saw it
    "reset_after_send",  # the server answered, so a write was applied; the answer is thrown away
    "half_reply",  # half the answer arrives, then a reset
    "black_hole",  # the request is thrown away, the connection stays open, nothing ever comes
    "silence",  # the server answered, but nothing ever comes
    "delay",  # the answer comes `seconds` late
    "drip",  # the answer comes byte by byte, `seconds` apart
]


@dataclass
class _Armed:
    fault: Fault
    times: int
    match: bytes
    seconds: float


class CountingProxy:
    """Forwards to a server (a unix socket's path, or a port on loopback), and counts.

    A round trip is a request, in however many pieces, followed by a reply: a pipeline or a MULTI is one.
    """

    def __init__(self, upstream: str | int) -> None:
        self._upstream = upstream
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._ready = threading.Event()
        self._links: set[_Link] = set()
        self.port = 0
        self.reset()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The proxy's own address."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def open_connections(self) -> int:
        """How many clients are connected right now."""
        return len(self._links)

    def reset(self) -> None:
        """Begin counting anew."""
        self.round_trips = 0
        self.connections = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def drop_connections(self) -> None:
        """Reset every open connection, as a server that crashed would."""
        self._in_loop(self._drop())

    def close(self) -> None:
        """End all connections and the proxy."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _in_loop(self, coroutine: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._listen()
        self._ready.set()
        await self._stop.wait()
        await self._refuse()
        while len(asyncio.all_tasks()) > 1:  # one that was accepted just now is no link yet
            await self._drop()
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _drop(self) -> None:
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.ended.wait() for link in links))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            if self._take(b"", on_connect=True):
                link.abort()
            else:
                await link.run(*await self._open_upstream())
        except OSError:
            link.abort()  # the server is down: so is the connection
        finally:
            self._links.discard(link)
            link.ended.set()

    async def _open_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, str):
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection("127.0.0.1", self._upstream)

    def _take(self, request: bytes, *, on_connect: bool = False) -> _Armed | None:
        """Choose a fault for the exchange that begins; there is none here."""
        return None


class FaultProxy(CountingProxy):
    """A counting proxy whose next exchanges can be made to go wrong."""

    def __init__(self, upstream: str | int) -> None:
        super().__init__(upstream)
        self._armed: deque[_Armed] = deque()

    @property
    def armed(self) -> int:
        """How many faults are still to come."""
        return sum(armed.times for armed in self._armed)

    def arm(self, fault: Fault, *, times: int = 1, match: bytes = b"", seconds: float = 0.1) -> None:
        """Let a fault strike the next `times` exchanges whose request holds `match` (in any case).

        Faults armed one after the other strike in that order. What a client says first over a new connection
        is left alone, unless `match` aims at a command of it.
        """
        assert fault in get_args(Fault), fault
        self._armed.append(_Armed(fault, times, match.upper(), seconds))

    def disarm(self) -> None:
        """Forget the faults that have not struck."""
        self._armed.clear()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Be a server that is down: open connections are reset, new ones refused."""
        self._in_loop(self._refuse())
        self._in_loop(self._drop())
        try:
            yield
        finally:
            self._in_loop(self._listen())

    def _take(self, request: bytes, *, on_connect: bool = False) -> _Armed | None:
        if not self._armed:
            return None
        armed = self._armed[0]
        if INTRODUCTION in request.upper() and not armed.match:
            return None
        if on_connect != (armed.fault == "reset_on_connect") or armed.match not in request.upper():
            return None
        armed.times -= 1
        if not armed.times:
            self._armed.popleft()
        return armed


class _Link:
    """One client's connection, and the proxy's own to the server."""

    def __init__(
        self, proxy: CountingProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.ended = asyncio.Event()
        self._proxy = proxy
        self._client = (reader, writer)
        self._request = b""
        self._heard = 0.0
        self._answered = True
        self._fault: _Armed | None = None

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward in both directions until one side is done."""
        self._server = (reader, writer)
        pumps = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, end in (self._client, self._server):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    def abort(self) -> None:
        """Reset the client's connection."""
        transport = self._client[1].transport
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()

    async def _requests(self) -> None:
        while data := await self._client[0].read(CHUNK):
            self._proxy.bytes_sent += len(data)
            self._heard = self._proxy._loop.time()
            if self._answered:
                self._answered, self._request, self._fault = False, b"", self._proxy._take(data)
            self._request = (self._request + data)[:CHUNK]
            match self._fault and self._fault.fault:
                case "reset_before_send":
                    self.abort()
                    return
                case "black_hole":
                    continue
            self._server[1].write(data)
            await self._server[1].drain()

    async def _replies(self) -> None:
        while data := await self._server[0].read(CHUNK):
            if not self._answered:
                await self._client_is_quiet()
                self._answered = True
                self._proxy.round_trips += 1
            self._proxy.bytes_received += len(data)
            if not await self._spoil(data):
                self._client[1].write(data)
                await self._client[1].drain()

    async def _client_is_quiet(self) -> None:
        """Hold the reply until the whole of a long request has been sent."""
        while len(self._request) >= LONG_REQUEST:
            rest = self._heard + QUIET_SECONDS - self._proxy._loop.time()
            if rest <= 0:
                return
            await asyncio.sleep(rest)

    async def _spoil(self, data: bytes) -> bool:
        """Do to the reply what was armed; True where nothing is left to forward."""
        fault, self._fault = self._fault, None
        if fault is None:
            return False
        match fault.fault:
            case "reset_after_send":
                self.abort()
            case "half_reply":
                self._client[1].write(data[: max(1, len(data) // 2)])
                await asyncio.sleep(QUIET_SECONDS)
                self.abort()
            case "silence":
                await asyncio.Event().wait()
            case "drip":
                for byte in data:
                    self._client[1].write(bytes([byte]))
                    await asyncio.sleep(fault.seconds)
            case _:
                await asyncio.sleep(fault.seconds)
                return False
        return True


class ClusterProxies:
    """A counting proxy before each node of a cluster.

    Give `remap` to redis-py's `RedisCluster(address_remap=...)`: the nodes announce their own addresses.
    """

    def __init__(self, cluster: RedisCluster) -> None:
        self.proxies = {node.port: CountingProxy(node.port) for node in cluster.nodes}

    def __enter__(self) -> Self:
        for proxy in self.proxies.values():
            proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies.values():
            proxy.close()

    @property
    def round_trips(self) -> int:
        """All nodes' together."""
        return sum(proxy.round_trips for proxy in self.proxies.values())

    def reset(self) -> None:
        """Begin counting anew."""
        for proxy in self.proxies.values():
            proxy.reset()

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Lead a node's address to its proxy."""
        host, port = address
        proxy = self.proxies.get(port)
        return (host, proxy.port) if proxy else address
