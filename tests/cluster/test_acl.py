"""The user of the README in a cluster and behind Sentinels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.crc import key_slot

from cluster.load import spread_over
from faults.reaching import a_run, run_ids, session
from security.calls import calls
from sessioncache import ConfigurationError
from support.acl import LOGIN, PREFIX, extra, make_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.cluster import RedisCluster
    from support.sentinel import SentinelSetup

pytestmark = pytest.mark.cluster

SLOT = key_slot(b"s")


@pytest.fixture
def guarded(cluster: RedisCluster) -> Iterator[RedisCluster]:
    """A cluster whose nodes know the user of the README."""
    for node in cluster.nodes:
        make_user(cluster.admin(node), extra("cluster"))
    yield cluster
    for node in cluster.nodes:
        cluster.admin(node).acl_deluser("app")


def _url(servers: RedisCluster | SentinelSetup, query: str = "") -> str:
    return servers.url.replace("://", f"://{LOGIN}") + query


def test_every_call_works_on_a_cluster(guarded: RedisCluster, connect: Callable[..., Any]) -> None:
    cache = connect(_url(guarded), prefix=PREFIX, max_runs=3)
    with guarded.client() as admin:
        for call in calls(cache, admin).values():
            call()


def test_a_slot_that_moves_is_followed_and_the_right_to_is_named_if_it_is_lacking(
    guarded: RedisCluster, connect: Callable[..., Any]
) -> None:
    """ASKING goes ahead of each call to the node to come; the first write there is checked there."""
    cache = connect(_url(guarded), prefix=PREFIX)
    cache.upsert_session(session("s", runs=1))
    to = next(node for node in guarded.masters if node is not guarded.master_of(SLOT))
    guarded.begin_migration(SLOT, to)
    while guarded.move_one_key(SLOT, to):
        pass
    cache.upsert_run("s", a_run("r1"))
    found = run_ids(cache.get_session("s"))
    guarded.admin(to).execute_command("ACL", "SETUSER", "app", "-asking")
    with pytest.raises(ConfigurationError, match="'asking'"):
        cache.get_run("s", "r1")
    with pytest.raises(ConfigurationError, match="'asking'"):
        cache.upsert_run("s", a_run("r2"))
    guarded.end_migration(SLOT, to)

    assert found == ["r0", "r1"]
    assert run_ids(cache.get_session("s")) == ["r0", "r1"]


def test_each_node_is_asked_for_its_own_permissions(
    guarded: RedisCluster, connect: Callable[..., Any]
) -> None:
    lacking = guarded.master_of(SLOT)
    ids = spread_over(guarded)
    guarded.admin(lacking).execute_command("ACL", "SETUSER", "app", "-zadd")
    cache = connect(_url(guarded), prefix=PREFIX)
    for session_id in ids:
        if guarded.master_of(session_id) is lacking:
            with pytest.raises(ConfigurationError, match=r"\+zadd"):
                cache.upsert_session(session(session_id))
        else:
            cache.upsert_session(session(session_id))

    assert [found and found.session_id for found in cache.get_sessions(ids)] == [
        None if guarded.master_of(session_id) is lacking else session_id for session_id in ids
    ]


def test_every_call_works_behind_sentinels_that_ask_for_a_login(
    sentinels: SentinelSetup, connect: Callable[..., Any]
) -> None:
    master = sentinels.master().client()
    make_user(master, extra("/1"))
    for sentinel in sentinels.sentinels:
        sentinel.client().execute_command(*extra("sentinel_username").split())
    query = "?sentinel_username=app&sentinel_password=PASSWORD"
    cache = connect(_url(sentinels, query), prefix=PREFIX, max_runs=3)
    for call in calls(cache, master).values():
        call()
