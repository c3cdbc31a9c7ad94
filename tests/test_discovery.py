"""However many servers and addresses are silent, a call keeps to its timeout, and finds one that is not."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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


@contextlib.contextmanager
def _black_holes(port: int) -> Iterator[list[str]]:
    """Give addresses whose connections to a port neither open nor fail: the line of those waiting is full."""
    with contextlib.ExitStack() as stack:
        addresses = [f"127.0.1.{number}" for number in range(1, MANY + 1)]
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


def _does_not_serve(cache: Any) -> None:
    with within(TIMEOUT), pytest.raises(UnavailableError, match="gave up"):
        cache.get_session("s")


def _serves(cache: Any) -> None:
    with within(ENOUGH):
        cache.upsert_session(session())
        assert cache.get_session("s") is not None


@pytest.mark.parametrize(("scheme", "service"), [("redis+cluster", ""), ("redis+sentinel", "main")])
@pytest.mark.parametrize("count", [3, MANY])
def test_silent_servers_take_no_longer_than_the_timeout(
    connect: Any, scheme: str, service: str, count: int
) -> None:
    with _silent(count) as hosts:
        _does_not_serve(connect(f"{scheme}://{','.join(hosts)}/{service}", timeout=TIMEOUT))


def test_silent_addresses_take_no_longer_than_the_timeout(connect: Any, resolve: Any) -> None:
    with _silent(1) as (host,), _black_holes(port := int(host.split(":")[1])) as addresses:
        resolve(NAME, addresses)
        _does_not_serve(connect(f"redis://{NAME}:{port}", timeout=TIMEOUT))


def test_one_sentinel_among_silent_ones_is_found(connect: Any) -> None:
    with RedisServer(unix=False) as server, FakeSentinel(server) as sentinel, _silent(MANY) as hosts:
        _serves(connect(f"redis+sentinel://{','.join([*hosts, sentinel.host])}/main", timeout=ENOUGH))


def test_one_node_among_silent_ones_is_found(connect: Any) -> None:
    config = {"cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1"}
    with RedisServer(unix=False, config=config) as node, _silent(MANY) as hosts:
        admin = node.client()
        admin.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_for(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")
        _serves(connect(f"redis+cluster://{','.join([*hosts, f'127.0.0.1:{node.port}'])}", timeout=ENOUGH))


def test_one_address_among_silent_ones_is_found(connect: Any, resolve: Any) -> None:
    with RedisServer(unix=False) as server, _black_holes(server.port) as addresses:
        resolve(NAME, [*addresses, "127.0.0.1"])
        _serves(connect(f"redis://{NAME}:{server.port}", timeout=ENOUGH))


@pytest.mark.skipif(not supports_tls(), reason="this redis-server was built without TLS")
def test_a_host_of_several_addresses_must_have_the_name_of_its_certificate(
    tmp_path: Path, connect: Any, resolve: Any
) -> None:
    material = tls_material(tmp_path)
    with RedisServer(tls=material) as server:
        url = f"{server.tls_url}?{urlencode(material.client_options())}"
        resolve("localhost", ["127.0.1.1", "127.0.0.1"])
        connect(url).upsert_session(session())
        resolve(NAME, ["127.0.1.1", "127.0.0.1"])

        with pytest.raises(UnavailableError, match="Hostname mismatch"):
            connect(url.replace("localhost", NAME), timeout=ENOUGH).get_session("s")
