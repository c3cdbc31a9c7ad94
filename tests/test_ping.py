"""Whether Redis answers, as a probe of readiness asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import connect, within
from sessioncache import ConfigurationError, UnavailableError
from support.servers import RedisServer

if TYPE_CHECKING:
    from support.cluster import RedisCluster

__all__ = ["connect"]


def test_a_ping_is_the_seconds_that_it_took(cache: Any) -> None:
    assert 0.0 < cache.ping() < 1


def test_a_server_that_is_silent_is_unavailable(connect: Any) -> None:
    with RedisServer(unix=False) as server:
        cache = connect(server.url, timeout=0.3)
        cache.ping()
        server.pause()
        with within(0.3), pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}/0: gave up"):
            cache.ping()
        server.resume()
        assert cache.ping() < 0.3
        server.client().execute_command("ACL", "SETUSER", "default", "-ping")

        with pytest.raises(ConfigurationError, match="ping"):
            cache.ping()


@pytest.mark.parametrize("call", ["ping", "rebuild_indexes"])
def test_a_cluster_that_cannot_be_reached_is_unavailable(connect: Any, call: str) -> None:
    cache = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2", timeout=0.2)

    with within(0.2), pytest.raises(UnavailableError, match="gave up"):
        getattr(cache, call)()


@pytest.mark.cluster
def test_every_master_of_a_cluster_has_to_answer(cluster: RedisCluster, connect: Any) -> None:
    cache = connect(cluster.url, timeout=0.5)
    assert cache.ping() < 0.5

    for master in cluster.masters:
        master.pause()
        with within(0.5), pytest.raises(UnavailableError, match="gave up"):
            cache.ping()
        master.resume()
