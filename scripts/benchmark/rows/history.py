"""Rows of histories and messages."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from benchmark import bare, dataset
from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST
from benchmark.timing import Candidate, Pair, measure_pair

RUNS: Final = 1_000
"""Runs of the session that is read."""

HISTORY: Final = 10
"""Turns of a chat history."""


def _agno_session(fixture: Fixture) -> Any:
    """Return the function that loads the whole session from agno."""
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    session_id = fixture.agno_session(RUNS)
    return partial(fixture.agno.get_session, session_id, SessionType.WORKFLOW)


async def _history_against_agno(fixture: Fixture, seconds: float) -> Pair:
    session_id, load = fixture.session(RUNS), _agno_session(fixture)
    ours = Candidate(lambda _: fixture.cache.get_chat_history(session_id, last_n_runs=HISTORY))
    theirs = Candidate(lambda _: load().get_chat_history(last_n_runs=HISTORY))
    turns, agno_turns = ([(t.input, t.output) for t in side.call(None)] for side in (ours, theirs))
    assert turns == agno_turns, "the systems do not agree on the history"
    return await measure_pair(ours, theirs, seconds, _bare_history(fixture))


async def _history_against_limit(fixture: Fixture, seconds: float) -> Pair:
    session_id = fixture.session(RUNS)
    ours = Candidate(lambda _: fixture.cache.get_chat_history(session_id, last_n_runs=HISTORY))
    return await measure_pair(ours, _bare_history(fixture), seconds)


def _bare_history(fixture: Fixture) -> Candidate:
    _, runs_key = bare.cache_keys(fixture.session(RUNS))
    return Candidate(lambda _: bare.unpack_heads(bare.newest_heads(fixture.bare, runs_key, HISTORY)))


async def _messages_against_agno(fixture: Fixture, seconds: float) -> Pair:
    session_id, load = fixture.session(RUNS), _agno_session(fixture)
    wanted = {"agent_id": dataset.AGENT, "last_n_runs": LAST}
    ours = Candidate(lambda _: fixture.cache.get_messages(session_id, **wanted))
    theirs = Candidate(lambda _: load().get_messages(**wanted))
    ids, agno_ids = ([message.id for message in side.call(None)] for side in (ours, theirs))
    assert ids, "no message was found"
    assert ids == agno_ids, "the systems do not agree on the messages"
    return await measure_pair(ours, theirs, seconds)


ROWS: Final = (
    Row(
        f"get_chat_history(last_n_runs={HISTORY}), {RUNS:,} runs",
        "agno get_session, get_chat_history",
        "agno",
        Target(3_000, faster=True),
        _history_against_agno,
    ),
    Row(
        "the same",
        "redis-py ZRANGE of the same heads, and unpackb of them",
        "redis-py",
        Target(1.5),
        _history_against_limit,
    ),
    Row(
        f"get_messages(agent_id, last_n_runs={LAST}), {RUNS:,} runs",
        "agno get_session, get_messages",
        "agno",
        Target(500, faster=True),
        _messages_against_agno,
    ),
)
