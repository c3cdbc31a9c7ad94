"""What agno's own RedisDb gets wrong is right here."""

from __future__ import annotations

import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
from agno.db.base import AsyncBaseDb, BaseDb, SessionType
from agno.db.redis import RedisDb
from agno.db.schemas.memory import UserMemory
from agno.run.workflow import WorkflowRunOutput
from agno.session import AgentSession, WorkflowSession
from agno.session.summary import SessionSummary

from sessioncache import (
    InvalidArgumentError,
    SessionCache,
    SessionNotFoundError,
    SessionOwnershipError,
    UnavailableError,
)
from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb
from sessioncache.integrations.agno.calls import SessionCalls
from support.interleaving import watched
from support.wire import CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer

WORKERS = 8
KEYS_EACH = 50


def saved(db: Any, session_id: str = "s", user_id: str | None = "alice", runs: int = 0, **values: Any) -> Any:
    """Save a workflow's session with some runs, each a second younger than the one before."""
    session = WorkflowSession(
        session_id=session_id, user_id=user_id, workflow_id="flow", created_at=1, **values
    )
    db.upsert_session(session)
    for number in range(runs):
        db.upsert_run(run(f"{session_id}-r{number}", number), session_id, user_id)
    return session


def run(run_id: str, number: int = 0, **values: Any) -> WorkflowRunOutput:
    known = {"workflow_id": "flow", "input": f"q{number}", "created_at": 100 + number}
    return WorkflowRunOutput(run_id=run_id, **(known | values))


CALLS: dict[str, Callable[[Any], Any]] = {
    "get_session": lambda db: db.get_session("s"),
    "get_sessions": lambda db: db.get_sessions(),
    "get_run": lambda db: db.get_run("s-r0"),
    "get_runs": lambda db: db.get_runs(session_id="s"),
    "upsert_session": lambda db: db.upsert_session(WorkflowSession(session_id="s")),
    "upsert_run": lambda db: db.upsert_run(run("new"), "s"),
    "rename_session": lambda db: db.rename_session("s", None, "x"),
    "delete_session": lambda db: db.delete_session("s"),
    "delete_run": lambda db: db.delete_run("s-r0"),
    "update_run_in_session": lambda db: db.update_run_in_session("s", "s-r0", {"status": "ERROR"}),
    "append_run_to_session_if_absent": lambda db: db.append_run_to_session_if_absent("s", {"run_id": "new"}),
    "insert_session_if_absent": lambda db: db.insert_session_if_absent(WorkflowSession(session_id="new")),
}


@pytest.fixture
def far_db(make_db: Callable[..., Any], proxy: CountingProxy) -> Any:
    """A Db behind the proxy, connected already."""
    db = make_db(proxy.url)
    db.get_session("none")
    proxy.reset()
    return db


@pytest.mark.parametrize("call", CALLS)
def test_an_outage_raises_and_never_looks_like_not_found(
    call: str, make_db: Any, db: Any, redis_server: Any
) -> None:
    saved(db, runs=1)
    with FaultProxy(redis_server.socket_path) as proxy:
        cut_off = make_db(proxy.url, timeout=0.1)

        with proxy.refusing(), pytest.raises(UnavailableError):
            CALLS[call](cut_off)


@pytest.mark.parametrize("make", [WorkflowSession, AgentSession])
def test_a_blank_session_saved_over_a_stored_one_wipes_nothing(db: Any, make: Any) -> None:
    stored = make(
        session_id="s", user_id="alice", session_data={"session_state": {"a": 1}, "session_name": "n"},
        metadata={"m": 1}, created_at=5,
    )  # fmt: skip
    if make is AgentSession:
        stored.summary = SessionSummary(summary="long", topics=["t"])
        stored.agent_data = {"name": "Ann"}
    db.upsert_session(stored)
    before = db.get_session("s", deserialize=False)

    blank = make(
        session_id="s", user_id="alice", session_data={"session_state": {}}, created_at=int(time.time())
    )
    answer = db.upsert_session(blank, deserialize=False)

    after = db.get_session("s", deserialize=False)
    assert after | {"updated_at": 0} == before | {"updated_at": 0}
    assert answer == after | {"runs": []}


