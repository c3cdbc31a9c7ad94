"""The calls about sessions and runs that agno's Dbs declare, for both Dbs.

A method returns what the transport returns: a result, or an awaitable of it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from agno.run.status_persist import RunPersistOutcome

from sessioncache.errors import RunTooLargeError
from sessioncache.operations.context import Context, Operation
from sessioncache.operations.listed import ListedSessions
from sessioncache.operations.near_cache import NearCacheInfo, NearCacheStore
from sessioncache.operations.observed import Observer, observed
from sessioncache.options import Settings
from sessioncache.transport.flow import Flow

from . import fenced, listing, runs, sessions
from .ids import Arguments, takes_ids
from .legacy import Legacy
from .listing import SessionFilter
from .sessions import upsert_sessions as _upsert_sessions

log: Final = logging.getLogger("sessioncache")


def _none(given: Arguments) -> None:
    return None


def _false(given: Arguments) -> bool:
    return False


def _missing(given: Arguments) -> RunPersistOutcome:
    return RunPersistOutcome.MISSING


def _empty_page(given: Arguments) -> Any:
    return [] if given.get("deserialize", True) else ([], 0)


def _warning_of_large_runs(flow: Flow[Any]) -> Flow[Any]:
    """Say in the log which run is too large: agno goes on without it, and says little."""
    try:
        return (yield from flow)
    except RunTooLargeError as exc:
        log.warning("%s, and is not stored; its session is %r", exc, exc.session_id)
        raise


class SessionCalls:
    """Sessions and runs, kept in a cache. A session is read and written whole, a run by itself."""

    transport: Any
    settings: Settings
    near: NearCacheStore | None
    """What this process holds of sessions; None if it holds none."""
    listed: ListedSessions
    """What this process knows of indexes in a cluster."""
    observers: tuple[Observer, ...]
    """Who is told of calls."""
    legacy: Legacy | None
    """Where sessions are read through from; None if they are not."""

    def _run(self, operation: Operation[..., Any], *args: Any, **kwargs: Any) -> Any:
        name = operation.__name__
        legacy = self.legacy if self.legacy is not None and self.legacy.may_be_left else None
        ctx = Context(
            topology=self.transport.topology,
            settings=self.settings,
            name=name,
            near=self.near,
            listed=self.listed,
            elsewhere=legacy,
        )
        flow = _warning_of_large_runs(operation(ctx, *args, **kwargs))
        if self.observers:
            flow = observed(self.observers, ctx, flow, args[0] if args else None)
        return self.transport.run(flow)

    def near_cache_info(self) -> NearCacheInfo | None:
        """Return what the near cache of this process did and holds; None if there is none."""
        return None if self.near is None else self.near.info()

    @takes_ids(_none)
    def get_session(
        self,
        session_id: str,
        session_type: Any = None,
        user_id: str | None = None,
        deserialize: bool | None = True,
        runs_limit: int | None = None,
    ) -> Any:
        """Load a session, all runs or the newest that count as history; None if this user has none."""
        return self._run(sessions.get_session, session_id, session_type, user_id, deserialize, runs_limit)

    @takes_ids(_empty_page)
    def get_sessions(
        self,
        session_type: Any = None,
        user_id: str | None = None,
        component_id: str | None = None,
        session_name: str | None = None,
        start_timestamp: int | None = None,
        end_timestamp: int | None = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
        include_runs: bool | None = True,
        create_index_if_not_found: bool | None = True,
    ) -> Any:
        """Load a page of sessions; without `deserialize`, dicts and how many there are on all pages."""
        wanted = SessionFilter(
            session_type, user_id, component_id, session_name, start_timestamp, end_timestamp
        )
        return self._run(
            listing.get_sessions,
            wanted,
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
            include_runs=bool(include_runs),
        )

    @takes_ids(_none)
    def rename_session(
        self,
        session_id: str,
        session_type: Any,
        session_name: str,
        user_id: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Set a session's name; return the session, None if this user has none."""
        return self._run(
            sessions.rename_session, session_id, session_type, session_name, user_id, deserialize
        )

    def upsert_session(self, session: Any, deserialize: bool | None = True) -> Any:
        """Create a session or merge what changed of it, but for its runs; None if it is another user's."""
        return self._run(sessions.upsert_session, session, deserialize)

    def upsert_sessions(
        self, sessions: list[Any], deserialize: bool | None = True, preserve_updated_at: bool = False
    ) -> Any:
        """Save sessions, up to 64 in one round trip; another user's are left out of the result."""
        return self._run(_upsert_sessions, sessions, deserialize, preserve_updated_at)

    @takes_ids(_false)
    def delete_session(self, session_id: str, user_id: str | None = None) -> Any:
        """Remove a session with its runs; return False if this user has none."""
        return self._run(sessions.delete_session, session_id, user_id)

    @takes_ids(_none)
    def delete_sessions(self, session_ids: list[str], user_id: str | None = None) -> Any:
        """Remove sessions with their runs, as far as this user has them."""
        return self._run(sessions.delete_sessions, session_ids, user_id)

    @takes_ids(_false)
    def reassign_session_owner(self, session_id: str, *, previous_user_id: str, user_id: str | None) -> Any:
        """Give a session to another user if its owner is as expected and no run of it is active."""
        return self._run(
            sessions.reassign_session_owner, session_id, previous_user_id=previous_user_id, user_id=user_id
        )

    @takes_ids(writes=True)
    def upsert_run(
        self, run: Any, session_id: str, user_id: str | None = None, run_index: int | None = None
    ) -> Any:
        """Store a run of a session that exists, or replace it in its place."""
        return self._run(runs.upsert_run, run, session_id, user_id, run_index)

    @takes_ids(_none)
    def get_run(self, run_id: str, deserialize: bool | None = True) -> Any:
        """Load a run; without `deserialize`, its row."""
        return self._run(runs.get_run, run_id, deserialize)

    @takes_ids(_empty_page)
    def get_runs(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        team_id: str | None = None,
        workflow_id: str | None = None,
        status: Any = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Load a page of runs; without `deserialize`, rows and how many there are on all pages."""
        return self._run(
            runs.get_runs,
            runs.RunFilter(session_id, user_id, agent_id, team_id, workflow_id, status),
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
        )

    @takes_ids(_false)
    def delete_run(self, run_id: str) -> Any:
        """Remove a run; return False if there is none."""
        return self._run(runs.delete_run, run_id)

    @takes_ids(_none)
    def delete_runs(self, run_ids: list[str]) -> Any:
        """Remove runs, as far as they exist."""
        return self._run(runs.delete_runs, run_ids)

    @takes_ids(_false)
    def cancel_pending_run(
        self,
        run_id: str,
        *,
        session_id: str,
        reason: str,
        user_id: str | None = None,
        expected_status: str = "PENDING",
    ) -> Any:
        """Cancel a run if its status is the one expected; return whether it was."""
        return self._run(
            runs.cancel_pending_run,
            run_id,
            session_id=session_id,
            reason=reason,
            user_id=user_id,
            expected_status=expected_status,
        )

    # What agno's durable queue asks of a Db, so that no late worker writes over what came after it

    @takes_ids(_missing, writes=True)
    def update_run_in_session(
        self,
        session_id: str,
        run_id: str,
        fields: dict[str, Any],
        expected_attempt: int | None = None,
        user_id: str | None = None,
        content_if_absent: str | None = None,
        session_data: dict[str, Any] | None = None,
    ) -> Any:
        """Change fields of a run unless a later attempt or an end of it is stored; return what happened."""
        return self._run(
            fenced.update_run_in_session,
            session_id,
            run_id,
            fields,
            expected_attempt,
            user_id,
            content_if_absent,
            session_data,
        )

    @takes_ids(_none, writes=True)
    def append_run_to_session_if_absent(
        self, session_id: str, run_dict: dict[str, Any], user_id: str | None = None
    ) -> Any:
        """Store a run; return False if the session has it already, None if there is no session."""
        return self._run(fenced.append_run_to_session_if_absent, session_id, run_dict, user_id)

    def insert_session_if_absent(self, session: Any) -> Any:
        """Create a session without its runs; return False if there is one."""
        return self._run(fenced.insert_session_if_absent, session)
