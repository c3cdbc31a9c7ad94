"""AsyncSessionCache: the asyncio client. Every method is an operation, carried and awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
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
        """Create a session, or merge what changed in this object into the stored one: one round trip.

        Of `session_data`, `session_state`, `workflow_data` and `metadata`, those top-level keys are written
        that differ from what this object was loaded with or last saved as, so that workers who change
        different keys do not undo each other. New and changed runs are written; none is ever removed. Sets
        `session.updated_at` to the server's clock. Runs of more than 4 MiB together take further steps.

        Raises SessionNotFoundError where the object was loaded and its session is gone; only one made new
        creates a session. Raises SessionConflictError where the stored revision is not `expect_rev`; 0 stands
        for a session that does not exist, so with it a session is created or left alone. Raises
        SessionOwnershipError where the session belongs to another user.
        """
        return await self._run(saving.upsert_session(self._call(), session, expect_rev=expect_rev))

    async def get_session(
        self, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
    ) -> WorkflowSession | None:
        """Load a session with all runs, or the newest `last_n_runs`: one round trip (HGETALL, 2 ZRANGE).

        None where it does not exist, or does not belong to `user_id` where that is given. 0 runs, or less,
        read the metadata alone. Bodies of runs decode on first use; one that does not decode raises
        DamagedRunError there.
        """
        return await self._run(
            sessions.get_session(self._call(), session_id, user_id=user_id, last_n_runs=last_n_runs)
        )

    async def get_sessions(
        self, session_ids: Sequence[str], *, last_n_runs: int | None = None
    ) -> list[WorkflowSession | None]:
        """Load sessions in the order of their ids, None where one does not exist: a round trip a server."""
        return await self._run(sessions.get_sessions(self._call(), session_ids, last_n_runs=last_n_runs))

    async def rename_session(self, session_id: str, name: str, *, user_id: str | None = None) -> bool:
        """Set `session_data["session_name"]`; False where the session does not exist for this user."""
        return await self._run(sessions.rename_session(self._call(), session_id, name, user_id=user_id))

    async def touch_session(self, session_id: str, ttl: int | timedelta | EllipsisType | None = ...) -> bool:
        """Let a session live for `ttl` from now: seconds or a timedelta, None for ever.

        Left out, it is the cache's own. False where the session does not exist.
        """
        return await self._run(touching.touch_session(self._call(), session_id, ttl))

    async def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Remove a session with all of its runs; False where it does not exist for this user."""
        return await self._run(sessions.delete_session(self._call(), session_id, user_id=user_id))

    async def upsert_run(self, session_id: str, run: WorkflowRunOutput) -> None:
        """Store a run, replacing the one with its run_id: one round trip, whatever the session's length.

        Nothing is read first. A new run is placed by its `created_at`, ties by arrival; one that is replaced
        keeps its place, and its `queue_attempt` where the new one has none. Raises SessionNotFoundError where
        there is no session, StaleRunError where the stored run has a higher `queue_attempt`,
        InvalidArgumentError for a run whose `session_id` is that of another session.
        """
        return await self._run(saving.upsert_runs(self._call(), session_id, [run]))

    async def upsert_runs(self, session_id: str, runs: Iterable[WorkflowRunOutput]) -> None:
        """Store runs as `upsert_run` does, in steps of at most 4 MiB or 500 runs, each atomic."""
        return await self._run(saving.upsert_runs(self._call(), session_id, runs))

    async def get_run(self, session_id: str, run_id: str) -> WorkflowRunOutput | None:
        """Load one run, None where it or its session does not exist: one round trip."""
        return await self._run(runs.get_run(self._call(), session_id, run_id))

    async def get_runs(
        self,
        session_id: str,
        *,
        last_n_runs: int | None = None,
        statuses: Collection[RunStatus | str] | None = None,
    ) -> list[WorkflowRunOutput]:
        """Load the runs of a session, or the newest `last_n_runs`, oldest first: one round trip.

        With `statuses`, by name or value in any case, only runs that have one of these count; then pages are
        read, from the newest run backwards, until there are enough. Raises SessionNotFoundError where the
        session does not exist, InvalidArgumentError for a status that is unknown.
        """
        return await self._run(
            history.get_runs(self._call(), session_id, last_n_runs=last_n_runs, statuses=statuses)
        )

    async def iter_runs(self, session_id: str, *, page_size: int = 100) -> AsyncIterator[WorkflowRunOutput]:
        """Walk the runs of a session, oldest first, holding no more than a page: one round trip each.

        No run is met twice, and none that was there from the beginning is left out, whatever others write.
        Raises SessionNotFoundError where the session does not exist, or no longer.
        """
        page = await self._run(runs.read_runs_after(self._call(), session_id, runs.START, page_size))
        while page.runs:
            for run in page.runs:
                yield run
            page = await self._run(runs.read_runs_after(self._call(), session_id, page.last, page_size))

    async def delete_run(self, session_id: str, run_id: str) -> bool:
        """Remove one run; False where it or its session does not exist."""
        return await self._run(runs.delete_run(self._call(), session_id, run_id))

    async def get_chat_history(
        self, session_id: str, last_n_runs: int | None = None
    ) -> list[WorkflowChatInteraction]:
        """Answer what `WorkflowSession.get_chat_history` does: one round trip, heads only.

        Raises SessionNotFoundError where the session does not exist.
        """
        return await self._run(history.get_chat_history(self._call(), session_id, last_n_runs))

    async def get_workflow_history(
        self, session_id: str, last_n_runs: int | None = None
    ) -> list[tuple[str, str]]:
        """Answer what `WorkflowSession.get_workflow_history` does, from heads only.

        One round trip where the newest `last_n_runs` runs are all completed; else pages, from the newest run
        backwards. Raises SessionNotFoundError where the session does not exist.
        """
        return await self._run(history.get_workflow_history(self._call(), session_id, last_n_runs))

    async def get_workflow_history_context(
        self, session_id: str, last_n_runs: int | None = None
    ) -> str | None:
        """Answer what `WorkflowSession.get_workflow_history_context` does, as `get_workflow_history` reads.

        Raises SessionNotFoundError where the session does not exist.
        """
        return await self._run(history.get_workflow_history_context(self._call(), session_id, last_n_runs))

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
        """Answer what `WorkflowSession.get_messages` does, from as few runs as it takes.

        One round trip where the newest `last_n_runs` runs have as many runs of the agent or team; else pages,
        from the newest run backwards. With `limit` alone, also the oldest runs up to the first message of the
        system, if the agent or team has one. Without either, all runs. Raises SessionNotFoundError where the
        session does not exist, InvalidArgumentError for a status that is unknown or without any id.
        """
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
        """List sessions by the time of their last update; no run is read: two round trips.

        `name` is a part of the session's name, in any case; times are unix seconds, both ends included.
        These, or user and workflow together, are looked for in session after session, which may take further
        round trips. So do sessions that are gone: they are dropped from the index as they are met, the oldest
        16 with every listing. `offset` counts only sessions that a page can have: those it skips are looked
        at too, 2,000 in two round trips. Sessions that are damaged or of another version are left out of the
        page, with a line in the log, and stay listed.

        Raises DamagedSessionError if the index itself is damaged: `rebuild_indexes` repairs it.
        """
        wanted = listing.checked_filter(user_id, workflow_id, name, created_after, created_before)
        return await self._run(
            listing.list_sessions(self._call(), wanted, limit=limit, offset=offset, newest_first=newest_first)
        )

    async def rebuild_indexes(self, progress: Callable[[int], object] | None = None) -> int:
        """List every session in the indexes anew, by a SCAN of all keys; return how many sessions there are.

        For repair, and for what was stored before there were indexes. An index key of another type is
        replaced; a session that does not say where it belongs is passed over, with a line in the log.
        `progress` is called with the number of sessions so far. Each step has the cache's `timeout` of its
        own.
        """
        return await self._run(rebuilding.rebuild_indexes(self._call(), progress))

    async def ping(self) -> float:
        """Check that Redis answers, in a cluster every master: one round trip each.

        A probe of readiness. It waits for a server that is starting or being replaced, as every call does.

        Returns:
            The seconds that the slowest answer took, connecting included.

        Raises:
            UnavailableError: Redis does not answer within `timeout`, or refuses.
        """
        return await self._run(ping.ping(self._call()))

    async def refresh(self, session: WorkflowSession) -> bool:
        """Bring a loaded session object up to date, in place; False where nothing had changed.

        One tiny round trip where nothing had; two more where something had: the metadata and all heads, then
        the bodies of changed runs. What this object has changed and not saved wins: a key of its dicts, a
        field or a run that was changed here stays as it is here, and all else becomes what is stored. Runs
        deleted elsewhere go; new runs of this object stay, at the end. An object loaded with `last_n_runs`
        gets the newest `last_n_runs` again.

        Raises SessionNotFoundError where the session was deleted, InvalidArgumentError for an object that was
        neither loaded nor saved.
        """
        return await self._run(refreshing.refresh(self._call(), session))

    async def update_session_state(
        self, session_id: str, changes: Mapping[str, Any], *, remove: Iterable[str] = ()
    ) -> None:
        """Set and remove top-level keys of `session_data["session_state"]`, in one step.

        One round trip, and one for the indexes of its user and workflow. Nothing is read, and no other key is
        touched. Raises SessionNotFoundError.
        """
        return await self._run(state.update_session_state(self._call(), session_id, changes, remove=remove))

    async def update_session(
        self,
        session_id: str,
        change: Callable[[WorkflowSession], Awaitable[None] | None],
        *,
        retries: int = state.UPDATE_RETRIES,
        last_n_runs: int | None = None,
    ) -> WorkflowSession:
        """Load a session, call `change(session)`, and save it if nobody else has written it; return it.

        Where somebody has, all of it is done again, after a short random pause, up to `retries` times and as
        long as `timeout` allows; then SessionConflictError. `change` may be called several times, each time
        with a fresh object; what it returns is ignored, and AsyncSessionCache awaits what can be awaited.
        However long it takes, there is time left to save. `last_n_runs` is how many runs it gets to see.

        Raises SessionNotFoundError, and InvalidArgumentError where SessionCache is given an asynchronous
        `change`: nothing is saved then.
        After OutcomeUnknownError the change may have been saved: repeating the call then makes it once more.
        """
        return await self._run(
            state.update_session(self._call(), session_id, change, retries=retries, last_n_runs=last_n_runs)
        )
