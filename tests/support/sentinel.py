"""Real Sentinels: one master, two replicas, three sentinels, on loopback."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import redis

from support.lifetime import Startable
from support.servers import RedisServer
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.servers import Setting

DOWN_AFTER_MS = 1_000
QUORUM = 2
INFO_PERIOD_MS = 500
"""How often a sentinel asks the servers; by default 10 s, for which a healed one goes unseen."""


class SentinelSetup(Startable):
    """A replicated server watched by three sentinels, ready when each knows all the others.

    `config` goes to the three data servers (`min-replicas-to-write` and such).
    """

    SERVICE = "mymaster"

    def __init__(self, binary: str | None = None, *, config: Mapping[str, Setting] | None = None) -> None:
        settings: dict[str, Setting] = {"repl-diskless-sync-delay": 0, **(config or {})}
        first = RedisServer(binary, unix=False, config=settings)
        follow: dict[str, Setting] = {**settings, "replicaof": f"127.0.0.1 {first.port}"}
        self.servers = [first, *(RedisServer(binary, unix=False, config=follow) for _ in range(2))]
        watch: dict[str, Setting | list[Setting]] = {
            "sentinel": [
                f"monitor {self.SERVICE} 127.0.0.1 {first.port} {QUORUM}",
                f"down-after-milliseconds {self.SERVICE} {DOWN_AFTER_MS}",
                f"failover-timeout {self.SERVICE} 5000",
            ]
        }
        self.sentinels = [
            RedisServer(binary, unix=False, config=watch, arguments=["--sentinel"]) for _ in range(3)
        ]
        self._admins = {server.port: server.client() for server in (*self.servers, *self.sentinels)}

    def start(self) -> None:
        """Start all; the replicas are in step before the sentinels look at them."""
        for server in self.servers:
            server.start()
        wait_for(lambda: self._replicas_in_step() == len(self.servers) - 1, "the replicas")
        for sentinel in self.sentinels:
            sentinel.start()
            with contextlib.suppress(redis.ResponseError):  # Redis 6.2 cannot: healing takes 10 s there
                admin = self._admins[sentinel.port]
                admin.execute_command("SENTINEL DEBUG", "INFO-PERIOD", INFO_PERIOD_MS)
        self.wait_until_ok()

    def close(self) -> None:
        """Kill all."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    @property
    def url(self) -> str:
        """The address of the sentinels, with the service and the database."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}/0"

    def master(self) -> RedisServer:
        """The master that most sentinels name."""
        ports = [self._master_port(sentinel) for sentinel in self.sentinels if sentinel.is_running]
        return self._server(max(ports, key=ports.count))

    def replicas(self) -> list[RedisServer]:
        """The live servers that are not the master."""
        master = self.master()
        return [server for server in self.servers if server.is_running and server is not master]

    def kill_master(self) -> RedisServer:
        """End the master as a crash would; answers which one it was."""
        master = self.master()
        master.kill()
        return master

    def fail_over(self) -> RedisServer:
        """Have the sentinels swap the master in good order; answers the new one."""
        old = self.master()
        self._admins[self.sentinels[0].port].execute_command("SENTINEL", "FAILOVER", self.SERVICE)
        return self.wait_for_new_master(old)

    def wait_for_new_master(self, old: RedisServer, *, seconds: float = 30) -> RedisServer:
        """Wait until all sentinels name one other master, and it says so itself."""

        def new_master() -> RedisServer | None:
            ports = {self._master_port(sentinel) for sentinel in self.sentinels if sentinel.is_running}
            if len(ports) != 1 or old.port in ports:
                return None
            server = self._server(ports.pop())
            return server if self._admins[server.port].role()[0] == b"master" else None

        found = wait_for(new_master, "a new master", seconds=seconds)
        assert found is not None
        return found

    def is_ok(self) -> bool:
        """Tell whether every sentinel knows all others and one master, and the replicas are in step."""
        with contextlib.suppress(OSError, redis.RedisError):
            return (
                all(self._sees_all(sentinel) for sentinel in self.sentinels)
                and len({self._master_port(sentinel) for sentinel in self.sentinels}) == 1
                and self._replicas_in_step() == len(self.servers) - 1
            )
        return False

    def wait_until_ok(self, *, seconds: float = 40) -> None:
        """Wait until all is well."""
        wait_for(self.is_ok, "the sentinels", seconds=seconds)

    def _server(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def _replicas_in_step(self) -> int:
        links = [self._admins[server.port].info("replication") for server in self.servers]
        return sum(link.get("master_link_status") == "up" for link in links)

    def _master_port(self, sentinel: RedisServer) -> int:
        admin = self._admins[sentinel.port]
        return int(admin.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])

    def _sees_all(self, sentinel: RedisServer) -> bool:
        state = cast("dict[str, Any]", self._admins[sentinel.port].sentinel_master(self.SERVICE))
        healthy = not any(state[f"is_{what}"] for what in ("sdown", "odown", "disconnected"))
        return healthy and (state["num-slaves"], state["num-other-sentinels"]) == (2, 2)
