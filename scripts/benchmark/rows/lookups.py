"""Rows of lookups: the last turns, and a whole session."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from benchmark import bare
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST, agno_last, cache_last
from benchmark.timing import Candidate, Pair, measure_pair

RUNS: Final = 1_000
"""Runs of the session that is read."""


async def _last_runs_against_agno(fixture: Fixture, seconds: float) -> Pair:
    ours, theirs = cache_last(fixture, RUNS), agno_last(fixture, RUNS)
    ids, agno_ids = ([run.run_id for run in lookup.call(None).runs] for lookup in (ours, theirs))
    assert ids == agno_ids, "the systems do not agree on the last runs"
    return await measure_pair(ours, theirs, seconds, _bare_last(fixture))


async def _last_runs_against_limit(fixture: Fixture, seconds: float) -> Pair:
    return await measure_pair(cache_last(fixture, RUNS), _bare_last(fixture), seconds)


def _bare_last(fixture: Fixture) -> Candidate:
    session_id = fixture.session(RUNS)

    def fetch(_: Any) -> Any:
        fields, heads, bodies = bare.fetch(fixture.bare, session_id, LAST)
        return fields, bare.unpack_heads(heads), bodies

    return Candidate(fetch)


async def _whole_session(fixture: Fixture, seconds: float) -> Pair:
    session_id = fixture.session(RUNS)
    fixture.plain.set(session_id, bare.all_packed(fixture, session_id))
    ours = Candidate(lambda _: fixture.cache.get_session(session_id))
    theirs = Candidate(lambda _: msgpack.unpackb(fixture.plain.get(session_id)))
    return await measure_pair(ours, theirs, seconds)


ROWS: Final = (
    Row(
        f"get_session(last_n_runs={LAST}), {RUNS:,} runs",
        f"agno get_session(runs_limit={LAST})",
        "agno",
        Target(800, faster=True),
        _last_runs_against_agno,
    ),
    Row(
        "the same",
        "redis-py, the same bytes in one MULTI, and unpackb of the heads",
        "redis-py",
        Target(1.4),
        _last_runs_against_limit,
    ),
    Row(
        f"get_session(), {RUNS:,} runs",
        "redis-py GET of the same bytes, and unpackb of them all",
        "redis-py",
        Target(0.7),
        _whole_session,
    ),
)
