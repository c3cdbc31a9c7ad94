"""Parts of the demo that show what holds when others write too, and when time runs out."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

from sessioncache.errors import SessionCacheError, SessionNotFoundError, SessionOwnershipError
from sessioncache.models import WorkflowRunOutput, WorkflowSession

from .cache import DemoCache, open_cache
from .samples import copy_of_run, session_of
from .scene import LONG_SESSION, Scene
from .workers import Work, append_at_once, crew_of

WORKERS: Final = 8
RUNS_EACH: Final = 25

SHORT_TTL: Final = timedelta(seconds=1)

LONGEST_WAIT: Final = 5.0
"""Seconds after which a session that should have expired is given up on."""

POLL: Final = 0.02
"""Seconds between two looks."""


def show_many_writers(scene: Scene) -> None:
    """Have workers append to one session at once, all runs of one second, and count what is there."""
    what, crew = crew_of(scene.url)
    work = _begin_long_session(scene)
    seconds = append_at_once(crew, work, WORKERS)
    total = WORKERS * RUNS_EACH
    scene.report.say(f"{WORKERS} {what}")
    scene.report.say(f"{RUNS_EACH} runs each, all created in the same second, took {seconds:.2f} s")
    stored = [run.run_id for run in scene.cache.get_runs(LONG_SESSION)]
    _check_appended(scene, work, stored)
    positions = scene.cache.positions(LONG_SESSION)
    scene.report.check(f"{len(set(positions))} distinct positions", len(set(positions)) == total)


def _begin_long_session(scene: Scene) -> Work:
    """Create the session, owned as the recorded run is that the workers' runs are like."""
    run = scene.longest()["runs"][-1]
    session = WorkflowSession(LONG_SESSION, user_id=run["user_id"], workflow_id=run["workflow_id"])
    scene.cache.upsert_session(session)
    likeness = {**run, "session_id": LONG_SESSION, "created_at": int(time.time())}
    return Work(scene.url, scene.prefix, likeness, RUNS_EACH)


def _check_appended(scene: Scene, work: Work, stored: list[Any]) -> None:
    written = [[work.run_id(worker, number) for number in range(RUNS_EACH)] for worker in range(WORKERS)]
    wanted = {run_id for runs in written for run_id in runs}
    claim = f"{len(stored)} of {len(wanted)} runs are there, each of them once"
    scene.report.check(claim, len(stored) == len(wanted) and set(stored) == wanted)
    in_order = all([run_id for run_id in stored if run_id in runs] == runs for runs in map(list, written))
    scene.report.check("each worker's runs are in the order it wrote them", in_order)


def show_rules(scene: Scene) -> None:
    """Let two workers change one session, another user reach for it, and one save it after its end."""
    data = {**scene.longest(), "session_id": "shared"}
    data["runs"] = [{**run, "session_id": "shared"} for run in data["runs"]]
    scene.cache.upsert_session(session_of(data))
    _check_merge(scene)
    _check_owner(scene, data["runs"][0])
    _check_deleted(scene, data["runs"][0])


def _check_merge(scene: Scene) -> None:
    first, second = scene.cache.load("shared", last_n_runs=1), scene.cache.load("shared", last_n_runs=1)
    for number, session in enumerate((first, second), 1):
        session.metadata = {**(session.metadata or {}), f"seen by {number}": True}
        scene.cache.upsert_session(session)
    after = scene.cache.load("shared")
    both = {"seen by 1", "seen by 2"} <= (after.metadata or {}).keys()
    scene.report.check("two workers change two keys at once: both changes are kept", both)
    kept = len(after.runs or ()) == len(scene.longest()["runs"])
    scene.report.check("saved after a load of the newest run alone: the older runs are kept", kept)


def _check_owner(scene: Scene, run: dict[str, Any]) -> None:
    found = scene.cache.get_session("shared", user_id="somebody else")
    scene.report.check("for another user the session does not exist", found is None)
    foreign = copy_of_run(run, "foreign", user_id="somebody else")
    error = _error_of_saving(scene.cache, foreign)
    scene.report.check(
        "a run of another user is refused: SessionOwnershipError", error is SessionOwnershipError
    )


def _check_deleted(scene: Scene, run: dict[str, Any]) -> None:
    scene.cache.delete_session("shared")
    late = _error_of_saving(scene.cache, copy_of_run(run, "late"))
    gone = late is SessionNotFoundError and scene.cache.get_session("shared") is None
    scene.report.check("a run that comes after the delete is refused: SessionNotFoundError", gone)


def _error_of_saving(cache: DemoCache, run: WorkflowRunOutput) -> type[SessionCacheError] | None:
    try:
        cache.upsert_run("shared", run)
    except (SessionNotFoundError, SessionOwnershipError) as exc:
        return type(exc)
    return None


def show_expiry(scene: Scene) -> None:
    """Store a session for a second and look until it is gone."""
    data = {**scene.longest(), "session_id": "short-lived", "runs": []}
    begin = time.monotonic()
    with open_cache(scene.url, scene.prefix, SHORT_TTL) as cache:
        cache.upsert_session(session_of(data))
        scene.report.check("ttl=1: stored, and found", cache.get_session("short-lived") is not None)
        gone = _wait_until_gone(cache, "short-lived")
    seconds = time.monotonic() - begin
    in_time = gone and seconds >= 0.9 * SHORT_TTL.total_seconds()
    scene.report.check(f"gone by itself after {seconds:.1f} s", in_time)


def _wait_until_gone(cache: DemoCache, session_id: str) -> bool:
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        if cache.get_session(session_id, last_n_runs=0) is None:
            return True
        time.sleep(POLL)
    return False
