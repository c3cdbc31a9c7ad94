"""Sessions that agno's RedisDb left are read through: one changed line, and all are there."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agno.db.base import SessionType
from agno.db.redis import RedisDb
from agno.run.agent import RunOutput
from agno.session import AgentSession
from tests.agno.make_legacy import RUNS, make, stored_keys
from tests.agno.test_conformance import BORN

from sessioncache import DamagedSessionError, InvalidArgumentError, UnavailableError
from sessioncache.integrations.agno import SessionCacheDb, import_sessions
from support.acl import LOGIN, PREFIX, extra, make_user
from support.interleaving import then, watched
from support.wire import CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.cluster import RedisCluster
    from support.servers import RedisServer

OF_AGNO_2 = json.loads((Path(__file__).parents[1] / "data" / "agno_2_redis.json").read_text())["keys"]

OLD = "agent of alice"
"""The id of one of the sessions."""


def load_agno_2(redis_db: RedisDb) -> None:
    client: Any = redis_db.redis_client
    for key, value in OF_AGNO_2.items():
        client.sadd(key, *value) if isinstance(value, list) else client.set(key, value)


def make_both(redis_db: RedisDb) -> None:
    """Sessions of agno 2 that agno 3 went on with: some runs are in the session, the others not."""
    load_agno_2(redis_db)
    make(redis_db)


DATA: dict[str, Callable[[RedisDb], Any]] = {"agno 2": load_agno_2, "agno 3": make, "both": make_both}


@pytest.fixture
def redis_db(redis_url: str) -> Iterator[RedisDb]:
    """agno's RedisDb on the same server, with the same prefix."""
    made = RedisDb(db_url=redis_url)
    yield made
    made.redis_client.close()


@pytest.fixture(params=DATA)
def old_db(request: pytest.FixtureRequest, redis_db: RedisDb) -> RedisDb:
    """A RedisDb that was in use: each version's keys in turn."""
    DATA[request.param](redis_db)
    return redis_db


@pytest.fixture
def of_agno_3(redis_db: RedisDb) -> RedisDb:
    """A RedisDb that agno 3 used."""
    make(redis_db)
    return redis_db


def ids(db: Any) -> list[str]:
    return sorted(session["session_id"] for session in db.get_sessions(deserialize=False)[0])


def plain(value: Any) -> Any:
    """Return agno's objects as dicts, and all else as it is."""
    if hasattr(value, "to_dict"):
        return type(value).__name__, value.to_dict()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


BY_ID: dict[str, Any] = {"sort_by": "session_id", "sort_order": "asc", "deserialize": False}

RUNS_BY_ID = BY_ID | {"sort_by": "run_id"}

LISTINGS: dict[str, dict[str, Any]] = {
    "all": {},
    "a page": {"limit": 2, "page": 2},
    "of a user": {"user_id": "alice"},
    "of a type": {"session_type": SessionType.TEAM},
    "of a component": {"component_id": "flow"},
    "of a name": {"session_name": "alice's"},
}


def everything(db: Any) -> dict[str, Any]:
    """Return what each read of a session says: what is stored, by every way to ask for it."""
    session_ids = ids(db)
    return {
        **{f"{name} raw": db.get_session(name, deserialize=False) for name in session_ids},
        **{name: plain(db.get_session(name)) for name in session_ids},
        **{f"{name}, last": plain(db.get_session(name, runs_limit=2)) for name in session_ids},
        **{f"{name} of alice": plain(db.get_session(name, user_id="alice")) for name in session_ids},
        **{name: db.get_sessions(**options, **BY_ID) for name, options in LISTINGS.items()},
    }


def every_run(db: Any, run_ids: list[str]) -> list[Any]:
    """Return what each read of a run says."""
    return [
        plain([db.get_runs(session_id=name) for name in ids(db)]),
        [db.get_run(run_id, deserialize=False) for run_id in run_ids],
        plain([db.get_run(run_id) for run_id in run_ids]),
        db.get_runs(user_id="alice", **RUNS_BY_ID),
        db.get_runs(workflow_id="flow", status="COMPLETED", **RUNS_BY_ID),
    ]


