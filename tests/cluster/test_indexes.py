"""Indexes of a cluster: split over its nodes, written along with a session, and read as if they were one."""

from __future__ import annotations

import itertools
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.load import spread_over
from faults.reaching import SLACK, a_run, session, within
from sessioncache import (
    SessionCacheError,
    SessionConflictError,
    SessionOwnershipError,
    UnavailableError,
)
from sessioncache.operations import index
from sessioncache.storage import keys
from support.interleaving import watched
from support.waiting import wait_for
from support.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.cluster import RedisCluster

pytestmark = pytest.mark.cluster

IDS = [f"s{number}" for number in range(30)]
FILTERS: tuple[dict[str, Any], ...] = ({}, {"user_id": "u"}, {"workflow_id": "w"}, {"name": ""})
TIMEOUT = 3.0
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes a hundred commands."""


def ids(page: Any) -> list[str]:
    """The ids of a page, in order."""
    return [found.session_id for found in page.sessions]


def listed_under(session_id: str, prefix: str = "t") -> list[bytes]:
    """The keys of the indexes of all and of workflow `w` that list a session."""
    indexes = (keys.index_of_all(prefix), keys.index_of_workflow(prefix, "w"))
    return [keys.shard_of(prefix, each, session_id) for each in indexes]


@pytest.fixture
def admin(cluster: RedisCluster) -> Iterator[Any]:
    """A client of the whole cluster, of redis-py's own."""
    with cluster.client() as client:
        yield client


