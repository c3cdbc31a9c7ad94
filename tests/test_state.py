"""State that many workers change: single keys without a load, whole sessions again on a conflict."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis

from faults.reaching import within
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
    from support.subjects import Caches


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


class Key(str, Enum):  # noqa: UP042 - as users write it
    MOOD = "mood"


# --- update_session_state


def test_keys_are_set_and_removed_in_one_round_trip(cache: Any) -> None:
    """All others are left, and nothing is read."""
    cache.upsert_session(a_session("s", 1, session_data={"session_state": {"a": 1, "b": 2, "c": 3}, "x": 1}))
    cache.update_session_state("s", {"warm-up": 1})

    with watched(cache) as trips:
        cache.update_session_state("s", {"a": {"deep": [1]}, "new": None}, remove=["b", "absent", "warm-up"])

    session = cache.get_session("s")
    assert trips.names() == ["EVALSHA"]
    assert session.session_data == {"session_state": {"a": {"deep": [1]}, "c": 3, "new": None}, "x": 1}
    assert ids(session.runs) == ["r0"]


ODD_KEYS = ["", "a.b", ".", "session_state", "ü", "a" * 1000, "with space\n", "{x}", Key.MOOD]


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("rest", [{}, {"other": 1}], ids=["alone", "beside"])
def test_any_text_is_a_key(cache: Any, key: str, rest: dict[str, Any]) -> None:
    """A str enum is the key that its value is; without its last key a state is empty."""
    cache.upsert_session(a_session("s", session_data={"session_state": {key: 0, **rest}}))
    text = str.__str__(key)

    for change, kept in ((({},), {text: 0}), (({key: 1},), {text: 1}), (({}, {key}), {})):
        cache.update_session_state("s", change[0], remove=change[1] if len(change) > 1 else ())
        assert cache.get_session("s").session_data == {"session_state": {**kept, **rest}}


NO_STATES = [{}, {"x": 1}, *({"session_state": state} for state in (None, [], [1, 2], "text", 5, False))]


@pytest.mark.parametrize("before", NO_STATES, ids=str)
def test_what_is_no_state_is_replaced(cache: Any, before: dict[str, Any]) -> None:
    cache.upsert_session(a_session("s", session_data=before))

    cache.update_session_state("s", {"k": 1})

    assert cache.get_session("s").session_data == {**before, "session_state": {"k": 1}}


@pytest.mark.parametrize("value", [None, [1], "text", 5], ids=repr)
@pytest.mark.parametrize("is_loaded", [False, True], ids=["new", "loaded"])
def test_a_state_saved_as_no_dict_replaces_every_key(cache: Any, value: Any, is_loaded: bool) -> None:
    cache.upsert_session(a_session("s", session_data={"session_state": {"a": 1}, "x": 1}))
    session = cache.get_session("s") if is_loaded else a_session("s")
    cache.update_session_state("s", {"of another worker": 1})

    session.session_data["session_state"] = value
    cache.upsert_session(session)

    assert cache.get_session("s").session_data == {"session_state": value, "x": 1}


@pytest.mark.parametrize(
    ("changes", "remove", "what"),
    [
        ({"k": 1}, ["k"], "both"),
        *(({"k": 1}, remove, "remove must be a list") for remove in ("k", 5, None)),
        *((changes, (), "changes") for changes in (["k"], None)),
        *(
            ({1: 1}, (), "str"),
            ({}, [1], "str"),
            ({"k": 10**5000}, (), "too long"),
        ),
        ({"k": object()}, (), r"changes\['k'\]"),
        ({"k": {"deep": [object()]}}, (), r"changes\['k'\]\['deep'\]\[0\]"),
    ],
)
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_what_cannot_be_is_named(cache: Any, changes: Any, remove: Any, what: str) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match=what):
        cache.update_session_state("s", changes, remove=remove)

    assert len(trips) == 0


def test_an_absent_session_has_no_state(cache: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        cache.update_session_state("s", {"k": 1})
    cache.upsert_session(a_session("s"))
    cache.delete_session("s")
    with pytest.raises(SessionNotFoundError):
        cache.update_session_state("s", {"k": 1})

    assert cache.get_session("s") is None


# --- update_session


def nothing(_: Any) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("options", "seen"), [({}, ["r0", "r1", "r2"]), ({"last_n_runs": 1}, ["r2"])], ids=str
)
def test_a_change_is_made_saved_and_returned(cache: Any, options: Any, seen: list[str]) -> None:
    cache.upsert_session(a_session("s", 3))

    def change(session: Any) -> None:
        session.metadata["seen"] = ids(session.runs)
        session.upsert_run(a_run("new", 9))

    updated = cache.update_session("s", change, retries=0, **options)

    stored = cache.get_session("s")
    assert (updated.metadata, updated.rev, ids(updated.runs)) == ({"seen": seen}, stored.rev, [*seen, "new"])
    assert (stored.metadata, ids(stored.runs)) == ({"seen": seen}, ["r0", "r1", "r2", "new"])


@pytest.mark.parametrize(("retries", "conflicts"), [(0, 0), (3, 3), (0, 1), (1, 2), (3, 4)])
def test_after_a_conflict_the_change_is_made_again(
    cache: Any, writer: Any, retries: int, conflicts: int
) -> None:
    """On what is stored then; if the retries are used up, nothing is stored."""
    cache.upsert_session(a_session("s", metadata={"n": 0}))
    seen = []

    def change(session: Any) -> None:
        seen.append(session.metadata["n"])
        if len(seen) <= conflicts:
            writer.update_session("s", lambda other: other.metadata.update(n=10 * len(seen)))
        session.metadata["n"] += 1

    if conflicts <= retries:
        assert cache.update_session("s", change, retries=retries).metadata == {"n": 10 * conflicts + 1}
    else:
        with pytest.raises(SessionConflictError):
            cache.update_session("s", change, retries=retries)

    assert seen == [10 * turn for turn in range(min(retries, conflicts) + 1)]
    assert cache.get_session("s").metadata == {"n": 10 * conflicts + (conflicts <= retries)}


def test_conflicts_end_with_the_time_of_the_call(make_cache: Any, writer: Any) -> None:
    cache = make_cache(timeout=0.2)
    cache.upsert_session(a_session("s"))

    # If the time is over within a step, it is the step that fails.
    with within(0.2), pytest.raises((SessionConflictError, UnavailableError)):
        cache.update_session("s", lambda _: writer.update_session_state("s", {"k": 1}), retries=10**6)


@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_a_thousand_conflicts_do_no_harm(make_cache: Any, writer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(update, "LONGEST_CONFLICT_PAUSE", 0.0)
    cache = make_cache(timeout=100)
    cache.upsert_session(a_session("s"))

    with pytest.raises(SessionConflictError):
        cache.update_session("s", lambda _: writer.update_session_state("s", {"k": 1}), retries=1100)


def test_the_time_of_a_change_is_not_that_of_the_call(cache: Any, monkeypatch: Any) -> None:
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


# --- asynchronous changes


async def count_up(session: Any) -> None:
    await asyncio.sleep(0)
    session.metadata["n"] = session.metadata.get("n", 0) + 1


class Counter:
    async def __call__(self, session: Any) -> None:
        await count_up(session)


ASYNCHRONOUS = {
    "function": count_up,
    "partial": partial(count_up),
    "object": Counter(),
    "result": lambda session: count_up(session),  # noqa: PLW0108 - no coroutine function
}


@pytest.mark.parametrize("kind", ASYNCHRONOUS)
def test_an_asynchronous_change_is_awaited_or_refused(cache: Any, client_kind: str, kind: str) -> None:
    """A blocking client refuses it: at once, or, if the function only returns it, once it has been called."""
    cache.upsert_session(a_session("s"))
    is_awaited = client_kind == "async"

    with watched(cache) as trips:
        if is_awaited:
            assert cache.update_session("s", ASYNCHRONOUS[kind]).metadata == {"n": 1}
        else:
            with pytest.raises(InvalidArgumentError, match="change must not be asynchronous"):
                cache.update_session("s", ASYNCHRONOUS[kind])

    assert cache.get_session("s").metadata == ({"n": 1} if is_awaited else {})
    assert is_awaited or len(trips) == (kind == "result")


def test_an_asynchronous_change_is_made_again(cache: Any, writer: Any, client_kind: str) -> None:
    """After a conflict; and it may raise an error of redis, which is not taken for the cache's own."""
    if client_kind == "sync":
        pytest.skip("a blocking client refuses it")
    cache.upsert_session(a_session("s", metadata={"n": 1}))
    met = []

    async def change(session: Any) -> None:
        met.append(session.metadata["n"])
        if len(met) == 1:
            writer.update_session("s", lambda other: other.metadata.update(n=10))
        await count_up(session)
        if len(met) == 3:
            raise redis.ConnectionError("mine")

    cache.update_session("s", change)
    with pytest.raises(redis.ConnectionError, match="mine"):
        cache.update_session("s", change)

    assert met == [1, 10, 11]
    assert cache.get_session("s").metadata == {"n": 11}


