"""Rows through agno: a run of an agent, a team or a workflow, by how many runs its session has.

The model is scripted, and replies at once: what is timed is agno and its database. Beside each other, in one
run: sessioncache's Db, agno's SqliteDb on a local disk, and its RedisDb.
"""

from __future__ import annotations

import copy
import functools
import itertools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.timing import Candidate, Pair, measure_pair

if TYPE_CHECKING:
    from agno.models.base import Model

LENGTHS: Final = (0, 50, 500)
USER: Final = "user"
CONTENT: Final = "What was said before, at the length of a real one. " * 100
"""About as long as what real runs hold."""

HISTORY_RUNS: Final = 3


@functools.cache
def _model() -> type[Model]:
    from agno.models.base import Model  # noqa: PLC0415 - slow to import, may be left out
    from agno.models.response import ModelResponse  # noqa: PLC0415

    class Scripted(Model):
        """A model that replies at once, and asks no network."""

        def __init__(self) -> None:
            super().__init__(id="scripted", name="scripted", provider="benchmark")

        def invoke(self, *_: Any, **__: Any) -> ModelResponse:
            return ModelResponse(role="assistant", content="a reply")

        async def ainvoke(self, *_: Any, **__: Any) -> ModelResponse:
            return self.invoke()

        def invoke_stream(self, *_: Any, **__: Any) -> Any:
            yield self.invoke()

        async def ainvoke_stream(self, *_: Any, **__: Any) -> Any:
            yield self.invoke()

        def _parse_provider_response(self, response: Any, **_: Any) -> Any:
            return response

        def _parse_provider_response_delta(self, response: Any) -> Any:
            return response

    return Scripted


def _agent(db: Any) -> Any:
    from agno.agent import Agent  # noqa: PLC0415

    history = {"add_history_to_context": True, "num_history_runs": HISTORY_RUNS}
    return Agent(name="Ann", id="ann", db=db, model=_model()(), telemetry=False, **history)


def _team(db: Any) -> Any:
    from agno.agent import Agent  # noqa: PLC0415
    from agno.team import Team  # noqa: PLC0415

    member = Agent(name="Bo", id="bo", role="helps", model=_model()(), telemetry=False)
    history = {"add_history_to_context": True, "num_history_runs": HISTORY_RUNS}
    return Team(name="Duo", id="duo", db=db, model=_model()(), members=[member], telemetry=False, **history)


def _workflow(db: Any, *, history: bool = False) -> Any:
    from agno.agent import Agent  # noqa: PLC0415
    from agno.workflow import Step, Workflow  # noqa: PLC0415

    steps = [Step(name="ask", agent=Agent(name="Ann", id="ann", model=_model()(), telemetry=False))]
    return Workflow(
        name="Flow", id="flow", db=db, steps=steps, telemetry=False, add_workflow_history_to_steps=history
    )


KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "Agent.run, with history": _agent,
    "Team.run, with history": _team,
    "Workflow.run": _workflow,
    "Workflow.run, with history": functools.partial(_workflow, history=True),
}


def _ours(fixture: Fixture, name: str) -> Any:
    from sessioncache.integrations.agno import SessionCacheDb  # noqa: PLC0415

    return SessionCacheDb(db_url=fixture.url("cache"), db_prefix=f"agno-{name}")


def _ours_awaited(fixture: Fixture, name: str) -> Any:
    from sessioncache.integrations.agno import AsyncSessionCacheDb  # noqa: PLC0415

    return AsyncSessionCacheDb(db_url=fixture.url("cache"), db_prefix=f"agno-{name}")


def _sqlite(_: Fixture, name: str) -> Any:
    from agno.db.sqlite import SqliteDb  # noqa: PLC0415

    return SqliteDb(db_file=str(Path(tempfile.mkdtemp()) / f"{name}.db"))


def _sqlite_awaited(_: Fixture, name: str) -> Any:
    from agno.db.sqlite import AsyncSqliteDb  # noqa: PLC0415

    return AsyncSqliteDb(db_file=str(Path(tempfile.mkdtemp()) / f"{name}.db"))


def _redis_db(fixture: Fixture, name: str) -> Any:
    from agno.db.redis import RedisDb  # noqa: PLC0415

    return RedisDb(db_url=fixture.url("agno"), db_prefix=f"agno-{name}")


