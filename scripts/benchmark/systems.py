"""Every system's way to read the last turns of a session, and to add one: the lines of the plot."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgpack

from sessioncache import WorkflowRunOutput
from sessioncache.operations.context import Context
from sessioncache.operations.upsert import upsert_runs
from sessioncache.transport.flow import Command

from . import bare, sample
from .stage import Stage
from .timing import Contestant

if TYPE_CHECKING:
    from agents.extensions.memory import RedisSession

LAST: Final = 5
"""Runs that a worker asks for."""

MAX_ADDED: Final = 30
"""Runs added before they are removed again, off the clock, so that a session keeps its length, about."""

_numbers: Final = itertools.count(1_000_000, 1_000)


def new_records(session_id: str, count: int) -> list[sample.Json]:
    """Make runs that no session has yet."""
    return list(sample.run_records(session_id, count, first=next(_numbers)))


def new_runs(session_id: str, count: int) -> list[WorkflowRunOutput]:
    """Make runs as objects that no session has yet."""
    return [WorkflowRunOutput.from_dict(record) for record in new_records(session_id, count)]


def cache_last(stage: Stage, runs: int) -> Contestant:
    """Read the last turns from sessioncache."""
    session_id = stage.session(runs)
    return Contestant(lambda _: stage.cache.get_session(session_id, last_n_runs=LAST))


def cache_add(stage: Stage, runs: int) -> Contestant:
    """Add a run to a session of sessioncache."""
    session_id = stage.session(runs)
    return Contestant(
        lambda run: stage.cache.upsert_run(session_id, run),
        lambda count: new_runs(session_id, count),
        lambda given: [stage.cache.delete_run(session_id, run.run_id) for run in given],
        max_batch=MAX_ADDED,
    )


def script_add(stage: Stage, runs: int) -> Contestant:
    """Add a run by the cache's script alone: the command is made off the clock, and sent by redis-py."""
    session_id = stage.session(runs)

    def command(run: WorkflowRunOutput) -> Command:
        call = Context(topology=stage.cache.transport.topology, timeout=5.0, settings=stage.cache.settings)
        (sent,) = next(upsert_runs(call, session_id, [run])).commands
        return sent

    return Contestant(
        lambda pair: stage.bare.execute_command(*pair[1]),
        lambda count: [(run.run_id, command(run)) for run in new_runs(session_id, count)],
        lambda given: [stage.cache.delete_run(session_id, run_id) for run_id, _ in given],
        max_batch=MAX_ADDED,
    )


def cache_replace(stage: Stage, runs: int) -> Contestant:
    """Replace runs of a session of sessioncache."""
    session_id = stage.session(runs)
    stored = [WorkflowRunOutput.from_dict(record) for record in sample.run_records(session_id, runs)]
    return Contestant(
        lambda run: stage.cache.upsert_run(session_id, run),
        lambda count: list(itertools.islice(itertools.cycle(stored), count)),
    )


def agno_last(stage: Stage, runs: int) -> Contestant:
    """Read the last turns from agno."""
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    session_id = stage.agno_session(runs)
    read = functools.partial(stage.agno.get_session, session_id, SessionType.WORKFLOW)
    return Contestant(lambda _: read(runs_limit=LAST))


def agno_add(stage: Stage, runs: int) -> Contestant:
    """Add a run to a session of agno."""
    from agno.run.workflow import WorkflowRunOutput as AgnoRun  # noqa: PLC0415 - slow to import, may be left out

    session_id = stage.agno_session(runs)
    upsert = functools.partial(
        stage.agno.upsert_run, session_id=session_id, user_id=sample.USER, run_index=runs
    )
    return Contestant(
        upsert,
        lambda count: [AgnoRun.from_dict(record) for record in new_records(session_id, count)],
        lambda given: stage.agno.delete_runs([run.run_id for run in given]),
        max_batch=MAX_ADDED,
    )


def _agents_session(stage: Stage, runs: int) -> RedisSession:
    from agents.extensions.memory import RedisSession  # noqa: PLC0415 - slow to import, may be left out

    return RedisSession(f"session-{runs}", redis_client=stage.awaited)


