"""Rows of lists of sessions, and of refreshing one."""

from __future__ import annotations

from typing import Final

from benchmark.comparison import Row, Target
from benchmark.fixture import LISTED, QUICK_LISTED, Fixture
from benchmark.systems import LAST
from benchmark.timing import Candidate, Pair, measure_pair

RUNS: Final = 1_000
"""Runs of the session that is read."""

PAGE: Final = 20
"""Sessions of one page of a list."""


async def _listing_against_agno(fixture: Fixture, seconds: float) -> Pair:
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    cache, database = fixture.listing_cache(), fixture.listing_agno()
    ours = Candidate(lambda _: cache.list_sessions(user_id="user-7", limit=PAGE))
    theirs = Candidate(
        lambda _: database.get_sessions(
            SessionType.WORKFLOW, user_id="user-7", limit=PAGE, sort_by="updated_at", sort_order="desc"
        )
    )
    return await measure_pair(ours, theirs, seconds)


async def _refresh_against_ping(fixture: Fixture, seconds: float) -> Pair:
    session = fixture.cache.get_session(fixture.session(RUNS), last_n_runs=LAST)
    ours = Candidate(lambda _: fixture.cache.refresh(session))
    assert not ours.call(None), "an unchanged session was found changed"
    return await measure_pair(ours, Candidate(lambda _: fixture.bare.ping()), seconds)


ROWS: Final = (
    Row(
        f"list_sessions(user_id, limit={PAGE}) of {LISTED:,} sessions",
        f"agno get_sessions(user_id, limit={PAGE})",
        "agno",
        Target(200, faster=True),
        _listing_against_agno,
        note=f"without runs: agno would read those of a page, too; --quick: {QUICK_LISTED:,} sessions",
    ),
    Row("refresh, unchanged", "redis-py PING", "redis-py", Target(2), _refresh_against_ping),
)
