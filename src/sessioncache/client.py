"""SessionCache: the blocking client. Every method runs one operation over the client's transport."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import EllipsisType, TracebackType
from typing import Any, Self, TypeVar

from .leases import BaseLease, held_by
from .maintenance import Maintenance
from .models import (
    Message,
    RunStatus,
    WorkflowChatInteraction,
    WorkflowRunOutput,
    WorkflowSession,
)
from .operations import (
    history,
    messages,
    read,
    refresh,
    runs,
    sessions,
    touch,
    update,
    upsert,
)
from .operations.context import Context
from .operations.observed import observed
from .transport.blocking import BlockingTransport
from .transport.flow import Flow
from .validation import encoded_id

T = TypeVar("T")


class SessionCache(Maintenance):
    """Workflow sessions in Redis, for blocking code; safe to share between threads and across forks.

        cache = SessionCache.from_url("redis://localhost:6379/0", ttl=3600)

    Besides the errors that a method names, every method raises InvalidArgumentError for a wrong argument
    before anything is sent, UnavailableError if Redis does not serve within `timeout`, ConfigurationError
    if it never will, and OutcomeUnknownError if a write was sent and its reply was lost. Round trips are
    those on one server that knows the scripts. In a cluster, a call asks all nodes that it needs at once, and
    a write lists its session at the same time, unless it is the first of a process to its node. A node that
    keeps silent fails the calls that need its sessions; writes of others wait for it once, for a tenth of
    `timeout`.
    """

    transport: BlockingTransport
    _transport_class = BlockingTransport

    def __enter__(self) -> Self:
        """Return the cache, to be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def _run(
        self,
        operation: Callable[..., Flow[T]],
        *args: Any,
        user_id: str | None = None,
        lease: BaseLease | None = None,
        **kwargs: Any,
    ) -> T:
        if self._user_id is not None:
            user_id = self._own(operation, user_id)
        if user_id is not None:
            encoded_id(user_id, "user_id")
        ctx = Context(
            topology=self.transport.topology,
            settings=self.settings,
            name=operation.__name__,
            near=self._near,
            listed=self._listed,
            user_id=user_id,
            lease=None if lease is None else held_by(lease),
        )
        flow = operation(ctx, *args, **kwargs)
        if self.observers:
            flow = observed(self.observers, ctx, flow, args[0] if args else None)
        return self.transport.run(flow)

    def upsert_session(
        self,
        session: WorkflowSession,
        *,
        expect_rev: int | None = None,
        user_id: str | None = None,
        lease: BaseLease | None = None,
    ) -> None:
        """Create a session, or merge what changed in this object into the stored one.

        Of `session_data`, its `session_state`, `workflow_data` and `metadata`, those top-level keys are
        written that differ from what this object was loaded with or last saved as, so that workers who
        change different keys do not undo each other. New and changed runs are written; none is ever
        removed. Sets `session.updated_at` to the server's clock.

        Args:
            session: A session made new, which may create one, or one that was loaded, which cannot.
            expect_rev: The revision that the stored session must have, as in `session.rev`; 0 if there must
                be no session.
            user_id: If given, only a session of this user is found.
            lease: If given, nothing is stored unless it is held; it begins anew.

        Raises:
            LeaseLostError: `lease` is not held any more.
            SessionNotFoundError: The object was loaded, and its session is gone.
            SessionConflictError: The stored revision is not `expect_rev`.
            SessionOwnershipError: The stored session belongs to another user.
            StaleRunError: A stored run is of a later `queue_attempt`.

        Redis:
            EVALSHA; 1 round trip, and 1 for each further 4 MiB or 500 runs.
        """
        return self._run(upsert.upsert_session, session, expect_rev=expect_rev, user_id=user_id, lease=lease)

    def get_session(
        self, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
    ) -> WorkflowSession | None:
        """Load a session with all runs or the newest.

        Args:
            session_id: The session.
            user_id: If given, only a session of this user is found.
            last_n_runs: How many of the newest runs; None for all. 0 or less loads the metadata alone.

        Returns:
            The session, its runs oldest first, or None if it does not exist for this user. Bodies of runs
            decode on first use; there, one that does not decode raises DamagedRunError.

        Raises:
            DamagedSessionError: A field does not decode, or a key has another type.
            SessionVersionError: The session is stored in a layout of another version.

        Redis:
            MULTI of HGETALL, ZCARD and 2 ZRANGE; 1 round trip. With a near cache EVALSHA, for what has
            changed of a session that is held; 1 round trip, or none (`max_staleness`).
        """
        return self._run(read.get_session, session_id, user_id=user_id, last_n_runs=last_n_runs)

    def get_sessions(
        self,
        session_ids: Sequence[str],
        *,
        last_n_runs: int | None = None,
        user_id: str | None = None,
    ) -> list[WorkflowSession | None]:
        """Load many sessions, each as `get_session` does.

        Args:
            session_ids: The sessions.
            last_n_runs: How many of the newest runs of each; None for all, 0 or less for none.
            user_id: If given, only a session of this user is found.

        Returns:
            The sessions in the order of their ids, None for each that does not exist.

        Raises:
            DamagedSessionError: As `get_session`.
            SessionVersionError: As `get_session`.

        Redis:
            As `get_session` for each id; 1 round trip, in a cluster 1 to each node, at once.
        """
        return self._run(read.get_sessions, session_ids, last_n_runs=last_n_runs, user_id=user_id)

    def rename_session(self, session_id: str, name: str, *, user_id: str | None = None) -> bool:
        """Set `session_data["session_name"]`.

        Args:
            session_id: The session.
            name: The new name.
            user_id: If given, only a session of this user is found.

        Returns:
            Whether the session exists for this user.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of its user and workflow.
        """
        return self._run(sessions.rename_session, session_id, name, user_id=user_id)

    def touch_session(
        self, session_id: str, ttl: int | timedelta | EllipsisType | None = ..., *, user_id: str | None = None
    ) -> bool:
        """Begin the lifetime of a session again.

        Args:
            session_id: The session.
            ttl: Its lifetime from now: seconds or a timedelta, None for ever; by default the cache's own.
            user_id: If given, only a session of this user is found.

        Returns:
            Whether the session exists.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of its user and workflow.
        """
        return self._run(touch.touch_session, session_id, ttl, user_id=user_id)

    def get_ttls(self, session_ids: Collection[str], *, user_id: str | None = None) -> list[float | None]:
        """Tell how long sessions live on.

        Args:
            session_ids: The sessions.
            user_id: If given, only a session of this user is found.

        Returns:
            For each the seconds left, infinity if it never expires; None if it does not exist.

        Redis:
            MULTI of PTTL and HGET for each id; 1 round trip, in a cluster 1 to each node, at once.
        """
        return self._run(touch.get_ttls, session_ids, user_id=user_id)

    def delete_session(self, session_id: str, *, user_id: str | None = None) -> bool:
        """Remove a session with all of its runs.

        Args:
            session_id: The session.
            user_id: If given, only a session of this user is found.

        Returns:
            Whether the session existed for this user.

        Redis:
            EVALSHA; 1 round trip.
        """
        return self._run(sessions.delete_session, session_id, user_id=user_id)

    def upsert_run(
        self,
        session_id: str,
        run: WorkflowRunOutput,
        *,
        user_id: str | None = None,
        lease: BaseLease | None = None,
    ) -> None:
        """Store a run, or replace the one with its run_id. Nothing is read first.

        A new run is placed by its `created_at`, runs of one second by arrival. A run that is replaced keeps
        its place, and its `queue_attempt` if the new one has none.

        Args:
            session_id: The session, which must exist.
            run: The run; its `session_id`, if it has one, must be this session's.
            user_id: If given, only a session of this user is found.
            lease: If given, nothing is stored unless it is held; it begins anew.

        Raises:
            LeaseLostError: `lease` is not held any more.
            SessionNotFoundError: The session does not exist.
            SessionOwnershipError: The session belongs to another user than the run.
            StaleRunError: The stored run has a higher `queue_attempt`.

        Redis:
            EVALSHA; 1 round trip whatever the session's length, and 1 for indexes if the run names no user or
            workflow.
        """
        return self._run(upsert.upsert_run, session_id, run, user_id=user_id, lease=lease)

    def upsert_runs(
        self,
        session_id: str,
        runs: Iterable[WorkflowRunOutput],
        *,
        user_id: str | None = None,
        lease: BaseLease | None = None,
    ) -> None:
        """Store runs, each as `upsert_run` does.

        Args:
            session_id: The session, which must exist.
            runs: The runs, in the order of their arrival.
            user_id: If given, only a session of this user is found.
            lease: If given, nothing is stored unless it is held; it begins anew.

        Raises:
            LeaseLostError: `lease` is not held any more.
            SessionNotFoundError: As `upsert_run`.
            SessionOwnershipError: As `upsert_run`.
            StaleRunError: As `upsert_run`.

        Redis:
            EVALSHA; 1 round trip for each 4 MiB or 500 runs. Each is atomic, and repeating all is safe.
        """
        return self._run(upsert.upsert_runs, session_id, runs, user_id=user_id, lease=lease)

    def get_run(
        self, session_id: str, run_id: str, *, user_id: str | None = None
    ) -> WorkflowRunOutput | None:
        """Load one run.

        Args:
            session_id: The session.
            run_id: The run.
            user_id: If given, only a session of this user is found.

        Returns:
            The run, or None if it or its session does not exist.

        Redis:
            EVALSHA; 1 round trip.
        """
        return self._run(runs.get_run, session_id, run_id, user_id=user_id)

    def get_runs(
        self,
        session_id: str,
        *,
        last_n_runs: int | None = None,
        statuses: Collection[RunStatus | str] | None = None,
        user_id: str | None = None,
    ) -> list[WorkflowRunOutput]:
        """Load the runs of a session, or the newest.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest runs; None for all.
            statuses: If given, only runs with one of these statuses count, by name or value in any case.
            user_id: If given, only a session of this user is found.

        Returns:
            The runs, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and 2 ZRANGE; 1 round trip. With `statuses` and `last_n_runs` one for each
            page, from the newest run backwards, until there are enough.
        """
        return self._run(
            history.get_runs, session_id, last_n_runs=last_n_runs, statuses=statuses, user_id=user_id
        )

    def iter_runs(
        self, session_id: str, *, page_size: int = 100, user_id: str | None = None
    ) -> Iterator[WorkflowRunOutput]:
        """Iterate over the runs of a session, holding no more than a page.

        Args:
            session_id: The session.
            page_size: How many runs are read at once.
            user_id: If given, only a session of this user is found.

        Yields:
            The runs, oldest first. None comes twice, and none that was there from the beginning is left out,
            whatever others write.

        Raises:
            SessionNotFoundError: The session does not exist, or no longer.

        Redis:
            MULTI of HMGET, ZCARD and 2 ZRANGE; 1 round trip for each page.
        """
        page = self._run(runs.get_runs_after, session_id, runs.START, page_size, user_id=user_id)
        while page.runs:
            yield from page.runs
            page = self._run(runs.get_runs_after, session_id, page.last, page_size, user_id=user_id)

    def delete_run(self, session_id: str, run_id: str, *, user_id: str | None = None) -> bool:
        """Remove one run.

        Args:
            session_id: The session.
            run_id: The run.
            user_id: If given, only a session of this user is found.

        Returns:
            Whether the run existed.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of the session's user and workflow.
        """
        return self._run(runs.delete_run, session_id, run_id, user_id=user_id)

    def get_chat_history(
        self,
        session_id: str,
        last_n_runs: int | None = None,
        *,
        user_id: str | None = None,
    ) -> list[WorkflowChatInteraction]:
        """Return the `get_chat_history` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest runs; None for all.
            user_id: If given, only a session of this user is found.

        Returns:
            Inputs and outputs, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and ZRANGE; 1 round trip.
        """
        return self._run(history.get_chat_history, session_id, last_n_runs, user_id=user_id)

    def get_workflow_history(
        self, session_id: str, last_n_runs: int | None = None, *, user_id: str | None = None
    ) -> list[tuple[str, str]]:
        """Return the `get_workflow_history` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest completed runs; None for all.
            user_id: If given, only a session of this user is found.

        Returns:
            Input and output of each completed run as text, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and ZRANGE; 1 round trip, and more, from the newest run backwards, if runs
            are not completed.
        """
        return self._run(history.get_workflow_history, session_id, last_n_runs, user_id=user_id)

    def get_workflow_history_context(
        self, session_id: str, last_n_runs: int | None = None, *, user_id: str | None = None
    ) -> str | None:
        """Return the `get_workflow_history_context` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest completed runs; None for all.
            user_id: If given, only a session of this user is found.

        Returns:
            The history as one block of text for a prompt, None if it is empty.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            As `get_workflow_history`.
        """
        return self._run(history.get_workflow_history_context, session_id, last_n_runs, user_id=user_id)

    def get_messages(
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
        *,
        user_id: str | None = None,
    ) -> list[Message]:
        """Return the `get_messages` of the whole session, from as few runs as it takes.

        Args:
            session_id: The session.
            agent_id: The agent whose messages are wanted; either this or `team_id`.
            team_id: The team whose messages are wanted.
            last_n_runs: How many of the newest runs of the agent or team; None for all.
            limit: Most messages, besides the first system message, which always leads.
            skip_roles: Roles whose messages are left out.
            skip_statuses: Statuses of runs that are left out, by name or value in any case.
            skip_history_messages: Whether messages repeated from earlier runs are left out.
            skip_member_messages: Changes nothing: a team's messages never include its members'.
            user_id: If given, only a session of this user is found.

        Returns:
            The messages, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and 2 ZRANGE; 1 round trip if the newest `last_n_runs` runs are enough, else
            one for each page backwards. With `limit` alone, also pages from the oldest run up to the first
            system message, if there is one. Without either, all runs.
        """
        return self._run(
            messages.get_messages,
            session_id,
            agent_id=agent_id,
            team_id=team_id,
            last_n_runs=last_n_runs,
            limit=limit,
            skip_roles=skip_roles,
            skip_statuses=skip_statuses,
            skip_history_messages=skip_history_messages,
            skip_member_messages=skip_member_messages,
            user_id=user_id,
        )

    def refresh(self, session: WorkflowSession, *, user_id: str | None = None) -> bool:
        """Bring a loaded session object up to date, in place.

        What this object has changed and not saved wins: a key of its dicts, a field or a run that was changed
        here stays as it is here, and everything else becomes what is stored. Runs deleted elsewhere go; new
        runs of this object stay, at the end. An object loaded with `last_n_runs` gets the newest again.

        Args:
            session: A session that was loaded or saved.
            user_id: If given, only a session of this user is found.

        Returns:
            Whether anything had changed.

        Raises:
            SessionNotFoundError: The session was deleted.

        Redis:
            EVALSHA; 1 round trip, and 1 more, as `get_session`, if it changed in many writes, or by much.
        """
        return self._run(refresh.refresh, session, user_id=user_id)

    def update_session_state(
        self,
        session_id: str,
        changes: Mapping[str, Any],
        *,
        remove: Iterable[str] = (),
        user_id: str | None = None,
        lease: BaseLease | None = None,
    ) -> None:
        """Set and remove top-level keys of `session_data["session_state"]`; no other key is touched.

        Args:
            session_id: The session, which must exist.
            changes: The keys to set, with their values.
            remove: The keys to remove.
            user_id: If given, only a session of this user is found.
            lease: If given, nothing is stored unless it is held; it begins anew.

        Raises:
            LeaseLostError: `lease` is not held any more.
            SessionNotFoundError: The session does not exist.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of the session's user and workflow.
        """
        return self._run(
            update.update_session_state, session_id, changes, remove=remove, user_id=user_id, lease=lease
        )

    def update_session(
        self,
        session_id: str,
        change: Callable[[WorkflowSession], None],
        *,
        retries: int = update.UPDATE_RETRIES,
        last_n_runs: int | None = None,
        user_id: str | None = None,
    ) -> WorkflowSession:
        """Load a session, call `change(session)`, and save it if nobody else wrote it; else begin again.

        After OutcomeUnknownError the change may have been saved: repeating the call then makes it once more.

        Args:
            session_id: The session, which must exist.
            change: Changes the session it is given, in place. It may be called several times, each time
                with a fresh object; what it returns is ignored. AsyncSessionCache also takes an
                asynchronous function. The time it takes does not count towards `timeout`.
            retries: How often to begin again after a conflict, as long as `timeout` allows.
            last_n_runs: How many of the newest runs `change` gets to see; None for all.
            user_id: If given, only a session of this user is found.

        Returns:
            The session as it was saved.

        Raises:
            SessionNotFoundError: The session does not exist.
            SessionConflictError: Others wrote the session each time.

        Redis:
            As `get_session` and `upsert_session`; 2 round trips for each attempt.
        """
        return self._run(
            update.update_session,
            session_id,
            change,
            retries=retries,
            last_n_runs=last_n_runs,
            user_id=user_id,
        )

    def close(self) -> None:
        """Close the connections (asynchronous: of the running event loop); a later call opens new ones."""
        if self._user_id is None:
            self.transport.close()
