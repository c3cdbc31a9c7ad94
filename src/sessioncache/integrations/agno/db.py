"""SessionCacheDb: a Db for agno whose sessions and runs are kept here."""

from __future__ import annotations

from typing import Any, Unpack

from agno.db.redis import RedisDb

from sessioncache.operations.context import near_cache_of
from sessioncache.operations.listed import ListedSessions
from sessioncache.operations.observed import observers_of
from sessioncache.options import Options
from sessioncache.transport.blocking import BlockingTransport

from .calls import SessionCalls
from .connect import client_for_the_rest, connect
from .legacy import legacy_if
from .listing import SessionFilter, sessions_for_metrics


class SessionCacheDb(SessionCalls, RedisDb):  # type: ignore[misc]  # agno's two bases differ in get_sessions
    """A Db for agno's Agent, Team and Workflow: sessions and runs are kept here, the rest is RedisDb's.

        Workflow(db=SessionCacheDb(db_url="redis://localhost:6379/0", ttl=3600), ...)

    It takes what RedisDb takes, and the options of SessionCache except `prefix`, which is `db_prefix` here.
    `ttl` is the lifetime of sessions, by default `expire`, which is that of everything else. If Redis does
    not serve, a method raises an error of `sessioncache.errors`: None always means "not there".
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
        read_legacy: bool = True,
        **options: Unpack[Options],
    ) -> None:
        """Make a Db on the Redis of `redis_client` or `db_url`; with both, sessions go to that of the URL.

        With `read_legacy`, sessions that a RedisDb of the same prefix left there are imported when needed.
        """
        self.transport, self.settings = connect(
            BlockingTransport, redis_client, db_url, db_prefix, expire, options
        )
        self.near = near_cache_of(self.settings)
        self.listed = ListedSessions()
        self.observers = observers_of(self.settings)
        self.legacy = legacy_if(read_legacy)
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
        self.transport.close()
        super().close()

    # What RedisDb asks of sessions and runs to compute metrics, and to migrate them

    def cleanup_legacy_runs_field(self, force: bool = False) -> bool:
        """Do nothing, and say so: no session here has its runs twice."""
        return False

    def _get_all_sessions_for_metrics_calculation(
        self, start_timestamp: int | None = None, end_timestamp: int | None = None
    ) -> list[dict[str, Any]]:
        wanted = SessionFilter(start_timestamp=start_timestamp, end_timestamp=end_timestamp)
        found: list[dict[str, Any]] = self._run(sessions_for_metrics, wanted)
        return found

    def _get_session_runs_data(self, session_id: str) -> list[dict[str, Any]]:
        rows, _ = self.get_runs(session_id=session_id, deserialize=False)
        return [row["run_data"] for row in rows]