def test_state_that_many_workers_change_survives(make_db: Callable[..., Any], db: Any) -> None:
    saved(db)
    workers = [make_db() for _ in range(WORKERS)]

    def change(worker: int) -> None:
        for number in range(KEYS_EACH):
            session = workers[worker].get_session("s", SessionType.WORKFLOW, user_id="alice", runs_limit=3)
            session.session_data.setdefault("session_state", {})[f"{worker}-{number}"] = number
            workers[worker].upsert_session(session)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(change, range(WORKERS)))

    state = db.get_session("s").session_data["session_state"]
    assert state == {f"{w}-{n}": n for w in range(WORKERS) for n in range(KEYS_EACH)}


def test_what_was_loaded_and_is_deleted_by_another_is_not_saved(make_db: Callable[..., Any], db: Any) -> None:
    saved(db)
    loaded = db.get_session("s")
    make_db().delete_session("s")

    with pytest.raises(SessionNotFoundError, match="deleted"):
        db.upsert_session(loaded)
    with pytest.raises(SessionNotFoundError, match="deleted"):
        db.upsert_run(run("r"), "s", "alice")

    assert db.get_session("s") is None


def test_a_session_read_as_another_type_keeps_what_that_type_does_not_know(db: Any) -> None:
    saved(db, workflow_data={"steps": [1]}, workflow_name="Flow")
    as_agent = db.get_session("s", SessionType.AGENT)

    as_agent.metadata = {"seen": True}
    db.upsert_session(as_agent)

    stored = db.get_session("s", SessionType.WORKFLOW)
    assert (stored.workflow_data, stored.workflow_name) == ({"steps": [1]}, "Flow")
    assert stored.metadata == {"seen": True}


def test_runs_of_one_second_keep_the_order_they_came_in(db: Any) -> None:
    saved(db)
    for number in range(30):
        db.upsert_run(run(f"{number:x}", created_at=7), "s", "alice", run_index=0)

    db.upsert_run(run("3", created_at=7, content="again"), "s", "alice", run_index=0)

    assert [each.run_id for each in db.get_session("s").runs] == [f"{number:x}" for number in range(30)]


def test_runs_of_all_sessions_come_by_their_place(db: Any) -> None:
    saved(db, "s1", runs=2)
    saved(db, "s2")
    for number in range(2):
        db.upsert_run(run(f"s2-r{number}", 50 + number), "s2", "alice")

    assert [each.run_id for each in db.get_runs()] == ["s1-r0", "s2-r0", "s1-r1", "s2-r1"]


def test_everything_of_a_session_expires_together(
    make_db: Callable[..., Any], redis_server: RedisServer
) -> None:
    db = make_db(expire=1000)
    admin = redis_server.client()

    saved(db, runs=3)

    left = [admin.pttl(key) for key in admin.keys("*{s}*")]
    assert len(left) == 2
    assert all(999_000 < each <= 1_000_000 for each in left)
    admin.close()


def test_one_run_id_in_two_sessions_is_two_runs(db: Any) -> None:
    saved(db, "s1")
    saved(db, "s2", "bob")
    db.upsert_run(run("same", content="of s1"), "s1", "alice")
    db.upsert_run(run("same", content="of s2"), "s2", "bob")

    assert [each.content for each in db.get_session("s1").runs] == ["of s1"]
    assert [each.content for each in db.get_session("s2").runs] == ["of s2"]
    assert db.delete_run("same")
    assert db.get_run("same") is None


def test_a_session_of_another_user_is_invisible_and_cannot_be_written(db: Any) -> None:
    saved(db, runs=1)

    assert db.get_session("s", user_id="bob") is None
    assert db.get_sessions(user_id="bob") == []
    assert db.rename_session("s", None, "x", user_id="bob") is None
    assert not db.delete_session("s", user_id="bob")
    assert db.upsert_session(WorkflowSession(session_id="s", user_id="bob")) is None
    assert db.upsert_session(WorkflowSession(session_id="s")) is None
    with pytest.raises(SessionOwnershipError):
        db.upsert_run(run("r"), "s", "bob")
    assert db.get_runs(session_id="s", user_id="bob") == []


