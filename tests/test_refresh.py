"""`refresh`: a loaded session brought up to date, in place, for the price of what has changed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncache import SessionCache
from sessioncache.errors import DamagedRunError, InvalidArgumentError, SessionNotFoundError
from sessioncache.storage.scripts import MOST_CHANGED_BYTES
from support.interleaving import another_worker, then, watched
from support.samples import a_message, a_run, a_run_of, a_session, ids
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer
    from support.subjects import Caches


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.fixture
def session(cache: Any) -> Any:
    """A session with runs r0, r1, r2, stored and loaded again."""
    cache.upsert_session(a_session("s", 3, user_id="u", session_data={"a": 1, "b": 1}, metadata={"m": 1}))
    return cache.get_session("s")


@pytest.fixture
def part(cache: Any) -> Any:
    """The newest two of six runs: r4 and r5."""
    cache.upsert_session(a_session("s", 6))
    return cache.get_session("s", last_n_runs=2)


def test_nothing_new_is_one_round_trip_and_false(cache: Any, session: Any) -> None:
    before, runs = session.to_dict(), list(session.runs)

    with watched(cache) as trips:
        assert cache.refresh(session) is False

    assert len(trips) <= 2  # the second one if the server was yet to be given the script
    assert session.to_dict() == before
    assert list(map(id, session.runs)) == list(map(id, runs))


def test_a_saved_object_is_up_to_date(cache: Any) -> None:
    session = a_session("s", 2)
    cache.upsert_session(session)

    assert cache.refresh(session) is False
    cache.upsert_run("s", a_run("r9", 9))
    assert cache.refresh(session) is True
    assert session == cache.get_session("s")


def test_what_others_wrote_is_taken_over(cache: Any, writer: Any, session: Any) -> None:
    """The list of runs, and each run that did not change, stays the same object."""
    runs, last = session.runs, session.runs[2]
    writer.upsert_run("s", a_run("r3", 30))
    writer.upsert_run("s", a_run("r1", 2, content="changed", metadata={"body": "changed"}))
    writer.update_session_state("s", {"k": [1]})
    writer.rename_session("s", "name")
    writer.delete_run("s", "r0")
    other = writer.get_session("s")
    del other.session_data["a"]
    other.metadata = None
    writer.upsert_session(other)

    assert cache.refresh(session) is True

    assert session == writer.get_session("s")
    assert ids(session.runs) == ["r1", "r2", "r3"]
    assert session.runs[0].metadata == {"body": "changed"}
    assert session.session_data == {"b": 1, "session_name": "name", "session_state": {"k": [1]}}
    assert (session.metadata, session.rev) == ({}, writer.get_session("s").rev)
    assert (session.runs is runs, session.runs[1] is last) == (True, True)
    assert cache.refresh(session) is False


@pytest.mark.parametrize("runs", [None, (), (a_run("r0"),)], ids=["none", "empty", "tuple"])
def test_a_list_of_runs_is_made_if_there_is_none(cache: Any, writer: Any, runs: Any) -> None:
    cache.upsert_session(a_session("s"))
    session = cache.get_session("s")
    session.runs = runs
    writer.upsert_run("s", a_run("r0"))

    assert cache.refresh(session)
    assert session.runs == [a_run("r0")]


def test_what_was_changed_here_wins_and_is_saved_later(cache: Any, writer: Any, session: Any) -> None:
    session.session_data["a"] = "mine"
    del session.session_data["b"]
    session.workflow_name = "mine"
    session.runs[0].content = "mine"
    session.runs += [a_run("new", 50), a_run("both", 50, content="mine")]
    other = writer.get_session("s")
    other.session_data |= {"a": "theirs", "b": "theirs", "c": "theirs"}
    other.metadata["m"] = "theirs"
    other.workflow_name = "theirs"
    other.runs[0].content = other.runs[1].content = "theirs"
    other.runs += [a_run("later", 60), a_run("both", 40, content="theirs")]
    writer.upsert_session(other)

    assert cache.refresh(session)

    assert session.session_data == {"a": "mine", "c": "theirs"}
    assert (session.metadata, session.workflow_name) == ({"m": "theirs"}, "mine")
    contents = {run.run_id: run.content for run in session.runs}
    assert list(contents)[:3] == ["r0", "r1", "r2"]
    assert contents.keys() == {"r0", "r1", "r2", "later", "new", "both"}
    assert [contents[name] for name in ("r0", "r1", "both")] == ["mine", "theirs", "mine"]

    cache.upsert_session(session)
    stored = writer.get_session("s")
    assert (stored.session_data, stored.workflow_name) == (session.session_data, "mine")
    assert {run.run_id: run.content for run in stored.runs} == contents


# --- parts


def test_a_part_stays_the_newest_part(cache: Any, writer: Any, part: Any) -> None:
    writer.upsert_run("s", a_run("r6", 7))

    assert cache.refresh(part)

    assert ids(part.runs) == ["r5", "r6"]
    cache.upsert_session(part)
    assert len(writer.get_session("s").runs) == 7


def test_a_run_that_was_not_loaded_takes_no_others_place(cache: Any, writer: Any, part: Any) -> None:
    """Neither one that changed, nor one of before those that are kept for what was changed here."""
    part.runs[0].content = "mine"
    writer.upsert_run("s", a_run("r0", 1, content="changed"))
    writer.delete_run("s", "r5")
    cache.refresh(part)
    assert ids(part.runs) == ["r3", "r4"]

    for number in (7, 8):
        writer.upsert_run("s", a_run(f"r{number}", number + 1))
    cache.refresh(part)
    assert ids(part.runs) == ["r4", "r7", "r8"]

    writer.delete_run("s", "r8")
    writer.delete_run("s", "r7")
    cache.refresh(part)
    assert ids(part.runs) == ["r3", "r4"]


def test_metadata_alone_stays_so(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 3))
    session = cache.get_session("s", last_n_runs=0)
    writer.upsert_run("s", a_run("r9", 9))
    writer.rename_session("s", "name")

    assert cache.refresh(session)
    assert (session.runs, session.session_data) == ([], {"session_name": "name"})


def test_a_run_changed_here_outlasts_newer_ones(cache: Any, writer: Any, part: Any) -> None:
    part.runs[0].content = "mine"
    writer.upsert_run("s", a_run("r6", 7))

    cache.refresh(part)
    assert ids(part.runs) == ["r4", "r5", "r6"]

    cache.refresh(part)
    cache.upsert_session(part)
    assert writer.get_run("s", "r4").content == "mine"


@pytest.mark.parametrize("last_n", [None, 3])
def test_a_run_deleted_elsewhere_stays_deleted(cache: Any, writer: Any, last_n: int | None) -> None:
    """Even if it was changed here."""
    cache.upsert_session(a_session("s", 4 if last_n else 3))
    session = cache.get_session("s", last_n_runs=last_n)
    changed, *_ = session.runs
    changed.content = "mine"
    writer.delete_run("s", changed.run_id)

    cache.refresh(session)
    cache.upsert_session(session)

    assert writer.get_run("s", changed.run_id) is None
    assert last_n or ids(session.runs) == ["r1", "r2"]


# --- sessions that go

ENDS: dict[str, Callable[[Any, Any, str], object]] = {
    "deleted": lambda writer, _, __: writer.delete_session("s"),
    "made anew": lambda writer, _, __: (writer.delete_session("s"), writer.upsert_session(a_session("s", 9))),
    "meta evicted": lambda _, admin, prefix: admin.delete(f"{prefix}:{{s}}:meta"),
    "runs evicted": lambda _, admin, prefix: admin.delete(f"{prefix}:{{s}}:runs"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_goes_is_an_error(
    cache: Any, writer: Any, admin: Any, caches: Caches, session: Any, end: str
) -> None:
    before = session.to_dict()
    ENDS[end](writer, admin, caches.prefix)

    with pytest.raises(SessionNotFoundError):
        cache.refresh(session)
    assert session.to_dict() == before


@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_goes_between_two_round_trips_is_an_error(
    cache: Any, writer: Any, admin: Any, caches: Caches, session: Any, end: str
) -> None:
    """The first one found more changed than a script returns."""
    cache.refresh(session)  # has the server know the script
    writer.upsert_run("s", a_run("r1", 2, content="x" * MOST_CHANGED_BYTES))
    before = session.to_dict()

    def between(number: int) -> None:
        if number == 1:
            ENDS[end](writer, admin, caches.prefix)

    with watched(cache, between), pytest.raises(SessionNotFoundError):
        cache.refresh(session)
    assert session.to_dict() == before


@pytest.mark.parametrize(
    "wrong", [a_session("s"), None, "s", {"session_id": "s"}], ids=lambda x: type(x).__name__
)
def test_what_was_neither_loaded_nor_saved_is_refused(cache: Any, wrong: Any) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match="session"):
        cache.refresh(wrong)

    assert len(trips) == 0


# --- changes under way


def test_a_writer_between_the_steps_mixes_no_moments(cache: Any, writer: Any, session: Any) -> None:
    cache.refresh(session)  # has the server know the script

    def write(trip: int) -> None:
        for name in ("r0", "r1"):
            large = "x" * (MOST_CHANGED_BYTES if trip == 0 else 1)
            turn = {"turn": trip, "large": large}
            writer.upsert_run("s", a_run(name, 1, content=trip, metadata=turn))
        writer.update_session_state("s", {"turn": trip})

    with watched(cache, write) as trips:
        assert cache.refresh(session)

    turns = {run.content for run in session.runs[:2]} | {run.metadata["turn"] for run in session.runs[:2]}
    assert turns == {session.session_data["session_state"]["turn"]} == {1}
    assert len(trips) == 2
    assert cache.refresh(session) is False


def test_runs_deleted_or_added_between_the_steps_are_taken_over(
    cache: Any, writer: Any, session: Any
) -> None:
    writer.upsert_run("s", a_run("r0", 1, content="x" * MOST_CHANGED_BYTES))

    def change() -> None:
        writer.delete_run("s", "r0")
        writer.upsert_run("s", a_run("r9", 9))

    with watched(cache, then(lambda: None, change)):
        assert cache.refresh(session)

    assert session == writer.get_session("s")


# --- damage


def test_a_damaged_run_keeps_its_name_and_is_not_saved(
    cache: Any, writer: Any, admin: Any, caches: Caches, session: Any
) -> None:
    key = f"{caches.prefix}:{{s}}:runs"
    order = round(admin.zscore(key, "ir1") * 2**60)
    writer.upsert_run("s", a_run("r1", 2, content="changed"))
    admin.zremrangebyscore(key, order, order)
    admin.zadd(key, {b"h:0:damaged": order})
    writer.upsert_run("s", a_run("r3", 9))
    before = admin.zrange(key, 0, -1, withscores=True)

    cache.refresh(session)
    session.session_data["k"] = 1
    cache.upsert_session(session)

    assert ids(session.runs) == ["r0", "r1", "r2", "r3"]
    with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
        _ = session.runs[1].content
    assert admin.zrange(key, 0, -1, withscores=True) == before


# --- any history of changes


def change_key(writer: Any, session_id: str, name: str, value: int | None) -> None:
    session = writer.get_session(session_id)
    session.metadata.pop(name, None) if value is None else session.metadata.update({name: value})
    writer.upsert_session(session)


EDITS: dict[str, Callable[[Any, str, int, int], object]] = {
    "run": lambda writer, sid, n, v: writer.upsert_run(sid, a_run(f"r{n}", n, content=v, metadata={"v": v})),
    "delete": lambda writer, sid, n, _: writer.delete_run(sid, f"r{n}"),
    "key": lambda writer, sid, n, v: change_key(writer, sid, f"k{n % 4}", v),
    "drop": lambda writer, sid, n, _: change_key(writer, sid, f"k{n % 4}", None),
    "state": lambda writer, sid, n, v: writer.update_session_state(sid, {f"k{n % 4}": v}),
}
edits = st.lists(st.tuples(st.sampled_from(list(EDITS)), st.integers(0, 8), st.integers(0, 3)), max_size=8)
numbers = itertools.count()


@pytest.mark.parametrize("server", ["embedded", "redis"], indirect=True)
@given(first=edits, second=edits, limit=st.none() | st.integers(0, 5), touch_bodies=st.booleans())
def test_an_object_without_changes_becomes_what_is_stored(
    cache: Any, writer: Any, first: Any, second: Any, limit: int | None, touch_bodies: bool
) -> None:
    name = f"s{next(numbers)}"
    writer.upsert_session(a_session(name, 3))
    for action, number, value in first:
        EDITS[action](writer, name, number, value)
    session = cache.get_session(name, last_n_runs=limit)
    if touch_bodies:
        session.to_dict()
    for action, number, value in second:
        EDITS[action](writer, name, number, value)

    cache.refresh(session)

    assert session == writer.get_session(name, last_n_runs=limit)


# --- what it costs


def test_the_price_is_that_of_what_changed(redis_server: RedisServer) -> None:
    admin = redis_server.client()
    admin.flushall()
    runs = [a_run_of(f"r{n}", a_message(f"m{n}", size=6000), at=n + 1) for n in range(100)]
    with (
        CountingProxy(redis_server.socket_path) as proxy,
        SessionCache.from_url(redis_server.url) as writer,
        SessionCache.from_url(proxy.url) as cache,
    ):
        writer.upsert_session(a_session("s", runs))
        session = cache.get_session("s")

        cache.refresh(session)  # has the server know the script
        proxy.reset()
        assert cache.refresh(session) is False
        assert proxy.round_trips == 1
        assert proxy.bytes_received <= 64
        assert proxy.bytes_sent <= 256

        for number in (7, 50, 99):
            writer.upsert_run("s", a_run_of(f"r{number}", a_message("changed", size=6000)))
        proxy.reset()
        assert cache.refresh(session) is True
        assert proxy.round_trips == 1
        assert proxy.bytes_received < 100 * 40 + 3 * 6500
        assert session == writer.get_session("s")
    admin.flushall()
