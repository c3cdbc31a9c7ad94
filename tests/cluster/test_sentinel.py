"""Behind Sentinels: the master is who says so itself; after a failover all goes on with the new one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel

from cluster.fake_sentinel import FakeSentinel
from cluster.load import Load, figures, total
from faults.reaching import a_run, run_ids, session, within
from sessioncache import (
    AsyncSessionCache,
    InvalidArgumentError,
    OutcomeUnknownError,
    SessionCache,
    UnavailableError,
)
from support.sentinel import SentinelSetup
from support.servers import RedisServer
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cluster

TIMEOUT = 2.0
WRITERS = 6
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def cache(sentinels: SentinelSetup, connect: Callable[..., Any]) -> Any:
    """A cache on an empty master, which it has yet to ask for."""
    return connect(sentinels.url, timeout=TIMEOUT)


def _url(*hosts: str, service: str = SentinelSetup.SERVICE) -> str:
    return f"redis+sentinel://{','.join(hosts)}/{service}/0"


def _host(server: RedisServer) -> str:
    return f"127.0.0.1:{server.port}"


# who is the master


def test_sessions_are_kept_by_the_master(sentinels: SentinelSetup, cache: Any) -> None:
    cache.upsert_session(session("s", runs=2, user_id="u"))

    assert run_ids(cache.get_session("s")) == ["r0", "r1"]
    assert [found.session_id for found in cache.list_sessions(user_id="u").sessions] == ["s"]
    assert sentinels.master().client().exists("t:{s}:meta") == 1


def test_indexes_are_written_with_the_session(sentinels: SentinelSetup, cache: Any) -> None:
    cache.upsert_session(session("s", user_id="u", workflow_id="w"))

    assert sentinels.master().client().zrange("t:index:user:u", 0, -1) == [b"s"]
    assert cache.rebuild_indexes() == 1


@pytest.mark.parametrize("synced", [True, False])
def test_a_replica_is_never_read_from_whatever_a_sentinel_says(
    sentinels: SentinelSetup, connect: Callable[..., Any], *, synced: bool
) -> None:
    """A replica is behind, and before its first sync it is empty: "no session" from it would be wrong.

    Every new connection asks the server itself (ROLE), so a Sentinel that is behind cannot mislead.
    """
    sentinels.master().client().set("k", "v")
    with RedisServer(unix=False) as lonely:
        if not synced:
            lonely.client().replicaof("127.0.0.1", "1")
        replica = sentinels.replicas()[0] if synced else lonely
        with FakeSentinel(replica) as sentinel:
            cache = connect(_url(sentinel.host), timeout=0.3)

            for call in (
                lambda: cache.get_session("s"),
                lambda: cache.get_sessions(["s"]),
                cache.list_sessions,
                lambda: cache.upsert_session(session("s")),
            ):
                with within(0.3), pytest.raises(UnavailableError) as caught:
                    call()
                assert not isinstance(caught.value, OutcomeUnknownError)


def test_a_sentinel_that_is_behind_is_overruled_by_another(
    sentinels: SentinelSetup, connect: Callable[..., Any]
) -> None:
    with FakeSentinel(sentinels.replicas()[0]) as stale:
        cache = connect(_url(stale.host, _host(sentinels.sentinels[0])), timeout=TIMEOUT)
        cache.upsert_session(session("s"))

        assert cache.get_session("s").session_id == "s"
        assert len(stale.told) <= 2


@pytest.mark.parametrize("problem", ["down", "silent", "unknowing"])
def test_a_sentinel_that_cannot_say_is_passed_over(
    sentinels: SentinelSetup, connect: Callable[..., Any], problem: str
) -> None:
    with RedisServer(unix=False) as silent, FakeSentinel(None) as unknowing:
        silent.pause()
        first = {"down": "127.0.0.1:1", "silent": _host(silent), "unknowing": unknowing.host}[problem]
        cache = connect(_url(first, *map(_host, sentinels.sentinels)), timeout=5)
        cache.upsert_session(session("s"))
        silent.resume()

        assert cache.get_session("s").session_id == "s"


def test_a_service_that_no_sentinel_knows_is_unavailable(
    sentinels: SentinelSetup, connect: Callable[..., Any]
) -> None:
    cache = connect(_url(*map(_host, sentinels.sentinels), service="other"), timeout=0.3)

    with within(0.3), pytest.raises(UnavailableError):
        cache.get_session("s")


def test_a_sentinel_is_no_redis(sentinels: SentinelSetup, connect: Callable[..., Any]) -> None:
    cache = connect(f"redis://{_host(sentinels.sentinels[0])}", timeout=0.3)

    with pytest.raises(UnavailableError):
        cache.get_session("s")


# a failover


def _both_replicas_follow(sentinels: SentinelSetup) -> bool:
    """Write, and tell whether both replicas have got it, and with it all that was written before."""
    master = sentinels.master().client()
    master.set("mark", 1)
    acknowledging: int = master.wait(2, 1_000)
    return acknowledging == 2


def test_a_killed_master_is_replaced_under_load(sentinels: SentinelSetup, cache: Any) -> None:
    """Writes go on with the new master. What had reached both replicas when the old one was lost is there."""
    with Load(cache, session_ids=IDS, may_lose=True) as load:
        guaranteed = load.written()
        wait_for(lambda: _both_replicas_follow(sentinels), "both replicas")
        old = sentinels.kill_master()
        lost_at = time.monotonic()
        sentinels.wait_for_new_master(old)
        replaced_at = time.monotonic()
        load.goes_on(50)
        before = load.written()
        load.goes_on(50)
        after = load.written()

    assert load.last_error < replaced_at + TIMEOUT + 0.5
    lost = load.check({sid: guaranteed[sid] | (after[sid] - before[sid]) for sid in IDS})
    figures.info(
        "killed: replaced after %.1f s, last error %.1f s later, %s, %d of %d acknowledged writes lost",
        replaced_at - lost_at,
        load.last_error - replaced_at,
        dict(load.errors),
        lost,
        total(load.acknowledged.values()),
    )


def test_a_call_waits_for_the_new_master_if_it_has_the_time(
    sentinels: SentinelSetup, connect: Callable[..., Any]
) -> None:
    cache = connect(sentinels.url, timeout=25)
    cache.upsert_session(session("s"))
    wait_for(lambda: _both_replicas_follow(sentinels), "both replicas")
    sentinels.kill_master()

    assert cache.get_session("s").session_id == "s"
    cache.upsert_run("s", a_run())
    assert cache.get_session("absent") is None


def _fail_over_under_load(sentinels: SentinelSetup, cache: Any, idle: Any, name: str) -> int:
    """Check that writes go on with the new master and are read by all; answer how many were lost before."""
    with Load(cache, session_ids=IDS, writers=WRITERS, readers=1, may_lose=True) as load:
        idle.get_session(IDS[0])
        started = time.monotonic()
        wait_for(sentinels.fail_over, "a failover", seconds=60, every=0.5)
        sentinels.wait_until_ok()
        took = time.monotonic() - started
        load.goes_on(50)  # what the old master acknowledged last is noted by now
        before = load.written()
        load.goes_on(50)
        after = load.written()

    lost = load.check({session_id: after[session_id] - before[session_id] for session_id in IDS})
    assert run_ids(idle.get_session(IDS[0])) == run_ids(cache.get_session(IDS[0]))
    figures.info(
        "%s: in %.1f s, %s, %d of %d acknowledged writes lost",
        name,
        took,
        dict(load.errors),
        lost,
        total(load.acknowledged.values()),
    )
    return lost


def test_after_a_failover_on_demand_writes_go_on_with_the_new_master(
    sentinels: SentinelSetup, connect: Callable[..., Any]
) -> None:
    """Connections that were open to the old master are closed when it becomes a replica: nobody reads there.

    Redis loses what the old master acknowledges meanwhile, for it is the last to be told of its successor.
    """
    _fail_over_under_load(sentinels, connect(sentinels.url), connect(sentinels.url), "failover on demand")


@pytest.mark.parametrize("replicas", [1, 2])
def test_min_replicas_to_write_limits_what_a_failover_on_demand_loses(replicas: int) -> None:
    """It makes the old master refuse writes (NOREPLICAS) once its replicas have left: they go to the new one.

    Of two replicas one leaves early, to become the master, and the other late: with 1 some writes are lost,
    with 2 but the few that were under way at that moment.
    """
    config: dict[str, Any] = {"min-replicas-to-write": replicas, "min-replicas-max-lag": 1}
    with SentinelSetup(config=config) as sentinels, SessionCache.from_url(sentinels.url, timeout=20) as cache:
        lost = _fail_over_under_load(sentinels, cache, cache, f"min-replicas-to-write {replicas}")

    assert replicas == 1 or lost < 10 * WRITERS


# a client given


def _addresses(sentinels: SentinelSetup) -> list[tuple[str, int]]:
    return [("127.0.0.1", sentinel.port) for sentinel in sentinels.sentinels]


def test_a_given_master_client_says_where_the_sentinels_are(sentinels: SentinelSetup) -> None:
    given = redis.sentinel.Sentinel(_addresses(sentinels)).master_for(SentinelSetup.SERVICE)
    with given, SessionCache(given, ttl=60) as cache:
        cache.upsert_session(session("s"))
        wait_for(sentinels.fail_over, "a failover", seconds=60, every=0.5)
        cache.upsert_session(session("t"))

        assert cache.get_session("t") is not None


def test_a_given_asyncio_master_client_says_where_the_sentinels_are(sentinels: SentinelSetup) -> None:
    async def main() -> None:
        manager = redis.asyncio.sentinel.Sentinel(_addresses(sentinels))
        given = manager.master_for(SentinelSetup.SERVICE)
        async with given, AsyncSessionCache(given, ttl=60) as cache:
            await cache.upsert_session(session("s"))
            assert await cache.get_session("s") is not None

    asyncio.run(main())


def test_a_given_client_of_replicas_is_refused(sentinels: SentinelSetup) -> None:
    given = redis.sentinel.Sentinel(_addresses(sentinels)).slave_for(SentinelSetup.SERVICE)

    with pytest.raises(InvalidArgumentError, match="replicas"):
        SessionCache(given)


def test_connections_are_not_those_of_the_given_sentinel_client(sentinels: SentinelSetup) -> None:
    """redis-py's own stay open after an exception while waiting, and give the next caller an old reply."""
    given = redis.sentinel.Sentinel(_addresses(sentinels)).master_for(SentinelSetup.SERVICE)
    with given, SessionCache(given) as cache:
        assert cache.transport._endpoint.connection_class is redis.Connection
        assert given.connection_pool.connection_class is redis.sentinel.SentinelManagedConnection
