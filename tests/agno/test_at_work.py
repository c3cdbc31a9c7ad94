"""agno's own Agent, Team and Workflow with our Db: histories, many processes, round trips."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest
from agno.workflow import Workflow
from agno.workflow.types import StepInput, StepOutput
from tests.agno.at_work import run_many
from tests.agno.components import MAKERS, questions_in, workflow

from sessioncache import UnavailableError
from support.wire import CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer

PROCESSES = 4
TIMES = 5


def questions(session: Any) -> list[str]:
    inputs = (run.input for run in session.runs)
    return [getattr(each, "input_content", each) for each in inputs]


def asked_within(run: Any) -> list[str]:
    """The questions that a run's model was shown, or in a workflow its first step, its own not counted."""
    if hasattr(run, "step_results"):
        return questions_in(run.step_results[0].content.partition(" after ")[2])
    return questions_in(run.content)[:-1]


@pytest.mark.parametrize("with_asyncio", [False, True], ids=["run", "arun"])
@pytest.mark.parametrize("kind", MAKERS)
def test_each_run_is_shown_all_before_it(kind: str, with_asyncio: bool, db: Any, redis_url: str) -> None:
    run_many(kind, redis_url, 0, 4, with_asyncio)

    runs = db.get_session("shared", user_id="alice").runs
    assert questions(db.get_session("shared")) == ["q0-0", "q0-1", "q0-2", "q0-3"]
    for number, run in enumerate(runs):
        assert asked_within(run) == [f"q0-{earlier}" for earlier in range(number)]


@pytest.mark.parametrize("with_asyncio", [False, True], ids=["run", "arun"])
@pytest.mark.parametrize("kind", MAKERS)
def test_four_processes_on_one_session_keep_every_run(
    kind: str, with_asyncio: bool, db: Any, redis_url: str
) -> None:
    run_many(kind, redis_url, 9, 1, False)  # the session is there: nobody's blank one comes late
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=run_many, args=(kind, redis_url, worker, TIMES, with_asyncio))
        for worker in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)

    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    session = db.get_session("shared")
    asked = questions(session)
    assert sorted(asked) == sorted(["q9-0", *(f"q{w}-{n}" for w in range(PROCESSES) for n in range(TIMES))])
    for run, question in zip(session.runs, asked, strict=True):
        shown = asked_within(run)
        worker, number = question[1:].split("-")
        own = [f"q{worker}-{earlier}" for earlier in range(int(number))]
        assert set(own) <= set(shown) <= set(asked)
        assert len(shown) == len(set(shown))
    if kind == "workflow":
        assert session.session_data["session_state"] == {f"seen {question}": True for question in asked}


def test_a_workflow_run_takes_three_round_trips_with_50_stored(
    make_db: Callable[..., Any], redis_server: RedisServer, redis_url: str
) -> None:
    """agno's RedisDb takes 63."""
    with CountingProxy(redis_server.socket_path) as proxy:
        flow = workflow(make_db(proxy.url))
        for number in range(50):
            flow.run(f"q0-{number}", session_id="s")
        proxy.reset()

        flow.run("q0-50", session_id="s")

        assert proxy.round_trips == 3
        assert proxy.connections == 0


def test_an_outage_fails_the_run_and_wipes_nothing(
    make_db: Callable[..., Any], db: Any, redis_server: RedisServer
) -> None:
    with FaultProxy(redis_server.socket_path) as proxy:
        flow = workflow(make_db(proxy.url, timeout=0.2))
        flow.run("before", session_id="s", user_id="alice")
        before = db.get_session("s", deserialize=False)

        with proxy.refusing(), pytest.raises(UnavailableError):
            flow.run("during", session_id="s", user_id="alice")

        assert db.get_session("s", deserialize=False) == before
        flow.run("after", session_id="s", user_id="alice")
    assert questions(db.get_session("s")) == ["before", "after"]


def test_a_session_deleted_by_another_during_a_run_stays_deleted(
    make_db: Callable[..., Any], db: Any
) -> None:
    other = make_db()

    def delete(step_input: StepInput) -> StepOutput:
        return StepOutput(content=str(step_input.input == "second" and other.delete_session("s")))

    flow = Workflow(name="Flow", db=db, steps=[delete], telemetry=False)
    flow.run("first", session_id="s")

    flow.run("second", session_id="s")

    assert db.get_session("s") is None
    assert db.get_sessions() == []
