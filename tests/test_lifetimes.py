"""Both keys of a session expire together; writes, and reads if so wanted, start the lifetime anew."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import WorkflowSession
from sessioncache.storage import keys, scripts
from support.interleaving import watched
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

MINUTE, HOUR = 60_000, 3_600_000
SLOW = 10_000
"""Milliseconds that a test may take between setting a lifetime and asking for it."""

WRITES: dict[str, Callable[[Any], object]] = {
    "upsert_session": lambda cache: cache.upsert_session(a_session("s", 3)),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("r2")),
    "upsert_run again": lambda cache: cache.upsert_run("s", a_run("r1")),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run("r2"), a_run("r3")]),
    "delete_run": lambda cache: cache.delete_run("s", "r0"),
    "rename_session": lambda cache: cache.rename_session("s", "new"),
}
READS: dict[str, Callable[[Any], object]] = {
    "get_session": lambda cache: cache.get_session("s"),
    "metadata": lambda cache: cache.get_session("s", last_n_runs=0),
    "get_sessions": lambda cache: cache.get_sessions(["other", "s"]),
    "of its user": lambda cache: cache.get_session("s", user_id="u"),
    "get_run": lambda cache: cache.get_run("s", "r1"),
    "get_runs": lambda cache: cache.get_runs("s", last_n_runs=1),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
    "refresh": lambda cache: cache.refresh(cache.get_session("s")) is False,
}


@pytest.fixture
def left(caches: Caches, admin: redis.Redis) -> Callable[[], int]:
    """What tells the PTTL of session `s`; both keys must have the same, so it asks until no time passes."""

    def ask() -> int:
        meta, runs = keys.session_keys(caches.prefix, "s")
        for _ in range(1000):
            with admin.pipeline() as pipeline:
                before, other, after = pipeline.pttl(meta).pttl(runs).pttl(meta).execute()
            if before == after:
                assert other == before
                return int(before)
        raise AssertionError("the server is too slow to be asked within one millisecond")

    return ask


def lives(left: int, milliseconds: int) -> bool:
    """Tell whether a lifetime was set to so many milliseconds a moment ago, -1 for ever."""
    return left == milliseconds if milliseconds == -1 else milliseconds - SLOW < left <= milliseconds


# writes


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize(
    ("had", "ttl", "expected"),
    [
        (60, timedelta(milliseconds=123_456), 123_456),
        (60, None, MINUTE),
        (None, 60, MINUTE),
        (None, None, -1),
    ],
    ids=["anew", "left alone", "not for ever", "for ever"],
)
@pytest.mark.parametrize(
    ("write", "runs"),
    [*((write, 2) for write in WRITES), *((write, 0) for write in WRITES if write.startswith("upsert_"))],
)
def test_writes(
    make_cache: Any, left: Callable[[], int], write: str, runs: int, had: Any, ttl: Any, expected: int
) -> None:
    """A write begins the lifetime of its cache, if that has any; the first run lives as its session."""
    make_cache(ttl=had).upsert_session(a_session("s", runs))

    WRITES[write](make_cache(ttl=ttl))

    assert lives(left(), expected)


def test_a_first_run_in_the_last_millisecond(make_cache: Any, admin: redis.Redis, caches: Caches) -> None:
    """It does not outlive its session. The script is told that no time is left, for no test can hit that."""
    make_cache().upsert_session(WorkflowSession("s"))
    cache = make_cache(ttl=None)
    with watched(cache) as trips:
        cache.upsert_run("s", a_run("r0"))
    cache.delete_run("s", "r0")
    (_evalsha, _, *arguments), *_ = trips.requests[-1]
    ending = b"""
        local real = redis
        local function call(name, ...) if name == 'PTTL' then return 0 end return real.call(name, ...) end
        local redis = {call = call, pcall = real.pcall}
    """
    admin.execute_command("EVAL", ending + scripts.UPSERT_RUNS, *arguments)

    assert -1 not in [admin.pttl(key) for key in keys.session_keys(caches.prefix, "s")]


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (3600, (), HOUR),
        (None, (), -1),
        (3600, (30,), 30_000),
        (None, (timedelta(seconds=30),), 30_000),
        (3600, (timedelta(seconds=29, milliseconds=999.9),), 30_000),
        (3600, (None,), -1),
    ],
    ids=str,
)
def test_touching(make_cache: Any, left: Callable[[], int], own: Any, given: Any, expected: int) -> None:
    make_cache(ttl=60).upsert_session(a_session("s", 1))

    assert make_cache(ttl=own).touch_session("s", *given)
    assert lives(left(), expected)


def test_touching_changes_nothing_else(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", 1))
    meta, runs = keys.session_keys(caches.prefix, "s")
    before = admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)

    cache.touch_session("s", 30)

    assert (admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)) == before


# reads


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize(
    ("had", "ttl", "touches", "expected"),
    [
        (60, 3600, False, MINUTE),
        (60, None, True, MINUTE),
        (60, 3600, True, HOUR),
        (3600, 60, True, HOUR),
        (None, 60, True, -1),
    ],
    ids=["plain", "without a ttl", "touching", "touching a longer life", "touching for ever"],
)
@pytest.mark.parametrize("read", READS)
def test_reads(
    make_cache: Any, left: Callable[[], int], read: str, had: Any, ttl: Any, touches: bool, expected: int
) -> None:
    make_cache(ttl=had).upsert_session(a_session("s", 2, user_id="u"))

    assert READS[read](make_cache(ttl=ttl, touch_on_read=touches))

    assert lives(left(), expected)


def test_another_users_read_does_not_touch(make_cache: Any, left: Callable[[], int]) -> None:
    make_cache(ttl=60).upsert_session(a_session("s", 2, user_id="u"))

    assert make_cache(touch_on_read=True).get_session("s", user_id="v") is None
    assert lives(left(), MINUTE)


def test_nothing_is_touched_that_is_not_there(make_cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache = make_cache(touch_on_read=True)

    assert cache.get_session("s") is None
    assert cache.get_sessions(["s", "t"]) == [None, None]
    assert [cache.touch_session("s"), cache.touch_session("s", 30)] == [False, False]
    assert admin.keys(f"{caches.prefix}*") == []
