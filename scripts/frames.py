"""Count what a reader of a call has to read: how many functions in how many modules it enters.

    PYTHONPATH=src python scripts/frames.py redis://localhost:6379/0

A function counts once, however often it is entered, and a comprehension as a part of its function. Each call
is made once before it is counted, so that connections are open and scripts are loaded. It deletes what it
stores.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple
from uuid import uuid4

import sessioncache
from sessioncache import SessionCache, WorkflowRunOutput, WorkflowSession

PACKAGE = str(Path(sessioncache.__file__).parent)


class Frames(NamedTuple):
    """What one call entered of this package."""

    entered: int
    functions: int
    modules: dict[str, list[str]]
    """Names of functions by module, in the order in which they are entered first."""
    deepest: int


@contextmanager
def _profiled(seen: Counter[CodeType], depths: list[int]) -> Iterator[None]:
    depth = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        code = frame.f_code
        if event in ("call", "return") and code.co_filename.startswith(PACKAGE):
            depth += 1 if event == "call" else -1
            depths.append(depth)
            if event == "call" and code.co_name not in ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"):
                seen[code] += 1

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def count(call: Callable[[], object]) -> Frames:
    """Make a call, which has been made before, and count what it enters."""
    seen: Counter[CodeType] = Counter()
    depths: list[int] = []
    with _profiled(seen, depths):
        call()
    modules: dict[str, list[str]] = {}
    for code in seen:
        module = str(Path(code.co_filename).relative_to(PACKAGE))
        modules.setdefault(module, []).append(code.co_qualname)
    return Frames(seen.total(), len(seen), modules, max(depths, default=0))


def calls(cache: SessionCache, session_id: str) -> dict[str, Callable[[], object]]:
    """Return the calls that are counted, on a session of one run."""
    run = WorkflowRunOutput(run_id="run-1", user_id="ada", workflow_id="support", input="Hi", content="Hello")
    run.status = sessioncache.RunStatus.completed
    cache.upsert_session(WorkflowSession(session_id, user_id="ada", workflow_id="support"))
    cache.upsert_run(session_id, run)
    return {
        "get_session(last_n_runs=1)": lambda: cache.get_session(session_id, last_n_runs=1),
        "get_session(last_n_runs=0)": lambda: cache.get_session(session_id, last_n_runs=0),
        "get_run": lambda: cache.get_run(session_id, "run-1"),
        "get_chat_history(1)": lambda: cache.get_chat_history(session_id, 1),
        "get_messages(agent_id, last_n_runs=1)": lambda: cache.get_messages(
            session_id, "agent", last_n_runs=1
        ),
        "upsert_run": lambda: cache.upsert_run(session_id, run),
        "update_session_state": lambda: cache.update_session_state(session_id, {"step": 1}),
        "list_sessions": cache.list_sessions,
    }


def main(url: str) -> None:
    """Print a table of all calls, and the way of the first one."""
    session_id = f"frames-{uuid4()}"
    with SessionCache.from_url(url) as cache:
        found = {}
        for name, call in calls(cache, session_id).items():
            call()
            found[name] = count(call)
        cache.delete_session(session_id)
    print(f"{'call':40}{'frames':>8}{'functions':>11}{'modules':>9}{'deepest':>9}")
    for name, frames in found.items():
        print(
            f"{name:40}{frames.entered:>8}{frames.functions:>11}{len(frames.modules):>9}{frames.deepest:>9}"
        )
    first, frames = next(iter(found.items()))
    print(f"\nthe way of {first}:")
    for module, functions in frames.modules.items():
        print(f"  {module}: {', '.join(functions)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
