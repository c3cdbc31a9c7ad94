"""Rows of lookups: the last turns, a whole session, histories, messages, lists."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgpack

from . import bare, sample
from .rows import Target, row
from .stage import LISTED, QUICK_LISTED, Stage
from .systems import LAST, agno_last, cache_last
from .timing import Contestant, Duel, duel

RUNS: Final = 1_000
"""Runs of the session that is read."""

HISTORY: Final = 10
"""Turns of a chat history."""

PAGE: Final = 20
"""Sessions of one page of a list."""


def _agno_session(stage: Stage) -> Any:
    """Return the function that loads the whole session from agno."""
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    session_id = stage.agno_session(RUNS)
    return functools.partial(stage.agno.get_session, session_id, SessionType.WORKFLOW)


@row(
    "lookups",
    f"get_session(last_n_runs={LAST}), {RUNS:,} runs",
    f"agno get_session(runs_limit={LAST})",
    "agno",
    Target(800, faster=True),
)
async def _last_runs_against_agno(stage: Stage, seconds: float) -> Duel:
    ours, theirs = cache_last(stage, RUNS), agno_last(stage, RUNS)
    ids, agno_ids = ([run.run_id for run in lookup.call(None).runs] for lookup in (ours, theirs))
    assert ids == agno_ids, "the systems do not agree on the last runs"
    return await duel(ours, theirs, seconds, _bare_last(stage))


@row(
    "lookups",
    "the same",
    "redis-py, the same bytes in one MULTI, and unpackb of the heads",
    "redis-py",
    Target(1.4),
)
async def _last_runs_against_limit(stage: Stage, seconds: float) -> Duel:
    return await duel(cache_last(stage, RUNS), _bare_last(stage), seconds)


def _bare_last(stage: Stage) -> Contestant:
    session_id = stage.session(RUNS)

    def fetch(_: Any) -> Any:
        fields, heads, bodies = bare.fetch(stage.bare, session_id, LAST)
        return fields, bare.unpack_heads(heads), bodies

    return Contestant(fetch)


@row(
    "lookups",
    f"get_session(), {RUNS:,} runs",
    "redis-py GET of the same bytes, and unpackb of them all",
    "redis-py",
    Target(0.7),
)
async def _whole_session(stage: Stage, seconds: float) -> Duel:
    session_id = stage.session(RUNS)
    stage.plain.set(session_id, bare.all_packed(stage, session_id))
    ours = Contestant(lambda _: stage.cache.get_session(session_id))
    theirs = Contestant(lambda _: msgpack.unpackb(stage.plain.get(session_id)))
    return await duel(ours, theirs, seconds)


@row(
    "history",
    f"get_chat_history(last_n_runs={HISTORY}), {RUNS:,} runs",
    "agno get_session, get_chat_history",
    "agno",
    Target(3_000, faster=True),
)
async def _history_against_agno(stage: Stage, seconds: float) -> Duel:
    session_id, load = stage.session(RUNS), _agno_session(stage)
    ours = Contestant(lambda _: stage.cache.get_chat_history(session_id, last_n_runs=HISTORY))
    theirs = Contestant(lambda _: load().get_chat_history(last_n_runs=HISTORY))
    turns, agno_turns = ([(t.input, t.output) for t in side.call(None)] for side in (ours, theirs))
    assert turns == agno_turns, "the systems do not agree on the history"
    return await duel(ours, theirs, seconds, _bare_history(stage))


@row(
    "history",
    "the same",
    "redis-py ZRANGE of the same heads, and unpackb of them",
    "redis-py",
    Target(1.5),
)
async def _history_against_limit(stage: Stage, seconds: float) -> Duel:
    session_id = stage.session(RUNS)
    ours = Contestant(lambda _: stage.cache.get_chat_history(session_id, last_n_runs=HISTORY))
    return await duel(ours, _bare_history(stage), seconds)


def _bare_history(stage: Stage) -> Contestant:
    _, runs_key = bare.cache_keys(stage.session(RUNS))
    return Contestant(lambda _: bare.unpack_heads(bare.newest_heads(stage.bare, runs_key, HISTORY)))


@row(
    "history",
    f"get_messages(agent_id, last_n_runs={LAST}), {RUNS:,} runs",
    "agno get_session, get_messages",
    "agno",
    Target(500, faster=True),
)
async def _messages_against_agno(stage: Stage, seconds: float) -> Duel:
    session_id, load = stage.session(RUNS), _agno_session(stage)
    wanted = {"agent_id": sample.AGENT, "last_n_runs": LAST}
    ours = Contestant(lambda _: stage.cache.get_messages(session_id, **wanted))
    theirs = Contestant(lambda _: load().get_messages(**wanted))
    ids, agno_ids = ([message.id for message in side.call(None)] for side in (ours, theirs))
    assert ids, "no message was found"
    assert ids == agno_ids, "the systems do not agree on the messages"
    return await duel(ours, theirs, seconds)


@row(
    "listing",
    f"list_sessions(user_id, limit={PAGE}) of {LISTED:,} sessions",
    f"agno get_sessions(user_id, limit={PAGE})",
    "agno",
    Target(200, faster=True),
    note=f"without runs: agno would read those of a page, too; --quick: {QUICK_LISTED:,} sessions",
)
async def _listing_against_agno(stage: Stage, seconds: float) -> Duel:
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    cache, database = stage.listing_cache(), stage.listing_agno()
    ours = Contestant(lambda _: cache.list_sessions(user_id="user-7", limit=PAGE))
    theirs = Contestant(
        lambda _: database.get_sessions(
            SessionType.WORKFLOW, user_id="user-7", limit=PAGE, sort_by="updated_at", sort_order="desc"
        )
    )
    return await duel(ours, theirs, seconds)


@row(
    "listing",
    "refresh, unchanged",
    "redis-py PING",
    "redis-py",
    Target(2),
)
async def _refresh_against_ping(stage: Stage, seconds: float) -> Duel:
    session = stage.cache.get_session(stage.session(RUNS), last_n_runs=LAST)
    ours = Contestant(lambda _: stage.cache.refresh(session))
    assert not ours.call(None), "an unchanged session was found changed"
    return await duel(ours, Contestant(lambda _: stage.bare.ping()), seconds)
