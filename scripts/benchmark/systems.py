"""Every system's way to read the last turns of a session, and to add one: the lines of the plot."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgpack

from sessioncache import SessionCache, WorkflowRunOutput
from sessioncache.operations.context import Context
from sessioncache.operations.upsert import upsert_runs
from sessioncache.transport.flow import Command

from . import bare, dataset
from .fixture import Fixture
from .timing import Candidate

if TYPE_CHECKING:
    from agents.extensions.memory import RedisSession

LAST: Final = 5
"""Runs that a worker asks for."""

MAX_ADDED: Final = 30
"""Runs added before they are removed again, off the clock, so that a session keeps its length, about."""

_numbers: Final = itertools.count(1_000_000, 1_000)


def new_records(session_id: str, count: int) -> list[dataset.Json]:
    """Make runs that no session has yet."""
    return list(dataset.run_records(session_id, count, first=next(_numbers)))


def new_runs(session_id: str, count: int) -> list[WorkflowRunOutput]:
    """Make runs as objects that no session has yet."""
    return [WorkflowRunOutput.from_dict(record) for record in new_records(session_id, count)]


def cache_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the last turns from sessioncache."""
    session_id = fixture.session(runs)
    return Candidate(lambda _: fixture.cache.get_session(session_id, last_n_runs=LAST))


def cache_add(fixture: Fixture, runs: int) -> Candidate:
    """Add a run to a session of sessioncache."""
    session_id = fixture.session(runs)
    return Candidate(
        lambda run: fixture.cache.upsert_run(session_id, run),
        lambda count: new_runs(session_id, count),
        lambda given: [fixture.cache.delete_run(session_id, run.run_id) for run in given],
        max_batch=MAX_ADDED,
    )


def script_add(fixture: Fixture, runs: int) -> Candidate:
    """Add a run by the cache's script alone: the command is made off the clock, and sent by redis-py."""
    session_id = fixture.session(runs)

    def command(run: WorkflowRunOutput) -> Command:
        call = Context(topology=fixture.cache.transport.topology, settings=fixture.cache.settings)
        (sent,) = next(upsert_runs(call, session_id, [run])).commands
        return sent

    return Candidate(
        lambda given: fixture.bare.execute_command(*given[1]),
        lambda count: [(run.run_id, command(run)) for run in new_runs(session_id, count)],
        lambda given: [fixture.cache.delete_run(session_id, run_id) for run_id, _ in given],
        max_batch=MAX_ADDED,
    )


def cache_replace(fixture: Fixture, runs: int) -> Candidate:
    """Replace runs of a session of sessioncache."""
    session_id = fixture.session(runs)
    stored = [WorkflowRunOutput.from_dict(record) for record in dataset.run_records(session_id, runs)]
    return Candidate(
        lambda run: fixture.cache.upsert_run(session_id, run),
        lambda count: list(itertools.islice(itertools.cycle(stored), count)),
    )


def cache_whole(fixture: Fixture, runs: int) -> Candidate:
    """Read a whole session from sessioncache."""
    session_id = fixture.session(runs)
    return Candidate(lambda _: fixture.cache.get_session(session_id))


def near_whole(fixture: Fixture, runs: int) -> Candidate:
    """Read a whole session again from sessioncache with a near cache."""
    session_id = fixture.session(runs)
    cache = SessionCache.from_url(fixture.url("cache"), near_cache=2**28)
    return Candidate(lambda _: cache.get_session(session_id))


def agno_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the last turns from agno."""
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    session_id = fixture.agno_session(runs)
    read = functools.partial(fixture.agno.get_session, session_id, SessionType.WORKFLOW)
    return Candidate(lambda _: read(runs_limit=LAST))


def agno_whole(fixture: Fixture, runs: int) -> Candidate:
    """Read a whole session from agno."""
    from agno.db.base import SessionType  # noqa: PLC0415 - slow to import, may be left out

    session_id = fixture.agno_session(runs)
    return Candidate(lambda _: fixture.agno.get_session(session_id, SessionType.WORKFLOW))


def agno_add(fixture: Fixture, runs: int) -> Candidate:
    """Add a run to a session of agno."""
    from agno.run.workflow import WorkflowRunOutput as AgnoRun  # noqa: PLC0415 - slow to import, may be left out

    session_id = fixture.agno_session(runs)
    upsert = functools.partial(
        fixture.agno.upsert_run, session_id=session_id, user_id=dataset.USER, run_index=runs
    )
    return Candidate(
        upsert,
        lambda count: [AgnoRun.from_dict(record) for record in new_records(session_id, count)],
        lambda given: fixture.agno.delete_runs([run.run_id for run in given]),
        max_batch=MAX_ADDED,
    )


def _agents_session(fixture: Fixture, runs: int) -> RedisSession:
    from agents.extensions.memory import RedisSession  # noqa: PLC0415 - slow to import, may be left out

    return RedisSession(f"session-{runs}", redis_client=fixture.awaited)


def _agents_fill(fixture: Fixture, runs: int) -> None:
    """Store runs as items of a RedisSession, one each: the same bytes, in the form that it has for them."""
    if fixture.is_new("agents", runs):
        records = dataset.run_records(f"session-{runs}", runs)
        items = [json.dumps(record, separators=(",", ":")) for record in records]
        client = fixture.client("agents")
        for start in range(0, len(items), 1000):
            client.rpush(f"agents:session:session-{runs}:messages", *items[start : start + 1000])


def agents_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the last items from openai-agents."""
    _agents_fill(fixture, runs)
    session = _agents_session(fixture, runs)

    async def read(_: Any) -> Any:
        return await session.get_items(limit=LAST)

    return Candidate(read)


