"""The part of the demo that measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .cache import DemoCache
from .samples import copy_of_run, session_of
from .scene import LONG_SESSION, Scene
from .timing import REPEATS, Timing, measure

PROMISED: Final = ("upsert_run,", "upsert_session,", "delete_session", "get_run,", "get_session,", "get_chat")
"""Beginnings of the calls that take one round trip whatever is stored."""

PROMISED_IN_A_CLUSTER: Final = ("get_run,", "get_session,", "get_chat")
"""The same where indexes, on other nodes, are written after, and each node has its scripts to learn."""

Call = tuple[str, Callable[[int], object]]
"""What a row of the table is called, and the call it measures."""


def show_timings(scene: Scene) -> None:
    """Measure every kind of call, and hold the promised round trips against those counted."""
    promised = PROMISED if scene.cache.lists_as_it_writes() else PROMISED_IN_A_CLUSTER
    timings = [measure(scene.cache, name, call) for name, call in _calls(scene)]
    rows = (_row(timing, timing.call.startswith(promised)) for timing in timings)
    scene.report.table(("call", "microseconds, median#", "round trips#", "promised#"), rows)
    scene.report.say(f"{REPEATS} calls each, on a session of {len(scene.cache.get_runs(LONG_SESSION))} runs")
    kept = all(timing.round_trips == 1 for timing in timings if timing.call.startswith(promised))
    scene.report.check("the round trips are those promised", kept)


def _row(timing: Timing, is_promised: bool) -> tuple[object, ...]:
    return timing.call, f"{timing.microseconds:.0f}", timing.round_trips, 1 if is_promised else ""


def _calls(scene: Scene) -> Iterator[Call]:
    """Yield calls in an order that leaves every session as it was."""
    yield from _writes_of_runs(scene)
    yield from _reads(scene.cache, [data["session_id"] for data in scene.recorded])
    yield from _writes_of_sessions(scene)


def _writes_of_runs(scene: Scene) -> Iterator[Call]:
    cache, like = scene.cache, scene.longest()["runs"][-1]
    ids = [f"timed-{number}" for number in range(REPEATS + 1)]
    runs = [copy_of_run(like, run_id, session_id=LONG_SESSION) for run_id in ids]
    yield "upsert_run, a new one", lambda number: cache.upsert_run(LONG_SESSION, runs[number])
    yield "upsert_run, again", lambda number: cache.upsert_run(LONG_SESSION, runs[number])
    yield "get_run, by its id", lambda number: cache.get_run(LONG_SESSION, ids[number])
    yield "delete_run", lambda number: cache.delete_run(LONG_SESSION, ids[number])


def _reads(cache: DemoCache, session_ids: list[str]) -> Iterator[Call]:
    yield "get_session, all runs", lambda _: cache.get_session(LONG_SESSION)
    yield "get_session, last_n_runs=5", lambda _: cache.get_session(LONG_SESSION, last_n_runs=5)
    yield "get_session, last_n_runs=0", lambda _: cache.get_session(LONG_SESSION, last_n_runs=0)
    yield f"get_sessions, {len(session_ids)} at once", lambda _: cache.get_sessions(session_ids)
    yield "get_runs, last_n_runs=5", lambda _: cache.get_runs(LONG_SESSION, last_n_runs=5)
    yield "get_chat_history, 5 runs", lambda _: cache.get_chat_history(LONG_SESSION, 5)
    yield "get_workflow_history, 5 runs", lambda _: cache.get_workflow_history(LONG_SESSION, 5)
    yield "get_messages, of 5 runs", lambda _: cache.get_messages(LONG_SESSION, "agent-0", last_n_runs=5)
    yield "list_sessions", lambda _: cache.list_sessions()


def _writes_of_sessions(scene: Scene) -> Iterator[Call]:
    cache, data = scene.cache, {**scene.recorded[0], "runs": []}
    ids = [f"timed-{number}" for number in range(REPEATS + 1)]
    new = [session_of({**data, "session_id": session_id}) for session_id in ids]
    loaded = cache.load(LONG_SESSION, last_n_runs=0)

    def change(number: int) -> None:
        loaded.metadata = {"number": number}
        cache.upsert_session(loaded)

    yield "upsert_session, a new one", lambda number: cache.upsert_session(new[number])
    yield "upsert_session, one key changed", change
    yield "refresh, nothing changed", lambda _: cache.refresh(loaded)
    yield (
        "update_session_state",
        lambda number: cache.update_session_state(LONG_SESSION, {"number": number}),
    )
    yield "rename_session", lambda number: cache.rename_session(ids[number], "timed")
    yield "touch_session", lambda number: cache.touch_session(ids[number])
    yield "delete_session", lambda number: cache.delete_session(ids[number])
