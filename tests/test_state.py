"""State that many workers change: single keys without a load, whole sessions again on a conflict."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sessioncache import SessionCache
from sessioncache.errors import (
    InvalidArgumentError,
    SessionConflictError,
    SessionNotFoundError,
    UnavailableError,
    UnserializableError,
)
from sessioncache.operations import update
from sessioncache.transport import retry
from support.interleaving import another_worker, watched
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer
    from support.subjects import Caches

PROCESSES, TURNS = 8, 50
LONGEST_START = 120
"""Seconds until the slowest of the processes has imported everything, on a machine with much else to do."""


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


def state_of(cache: Any) -> Any:
    return cache.get_session("s").session_data["session_state"]


# --- update_session_state


def test_keys_are_set_and_removed_and_all_others_left(cache: Any) -> None:
    cache.upsert_session(a_session("s", 1, session_data={"session_state": {"a": 1, "b": 2, "c": 3}, "x": 1}))

    cache.update_session_state("s", {"a": {"deep": [1]}, "new": None}, remove=["b", "never there"])

    session = cache.get_session("s")
    assert session.session_data == {"session_state": {"a": {"deep": [1]}, "c": 3, "new": None}, "x": 1}
    assert ids(session.runs) == ["r0"]


def test_it_is_one_round_trip_that_reads_nothing(cache: Any) -> None:
    cache.upsert_session(a_session("s"))
    cache.update_session_state("s", {"k": 0})

    with watched(cache) as trips:
        cache.update_session_state("s", {"k": 1})

    assert trips.names() == ["EVALSHA"]


@pytest.mark.parametrize("key", ["", "a.b", ".", "session_state", "ü", "a" * 1000, "with space\n", "{x}"])
def test_any_text_is_a_key(cache: Any, key: str) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": {"other": 1}}))

    cache.update_session_state("s", {key: 1})
    assert state_of(cache) == {key: 1, "other": 1}

    cache.update_session_state("s", {}, remove=[key])
    assert state_of(cache) == {"other": 1}


class Key(str, Enum):  # noqa: UP042 - as users write it
    MOOD = "mood"


def test_a_str_enum_is_the_key_that_its_value_is(cache: Any) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": {Key.MOOD: 0}}))
    assert state_of(cache) == {"mood": 0}

    cache.update_session_state("s", {Key.MOOD: 1})
    assert state_of(cache) == {"mood": 1}

    cache.update_session_state("s", {}, remove=[Key.MOOD])
    assert state_of(cache) == {}


@pytest.mark.parametrize("before", [None, [], [1, 2], "text", 5, False], ids=repr)
def test_a_state_that_is_no_dict_is_replaced(cache: Any, before: Any) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": before, "other": 1}))
    assert state_of(cache) == before

    cache.update_session_state("s", {"k": 1})

    assert cache.get_session("s").session_data == {"session_state": {"k": 1}, "other": 1}


@pytest.mark.parametrize("before", [{}, {"other": 1}], ids=repr)
def test_a_state_that_is_missing_is_made(cache: Any, before: dict[str, Any]) -> None:
    cache.upsert_session(a_session("s", session_data=before))
    assert cache.get_session("s").session_data == before

    cache.update_session_state("s", {"k": 1})

    assert cache.get_session("s").session_data == {**before, "session_state": {"k": 1}}


@pytest.mark.parametrize("name", ["session_data", "workflow_data", "metadata"])
@pytest.mark.parametrize("value", [{}, {"k": None}, {"k": {}}, {"k": []}, {"session_state": {}}], ids=repr)
def test_missing_and_none_and_empty_stay_different(cache: Any, name: str, value: dict[str, Any]) -> None:
    cache.upsert_session(a_session("s", **{name: value}))

    assert getattr(cache.get_session("s"), name) == value


@pytest.mark.parametrize(
    "after", [{}, None, {"session_state": None}, {"session_state": {}}, {"k": None}], ids=repr
)
@pytest.mark.parametrize(
    "before", [{"session_state": {"a": 1}}, {"k": {"a": 1}}, {"session_state": 5}, {}], ids=repr
)
def test_one_kind_of_nothing_becomes_another(cache: Any, before: Any, after: Any) -> None:
    cache.upsert_session(a_session("s", session_data=before))
    session = cache.get_session("s")
    session.session_data = after
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == (after or {})


@pytest.mark.parametrize("value", [None, [1], "text", 5], ids=repr)
@pytest.mark.parametrize("is_loaded", [False, True], ids=["new", "loaded"])
def test_a_state_saved_as_something_else_replaces_the_whole_dict(
    cache: Any, value: Any, is_loaded: bool
) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": {"a": 1}, "x": 1}))
    session = cache.get_session("s") if is_loaded else a_session("s")
    cache.update_session_state("s", {"of another worker": 1})

    session.session_data["session_state"] = value
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == {"session_state": value, "x": 1}
    cache.update_session_state("s", {"k": 1})
    assert state_of(cache) == {"k": 1}


def test_metadata_saved_as_none_is_none_of_it(cache: Any) -> None:
    cache.upsert_session(a_session("s", metadata={"a": 1}))
    session = cache.get_session("s")
    other = cache.get_session("s")
    other.metadata["b"] = 1
    cache.upsert_session(other)

    session.metadata = None
    cache.upsert_session(session)

    assert cache.get_session("s").metadata == {}


def test_the_last_key_that_is_removed_leaves_an_empty_state(cache: Any) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": {"k": 1}}))

    cache.update_session_state("s", {}, remove={"k"})

    assert cache.get_session("s").session_data == {"session_state": {}}


@pytest.mark.parametrize(
    ("changes", "remove", "what"),
    [
        ({"k": 1}, ["k"], "both"),
        ({"k": 1}, "k", "remove"),
        ({"k": 1}, 5, "remove must be a list"),
        ({"k": 1}, None, "remove must be a list"),
        (["k"], (), "changes"),
        (None, (), "changes"),
        ({1: 1}, (), "str"),
        ({}, [1], "str"),
        ({"k": object()}, (), r"changes\['k'\]"),
        ({"k": {"deep": [object()]}}, (), r"changes\['k'\]\['deep'\]\[0\]"),
        ({"k": 2**70}, (), "64 bits"),
        ({"\ud800": 1}, (), "surrogate"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:12],
)
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_what_cannot_be_is_named_and_nothing_is_sent(
    cache: Any, changes: Any, remove: Any, what: str
) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match=what):
        cache.update_session_state("s", changes, remove=remove)

    assert len(trips) == 0


def test_a_missing_or_deleted_session_has_no_state(cache: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        cache.update_session_state("s", {"k": 1})
    cache.upsert_session(a_session("s"))
    cache.delete_session("s")
    with pytest.raises(SessionNotFoundError):
        cache.update_session_state("s", {"k": 1})

    assert cache.get_session("s") is None


def test_two_loaded_objects_that_change_different_keys_keep_both(cache: Any) -> None:
    data = {"session_state": {"a": 0, "b": 0, "gone": 0}, "name": "n"}
    cache.upsert_session(a_session("s", session_data=data, metadata={"m": 0}))
    one, two = cache.get_session("s"), cache.get_session("s")
    one.session_data["session_state"]["a"] = 1
    one.metadata["m1"] = 1
    two.session_data["session_state"]["b"] = 2
    del two.session_data["session_state"]["gone"]
    two.session_data["two"] = 2

    cache.upsert_session(one)
    cache.upsert_session(two)

    stored = cache.get_session("s")
    assert stored.session_data == {"session_state": {"a": 1, "b": 2}, "name": "n", "two": 2}
    assert stored.metadata == {"m": 0, "m1": 1}


# --- update_session


def test_a_change_is_made_saved_and_returned(cache: Any) -> None:
    cache.upsert_session(a_session("s", 2))

    def change(session: Any) -> None:
        session.metadata["n"] = len(session.runs)
        session.upsert_run(a_run("new", 9))

    updated = cache.update_session("s", change)

    assert updated == cache.get_session("s")
    assert (updated.metadata, ids(updated.runs)) == ({"n": 2}, ["r0", "r1", "new"])
    assert updated.rev == cache.get_session("s").rev


def test_a_change_sees_as_many_runs_as_it_asks_for_and_loses_none(cache: Any) -> None:
    cache.upsert_session(a_session("s", 5))
    seen = []

    cache.update_session("s", lambda session: seen.append(ids(session.runs)), last_n_runs=2)

    assert seen == [["r3", "r4"]]
    assert len(cache.get_session("s").runs) == 5


def test_after_a_conflict_the_change_is_made_again_on_what_is_stored_then(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", metadata={"n": 0}))
    seen = []

    def change(session: Any) -> None:
        seen.append(session.metadata["n"])
        if len(seen) < 4:
            other = writer.get_session("s")
            other.metadata["n"] += 10
            writer.upsert_session(other)
        session.metadata["n"] += 1

    cache.update_session("s", change)

    assert seen == [0, 10, 20, 30]
    assert cache.get_session("s").metadata == {"n": 31}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_conflicts_beyond_the_retries_are_an_error_and_nothing_is_stored(
    cache: Any, writer: Any, retries: int
) -> None:
    cache.upsert_session(a_session("s"))
    calls = []

    def change(session: Any) -> None:
        calls.append(1)
        session.metadata["mine"] = 1
        writer.update_session_state("s", {"theirs": len(calls)})

    with pytest.raises(SessionConflictError):
        cache.update_session("s", change, retries=retries)

    assert len(calls) == retries + 1
    assert cache.get_session("s").metadata == {}


def test_without_a_conflict_no_retry_is_needed(cache: Any) -> None:
    cache.upsert_session(a_session("s"))

    cache.update_session("s", lambda session: session.metadata.update(k=1), retries=0)

    assert cache.get_session("s").metadata == {"k": 1}


def test_conflicts_end_with_the_time_of_the_call(make_cache: Any, writer: Any) -> None:
    cache = make_cache(timeout=0.2)
    cache.upsert_session(a_session("s"))
    started = time.monotonic()

    # Where the time is over within a step, it is the step that fails.
    with pytest.raises((SessionConflictError, UnavailableError)):
        cache.update_session("s", lambda _: writer.update_session_state("s", {"k": 1}), retries=10**6)

    assert time.monotonic() - started < 2


@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_conflicts_without_end_do_no_harm(
    make_cache: Any, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "LONGEST_CONFLICT_PAUSE", 0.0)
    cache = make_cache(timeout=100)
    cache.upsert_session(a_session("s"))

    with pytest.raises(SessionConflictError):
        cache.update_session("s", lambda _: writer.update_session_state("s", {"k": 1}), retries=1100)


async def _count_up(session: Any) -> None:
    await asyncio.sleep(0)
    session.metadata["n"] = session.metadata.get("n", 0) + 1


class _Object:
    async def __call__(self, session: Any) -> None:
        await _count_up(session)


ASYNCHRONOUS = {
    "function": _count_up,
    "partial": partial(_count_up),
    "object": _Object(),
    "result": lambda session: _count_up(session),  # noqa: PLW0108 - no coroutine function
}


@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_an_asynchronous_change_is_awaited_and_refused_where_none_can_be(
    cache: Any, client_kind: str, kind: str
) -> None:
    cache.upsert_session(a_session("s"))

    with watched(cache) as trips:
        if client_kind == "sync":
            with pytest.raises(InvalidArgumentError, match="change must not be asynchronous"):
                cache.update_session("s", ASYNCHRONOUS[kind])
        else:
            assert cache.update_session("s", ASYNCHRONOUS[kind]).metadata == {"n": 1}

    assert cache.get_session("s").metadata == ({} if client_kind == "sync" else {"n": 1})
    if client_kind == "sync":
        assert len(trips) == (kind == "result"), "what a function returns is known when it has been called"


def test_an_asynchronous_change_is_made_again_after_a_conflict_and_may_raise(
    cache: Any, writer: Any, client_kind: str
) -> None:
    if client_kind == "sync":
        pytest.skip("a blocking client refuses it")
    cache.upsert_session(a_session("s", metadata={"n": 1}))
    met = []

    async def change(session: Any) -> None:
        met.append(session.metadata["n"])
        if len(met) == 1:
            writer.update_session("s", lambda other: other.metadata.update(n=10))
        await _count_up(session)
        if len(met) == 3:
            raise redis.ConnectionError("mine")

    cache.update_session("s", change)
    with pytest.raises(redis.ConnectionError, match="mine"):
        cache.update_session("s", change)

    assert met == [1, 10, 11]
    assert cache.get_session("s").metadata == {"n": 11}


def test_a_change_that_takes_longer_than_the_timeout_is_saved(
    cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.upsert_session(a_session("s"))
    later = [0]

    def change(session: Any) -> None:
        session.metadata["k"] = 1
        later[0] += 60

    with monkeypatch.context() as clock:
        for module in (update, retry):
            clock.setattr(module, "monotonic", lambda: time.monotonic() + later[0])
        cache.update_session("s", change)

    assert cache.get_session("s").metadata == {"k": 1}


class OddError(Exception):
    """Raised by a change."""


def test_what_a_change_raises_comes_out_and_nothing_is_stored(cache: Any) -> None:
    cache.upsert_session(a_session("s", 1, metadata={"k": 1}))
    before = cache.get_session("s")

    def change(session: Any) -> None:
        session.metadata.clear()
        session.runs.clear()
        raise OddError

    with pytest.raises(OddError):
        cache.update_session("s", change)

    assert cache.get_session("s") == before
    assert cache.get_session("s").rev == before.rev


@pytest.mark.parametrize(
    "error", [SessionConflictError("mine"), SessionNotFoundError("mine"), OSError("mine")], ids=repr
)
def test_errors_of_a_change_are_not_taken_for_those_of_the_cache(cache: Any, error: Exception) -> None:
    cache.upsert_session(a_session("s"))
    calls = []

    def change(session: Any) -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error), match="mine"):
        cache.update_session("s", change)

    assert len(calls) == 1


def test_what_cannot_be_stored_is_an_error_and_changes_nothing(cache: Any) -> None:
    cache.upsert_session(a_session("s"))

    with pytest.raises(UnserializableError, match="metadata"):
        cache.update_session("s", lambda session: session.metadata.update(k=object()))

    assert cache.get_session("s").metadata == {}


def test_a_missing_session_is_not_changed(cache: Any) -> None:
    calls: list[Any] = []

    with pytest.raises(SessionNotFoundError):
        cache.update_session("s", calls.append)

    assert calls == []


@pytest.mark.parametrize("anew", [False, True], ids=["gone", "made anew"])
def test_a_session_deleted_while_it_is_changed_is_not_stored(cache: Any, writer: Any, anew: bool) -> None:
    cache.upsert_session(a_session("s", 1))

    def change(session: Any) -> None:
        session.metadata["mine"] = 1
        writer.delete_session("s")
        if anew:
            writer.upsert_session(a_session("s", metadata={"new": 1}))

    with pytest.raises(SessionNotFoundError):
        cache.update_session("s", change)

    stored = cache.get_session("s")
    assert stored.metadata == {"new": 1} if anew else stored is None


@pytest.mark.parametrize(
    "wrong", [{"change": 5}, {"retries": -1}, {"retries": 1.5}, {"last_n_runs": "1"}], ids=str
)
def test_wrong_arguments_are_named(cache: Any, wrong: dict[str, Any]) -> None:
    arguments = {"change": lambda _: None, **wrong}

    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        cache.update_session("s", **arguments)


# --- many processes


def save_keys(cache: Any, worker: int) -> None:
    session = cache.get_session("s")
    for turn in range(TURNS):
        session.session_data["session_state"][f"{worker}.{turn}"] = turn
        cache.upsert_session(session)


def load_and_save_keys(cache: Any, worker: int) -> None:
    for turn in range(TURNS):
        session = cache.get_session("s")
        session.session_data["session_state"][f"{worker}.{turn}"] = turn
        cache.upsert_session(session)


def update_keys(cache: Any, worker: int) -> None:
    for turn in range(TURNS):
        cache.update_session_state("s", {f"{worker}.{turn}": turn})


def increment(cache: Any, worker: int) -> None:
    def change(session: Any) -> None:
        session.session_data["session_state"]["n"] += 1

    for _ in range(TURNS):
        cache.update_session("s", change, retries=10_000)


def work(url: str, barrier: Any, job: Callable[[Any, int], None], worker: int) -> None:
    with SessionCache.from_url(url, ttl=3600, timeout=60) as cache:
        cache.get_session("s")
        barrier.wait(LONGEST_START)
        job(cache, worker)


def run_in_processes(server: RedisServer, job: Callable[[Any, int], None], before: dict[str, Any]) -> Any:
    """Let processes do a job at the same time; return the state they leave."""
    admin = server.client()
    admin.flushall()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with SessionCache.from_url(server.url, ttl=3600) as cache:
        cache.upsert_session(a_session("s", 3, session_data={"session_state": before}))
        workers = [
            context.Process(target=work, args=(server.url, barrier, job, worker))
            for worker in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(2 * LONGEST_START)
        codes = [worker.exitcode for worker in workers]
        for worker in workers:
            worker.kill()
            worker.join()
        assert codes == [0] * PROCESSES
        assert len(cache.get_session("s").runs) == 3
        left = state_of(cache)
    admin.flushall()
    return left


@pytest.mark.parametrize("job", [save_keys, load_and_save_keys, update_keys], ids=lambda job: job.__name__)
def test_no_key_of_eight_processes_is_lost(
    redis_server: RedisServer, job: Callable[[Any, int], None]
) -> None:
    left = run_in_processes(redis_server, job, {"first": 1})

    keys = {f"{worker}.{turn}": turn for worker in range(PROCESSES) for turn in range(TURNS)}
    assert left == {"first": 1} | keys


def test_no_increment_of_eight_processes_is_lost(redis_server: RedisServer) -> None:
    left = run_in_processes(redis_server, increment, {"n": 0})

    assert left == {"n": PROCESSES * TURNS}
