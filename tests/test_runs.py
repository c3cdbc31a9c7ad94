"""Single runs: their order and place, attempts, what goes when there are too many, and large ones."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import InvalidArgumentError, RunTooLargeError, SessionNotFoundError, StaleRunError
from sessioncache.operations import packed_runs
from sessioncache.storage import codec, keys
from support.interleaving import watched
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches


def runs(text: str) -> list[Any]:
    """Make runs of their names and seconds: `runs("a1 b2")`."""
    return [a_run(name[0], int(name[1:])) for name in text.split()]


def stored(cache: Any) -> str:
    """Return the names of the stored runs, in their order."""
    return "".join(ids(cache.get_session("s").runs))


@pytest.fixture
def session(cache: Any) -> Any:
    """A session without runs, stored."""
    session = a_session("s")
    cache.upsert_session(session)
    return session


@pytest.fixture
def members(admin: redis.Redis, caches: Caches) -> Callable[[], dict[bytes, float]]:
    """All that is stored of the runs."""
    key = keys.session_keys(caches.prefix, "s")[1]
    return lambda: dict(admin.zrange(key, 0, -1, withscores=True))


# order, and what goes

WAYS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "upsert_run": lambda cache, new: [cache.upsert_run("s", run) for run in new],
    "upsert_runs": lambda cache, new: cache.upsert_runs("s", iter(new)),
    "upsert_session": lambda cache, new: cache.upsert_session(a_session("s", new)),
}
ARRIVALS = {
    "in order": ("a1 b2 c3", 9, "abc"),
    "backwards": ("c3 b2 a1", 9, "abc"),
    "mixed": ("b2 c3 a1", 9, "abc"),
    "one second": ("z1 a1 m1 b1", 9, "zamb"),
    "too many": ("a1 b2 c3 d4 e5 f6 g7", 3, "efg"),
    "too many mixed": ("i9 a1 h8 b2 g7 c3 f6 d4", 4, "fghi"),
    "too many, the oldest not the first": ("e5 f6 d4 g7", 3, "efg"),
    "too many of one second": ("c1 a1 d1 b1", 2, "db"),
    "one older than a full session": ("e5 f6 a1", 2, "ef"),
}


@pytest.mark.parametrize("chunk", [packed_runs.MAX_SCRIPT_RUNS, 3], ids=["one script", "several"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ARRIVALS)
def test_order(
    make_cache: Any, members: Any, monkeypatch: pytest.MonkeyPatch, name: str, way: str, chunk: int
) -> None:
    """Runs are in the order of their creation, those of one second in that of their arrival."""
    monkeypatch.setattr(packed_runs, "MAX_SCRIPT_RUNS", chunk)
    arrives, max_runs, left = ARRIVALS[name]
    cache = make_cache(max_runs=max_runs)
    cache.upsert_session(a_session("s"))

    WAYS[way](cache, runs(arrives))

    assert stored(cache) == left
    assert len(members()) == 3 * len(left)
    assert {run.run_id for run in runs(arrives) if cache.get_run("s", run.run_id)} == set(left)


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("created_at", [0, 0.5, 1, 1.999, 2**33 - 1], ids=str)
def test_a_run_keeps_its_time(cache: Any, created_at: float) -> None:
    cache.upsert_run("s", a_run("a", created_at))  # type: ignore[arg-type]

    assert cache.get_run("s", "a").created_at == created_at
    assert stored(cache) == "a"


@pytest.mark.usefixtures("session")
def test_a_run_without_a_time_is_the_newest(cache: Any) -> None:
    for run in (a_run("a", 1), a_run("b", created_at=None), a_run("c", 3)):
        cache.upsert_run("s", run)

    assert stored(cache) == "acb"
    assert cache.get_run("s", "b").created_at is None


@pytest.mark.parametrize("clock", [-5.0, 0.0, 1e9, 4e9, 2.0**34])
def test_a_workers_clock_may_be_wrong(
    cache: Any, session: Any, server: Any, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    """It gives only the time at which a run was made; all else is the server's clock, or a steady one."""
    if server.real is None:
        pytest.skip("an embedded server's clock is the worker's")
    cache.upsert_runs("s", runs("a1 b2"))
    for where in ("time.time", "sessioncache.storage.run_members.time"):
        monkeypatch.setattr(where, lambda: clock)

    cache.upsert_run("s", a_run("b", 1_000_000, content="new"))
    with contextlib.suppress(InvalidArgumentError):
        cache.upsert_run("s", a_run("c", created_at=None))

    after = cache.get_session("s")
    assert after.updated_at - session.updated_at in range(60)
    assert [run.content for run in after.runs if run.run_id != "c"] == ["out a", "new"]


@pytest.mark.usefixtures("session")
def test_an_update_keeps_the_place(make_cache: Any, members: Any) -> None:
    cache = make_cache(max_runs=3)
    cache.upsert_runs("s", runs("a1 b2 c3"))
    places = sorted(members().values())
    changed = a_run("b", 9999, content="new", step_results=["new"])

    for _ in range(3):
        cache.upsert_run("s", changed)

    assert sorted(members().values()) == places
    assert cache.get_session("s").runs == [*runs("a1"), changed, *runs("c3")]


@pytest.mark.usefixtures("session")
def test_of_one_id_in_one_call_the_last_is_stored(cache: Any) -> None:
    cache.upsert_runs("s", [a_run("a", content="first"), a_run("b", 2), a_run("a", content="last")])

    assert [run.content for run in cache.get_session("s").runs] == ["last", "out b"]


