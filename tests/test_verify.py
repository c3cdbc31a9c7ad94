"""Walking all sessions, measuring them, and finding what is wrong with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import DamagedSessionError, InvalidArgumentError
from sessioncache.storage.checks import DAMAGES, KINDS
from support.interleaving import watched
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = 2.0**60


class Planter:
    """Plants damage in session `s`, which has three runs, user `u` and workflow `w`."""

    def __init__(self, admin: Any, prefix: str) -> None:
        self.admin, self.prefix = admin, prefix
        self.meta, self.runs = self.key("{s}:meta"), self.key("{s}:runs")

    def key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def replace(self, low: float | str, high: float | str, member: bytes) -> None:
        """Have another member in place of the first one between two scores."""
        old, score = self.admin.zrangebyscore(self.runs, low, high, withscores=True)[0]
        self.admin.zrem(self.runs, old)
        self.admin.zadd(self.runs, {member: score})

    def rename(self) -> None:
        for part in ("meta", "runs"):
            self.admin.rename(self.key(f"{{s}}:{part}"), self.key(f"{{t}}:{part}"))


def without_body(plant: Planter) -> None:
    plant.admin.zremrangebyrank(plant.runs, 0, 0)


def of_other_type(plant: Planter) -> None:
    plant.admin.delete(plant.runs)
    plant.admin.set(plant.runs, "foreign")


PLANTED: dict[str, tuple[str, Callable[[Planter], Any]]] = {
    "metadata gone": ("no-metadata", lambda plant: plant.admin.delete(plant.meta)),
    "runs gone": ("no-runs", lambda plant: plant.admin.delete(plant.runs)),
    "a key of another type": ("wrong-type", of_other_type),
    "a counter that is none": ("counters", lambda plant: plant.admin.hset(plant.meta, "seq", "x")),
    "a counter missing": ("counters", lambda plant: plant.admin.hdel(plant.meta, "born")),
    "a wrong count": ("count", lambda plant: plant.admin.hset(plant.meta, "count", 7)),
    "a run without its body": ("order", without_body),
    "a head that does not decode": ("head", lambda plant: plant.replace(1, "+inf", b"h:1:\x01\xc1")),
    "a head of another run": ("head", lambda plant: plant.replace(1, "+inf", b"h:1:\x01\x81\xa6run_id\xa1x")),
    "a body that does not decode": ("body", lambda plant: plant.replace("-inf", -1, b"b\x01\xc1")),
    "a field that does not decode": (
        "field",
        lambda plant: plant.admin.hset(plant.meta, "metadata.x", b"\x01\xc1"),
    ),
    "the name of another": ("name", Planter.rename),
    "lifetimes that differ": ("ttl", lambda plant: plant.admin.expire(plant.runs, 5000)),
    "another version": ("version", lambda plant: plant.admin.hset(plant.meta, "schema", "9")),
    "not listed": ("unlisted", lambda plant: plant.admin.zrem(plant.key("index:user:u"), "s")),
    "listed too early": ("score", lambda plant: plant.admin.zadd(plant.key("index:all"), {"s": 5})),
    "listed and gone": ("stray", lambda plant: plant.admin.zadd(plant.key("index:all"), {"gone": 5})),
    "listed elsewhere": ("stray", lambda plant: plant.admin.zadd(plant.key("index:user:other"), {"s": 5})),
    "an index of another type": ("index-type", lambda plant: plant.admin.set(plant.key("index:user:z"), 1)),
    "a shard outside a cluster": (
        "outdated-index",
        lambda plant: plant.admin.zadd(plant.key("index:all:{1}"), {"s": 5}),
    ),
}


@pytest.fixture
def plant(cache: Any, admin: Any, caches: Any) -> Planter:
    cache.upsert_session(a_session("s", runs=3, user_id="u", workflow_id="w", metadata={"k": 1}))
    cache.upsert_session(a_session("other", runs=1, user_id="u", workflow_id="w"))
    assert cache.verify().problems == []
    return Planter(admin, caches.prefix)


def test_every_kind_is_planted_here() -> None:
    assert {kind for kind, _ in PLANTED.values()} == KINDS.keys()


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_wrong_is_named_and_what_can_be_is_healed(cache: Any, plant: Planter, what: str) -> None:
    kind, damage = PLANTED[what]
    damage(plant)

    found = cache.verify()
    assert kind in {problem.kind for problem in found.problems}
    assert found.is_clean == (kind == "version")
    repaired = cache.verify(repair=True)
    assert all(problem.is_repaired == problem.is_repairable for problem in repaired.problems)
    is_healed = cache.verify().is_clean
    assert is_healed == (kind not in DAMAGES or kind == "count")
    if not is_healed:
        cache.verify(repair=True, delete_damaged=True)
        assert cache.verify(repair=True).is_clean
    assert cache.get_session("other") is not None
    assert len(cache.list_sessions(user_id="u").sessions) == (1 if cache_has_lost(cache, kind) else 2)


def cache_has_lost(cache: Any, kind: str) -> bool:
    """Whether session `s` is gone, or cannot be read."""
    if kind == "version":
        return True
    return cache.get_session("s", last_n_runs=0) is None


def test_each_session_is_counted_once(cache: Any) -> None:
    """Of two keys, which a scan meets one by one."""
    for number in range(700):
        cache.upsert_session(a_session(f"s{number}", runs=1))

    report = cache.verify()
    assert (report.sessions, report.runs, report.index_entries) == (700, 700, 700)


def test_a_run_that_does_not_decode_is_deleted_alone(cache: Any, plant: Planter) -> None:
    plant.replace("-inf", -1, b"b\x01\xc1")
    cache.verify(repair=True, delete_damaged=True)

    assert [run.run_id for run in cache.get_session("s").runs] == ["r0", "r1"]


def test_progress_is_told_and_checked(cache: Any, plant: Planter) -> None:
    told: list[int] = []
    cache.verify(progress=told.append)
    cache.stats(progress=told.append)

    assert max(told) == 2
    for call in (cache.verify, cache.stats):
        with pytest.raises(InvalidArgumentError, match="progress"):
            call(progress=5)


# --- stats and lifetimes


def test_stats_measure_lengths_and_lifetimes(make_cache: Any) -> None:
    cache = make_cache(ttl=None)
    for number in range(10):
        cache.upsert_session(a_session(f"s{number}", runs=number))
    cache.touch_session("s1", 60)

    found = cache.stats()
    assert (found.sessions, found.runs, found.without_ttl, found.expiring_within_hour) == (10, 45, 9, 1)
    assert (found.runs_at(50), found.runs_at(100)) == (5, 9)
    assert found.formats == {"plain": 9}
    assert {each.runs for each in found.largest} == set(range(10))
    assert cache.stats(sample=3).is_sample
    assert cache.stats(sample=3).sessions >= 3


def test_lifetimes_are_told(make_cache: Any) -> None:
    cache = make_cache(ttl=None)
    cache.upsert_session(a_session("s"))
    cache.upsert_session(a_session("t"))
    cache.touch_session("t", 60)

    with watched(cache) as trips:
        forever, soon, never = cache.get_ttls(["s", "t", "none"])
    assert len(trips) == 1
    assert (forever, never) == (math.inf, None)
    assert 50 < soon <= 60
    with pytest.raises(InvalidArgumentError, match="session_ids"):
        cache.get_ttls("s")


# --- walks


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_a_walk_meets_every_session_once_while_others_write(cache: Any, page_size: int) -> None:
    """Also if all were written in one second, and one that was met is written again, and one that was not."""
    names = [f"s{number}" for number in range(12)]
    for name in names:
        cache.upsert_session(a_session(name, user_id="u" if name < "s5" else "v"))
    walk = cache.iter_sessions(page_size=page_size)
    found = [next(walk).session_id]
    for name in (found[0], "s9"):
        cache.upsert_run(name, a_run("r"))
    cache.upsert_session(a_session("new"))
    found += [session.session_id for session in walk]

    assert len(found) == len(set(found))
    assert set(names) <= set(found) <= {*names, "new"}


def test_a_walk_filters(cache: Any) -> None:
    for number in range(6):
        data = {"session_name": f"Name {number}"}
        fields: dict[str, Any] = {"user_id": f"u{number % 2}", "workflow_id": "w"}
        cache.upsert_session(a_session(f"s{number}", session_data=data, created_at=number, **fields))

    def ids(**by: Any) -> list[str]:
        return sorted(session.session_id for session in cache.iter_sessions(page_size=2, **by))

    assert ids(user_id="u1") == ["s1", "s3", "s5"]
    assert ids(user_id="u1", workflow_id="w", created_after=2) == ["s3", "s5"]
    assert ids(name="name 4") == ["s4"]
    assert ids(workflow_id="none") == []
    for wrong in ({"page_size": 0}, {"user_id": 5}, {"created_before": "x"}):
        with pytest.raises(InvalidArgumentError):
            list(cache.iter_sessions(**wrong))


def test_a_walk_over_an_index_of_another_type_is_an_error(cache: Any, admin: Any, caches: Any) -> None:
    admin.set(f"{caches.prefix}:index:all", "foreign", ex=60)

    with pytest.raises(DamagedSessionError):
        list(cache.iter_sessions())


def test_a_walk_goes_on_while_all_is_written(cache: Any) -> None:
    """Who was never met moves to the end, and is met there."""
    names = [f"s{number}" for number in range(20)]
    for name in names:
        cache.upsert_session(a_session(name))
    found = []
    for session in cache.iter_sessions(page_size=3):
        found.append(session.session_id)
        for name in names:
            cache.update_session_state(name, {"k": len(found)})

    assert sorted(found) == sorted(names)