def _agents_fill(stage: Stage, runs: int) -> None:
    """Store runs as items of a RedisSession, one each: the same bytes, in the form that it has for them."""
    if stage.is_new("agents", runs):
        records = sample.run_records(f"session-{runs}", runs)
        items = [json.dumps(record, separators=(",", ":")) for record in records]
        client = stage.client("agents")
        for start in range(0, len(items), 1000):
            client.rpush(f"agents:session:session-{runs}:messages", *items[start : start + 1000])


def agents_last(stage: Stage, runs: int) -> Contestant:
    """Read the last items from openai-agents."""
    _agents_fill(stage, runs)
    session = _agents_session(stage, runs)

    async def read(_: Any) -> Any:
        return await session.get_items(limit=LAST)

    return Contestant(read)


def agents_add(stage: Stage, runs: int) -> Contestant:
    """Add an item to a session of openai-agents."""
    _agents_fill(stage, runs)
    session = _agents_session(stage, runs)

    async def add(record: Any) -> None:
        await session.add_items([record])

    client = stage.client("agents")
    return Contestant(
        add,
        lambda count: new_records(session.session_id, count),
        lambda given: client.ltrim(f"agents:session:{session.session_id}:messages", 0, -len(given) - 1),
        max_batch=MAX_ADDED,
    )


def _blob(stage: Stage, runs: int) -> str:
    session_id = f"session-{runs}"
    if stage.is_new("json", runs):
        record = sample.session_record(session_id)
        record["runs"] = list(sample.run_records(session_id, runs))
        stage.blobs.set(session_id, json.dumps(record))
    return session_id


def json_last(stage: Stage, runs: int) -> Contestant:
    """Read the last turns from a session in one JSON text: all of it."""
    key = _blob(stage, runs)
    return Contestant(lambda _: json.loads(stage.blobs.get(key))["runs"][-LAST:])


def json_add(stage: Stage, runs: int) -> Contestant:
    """Add a run to a session in one JSON text: read, append, write."""
    key = _blob(stage, runs)
    text = stage.blobs.get(key)

    def add(record: sample.Json) -> None:
        session = json.loads(stage.blobs.get(key))
        session["runs"].append(record)
        stage.blobs.set(key, json.dumps(session))

    return Contestant(
        add,
        lambda count: new_records(key, count),
        lambda _: stage.blobs.set(key, text),
        max_batch=MAX_ADDED,
    )


def bare_last(stage: Stage, runs: int) -> Contestant:
    """Read the same bytes with redis-py alone."""
    session_id = stage.session(runs)
    return Contestant(lambda _: bare.fetch(stage.bare, session_id, LAST))


def bare_add(stage: Stage, runs: int) -> Contestant:
    """Store the same bytes with redis-py alone."""
    return Contestant(
        lambda packed: stage.plain.set("run", packed),
        lambda count: list(itertools.islice(itertools.cycle(packed_runs()), count)),
        max_batch=MAX_ADDED,
    )


def socket_last(stage: Stage, runs: int) -> Contestant:
    """Read the same bytes over a socket by hand."""
    commands = bare.lookup_commands(stage.session(runs), LAST)
    return Contestant(bare.RawSocket(stage, "cache", *commands).exchange)


def socket_add(stage: Stage, runs: int) -> Contestant:
    """Store the same bytes over a socket by hand."""
    median_run = sorted(packed_runs(), key=len)[len(packed_runs()) // 2]
    return Contestant(bare.RawSocket(stage, "limit", ("SET", "run", median_run)).exchange)


@functools.cache
def packed_runs() -> tuple[bytes, ...]:
    """Return the runs of the sample as the cache packs them: a head and a body."""
    runs = new_runs("any", len(sample.templates()))
    return tuple(msgpack.packb([run.head_dict(), run.body_dict()]) for run in runs)


Maker = Callable[[Stage, int], Contestant]

SYSTEMS: Final[dict[str, tuple[Maker, Maker]]] = {
    "sessioncache": (cache_last, cache_add),
    "agno": (agno_last, agno_add),
    "openai-agents": (agents_last, agents_add),
    "json": (json_last, json_add),
    "redis-py": (bare_last, bare_add),
    "socket": (socket_last, socket_add),
}
"""Each system's contestants: to read the last runs of a session, to add one."""