_numbers: Final = itertools.count()


def _inputs(count: int) -> list[str]:
    return [f"question {next(_numbers)}" for _ in range(count)]


def _candidate(fixture: Fixture, make_db: Callable[..., Any], kind: str, runs: int) -> Candidate:
    """Run an agent, team or workflow on a session of so many runs; the new one is deleted off the clock."""
    db = make_db(fixture, str(next(_numbers)))
    session_id, added = f"session-{runs}", []
    component = KINDS[kind](db)
    _fill(db, component, session_id, runs)

    def run(question: str) -> None:
        added.append(component.run(question, session_id=session_id, user_id=USER).run_id)

    def restore(_: Any) -> None:
        db.delete_runs(added)
        added.clear()

    return Candidate(run, _inputs, restore, max_batch=1)


async def _awaited_candidate(
    fixture: Fixture, make_db: Callable[..., Any], kind: str, runs: int
) -> Candidate:
    db = make_db(fixture, str(next(_numbers)))
    session_id, added = f"session-{runs}", []
    component = KINDS[kind](db)
    await _fill_awaited(db, component, session_id, runs)

    async def run(question: str) -> None:
        added.append((await component.arun(question, session_id=session_id, user_id=USER)).run_id)

    async def restore(_: Any) -> None:
        await db.delete_runs(added)
        added.clear()

    return Candidate(run, _inputs, restore, max_batch=1)


def _copies(first: dict[str, Any], runs: int) -> list[Any]:
    """Return so many runs like a first one, of before it."""
    from agno.db.utils import deserialize_run, get_run_type  # noqa: PLC0415

    found = []
    for number in range(runs):
        data = copy.deepcopy(first)
        data |= {"run_id": f"{number:06d}-{first['run_id']}", "content": f"{number}: {CONTENT}"}
        data["created_at"] = first["created_at"] - runs + number
        found.append(deserialize_run(get_run_type(data), data))
    return found


def _first(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of the one run that no member did."""
    return next(row["run_data"] for row in rows if row["run_data"].get("parent_run_id") is None)


def _fill(db: Any, component: Any, session_id: str, runs: int) -> None:
    if runs:
        component.run("first", session_id=session_id, user_id=USER)
        rows, _ = db.get_runs(session_id=session_id, deserialize=False)
        for run in _copies(_first(rows), runs - 1):
            db.upsert_run(run, session_id, user_id=USER)


async def _fill_awaited(db: Any, component: Any, session_id: str, runs: int) -> None:
    if runs:
        await component.arun("first", session_id=session_id, user_id=USER)
        rows, _ = await db.get_runs(session_id=session_id, deserialize=False)
        for run in _copies(_first(rows), runs - 1):
            await db.upsert_run(run, session_id, user_id=USER)


def _measure(kind: str, runs: int, theirs: Callable[..., Any]) -> Callable[[Fixture, float], Awaitable[Pair]]:
    async def measure(fixture: Fixture, seconds: float) -> Pair:
        ours = _candidate(fixture, _ours, kind, runs)
        return await measure_pair(ours, _candidate(fixture, theirs, kind, runs), seconds)

    return measure


def _measure_awaited(kind: str, runs: int) -> Callable[[Fixture, float], Awaitable[Pair]]:
    async def measure(fixture: Fixture, seconds: float) -> Pair:
        ours = await _awaited_candidate(fixture, _ours_awaited, kind, runs)
        theirs = await _awaited_candidate(fixture, _sqlite_awaited, kind, runs)
        return await measure_pair(ours, theirs, seconds)

    return measure


def _rows() -> tuple[Row, ...]:
    found = []
    for kind, runs in itertools.product(KINDS, LENGTHS):
        call, awaited = f"{kind}, {runs} runs stored", f"{kind.replace('.run', '.arun')}, {runs} runs stored"
        target = Target(0.7 if runs == LENGTHS[-1] else 1)
        found += [
            Row(call, "agno SqliteDb", "agno", target, _measure(kind, runs, _sqlite)),
            Row(call, "agno RedisDb", "agno", target, _measure(kind, runs, _redis_db)),
            Row(awaited, "agno AsyncSqliteDb", "agno", target, _measure_awaited(kind, runs)),
        ]
    return tuple(found)


ROWS: Final = _rows()
