"""A session that is gone when it is saved: created anew if it expired, not if another deleted it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from agno.run.agent import RunOutput
from agno.session import AgentSession
from tests.agno.components import Scripted, agent, questions_in

from sessioncache import SessionNotFoundError
from sessioncache.integrations.agno import AsyncSessionCacheDb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from agno.models.response import ModelResponse

    from support.servers import RedisServer

A_DAY = 24 * 3600 * 1000


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis_server.client()
    yield client
    client.close()


def expire(admin: redis.Redis) -> None:
    admin.delete(*admin.keys("agno:{s}:*"))


def saved(db: Any, runs: int = 2) -> AgentSession:
    """Save a session with some runs; return the object, as an agent that caches its session holds it."""
    session = AgentSession(
        session_id="s",
        agent_id="ann",
        user_id="alice",
        session_data={"session_state": {"k": 1}},
        created_at=5,
        runs=[],
    )
    db.upsert_session(session)
    for number in range(runs):
        add_run(db, session, f"r{number}")
    return session


def add_run(db: Any, session: AgentSession, run_id: str, content: str = "") -> None:
    run = RunOutput(run_id=run_id, agent_id="ann", session_id="s", content=content, created_at=9)
    session.upsert_run(run)
    db.upsert_run(run, "s", "alice")


def stored_runs(db: Any) -> dict[str, Any]:
    return {run.run_id: run.content for run in db.get_session("s").runs}


@pytest.mark.parametrize("way", ["expired", "deleted"])
def test_a_session_that_is_gone_is_created_anew_with_its_runs(
    way: str, either_db: Any, admin: redis.Redis
) -> None:
    session = saved(either_db)
    before = either_db.get_session("s", deserialize=False)
    if way == "deleted":
        assert either_db.delete_session("s")
    else:
        expire(admin)

    returned = either_db.upsert_session(session)

    changing = {"updated_at": 0}
    assert either_db.get_session("s", deserialize=False) | changing == before | changing
    assert [run.run_id for run in returned.runs] == ["r0", "r1"]
    add_run(either_db, session, "r2")
    assert list(stored_runs(either_db)) == ["r0", "r1", "r2"]
    session.session_data["session_state"]["k"] = 2
    either_db.upsert_session(session)
    assert either_db.get_session("s").session_data == {"session_state": {"k": 2}}


@pytest.mark.parametrize("is_anew", [False, True], ids=["gone", "anew"])
def test_what_another_deleted_stays_deleted(is_anew: bool, either_db: Any, db: Any, make_db: Any) -> None:
    old = saved(either_db)
    other = make_db()
    other.delete_session("s")
    if is_anew:
        other.upsert_session(AgentSession(session_id="s", agent_id="ann", user_id="alice", created_at=9))
    before = db.get_session("s", deserialize=False)

    with pytest.raises(SessionNotFoundError) as caught:
        either_db.upsert_session(old)

    assert caught.value.reason == "deleted"
    assert db.get_session("s", deserialize=False) == before


def test_who_deleted_a_session_brings_nothing_back_into_one_made_anew(db: Any) -> None:
    old = saved(db)
    db.delete_session("s")
    db.upsert_session(AgentSession(session_id="s", agent_id="ann", user_id="alice", created_at=9))

    with pytest.raises(SessionNotFoundError, match="deleted"):
        db.upsert_session(old)

    assert stored_runs(db) == {}


def test_a_deletion_is_forgotten_after_a_day(db: Any, make_db: Any, admin: redis.Redis) -> None:
    old = saved(db)
    make_db().delete_session("s")
    assert A_DAY - 60_000 < admin.pttl("agno:{s}:meta") <= A_DAY

    expire(admin)

    assert db.upsert_session(old) is not None
    assert list(stored_runs(db)) == ["r0", "r1"]


def test_two_workers_that_hold_what_is_gone_lose_no_run_and_no_later_change(
    db: Any, make_db: Any, admin: redis.Redis
) -> None:
    mine = saved(db)
    other = make_db()
    theirs = other.get_session("s")
    expire(admin)

    db.upsert_session(mine)
    add_run(db, mine, "r1", "changed since")
    add_run(db, mine, "mine")
    theirs.upsert_run(RunOutput(run_id="theirs", agent_id="ann", session_id="s", created_at=9))
    other.upsert_session(theirs)

    assert stored_runs(db) == {"r0": "", "r1": "changed since", "mine": "", "theirs": None}


def test_a_session_of_nobody_is_created_anew_with_runs_of_several_users(
    either_db: Any, admin: redis.Redis
) -> None:
    session = AgentSession(session_id="s", agent_id="ann", created_at=5, runs=[])
    either_db.upsert_session(session)
    for user_id in ("alice", "bob"):
        run = RunOutput(run_id=user_id, agent_id="ann", session_id="s", user_id=user_id, created_at=9)
        session.upsert_run(run)
    expire(admin)

    either_db.upsert_session(session)

    assert list(stored_runs(either_db)) == ["alice", "bob"]


def test_a_session_of_another_user_by_now_is_left_alone(db: Any, make_db: Any, admin: redis.Redis) -> None:
    old = saved(db)
    expire(admin)
    make_db().upsert_session(AgentSession(session_id="s", agent_id="ann", user_id="bob", created_at=9))

    assert db.upsert_session(old) is None

    assert db.get_session("s").user_id == "bob"
    assert stored_runs(db) == {}


# Agents


def asked(db: Any) -> list[str]:
    return [
        question for run in db.get_session("s").runs for question in questions_in(run.input.input_content)
    ]


def with_cached_session(db: Any) -> Any:
    component = agent(db)
    component.cache_session = True
    return component


def test_an_agent_that_deletes_its_cached_session_goes_on_storing_runs(db: Any, sqlite_db: Any) -> None:
    for each in (sqlite_db, db):
        component = with_cached_session(each)
        component.run("q0-0", session_id="s")
        component.delete_session("s")
        for question in ("q0-1", "q0-2"):
            component.run(question, session_id="s")

    assert asked(sqlite_db) == ["q0-1", "q0-2"]
    assert asked(db) == ["q0-0", "q0-1", "q0-2"]  # the object still had it


def test_an_agent_whose_cached_session_expired_stores_all_of_its_runs(db: Any, admin: redis.Redis) -> None:
    component = with_cached_session(db)
    component.run("q0-0", session_id="s")
    expire(admin)

    component.run("q0-1", session_id="s")

    assert asked(db) == ["q0-0", "q0-1"]


class Expiring(Scripted):
    """A model during whose answer the session expires."""

    def __init__(self, admin: redis.Redis) -> None:
        super().__init__()
        self.admin = admin

    def invoke(self, messages: list[Any], **options: Any) -> ModelResponse:
        expire(self.admin)
        return super().invoke(messages, **options)


@pytest.mark.parametrize("with_asyncio", [False, True], ids=["run", "arun"])
def test_a_run_during_which_its_session_expires_is_stored(
    with_asyncio: bool, db: Any, redis_url: str, admin: redis.Redis
) -> None:
    agent(db).run("q0-0", session_id="s")

    component = agent(AsyncSessionCacheDb(db_url=redis_url) if with_asyncio else db)
    component.model = Expiring(admin)

    async def arun() -> None:
        await component.arun("q0-1", session_id="s")
        await component.db.close()

    if with_asyncio:
        asyncio.run(arun())
    else:
        component.run("q0-1", session_id="s")

    assert asked(db) == ["q0-0", "q0-1"]


@pytest.mark.parametrize("touches", [True, False])
def test_a_read_begins_the_lifetime_again_unless_told_otherwise(
    touches: bool, make_db: Callable[..., Any], admin: redis.Redis
) -> None:
    db = make_db() if touches else make_db(touch_on_read=False)
    saved(db)
    admin.pexpire("agno:{s}:meta", 5000)

    db.get_session("s")

    assert (admin.pttl("agno:{s}:meta") > 5000) is touches
