"""AsyncSessionCache: the asyncio client. Every method is an operation, carried and awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from types import EllipsisType
from typing import Any

from .aiocarrier import AsyncCarrier
from .models import Message, RunStatus, WorkflowChatInteraction, WorkflowRunOutput, WorkflowSession
from .operations import (
    history,
    listing,
    messages,
    ping,
    rebuilding,
    refreshing,
    runs,
    saving,
    sessions,
    state,
    touching,
)
from .operations.listing import SessionPage
from .operations.messages import MessageArguments


class AsyncSessionCache(AsyncCarrier):
    """Workflow sessions in Redis, for asyncio: everything `SessionCache` has, awaited.

        cache = AsyncSessionCache.from_url("redis://localhost:6379/0", ttl=3600)

    Safe to use from many tasks at once, which queue where all connections are busy, from several event loops
    and after a fork: each has connections of its own. A call that is cancelled leaves the cache whole; a
    write that was under way is applied or not, never half.
    """

    async def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Same as `SessionCache.upsert_session`, awaited."""
        return await self._run(saving.upsert_session(self._call(), session, expect_rev=expect_rev))

    async def get_session(
        self, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
    ) -> WorkflowSession | None:
        """Same as `SessionCache.get_session`, awaited."""
        return await self._run(
            sessions.get_session(self._call(), session_id, user_id=user_id, last_n_runs=last_n_runs)
        )

    async def get_sessions(
        self, session_ids: Sequence[str], *, last_n_runs: int | None = None
    ) -> list[WorkflowSession | None]:
        """Same as `SessionCache.get_sessions`, awaited."""
        return await self._run(sessions.get_sessions(self._call(), session_ids, last_n_runs=last_n_runs))

    async def rename_session(self, session_id: str, name: str, *, user_id: str | None = None) -> bool:
        """Same as `SessionCache.rename_session`, awaited."""
        return await self._run(sessions.rename_session(self._call(), session_id, name, user_id=user_id))

    async def touch_session(self, session_id: str, ttl: int | timedelta | EllipsisType | None = ...) -> bool:
        """Same as `SessionCache.touch_session`, awaited."""
        return await self._run(touching.touch_session(self._call(), session_id, ttl))

    async def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Same as `SessionCache.delete_session`, awaited."""
        return await self._run(sessions.delete_session(self._call(), session_id, user_id=user_id))

    async def upsert_run(self, session_id: str, run: WorkflowRunOutput) -> None:
        """Same as `SessionCache.upsert_run`, awaited."""
        return await self._run(saving.upsert_runs(self._call(), session_id, [run]))

    async def upsert_runs(self, session_id: str, runs: Iterable[WorkflowRunOutput]) -> None:
        """Same as `SessionCache.upsert_runs`, awaited."""
        return await self._run(saving.upsert_runs(self._call(), session_id, runs))

    async def get_run(self, session_id: str, run_id: str) -> WorkflowRunOutput | None:
        """Same as `SessionCache.get_run`, awaited."""
        return await self._run(runs.get_run(self._call(), session_id, run_id))

    async def get_runs(
        self,
        session_id: str,
        *,
        last_n: int | None = None,
        statuses: Collection[RunStatus | str] | None = None,
    ) -> list[WorkflowRunOutput]:
        """Same as `SessionCache.get_runs`, awaited."""
        return await self._run(history.get_runs(self._call(), session_id, last_n=last_n, statuses=statuses))

    async def iter_runs(self, session_id: str, *, page_size: int = 100) -> AsyncIterator[WorkflowRunOutput]:
        """Same as `SessionCache.iter_runs`, iterated with `async for`."""
        page = await self._run(runs.read_runs_after(self._call(), session_id, runs.START, page_size))
        while page.runs:
            for run in page.runs:
                yield run
            page = await self._run(runs.read_runs_after(self._call(), session_id, page.last, page_size))

    async def delete_run(self, session_id: str, run_id: str) -> bool:
        """Same as `SessionCache.delete_run`, awaited."""
        return await self._run(runs.delete_run(self._call(), session_id, run_id))

    async def get_chat_history(
        self, session_id: str, last_n_runs: int | None = None
    ) -> list[WorkflowChatInteraction]:
        """Same as `SessionCache.get_chat_history`, awaited."""
        return await self._run(history.get_chat_history(self._call(), session_id, last_n_runs))

    async def get_workflow_history(
        self, session_id: str, num_runs: int | None = None
    ) -> list[tuple[str, str]]:
        """Same as `SessionCache.get_workflow_history`, awaited."""
        return await self._run(history.get_workflow_history(self._call(), session_id, num_runs))

    async def get_workflow_history_context(self, session_id: str, num_runs: int | None = None) -> str | None:
        """Same as `SessionCache.get_workflow_history_context`, awaited."""
        return await self._run(history.get_workflow_history_context(self._call(), session_id, num_runs))

    async def get_messages(
        self,
        session_id: str,
        agent_id: str | None = None,
        team_id: str | None = None,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Collection[str] | None = None,
        skip_statuses: Collection[RunStatus | str] | None = None,
        skip_history_messages: bool = True,
        skip_member_messages: bool = True,
    ) -> list[Message]:
        """Same as `SessionCache.get_messages`, awaited."""
        arguments = MessageArguments(
            agent_id=agent_id,
            team_id=team_id,
            last_n_runs=last_n_runs,
            limit=limit,
            skip_roles=skip_roles,
            skip_statuses=skip_statuses,
            skip_history_messages=skip_history_messages,
            skip_member_messages=skip_member_messages,
        )
        return await self._run(messages.get_messages(self._call(), session_id, arguments))

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        workflow_id: str | None = None,
        name: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int = 20,
        offset: int = 0,
        newest_first: bool = True,
    ) -> SessionPage:
        """Same as `SessionCache.list_sessions`, awaited."""
        wanted = listing.checked_filter(user_id, workflow_id, name, created_after, created_before)
        return await self._run(
            listing.list_sessions(self._call(), wanted, limit=limit, offset=offset, newest_first=newest_first)
        )

    async def rebuild_indexes(self, progress: Callable[[int], object] | None = None) -> int:
        """Same as `SessionCache.rebuild_indexes`, awaited."""
        return await self._run(rebuilding.rebuild_indexes(self._call(), progress))

    async def ping(self) -> float:
        """Same as `SessionCache.ping`, awaited."""
        return await self._run(ping.ping(self._call()))

    async def refresh(self, session: WorkflowSession) -> bool:
        """Same as `SessionCache.refresh`, awaited."""
        return await self._run(refreshing.refresh(self._call(), session))

    async def update_session_state(
        self, session_id: str, changes: Mapping[str, Any], *, remove: Iterable[str] = ()
    ) -> None:
        """Same as `SessionCache.update_session_state`, awaited."""
        return await self._run(state.update_session_state(self._call(), session_id, changes, remove=remove))

    async def update_session(
        self,
        session_id: str,
        change: Callable[[WorkflowSession], object],
        *,
        retries: int = state.UPDATE_RETRIES,
        last_n_runs: int | None = None,
    ) -> WorkflowSession:
        """Same as `SessionCache.update_session`, awaited."""
        return await self._run(
            state.update_session(self._call(), session_id, change, retries=retries, last_n_runs=last_n_runs)
        )
