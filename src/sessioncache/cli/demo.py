"""The demo: a support case is stored, read, written to at once and deleted; then calls are measured."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from sessioncache import SessionCache, SessionNotFoundError, WorkflowSession, __version__

from .costs import SIZES, kilobytes, measure
from .dialogue import CUSTOMER, TURNS, WORKFLOW, runs_of
from .screen import Screen
from .server import DemoError, Server, open_server

CASE: Final = "case-4471"

TTL: Final = timedelta(minutes=10)
"""Lifetime of what a demo stores that is killed before it cleans up."""

TIMEOUT: Final = 3.0
"""Seconds for one call: nobody who tries a demo waits longer to learn that there is no server."""

WORKERS: Final = 2
RUNS_EACH: Final = 100

PATIENCE: Final = 30.0
"""Seconds that a worker waits for the other to start: most of it for a busy machine."""


def play(url: str | None, screen: Screen, *, keeps: bool = False) -> None:
    """Show everything on the Redis at a URL, or a server of our own, and remove what was stored.

    If it `keeps`, the case stays for ten minutes, to be looked at.
    """
    prefix = f"sessioncache-demo-{uuid4().hex[:8]}"
    screen.title(f"sessioncache {__version__}: a support case kept in Redis, and what each call costs")
    with open_server(url, prefix) as server, _open_cache(server.url, prefix) as cache:
        screen.say(server.words)
        cache.ping()  # waits until a server that has just started answers
        try:
            _show_case(cache, screen)
            _show_workers(cache, server, prefix, screen)
            _show_deleted(cache, screen)
            _show_costs(cache, server, prefix, screen)
            _name_commands(server, prefix if keeps else "PREFIX", screen, keeps=keeps)
        finally:
            _clean_up(cache)
        if keeps:
            _store_case(cache)


def _name_commands(server: Server, prefix: str, screen: Screen, *, keeps: bool) -> None:
    """Name commands that look at what is stored: here, or where the user's sessions are."""
    where = f"sessioncache --url {server.url if keeps else 'URL'} --prefix {prefix}"
    why = "The case is kept" if keeps else "With --url URL --keep, the case is kept"
    screen.title(f"{why} for 10 minutes. To look at it:")
    for command in (f"show {CASE}", f"history {CASE}", "stats"):
        screen.command(f"{where} {command}")


def _open_cache(url: str, prefix: str) -> SessionCache:
    return SessionCache.from_url(url, prefix=prefix, ttl=TTL, timeout=TIMEOUT)


def _clean_up(cache: SessionCache) -> None:
    """Remove the case, if it is still there; a listing then takes deleted sessions off the indexes."""
    cache.delete_session(CASE)
    cache.list_sessions(user_id=CUSTOMER)
    cache.list_sessions(workflow_id=WORKFLOW)


def _expect(right: bool, claim: str) -> None:
    if not right:
        raise DemoError(f"this is wrong: {claim}")


def _show_case(cache: SessionCache, screen: Screen) -> None:
    """Store a case turn by turn, and read it back."""
    screen.call(f'cache.upsert_session(WorkflowSession("{CASE}", user_id="maria", workflow_id="support"))')
    screen.more(f'cache.upsert_run("{CASE}", run)  # {len(TURNS)} times, with all messages of the agent')
    _store_case(cache)
    _show_history(cache, screen)
    _show_last_runs(cache, screen)
    _show_state(cache, screen)


def _store_case(cache: SessionCache) -> None:
    cache.upsert_session(WorkflowSession(CASE, user_id=CUSTOMER, workflow_id=WORKFLOW))
    for run in runs_of(len(TURNS)):
        cache.upsert_run(CASE, run)


def _show_history(cache: SessionCache, screen: Screen) -> None:
    screen.call(f'cache.get_chat_history("{CASE}")')
    history = cache.get_chat_history(CASE)
    for turn in history:
        screen.say(f"Maria  {turn.input}")
        screen.say(f"Agent  {turn.output}")
    told = [(turn.question, turn.answer) for turn in TURNS]
    _expect([(turn.input, turn.output) for turn in history] == told, "the history is the dialogue")