def test_everything_is_as_redis_db_has_it_and_again_after_an_import(
    old_db: RedisDb, either_db: Any, make_db: Any
) -> None:
    expected, before = everything(old_db), stored_keys(old_db.redis_client)

    one_by_one = {name: either_db.get_session(name, deserialize=False) for name in ids(old_db)}
    read = everything(either_db)
    report = import_sessions(old_db, make_db())

    assert one_by_one == {name: expected[f"{name} raw"] for name in one_by_one}
    assert len(one_by_one) == 6
    assert read == expected
    assert (report.imported, report.failed, report.already_there) == (0, [], 6)
    assert everything(either_db) == everything(make_db()) == expected
    assert stored_keys(old_db.redis_client).items() >= before.items()


def test_every_run_is_as_redis_db_has_it(of_agno_3: RedisDb, either_db: Any, make_db: Any) -> None:
    run_ids = [run["run_id"] for run in of_agno_3.get_runs(deserialize=False)[0]]
    expected = every_run(of_agno_3, run_ids)

    assert len(run_ids) >= 6 * RUNS
    assert every_run(either_db, run_ids) == expected
    import_sessions(of_agno_3, make_db())
    assert every_run(make_db(), run_ids) == expected


def test_an_import_before_anything_is_read_is_equal_too(old_db: RedisDb, db: Any) -> None:
    report = import_sessions(old_db, db)

    assert (report.imported, report.failed) == (6, [])
    assert everything(db) == everything(old_db)


FIRST_CALLS: dict[str, Callable[[Any, str], Any]] = {
    "get_sessions": lambda db, _: len(db.get_sessions()) == 6,
    "get_sessions, a page": lambda db, _: len(db.get_sessions(limit=4)) == 4,
    "get_runs": lambda db, _: len(db.get_runs()) >= 6 * RUNS,
    "get_runs of a session": lambda db, _: len(db.get_runs(session_id=OLD)) >= RUNS,
    "get_run": lambda db, run_id: db.get_run(run_id).run_id == run_id,
    "delete_run": lambda db, run_id: db.delete_run(run_id) and db.get_run(run_id) is None,
}


@pytest.mark.parametrize("call", FIRST_CALLS)
def test_the_first_call_of_all_sees_what_is_not_imported(call: str, either_db: Any, old_db: RedisDb) -> None:
    run_id = old_db.get_session(OLD, deserialize=False)["runs"][0]["run_id"]

    assert FIRST_CALLS[call](either_db, run_id)


def test_many_runs_are_imported_in_one_script_in_their_order(either_db: Any, redis_db: RedisDb) -> None:
    redis_db.upsert_session(AgentSession(session_id="s", agent_id="ann", user_id=""))
    for number in range(600):
        run = RunOutput(run_id=f"r{number}", agent_id="ann", content="x", created_at=BORN - number % 7)
        redis_db.upsert_run(run, "s", run_index=number)

    with watched(either_db) as trips:
        session = either_db.get_session("s")

    assert plain(session.runs) == plain(redis_db.get_session("s").runs)
    assert session.user_id is None
    scripts = [command for request in trips.requests for command in request if command[0] == b"EVALSHA"]
    assert sum(len(script) > 600 for script in scripts) == 1


# writes


NEW_RUN = RunOutput(run_id="new", agent_id="ann", content="late", created_at=2_000_000_000)

WRITES: dict[str, Callable[[Any, str], Any]] = {
    "upsert_session": lambda db, _: db.upsert_session(
        AgentSession(session_id=OLD, agent_id="ann", user_id="alice", metadata={"new": 1})
    ),
    "upsert_sessions": lambda db, _: db.upsert_sessions([AgentSession(session_id=OLD, user_id="alice")]),
    "upsert_run": lambda db, _: db.upsert_run(NEW_RUN, OLD, "alice") is None,
    "rename_session": lambda db, _: db.rename_session(OLD, None, "new"),
    "reassign_session_owner": lambda db, _: db.reassign_session_owner(
        OLD, previous_user_id="alice", user_id="bob"
    ),
    "delete_run": lambda db, run_id: db.delete_run(run_id),
    "cancel_pending_run": lambda db, run_id: (
        db.cancel_pending_run(run_id, session_id=OLD, reason="late", user_id="alice") is False
    ),
}