@pytest.fixture
def own_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have entries corrected at once, however young."""
    monkeypatch.setattr(index, "GRACE_SECONDS", 0)


# --- split, and read as one


def test_shards_are_spread_evenly_and_lie_where_their_sessions_are(cluster: RedisCluster) -> None:
    shards = keys.shards_of(keys.index_of_all("t"))
    by_node = [sum(cluster.master_of(shard) is node for shard in shards) for node in cluster.masters]
    with_session = [cluster.master_of(listed_under(each)[0]) is cluster.master_of(each) for each in IDS]

    assert len(set(shards)) == keys.SHARDS
    assert max(by_node) - min(by_node) <= 1
    assert sum(with_session) >= 0.9 * len(IDS)


@settings(max_examples=60, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pages_are_those_of_an_index_that_is_whole(
    cluster: RedisCluster, connect: Callable[..., Any], admin: Any, data: st.DataObject
) -> None:
    """A prefix with a hash tag has whole indexes: both are given the same sessions, at the same times.

    Of the index with shards, some entries are ahead of their sessions.
    """
    split, whole = connect(cluster.url), connect(cluster.url, prefix="{t}")
    if split.list_sessions().total != len(IDS):
        for cache, name in itertools.product((split, whole), IDS):
            cache.upsert_session(session(name, user_id="u", workflow_id="w", created_at=1))
    newest_first = data.draw(st.booleans(), label="newest_first")
    times = data.draw(st.lists(st.integers(1, 9), min_size=len(IDS), max_size=len(IDS)), label="times")
    ahead = data.draw(st.sets(st.sampled_from(IDS)), label="ahead") if newest_first else set()
    for name, at in zip(IDS, times, strict=True):
        early = at + 5 * (name in ahead)
        for prefix in ("t", "{t}"):
            admin.hset(keys.session_keys(prefix, name)[0], "updated_at", at)
            admin.zadd(keys.index_of_user(prefix, "u"), {name: early if prefix == "t" else at})
        for key in listed_under(name):
            admin.zadd(key, {name: early})
        for key in (keys.index_of_all("{t}"), keys.index_of_workflow("{t}", "w")):
            admin.zadd(key, {name: at})
    by = data.draw(st.sampled_from(FILTERS), label="filter")
    page = {"limit": data.draw(st.integers(0, 12)), "offset": data.draw(st.integers(0, 32))}

    pages = [cache.list_sessions(**by, **page, newest_first=newest_first) for cache in (split, whole)]

    assert pages[0] == pages[1]


@pytest.mark.parametrize("number", [30, 3000])
def test_a_page_takes_two_trips_however_long_the_index_is(
    cluster: RedisCluster, connect: Callable[..., Any], number: int
) -> None:
    cache = connect(cluster.url)
    for start in range(0, number, 1000):
        cache_ids = range(start, min(start + 1000, number))
        _save_all(cache, [session(f"s{each}", user_id=f"u{each % 7}") for each in cache_ids])

    with watched(cache) as trips:
        assert len(ids(cache.list_sessions())) == 20
    assert trips.servers == [3, 3]


def _save_all(cache: Any, sessions: list[Any]) -> None:
    """Save sessions over the blocking client, by pages."""
    threads = [
        threading.Thread(target=lambda part=part: [cache.upsert_session(each) for each in part])
        for part in (sessions[number::4] for number in range(4))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("prefix", ["t", "{t}"])
def test_rebuilding_turns_one_kind_of_index_into_the_other(
    cluster: RedisCluster, connect: Callable[..., Any], admin: Any, prefix: str
) -> None:
    cache = connect(cluster.url, prefix=prefix)
    for name in IDS:
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))
    before = [cache.list_sessions(**by, limit=100) for by in FILTERS]
    own = set(admin.scan_iter(f"{prefix}:index:*", count=1000))
    indexes = (keys.index_of_all(prefix), keys.index_of_workflow(prefix, "w"))
    others = {key for each in indexes for key in ((each,) if prefix == "t" else keys.shards_of(each))}
    for key in own:
        admin.delete(key)
    for key in others:
        admin.zadd(key, {"s1": 5})

    assert cache.rebuild_indexes() == len(IDS)

    assert set(admin.scan_iter(f"{prefix}:index:*", count=1000)) == own
    assert [cache.list_sessions(**by, limit=100) for by in FILTERS] == before


# --- written at the same time as the session


def test_a_write_is_one_exchange_in_time(cache: Any, cluster: RedisCluster) -> None:
    """Whether its second is a new one, in which the session has to be listed anew, or not."""
    for name in spread_over(cluster):
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))

    def trips_of_a_new_second() -> list[int]:
        time.sleep(1 - time.time() % 1 + 0.2)  # in the middle of the next second of the servers' clock
        with watched(cache) as trips:
            cache.upsert_run("1", a_run("r"))
        return trips.servers

    with watched(cache) as trips:
        cache.upsert_run("1", a_run("r", user_id="u", workflow_id="w"))
    assert len(trips) <= 2
    wait_for(lambda: len(trips_of_a_new_second()) == 1, "a write that knows the time")
    assert ids(cache.list_sessions())[0] == "1"
    assert ids(cache.list_sessions(user_id="u"))[0] == "1"


@pytest.mark.parametrize("refusal", [SessionOwnershipError, SessionConflictError])
def test_a_refused_write_moves_no_session_in_a_listing(
    cache: Any, admin: Any, refusal: type[SessionCacheError]
) -> None:
    for name in ("older", "newer"):
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))
    admin.hset(keys.session_keys("t", "older")[0], "updated_at", 5)
    for key in (*listed_under("older"), keys.index_of_user("t", "u")):
        admin.zadd(key, {"older": 5})
    user_id, expect_rev = ("other", None) if refusal is SessionOwnershipError else ("u", 7)

    with pytest.raises(refusal):
        cache.upsert_session(session("older", user_id=user_id, workflow_id="w"), expect_rev=expect_rev)

    assert [ids(cache.list_sessions(**by)) for by in FILTERS] == [["newer", "older"]] * 4
    assert cache.list_sessions(user_id="other").sessions == []


def test_what_a_crash_left_ahead_is_passed_over_and_then_corrected(
    cache: Any, admin: Any, own_second: None
) -> None:
    """An entry without its write, of a session that is there and of one that is not."""
    cache.upsert_session(session("newer"))
    cache.upsert_session(session("older"))
    admin.hset(keys.session_keys("t", "older")[0], "updated_at", 5)
    ahead = cache.get_session("newer").updated_at + 5
    for name in ("older", "never"):
        admin.zadd(listed_under(name)[0], {name: ahead})

    assert ids(cache.list_sessions()) == ["newer", "older"]
    assert admin.zscore(listed_under("older")[0], "older") == 5
    assert admin.zscore(listed_under("never")[0], "never") is None


def test_a_young_entry_of_a_session_that_is_not_there_yet_stays(cache: Any, admin: Any) -> None:
    cache.upsert_session(session("s"))
    now = cache.get_session("s").updated_at
    admin.zadd(listed_under("new")[0], {"new": now, "gone": now - 100})

    assert ids(cache.list_sessions()) == ["s"]
    assert admin.zscore(listed_under("new")[0], "new") == now
    assert admin.zscore(listed_under("new")[0], "gone") is None


def test_what_a_crash_left_unlisted_is_listed_by_the_next_write(cache: Any, admin: Any) -> None:
    cache.upsert_session(session("s", user_id="u", workflow_id="w"))
    admin.delete(*[*listed_under("s")][:1])
    assert ids(cache.list_sessions()) == []

    def is_listed_after_a_write() -> bool:
        cache.upsert_run("s", a_run("r"))
        return ids(cache.list_sessions()) == ["s"]

    wait_for(is_listed_after_a_write, "the session to be listed", seconds=5)


class Writers(Workload):
    """Threads that write sessions of user `u`, are refused, and make and delete sessions of their own."""

    names: ClassVar[list[str]] = []

    def jobs(self) -> list[Callable[[], None]]:
        """Return three of them."""
        return [partial(self._turn, number) for number in range(3)]

    def _turn(self, number: int) -> None:
        name = random.choice(self.names)
        self.cache.upsert_run(name, a_run(f"r{number}", user_id="u", workflow_id="w"))
        with pytest.raises(SessionOwnershipError):
            self.cache.upsert_session(session(name, user_id="other"))
        with pytest.raises(SessionConflictError):
            self.cache.upsert_session(session(name, user_id="u"), expect_rev=7)
        self.cache.upsert_session(session(f"brief{number}", user_id="u", workflow_id="w"))
        self.cache.delete_session(f"brief{number}")
        self.writes += 1


def test_a_listing_is_right_while_others_write_are_refused_and_delete(
    cluster: RedisCluster, connect: Callable[..., Any], own_second: None
) -> None:
    """Who lists sees every session that is there all the time, once, and none of anybody else's."""
    cache = connect(cluster.url)
    stable = spread_over(cluster, 8)
    for name in stable:
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))
    brief = {f"brief{number}" for number in range(3)}
    Writers.names = stable

    with Writers(connect(cluster.url)) as writers:
        for turn in range(20):
            found = ids(cache.list_sessions(**FILTERS[turn % 4], limit=100))
            assert len(found) == len(set(found))
            assert set(stable) <= set(found) <= brief.union(stable)
            assert cache.list_sessions(user_id="other").sessions == []
        writers.wait(20, 0)
    assert not writers.wrong
    assert not writers.errors
    for by in FILTERS:
        page = cache.list_sessions(**by, limit=100).sessions
        assert {found.session_id for found in page} == set(stable)
        assert page == sorted(page, key=lambda found: found.updated_at, reverse=True)


