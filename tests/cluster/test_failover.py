"""A master is lost and its replica takes over, under load: errors are ours, and all goes on by itself."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from cluster.load import Load, fail_over, figures, spread_over, total
from faults.reaching import session, within
from sessioncache import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import RedisCluster
    from support.servers import RedisServer

pytestmark = pytest.mark.cluster

TIMEOUT = 2.0


def _ids_on(cluster: RedisCluster, master: RedisServer, number: int = 4) -> list[str]:
    return [sid for sid in spread_over(cluster, number) if cluster.master_of(sid) is master]


def _replicated(cluster: RedisCluster, master: RedisServer, load: Load) -> dict[str, set[str]]:
    """What was acknowledged, and has reached the replica by now."""
    written = load.written()
    _wait_for_replica(cluster, master, load.session_ids[0])
    return written


def _wait_for_replica(cluster: RedisCluster, master: RedisServer, session_id: str) -> None:
    """Wait until what a master has written is its replica's, too (WAIT, after a write of our own)."""
    admin = cluster.admin(master)
    admin.set(f"{{{session_id}}}:mark", 1)
    assert admin.wait(1, 5_000) == 1


@pytest.mark.parametrize("end", ["kill", "pause"])
def test_a_lost_master_is_replaced_under_load(
    cluster: RedisCluster, connect: Callable[..., Any], end: str
) -> None:
    """Redis itself acknowledges a write before its replica has it, so those of the last moment may be gone.

    What had been replicated when the master was lost is there, and so is all that was acknowledged by the new
    one; nothing is there twice. A write that was under way has an unknown outcome. Once the nodes know the
    new master, calls succeed; behind a silent one, those that find out only then wait once more.
    """
    cache = connect(cluster.url, timeout=TIMEOUT)
    master = cluster.master_of(0)
    with Load(cache, session_ids=_ids_on(cluster, master), may_lose=True) as load:
        guaranteed = _replicated(cluster, master, load)
        getattr(master, end)()
        lost_at = time.monotonic()
        cluster.wait_for_failover(master)
        replaced_at = time.monotonic()
        load.goes_on(50)
        before = load.written()
        load.goes_on(50)
        after = load.written()

    assert load.last_error < replaced_at + (1 if end == "kill" else 2) * TIMEOUT + 0.5
    lost = load.check({sid: guaranteed[sid] | (after[sid] - before[sid]) for sid in guaranteed})
    figures.info(
        "%s: replaced after %.1f s, last error %.1f s later, %s, %d of %d acknowledged writes lost",
        end,
        replaced_at - lost_at,
        load.last_error - replaced_at,
        dict(load.errors),
        lost,
        total(load.acknowledged.values()),
    )


def test_other_nodes_serve_on_while_a_master_is_lost(
    cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    """A lost master holds up those who ask for its own sessions, and them no longer than one call.

    A call that is already waiting for it, or finds out only now that it is silent, waits in vain.
    """
    cache = connect(cluster.url, timeout=TIMEOUT)
    ids = spread_over(cluster)
    for session_id in ids:
        cache.upsert_session(session(session_id))
    master = cluster.master_of(0)
    others = [session_id for session_id in ids if cluster.master_of(session_id) is not master]
    _wait_for_replica(cluster, master, next(session_id for session_id in ids if session_id not in others))
    master.pause()

    with within(TIMEOUT):
        assert None not in cache.get_sessions(others)
    cluster.wait_for_failover(master)
    with contextlib.suppress(UnavailableError):
        cache.get_sessions(ids)
    with within(TIMEOUT / 2):
        assert None not in cache.get_sessions(ids)


def test_a_lost_master_is_no_reason_to_answer_that_there_is_no_session(
    cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    """A read waits for the new master, if there is time; replicas are never asked."""
    cache = connect(cluster.url, timeout=20)
    cache.upsert_session(session("s", runs=1))
    master = cluster.master_of("s")
    _wait_for_replica(cluster, master, "s")
    cluster.kill(master)

    assert cache.get_session("s").session_id == "s"
    assert cache.get_session("absent") is None


def test_a_failover_in_good_order_loses_nothing(cluster: RedisCluster, cache: Any) -> None:
    """CLUSTER FAILOVER: the master holds its clients back until the replica has everything."""
    master = cluster.master_of(0)
    with Load(cache, session_ids=_ids_on(cluster, master)) as load:
        for _ in range(2):
            fail_over(cluster, cluster.master_of(0))
            load.goes_on(30)
            cluster.wait_until_ok()

    assert not {error for error in load.errors if error.startswith("read")}
    assert load.check() == 0


def test_a_replica_is_not_read_from(cluster: RedisCluster, connect: Callable[..., Any]) -> None:
    """Its own word sends us to the master: a replica of a cluster serves nobody who has not asked for it."""
    cache = connect(f"redis+cluster://127.0.0.1:{cluster.replicas_of(cluster.master_of('s'))[0].port}")
    cache.upsert_session(session("s"))

    assert cache.get_session("s").session_id == "s"


def test_redis_py_raises_what_is_no_redis_error_of_a_cluster_it_does_not_find(
    cluster: RedisCluster,
) -> None:
    """RedisClusterException is no RedisError: we do not use redis-py's cluster client."""
    with pytest.raises(redis.exceptions.RedisClusterException):
        redis.RedisCluster(host="127.0.0.1", port=1, socket_timeout=0.1)

    assert not issubclass(redis.exceptions.RedisClusterException, redis.RedisError)