PAGES: list[dict[str, Any]] = [
    {},
    {"user_id": "u"},
    {"session_type": SessionType.WORKFLOW, "include_runs": False},
    {"sort_by": "updated_at", "sort_order": "desc", "page": 2},
    {"sort_by": "created_at", "sort_order": "desc", "page": 1, "deserialize": False},
]


def test_listing_20_of_10_000_takes_two_round_trips(db: Any, far_db: Any) -> None:
    """And a run of the one written first is found."""
    saved(db, "first", "u", runs=1)
    for n in range(9_999):
        db.upsert_session(WorkflowSession(session_id=f"s{n}", user_id="u", created_at=1000 + n))
    for options in PAGES:
        with watched(far_db) as trips:
            found = far_db.get_sessions(limit=20, **options)

        assert len(trips) == 2, options
        assert len(found) == 20 or (len(found[0]), found[1]) == (20, 10_000)
    with watched(far_db) as trips:
        assert far_db.get_run("none") is None
    assert len(trips) <= 6
    assert far_db.get_run("first-r0").run_id == "first-r0"


def test_runs_limit_reads_a_slice(db: Any, far_db: Any, proxy: Any) -> None:
    saved(db)
    for number in range(200):
        db.upsert_run(run(f"r{number}", number, content="x" * 10_000), "s", "alice")

    session = far_db.get_session("s", runs_limit=3)

    assert [each.run_id for each in session.runs] == ["r197", "r198", "r199"]
    assert proxy.round_trips == 1
    assert proxy.bytes_received < 40_000


def test_sessions_that_are_gone_are_listed_no_more(db: Any, redis_server: RedisServer) -> None:
    for number in range(5):
        saved(db, f"s{number}")
    admin = redis_server.client()
    admin.delete("agno:{s1}:meta", "agno:{s1}:runs")

    listed, total = db.get_sessions(deserialize=False)

    assert (len(listed), total) == (4, 4)
    assert admin.zcard("agno:index:all") == 4
    admin.close()


def test_what_agno_saved_a_session_cache_reads(db: Any, redis_url: str) -> None:
    saved(db, session_data={"session_state": {"a": 1}})
    for number in range(3):
        db.upsert_run(run(f"r{number}", number, content=f"a{number}", status="COMPLETED"), "s", "alice")

    with SessionCache.from_url(redis_url, prefix="agno", ttl=3600) as cache:
        history = cache.get_workflow_history("s", 2)
        cache.update_session_state("s", {"b": 2})

    assert history == db.get_session("s").get_workflow_history(2) == [("q1", "a1"), ("q2", "a2")]
    assert db.get_session("s").session_data["session_state"] == {"a": 1, "b": 2}


def test_memories_and_metrics_are_agnos(either_db: Any, db: Any) -> None:
    either_db.upsert_user_memory(UserMemory(memory="likes tea", memory_id="m", user_id="alice"))
    saved(db, runs=2)

    assert [memory.memory for memory in either_db.get_user_memories(user_id="alice")] == ["likes tea"]
    (metrics,) = db._get_all_sessions_for_metrics_calculation()
    assert metrics["runs"] == [{"model": None, "model_provider": None}] * 2
    assert db.cleanup_legacy_runs_field() is False


def test_upsert_sessions_can_keep_the_time_of_the_last_update(either_db: Any) -> None:
    sessions = [WorkflowSession(session_id=f"s{n}", created_at=5, updated_at=1000 - n) for n in range(3)]

    either_db.upsert_sessions(sessions, preserve_updated_at=True)

    listed = either_db.get_sessions(sort_by="updated_at", sort_order="desc")
    assert [(each.session_id, each.updated_at) for each in listed] == [("s0", 1000), ("s1", 999), ("s2", 998)]


