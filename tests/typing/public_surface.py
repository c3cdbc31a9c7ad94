"""What type checkers see of the public surface: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from sessioncache import (
    AsyncSessionCache,
    Message,
    SessionCache,
    SessionPage,
    SessionSummary,
    WorkflowChatInteraction,
    WorkflowRunOutput,
    WorkflowSession,
)


def blocking(cache: SessionCache, session: WorkflowSession, run: WorkflowRunOutput) -> None:
    assert_type(SessionCache.from_url("memory://", ttl=60, max_runs=5), SessionCache)
    assert_type(cache.get_session("s", last_n_runs=5), WorkflowSession | None)
    assert_type(cache.get_sessions(["s"]), list[WorkflowSession | None])
    assert_type(cache.get_run("s", "r"), WorkflowRunOutput | None)
    assert_type(cache.get_runs("s", last_n_runs=1, statuses=["COMPLETED"]), list[WorkflowRunOutput])
    assert_type(cache.iter_runs("s"), Iterator[WorkflowRunOutput])
    assert_type(cache.get_chat_history("s", 3), list[WorkflowChatInteraction])
    assert_type(cache.get_workflow_history("s"), list[tuple[str, str]])
    assert_type(cache.get_workflow_history_context("s"), str | None)
    assert_type(cache.get_messages("s", agent_id="a"), list[Message])
    assert_type(cache.list_sessions(user_id="u"), SessionPage)
    assert_type(cache.list_sessions().sessions, list[SessionSummary])
    assert_type(cache.refresh(session), bool)
    assert_type(cache.delete_session("s"), bool)
    assert_type(cache.touch_session("s"), bool)
    assert_type(cache.update_session("s", lambda session: session.metadata.clear()), WorkflowSession)
    cache.update_session("s", _change_later)  # type: ignore[arg-type]
    assert_type(session.rev, int | None)
    assert_type(session.runs[-1], WorkflowRunOutput)
    session.metadata["x"] = session.session_data["y"] = session.workflow_data["z"] = 1
    assert_type(session.get_messages_from_agent_runs([]), list[Message])
    assert_type(session.get_messages_from_team_runs("t", []), list[Message])
    assert_type(Message(role="user").get_content_string(), str)
    assert_type(session.created_at, int)
    assert_type(session.updated_at, int)
    WorkflowSession("s", None, None, None, None, None, None, None, None, None)
    session.metadata = None  # type: ignore[assignment]
    with cache as same:
        assert_type(same, SessionCache)
    cache.upsert_session(session, expect_rev=1)
    cache.upsert_run("s", run)
    cache.upsert_run("s", "no run")  # type: ignore[arg-type]
    cache.get_session("s", "u")  # type: ignore[call-arg]


async def _change_later(session: WorkflowSession) -> None: ...


async def asynchronous(cache: AsyncSessionCache, session: WorkflowSession) -> None:
    assert_type(AsyncSessionCache.from_url("memory://", timeout=2.0), AsyncSessionCache)
    assert_type(await cache.get_session("s", last_n_runs=5), WorkflowSession | None)
    assert_type(await cache.get_messages("s", team_id="t"), list[Message])
    assert_type(cache.iter_runs("s"), AsyncIterator[WorkflowRunOutput])
    assert_type(await cache.refresh(session), bool)
    assert_type(await cache.update_session("s", _change_later), WorkflowSession)
    await cache.update_session("s", lambda session: session.metadata.clear())
    async with cache as same:
        assert_type(same, AsyncSessionCache)
