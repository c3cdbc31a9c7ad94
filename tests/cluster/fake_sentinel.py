"""A Sentinel that says what a test wants it to, and remembers what it was told."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from support.servers import RedisServer


class _Handler(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        while header := self.rfile.readline():
            words = [self._word() for _ in range(int(header[1:]))]
            self.server.told.append(words)
            self.wfile.write(self.server.answer if words[0] == b"SENTINEL" else b"+OK\r\n")

    def _word(self) -> bytes:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2)[:-2]


class FakeSentinel(socketserver.ThreadingTCPServer):
    """Names one server as the master, whatever it is asked; None for a service it does not know."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, master: RedisServer | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[list[bytes]] = []
        self.answer = b"*-1\r\n"
        if master:
            port = b"%d" % master.port
            self.answer = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def host(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"127.0.0.1:{self.server_address[1]}"