@pytest.mark.parametrize("call", WRITES)
def test_a_write_finds_the_old_session_and_keeps_what_it_held(
    call: str, either_db: Any, of_agno_3: RedisDb
) -> None:
    old = of_agno_3.get_session(OLD, deserialize=False)
    run_ids = [run["run_id"] for run in old["runs"]]

    assert WRITES[call](either_db, run_ids[0])

    now = either_db.get_session(OLD, deserialize=False)
    kept = [run["run_id"] for run in now["runs"] if run["run_id"] != "new"]
    assert kept == run_ids[call == "delete_run" :]
    assert now["session_data"] == old["session_data"] | {
        "session_name": "new" if call == "rename_session" else "Alice's agent"
    }
    assert now["created_at"] == old["created_at"]


def test_a_foreign_session_is_not_shown_nor_written(either_db: Any, of_agno_3: RedisDb) -> None:
    assert either_db.get_session(OLD, user_id="bob") is None
    assert not either_db.delete_session(OLD, user_id="bob")
    assert either_db.upsert_session(AgentSession(session_id=OLD, agent_id="ann", user_id="bob")) is None

    assert len(either_db.get_session(OLD, user_id="alice").runs) == RUNS


@pytest.mark.parametrize("is_read_first", [False, True], ids=["unread", "imported"])
def test_a_deleted_session_does_not_come_back(
    is_read_first: bool, either_db: Any, make_db: Any, old_db: RedisDb
) -> None:
    if is_read_first:
        either_db.get_session(OLD)

    assert either_db.delete_session(OLD)

    assert either_db.get_session(OLD) is None
    assert not either_db.delete_session(OLD)
    assert make_db().get_session(OLD) is None
    assert OLD not in ids(make_db())
    assert import_sessions(old_db, make_db()).imported == 0
    assert make_db().get_session(OLD) is None
    assert old_db.get_session(OLD) is not None


def test_a_session_that_expired_here_does_not_come_back_as_it_was(
    either_db: Any, make_db: Any, of_agno_3: RedisDb
) -> None:
    either_db.rename_session(OLD, None, "later")
    of_agno_3.redis_client.delete(f"agno:{{{OLD.replace(' ', '%20')}}}:meta")
    of_agno_3.redis_client.delete(f"agno:{{{OLD.replace(' ', '%20')}}}:runs")

    assert either_db.get_session(OLD) is None
    assert OLD not in ids(make_db())


def test_a_mark_lives_as_long_as_the_old_session(either_db: Any, redis_url: str) -> None:
    old = RedisDb(db_url=redis_url, expire=1000)
    old.upsert_session(AgentSession(session_id="s", agent_id="ann"))
    old.redis_client.expire("agno:sessions:s", 500)

    either_db.get_session("s")

    assert 490 < old.redis_client.ttl("agno:{s}:imported") <= 500
    old.redis_client.close()


# two workers


def test_who_comes_second_overwrites_nothing(either_db: Any, make_db: Any, of_agno_3: RedisDb) -> None:
    other = make_db()

    def import_and_write() -> None:
        other.rename_session(OLD, None, "first")
        other.upsert_run(NEW_RUN, OLD)

    with watched(either_db, lambda trip: import_and_write() if trip == 3 else None) as trips:
        session = either_db.get_session(OLD)

    assert "EVALSHA" in trips.names()
    assert session.session_data["session_name"] == "first"
    assert [run.run_id for run in session.runs].count("new") == 1
    assert len(session.runs) == RUNS + 1


def test_what_another_imports_and_deletes_is_gone(either_db: Any, make_db: Any, of_agno_3: RedisDb) -> None:
    other = make_db()

    with watched(either_db, lambda trip: other.delete_session(OLD) if trip == 3 else None):
        assert either_db.get_session(OLD) is None


def test_a_session_that_was_here_already_stays_as_it_is(
    either_db: Any, make_db: Any, of_agno_3: RedisDb
) -> None:
    make_db(read_legacy=False).upsert_session(AgentSession(session_id=OLD, agent_id="newer"))

    assert import_sessions(of_agno_3, make_db()).already_there == 1
    assert len(either_db.get_sessions()) == 6
    assert either_db.get_session(OLD).agent_id == "newer"
    assert either_db.delete_session(OLD)
    of_agno_3.redis_client.delete("agno:index:imported")
    assert make_db().get_session(OLD) is None


