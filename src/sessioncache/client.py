"""SessionCache: the blocking client. Every method runs one operation over the client's transport."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import EllipsisType, TracebackType
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, Unpack

from .models import (
    Message,
    RunStatus,
    SessionPage,
    SessionSummary,
    WorkflowChatInteraction,
    WorkflowRunOutput,
    WorkflowSession,
)
from .operations import (
    history,
    iteration,
    listing,
    messages,
    ping,
    read,
    rebuild,
    refresh,
    runs,
    sessions,
    stats,
    touch,
    update,
    upsert,
    verify,
)
from .operations.context import Context, Operation, near_cache_of
from .operations.listed import ListedSessions
from .operations.near_cache import NearCacheInfo
from .operations.observed import Observer, observed, observers_of
from .operations.stats import StoreStats
from .options import Options, check_options
from .storage.checks import VerifyReport
from .transport.blocking import BlockingTransport
from .transport.endpoint import Transport

P = ParamSpec("P")
T = TypeVar("T")


class BaseCache:
    """What both clients are made of: checked options, and a transport to Redis."""

    _transport_class: ClassVar[type[Transport]]

    def __init__(self, client: Any, **options: Unpack[Options]) -> None:
        """Make a cache on the Redis that a client of redis-py is connected to: a server or a cluster.

        The client is only read, for where and how to connect: the cache has connections of its own.

        Args:
            client: A client of redis-py, of redis.asyncio for the asynchronous cache.
            **options: Those of `from_url`.

        Raises:
            InvalidArgumentError: The client is none, or an option is unknown or wrong.
        """
        self.settings = check_options(**options)
        kind = self._transport_class
        self.transport: Any = client if isinstance(client, kind) else kind.from_client(client)
        self._near = near_cache_of(self.settings)
        self._listed = ListedSessions()
        self.observers: tuple[Observer, ...] = observers_of(self.settings)

    @classmethod
    def from_url(cls, url: str, **options: Unpack[Options]) -> Self:
        """Make a cache on the Redis at a URL; nothing is connected yet.

        Args:
            url: redis:// rediss:// unix:// redis+cluster:// rediss+cluster:// redis+sentinel://
                rediss+sentinel:// or memory://, an in-process server (extra `embedded`).
            **options: Any of these:

                prefix: beginning of the names of all keys; `sessioncache` by default.
                ttl: lifetime of a session after each write, in seconds or as a timedelta; None, the default,
                for ever.
                touch_on_read: whether reading a session also begins its lifetime again.
                max_runs: most runs of a session: a write that adds one removes the oldest beyond it.
                max_run_bytes: largest packed run, in bytes; 8 MiB by default.
                timeout: seconds that one call may take, retries included; 5 by default.
                mark_deletions: whether a deletion leaves a mark for a day, so that the `reason` of a
                    SessionNotFoundError tells what was deleted from what expired.
                near_cache: a NearCache, or its `max_bytes`: what this process holds of the sessions it reads,
                    so that it fetches only what has changed; None, the default, for nothing.
                on_call: a function that is told of each call, by a CallRecord, once it is over; None, the
                    default, for none.

        Raises:
            InvalidArgumentError: The URL or an option is unknown or wrong.
        """
        return cls(cls._transport_class.from_url(url), **options)

    def near_cache_info(self) -> NearCacheInfo | None:
        """Return what the near cache of this process did and holds; None if there is none.

        Redis:
            Nothing.
        """
        return None if self._near is None else self._near.info()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transport.topology!r}, prefix={self.settings.prefix!r})"


class SessionCache(BaseCache):
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

    def _run(self, operation: Operation[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name, topology = operation.__name__, self.transport.topology
        ctx = Context(
            topology=topology, settings=self.settings, name=name, near=self._near, listed=self._listed
        )
        flow = operation(ctx, *args, **kwargs)
        if self.observers:
            flow = observed(self.observers, ctx, flow, args[0] if args else None)
        return self.transport.run(flow)

    def upsert_session(self, session: WorkflowSession, *, expect_rev: int | None = None) -> None:
        """Create a session, or merge what changed in this object into the stored one.

        Of `session_data`, its `session_state`, `workflow_data` and `metadata`, those top-level keys are
        written that differ from what this object was loaded with or last saved as, so that workers who
        change different keys do not undo each other. New and changed runs are written; none is ever
        removed. Sets `session.updated_at` to the server's clock.

        Args:
            session: A session made new, which may create one, or one that was loaded, which cannot.
            expect_rev: The revision that the stored session must have, as in `session.rev`; 0 if there must
                be no session.

        Raises:
            SessionNotFoundError: The object was loaded, and its session is gone.
            SessionConflictError: The stored revision is not `expect_rev`.
            SessionOwnershipError: The stored session belongs to another user.
            StaleRunError: A stored run is of a later `queue_attempt`.

        Redis:
            EVALSHA; 1 round trip, and 1 for each further 4 MiB or 500 runs.
        """
        return self._run(upsert.upsert_session, session, expect_rev=expect_rev)

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
        self, session_ids: Sequence[str], *, last_n_runs: int | None = None
    ) -> list[WorkflowSession | None]:
        """Load many sessions, each as `get_session` does.

        Args:
            session_ids: The sessions.
            last_n_runs: How many of the newest runs of each; None for all, 0 or less for none.

        Returns:
            The sessions in the order of their ids, None for each that does not exist.

        Raises:
            DamagedSessionError: As `get_session`.
            SessionVersionError: As `get_session`.

        Redis:
            As `get_session` for each id; 1 round trip, in a cluster 1 to each node, at once.
        """
        return self._run(read.get_sessions, session_ids, last_n_runs=last_n_runs)

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

    def touch_session(self, session_id: str, ttl: int | timedelta | EllipsisType | None = ...) -> bool:
        """Begin the lifetime of a session again.

        Args:
            session_id: The session.
            ttl: Its lifetime from now: seconds or a timedelta, None for ever; by default the cache's own.

        Returns:
            Whether the session exists.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of its user and workflow.
        """
        return self._run(touch.touch_session, session_id, ttl)

    def get_ttls(self, session_ids: Collection[str]) -> list[float | None]:
        """Tell how long sessions live on.

        Args:
            session_ids: The sessions.

        Returns:
            For each the seconds left, infinity if it never expires; None if it does not exist.

        Redis:
            PTTL for each id; 1 round trip, in a cluster 1 to each node, at once.
        """
        return self._run(touch.get_ttls, session_ids)

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

    def upsert_run(self, session_id: str, run: WorkflowRunOutput) -> None:
        """Store a run, or replace the one with its run_id. Nothing is read first.

        A new run is placed by its `created_at`, runs of one second by arrival. A run that is replaced keeps
        its place, and its `queue_attempt` if the new one has none.

        Args:
            session_id: The session, which must exist.
            run: The run; its `session_id`, if it has one, must be this session's.

        Raises:
            SessionNotFoundError: The session does not exist.
            SessionOwnershipError: The session belongs to another user than the run.
            StaleRunError: The stored run has a higher `queue_attempt`.

        Redis:
            EVALSHA; 1 round trip whatever the session's length, and 1 for indexes if the run names no user or
            workflow.
        """
        return self._run(upsert.upsert_run, session_id, run)

    def upsert_runs(self, session_id: str, runs: Iterable[WorkflowRunOutput]) -> None:
        """Store runs, each as `upsert_run` does.

        Args:
            session_id: The session, which must exist.
            runs: The runs, in the order of their arrival.

        Raises:
            SessionNotFoundError: As `upsert_run`.
            SessionOwnershipError: As `upsert_run`.
            StaleRunError: As `upsert_run`.

        Redis:
            EVALSHA; 1 round trip for each 4 MiB or 500 runs. Each is atomic, and repeating all is safe.
        """
        return self._run(upsert.upsert_runs, session_id, runs)

    def get_run(self, session_id: str, run_id: str) -> WorkflowRunOutput | None:
        """Load one run.

        Args:
            session_id: The session.
            run_id: The run.

        Returns:
            The run, or None if it or its session does not exist.

        Redis:
            EVALSHA; 1 round trip.
        """
        return self._run(runs.get_run, session_id, run_id)

    def get_runs(
        self,
        session_id: str,
        *,
        last_n_runs: int | None = None,
        statuses: Collection[RunStatus | str] | None = None,
    ) -> list[WorkflowRunOutput]:
        """Load the runs of a session, or the newest.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest runs; None for all.
            statuses: If given, only runs with one of these statuses count, by name or value in any case.

        Returns:
            The runs, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and 2 ZRANGE; 1 round trip. With `statuses` and `last_n_runs` one for each
            page, from the newest run backwards, until there are enough.
        """
        return self._run(history.get_runs, session_id, last_n_runs=last_n_runs, statuses=statuses)

    def iter_runs(self, session_id: str, *, page_size: int = 100) -> Iterator[WorkflowRunOutput]:
        """Iterate over the runs of a session, holding no more than a page.

        Args:
            session_id: The session.
            page_size: How many runs are read at once.

        Yields:
            The runs, oldest first. None comes twice, and none that was there from the beginning is left out,
            whatever others write.

        Raises:
            SessionNotFoundError: The session does not exist, or no longer.

        Redis:
            MULTI of HMGET, ZCARD and 2 ZRANGE; 1 round trip for each page.
        """
        page = self._run(runs.get_runs_after, session_id, runs.START, page_size)
        while page.runs:
            yield from page.runs
            page = self._run(runs.get_runs_after, session_id, page.last, page_size)

    def delete_run(self, session_id: str, run_id: str) -> bool:
        """Remove one run.

        Args:
            session_id: The session.
            run_id: The run.

        Returns:
            Whether the run existed.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of the session's user and workflow.
        """
        return self._run(runs.delete_run, session_id, run_id)

    def get_chat_history(
        self, session_id: str, last_n_runs: int | None = None
    ) -> list[WorkflowChatInteraction]:
        """Return the `get_chat_history` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest runs; None for all.

        Returns:
            Inputs and outputs, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and ZRANGE; 1 round trip.
        """
        return self._run(history.get_chat_history, session_id, last_n_runs)

    def get_workflow_history(self, session_id: str, last_n_runs: int | None = None) -> list[tuple[str, str]]:
        """Return the `get_workflow_history` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest completed runs; None for all.

        Returns:
            Input and output of each completed run as text, oldest first.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            MULTI of HMGET, ZCARD and ZRANGE; 1 round trip, and more, from the newest run backwards, if runs
            are not completed.
        """
        return self._run(history.get_workflow_history, session_id, last_n_runs)

    def get_workflow_history_context(self, session_id: str, last_n_runs: int | None = None) -> str | None:
        """Return the `get_workflow_history_context` of the whole session, reading heads only.

        Args:
            session_id: The session.
            last_n_runs: How many of the newest completed runs; None for all.

        Returns:
            The history as one block of text for a prompt, None if it is empty.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            As `get_workflow_history`.
        """
        return self._run(history.get_workflow_history_context, session_id, last_n_runs)

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
        )

    def list_sessions(
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
        """List sessions by the time of their last update; no run is read.

        Sessions that are gone are removed from the index as they are met, the oldest 16 with every listing.

        Args:
            user_id: Only sessions of this user.
            workflow_id: Only sessions of this workflow.
            name: Only sessions whose name contains this, in any case.
            created_after: Only sessions created then or later, in unix seconds.
            created_before: Only sessions created then or earlier, in unix seconds.
            limit: Most sessions of the page, up to 10,000.
            offset: How many sessions come before the page; they are looked at too.
            newest_first: Whether the session updated last comes first.

        Returns:
            The page, and the total if it is cheap. Sessions that are damaged or of another version are left
            out, with a line in the log, and stay listed.

        Raises:
            DamagedSessionError: The index itself is damaged: `rebuild_indexes` repairs it.

        Redis:
            MULTI of ZRANGE, ZRANDMEMBER and ZCARD, then MULTI of HMGET and ZCARD for each session; 2 round
            trips, and more to search for a name or a time or to skip over 2,000 sessions.
        """
        wanted = listing.SessionFilter(user_id, workflow_id, name, created_after, created_before)
        return self._run(listing.list_sessions, wanted, limit=limit, offset=offset, newest_first=newest_first)

    def iter_sessions(
        self,
        *,
        user_id: str | None = None,
        workflow_id: str | None = None,
        name: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        page_size: int = 500,
    ) -> Iterator[SessionSummary]:
        """Iterate over sessions, all or those that fit, holding no more than a page and 8 bytes for each.

        Args:
            user_id: As in `list_sessions`, like all others.
            workflow_id: None for any.
            name: None for any.
            created_after: None for any.
            created_before: None for any.
            page_size: How many sessions are read at once.

        Yields:
            The sessions, those updated last at the end; in a cluster, sorted so within each part of an index.
            None comes twice, and none that was there from the beginning is left out, whatever others write.

        Raises:
            DamagedSessionError: An index is no sorted set; `rebuild_indexes` replaces it.

        Redis:
            ZRANGE, and MULTI of HMGET and ZCARD for each session; 2 round trips for each page.
        """
        wanted = listing.SessionFilter(user_id, workflow_id, name, created_after, created_before)
        walk = iteration.SessionWalk(wanted, page_size)
        while (page := self._run(iteration.next_sessions, walk)) is not None:
            yield from page

    def stats(self, sample: int | None = None, progress: Callable[[int], object] | None = None) -> StoreStats:
        """Measure what is stored: sessions, runs, memory, lifetimes.

        It rests after each step, four times as long as the step took, and holds some bytes for each session.

        Args:
            sample: About how many sessions to look at; None for all.
            progress: Called after each step with the number of sessions so far.

        Returns:
            Counts and bytes, and the largest sessions.

        Redis:
            SCAN, and MEMORY USAGE, PTTL, ZCARD and ZRANGE for each session; 2 round trips for 20 sessions.
        """
        return self._run(stats.stats, sample=sample, progress=progress)

    def verify(
        self,
        *,
        repair: bool = False,
        delete_damaged: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> VerifyReport:
        """Check every session and every index, and repair what can be repaired.

        It rests after each step, four times as long as the step took.

        Args:
            repair: Whether to repair what loses nothing: indexes, lifetimes, counts.
            delete_damaged: Whether to delete runs that do not decode, and damaged sessions.
            progress: Called after each step with the number of sessions so far.

        Returns:
            What was found, and what of it is repaired.

        Redis:
            SCAN, and all of each session; 3 round trips for 25 sessions, and EVALSHA for each repair.
        """
        return self._run(verify.verify, repair=repair, delete_damaged=delete_damaged, progress=progress)

    def rebuild_indexes(self, progress: Callable[[int], object] | None = None) -> int:
        """List every session in the indexes again: for repair, and for sessions stored without indexes.

        An index key of another type is replaced. A session that does not say where it belongs is skipped,
        with a line in the log.

        Args:
            progress: Called after each step with the number of sessions so far.

        Returns:
            How many sessions there are.

        Redis:
            SCAN of all keys, HMGET and PTTL for each session, EVALSHA for each entry; 5 round trips for about
            each 500 keys. Each step has the cache's `timeout` of its own.
        """
        return self._run(rebuild.rebuild_indexes, progress)

    def ping(self) -> float:
        """Check that Redis replies, in a cluster every master: a probe of readiness.

        It waits for a server that is starting or being replaced, as every call does.

        Returns:
            The seconds that the slowest reply took, connecting included.

        Redis:
            PING; 1 round trip, in a cluster 1 to each master, at once.
        """
        return self._run(ping.ping)

    def refresh(self, session: WorkflowSession) -> bool:
        """Bring a loaded session object up to date, in place.

        What this object has changed and not saved wins: a key of its dicts, a field or a run that was changed
        here stays as it is here, and everything else becomes what is stored. Runs deleted elsewhere go; new
        runs of this object stay, at the end. An object loaded with `last_n_runs` gets the newest again.

        Args:
            session: A session that was loaded or saved.

        Returns:
            Whether anything had changed.

        Raises:
            SessionNotFoundError: The session was deleted.

        Redis:
            EVALSHA; 1 round trip, and 1 more, as `get_session`, if it changed in many writes, or by much.
        """
        return self._run(refresh.refresh, session)

    def update_session_state(
        self, session_id: str, changes: Mapping[str, Any], *, remove: Iterable[str] = ()
    ) -> None:
        """Set and remove top-level keys of `session_data["session_state"]`; no other key is touched.

        Args:
            session_id: The session, which must exist.
            changes: The keys to set, with their values.
            remove: The keys to remove.

        Raises:
            SessionNotFoundError: The session does not exist.

        Redis:
            EVALSHA; 1 round trip, and 1 for the indexes of the session's user and workflow.
        """
        return self._run(update.update_session_state, session_id, changes, remove=remove)

    def update_session(
        self,
        session_id: str,
        change: Callable[[WorkflowSession], None],
        *,
        retries: int = update.UPDATE_RETRIES,
        last_n_runs: int | None = None,
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

        Returns:
            The session as it was saved.

        Raises:
            SessionNotFoundError: The session does not exist.
            SessionConflictError: Others wrote the session each time.

        Redis:
            As `get_session` and `upsert_session`; 2 round trips for each attempt.
        """
        return self._run(update.update_session, session_id, change, retries=retries, last_n_runs=last_n_runs)

    def close(self) -> None:
        """Close the connections (asynchronous: of the running event loop); a later call opens new ones."""
        self.transport.close()
