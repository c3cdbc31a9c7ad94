"""A real Redis Cluster: three masters, three replicas, on loopback.

Made with plain redis-py, so that no `redis-cli` is needed. It can lose nodes, fail over and reshard live.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot

from support.lifetime import Startable
from support.servers import RedisServer
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.servers import Setting

SLOTS = 16_384
MASTERS = 3
NODE_TIMEOUT_MS = 1_500
"""A node silent for so long is suspected; its replica takes over about two seconds after that."""


class RedisCluster(Startable):
    """Masters and a replica of each, ready when every node sees every other and all slots are served."""

    def __init__(
        self,
        binary: str | None = None,
        *,
        masters: int = MASTERS,
        has_replicas: bool = True,
        config: Mapping[str, Setting] | None = None,
    ) -> None:
        settings: dict[str, Setting] = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-announce-ip": "127.0.0.1",
            "cluster-replica-validity-factor": 0,  # a replica may take over however stale it is
            "cluster-allow-replica-migration": "no",  # a master left without slots keeps its replica
            "repl-diskless-sync-delay": 0,
            **(config or {}),
        }
        self._n_masters = masters
        n_nodes = 2 * masters if has_replicas else masters
        self.nodes = [RedisServer(binary, unix=False, config=settings) for _ in range(n_nodes)]
        self._admins = {node.port: node.client() for node in self.nodes}

    def close(self) -> None:
        """Kill every node."""
        for node in self.nodes:
            node.close()

    @property
    def url(self) -> str:
        """The address of all nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def live_nodes(self) -> list[RedisServer]:
        """The nodes whose process runs."""
        return [node for node in self.nodes if node.is_running]

    @property
    def masters(self) -> list[RedisServer]:
        """The live nodes that say they are masters."""
        return [node for node in self.live_nodes if self.admin(node).role()[0] == b"master"]

    def start(self) -> None:
        """Start the nodes and make them a cluster."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[: self._n_masters], self.nodes[self._n_masters :]
        for epoch, node in enumerate(self.nodes, start=1):
            self.admin(node).execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number, node in enumerate(masters):
            first, last = (SLOTS * n // len(masters) for n in (number, number + 1))
            self.admin(node).execute_command("CLUSTER", "ADDSLOTS", *range(first, last))
        for one, other in itertools.permutations(self.nodes, 2):
            self.admin(one).execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for master, replica in zip(masters, replicas, strict=False):
            wait_for(lambda r=replica, m=master: self._knows(r, m), "nodes to meet")  # type: ignore[misc]
            self.admin(replica).execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        self.wait_until_ok()

    def wait_until_ok(self, *, seconds: float = 30) -> None:
        """Wait until all live nodes serve all slots, agree on who does, and all replicas are in step."""
        wait_for(lambda: all(self._is_ok(node) for node in self.live_nodes), "the cluster", seconds=seconds)
        wait_for(self._agree, "the nodes to agree on the slots", seconds=seconds)

    def heal(self) -> None:
        """Start what was killed, resume what was paused, and wait until all is well again."""
        for node in self.nodes:
            if node.is_running:
                node.resume()
            else:
                node.start()
        self.wait_until_ok()

    def admin(self, node: RedisServer) -> redis.Redis:
        """A plain client of one node (it answers MOVED for what the node does not serve)."""
        return self._admins[node.port]

    def client(self, **options: Any) -> redis.RedisCluster:
        """Make redis-py's cluster client over all nodes."""
        nodes = [redis.cluster.ClusterNode("127.0.0.1", node.port) for node in self.live_nodes]
        return redis.RedisCluster(startup_nodes=nodes, **{"protocol": 2, **options})

    def id_of(self, node: RedisServer) -> str:
        """The id by which the nodes know a node."""
        return str(self._admins[node.port].execute_command("CLUSTER", "MYID").decode())

    def master_of(self, slot: int | str | bytes) -> RedisServer:
        """Find who serves a slot, given as a number or as a key in it."""
        number = slot if isinstance(slot, int) else key_slot(_as_bytes(slot))
        for ports, (first, last) in self._ranges(self.live_nodes[0]):
            if first <= number <= last:
                return next(node for node in self.nodes if node.port == ports[0])
        raise LookupError(f"nobody serves slot {number}")

    def replicas_of(self, master: RedisServer) -> list[RedisServer]:
        """The live replicas of a master."""
        roles = {node.port: self.admin(node).role() for node in self.live_nodes}
        return [
            node
            for node in self.live_nodes
            if roles[node.port][0] == b"slave" and roles[node.port][2] == master.port
        ]

    def kill(self, node: RedisServer) -> None:
        """End a node as a crash would; `wait_for_failover` waits until its replica has taken over."""
        node.kill()

    def wait_for_failover(self, old: RedisServer, *, seconds: float = 30) -> None:
        """Wait until no slot is served by `old`, and all slots are served."""
        wait_for(
            lambda: all(
                self._state(node) == "ok" and all(ports[0] != old.port for ports, _ in self._ranges(node))
                for node in self.live_nodes
                if node is not old
            ),
            f"another master than {old!r}",
            seconds=seconds,
        )

    def fail_over(
        self, master: RedisServer, replica: RedisServer | None = None, *, seconds: float = 30
    ) -> RedisServer:
        """Swap a live master with its replica, in good order (CLUSTER FAILOVER); return the new master."""
        replica = replica or self.replicas_of(master)[0]
        self.admin(replica).execute_command("CLUSTER", "FAILOVER")
        self.wait_for_failover(master, seconds=seconds)
        return replica

    def migrate_slot(
        self,
        slot: int,
        to: RedisServer,
        on_key_moved: Callable[[bytes], None] | None = None,
    ) -> int:
        """Move a slot and its keys, live, one key at a time; answers how many.

        `on_key_moved` is called after each key, while the slot is in between.
        """
        self.begin_migration(slot, to)
        moved = 0
        while key := self.move_one_key(slot, to):
            moved += 1
            if on_key_moved:
                on_key_moved(key)
        self.end_migration(slot, to)
        return moved

    def migrate_slot_at_once(self, slot: int, to: RedisServer) -> None:
        """Move a slot and its keys as Valkey 9 does by itself, live; return when all nodes know."""
        source = self.admin(self.master_of(slot))
        source.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
        wait_for(lambda: self.master_of(slot) is to and self._agree(), f"slot {slot} to arrive")

    def begin_migration(self, slot: int, to: RedisServer) -> None:
        """Open a slot at both ends: from here on there are ASK and TRYAGAIN answers."""
        source = self.master_of(slot)
        assert source is not to, "the slot is there already"
        self._setslot(to, slot, "IMPORTING", self.id_of(source))
        self._setslot(source, slot, "MIGRATING", self.id_of(to))

    def move_one_key(self, slot: int, to: RedisServer) -> bytes | None:
        """Move one key of an open slot; None when there is none left."""
        admin = self.admin(self.master_of(slot))
        keys = admin.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1)
        if not keys:
            return None
        admin.execute_command("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 10_000)
        return bytes(keys[0])

    def end_migration(self, slot: int, to: RedisServer) -> None:
        """Close a slot that has been moved, and wait until all nodes know."""
        owner = self.id_of(to)
        source = self.master_of(slot)
        for node in (to, source, *(node for node in self.masters if node not in (to, source))):
            self._setslot(node, slot, "NODE", owner)
        wait_for(self._agree, f"all nodes to know where slot {slot} is")

    def _setslot(self, node: RedisServer, slot: int, how: str, node_id: str) -> None:
        self.admin(node).execute_command("CLUSTER", "SETSLOT", slot, how, node_id)

    def _knows(self, one: RedisServer, other: RedisServer) -> bool:
        """Whether `one` can replicate `other`: met, and past the handshake."""
        lines = self._lines(one, "NODES")
        return any(line.startswith(self.id_of(other)) and "handshake" not in line for line in lines)

    def _is_ok(self, node: RedisServer) -> bool:
        replication = self.admin(node).info("replication")
        in_step = replication["role"] == "master" or replication["master_link_status"] == "up"
        known = [line for line in self._lines(node, "NODES") if "fail" not in line.split()[2]]
        return in_step and self._state(node) == "ok" and len(known) >= len(self.live_nodes)

    def _state(self, node: RedisServer) -> str:
        info = dict(line.split(":", 1) for line in self._lines(node, "INFO"))
        return info["cluster_state"]

    def _agree(self) -> bool:
        views = [self._ranges(node) for node in self.live_nodes]
        whole = sum(last - first + 1 for _, (first, last) in views[0]) == SLOTS
        return whole and all(view == views[0] for view in views)

    def _ranges(self, node: RedisServer) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
        """Who serves what, as a node sees it: (the master's port, its replicas'), (first, last slot)."""
        return sorted(
            ((master[1], *sorted(replica[1] for replica in replicas)), (first, last))
            for first, last, master, *replicas in self._raw(node, "SLOTS")
        )

    def _lines(self, node: RedisServer, topic: str) -> list[str]:
        return str(self._raw(node, topic).decode()).splitlines()

    def _raw(self, node: RedisServer, topic: str) -> Any:
        """The answer to `CLUSTER topic` as the server sent it, past redis-py's parsers."""
        pool = self.admin(node).connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command("CLUSTER", topic)
            return connection.read_response()
        finally:
            pool.release(connection)


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
