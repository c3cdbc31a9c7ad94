"""Proxies that hold back every reply for a while, as a network does; in a process of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final, Self

CHUNK: Final = 1 << 18


class Delay:
    """A proxy before each of some ports on loopback; `ports` says which is before which."""

    def __init__(self, ports: Sequence[int], seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, ports, seconds), daemon=True)
        self._process.start()
        self.ports: dict[int, int] = dict(zip(ports, here.recv(), strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        """Lead the address of a node to its proxy."""
        host, port = address
        return host, self.ports.get(port, port)


def _serve(there: Any, ports: Sequence[int], seconds: float) -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
    there.send([listener.getsockname()[1] for listener in listeners])
    for listener, port in zip(listeners, ports, strict=True):
        threading.Thread(target=_accept, args=(listener, port, seconds), daemon=True).start()
    threading.Event().wait()


def _accept(listener: socket.socket, port: int, seconds: float) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_forward, args=(client, server, 0.0), daemon=True).start()
        threading.Thread(target=_forward, args=(server, client, seconds), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Send on what comes; the first piece after a silence of its own length comes late."""
    quiet_since = 0.0
    with contextlib.suppress(OSError):  # the other side has gone
        while data := source.recv(CHUNK):
            if seconds and time.monotonic() - quiet_since > seconds / 2:
                time.sleep(seconds)
            target.sendall(data)
            quiet_since = time.monotonic()
    target.close()
