"""The near cache: what it answers is what a cache without it answers, for less."""

from __future__ import annotations

import os
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    InvalidArgumentError,
    NearCache,
    NearCacheInfo,
    SessionCache,
    SessionNotFoundError,
    UnavailableError,
)
from sessioncache.operations import near_cache, near_lookup
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.scripts import MOST_CHANGED_BYTES
from sessioncache.storage.snapshot import Reading
from support.interleaving import another_worker, watched
from support.samples import a_message, a_run, a_run_of, a_session, ids
from support.subjects import TTL_SECONDS
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer
    from support.subjects import Caches

STALENESS = 5.0


class Clock:
    """The time of near caches, which stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (near_cache, near_lookup):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.fixture(params=[0.0, STALENESS], ids=["validated", "stale"])
def bound(request: pytest.FixtureRequest) -> float:
    """How old an answer may be."""
    return float(request.param)


@pytest.fixture
def near(make_cache: Callable[..., Any], bound: float) -> Any:
    """A cache that holds session `s`, with runs r0, r1, r2, of user `u`."""
    cache = make_cache(near_cache=NearCache(max_staleness=bound))
    cache.upsert_session(a_session("s", 3, user_id="u", session_data={"a": 1}))
    cache.get_session("s")
    cache.refresh(cache.get_session("s", last_n_runs=1))  # has the server know the script
    return cache


@pytest.fixture
def validated(make_cache: Callable[..., Any]) -> Any:
    """A cache that asks Redis at each call."""
    return make_cache(near_cache=NearCache())


LOOKUPS: dict[str, Callable[[Any], Any]] = {
    "get_session": lambda cache: cache.get_session("s"),
    "get_session of 2 runs": lambda cache: cache.get_session("s", last_n_runs=2),
    "get_session of no runs": lambda cache: cache.get_session("s", last_n_runs=0),
    "get_session of its user": lambda cache: cache.get_session("s", user_id="u"),
    "get_sessions": lambda cache: cache.get_sessions(["s", "absent", "t"]),
    "get_runs": lambda cache: cache.get_runs("s", last_n_runs=2),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
    "get_workflow_history": lambda cache: cache.get_workflow_history("s", 2),
    "get_workflow_history_context": lambda cache: cache.get_workflow_history_context("s", 2),
    "get_messages": lambda cache: cache.get_messages("s", agent_id="A"),
    "get_runs of a status": lambda cache: cache.get_runs("s", last_n_runs=1, statuses=["ERROR"]),
    "get_messages from both ends": lambda cache: cache.get_messages("s", agent_id="A", limit=1),
}


def stored(writer: Any, admin: Any, caches: Caches) -> dict[str, Callable[[], object]]:
    """What others may do to session `s`."""
    return {
        "a run is new": lambda: writer.upsert_run("s", a_run("r99", 99)),
        "a run is new, between others": lambda: writer.upsert_run("s", a_run("r1a", 2)),
        "a run is changed": lambda: writer.upsert_run("s", a_run("r1", 2, content="new", metadata={"k": 1})),
        "a run is deleted": lambda: writer.delete_run("s", "r1"),
        "the newest is deleted": lambda: writer.delete_run("s", "r11"),
        "one takes the place of another": lambda: (
            writer.delete_run("s", "r11"),
            writer.upsert_run("s", a_run("r11b", 12)),
        ),
        "the state is changed": lambda: writer.update_session_state("s", {"k": 2}),
        "renamed": lambda: writer.rename_session("s", "name"),
        "many runs are new": lambda: writer.upsert_runs("s", [a_run(f"n{n}", 50) for n in range(40)]),
        "a large run is new": lambda: writer.upsert_run(
            "s", a_run("r9", 9, content="x" * MOST_CHANGED_BYTES)
        ),
        "many writes": lambda: [writer.update_session_state("s", {"k": n}) for n in range(50)],
        "deleted": lambda: writer.delete_session("s"),
        "made anew": lambda: (writer.delete_session("s"), writer.upsert_session(a_session("s", 2))),
        "of another user": lambda: (
            writer.delete_session("s"),
            writer.upsert_session(a_session("s", 3, user_id="other")),
        ),
        "trimmed": lambda: caches._sync(
            {"prefix": caches.prefix, "ttl": TTL_SECONDS, "max_runs": 2}
        ).upsert_run("s", a_run("r99", 99)),
        "runs evicted": lambda: admin.delete(f"{caches.prefix}:{{s}}:runs"),
        "meta evicted": lambda: admin.delete(f"{caches.prefix}:{{s}}:meta"),
        "expired": lambda: [admin.delete(key) for key in admin.keys(f"{caches.prefix}:{{s}}:*")],
        "nothing": lambda: None,
    }


def outcome(call: Callable[[Any], Any], cache: Any) -> Any:
    """What a call returns, or the kind of its error."""
    try:
        return call(cache)
    except SessionNotFoundError as error:
        return type(error)


WHAT = list(stored(None, None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", WHAT)
def test_every_lookup_sees_what_others_did(
    validated: Any, writer: Any, admin: Any, caches: Caches, what: str
) -> None:
    steps = [a_run_of(f"r{n}", a_message(f"m{n}", "user" if n else "system"), at=n + 1) for n in range(12)]
    steps[0].status = "ERROR"
    writer.upsert_session(a_session("s", steps, user_id="u", session_data={"session_state": {"k": 0}}))
    writer.upsert_session(a_session("t", 1))
    for lookup in LOOKUPS.values():
        lookup(validated)

    stored(writer, admin, caches)[what]()

    for name, lookup in LOOKUPS.items():
        assert outcome(lookup, validated) == outcome(lookup, writer), name
        assert outcome(lookup, validated) == outcome(lookup, writer), name


@pytest.mark.parametrize("what", WHAT)
def test_what_is_stale_is_so_for_a_time_at_most(
    make_cache: Callable[..., Any], writer: Any, admin: Any, caches: Caches, clock: Clock, what: str
) -> None:
    cache = make_cache(near_cache=NearCache(max_staleness=STALENESS))
    runs = [a_run(f"r{n}", n + 1, status="ERROR" if n == 0 else "COMPLETED") for n in range(12)]
    writer.upsert_session(a_session("s", runs, user_id="u", session_data={"session_state": {"k": 0}}))
    writer.upsert_session(a_session("t", 1))
    before = {name: lookup(cache) for name, lookup in LOOKUPS.items()}
    stored(writer, admin, caches)[what]()

    with watched(cache) as trips:
        after = {name: lookup(cache) for name, lookup in LOOKUPS.items()}
    assert after == before
    assert [command for command in trips.requests if b"absent" not in b"".join(command[1])] == []

    clock.now += STALENESS
    for name, lookup in LOOKUPS.items():
        assert outcome(lookup, cache) == outcome(lookup, writer), name


OWN_WRITES: dict[str, Callable[[Any], object]] = {
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("r9", 9)),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run("r1", 2, content="new")]),
    "upsert_session": lambda cache: cache.upsert_session(a_session("s", [a_run("r7", 7)], metadata={"m": 1})),
    "update_session_state": lambda cache: cache.update_session_state("s", {"k": 1}),
    "update_session": lambda cache: cache.update_session("s", lambda session: session.metadata.update(m=2)),
    "rename_session": lambda cache: cache.rename_session("s", "name"),
    "delete_run": lambda cache: cache.delete_run("s", "r1"),
    "delete_session": lambda cache: cache.delete_session("s"),
}


@pytest.mark.parametrize("write", OWN_WRITES)
def test_own_writes_are_seen_at_once(near: Any, writer: Any, write: str) -> None:
    OWN_WRITES[write](near)

    assert near.get_session("s") == writer.get_session("s")
    assert near.get_sessions(["s"]) == writer.get_sessions(["s"])


def test_a_change_is_made_to_what_is_stored(near: Any, writer: Any) -> None:
    """Whatever may be answered from memory: else it would be made, and refused, until that is old."""
    writer.update_session_state("s", {"n": 5})

    with watched(near) as trips:
        session = near.update_session("s", lambda session: session.session_data["session_state"].update(m=1))

    assert session.session_data["session_state"] == {"n": 5, "m": 1}
    assert len(trips) <= 3  # the last one if the server was yet to be given the script


def test_another_users_session_is_nobodys(near: Any) -> None:
    assert near.get_session("s", user_id="u") is not None
    assert near.get_session("s", user_id="eve") is None


def test_each_call_has_objects_of_its_own(near: Any, writer: Any) -> None:
    first = near.get_session("s")
    first.session_data["a"] = ["changed"]
    first.runs[0].content = "changed"
    first.runs[1].step_results.append("changed")
    del first.runs[2]

    assert near.get_session("s") == writer.get_session("s")
    assert near.get_runs("s") == writer.get_runs("s")


def test_what_was_changed_of_a_held_session_is_saved(near: Any, writer: Any) -> None:
    session = near.get_session("s")
    session.runs[1].content = "changed"
    session.session_data["b"] = 2
    near.upsert_session(session)

    assert writer.get_session("s") == near.get_session("s")
    assert writer.get_run("s", "r1").content == "changed"


# lifetimes


def test_a_copy_is_not_older_than_its_session(
    make_cache: Callable[..., Any], writer: Any, admin: Any, caches: Caches, clock: Clock
) -> None:
    """Expiry is no change of revision: a copy has a deadline of its own."""
    cache = make_cache(near_cache=NearCache(max_staleness=60))
    writer.upsert_session(a_session("s", 1))
    writer.touch_session("s", 2)
    assert cache.get_session("s") is not None

    clock.now += 1.9
    with watched(cache) as trips:
        assert cache.get_session("s") is not None
    assert len(trips) == 0

    clock.now += 0.2
    for key in admin.keys(f"{caches.prefix}:{{s}}:*"):
        admin.delete(key)
    assert cache.get_session("s") is None


def test_what_is_answered_from_memory_is_touched_now_and_then(
    make_cache: Callable[..., Any], clock: Clock
) -> None:
    cache = make_cache(ttl=100, touch_on_read=True, near_cache=NearCache(max_staleness=60))
    cache.upsert_session(a_session("s", 1))
    cache.get_session("s")

    touched = []
    for _ in range(40):
        clock.now += 1
        with watched(cache) as trips:
            cache.get_session("s")
        touched.append(len(trips) > 0)

    assert 4 <= sum(touched) <= 5


# what is counted, and what it costs


def test_what_is_counted(make_cache: Callable[..., Any], writer: Any, clock: Clock) -> None:
    cache = make_cache(near_cache=NearCache(max_staleness=STALENESS))
    assert cache.near_cache_info() == NearCacheInfo(0, 0, 0, 0, 0, 0)
    writer.upsert_session(a_session("s", 3))

    for _ in range(3):
        cache.get_session("s")
    clock.now += STALENESS
    cache.get_session("s")
    writer.upsert_run("s", a_run("r9", 9))
    clock.now += STALENESS
    cache.get_session("s")
    cache.get_session("s", last_n_runs=1)

    info = cache.near_cache_info()
    assert (info.hits, info.validated_hits, info.delta_reads, info.misses) == (2, 1, 1, 2)
    assert info.bytes_held > 2000
    assert info.evictions == 0


def test_without_a_near_cache_nothing_is_counted(cache: Any) -> None:
    assert cache.near_cache_info() is None


@pytest.mark.parametrize("length", [5, 100, 1000, 5000])
def test_the_price_is_that_of_what_changed(
    proxy: CountingProxy, redis_server: RedisServer, length: int
) -> None:
    """Whatever the length: one round trip, of 64 bytes if nothing has changed."""
    with (
        SessionCache.from_url(redis_server.url) as writer,
        SessionCache.from_url(proxy.url, near_cache=NearCache()) as cache,
    ):
        writer.upsert_session(
            a_session("s", [a_run(f"r{n}", n + 1, content="x" * 500) for n in range(length)])
        )
        cache.get_session("s")
        cache.get_session("s", last_n_runs=0)
        cache.get_session("s")
        proxy.reset()
        assert len(cache.get_session("s").runs) == length
        assert proxy.round_trips == 1
        assert proxy.bytes_received <= 64

        writer.upsert_run("s", a_run(f"r{length // 2}", 1, content="y" * 500))
        proxy.reset()
        assert cache.get_session("s").runs[length // 2].content == "y" * 500
        assert proxy.round_trips == 1
        assert proxy.bytes_received < 3000

        proxy.reset()
        assert cache.get_session("s", last_n_runs=0).rev == writer.get_session("s", last_n_runs=0).rev
        assert proxy.round_trips == 1
        assert proxy.bytes_received < 1000


def test_many_sessions_are_one_round_trip(proxy: CountingProxy, redis_server: RedisServer) -> None:
    names = [f"s{n}" for n in range(20)]
    with (
        SessionCache.from_url(redis_server.url) as writer,
        SessionCache.from_url(proxy.url, near_cache=NearCache()) as cache,
    ):
        for name in names:
            writer.upsert_session(a_session(name, 5))
        cache.get_sessions(names)
        cache.get_sessions(names)
        writer.upsert_run("s3", a_run("r9", 9))
        proxy.reset()

        assert cache.get_sessions(names) == writer.get_sessions(names)
        assert proxy.round_trips == 1


# bounds and faults


@pytest.mark.parametrize("max_bytes", [1, 20_000, 200_000])
def test_memory_never_exceeds_its_bound(make_cache: Callable[..., Any], writer: Any, max_bytes: int) -> None:
    cache = make_cache(near_cache=max_bytes)
    drawn = random.Random(max_bytes)
    for number in range(300):
        name = f"s{drawn.randrange(12)}"
        if drawn.random() < 0.4:
            content = "x" * drawn.randrange(4000)
            writer.upsert_session(
                a_session(name, [a_run(f"r{drawn.randrange(20)}", number, content=content)])
            )
        limit = drawn.choice([None, 0, 3])
        assert cache.get_session(name, last_n_runs=limit) == writer.get_session(name, last_n_runs=limit)
        assert cache.near_cache_info().bytes_held <= max_bytes
    assert cache.near_cache_info().evictions > 0


def test_the_sessions_used_least_lately_go_first(make_cache: Callable[..., Any], writer: Any) -> None:
    for name in "abc":
        writer.upsert_session(a_session(name, 1))
    cache = make_cache(near_cache=2**20)
    cache.get_session("a")
    size = cache.near_cache_info().bytes_held
    cache = make_cache(near_cache=2 * size + 100)
    for name in "abac":
        cache.get_session(name)

    cache.get_session("a")
    assert cache.near_cache_info().misses == 3
    cache.get_session("b")
    assert cache.near_cache_info().misses == 4


def test_a_session_that_is_too_large_drives_no_other_out(make_cache: Callable[..., Any], writer: Any) -> None:
    writer.upsert_session(a_session("small", 1))
    writer.upsert_session(a_session("large", [a_run("r", content="x" * 200_000)]))
    cache = make_cache(near_cache=100_000)
    for name in ("small", "large", "small", "large"):
        assert cache.get_session(name) == writer.get_session(name)

    info = cache.near_cache_info()
    assert (info.misses, info.validated_hits) == (3, 1)


def test_an_answer_that_was_asked_for_earlier_replaces_no_later_one() -> None:
    """Of two threads that read a session, the one that asked first may be done last."""
    store, key = near_cache.NearCacheStore(2**20, 0), ("s", RunRange(None))
    earlier, later = (near_cache.Copy(Reading(0, rev, b"1", {}, []), rev, float("inf")) for rev in (1, 2))

    store.put(key, later)
    store.put(key, earlier)

    assert store.get(key) is later


def test_a_write_that_names_no_runs_is_seen_all_the_same(
    validated: Any, writer: Any, admin: Any, caches: Caches
) -> None:
    """One that does not keep the names of runs, as another version might, hides nothing that it wrote."""
    writer.upsert_session(a_session("s", 3))
    held = writer.get_session("s")
    validated.get_session("s")
    writer.update_session_state("s", {"k": 0})
    named = admin.hget(f"{caches.prefix}:{{s}}:meta", "changes")
    writer.upsert_run("s", a_run("r1", 2, content="new"))
    admin.hset(f"{caches.prefix}:{{s}}:meta", "changes", named)

    for _ in range(2):
        assert validated.get_session("s").runs[1].content == "new"
        writer.update_session_state("s", {"k": 1})
    assert writer.refresh(held)
    assert held == writer.get_session("s")


def test_a_run_at_a_place_that_is_none_is_no_other_error(
    validated: Any, writer: Any, admin: Any, caches: Caches
) -> None:
    """Whatever moved it there: its order is no whole number."""
    key = f"{caches.prefix}:{{s}}:runs"
    writer.upsert_session(a_session("s", 3))
    (head,) = admin.zrange(key, "1", "+inf", byscore=True, offset=0, num=1)
    admin.zadd(key, {head: 1.5})
    validated.get_session("s")
    writer.upsert_run("s", a_run("r9", 9))

    assert ids(validated.get_session("s").runs) == ids(writer.get_session("s").runs)


def test_what_is_counted_as_held_is_held(redis_server: RedisServer) -> None:
    """What Python allocates for it is no more."""
    with SessionCache.from_url(redis_server.url, prefix="held", near_cache=2**28) as cache:
        for name in range(20):
            runs = [a_run_of(f"r{n}", a_message(f"m{n}", size=300), at=n) for n in range(50)]
            cache.upsert_session(a_session(str(name), runs, session_data={f"k{n}": n for n in range(20)}))
        cache.get_session("0", last_n_runs=1)
        tracemalloc.start()
        before = cache.near_cache_info().bytes_held
        for name in range(20):
            cache.get_session(str(name))
            cache.get_session(str(name))
        allocated, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        held = cache.near_cache_info().bytes_held - before
        for name in range(20):
            cache.delete_session(str(name))

    assert allocated <= held <= 2 * allocated


def test_an_outage_is_never_answered_from_memory(redis_server: RedisServer) -> None:
    with CountingProxy(redis_server.socket_path) as proxy:
        cache = SessionCache.from_url(proxy.url, prefix="outage", near_cache=NearCache(), timeout=0.2)
        cache.upsert_session(a_session("s", 1))
        assert cache.get_session("s") is not None
    with pytest.raises(UnavailableError):
        cache.get_session("s")
    cache.close()
    with SessionCache.from_url(redis_server.url, prefix="outage") as cache:
        cache.delete_session("s")


def test_a_forked_process_begins_with_nothing(redis_server: RedisServer) -> None:
    with SessionCache.from_url(redis_server.url, prefix="fork", near_cache=NearCache()) as cache:
        cache.upsert_session(a_session("s", 1))
        cache.get_session("s")
        assert cache._near is not None
        cache._near._lock.acquire()  # as a thread that is not forked would
        child = os.fork()
        if child == 0:
            os._exit(cache.near_cache_info() != NearCacheInfo(0, 0, 0, 0, 0, 0))
        cache._near._lock.release()
        assert os.waitpid(child, 0)[1] == 0
        assert cache.near_cache_info().misses == 1  # type: ignore[union-attr]
        cache.delete_session("s")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (True, "near_cache"),
        ("64", "near_cache"),
        (1.5, "near_cache"),
        (0, "max_bytes"),
        (-1, "max_bytes"),
    ],
)
def test_a_wrong_option_is_named(option: Any, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        SessionCache.from_url("redis://localhost", near_cache=option)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": True}, "max_bytes"),
        ({"max_bytes": 1.0}, "max_bytes"),
        ({"max_staleness": -1}, "max_staleness"),
        ({"max_staleness": float("nan")}, "max_staleness"),
        ({"max_staleness": float("inf")}, "max_staleness"),
        ({"max_staleness": True}, "max_staleness"),
        ({"max_staleness": "1"}, "max_staleness"),
    ],
)
def test_a_wrong_part_of_the_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        NearCache(**options)


def test_runs_are_in_order(validated: Any, writer: Any) -> None:
    writer.upsert_session(a_session("s", 3))
    validated.get_session("s", last_n_runs=2)
    writer.upsert_run("s", a_run("old", 1))
    writer.upsert_run("s", a_run("r0", 1, content="changed"))

    assert ids(validated.get_session("s", last_n_runs=2).runs) == ["r1", "r2"]
    assert ids(validated.get_session("s").runs) == ["r0", "old", "r1", "r2"]