def agents_add(fixture: Fixture, runs: int) -> Candidate:
    """Add an item to a session of openai-agents."""
    _agents_fill(fixture, runs)
    session = _agents_session(fixture, runs)

    async def add(record: Any) -> None:
        await session.add_items([record])

    client = fixture.client("agents")
    return Candidate(
        add,
        lambda count: new_records(session.session_id, count),
        lambda given: client.ltrim(f"agents:session:{session.session_id}:messages", 0, -len(given) - 1),
        max_batch=MAX_ADDED,
    )


def _blob(fixture: Fixture, runs: int) -> str:
    session_id = f"session-{runs}"
    if fixture.is_new("json", runs):
        record = dataset.session_record(session_id)
        record["runs"] = list(dataset.run_records(session_id, runs))
        fixture.blobs.set(session_id, json.dumps(record))
    return session_id


def json_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the last turns from a session in one JSON text: all of it."""
    key = _blob(fixture, runs)
    return Candidate(lambda _: json.loads(fixture.blobs.get(key))["runs"][-LAST:])


def json_whole(fixture: Fixture, runs: int) -> Candidate:
    """Read a whole session that is one JSON text."""
    key = _blob(fixture, runs)
    return Candidate(lambda _: json.loads(fixture.blobs.get(key)))


def json_add(fixture: Fixture, runs: int) -> Candidate:
    """Add a run to a session in one JSON text: read, append, write."""
    key = _blob(fixture, runs)
    text = fixture.blobs.get(key)

    def add(record: dataset.Json) -> None:
        session = json.loads(fixture.blobs.get(key))
        session["runs"].append(record)
        fixture.blobs.set(key, json.dumps(session))

    return Candidate(
        add,
        lambda count: new_records(key, count),
        lambda _: fixture.blobs.set(key, text),
        max_batch=MAX_ADDED,
    )


def bare_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the same bytes with redis-py alone."""
    session_id = fixture.session(runs)
    return Candidate(lambda _: bare.fetch(fixture.bare, session_id, LAST))


def bare_add(fixture: Fixture, runs: int) -> Candidate:
    """Store the same bytes with redis-py alone."""
    return Candidate(
        lambda packed: fixture.plain.set("run", packed),
        lambda count: list(itertools.islice(itertools.cycle(packed_runs()), count)),
        max_batch=MAX_ADDED,
    )


def socket_last(fixture: Fixture, runs: int) -> Candidate:
    """Read the same bytes over a socket by hand."""
    commands = bare.lookup_commands(fixture.session(runs), LAST)
    return Candidate(bare.RawSocket(fixture, "cache", *commands).exchange)


def socket_add(fixture: Fixture, runs: int) -> Candidate:
    """Store the same bytes over a socket by hand."""
    median_run = sorted(packed_runs(), key=len)[len(packed_runs()) // 2]
    return Candidate(bare.RawSocket(fixture, "limit", ("SET", "run", median_run)).exchange)


@functools.cache
def packed_runs() -> tuple[bytes, ...]:
    """Return the runs of the sample as the cache packs them: a head and a body."""
    runs = new_runs("any", len(dataset.templates()))
    return tuple(msgpack.packb([run.head_dict(), run.body_dict()]) for run in runs)


Maker = Callable[[Fixture, int], Candidate]

READ, WHOLE, STORE = f"read the last {LAST} runs", "read all runs again", "store one run"

SYSTEMS: Final[dict[str, dict[str, Maker]]] = {
    "sessioncache": {READ: cache_last, WHOLE: cache_whole, STORE: cache_add},
    "near cache": {WHOLE: near_whole},
    "agno": {READ: agno_last, WHOLE: agno_whole, STORE: agno_add},
    "openai-agents": {READ: agents_last, STORE: agents_add},
    "json": {READ: json_last, WHOLE: json_whole, STORE: json_add},
    "redis-py": {READ: bare_last, STORE: bare_add},
    "socket": {READ: socket_last, STORE: socket_add},
}
"""What each system does in the panels of the plot."""