@pytest.mark.parametrize("kind", ["a client that decodes", "a server in the process", "max_runs"])
def test_a_db_is_made_of_what_it_is_given(kind: str, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    options: dict[str, Any] = {"db_url": redis_url, "max_runs": 2}
    if kind != "max_runs":
        options = {"redis_client": client} if kind == "a client that decodes" else {"db_url": "memory://agno"}
    db = SessionCacheDb(ttl=3600, **options)

    saved(db, runs=3)

    kept = [each.run_id for each in db.get_session("s").runs]
    assert kept == ["s-r0", "s-r1", "s-r2"][-options.get("max_runs", 3) :]
    db.close()
    db.redis_client.close()
    client.close()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scheme": ({"db_url": "http://localhost"}, "unknown scheme 'http'"),
    "nothing": ({}, "redis_client"),
    "a cluster": ({"db_url": "redis+cluster://localhost"}, "redis_client"),
    "no url": ({"db_url": 5}, "url must be a str"),
    "url in a client's place": ({"redis_client": "redis://localhost"}, "db_url takes a URL"),
    "name of the url": ({"url": "redis://localhost"}, "no option 'url'; known: "),
    "name of an option": ({"db_url": "redis://localhost", "ttll": 3}, "no option 'ttll'; known: "),
    "prefix": ({"db_url": "redis://localhost", "prefix": "mine"}, "prefix is called db_prefix"),
    "expire": ({"db_url": "redis://localhost", "expire": "60"}, "expire must be"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("cls", [SessionCacheDb, AsyncSessionCacheDb])
def test_what_is_wrong_in_making_a_db_is_named(cls: Any, name: str) -> None:
    options, words = WRONG[name]

    with pytest.raises(InvalidArgumentError, match=words):
        cls(**options)


TABLES = [name for name in inspect.signature(RedisDb).parameters if name.endswith("_table")]


def table_names(db: Any) -> dict[str, str]:
    return {name: value for name, value in vars(db).items() if name.endswith("_table_name")}


@pytest.mark.parametrize("cls", [SessionCacheDb, AsyncSessionCacheDb])
def test_a_db_takes_what_redis_db_takes(cls: Any) -> None:
    theirs, ours = inspect.signature(RedisDb).parameters, inspect.signature(cls).parameters
    names = {name: f"my_{name}" for name in TABLES}

    assert list(theirs) == list(ours)[: len(theirs)]
    made = cls(db_url="redis://localhost", **names)
    plain = RedisDb(db_url="redis://localhost", **names)
    for each in (made, getattr(made, "blocking", made)):
        assert {*names.values()} < {*table_names(each).values()}
        assert table_names(each).items() <= table_names(plain).items()
    assert made.id == plain.id


def test_the_asynchronous_db_has_two_names_of_close() -> None:
    assert AsyncSessionCacheDb.aclose is AsyncSessionCacheDb.close


SESSIONS_AND_RUNS = [name for name in vars(BaseDb) if "session" in name or name.endswith(("_run", "_runs"))]
NOT_OURS = {
    *("create_eval_run", "delete_eval_runs", "get_eval_run", "get_eval_runs", "rename_eval_run"),
    *("start_task_run", "complete_task_run", "create_schedule_run", "update_schedule_run"),
    *("get_schedule_run", "get_schedule_runs", "get_latest_schedule_runs", "delete_schedule_runs"),
    *("get_tool_results_for_session", "get_compactions_for_session", "delete_compactions_for_session"),
    *("list_transcript_sessions", "update_eval_run_user_id"),
}


@pytest.mark.parametrize("name", sorted(set(SESSIONS_AND_RUNS) - NOT_OURS))
def test_whatever_agno_declares_of_sessions_and_runs_is_ours(name: str) -> None:
    """An agno that declares more fails here, and is looked at."""
    theirs = inspect.signature(getattr(AsyncBaseDb, name, None) or getattr(BaseDb, name))
    mine = vars(SessionCalls)[name]

    assert theirs.parameters.keys() <= inspect.signature(mine).parameters.keys()
    assert getattr(SessionCacheDb, name) is getattr(AsyncSessionCacheDb, name).__wrapped__ is mine
