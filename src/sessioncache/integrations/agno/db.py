"""SessionCacheDb: a Db for agno whose sessions and runs are kept here."""

from __future__ import annotations

from typing import Any, Unpack

from agno.db.redis import RedisDb

from sessioncache.base import Options

from . import runs, sessions
from .connecting import BlockingRecords, client_for_the_rest, records
from .listing import Wanted, get_sessions, sessions_for_metrics
from .sessions import upsert_sessions


class SessionCacheDb(RedisDb):
    """A Db for agno's Agent, Team and Workflow: sessions and runs are kept here, all else is RedisDb's.

        Workflow(db=SessionCacheDb(db_url="redis://localhost:6379/0", ttl=3600), ...)

    It takes what RedisDb takes, and the options of SessionCache but `prefix`, which is `db_prefix`. `ttl`
    is the lifetime of sessions, `expire` unless said otherwise, and `expire` that of everything else. A
    method raises errors of `sessioncache.errors` where Redis does not serve: None always means "not there".
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RedisDb's name for it
        redis_client: Any = None,
        db_url: str | None = None,
        db_prefix: str = "agno",
        expire: int | None = None,
        session_table: str | None = None,
        runs_table: str | None = None,
        memory_table: str | None = None,
        metrics_table: str | None = None,
        eval_table: str | None = None,
        knowledge_table: str | None = None,
        traces_table: str | None = None,
        spans_table: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Make a Db on the Redis of `redis_client` or `db_url`; with both, sessions go to that of the URL."""
        self.records = records(BlockingRecords, redis_client, db_url, db_prefix, expire, options)
        super().__init__(
            id=id,
            redis_client=client_for_the_rest(redis_client, db_url),
            db_url=db_url,
            db_prefix=db_prefix,
            expire=expire,
            session_table=session_table,
            runs_table=runs_table,
            memory_table=memory_table,
            metrics_table=metrics_table,
            eval_table=eval_table,
            knowledge_table=knowledge_table,
            traces_table=traces_table,
            spans_table=spans_table,
        )

    def close(self) -> None:
        """Close the connections; a Db that is used again opens new ones."""
        self.records.close()
        super().close()

    # Sessions

    def get_session(
        self,
        session_id: str,
        session_type: Any = None,
        user_id: str | None = None,
        deserialize: bool | None = True,
        runs_limit: int | None = None,
    ) -> Any:
        """Load a session, all runs or the newest that count as history; None where this user has none."""
        return self.records.perform(
            sessions.get_session, session_id, session_type, user_id, deserialize, runs_limit
        )

    def get_sessions(  # type: ignore[override]  # agno's two bases differ in the twelfth argument
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
        wanted = Wanted(session_type, user_id, component_id, session_name, start_timestamp, end_timestamp)
        return self.records.perform(
            get_sessions,
            wanted,
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
            include_runs=bool(include_runs),
        )

    def rename_session(
        self,
        session_id: str,
        session_type: Any,
        session_name: str,
        user_id: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Set a session's name; return the session, None where this user has none."""
        return self.records.perform(
            sessions.rename_session, session_id, session_type, session_name, user_id, deserialize
        )

    def upsert_session(self, session: Any, deserialize: bool | None = True) -> Any:
        """Create a session or merge what changed of it, but for its runs; None where it is another user's."""
        return self.records.perform(sessions.upsert_session, session, deserialize)

    def upsert_sessions(
        self, sessions: list[Any], deserialize: bool | None = True, preserve_updated_at: bool = False
    ) -> list[Any]:
        """Save sessions one by one; those that are another user's are left out of the answer."""
        return self.records.perform(upsert_sessions, sessions, deserialize, preserve_updated_at)

    def delete_session(self, session_id: str, user_id: str | None = None) -> bool:
        """Remove a session with its runs; False where this user has none."""
        return self.records.perform(sessions.delete_session, session_id, user_id)

    def delete_sessions(self, session_ids: list[str], user_id: str | None = None) -> None:
        """Remove sessions with their runs, as far as this user has them."""
        return self.records.perform(sessions.delete_sessions, session_ids, user_id)

    def reassign_session_owner(self, session_id: str, *, previous_user_id: str, user_id: str | None) -> bool:
        """Give a session to another user if its owner is as expected and no run of it is active."""
        return self.records.perform(
            sessions.reassign_session_owner, session_id, previous_user_id=previous_user_id, user_id=user_id
        )

    # Runs

    def upsert_run(
        self, run: Any, session_id: str, user_id: str | None = None, run_index: int | None = None
    ) -> None:
        """Store a run of a session that exists, or replace it in its place."""
        return self.records.perform(runs.upsert_run, run, session_id, user_id, run_index)

    def get_run(self, run_id: str, deserialize: bool | None = True) -> Any:
        """Load a run; without `deserialize`, its row."""
        return self.records.perform(runs.get_run, run_id, deserialize)

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
        return self.records.perform(
            runs.get_runs,
            runs.WantedRuns(session_id, user_id, agent_id, team_id, workflow_id, status),
            limit=limit,
            page=page,
            sort_by=sort_by,
            sort_order=sort_order,
            deserialize=deserialize,
        )

    def delete_run(self, run_id: str) -> bool:
        """Remove a run; False where there is none."""
        return self.records.perform(runs.delete_run, run_id)

    def delete_runs(self, run_ids: list[str]) -> None:
        """Remove runs, as far as they exist."""
        return self.records.perform(runs.delete_runs, run_ids)

    def cancel_pending_run(
        self,
        run_id: str,
        *,
        session_id: str,
        reason: str,
        user_id: str | None = None,
        expected_status: str = "PENDING",
    ) -> bool:
        """Cancel a run if its status is the one expected; tell whether it was."""
        return self.records.perform(
            runs.cancel_pending_run,
            run_id,
            session_id=session_id,
            reason=reason,
            user_id=user_id,
            expected_status=expected_status,
        )

    # What RedisDb does with sessions and runs where it computes metrics, and where it migrates them

    def cleanup_legacy_runs_field(self, force: bool = False) -> bool:
        """Do nothing, and say so: no session here has its runs twice."""
        return False

    def _get_all_sessions_for_metrics_calculation(
        self, start_timestamp: int | None = None, end_timestamp: int | None = None
    ) -> list[dict[str, Any]]:
        wanted = Wanted(start_timestamp=start_timestamp, end_timestamp=end_timestamp)
        return self.records.perform(sessions_for_metrics, wanted)

    def _get_session_runs_data(self, session_id: str) -> list[dict[str, Any]]:
        rows, _ = self.get_runs(session_id=session_id, deserialize=False)
        return [row["run_data"] for row in rows]
