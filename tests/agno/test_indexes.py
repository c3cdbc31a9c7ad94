"""What something else wrote into an index, or in place of a session, fails no call of either Db."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.run.workflow import WorkflowRunOutput
from agno.session import WorkflowSession

from sessioncache import DamagedSessionError, SessionCache, SessionVersionError
from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb, import_sessions
from sessioncache.integrations.agno.calls import SessionCalls
from sessioncache.storage import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from support.servers import RedisServer


def a_session(session_id: str = "s") -> WorkflowSession:
    return WorkflowSession(session_id=session_id, user_id="u", workflow_id="w", created_at=1)


def a_run(run_id: str) -> WorkflowRunOutput:
    return WorkflowRunOutput(run_id=run_id, workflow_id="w", created_at=1, status="PENDING")


LISTINGS: dict[str, dict[str, Any]] = {
    "all": {},
    "a page": {"limit": 2},
    "of a user": {"user_id": "u", "limit": 2},
    "of a workflow": {"component_id": "w", "session_type": SessionType.WORKFLOW},
    "without runs": {"include_runs": False},
    "in an order": {"sort_by": "created_at", "sort_order": "asc", "limit": 3},
}
CALLS: dict[str, Callable[[Any], Any]] = {
    "append_run_to_session_if_absent": lambda db: db.append_run_to_session_if_absent(
        "s", {"run_id": "s-run"}
    ),
    "cancel_pending_run": lambda db: db.cancel_pending_run("s-run", session_id="s", reason="test"),
    "cleanup_legacy_runs_field": lambda db: db.cleanup_legacy_runs_field(),
    "delete_run": lambda db: db.delete_run("s-run"),
    "delete_runs": lambda db: db.delete_runs(["s-run", "none"]),
    "delete_session": lambda db: db.delete_session("s"),
    "delete_sessions": lambda db: db.delete_sessions(["s", "none"]),
    "get_run": lambda db: (db.get_run("s-run"), db.get_run("none")),
    "get_runs": lambda db: (db.get_runs(), db.get_runs(session_id="s")),
    "get_session": lambda db: db.get_session("s"),
    "get_sessions": lambda db: [db.get_sessions(**by) for by in LISTINGS.values()],
    "insert_session_if_absent": lambda db: db.insert_session_if_absent(a_session()),
    "reassign_session_owner": lambda db: db.reassign_session_owner("s", previous_user_id="u", user_id="v"),
    "rename_session": lambda db: db.rename_session("s", None, "new"),
    "update_run_in_session": lambda db: db.update_run_in_session("s", "s-run", {"status": "ERROR"}),
    "upsert_run": lambda db: db.upsert_run(a_run("s-run"), "s", "u"),
    "upsert_session": lambda db: db.upsert_session(a_session()),
    "upsert_sessions": lambda db: db.upsert_sessions([a_session()], preserve_updated_at=True),
    "_get_all_sessions_for_metrics_calculation": lambda db: db._get_all_sessions_for_metrics_calculation(),
    "_get_session_runs_data": lambda db: db._get_session_runs_data("s"),
}
"""One call or more of every method of ours, on session `s`."""

OF_THE_BLOCKING_ONE = {name for name in CALLS if not hasattr(AsyncSessionCacheDb, name) or name[0] == "_"}
OF_MANY = {"get_sessions", "get_runs", "delete_runs", *OF_THE_BLOCKING_ONE}
INDEXES = ("agno:index:all", "agno:index:user:u", "agno:index:workflow:w")
FOREIGN = (b"\xff\xfe", b"", b"x" * 600, b"\xed\xa0\x80", b"unknown")


@pytest.mark.parametrize("db_class", [SessionCacheDb, AsyncSessionCacheDb])
def test_every_method_of_ours_is_called_here(db_class: type) -> None:
    mine = {
        name
        for cls in (db_class, SessionCalls)
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("__") and name != "_run"
    }

    missing = OF_THE_BLOCKING_ONE if db_class is AsyncSessionCacheDb else set()
    assert mine - {"close", "aclose", "near_cache_info"} == CALLS.keys() - missing


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis_server.client()
    yield client
    client.close()


@pytest.fixture
def stored(either_db: Any) -> Any:
    """A Db with session `s` and its neighbours, each with a run."""
    for session_id in ("older", "s", "newer"):
        either_db.upsert_session(a_session(session_id))
        either_db.upsert_run(a_run(f"{session_id}-run"), session_id, "u")
    return either_db


def called(db: Any, name: str) -> Any:
    """Call a method, of the Db that has it."""
    if name in OF_THE_BLOCKING_ONE and not isinstance(db, SessionCacheDb):
        pytest.skip("the blocking Db alone has it")
    return CALLS[name](db)


def listed(db: Any, **by: Any) -> list[str]:
    return sorted(session.session_id for session in db.get_sessions(**by))


def runs_listed(db: Any) -> list[str]:
    return sorted(run.run_id for run in db.get_runs())


@pytest.mark.parametrize("name", CALLS)
def test_foreign_members_fail_no_call(stored: Any, admin: redis.Redis, name: str) -> None:
    for index in INDEXES:
        admin.zadd(index, {member: 2**40 + i for i, member in enumerate(FOREIGN)})
        admin.zadd(index, {b"\xfe": "-inf", b"\xfd": "inf"})

    called(stored, name)

    for by in LISTINGS.values():
        assert {"older", "newer"} <= set(listed(stored, **(by | {"limit": 9})))
    assert {"older-run", "newer-run"} <= set(runs_listed(stored))
    for index in INDEXES:
        assert set(admin.zrange(index, 0, -1)) <= {b"older", b"s", b"newer"}


DAMAGES: dict[str, Callable[[redis.Redis], Any]] = {
    "another version": lambda admin: admin.hset("agno:{s}:meta", "schema", "99"),
    "a time that is no number": lambda admin: admin.hset("agno:{s}:meta", "created_at", "now"),
    "an owner that is no text": lambda admin: admin.hset("agno:{s}:meta", "user_id", b"\xff"),
    "meta of another type": lambda admin: _replaced(admin, "agno:{s}:meta"),
    "runs of another type": lambda admin: _replaced(admin, "agno:{s}:runs"),
}


def _replaced(admin: redis.Redis, key: str) -> None:
    admin.delete(key)
    admin.set(key, "foreign", ex=60)


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_session_that_cannot_be_read_hides_itself_alone(
    stored: Any, admin: redis.Redis, damage: str
) -> None:
    DAMAGES[damage](admin)

    for _ in range(2):
        assert [listed(stored, **by) for by in LISTINGS.values()] == [["newer", "older"]] * len(LISTINGS)
        assert stored.get_sessions(deserialize=False)[1] == 2
        assert runs_listed(stored) == ["newer-run", "older-run"]
        assert stored.get_run("newer-run").run_id == "newer-run"
    if isinstance(stored, SessionCacheDb):
        assert len(stored._get_all_sessions_for_metrics_calculation()) == 2


def test_a_session_of_another_version_is_never_lost(
    stored: Any, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    admin.hset("agno:{s}:meta", "schema", "99")

    for _ in range(5):
        for index in INDEXES:
            admin.zadd(index, {f"gone{number}": number + 1 for number in range(40)})
        for by in LISTINGS.values():
            assert listed(stored, **by) == ["newer", "older"]
        stored.get_runs()
    assert any("'s'" in line and "another version" in line for line in caplog.messages)

    admin.hset("agno:{s}:meta", "schema", "1")
    for by in LISTINGS.values():
        assert listed(stored, **(by | {"limit": 9})) == ["newer", "older", "s"]


@pytest.mark.parametrize("name", sorted(CALLS.keys() - OF_MANY))
def test_no_call_reads_or_changes_a_session_of_another_version(
    stored: Any, admin: redis.Redis, name: str
) -> None:
    admin.hset("agno:{s}:meta", mapping={"schema": "99", "rev": "7"})
    before = {key: admin.dump(key) for key in admin.keys("*")}

    with pytest.raises(SessionVersionError):
        called(stored, name)

    assert {key: admin.dump(key) for key in admin.keys("*")} == before


def test_an_index_of_another_type_is_said_and_can_be_rebuilt(
    stored: Any, admin: redis.Redis, redis_url: str
) -> None:
    for index in INDEXES:
        _replaced(admin, index)

    stored.upsert_session(a_session("s"))
    for call in (lambda: listed(stored), lambda: stored.get_run("s-run"), lambda: runs_listed(stored)):
        with pytest.raises(DamagedSessionError, match=r"index:all.*rebuild_indexes"):
            call()
    with SessionCache.from_url(redis_url, prefix="agno", ttl=3600) as cache:
        cache.rebuild_indexes()

    assert [listed(stored, **(by | {"limit": 9})) for by in LISTINGS.values()] == [
        ["newer", "older", "s"]
    ] * len(LISTINGS)


def test_a_listing_succeeds_on_a_server_that_takes_no_writes(
    stored: Any, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """A stale entry cannot be taken off there, and that is no reason to wait."""
    caplog.set_level(logging.WARNING, "sessioncache")
    admin.delete("agno:{s}:meta", "agno:{s}:runs")
    admin.config_set("min-replicas-to-write", 1)
    try:
        for by in LISTINGS.values():
            assert listed(stored, **by) == ["newer", "older"]
        assert runs_listed(stored) == ["newer-run", "older-run"]
    finally:
        admin.config_set("min-replicas-to-write", 0)

    assert any("stay listed: NOREPLICAS" in line for line in caplog.messages)


def test_columns_of_another_kind_do_not_end_a_listing(stored: Any, admin: redis.Redis) -> None:
    admin.hset("agno:{s}:meta", mapping={"agent_id": codec.pack(5, "agent_id")})
    admin.hset("agno:{newer}:meta", mapping={"agent_id": codec.pack("a", "agent_id")})
    admin.hset("agno:{older}:meta", mapping={"session_data": codec.pack([1], "session_data")})

    for by in ({"sort_by": "agent_id"}, {"session_name": "x"}, {"limit": 1}, {"component_id": "a"}):
        stored.get_sessions(**by, deserialize=False)


def test_what_cannot_be_stored_does_not_end_an_import(
    db: Any, sqlite_db: SqliteDb, admin: redis.Redis
) -> None:
    for session_id in ("good", "newer", "foreign", "x" * 600):
        sqlite_db.upsert_session(a_session(session_id))
    for session_id in ("newer", "foreign"):
        db.upsert_session(a_session(session_id))
    admin.hset("agno:{newer}:meta", "schema", "99")
    _replaced(admin, "agno:{foreign}:meta")

    report = import_sessions(sqlite_db, db)

    assert report.imported == 1
    reasons = {each.session_id: each.reason.partition(":")[0] for each in report.failed}
    assert reasons == {
        "newer": "SessionVersionError",
        "foreign": "DamagedSessionError",
        "x" * 600: "InvalidArgumentError",
    }
