"""However many servers and addresses are silent, a call keeps to its timeout, and finds one that is not."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from cluster.fake_sentinel import FakeSentinel
from faults.reaching import connect, session, within
from sessioncache import UnavailableError
from support.servers import RedisServer, supports_tls, tls_material
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["connect"]

MANY = 8
TIMEOUT = 1.0
ENOUGH = 3.0
"""Seconds: a ninth of them is enough for a live server on a busy machine."""

NAME = "many.test"


@contextlib.contextmanager
def _silent(count: int) -> Iterator[list[str]]:
    """Give hosts and ports that take connections and never say a word."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


@pytest.mark.parametrize(("scheme", "service"), [("redis+cluster", ""), ("redis+sentinel", "main")])
@pytest.mark.parametrize("count", [3, MANY])
def test_silent_servers_take_a_call_no_longer_than_its_timeout(
    connect: Callable[..., Any], scheme: str, service: str, count: int
) -> None:
    with _silent(count) as hosts:
        cache = connect(f"{scheme}://{','.join(hosts)}/{service}", timeout=TIMEOUT)

        with within(TIMEOUT), pytest.raises(UnavailableError, match="gave up"):
            cache.get_session("s")


def test_one_sentinel_among_silent_ones_is_found(connect: Callable[..., Any]) -> None:
    with RedisServer(unix=False) as server, FakeSentinel(server) as sentinel, _silent(MANY) as hosts:
        cache = connect(f"redis+sentinel://{','.join([*hosts, sentinel.host])}/main", timeout=ENOUGH)

        cache.upsert_session(session())
        assert cache.get_session("s") is not None


def test_one_node_among_silent_ones_is_found(connect: Callable[..., Any]) -> None:
    config = {"cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1"}
    with RedisServer(unix=False, config=config) as node, _silent(MANY) as hosts:
        admin = node.client()
        admin.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_for(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")
        cache = connect(f"redis+cluster://{','.join([*hosts, f'127.0.0.1:{node.port}'])}", timeout=ENOUGH)

        cache.upsert_session(session())
        assert cache.get_session("s") is not None


# addresses of one host


@contextlib.contextmanager
def _black_holes(port: int, count: int) -> Iterator[list[str]]:
    """Give addresses whose connections to a port neither open nor fail: the line of those waiting is full."""
    with contextlib.ExitStack() as stack:
        addresses = [f"127.0.1.{number}" for number in range(1, count + 1)]
        for address in addresses:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((address, port))
        yield addresses


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a host addresses: `resolve("many.test", ["127.0.0.1"])`."""
    real = socket.getaddrinfo

    def set_addresses(name: str, addresses: list[str]) -> None:
        def found(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            hosts = addresses if host == name else [host]
            return [info for one in hosts for info in real(one, port, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return set_addresses


def test_silent_addresses_take_a_call_no_longer_than_its_timeout(
    connect: Callable[..., Any], resolve: Callable[..., None]
) -> None:
    with _silent(1) as (host,), _black_holes(int(host.split(":")[1]), MANY) as addresses:
        resolve(NAME, addresses)
        cache = connect(f"redis://{NAME}:{host.split(':')[1]}", timeout=TIMEOUT)

        with within(TIMEOUT), pytest.raises(UnavailableError, match="gave up"):
            cache.get_session("s")


def test_one_address_among_silent_ones_is_found(
    connect: Callable[..., Any], resolve: Callable[..., None]
) -> None:
    with RedisServer(unix=False) as server, _black_holes(server.port, MANY) as addresses:
        resolve(NAME, [*addresses, "127.0.0.1"])
        cache = connect(f"redis://{NAME}:{server.port}", timeout=ENOUGH)

        with within(ENOUGH):
            cache.upsert_session(session())


@pytest.mark.skipif(not supports_tls(), reason="this redis-server was built without TLS")
def test_the_name_of_a_host_of_several_addresses_is_that_of_its_certificate(
    tmp_path: Path, connect: Callable[..., Any], resolve: Callable[..., None]
) -> None:
    material = tls_material(tmp_path)
    options = "&".join(f"{name}={value}" for name, value in material.client_options().items())
    with RedisServer(tls=material) as server:
        resolve("localhost", ["127.0.1.1", "127.0.0.1"])
        connect(f"{server.tls_url}?{options}").upsert_session(session())
        resolve(NAME, ["127.0.1.1", "127.0.0.1"])

        with pytest.raises(UnavailableError, match="Hostname mismatch"):
            connect(f"rediss://{NAME}:{server.tls_port}?{options}", timeout=ENOUGH).get_session("s")
