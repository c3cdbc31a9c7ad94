"""`refresh`: a loaded session brought up to date, in place, for the price of what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache import SessionCache
from sessioncache.errors import DamagedRunError, InvalidArgumentError, SessionNotFoundError
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


def spoil(admin: Any, caches: Caches, run_id: str, *, head: bool = False, body: bool = False) -> None:
    """Overwrite members of a run with bytes that do not decode."""
    key = f"{caches.prefix}:{{s}}:runs"
    order = round(admin.zscore(key, f"i{run_id}") * 2**60)
    for score, member in ((order, b"h:0:damaged"), (-order, b"bdamaged")):
        if head if score > 0 else body:
            admin.zremrangebyscore(key, score, score)
            admin.zadd(key, {member: score})


def test_nothing_new_is_one_round_trip_and_false(cache: Any, session: Any) -> None:
    before, runs = session.to_dict(), list(session.runs)

    with watched(cache) as trips:
        assert cache.refresh(session) is False

    assert len(trips) == 1
    assert session.to_dict() == before
    assert all(now is then_ for now, then_ in zip(session.runs, runs, strict=True))


def test_an_object_that_was_saved_is_up_to_date(cache: Any) -> None:
    session = a_session("s", 2)
    cache.upsert_session(session)

    assert cache.refresh(session) is False
    cache.upsert_run("s", a_run("r9", 9))
    assert cache.refresh(session) is True
    assert session == cache.get_session("s")


def test_what_others_wrote_is_taken_over(cache: Any, writer: Any, session: Any) -> None:
    writer.upsert_run("s", a_run("r3", 30))
    writer.upsert_run("s", a_run("r1", 2, content="changed", metadata={"body": "changed"}))
    writer.update_session_state("s", {"k": [1]})
    writer.rename_session("s", "name")
    writer.delete_run("s", "r0")

    assert cache.refresh(session) is True

    assert session == writer.get_session("s")
    assert ids(session.runs) == ["r1", "r2", "r3"]
    assert session.runs[0].metadata == {"body": "changed"}
    assert session.session_data["session_state"] == {"k": [1]}
    assert session.rev == writer.get_session("s").rev
    assert cache.refresh(session) is False


def test_an_empty_object_is_filled(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s"))
    session = cache.get_session("s")
    session.runs = None
    writer.upsert_run("s", a_run("r"))

    assert cache.refresh(session)
    assert ids(session.runs) == ["r"]


def test_the_list_of_runs_and_runs_that_did_not_change_stay_the_same_objects(
    cache: Any, writer: Any, session: Any
) -> None:
    runs, first = session.runs, session.runs[0]
    writer.upsert_run("s", a_run("r1", content="changed"))

    cache.refresh(session)

    assert session.runs is runs
    assert runs[0] is first
    assert runs[1].content == "changed"


def test_keys_that_others_removed_go(cache: Any, writer: Any, session: Any) -> None:
    other = writer.get_session("s")
    del other.session_data["a"]
    other.metadata = None
    writer.upsert_session(other)

    cache.refresh(session)

    assert session.session_data == {"b": 1}
    assert session.metadata == {}


def test_what_was_changed_here_and_not_saved_wins_and_is_saved_later(
    cache: Any, writer: Any, session: Any
) -> None:
    session.session_data["a"] = "mine"
    del session.session_data["b"]
    session.workflow_name = "mine"
    session.runs[0].content = "mine"
    session.runs.append(a_run("new", 50))
    other = writer.get_session("s")
    other.session_data |= {"a": "theirs", "b": "theirs", "c": "theirs"}
    other.metadata["m"] = "theirs"
    other.workflow_name = "theirs"
    other.runs[0].content = other.runs[1].content = "theirs"
    other.runs.append(a_run("later", 60))
    writer.upsert_session(other)

    assert cache.refresh(session)

    assert session.session_data == {"a": "mine", "c": "theirs"}
    assert (session.metadata, session.workflow_name) == ({"m": "theirs"}, "mine")
    contents = {run.run_id: run.content for run in session.runs}
    assert list(contents) == ["r0", "r1", "r2", "later", "new"]
    assert (contents["r0"], contents["r1"]) == ("mine", "theirs")

    cache.upsert_session(session)
    stored = writer.get_session("s")
    assert (stored.session_data, stored.workflow_name) == (session.session_data, "mine")
    assert {run.run_id: run.content for run in stored.runs} == contents


def test_runs_deleted_elsewhere_go_even_if_changed_here_and_stay_deleted(
    cache: Any, writer: Any, session: Any
) -> None:
    session.runs[1].content = "mine"
    writer.delete_run("s", "r1")

    cache.refresh(session)
    cache.upsert_session(session)

    assert ids(session.runs) == ids(writer.get_session("s").runs) == ["r0", "r2"]


def test_a_run_that_both_made_is_the_one_made_here(cache: Any, writer: Any, session: Any) -> None:
    session.runs.append(a_run("new", 50, content="mine"))
    writer.upsert_run("s", a_run("new", 40, content="theirs"))

    cache.refresh(session)

    assert [run.content for run in session.runs if run.run_id == "new"] == ["mine"]
    cache.upsert_session(session)
    assert writer.get_run("s", "new").content == "mine"


def test_a_part_stays_the_newest_part(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 6))
    session = cache.get_session("s", last_n_runs=2)
    writer.upsert_run("s", a_run("r6", 7))

    assert cache.refresh(session)

    assert ids(session.runs) == ["r5", "r6"]
    cache.upsert_session(session)
    assert len(writer.get_session("s").runs) == 7


def test_metadata_alone_stays_so(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", 3))
    session = cache.get_session("s", last_n_runs=0)
    writer.upsert_run("s", a_run("r9", 9))
    writer.rename_session("s", "name")

    assert cache.refresh(session)
    assert session.runs == []
    assert session.session_data == {"session_name": "name"}


def test_a_run_changed_here_is_not_lost_where_newer_ones_take_its_place_in_the_part(
    cache: Any, writer: Any
) -> None:
    cache.upsert_session(a_session("s", 6))
    session = cache.get_session("s", last_n_runs=2)
    session.runs[0].content = "mine"
    writer.upsert_run("s", a_run("r6", 7))

    cache.refresh(session)
    assert ids(session.runs) == ["r4", "r5", "r6"]

    cache.refresh(session)
    cache.upsert_session(session)
    assert writer.get_run("s", "r4").content == "mine"


def test_a_run_changed_here_and_deleted_elsewhere_stays_deleted_for_a_part_too(
    cache: Any, writer: Any
) -> None:
    cache.upsert_session(a_session("s", 6))
    session = cache.get_session("s", last_n_runs=2)
    session.runs[0].content = "mine"
    writer.delete_run("s", "r4")

    cache.refresh(session)
    cache.upsert_session(session)

    assert writer.get_run("s", "r4") is None


def test_a_deleted_session_is_an_error_and_the_object_stays_as_it_is(
    cache: Any, writer: Any, session: Any
) -> None:
    before = session.to_dict()
    writer.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        cache.refresh(session)

    assert session.to_dict() == before


def test_a_session_made_anew_is_another_one(cache: Any, writer: Any, session: Any) -> None:
    writer.delete_session("s")
    writer.upsert_session(a_session("s", 3))

    with pytest.raises(SessionNotFoundError):
        cache.refresh(session)


@pytest.mark.parametrize("part", ["meta", "runs"])
def test_a_session_of_which_a_part_was_evicted_is_an_error(
    cache: Any, writer: Any, session: Any, admin: Any, caches: Caches, part: str
) -> None:
    writer.rename_session("s", "name")
    admin.delete(f"{caches.prefix}:{{s}}:{part}")

    with pytest.raises(SessionNotFoundError):
        cache.refresh(session)


@pytest.mark.parametrize(
    "wrong", [a_session("s"), None, "s", {"session_id": "s"}], ids=lambda x: type(x).__name__
)
def test_what_was_neither_loaded_nor_saved_is_refused(cache: Any, wrong: Any) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match="session"):
        cache.refresh(wrong)

    assert len(trips) == 0


# --- changes under way


ENDS: dict[str, Callable[[Any, Any, Any], object]] = {
    "deleted": lambda writer, _, __: writer.delete_session("s"),
    "made anew": lambda writer, _, __: (
        writer.delete_session("s"),
        writer.upsert_session(a_session("s", 9)),
    ),
    "meta evicted": lambda _, admin, prefix: admin.delete(f"{prefix}:{{s}}:meta"),
    "runs evicted": lambda _, admin, prefix: admin.delete(f"{prefix}:{{s}}:runs"),
}


@pytest.mark.parametrize("trip", [1, 2])
@pytest.mark.parametrize("end", ENDS)
def test_a_session_that_goes_under_way_is_an_error(
    cache: Any, writer: Any, admin: Any, caches: Caches, session: Any, end: str, trip: int
) -> None:
    writer.upsert_run("s", a_run("r1", 2, content="changed"))

    def between(number: int) -> None:
        if number == trip:
            ENDS[end](writer, admin, caches.prefix)

    with watched(cache, between), pytest.raises(SessionNotFoundError):
        cache.refresh(session)


@pytest.mark.parametrize("writes", [1, 2, 3, 50])
def test_a_writer_between_the_steps_does_not_mix_two_moments(
    cache: Any, writer: Any, session: Any, writes: int
) -> None:
    writer.upsert_run("s", a_run("r0", 1, content="c", metadata={"turn": 0}, step_results=[{"turn": 0}]))

    def write(trip: int) -> None:
        if 1 < trip <= 1 + writes:
            for name in ("r0", "r1"):
                turn = {"turn": trip}
                writer.upsert_run("s", a_run(name, 1, content=trip, metadata=turn, step_results=[turn]))
            writer.update_session_state("s", {"turn": trip})

    with watched(cache, write) as trips:
        assert cache.refresh(session)

    turns = {run.content for run in session.runs[:2]} | {run.metadata["turn"] for run in session.runs[:2]}
    assert turns == {session.session_data["session_state"]["turn"]}
    assert len(trips) <= 10
    assert cache.refresh(session) is (session.rev != writer.get_session("s").rev)


def test_runs_deleted_or_added_between_the_steps_are_taken_over(
    cache: Any, writer: Any, session: Any
) -> None:
    writer.upsert_run("s", a_run("r0", 1, content="changed"))

    with watched(
        cache,
        then(
            lambda: None,
            lambda: (writer.delete_run("s", "r0"), writer.upsert_run("s", a_run("r9", 9))),
        ),
    ):
        cache.refresh(session)

    assert session == writer.get_session("s")


# --- damage


def test_a_run_damaged_elsewhere_keeps_its_name_and_saving_does_not_touch_it(
    cache: Any, writer: Any, admin: Any, caches: Caches, session: Any
) -> None:
    spoil(admin, caches, "r1", head=True)
    writer.upsert_run("s", a_run("r3", 9))

    cache.refresh(session)

    assert ids(session.runs) == ["r0", "r1", "r2", "r3"]
    with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
        _ = session.runs[1].content
    before = admin.zrange(f"{caches.prefix}:{{s}}:runs", 0, -1, withscores=True)
    session.session_data["k"] = 1
    cache.upsert_session(session)
    assert admin.zrange(f"{caches.prefix}:{{s}}:runs", 0, -1, withscores=True) == before


# --- any history of changes


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 8), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 8), st.just(0)),
        st.tuples(st.just("key"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("state"), st.integers(0, 3), st.integers(0, 3)),
    ),
    max_size=8,
)


@pytest.mark.parametrize("server", ["embedded", "redis"], indirect=True)
def test_an_object_without_changes_becomes_what_is_stored(cache: Any, writer: Any) -> None:
    numbers = iter(range(1_000_000))

    @settings(max_examples=40)
    @given(EDITS, EDITS, st.none() | st.integers(0, 5), st.booleans())
    def check(first: list[Any], second: list[Any], limit: int | None, touch_bodies: bool) -> None:
        name = f"s{next(numbers)}"
        writer.upsert_session(a_session(name, 3))
        apply(writer, name, first)
        session = cache.get_session(name, last_n_runs=limit)
        if touch_bodies:
            session.to_dict()
        apply(writer, name, second)

        cache.refresh(session)

        assert session == writer.get_session(name, last_n_runs=limit)

    check()


def apply(writer: Any, session_id: str, edits: list[tuple[str, int, int]]) -> None:
    for action, name, value in edits:
        if action == "run":
            writer.upsert_run(session_id, a_run(f"r{name}", name, content=value, metadata={"v": value}))
        elif action == "delete":
            writer.delete_run(session_id, f"r{name}")
        elif action == "state":
            writer.update_session_state(session_id, {f"k{name}": value})
        else:
            session = writer.get_session(session_id)
            if action == "key":
                session.metadata[f"k{name}"] = value
            else:
                session.metadata.pop(f"k{name}", None)
            writer.upsert_session(session)


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

        proxy.reset()
        assert cache.refresh(session) is False
        assert proxy.round_trips == 1
        assert proxy.bytes_received < 200
        assert proxy.bytes_sent < 200

        for number in (7, 50, 99):
            run = a_run_of(f"r{number}", a_message("changed", size=6000), at=1)
            writer.upsert_run("s", run)
        heads = sum(map(len, admin.zrange("sessioncache:{s}:runs", 1, "+inf", byscore=True)))
        proxy.reset()
        assert cache.refresh(session) is True
        assert proxy.round_trips == 3
        assert proxy.bytes_received < heads + 100 * 40 + 3 * 6500
        assert session == writer.get_session("s")
    admin.flushall()
