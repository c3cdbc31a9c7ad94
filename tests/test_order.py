"""The order of runs, and trimming, however long a session lives and whatever its counters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import InvalidArgumentError
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    import redis

    from support.subjects import Caches

SECOND = 2**20
"""Places for the runs of one second."""

BOUNDS = [SECOND - 3, 2**32 - 3, 2**53 - 3, 2**53]
"""Numbers of runs ever added, near which something could wrap."""


@pytest.mark.parametrize("added", BOUNDS)
def test_runs_of_one_second_stay_in_the_order_of_arrival(
    cache: Any, caches: Caches, admin: redis.Redis, added: int
) -> None:
    cache.upsert_session(a_session("s", [a_run("first", 5), a_run("later", 6)]))
    admin.hset(f"{caches.prefix}:{{s}}:meta", "seq", added)
    expected = [f"r{number}" for number in range(8)]

    for run_id in expected[:4]:
        cache.upsert_run("s", a_run(run_id, 5))
    cache.upsert_runs("s", [a_run(run_id, 5) for run_id in expected[4:]])

    assert ids(cache.get_runs("s")) == ["first", *expected, "later"]
    assert [run.run_id for run in cache.iter_runs("s", page_size=2)] == ["first", *expected, "later"]


@pytest.mark.parametrize("added", BOUNDS)
def test_the_oldest_run_is_trimmed_and_never_the_new_one(
    make_cache: Any, caches: Caches, admin: redis.Redis, added: int
) -> None:
    cache = make_cache(max_runs=3)
    cache.upsert_session(a_session("s"))
    admin.hset(f"{caches.prefix}:{{s}}:meta", "seq", added)

    for number in range(8):
        cache.upsert_run("s", a_run(f"r{number}", 5))

    assert ids(cache.get_runs("s")) == ["r5", "r6", "r7"]


def test_a_second_that_is_full_refuses_one_more_run_and_no_other(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(a_session("s", [a_run("last", 5)]))
    runs = f"{caches.prefix}:{{s}}:runs"
    order = 5 * SECOND + SECOND - 1
    for member, _ in admin.zrange(runs, 0, -1, withscores=True):
        admin.zadd(runs, {member: {b"b": -order, b"i": order / 2.0**60, b"h": order}[member[:1]]})
    before = admin.hgetall(f"{caches.prefix}:{{s}}:meta")

    with pytest.raises(InvalidArgumentError, match="created_at") as caught:
        cache.upsert_runs("s", [a_run("fits", 6), a_run("one more", 5)])

    assert (caught.value.session_id, caught.value.run_id) == ("s", "one more")
    assert admin.hgetall(f"{caches.prefix}:{{s}}:meta") == before
    cache.upsert_run("s", a_run("next", 6))
    cache.upsert_run("s", a_run("last", 5, content="replaced"))
    assert ids(cache.get_runs("s")) == ["last", "next"]


def test_a_run_of_the_first_second_of_all_has_a_place(cache: Any) -> None:
    cache.upsert_session(a_session("s", [a_run("a", 0), a_run("b", 0)]))

    assert ids(cache.get_session("s").runs) == ["a", "b"]
