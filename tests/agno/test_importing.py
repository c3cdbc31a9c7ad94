"""Sessions of agno's databases are copied, once, whole, and what cannot be read is named."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from agno.db.redis import RedisDb
from tests.agno.test_conformance import MAKERS, plain, run_of, seed

from sessioncache import InvalidArgumentError, SessionCache, UnavailableError
from sessioncache.integrations.agno import import_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def agno_redis(redis_url: str) -> Iterator[RedisDb]:
    """agno's RedisDb on the same server, under another prefix."""
    source = RedisDb(db_url=redis_url, db_prefix="old*")
    yield source
    source.redis_client.close()


def everything(db: Any) -> Any:
    found = db.get_sessions(sort_by="session_id", sort_order="asc", deserialize=False)
    return [session | {"workflow_name": None} for session in found[0]]


def test_sessions_of_sqlite_are_copied_with_their_times(sqlite_db: Any, db: Any) -> None:
    seed(sqlite_db)
    seen: list[int] = []

    report = import_sessions(sqlite_db, db, progress=seen.append, batch_size=3)

    assert (report.imported, report.runs, report.already_there, report.failed) == (4, 18, 0, [])
    assert seen == [3, 4]
    ours, sqlites = everything(db), everything(sqlite_db)
    assert plain(ours) == plain(sqlites)
    assert [each["updated_at"] for each in ours] == [each["updated_at"] for each in sqlites]


def test_keys_of_agno_3_are_copied(agno_redis: RedisDb, db: Any) -> None:
    seed(agno_redis)

    report = import_sessions(agno_redis, db)

    assert (report.imported, report.runs, report.failed) == (4, 18, [])
    for session_id in ("a1", "t1", "w1", "n1"):
        assert plain(db.get_session(session_id)) == plain(agno_redis.get_session(session_id))


def blob_of_agno_2(kind: str, runs: int) -> dict[str, Any]:
    session = MAKERS[kind](f"{kind}-2")
    return session.to_dict(include_runs=False) | {
        "session_type": kind,
        "runs": [run_of(kind, number, session.session_id).to_dict() for number in range(runs)],
        "updated_at": 1_700_000_500,
    }


def test_blobs_of_agno_2_are_copied(agno_redis: RedisDb, db: Any) -> None:
    for kind in MAKERS:
        agno_redis.redis_client.set(f"old*:sessions:{kind}-2", json.dumps(blob_of_agno_2(kind, 3)))
    agno_redis.redis_client.set("oldX:sessions:other", "not ours")

    report = import_sessions(agno_redis, db)

    assert (report.imported, report.runs, report.failed) == (3, 9, [])
    workflow = db.get_session("workflow-2")
    assert workflow.workflow_name == "Flow"
    assert [run.run_id for run in workflow.runs] == [f"workflow-2-r{number}" for number in range(3)]
    assert workflow.updated_at == 1_700_000_500


def test_an_import_is_resumed(sqlite_db: Any, make_db: Callable[..., Any], redis_url: str) -> None:
    seed(sqlite_db)
    db = make_db()

    def stop_early(done: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        import_sessions(sqlite_db, db, progress=stop_early, batch_size=2)
    db.delete_run("a1-r3")
    db.rename_session("n1", None, "changed since")
    report = import_sessions(sqlite_db, SessionCache.from_url(redis_url, prefix="agno", ttl=3600))

    assert (report.imported, report.already_there, report.runs) == (3, 1, 13)
    assert db.get_session("n1").session_data["session_name"] == "changed since"
    assert len(db.get_session("a1").runs) == 6


def test_what_cannot_be_read_is_named_and_the_rest_is_copied(agno_redis: RedisDb, db: Any) -> None:
    bad_run = blob_of_agno_2("team", 2)
    bad_run["runs"].append({"content": "no id"})
    blobs = {
        "agent-2": json.dumps(blob_of_agno_2("agent", 2)),
        "team-2": json.dumps(bad_run),
        "workflow-2": json.dumps(blob_of_agno_2("workflow", 1) | {"created_at": 1_700_000_000_000}),
        "broken": "{not json",
        "empty": "{}",
    }
    for key, value in blobs.items():
        agno_redis.redis_client.set(f"old*:sessions:{key}", value)

    report = import_sessions(agno_redis, db)

    assert (report.imported, report.runs) == (2, 4)
    reasons = {each.session_id: each.reason for each in report.failed}
    assert reasons.keys() == {"team-2", "workflow-2", "broken", "empty"}
    assert reasons["team-2"] == "run 2 has no run_id"
    assert "milliseconds?" in reasons["workflow-2"]


def test_a_row_of_sqlite_that_is_no_json_is_named(sqlite_db: Any, db: Any) -> None:
    seed(sqlite_db)
    with sqlite3.connect(sqlite_db.db_file) as connection:
        connection.execute("update agno_sessions set session_data = '{no' where session_id = 'a1'")
    connection.close()

    report = import_sessions(sqlite_db, db)

    assert (report.imported, [each.session_id for each in report.failed]) == (3, ["number 1 by id"])


def test_a_source_that_is_down_is_an_error(agno_redis: RedisDb, sqlite_db: Any, make_db: Any) -> None:
    seed(sqlite_db)

    with pytest.raises(UnavailableError):
        import_sessions(sqlite_db, make_db("redis://127.0.0.1:1", timeout=0.1))
    with pytest.raises(Exception, match="refused"):
        import_sessions(RedisDb(db_url="redis://127.0.0.1:1"), make_db())
    with pytest.raises(InvalidArgumentError, match="source_db"):
        import_sessions(object(), make_db())