def _show_last_runs(cache: SessionCache, screen: Screen) -> None:
    screen.call(f'cache.get_session("{CASE}", last_n_runs=2)')
    session = cache.get_session(CASE, last_n_runs=2)
    runs = session.runs if session else []
    _expect([run.input for run in runs] == [turn.question for turn in TURNS[-2:]], "the last 2 runs are read")
    messages = sum(len(step.messages) for run in runs for step in run.step_executor_runs or ())
    screen.say(f"{len(runs)} runs of {len(TURNS)} were read, with {messages} messages")


def _show_state(cache: SessionCache, screen: Screen) -> None:
    screen.call(f'cache.update_session_state("{CASE}", {{"courier": "Thursday"}})')
    cache.update_session_state(CASE, {"courier": "Thursday"})
    screen.more(f'cache.update_session_state("{CASE}", {{"loan_machine": True}})  # another key, any worker')
    cache.update_session_state(CASE, {"loan_machine": True})
    session = cache.get_session(CASE, last_n_runs=0)
    state = (session.session_data or {}).get("session_state") if session else None
    _expect(state == {"courier": "Thursday", "loan_machine": True}, "both keys of the state are kept")
    screen.say(f"session_state is {state}")


def _show_workers(cache: SessionCache, server: Server, prefix: str, screen: Screen) -> None:
    """Have workers append to the case at once, and count."""
    kind = "threads" if server.is_embedded else "processes"
    screen.call(f'cache.upsert_run("{CASE}", run)  # {WORKERS} {kind} at once, {RUNS_EACH} runs each')
    with screen.busy(f"starting {WORKERS} {kind}"), _workers(server) as workers:
        for done in [workers.submit(_append_runs, server.url, prefix, number) for number in range(WORKERS)]:
            done.result()
    stored = [run.run_id for run in cache.get_runs(CASE)]
    wanted = len(TURNS) + WORKERS * RUNS_EACH
    claim = f"{len(set(stored))} of {wanted} runs are there, none lost"
    _expect(len(stored) == len(set(stored)) == wanted, claim)
    screen.say(claim)


def _workers(server: Server) -> Executor:
    """Return what runs workers that begin together: an embedded server is seen by threads alone."""
    if server.is_embedded:
        return ThreadPoolExecutor(WORKERS, initializer=_begin, initargs=(threading.Barrier(WORKERS),))
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(WORKERS, spawn, initializer=_begin, initargs=(spawn.Barrier(WORKERS),))


def _begin(barrier: Any) -> None:
    """Wait until all workers are there; keep the log off the screen, as in the first process."""
    logging.getLogger("sessioncache").addHandler(logging.NullHandler())
    barrier.wait(PATIENCE)


def _append_runs(url: str, prefix: str, worker: int) -> None:
    with _open_cache(url, prefix) as cache:
        for run in runs_of(RUNS_EACH, f"worker-{worker}"):
            cache.upsert_run(CASE, run)


def _show_deleted(cache: SessionCache, screen: Screen) -> None:
    screen.call(f'cache.delete_session("{CASE}")')
    _expect(cache.delete_session(CASE) and cache.get_session(CASE) is None, "the case is deleted")
    try:
        cache.upsert_run(CASE, runs_of(1)[0])
    except SessionNotFoundError as exc:
        screen.say(f"a run that comes late does not bring it back: {type(exc).__name__}")
    else:
        raise DemoError("a run that came late brought the case back")


def _show_costs(cache: SessionCache, server: Server, prefix: str, screen: Screen) -> None:
    """Measure calls, and show them beside the same tasks on one JSON text."""
    client = server.plain_client()
    with screen.busy("measuring"):
        costs = measure(cache, client, prefix, TTL)
    client.close()
    size = f"{kilobytes(runs_of(1)[0]):.1f} KB"
    screen.title(f"\nMicroseconds a call, median, in sessions of runs of {size} each")
    columns = [f"{who}\n{size:,} runs" for who in ("sessioncache", "one JSON text") for size in SIZES]
    rows = [(cost.task, *(f"{value:,.0f}" for value in cost.here + cost.as_json)) for cost in costs]
    screen.table(["", *columns], rows)
    ratios = ", ".join(f"{cost.task.split(',')[0]} {cost.times_as_fast():,.0f}x" for cost in costs)
    screen.title(f"At {SIZES[-1]:,} runs, faster than JSON: {ratios}.")
