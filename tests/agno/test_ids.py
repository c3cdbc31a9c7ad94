"""Ids as agno's other databases take them; an empty one is nobody's, and one too long is an early error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from agno.db.base import SessionType
from agno.run.agent import RunOutput
from agno.run.status_persist import RunPersistOutcome
from agno.session import AgentSession, TeamSession, WorkflowSession
from tests.agno.components import Scripted, agent, team, workflow

from sessioncache import InvalidArgumentError
from sessioncache.integrations.agno import AsyncSessionCacheDb
from support.interleaving import watched

if TYPE_CHECKING:
    from collections.abc import Callable

A_UUID = UUID("00000000-0000-4000-8000-00000000002a")


@pytest.mark.parametrize("given", [42, A_UUID], ids=["int", "UUID"])
def test_an_int_or_a_uuid_is_its_text(given: Any, either_db: Any) -> None:
    text = str(given)
    session = AgentSession(session_id=given, agent_id=given, user_id=given, created_at=5)

    saved = either_db.upsert_session(session)
    either_db.upsert_run(
        RunOutput(run_id=given, agent_id=given, session_id=given, created_at=6), given, given
    )

    assert (saved.session_id, saved.agent_id, saved.user_id) == (text, text, text)
    loaded = either_db.get_session(given, user_id=given)
    assert loaded == either_db.get_session(text, user_id=text)
    assert [run.run_id for run in loaded.runs] == [text]
    assert [each.session_id for each in either_db.get_sessions(user_id=given, component_id=given)] == [text]
    assert either_db.get_run(given).agent_id == text
    assert len(either_db.get_runs(given, agent_id=given)) == 1
    assert either_db.rename_session(given, None, "name", given).session_data == {"session_name": "name"}
    assert either_db.update_run_in_session(given, given, {}, None, given) is RunPersistOutcome.UPDATED
    either_db.delete_runs([given])
    assert either_db.get_run(given) is None
    either_db.upsert_session(session)
    assert either_db.delete_session(given, given)


NOBODYS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "get_session": (lambda db: db.get_session(""), None),
    "get_session of user": (lambda db: db.get_session("s", user_id=""), None),
    "get_sessions": (lambda db: db.get_sessions(user_id=""), []),
    "get_sessions and total": (lambda db: db.get_sessions(None, "", deserialize=False), ([], 0)),
    "get_sessions of component": (lambda db: db.get_sessions(component_id=""), []),
    "rename_session": (lambda db: db.rename_session("", None, "x"), None),
    "rename_session of user": (lambda db: db.rename_session("s", None, "x", ""), None),
    "delete_session": (lambda db: db.delete_session(""), False),
    "delete_session of user": (lambda db: db.delete_session("s", ""), False),
    "delete_sessions": (lambda db: db.delete_sessions(["", ""]), None),
    "delete_sessions of user": (lambda db: db.delete_sessions(["s"], user_id=""), None),
    "reassign_session_owner": (
        lambda db: db.reassign_session_owner("s", previous_user_id="", user_id="bob"),
        False,
    ),
    "get_run": (lambda db: db.get_run(""), None),
    "get_runs": (lambda db: db.get_runs(""), []),
    "get_runs of user": (lambda db: db.get_runs("s", "", deserialize=False), ([], 0)),
    "delete_run": (lambda db: db.delete_run(""), False),
    "delete_runs": (lambda db: db.delete_runs([""]), None),
    "cancel_pending_run": (lambda db: db.cancel_pending_run("", session_id="s", reason="x"), False),
    "update_run_in_session": (lambda db: db.update_run_in_session("s", "", {}), RunPersistOutcome.MISSING),
    "append_run_to_session_if_absent": (
        lambda db: db.append_run_to_session_if_absent("", {"run_id": "r"}),
        None,
    ),
}


@pytest.mark.parametrize("call", NOBODYS)
def test_an_empty_id_is_nobodys_and_nothing_is_asked(call: str, either_db: Any) -> None:
    for user_id in ("alice", None):
        session_id = f"s{user_id or ''}"
        either_db.upsert_session(AgentSession(session_id=session_id, agent_id="ann", user_id=user_id))
        either_db.upsert_run(RunOutput(run_id=f"r{session_id}", agent_id="ann"), session_id)
    make, expected = NOBODYS[call]

    with watched(either_db) as trips:
        assert make(either_db) == expected

    assert len(trips) == 0
    assert len(either_db.get_runs()) == 2


def test_a_write_without_an_id_is_an_error(either_db: Any) -> None:
    either_db.upsert_session(AgentSession(session_id="s", agent_id="ann"))

    with watched(either_db) as trips:
        for write in (
            lambda: either_db.upsert_session(AgentSession(session_id="", agent_id="ann")),
            lambda: either_db.insert_session_if_absent(AgentSession(session_id="")),
            lambda: either_db.upsert_run(RunOutput(run_id="r"), ""),
            lambda: either_db.upsert_run(RunOutput(run_id=""), "s"),
            lambda: either_db.append_run_to_session_if_absent("s", {"run_id": ""}),
        ):
            with pytest.raises(InvalidArgumentError, match="must not be empty"):
                write()
    assert len(trips) == 0


def test_an_empty_user_owns_nothing(either_db: Any) -> None:
    either_db.upsert_session(AgentSession(session_id="s", agent_id="ann", user_id="", created_at=5))
    either_db.upsert_run(RunOutput(run_id="r", agent_id="ann", user_id="", created_at=6), "s", "")

    row = either_db.get_session("s", deserialize=False)
    assert row["user_id"] is None
    assert either_db.get_runs("s", deserialize=False)[0][0]["user_id"] is None


class Counting(Scripted):
    """A model that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def invoke(self, messages: list[Any], **options: Any) -> Any:
        self.asked += 1
        return super().invoke(messages, **options)