# --- what a change raises


@pytest.mark.parametrize(
    "error",
    [KeyError("mine"), OSError("mine"), SessionConflictError("mine"), SessionNotFoundError("mine")],
    ids=repr,
)
def test_what_a_change_raises_comes_out(cache: Any, error: Exception) -> None:
    """It is not taken for an error of the cache, and nothing is stored."""
    cache.upsert_session(a_session("s", 1, metadata={"k": 1}))
    before = cache.get_session("s")
    calls = []

    def change(session: Any) -> None:
        calls.append(1)
        session.metadata.clear()
        session.runs.clear()
        raise error

    with pytest.raises(type(error), match="mine"):
        cache.update_session("s", change)

    assert len(calls) == 1
    assert cache.get_session("s") == before
    assert cache.get_session("s").rev == before.rev


def test_a_change_to_what_cannot_be_stored_changes_nothing(cache: Any) -> None:
    cache.upsert_session(a_session("s"))

    with pytest.raises(UnserializableError, match="metadata"):
        cache.update_session("s", lambda session: session.metadata.update(k=object()))

    assert cache.get_session("s").metadata == {}


@pytest.mark.parametrize("before", ["absent", "gone", "made anew"])
def test_a_session_that_is_gone_is_not_changed(cache: Any, writer: Any, before: str) -> None:
    if before != "absent":
        cache.upsert_session(a_session("s", 1))
    calls = []

    def change(session: Any) -> None:
        calls.append(1)
        session.metadata["mine"] = 1
        writer.delete_session("s")
        if before == "made anew":
            writer.upsert_session(a_session("s", metadata={"new": 1}))

    with pytest.raises(SessionNotFoundError):
        cache.update_session("s", change)

    stored = cache.get_session("s")
    assert len(calls) == (before != "absent")
    assert stored.metadata == {"new": 1} if before == "made anew" else stored is None


@pytest.mark.parametrize(
    "wrong", [{"change": 5}, {"retries": -1}, {"retries": 1.5}, {"last_n_runs": "1"}], ids=str
)
def test_wrong_arguments_are_named(cache: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        cache.update_session("s", **{"change": nothing, **wrong})
