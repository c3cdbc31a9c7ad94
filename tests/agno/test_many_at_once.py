"""`upsert_sessions` does what `upsert_session` does one by one, in few round trips."""

from __future__ import annotations

from typing import Any

import pytest
from agno.run.agent import RunOutput
from agno.session import AgentSession

from sessioncache import InvalidArgumentError, OutcomeUnknownError, SessionNotFoundError
from support.interleaving import watched

MANY = 50


def a_session(number: int, **values: Any) -> AgentSession:
    known = {"session_id": f"s{number}", "user_id": "alice", "agent_id": "ann", "created_at": 5}
    return AgentSession(**(known | values))


def warm_up(db: Any) -> None:
    """Have the Db ask what it asks of a server once."""
    db.upsert_session(a_session(0))
    db.delete_session("s0")


def states(db: Any) -> dict[str, Any]:
    return {each.session_id: each.session_data for each in db.get_sessions()}


@pytest.mark.parametrize("deserialize", [True, False])
def test_many_are_saved_as_one_by_one(deserialize: bool, either_db: Any, sqlite_db: Any) -> None:
    saved, stored = [], []
    for db in (sqlite_db, either_db):
        for change in (1, 2):
            sessions = [a_session(n, session_data={"k": n, "change": change}) for n in range(MANY)]
            results = db.upsert_sessions(sessions, deserialize=deserialize)
        rows = results if not deserialize else [each.to_dict() for each in results]
        saved.append(
            sorted((row["session_id"], row["user_id"], sorted(row["session_data"].items())) for row in rows)
        )
        stored.append(states(db))

    assert saved[0] == saved[1]
    assert stored[0] == stored[1]


def test_50_are_one_round_trip_and_so_are_their_changes(either_db: Any) -> None:
    warm_up(either_db)
    sessions = [a_session(n, session_data={"k": n}, updated_at=1000) for n in range(MANY)]
    with watched(either_db) as trips:
        either_db.upsert_sessions(sessions)
    assert len(trips) == 1

    for session in sessions:
        session.session_data["k"] += 1
    with watched(either_db) as trips:
        either_db.upsert_sessions(sessions, preserve_updated_at=True)

    assert len(trips) == 2
    assert states(either_db) == {f"s{n}": {"k": n + 1} for n in range(MANY)}


def test_large_ones_are_sent_a_few_megabytes_at_a_time(db: Any) -> None:
    sessions = [a_session(n, session_data={"k": "x" * 2**20}) for n in range(8)]
    warm_up(db)

    with watched(db) as trips:
        db.upsert_sessions(sessions)

    assert len(trips) == 3
    assert len(states(db)) == len(sessions)


def test_what_others_wrote_is_returned_and_what_is_another_users_is_not(db: Any, make_db: Any) -> None:
    sessions = [a_session(n, session_data={"mine": n}) for n in range(3)]
    db.upsert_sessions(sessions)
    other = make_db()
    theirs = other.get_session("s0")
    theirs.session_data["theirs"] = 1
    other.upsert_session(theirs)
    sessions[0].session_data["mine"] = sessions[2].session_data["mine"] = "changed"
    sessions[1] = a_session(1, user_id="bob")

    first, last = db.upsert_sessions(sessions)

    assert first.session_data == {"mine": "changed", "theirs": 1}
    assert last.session_data == {"mine": "changed"}
    assert db.get_session("s1").session_data == {"mine": 1}


def test_those_that_are_gone_are_created_anew_with_their_runs(db: Any, redis_server: Any) -> None:
    sessions = [a_session(n, runs=[]) for n in range(3)]
    db.upsert_sessions(sessions)
    run = RunOutput(run_id="r", agent_id="ann", created_at=9)
    sessions[1].upsert_run(run)
    db.upsert_run(run, "s1")
    admin = redis_server.client()
    admin.delete("agno:{s1}:meta", "agno:{s1}:runs")
    admin.close()

    saved = db.upsert_sessions(sessions)

    assert [each.session_id for each in saved] == ["s0", "s1", "s2"]
    assert [each.run_id for each in db.get_session("s1").runs] == ["r"]


def test_one_that_another_deleted_is_an_error_after_the_others_were_saved(db: Any, make_db: Any) -> None:
    sessions = [a_session(n, session_data={"k": 1}) for n in range(3)]
    db.upsert_sessions(sessions)
    make_db().delete_session("s1")
    for session in sessions:
        session.session_data["k"] = 2

    with pytest.raises(SessionNotFoundError, match="'s1': it was deleted"):
        db.upsert_sessions(sessions)

    assert states(db) == {"s0": {"k": 2}, "s2": {"k": 2}}
    sessions[2].session_data["k"] = 3
    assert db.upsert_session(sessions[2]).session_data == {"k": 3}


def test_one_that_cannot_be_stored_is_an_error_before_any_is_sent(db: Any) -> None:
    with watched(db) as trips, pytest.raises(InvalidArgumentError):
        db.upsert_sessions([a_session(1), a_session(2, user_id="x" * 513)])

    assert len(trips) == 0


def test_what_was_stored_before_an_outage_is_saved_as_loaded_afterwards(db: Any, make_db: Any) -> None:
    sessions = [a_session(n, session_data={"k": "x" * 2**20, "mine": 1}) for n in range(8)]
    warm_up(db)
    with watched(db, lambda trip: fail() if trip == 1 else None), pytest.raises(OutcomeUnknownError):
        db.upsert_sessions(sessions)
    other = make_db()
    theirs = other.get_session("s0")
    theirs.session_data["mine"] = "theirs"
    other.upsert_session(theirs)

    db.upsert_sessions(sessions)

    assert len(states(db)) == len(sessions)
    assert db.get_session("s0").session_data["mine"] == "theirs"


def fail() -> None:
    raise ConnectionResetError


def test_a_text_is_no_list_of_ids(either_db: Any) -> None:
    either_db.upsert_session(a_session(0, session_id="s"))

    with pytest.raises(InvalidArgumentError, match="session_ids must be a list"):
        either_db.delete_sessions("s")
    with pytest.raises(InvalidArgumentError, match="run_ids must be a list"):
        either_db.delete_runs("r")
    assert either_db.get_session("s") is not None