TOO_LONG = {"session_id": "é" * 257, "user_id": "u" * 513}


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("make", [agent, team, workflow])
def test_an_id_that_is_too_long_is_an_error_before_the_run(make: Any, name: str, db: Any) -> None:
    component, model = make(db), Counting()
    asked = component.steps[1].agent if make is workflow else component
    asked.model = model

    with pytest.raises(InvalidArgumentError, match=f"{name} has 51. bytes, more than 512"):
        component.run("q0-0", **{"session_id": "s", name: TOO_LONG[name]})

    assert model.asked == 0
    assert db.get_sessions() == []


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("make", [agent, team, workflow])
def test_and_on_asyncio(make: Any, name: str, redis_url: str) -> None:
    async def arun() -> tuple[int, str]:
        db = AsyncSessionCacheDb(db_url=redis_url)
        component, model = make(db), Counting()
        (component.steps[1].agent if make is workflow else component).model = model
        try:
            response = await component.arun("q0-0", **{"session_id": "s", name: TOO_LONG[name]})
            said = response.content  # an agent says it so
        except InvalidArgumentError as exc:
            said = str(exc)
        await db.close()
        return model.asked, said

    asked, said = asyncio.run(arun())
    assert asked == 0
    assert f"{name} has 51" in said


SESSIONS = [
    AgentSession(session_id="s", agent_id="ann", agent_data={"a": 1}, created_at=5),
    TeamSession(session_id="s", team_id="crew", team_data={"t": 1}, created_at=6),
    WorkflowSession(session_id="s", workflow_id="flow", workflow_data={"w": 1}, created_at=7),
]


@pytest.mark.parametrize("first", SESSIONS, ids=["agent", "team", "workflow"])
@pytest.mark.parametrize("is_loaded", [False, True], ids=["anew", "loaded"])
def test_a_session_keeps_its_type_whoever_uses_it(
    is_loaded: bool, first: Any, either_db: Any, sqlite_db: Any
) -> None:
    rows = []
    for db in (sqlite_db, either_db):
        returned = [db.upsert_session(type(first).from_dict(first.to_dict()))]
        for other in SESSIONS:
            kind = SessionType(type(other).__name__.removesuffix("Session").lower())
            used = db.get_session("s", kind) if is_loaded else type(other).from_dict(other.to_dict())
            returned.append(db.upsert_session(used))
        row = db.get_session("s", deserialize=False) | {"updated_at": 0}
        listed = {kind: len(db.get_sessions(kind)) for kind in SessionType}
        rows.append(({name: value for name, value in row.items() if value}, listed, [*map(type, returned)]))

    assert rows[0] == rows[1]


def test_a_workflow_in_an_agents_session_leaves_it_the_agents(db: Any, sqlite_db: Any) -> None:
    rows = []
    for each in (sqlite_db, db):
        agent(each).run("q0-0", session_id="s")
        workflow(each).run("q0-1", session_id="s")
        row = each.get_session("s", deserialize=False)
        rows.append({name: row[name] for name in ("session_type", "agent_id", "workflow_id", "session_data")})
        runs = each.get_session("s", SessionType.WORKFLOW).runs
        rows[-1]["runs"] = [type(run) for run in runs]

    assert rows[0] == rows[1]