@pytest.mark.parametrize(("call", "arguments"), [("get_session", [OLD]), ("get_sessions", [])])
def test_what_another_imports_between_miss_and_look_is_found(
    call: str, arguments: list[str], either_db: Any, make_db: Any, of_agno_3: RedisDb
) -> None:
    other = make_db()

    with watched(either_db, then(lambda: getattr(other, call)(*arguments))):
        assert len(either_db.get_session(OLD).runs) == RUNS


def test_what_another_thread_imports_between_miss_and_look_is_found(make_db: Any, of_agno_3: RedisDb) -> None:
    run_id = of_agno_3.get_session(OLD, deserialize=False)["runs"][0]["run_id"]
    with_session, with_run = make_db(), make_db()

    with watched(with_run, then(with_run.get_sessions)):
        assert with_run.get_run(run_id).run_id == run_id
    of_agno_3.redis_client.flushall()
    make(of_agno_3)
    with watched(with_session, then(with_session.get_sessions)):
        assert len(with_session.get_session(OLD).runs) == RUNS


def test_workers_that_list_at_once_import_each_session_once(make_db: Any, of_agno_3: RedisDb) -> None:
    workers = [make_db() for _ in range(8)]

    with ThreadPoolExecutor(len(workers)) as pool:
        found = list(pool.map(everything, workers))

    assert found == [everything(of_agno_3)] * len(workers)


# what cannot be read


BAD: dict[str, Callable[[Any], Any]] = {
    "no JSON": lambda client: client.set(f"agno:sessions:{OLD}", "{no"),
    "no object": lambda client: client.set(f"agno:sessions:{OLD}", "[]"),
    "another session": lambda client: client.set(f"agno:sessions:{OLD}", '{"session_id": "other"}'),
    "another type": lambda client: (
        client.delete(f"agno:sessions:{OLD}") and client.hset(f"agno:sessions:{OLD}", "a", "b")
    ),
    "runs of another type": lambda client: client.set(f"agno:runs:by_session:{OLD}", "x"),
    "milliseconds": lambda client: client.set(
        f"agno:sessions:{OLD}", json.dumps({"session_id": OLD, "created_at": 1_700_000_000_000})
    ),
}


@pytest.mark.parametrize("damage", BAD)
def test_a_session_that_cannot_be_imported_is_an_error_and_never_none(
    damage: str, either_db: Any, of_agno_3: RedisDb, caplog: pytest.LogCaptureFixture
) -> None:
    BAD[damage](of_agno_3.redis_client)

    for _ in range(2):
        with pytest.raises(DamagedSessionError, match=f"'{OLD}' of agno's RedisDb cannot be imported"):
            either_db.get_session(OLD)
    with pytest.raises(DamagedSessionError):
        either_db.delete_session(OLD)
    with caplog.at_level(logging.WARNING, "sessioncache"):
        assert len(ids(either_db)) == 5
    assert [OLD in record.message for record in caplog.records] == [True]
    with pytest.raises(DamagedSessionError):
        either_db.get_session(OLD)


def test_a_run_that_is_too_large_is_an_error(make_db: Any, of_agno_3: RedisDb) -> None:
    with pytest.raises(DamagedSessionError, match="max_run_bytes"):
        make_db(max_run_bytes=100).get_session(OLD)

    assert len(make_db().get_session(OLD).runs) == RUNS


