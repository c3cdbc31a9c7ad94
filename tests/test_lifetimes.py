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
    "touch_session": lambda cache: cache.touch_session("s"),
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
    """Tell whether a lifetime was set to so many milliseconds a moment ago."""
    return milliseconds - SLOW < left <= milliseconds


@pytest.fixture
def for_a_minute(make_cache: Any) -> None:
    """Session `s` with two runs, which lives for a minute."""
    make_cache(ttl=60).upsert_session(a_session("s", 2, user_id="u"))


# writes


def test_a_new_session_lives_as_long_as_said(cache: Any, left: Callable[[], int]) -> None:
    cache.upsert_session(a_session("s", 1))

    assert lives(left(), HOUR)


@pytest.mark.usefixtures("for_a_minute")
@pytest.mark.parametrize("write", WRITES)
def test_writes_start_the_lifetime_anew(make_cache: Any, left: Callable[[], int], write: str) -> None:
    WRITES[write](make_cache(ttl=timedelta(milliseconds=123_456)))

    assert lives(left(), 123_456)


@pytest.mark.usefixtures("for_a_minute")
@pytest.mark.parametrize("write", sorted(WRITES.keys() - {"touch_session"}))
def test_writes_without_a_ttl_leave_it(make_cache: Any, left: Callable[[], int], write: str) -> None:
    WRITES[write](make_cache(ttl=None))

    assert lives(left(), MINUTE)


@pytest.mark.parametrize("write", ["upsert_session", "upsert_run", "upsert_runs"])
def test_a_first_run_lives_as_its_session(make_cache: Any, left: Callable[[], int], write: str) -> None:
    make_cache(ttl=60).upsert_session(WorkflowSession("s"))

    WRITES[write](make_cache(ttl=None))

    assert lives(left(), MINUTE)


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
@pytest.mark.parametrize("write", WRITES)
def test_without_a_ttl_for_ever(make_cache: Any, left: Callable[[], int], write: str) -> None:
    cache = make_cache(ttl=None)
    cache.upsert_session(a_session("s", 2))
    WRITES[write](cache)

    assert left() == -1


def test_a_write_with_a_ttl_ends_for_ever(make_cache: Any, left: Callable[[], int]) -> None:
    make_cache(ttl=None).upsert_session(a_session("s", 2))
    make_cache(ttl=60).upsert_run("s", a_run("r1"))

    assert lives(left(), MINUTE)


# touching


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [(30, 30_000), (timedelta(seconds=30), 30_000), (timedelta(seconds=29, milliseconds=999.9), 30_000)],
    ids=str,
)
def test_touching_sets_the_lifetime(
    cache: Any, left: Callable[[], int], ttl: int | timedelta, milliseconds: int
) -> None:
    cache.upsert_session(a_session("s", 1))

    assert cache.touch_session("s", ttl)
    assert lives(left(), milliseconds)


@pytest.mark.keys_without_ttl
def test_touching_with_none_is_for_ever(cache: Any, left: Callable[[], int]) -> None:
    cache.upsert_session(a_session("s", 1))

    assert cache.touch_session("s", None)
    assert left() == -1


def test_touching_changes_nothing_else(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", 1))
    meta, runs = keys.session_keys(caches.prefix, "s")
    before = admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)

    cache.touch_session("s", 30)

    assert (admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)) == before


# reads


@pytest.mark.usefixtures("for_a_minute")
@pytest.mark.parametrize("options", [{"ttl": 3600}, {"ttl": None, "touch_on_read": True}], ids=str)
@pytest.mark.parametrize("read", READS)
def test_reads_leave_the_lifetime(
    make_cache: Any, left: Callable[[], int], read: str, options: dict[str, Any]
) -> None:
    assert READS[read](make_cache(**options))
    assert lives(left(), MINUTE)


@pytest.mark.usefixtures("for_a_minute")
@pytest.mark.parametrize("read", READS)
def test_touching_reads_start_it_anew(make_cache: Any, left: Callable[[], int], read: str) -> None:
    assert READS[read](make_cache(ttl=3600, touch_on_read=True))
    assert lives(left(), HOUR)


@pytest.mark.usefixtures("for_a_minute")
def test_another_users_read_does_not_touch(make_cache: Any, left: Callable[[], int]) -> None:
    assert make_cache(touch_on_read=True).get_session("s", user_id="v") is None
    assert lives(left(), MINUTE)


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize("longer", [3600, None], ids=["an hour", "for ever"])
@pytest.mark.parametrize("read", READS)
def test_reads_shorten_no_life(make_cache: Any, left: Callable[[], int], read: str, longer: int) -> None:
    cache = make_cache(ttl=60, touch_on_read=True)
    cache.upsert_session(a_session("s", 2, user_id="u"))
    cache.touch_session("s", longer)

    assert READS[read](cache)

    assert left() == -1 if longer is None else lives(left(), HOUR)


def test_nothing_is_touched_that_is_not_there(make_cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache = make_cache(touch_on_read=True)

    assert cache.get_session("s") is None
    assert cache.get_sessions(["s", "t"]) == [None, None]
    assert [cache.touch_session("s"), cache.touch_session("s", 30)] == [False, False]
    assert admin.keys(f"{caches.prefix}*") == []