# --- a node that is down


def test_a_silent_node_holds_up_only_its_own_sessions(
    cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    """Not those that are listed there, but for once; what it misses is listed by a later write."""
    cache = connect(cluster.url, timeout=TIMEOUT)
    node = cluster.master_of(keys.index_of_user("t", "u"))
    others = [name for name in spread_over(cluster) if cluster.master_of(name) is not node]
    for name in others:
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))
    node.pause()

    def write(names: list[str]) -> None:
        for name in names:
            cache.upsert_session(session(name, user_id="u", workflow_id="w"))

    def are_listed() -> bool:
        write(others)
        return len(ids(cache.list_sessions(user_id="u"))) == len(others)

    time.sleep(1)  # they have to be listed anew
    with within(TIMEOUT * index.INDEX_SHARE + SLACK):  # all of them together wait once
        write(others[:4])
    with within(SLACK):
        write(others[4:])
    node.resume()
    wait_for(are_listed, "the entries")


@pytest.mark.parametrize("call", ["get_sessions", "list_sessions"])
def test_calls_of_all_nodes_say_within_their_time_that_one_is_silent(
    cluster: RedisCluster, connect: Callable[..., Any], call: str
) -> None:
    cache = connect(cluster.url, timeout=1)
    names = spread_over(cluster)
    for name in names:
        cache.upsert_session(session(name))
    cluster.master_of(0).pause()

    with within(1 + SLACK), pytest.raises(UnavailableError):
        cache.get_sessions(names) if call == "get_sessions" else cache.list_sessions()


def test_threads_that_want_several_nodes_do_not_wait_for_each_other(
    cluster: RedisCluster, connect: Callable[..., Any]
) -> None:
    """Each node has one connection: who took them in another order than others could wait for ever."""
    cache = connect(f"{cluster.url}?max_connections=1", timeout=20)
    names = spread_over(cluster)
    for name in names:
        cache.upsert_session(session(name, user_id="u", workflow_id="w"))
    found: list[list[str]] = []

    def call() -> None:
        for turn in range(30):
            cache.upsert_run(names[turn % len(names)], a_run("r", user_id="u", workflow_id="w"))
            found.append([each.session_id for each in cache.get_sessions(random.sample(names, 6))])

    threads = [threading.Thread(target=call) for _ in range(8)]
    with within(20):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8 * 30
