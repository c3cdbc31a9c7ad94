"""`iter_runs`: a walk over a long session, page by page, while others write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache.errors import DamagedRunError, InvalidArgumentError, SessionNotFoundError
from sessioncache.storage import codec
from support.interleaving import another_worker, watched
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from support.subjects import Caches


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.mark.parametrize("page_size", [1, 2, 3, 6, 7, 100])
def test_runs_come_oldest_first_whatever_the_pages(cache: Any, page_size: int) -> None:
    cache.upsert_session(a_session("s", 6))

    assert ids(cache.iter_runs("s", page_size=page_size)) == [f"r{n}" for n in range(6)]


def test_runs_are_those_of_the_loaded_session(cache: Any) -> None:
    cache.upsert_session(a_session("s", [a_run(f"r{n}", at=n % 3, metadata={"n": n}) for n in range(20)]))

    assert list(cache.iter_runs("s", page_size=4)) == cache.get_session("s").runs


def test_runs_of_one_second_and_of_the_first_second_of_all_are_told_apart(cache: Any) -> None:
    cache.upsert_session(a_session("s", [a_run(f"r{n}", at=0) for n in range(10)]))

    assert ids(cache.iter_runs("s", page_size=3)) == [f"r{n}" for n in range(10)]


def test_a_page_is_read_when_it_is_needed(cache: Any) -> None:
    cache.upsert_session(a_session("s", 10))

    with watched(cache) as trips:
        read_by_then = [len(trips) for _ in cache.iter_runs("s", page_size=4)]

    assert read_by_then == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def test_an_empty_session_has_no_runs_to_walk(cache: Any) -> None:
    cache.upsert_session(a_session("s"))

    assert list(cache.iter_runs("s")) == []


def test_a_missing_session_is_an_error(cache: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        list(cache.iter_runs("gone"))


@pytest.mark.parametrize("page_size", [0, -1, 2.5, None])
def test_a_page_has_at_least_one_run(cache: Any, page_size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="page_size"):
        list(cache.iter_runs("s", page_size=page_size))


@pytest.mark.parametrize("met", [1, 3, 6])
def test_a_session_deleted_on_the_way_is_an_error(cache: Any, writer: Any, met: int) -> None:
    cache.upsert_session(a_session("s", 6))
    walk = iter(cache.iter_runs("s", page_size=3))
    for _ in range(met):
        next(walk)

    writer.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        list(walk)


def test_a_session_made_anew_on_the_way_is_not_mixed_with_the_old_one(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 6))
    walk = iter(cache.iter_runs("s", page_size=2))
    next(walk)

    writer.delete_session("s")
    writer.upsert_session(a_session("s", [a_run(f"new{n}", at=n) for n in range(9)]))

    with pytest.raises(SessionNotFoundError):
        list(walk)


def test_runs_appended_on_the_way_are_met_too(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 4))
    met = []

    for run in cache.iter_runs("s", page_size=2):
        met.append(run.run_id)
        if len(met) == 3:
            writer.upsert_run("s", a_run("late", at=1000))

    assert met == ["r0", "r1", "r2", "r3", "late"]


def test_a_run_that_is_written_again_keeps_its_place(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 6))
    met = []

    for run in cache.iter_runs("s", page_size=2):
        met.append((run.run_id, run.content))
        if len(met) == 1:
            for name in ("r0", "r4"):
                writer.upsert_run("s", a_run(name, at=900, content="again"))

    assert [name for name, _ in met] == [f"r{n}" for n in range(6)]
    assert met[4] == ("r4", "again")


def test_runs_trimmed_on_the_way_leave_no_gap(cache: Any, make_cache: Any, caches: Caches) -> None:
    cache.upsert_session(a_session("s", 10))
    trimming = caches._sync({"prefix": caches.prefix, "ttl": 3600, "max_runs": 4})
    met = []

    for run in cache.iter_runs("s", page_size=2):
        met.append(run.run_id)
        if len(met) == 2:
            trimming.upsert_run("s", a_run("late", at=1000))

    assert met == ["r0", "r1", "r7", "r8", "r9", "late"]


def test_a_damaged_run_is_met_and_the_others_are_read(cache: Any, admin: Any, caches: Caches) -> None:
    cache.upsert_session(a_session("s", 5))
    key = f"{caches.prefix}:{{s}}:runs"
    member, score = admin.zrange(key, 1, "+inf", byscore=True, withscores=True)[2]
    admin.zrem(key, member)
    admin.zadd(key, {b"h:0:damaged": score})

    runs = list(cache.iter_runs("s", page_size=2))

    assert ids(runs) == [f"r{n}" for n in range(5)]
    assert [run.content for run in runs if run.run_id != "r2"] == ["out r0", "out r1", "out r3", "out r4"]
    with pytest.raises(DamagedRunError, match="'r2' of session 's'"):
        _ = runs[2].content


def test_a_session_that_lost_a_body_is_an_error(cache: Any, admin: Any, caches: Caches) -> None:
    cache.upsert_session(a_session("s", 5))
    key = f"{caches.prefix}:{{s}}:runs"
    (body,) = admin.zrange(key, -1, "-inf", desc=True, byscore=True, offset=2, num=1)
    admin.zadd(key, {body: 0})

    with pytest.raises(SessionNotFoundError):
        list(cache.iter_runs("s", page_size=5))


@pytest.mark.parametrize("run_id", ["", "x" * 513, 7, None], ids=["empty", "long", "int", "none"])
def test_a_stored_run_without_a_valid_id_is_unreadable(
    cache: Any, admin: Any, caches: Caches, run_id: Any
) -> None:
    cache.upsert_session(a_session("s", 2))
    key = f"{caches.prefix}:{{s}}:runs"
    head, order = admin.zrange(key, 1, "+inf", byscore=True, withscores=True)[0]
    body = admin.zrange(key, -order, -order, byscore=True)[0]
    admin.zrem(key, head, body)
    packed = codec.pack({"run_id": run_id, "created_at": 1}, "v"), codec.pack([run_id, {}], "v")
    admin.zadd(key, {b"h:1:" + packed[0]: order, b"b" + packed[1]: -order})

    for runs in (cache.get_session("s").runs, cache.get_runs("s"), list(cache.iter_runs("s"))):
        assert runs[1].run_id == "r1"
        with pytest.raises(DamagedRunError):
            _ = runs[0].content


ACTIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 30)),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("replace"), st.integers(0, 30)),
    st.tuples(st.just("trim"), st.integers(1, 12)),
    st.tuples(st.just("leave"), st.just(0)),
)


@pytest.mark.parametrize(
    ("server", "examples"), [("embedded", 60), ("redis", 40)], indirect=["server"], ids=["embedded", "redis"]
)
def test_no_run_is_met_twice_and_no_survivor_is_skipped(
    cache: Any, writer: Any, caches: Caches, examples: int
) -> None:
    numbers = iter(range(1_000_000))

    @settings(max_examples=examples)
    @given(st.lists(st.integers(0, 15), max_size=15), st.integers(1, 5), st.lists(ACTIONS, max_size=10))
    def check(times: list[int], page_size: int, actions: list[tuple[str, int]]) -> None:
        name = f"s{next(numbers)}"
        first = [a_run(f"r{n}", at) for n, at in enumerate(times)]
        writer.upsert_session(a_session(name, first))
        plan = iter(actions)
        survivors = {run.run_id for run in first}

        def between(trip: int) -> None:
            act(*next(plan, ("leave", 0)))
            survivors.intersection_update(ids(writer.get_runs(name)))

        def act(action: str, number: int) -> None:
            there = ids(writer.get_runs(name))
            if action == "append":
                writer.upsert_run(name, a_run(f"new{next(numbers)}", number))
            elif action == "trim":
                trimming = caches._sync({"prefix": caches.prefix, "ttl": 3600, "max_runs": number})
                trimming.upsert_run(name, a_run(f"new{next(numbers)}", 20))
            elif there and action == "delete":
                writer.delete_run(name, there[number % len(there)])
            elif there and action == "replace":
                writer.upsert_run(name, a_run(there[number % len(there)], 25, content="again"))

        with watched(cache, between):
            met = ids(cache.iter_runs(name, page_size=page_size))

        assert len(set(met)) == len(met)
        assert survivors <= set(met)

    check()
