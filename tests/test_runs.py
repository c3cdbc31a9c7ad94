"""Single runs: their order and place, what goes when there are too many, bodies decoded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    RunTooLargeError,
    SessionNotFoundError,
    StaleRunError,
    WorkflowRunOutput,
    WorkflowSession,
)
from sessioncache.operations import upsert
from sessioncache.storage import codec, keys
from support.interleaving import watched

if TYPE_CHECKING:
    import redis

    from support.subjects import Caches


def run(number: int, **fields: Any) -> WorkflowRunOutput:
    """A run; those of higher numbers are newer."""
    defaults = {
        "run_id": f"r{number}",
        "input": "in",
        "content": f"out {number}",
        "created_at": 1000 + number,
    }
    return WorkflowRunOutput(**{**defaults, **fields})


def ids(runs: list[WorkflowRunOutput]) -> list[str | None]:
    return [each.run_id for each in runs]


def stored_ids(cache: Any) -> list[str | None]:
    return ids(cache.get_session("s").runs)


def members(admin: redis.Redis, caches: Caches) -> list[tuple[bytes, float]]:
    return admin.zrange(keys.session_keys(caches.prefix, "s")[1], 0, -1, withscores=True)


@pytest.fixture
def session(cache: Any) -> WorkflowSession:
    """A session without runs, stored."""
    session = WorkflowSession("s")
    cache.upsert_session(session)
    return session


# order and place


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("arrival", [[1, 2, 3], [3, 2, 1], [2, 3, 1]], ids=str)
def test_runs_are_in_the_order_of_their_creation_whenever_they_arrive(cache: Any, arrival: list[int]) -> None:
    for number in arrival:
        cache.upsert_run("s", run(number))

    assert stored_ids(cache) == ["r1", "r2", "r3"]


@pytest.mark.usefixtures("session")
def test_runs_of_one_second_are_in_the_order_of_their_arrival(cache: Any) -> None:
    for name in ("z", "a", "m", "b"):
        cache.upsert_run("s", run(1, run_id=name))
    cache.upsert_runs("s", [run(1, run_id="y"), run(1, run_id="c")])

    assert stored_ids(cache) == ["z", "a", "m", "b", "y", "c"]


@pytest.mark.parametrize("created_at", [0, 0.5, 1, 1.999, 2**33 - 1], ids=str)
def test_a_run_of_any_time_is_stored_with_the_time_it_has(
    cache: Any, session: WorkflowSession, created_at: float
) -> None:
    cache.upsert_run("s", run(1, created_at=created_at))

    assert cache.get_run("s", "r1").created_at == created_at
    assert stored_ids(cache) == ["r1"]


@pytest.mark.usefixtures("session")
def test_a_run_without_a_time_is_the_newest_and_stays_without_one(cache: Any) -> None:
    cache.upsert_run("s", run(1))
    cache.upsert_run("s", run(2, created_at=None))
    cache.upsert_run("s", run(3))

    assert stored_ids(cache) == ["r1", "r3", "r2"]
    assert cache.get_run("s", "r2").created_at is None


@pytest.mark.usefixtures("session")
def test_a_run_that_is_updated_keeps_its_place(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_runs("s", [run(1), run(2), run(3)])
    places = [score for _, score in members(admin, caches)]

    cache.upsert_run("s", run(2, content="new", step_results=["new"], created_at=9999))

    assert [score for _, score in members(admin, caches)] == places
    updated = cache.get_session("s").runs[1]
    assert (updated.run_id, updated.content, updated.step_results) == ("r2", "new", ["new"])
    assert updated.created_at == 9999


@pytest.mark.usefixtures("session")
def test_the_same_run_upserted_again_is_stored_once(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    for _ in range(3):
        cache.upsert_run("s", run(1))

    assert len(members(admin, caches)) == 3
    assert cache.get_session("s").runs == [run(1)]


@pytest.mark.usefixtures("session")
def test_of_two_runs_of_one_id_in_one_call_the_last_is_stored(cache: Any) -> None:
    cache.upsert_runs("s", [run(1, content="first"), run(2), run(1, content="last")])

    assert [each.content for each in cache.get_session("s").runs] == ["last", "out 2"]


@pytest.mark.usefixtures("session")
def test_runs_may_come_from_an_iterator(cache: Any) -> None:
    cache.upsert_runs("s", (run(number) for number in (1, 2)))

    assert stored_ids(cache) == ["r1", "r2"]


@pytest.mark.usefixtures("session")
def test_equal_bodies_of_different_runs_stay_apart(cache: Any) -> None:
    cache.upsert_runs("s", [run(1, step_results=["same"]), run(2, step_results=["same"])])
    cache.delete_run("s", "r1")

    assert cache.get_run("s", "r2").step_results == ["same"]


# one run, some runs


def test_a_run_is_found_by_its_id(cache: Any, session: WorkflowSession) -> None:
    runs = [run(1, step_results=[{"deep": [1]}]), run(2, metadata={"k": None})]
    cache.upsert_runs("s", runs)

    assert [cache.get_run("s", "r1"), cache.get_run("s", "r2")] == runs


def test_a_run_that_does_not_exist_is_none(cache: Any, session: WorkflowSession) -> None:
    cache.upsert_run("s", run(1))

    assert cache.get_run("s", "r2") is None
    assert cache.get_run("t", "r1") is None


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("last_n", [None, 0, -1, 1, 2, 3, 4, 10**30])
def test_the_newest_runs_are_loaded_oldest_first(cache: Any, last_n: int | None) -> None:
    cache.upsert_runs("s", [run(1), run(2), run(3)])

    wanted = 3 if last_n is None else max(0, min(last_n, 3))
    assert ids(cache.get_runs("s", last_n_runs=last_n)) == ["r1", "r2", "r3"][3 - wanted :]


def test_the_runs_of_a_session_that_does_not_exist_are_an_error(cache: Any) -> None:
    for last_n in (None, 0, 1):
        with pytest.raises(SessionNotFoundError, match="'missing'"):
            cache.get_runs("missing", last_n_runs=last_n)


@pytest.mark.usefixtures("session")
def test_a_deleted_run_is_gone_and_the_others_stay(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_runs("s", [run(1), run(2), run(3)])

    assert cache.delete_run("s", "r2")
    assert not cache.delete_run("s", "r2")
    assert stored_ids(cache) == ["r1", "r3"]
    assert len(members(admin, caches)) == 6


@pytest.mark.usefixtures("session")
def test_a_session_stays_when_its_last_run_is_deleted(cache: Any) -> None:
    cache.upsert_run("s", run(1))
    cache.delete_run("s", "r1")
    assert cache.get_session("s").runs == []

    cache.upsert_run("s", run(2))
    assert stored_ids(cache) == ["r2"]


@pytest.mark.usefixtures("session")
def test_a_deleted_run_that_comes_again_is_new(cache: Any) -> None:
    cache.upsert_runs("s", [run(1, run_id="a"), run(1, run_id="b")])
    cache.delete_run("s", "a")
    cache.upsert_run("s", run(1, run_id="a"))

    assert stored_ids(cache) == ["b", "a"]


# attempts


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("stored", "upserted", "result"),
    [(None, None, None), (2, None, 2), (None, 1, 1), (2, 2, 2), (2, 10, 10), (0, None, 0)],
)
def test_the_attempt_of_the_stored_run_is_carried_over_to_one_that_has_none(
    cache: Any, stored: int | None, upserted: int | None, result: int | None
) -> None:
    cache.upsert_run("s", run(1, queue_attempt=stored))
    cache.upsert_run("s", run(1, queue_attempt=upserted, content="new"))

    loaded = cache.get_run("s", "r1")
    assert (loaded.queue_attempt, loaded.content) == (result, "new")


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(("stored", "upserted"), [(2, 1), (1, 0), (10, 9), (2**53, 2**53 - 1)])
def test_a_run_of_an_earlier_attempt_is_refused_and_nothing_is_stored(
    cache: Any, caches: Caches, admin: redis.Redis, stored: int, upserted: int
) -> None:
    cache.upsert_run("s", run(1, queue_attempt=stored))
    before = members(admin, caches)

    for write in (
        lambda: cache.upsert_run("s", run(1, queue_attempt=upserted)),
        lambda: cache.upsert_runs("s", [run(2), run(1, queue_attempt=upserted)]),
        lambda: cache.upsert_session(WorkflowSession("s", runs=[run(2), run(1, queue_attempt=upserted)])),
    ):
        with pytest.raises(StaleRunError, match="'r1'"):
            write()
    assert members(admin, caches) == before


# too many runs


@pytest.mark.parametrize("one_by_one", [True, False])
def test_the_oldest_runs_beyond_the_limit_go_whole(
    make_cache: Any, caches: Caches, admin: redis.Redis, one_by_one: bool
) -> None:
    cache = make_cache(max_runs=3)
    cache.upsert_session(WorkflowSession("s"))
    runs = [run(number) for number in range(1, 8)]
    if one_by_one:
        for each in runs:
            cache.upsert_run("s", each)
    else:
        cache.upsert_runs("s", runs)

    assert cache.get_session("s").runs == runs[-3:]
    assert len(members(admin, caches)) == 9


def test_creating_a_session_with_too_many_runs_keeps_the_newest(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    cache.upsert_session(WorkflowSession("s", runs=[run(3), run(1), run(2)]))

    assert stored_ids(cache) == ["r2", "r3"]


def test_the_oldest_is_told_by_creation_and_not_by_arrival(make_cache: Any) -> None:
    cache = make_cache(max_runs=3)
    cache.upsert_session(WorkflowSession("s", runs=[run(5), run(6), run(4)]))
    cache.upsert_run("s", run(7))

    assert stored_ids(cache) == ["r5", "r6", "r7"]


def test_of_runs_of_one_second_those_that_arrived_first_go(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    cache.upsert_session(WorkflowSession("s"))
    for name in ("c", "a", "d", "b"):
        cache.upsert_run("s", run(1, run_id=name))

    assert stored_ids(cache) == ["d", "b"]


def test_a_run_older_than_all_of_a_full_session_goes_at_once(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    cache.upsert_session(WorkflowSession("s", runs=[run(5), run(6)]))
    cache.upsert_run("s", run(1))

    assert stored_ids(cache) == ["r5", "r6"]
    assert cache.get_run("s", "r1") is None


def test_an_update_of_a_run_removes_none(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    cache.upsert_session(WorkflowSession("s", runs=[run(1), run(2)]))
    cache.upsert_run("s", run(1, content="new"))

    assert [each.content for each in cache.get_session("s").runs] == ["new", "out 2"]


def test_a_lower_limit_takes_effect_with_the_next_run_added(make_cache: Any) -> None:
    make_cache().upsert_session(WorkflowSession("s", runs=[run(number) for number in range(10)]))
    strict = make_cache(max_runs=1)
    assert len(stored_ids(strict)) == 10

    strict.upsert_run("s", run(5, content="changed"))
    strict.rename_session("s", "no run is added")
    strict.update_session_state("s", {"k": 1})
    strict.upsert_session(strict.get_session("s"))
    strict.delete_run("s", "r0")
    assert len(stored_ids(strict)) == 9
    strict.upsert_run("s", run(11))

    assert stored_ids(strict) == ["r11"]


def test_an_object_with_more_runs_than_are_kept_is_saved_again_and_again(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    session = WorkflowSession("s", runs=[run(1), run(2), run(3)])
    cache.upsert_session(session)
    session.runs[0].content = "changed"
    session.runs.append(run(4))
    cache.upsert_session(session)

    assert stored_ids(cache) == ["r3", "r4"]


# large runs, many runs


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("whole", [True, False], ids=["upsert_session", "upsert_runs"])
def test_runs_too_large_for_one_script_all_arrive(cache: Any, session: WorkflowSession, whole: bool) -> None:
    runs = [run(number, input="x" * 700_000) for number in range(8)]
    assert sum(len(each.input) for each in runs) > upsert.MAX_SCRIPT_BYTES
    with watched(cache) as trips:
        if whole:
            session.runs.extend(runs)
            cache.upsert_session(session)
        else:
            cache.upsert_runs("s", runs)

    assert cache.get_session("s").runs == runs
    assert trips.names().count("EVALSHA") == 2


@pytest.mark.usefixtures("session")
def test_runs_too_many_for_one_script_all_arrive(cache: Any, session: WorkflowSession) -> None:
    runs = [run(number) for number in range(upsert.MAX_SCRIPT_RUNS * 2 + 1)]
    session.runs.extend(runs)
    with watched(cache) as trips:
        cache.upsert_session(session)

    loaded = cache.get_session("s")
    assert loaded.runs == runs
    assert session.rev == loaded.rev
    assert trips.names().count("EVALSHA") == 3


def test_runs_in_several_scripts_are_trimmed_to_the_newest(
    make_cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upsert, "MAX_SCRIPT_RUNS", 3)
    cache = make_cache(max_runs=4)
    cache.upsert_session(WorkflowSession("s", runs=[run(number) for number in (9, 1, 8, 2, 7, 3, 6, 4)]))

    assert stored_ids(cache) == ["r6", "r7", "r8", "r9"]


@pytest.mark.usefixtures("session")
def test_a_run_as_large_as_allowed_is_stored_and_one_byte_more_is_refused(make_cache: Any) -> None:
    cache = make_cache(max_run_bytes=2000)
    smallest = run(1, input="")
    head, body = codec.pack(smallest.head_dict(), "r"), codec.pack_pair("r1", smallest.body_dict(), "r")
    length_of_a_long_text = 2
    room = 2000 - len(head) - len(body) - len(b"b") - length_of_a_long_text
    cache.upsert_run("s", run(1, input="x" * room))

    with pytest.raises(RunTooLargeError, match="'r1' has 2001 bytes"):
        cache.upsert_run("s", run(1, input="y" * (room + 1)))
    assert cache.get_run("s", "r1").input[0] == "x"
