"""What agno's Dbs keep between two reads: run objects of the past are shared, as agno's SQL databases do."""

from __future__ import annotations

import copy
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from agno.db import utils
from agno.db.base import SessionType
from tests.agno.components import MAKERS

from sessioncache import InvalidArgumentError, NearCache
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer

pytestmark = pytest.mark.skipif(
    not hasattr(utils, "deserialize_history_run"), reason="this agno may change runs of the past in place"
)

TURNS = 6


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    """An agent, a team or a workflow."""
    return str(request.param)


@pytest.fixture
def stored(kind: str, make_db: Callable[..., Any]) -> Any:
    """A Db with a session `s` of some runs, stored by another worker."""
    component = MAKERS[kind](make_db())
    for turn in range(TURNS):
        component.run(f"q0-{turn}", session_id="s", user_id="u")
    return component


def test_it_is_on_by_default(either_db: Any) -> None:
    assert either_db.settings.near_cache == NearCache()
    assert either_db.near_cache_info().bytes_held == 0


def test_none_switches_it_off(make_db: Callable[..., Any], stored: Any) -> None:
    db = make_db(near_cache=None)

    first, second = (db.get_session("s", user_id="u").runs for _ in range(2))
    assert db.near_cache_info() is None
    assert [run.to_dict() for run in first] == [run.to_dict() for run in second]
    assert not any(one is other for one, other in zip(first, second, strict=True))
    with pytest.raises(InvalidArgumentError, match="max_bytes"):
        make_db(near_cache=0)


def test_runs_of_the_past_are_the_same_objects(either_db: Any, stored: Any) -> None:
    first, second = (either_db.get_session("s", user_id="u").runs for _ in range(2))

    assert len(first) == TURNS
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert first is not second
    first.clear()
    assert either_db.get_session("s", user_id="u").runs == second


def test_a_run_that_was_written_is_another_object(either_db: Any, stored: Any) -> None:
    before = either_db.get_session("s", user_id="u").runs
    changed = copy.deepcopy(before[1])
    changed.content = "changed"
    stored.db.upsert_run(changed, "s", user_id="u")

    after = either_db.get_session("s", user_id="u").runs
    assert [one is other for one, other in zip(before, after, strict=True)] == [
        number != 1 for number in range(TURNS)
    ]
    assert (before[1].content == "changed", after[1].content) == (False, "changed")


@pytest.mark.parametrize("status", ["PAUSED", "RUNNING", "PENDING"])
def test_a_run_that_may_go_on_is_built_anew(either_db: Any, stored: Any, status: str) -> None:
    last = copy.deepcopy(stored.db.get_session("s", user_id="u").runs[-1])
    last.status = status
    stored.db.upsert_run(last, "s", user_id="u")

    first, second = (either_db.get_session("s", user_id="u").runs for _ in range(2))
    assert first[-1] is not second[-1]
    assert first[-1].to_dict() == second[-1].to_dict()
    assert first[0] is second[0]


def test_agno_changes_no_run_of_the_past(kind: str, stored: Any, make_db: Callable[..., Any]) -> None:
    """With history, in the same session and through the same Db: what is shared stays what is stored."""
    shared = stored.db.get_session("s", user_id="u").runs
    stored.run("q1-0", session_id="s", user_id="u")
    stored.run("q1-1", session_id="s", user_id="u", stream=False)

    after = stored.db.get_session("s", user_id="u").runs
    plain = make_db(near_cache=None).get_session("s", user_id="u").runs
    assert all(one is other for one, other in zip(shared, after, strict=False))
    assert [run.to_dict() for run in after] == [run.to_dict() for run in plain]


def test_a_copy_that_a_caller_changes_changes_nobody_elses(either_db: Any, stored: Any) -> None:
    """Agno's own way with a run of the past: copy it, change the copy, store it or not."""
    run = either_db.get_session("s", user_id="u").runs[0]
    before = copy.deepcopy(run.to_dict())
    rows_before = either_db.get_runs(session_id="s", deserialize=False)
    mine = copy.deepcopy(run)
    mine.content = "mine"
    if getattr(mine, "messages", None):
        mine.messages[0].content = "mine"

    assert either_db.get_session("s", user_id="u").runs[0].to_dict() == before
    assert either_db.get_runs(session_id="s", deserialize=False) == rows_before


@pytest.mark.parametrize("max_staleness", [0.0, 3600.0])
def test_a_session_that_changes_hands_is_the_new_users(
    stored: Any, make_db: Callable[..., Any], max_staleness: float
) -> None:
    """At once for the Db that gives it away; for others, as soon as they ask."""
    giver, other = make_db(near_cache=NearCache(max_staleness=max_staleness)), make_db()
    for db in (giver, other):
        assert db.get_session("s", user_id="u") is not None

    assert giver.reassign_session_owner("s", previous_user_id="u", user_id="new")

    for db in (giver, other):
        assert db.get_session("s", user_id="u") is None
        assert len(db.get_session("s", user_id="new").runs) == TURNS


def test_rows_are_never_shared(either_db: Any, stored: Any) -> None:
    """Agno takes such dicts apart."""
    row = either_db.get_session("s", user_id="u", deserialize=False)
    row["runs"][0].clear()
    row["session_data"] = "mine"

    again = either_db.get_session("s", user_id="u", deserialize=False)
    assert again["runs"][0]["run_id"]
    assert again["session_data"] != "mine"


def test_a_run_of_another_type_of_session_is_left_out(
    stored: Any, kind: str, make_db: Callable[..., Any]
) -> None:
    """As `from_dict` of each class does, whatever was read before."""
    near, plain = make_db(), make_db(near_cache=None)
    for session_type in ("agent", "team", "workflow", None, "agent"):
        found, expected = (
            db.get_session("s", session_type and SessionType(session_type), user_id="u")
            for db in (near, plain)
        )
        assert type(found) is type(expected)
        assert [run.to_dict() for run in found.runs] == [run.to_dict() for run in expected.runs]


def test_a_turn_moves_a_part_of_what_it_moved(
    kind: str, redis_server: RedisServer, make_db: Callable[..., Any]
) -> None:
    """In a session of 300 runs, a twentieth at most."""
    moved = {}
    with CountingProxy(redis_server.socket_path) as proxy:
        for near_cache in (NearCache(), None):
            db = make_db(proxy.url, db_prefix=f"moved-{near_cache is None}", near_cache=near_cache)
            component = MAKERS[kind](db)
            component.run("q0-0", session_id="s", user_id="u")
            first = db.get_session("s", user_id="u").runs[0]
            for number in range(300):
                run = copy.deepcopy(first)
                run.run_id, run.content = f"{number}", "x" * 1000
                db.upsert_run(run, "s", user_id="u")
            component.run("q0-1", session_id="s", user_id="u")
            proxy.reset()
            component.run("q0-2", session_id="s", user_id="u")
            moved[near_cache] = proxy.bytes_received

    assert moved[NearCache()] <= moved[None] / 20


def test_what_is_counted_as_held_is_held(kind: str, stored: Any, make_db: Callable[..., Any]) -> None:
    """The objects too: what Python allocates for them is no more."""
    first = stored.db.get_session("s", user_id="u").runs[0]
    for number in range(60):
        run = copy.deepcopy(first)
        run.run_id, run.content = f"{number}", "x" * 2000
        stored.db.upsert_run(run, "s", user_id="u")
    db = make_db()
    db.get_session("absent")  # connects
    tracemalloc.start()
    db.get_session("s", user_id="u")
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert allocated <= db.near_cache_info().bytes_held <= 3 * allocated