def test_a_lower_limit_waits_for_a_new_run(make_cache: Any) -> None:
    make_cache().upsert_session(a_session("s", 10))
    strict = make_cache(max_runs=1)

    strict.upsert_run("s", a_run("r5", 6, content="changed"))
    strict.rename_session("s", "no run is added")
    strict.update_session_state("s", {"k": 1})
    strict.upsert_session(strict.get_session("s"))
    strict.delete_run("s", "r0")
    assert len(strict.get_runs("s")) == 9
    strict.upsert_run("s", a_run("z", 11))

    assert stored(strict) == "z"


def test_an_object_with_too_many_runs_is_saved_again(make_cache: Any) -> None:
    cache = make_cache(max_runs=2)
    session = a_session("s", runs("a1 b2 c3"))
    cache.upsert_session(session)
    session.runs[0].content = "changed"
    session.runs += runs("d4")
    cache.upsert_session(session)

    assert stored(cache) == "cd"


# one run, some runs


@pytest.mark.usefixtures("session")
def test_a_run_is_found_by_its_id(cache: Any) -> None:
    new = [a_run("a", step_results=[{"deep": [1]}]), a_run("b", 2, metadata={"k": None})]
    cache.upsert_runs("s", new)

    assert [cache.get_run("s", "a"), cache.get_run("s", "b")] == new
    assert [cache.get_run("s", "c"), cache.get_run("t", "a")] == [None, None]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("last_n", [None, 0, -1, 1, 2, 3, 4, 10**30])
def test_the_newest_are_loaded_oldest_first(cache: Any, last_n: int | None) -> None:
    cache.upsert_runs("s", runs("a1 b2 c3"))

    wanted = 3 if last_n is None else max(0, min(last_n, 3))
    assert "".join(ids(cache.get_runs("s", last_n_runs=last_n))) == "abc"[3 - wanted :]


@pytest.mark.parametrize("last_n", [None, 0, 1])
def test_runs_of_no_session_are_an_error(cache: Any, last_n: int | None) -> None:
    with pytest.raises(SessionNotFoundError, match="'missing'"):
        cache.get_runs("missing", last_n_runs=last_n)


@pytest.mark.usefixtures("session")
def test_a_deleted_run_is_gone(cache: Any, members: Any) -> None:
    """Another one with an equal body stays, and the session stays without any."""
    cache.upsert_runs("s", [a_run("a", step_results=["same"]), a_run("b", step_results=["same"])])

    assert [cache.delete_run("s", "a"), cache.delete_run("s", "a")] == [True, False]
    assert (stored(cache), len(members())) == ("b", 3)
    assert cache.get_run("s", "b").step_results == ["same"]
    cache.upsert_run("s", a_run("a"))
    assert stored(cache) == "ba"
    cache.delete_run("s", "a")
    cache.delete_run("s", "b")
    assert cache.get_session("s").runs == []


# attempts


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize(
    ("stored", "upserted", "result"),
    [(None, None, None), (2, None, 2), (None, 1, 1), (2, 2, 2), (2, 10, 10), (0, None, 0)],
)
def test_an_attempt_is_carried_over(
    cache: Any, stored: int | None, upserted: int | None, result: int | None
) -> None:
    cache.upsert_run("s", a_run("a", queue_attempt=stored))
    cache.upsert_run("s", a_run("a", queue_attempt=upserted, content="new"))

    loaded = cache.get_run("s", "a")
    assert (loaded.queue_attempt, loaded.content) == (result, "new")


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("stored", "upserted"), [(2, 1), (1, 0), (10, 9), (2**53, 2**53 - 1)])
def test_an_earlier_attempt_stores_nothing(
    cache: Any, members: Any, stored: int, upserted: int, way: str
) -> None:
    cache.upsert_runs("s", [a_run("a", queue_attempt=stored), a_run("b", 2)])
    before = members()
    new = [a_run("b", 2, content="changed"), a_run("a", queue_attempt=upserted)]

    with pytest.raises(StaleRunError, match="'a'"):
        WAYS[way](cache, new[1:] if way == "upsert_run" else new)

    assert members() == before


# large runs, many runs


@pytest.mark.parametrize("way", ["upsert_session", "upsert_runs"])
@pytest.mark.parametrize(
    ("count", "size", "scripts"), [(8, 700_000, 2), (2 * packed_runs.MAX_SCRIPT_RUNS + 1, 1, 3)], ids=str
)
def test_runs_beyond_one_script_all_arrive(
    cache: Any, session: Any, way: str, count: int, size: int, scripts: int
) -> None:
    new = [a_run(f"r{number}", number, input="x" * size) for number in range(count)]
    session.runs.extend(new)
    with watched(cache) as trips:
        if way == "upsert_session":
            cache.upsert_session(session)
        else:
            cache.upsert_runs("s", new)

    loaded = cache.get_session("s")
    assert loaded.runs == new
    assert way == "upsert_runs" or session.rev == loaded.rev
    assert trips.names().count("EVALSHA") == scripts


@pytest.mark.usefixtures("session")
def test_a_run_may_be_as_large_as_allowed(make_cache: Any) -> None:
    cache = make_cache(max_run_bytes=2000)
    smallest = a_run("a", input="")
    head, body = codec.pack(smallest.head_dict(), "r"), codec.pack_pair("a", smallest.body_dict(), "r")
    length_of_a_long_text = 2
    room = 2000 - len(head) - len(body) - len(b"b") - length_of_a_long_text
    cache.upsert_run("s", a_run("a", input="x" * room))

    with pytest.raises(RunTooLargeError, match="'a' has 2001 bytes"):
        cache.upsert_run("s", a_run("a", input="y" * (room + 1)))
    assert cache.get_run("s", "a").input[0] == "x"
