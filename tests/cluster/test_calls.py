"""Every call works on a cluster, through both clients, in one request once it is known where keys are."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.crc import key_slot

from cluster.load import spread_over
from faults.reaching import a_run, run_ids, session
from sessioncache import (
    AsyncSessionCache,
    InvalidArgumentError,
    Message,
    SessionCache,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    WorkflowSession,
)
from support.facade import BlockingFacade, LoopThread
from support.interleaving import watched
from support.waiting import wait_for
from support.wire import ClusterProxies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.cluster import RedisCluster

pytestmark = pytest.mark.cluster


def _leave_as_it_is(found: WorkflowSession) -> None:
    pass


def _lease(cache: Any) -> None:
    with cache.lease("s") as lease:
        lease.upsert_run(a_run("r9"))


CALLS: dict[str, Callable[[Any], Any]] = {
    "upsert_session": lambda cache: cache.upsert_session(session("new", runs=2)),
    "get_session": lambda cache: run_ids(cache.get_session("s", last_n_runs=2)),
    "get_sessions": lambda cache: [run_ids(found) for found in cache.get_sessions(["s", "s"], last_n_runs=1)],
    "rename_session": lambda cache: cache.rename_session("s", "name"),
    "touch_session": lambda cache: cache.touch_session("s", 60),
    "delete_session": lambda cache: cache.delete_session("s"),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("r9")),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run("r8"), a_run("r9")]),
    "get_run": lambda cache: cache.get_run("s", "r1").content,
    "get_runs": lambda cache: [run.run_id for run in cache.get_runs("s", last_n_runs=2)],
    "iter_runs": lambda cache: [run.run_id for run in cache.iter_runs("s", page_size=2)],
    "delete_run": lambda cache: cache.delete_run("s", "r1"),
    "get_chat_history": lambda cache: [pair.output for pair in cache.get_chat_history("s")],
    "get_workflow_history": lambda cache: cache.get_workflow_history("s", 1),
    "get_workflow_history_context": lambda cache: "in r2" in cache.get_workflow_history_context("s", 1),
    "get_messages": lambda cache: cache.get_messages("s", agent_id="a"),
    "lease": _lease,
    "list_sessions": lambda cache: [found.session_id for found in cache.list_sessions().sessions],
    "get_ttls": lambda cache: [ttl is None for ttl in cache.get_ttls(["s", "none"])],
    "iter_sessions": lambda cache: [found.session_id for found in cache.iter_sessions()],
    "stats": lambda cache: (cache.stats().sessions, cache.stats().runs),
    "verify": lambda cache: cache.verify().problems,
    "rotate_keys": lambda _: None,
    "ping": lambda cache: 0 < cache.ping() < 1,
    "rebuild_indexes": lambda cache: cache.rebuild_indexes(),
    "refresh": lambda cache: cache.refresh(cache.get_session("s")),
    "update_session_state": lambda cache: cache.update_session_state("s", {"k": 1}),
    "update_session": lambda cache: cache.update_session("s", _leave_as_it_is).session_id,
}

ANSWERS = {
    "get_session": ["r1", "r2"],
    "get_sessions": [["r2"], ["r2"]],
    "rename_session": True,
    "touch_session": True,
    "delete_session": True,
    "get_run": "out r1",
    "get_runs": ["r1", "r2"],
    "iter_runs": ["r0", "r1", "r2"],
    "delete_run": True,
    "get_chat_history": ["out r0", "out r1", "out r2"],
    "get_workflow_history": [("in r2", "out r2")],
    "get_workflow_history_context": True,
    "get_messages": [],
    "list_sessions": ["s"],
    "get_ttls": [False, True],
    "iter_sessions": ["s"],
    "stats": (1, 3),
    "verify": [],
    "ping": True,
    "rebuild_indexes": 1,
    "refresh": False,
    "update_session": "s",
}


def test_every_call_is_here() -> None:
    methods = {name for name, _ in inspect.getmembers(SessionCache, callable) if name[0] != "_"}

    assert set(CALLS) == methods - {"close", "for_user", "from_url", "near_cache_info"}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_answers(cache: Any, name: str) -> None:
    cache.upsert_session(session("s", runs=3))

    assert CALLS[name](cache) == ANSWERS.get(name)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "upsert_session"])
def test_every_call_finds_the_nodes_by_itself(
    cluster: RedisCluster, cache: Any, connect: Callable[..., Any], name: str
) -> None:
    cache.upsert_session(session("s", runs=3))

    assert CALLS[name](connect(cluster.url)) == ANSWERS.get(name)


@pytest.mark.parametrize("name", CALLS)
def test_every_call_answers_the_same_from_a_near_cache(
    cluster: RedisCluster, cache: Any, connect: Callable[..., Any], name: str
) -> None:
    """Others write meanwhile: a run anew, as it was."""
    cache.upsert_session(session("s", runs=3))
    near = connect(cluster.url, near_cache=2**20)
    for read in ("get_session", "get_sessions", "get_runs", "get_chat_history"):
        CALLS[read](near)
    cache.upsert_run("s", session("s", runs=3).runs[1])

    assert CALLS[name](near) == ANSWERS.get(name)


def test_one_node_that_is_known_is_enough(cluster: RedisCluster, connect: Callable[..., Any]) -> None:
    cache = connect(f"redis+cluster://127.0.0.1:{cluster.replicas_of(cluster.masters[0])[0].port}")
    ids = spread_over(cluster)
    for session_id in ids:
        cache.upsert_session(session(session_id))

    assert [found.session_id for found in cache.get_sessions(ids)] == ids


def test_errors_are_those_of_any_server(cache: Any) -> None:
    cache.upsert_session(session("s", runs=1, user_id="u"))

    assert cache.get_session("s", user_id="v") is None
    with pytest.raises(SessionNotFoundError):
        cache.upsert_run("absent", a_run())
    with pytest.raises(SessionOwnershipError):
        cache.upsert_run("s", a_run(user_id="v"))
    with pytest.raises(SessionConflictError):
        cache.upsert_session(cache.get_session("s"), expect_rev=1)


@pytest.mark.parametrize(
    "session_id", ["plain", "with}brace", "{tag}", "}{", "snow☃man", "a b%20c", "x" * 512]
)
def test_both_keys_of_a_session_are_in_one_slot(cluster: RedisCluster, cache: Any, session_id: str) -> None:
    """An id that holds `}` would end the hash tag: it is percent-encoded."""
    cache.upsert_session(session(session_id, runs=1))
    keys = [key for master in cluster.masters for key in cluster.admin(master).scan_iter("t:{*}:*")]

    assert len(keys) == 2
    assert len({key_slot(key) for key in keys}) == 1
    assert cache.get_session(session_id).session_id == session_id


def test_sessions_of_all_nodes_come_in_the_order_of_their_ids(cluster: RedisCluster, cache: Any) -> None:
    ids = spread_over(cluster, 20)
    for session_id in ids:
        cache.upsert_session(session(session_id, runs=2))
    asked = [*reversed(ids), "absent", ids[0]]
    found = cache.get_sessions(asked, last_n_runs=1)

    assert [one and one.session_id for one in found] == [*reversed(ids), None, ids[0]]
    assert all(run_ids(one) == ["r1"] for one in found if one)


def test_listings_filter_by_user_and_workflow_over_all_nodes(cluster: RedisCluster, cache: Any) -> None:
    ids = spread_over(cluster)
    for number, session_id in enumerate(ids):
        cache.upsert_session(session(session_id, user_id=f"u{number % 2}", workflow_id=f"w{number % 3}"))
    cache.delete_session(ids[0])

    listed = {
        filters: {found.session_id for found in cache.list_sessions(**dict(filters)).sessions}
        for filters in [
            (),
            (("user_id", "u1"),),
            (("workflow_id", "w0"),),
            (("user_id", "u0"), ("workflow_id", "w0")),
        ]
    }
    assert list(map(sorted, listed.values())) == [
        sorted(ids[1:]),
        sorted(ids[1::2]),
        sorted(ids[3::3]),
        sorted(ids[6::6]),
    ]


def test_indexes_are_rebuilt_from_all_nodes(cluster: RedisCluster, cache: Any) -> None:
    ids = spread_over(cluster)
    for session_id in ids:
        cache.upsert_session(session(session_id, user_id="u"))
    for master in cluster.masters:
        for key in cluster.admin(master).scan_iter("t:index:*"):
            cluster.admin(master).delete(key)
    assert cache.list_sessions().sessions == []

    assert cache.rebuild_indexes() == len(ids)
    assert {found.session_id for found in cache.list_sessions(user_id="u").sessions} == set(ids)


def test_messages_of_members_and_agents_are_found(cache: Any) -> None:
    executor = {"run_id": "e", "agent_id": "a", "messages": [Message(role="user", content="hi").to_dict()]}
    run = type(a_run()).from_dict({**a_run("r0").to_dict(), "step_executor_runs": [executor]})
    cache.upsert_session(session("s"))
    cache.upsert_run("s", run)

    assert cache.get_messages("s", agent_id="a") == cache.get_session("s").get_messages(agent_id="a")
    assert [message.content for message in cache.get_messages("s", agent_id="a")] == ["hi"]


def test_a_node_that_lost_its_scripts_is_given_them_again(cluster: RedisCluster, cache: Any) -> None:
    """NOSCRIPT: the full text is sent, to that node alone; SCRIPT LOAD would need every node up."""
    ids = spread_over(cluster)
    for session_id in ids:
        cache.upsert_session(session(session_id))
    for node in cluster.masters:
        cluster.admin(node).script_flush()
    for session_id in ids:
        cache.upsert_run(session_id, a_run())

    assert [run_ids(found) for found in cache.get_sessions(ids)] == [["r"]] * len(ids)


# how many requests


class _Counted:
    """A cache on a cluster, behind proxies that count, and the node that holds a session."""

    def __init__(self, cluster: RedisCluster, proxies: ClusterProxies, cache: Any) -> None:
        self.proxies, self.cache = proxies, cache
        self.session_id = spread_over(cluster)[0]
        self.session_node = proxies.proxies[cluster.master_of(self.session_id).port]


@pytest.fixture
def counted(cluster: RedisCluster, client_kind: str) -> Iterator[_Counted]:
    with ClusterProxies(cluster) as proxies:
        if client_kind == "sync":
            with (
                cluster.client(address_remap=proxies.remap) as client,
                SessionCache(client, prefix="t") as cache,
            ):
                yield _Counted(cluster, proxies, cache)
            return
        loop_thread = LoopThread()
        nodes = [AsyncClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
        client = AsyncRedisCluster(startup_nodes=nodes, address_remap=proxies.remap)
        with BlockingFacade(AsyncSessionCache(client, prefix="t"), loop_thread) as facade:
            yield _Counted(cluster, proxies, facade)
        loop_thread.close()


READS = ["get_session", "get_run", "get_runs", "get_chat_history", "get_workflow_history", "get_messages"]
WRITES = ["upsert_run", "upsert_runs", "rename_session", "update_session_state", "delete_run"]


def _as_for(session_id: str, name: str) -> Callable[[Any], Any]:
    """A call of `CALLS`, about another session."""

    class _Renamed:
        def __init__(self, cache: Any) -> None:
            self.cache = cache

        def __getattr__(self, name: str) -> Any:
            return lambda _, *args, **kwargs: getattr(self.cache, name)(session_id, *args, **kwargs)

    return lambda cache: CALLS[name](_Renamed(cache))


@pytest.mark.parametrize("name", READS)
def test_a_read_is_one_request(counted: _Counted, name: str) -> None:
    call = _as_for(counted.session_id, name)
    counted.cache.upsert_session(session(counted.session_id, runs=3))
    call(counted.cache)
    counted.proxies.reset()
    call(counted.cache)

    assert (counted.session_node.round_trips, counted.proxies.round_trips) == (1, 1)


@pytest.mark.parametrize("name", WRITES)
def test_a_further_write_in_the_same_second_is_one_request(counted: _Counted, name: str) -> None:
    call = _as_for(counted.session_id, name)
    counted.cache.upsert_session(session(counted.session_id, runs=3))

    def requests() -> tuple[int, int]:
        call(counted.cache)
        counted.proxies.reset()
        call(counted.cache)
        return counted.session_node.round_trips, counted.proxies.round_trips

    wait_for(lambda: requests() == (1, 1), "two writes in one second", every=0)


def test_saving_and_refreshing_a_session_are_one_request_each(counted: _Counted) -> None:
    found = session(counted.session_id, runs=3)
    counted.cache.upsert_session(found)
    counted.proxies.reset()
    counted.cache.upsert_session(found)
    assert counted.session_node.round_trips == 1

    counted.cache.refresh(found)  # has the node know the script
    counted.proxies.reset()
    assert counted.cache.refresh(found) is False
    assert counted.proxies.round_trips == 1


def test_sessions_of_all_nodes_are_one_request_a_node(cluster: RedisCluster, counted: _Counted) -> None:
    ids = spread_over(cluster)
    for session_id in ids:
        counted.cache.upsert_session(session(session_id, runs=1))
    counted.proxies.reset()
    counted.cache.get_sessions(ids)

    assert [counted.proxies.proxies[node.port].round_trips for node in cluster.masters] == [1, 1, 1]


def test_sessions_of_all_nodes_are_few_requests_before_the_nodes_are_known(
    cluster: RedisCluster, cache: Any, counted: _Counted
) -> None:
    ids = spread_over(cluster, 20)
    for session_id in ids:
        cache.upsert_session(session(session_id))
    counted.proxies.reset()
    assert None not in counted.cache.get_sessions(ids)

    connections = len(cluster.masters)
    assert counted.proxies.round_trips <= connections + len(cluster.masters) + 2


def test_a_listing_is_two_requests_a_node_two_at_a_time(cluster: RedisCluster, counted: _Counted) -> None:
    for session_id in spread_over(cluster):
        counted.cache.upsert_session(session(session_id))
    counted.proxies.reset()
    with watched(counted.cache) as trips:
        assert len(counted.cache.list_sessions().sessions) == 12

    assert trips.servers == [len(cluster.masters)] * 2
    assert counted.proxies.round_trips == 2 * len(cluster.masters)


# many at once


def test_five_thousand_lookups_at_once_find_the_nodes_and_their_sessions(cluster: RedisCluster) -> None:
    """None of them knows where keys are when it begins: to find out must cost them all together little."""
    ids = spread_over(cluster)
    with SessionCache.from_url(cluster.url, prefix="t") as filling:
        for session_id in ids:
            filling.upsert_session(session(session_id, runs=1))

    async def look_up(cache: AsyncSessionCache, session_id: str) -> None:
        found = await cache.get_session(session_id)
        assert found is not None
        assert found.session_id == session_id

    async def main() -> None:
        async with AsyncSessionCache.from_url(
            f"{cluster.url}?max_connections=8", prefix="t", timeout=20
        ) as cache:
            await asyncio.gather(*(look_up(cache, ids[number % len(ids)]) for number in range(5_000)))

    asyncio.run(main())


def test_threads_that_begin_at_once_find_the_nodes(
    cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    ids = spread_over(cluster)
    connect(cluster.url).upsert_session(session(ids[0]))
    cache = connect(cluster.url)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(cache.get_session(ids[0]))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answer.session_id for answer in answers] == [ids[0]] * 20


# a client given


def test_a_given_cluster_client_says_where_the_cluster_is(cluster: RedisCluster) -> None:
    with cluster.client() as client, SessionCache(client, ttl=60) as cache:
        for session_id in spread_over(cluster):
            cache.upsert_session(session(session_id))

            assert cache.get_session(session_id).session_id == session_id


def test_a_given_asyncio_cluster_client_says_where_the_cluster_is(cluster: RedisCluster) -> None:
    async def main(*, initialized: bool) -> None:
        async with AsyncSessionCache(client := _async_client(cluster), ttl=60) as cache:
            if initialized:
                await client.initialize()
            for session_id in spread_over(cluster):
                await cache.upsert_session(session(session_id))
                found = await cache.get_session(session_id)
                assert found is not None
                assert found.session_id == session_id
            await client.aclose()

    asyncio.run(main(initialized=False))
    asyncio.run(main(initialized=True))


def _async_client(cluster: RedisCluster, **options: Any) -> AsyncRedisCluster:
    return AsyncRedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, **options)


def test_a_given_cluster_client_must_be_of_the_same_colour(cluster: RedisCluster) -> None:
    with cluster.client() as client, pytest.raises(InvalidArgumentError, match="blocking"):
        AsyncSessionCache(client)
    with pytest.raises(InvalidArgumentError, match="blocking"):
        SessionCache(_async_client(cluster))


def test_a_given_cluster_client_that_decodes_is_as_good(cluster: RedisCluster) -> None:
    with cluster.client(decode_responses=True) as client, SessionCache(client, ttl=60) as cache:
        cache.upsert_session(session("s"))

        assert cache.get_session("s") is not None


def test_a_cache_on_a_cluster_client_leaves_its_connections_alone(cluster: RedisCluster) -> None:
    with cluster.client() as client:
        client.set("k", "v")
        with SessionCache(client, ttl=60) as cache:
            cache.upsert_session(session("s"))

        assert client.get("k") == b"v"
        assert isinstance(client, redis.RedisCluster)


def test_a_hash_tag_in_the_prefix_puts_all_keys_in_one_slot(cluster: RedisCluster, connect: Any) -> None:
    cache = connect(cluster.url, prefix="app:{shop}")
    for number in range(3):
        found = session(f"s{number}", runs=2)
        found.user_id, found.workflow_id = "u", "w"
        cache.upsert_session(found)
    cache.rename_session("s1", "name")
    cache.delete_session("s2")

    assert run_ids(cache.get_session("s0")) == ["r0", "r1"]
    assert [each.session_id for each in cache.list_sessions(user_id="u").sessions] == ["s1", "s0"]
    with cluster.client() as client:
        found_keys = [key for key in client.scan_iter(b"app:*") if key.startswith(b"app:{shop}:")]
        assert {key_slot(key) for key in found_keys} == {key_slot(b"shop")}
    assert len(found_keys) == 7
    cache.rebuild_indexes()
    assert len(cache.list_sessions(workflow_id="w").sessions) == 2