def test_a_run_that_cannot_be_read_is_left_out_and_logged(
    either_db: Any, of_agno_3: RedisDb, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = [run["run_id"] for run in of_agno_3.get_session(OLD, deserialize=False)["runs"]]
    of_agno_3.redis_client.set(f"agno:runs:{first}", "{no")

    with caplog.at_level(logging.WARNING, "sessioncache"):
        session = either_db.get_session(OLD)

    assert [run.run_id for run in session.runs] == others
    assert first in caplog.text


def test_an_outage_while_old_keys_are_read_is_an_error(
    make_db: Any, of_agno_3: RedisDb, redis_server: RedisServer
) -> None:
    with FaultProxy(redis_server.socket_path) as proxy:
        cut_off = make_db(proxy.url, timeout=0.2)
        cut_off.get_session("none")

        with watched(cut_off, lambda trip: proxy.drop_connections() if trip == 1 else None):
            assert len(cut_off.get_session(OLD).runs) == RUNS
        with proxy.refusing(), pytest.raises(UnavailableError):
            cut_off.get_session("workflow of alice")


# what it costs


def trips_of(db: Any, session_id: str) -> int:
    with watched(db) as trips:
        db.get_session(session_id)
    return len(trips)


def test_a_hit_costs_no_byte_more(make_db: Any, of_agno_3: RedisDb, redis_server: RedisServer) -> None:
    make_db().get_session(OLD)
    costs = []
    with CountingProxy(redis_server.socket_path) as proxy:
        for read_legacy in (False, True):
            db = make_db(proxy.url, read_legacy=read_legacy)
            db.get_session(OLD)
            proxy.reset()
            db.get_session(OLD)
            costs.append((proxy.round_trips, proxy.bytes_sent, proxy.bytes_received))

    assert costs[0] == costs[1]
    assert costs[0][0] == 1


def test_a_miss_costs_one_round_trip_more_and_none_if_nothing_is_left(
    either_db: Any, make_db: Any, redis_db: RedisDb
) -> None:
    assert [trips_of(either_db, "none") for _ in range(3)] == [2, 1, 1]

    make(redis_db)
    later = make_db()
    assert [trips_of(later, "none") for _ in range(3)] == [2, 2, 2]
    make_db().get_sessions()
    assert [trips_of(later, "none") for _ in range(3)] == [3, 1, 1]


def test_a_listing_looks_for_old_sessions_once(either_db: Any, of_agno_3: RedisDb) -> None:
    def trips() -> int:
        with watched(either_db) as seen:
            either_db.get_sessions()
        return len(seen)

    first, *later = [trips() for _ in range(3)]

    assert first > 10
    assert later == [3, 3]


def test_what_redis_db_writes_after_all_was_imported_is_not_seen(either_db: Any, of_agno_3: RedisDb) -> None:
    either_db.get_sessions()

    of_agno_3.upsert_session(AgentSession(session_id="late", agent_id="ann"))

    assert either_db.get_session("late") is None
    assert of_agno_3.get_session("late") is not None


# elsewhere, and without it


def test_without_it_nothing_old_is_seen(make_db: Any, of_agno_3: RedisDb) -> None:
    db = make_db(read_legacy=False)

    assert db.get_session(OLD) is None
    assert db.get_sessions() == []
    with pytest.raises(InvalidArgumentError, match="read_legacy"):
        SessionCacheDb(db_url="memory://", read_legacy="no")  # type: ignore[arg-type]


def test_it_needs_the_rights_that_the_readme_lists(
    make_db: Any, redis_url: str, redis_server: RedisServer, old_db: RedisDb
) -> None:
    client: Any = old_db.redis_client
    for key in list(client.scan_iter()):
        client.rename(key, key.replace("agno", PREFIX, 1))
    with redis_server.client() as admin:
        make_user(admin, extra("read_legacy"))
        db = make_db(redis_url.replace("://", f"://{LOGIN}"), db_prefix=PREFIX)

        assert len(db.get_session(OLD).runs) >= RUNS
        assert len(db.get_sessions()) == 6
        admin.acl_deluser("app")


@pytest.mark.cluster
def test_it_reads_through_on_a_cluster(cluster: RedisCluster) -> None:
    old = RedisDb(redis_client=cluster.client(decode_responses=True))
    make(old)
    db = SessionCacheDb(db_url=cluster.url, redis_client=old.redis_client, ttl=60)

    assert plain(db.get_session(OLD)) == plain(old.get_session(OLD))
    assert everything(db) == everything(old)
    assert db.delete_session(OLD)
    assert db.get_session(OLD) is None
    assert import_sessions(old, db).already_there == 6
    assert OLD not in ids(db)
    old.redis_client.close()
    db.close()


def test_it_reads_through_on_a_server_in_this_process() -> None:
    db = SessionCacheDb(db_url="memory://legacy", ttl=60)
    old = RedisDb(redis_client=db.redis_client)
    old.upsert_session(AgentSession(session_id="s", agent_id="ann", session_data={"session_state": {"n": 1}}))

    assert db.get_session("s").session_data == {"session_state": {"n": 1}}
    assert db.delete_session("s")
    assert db.get_session("s") is None
