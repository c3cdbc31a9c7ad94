"""Caches of both kinds on any URL: a proxy's, a port nobody listens on, a server of one's own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import WorkflowRunOutput, WorkflowSession
from support.heartbeat import Heartbeat, Stopwatch
from support.subjects import Caches, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLACK = 0.25
"""Seconds that a call may take beyond its `timeout`: a machine's hiccup, and no wait of the library's."""


@dataclass
class _At:
    """What `Subject` wants of a server: an address."""

    url: str


@contextlib.contextmanager
def reaching(kind: str) -> Iterator[Callable[..., Any]]:
    """Give what makes a cache of a kind: `connect(url, timeout=1)`; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def connect(url: str, **options: Any) -> Any:
            caches = Caches(Subject("url", _At(url)), kind)  # type: ignore[arg-type]
            stack.callback(caches.close)
            return caches.make(**{"prefix": "t", **options})

        yield connect


@pytest.fixture
def connect(client_kind: str) -> Iterator[Callable[..., Any]]:
    """Make a cache of either kind on a URL; its prefix is `t`."""
    with reaching(client_kind) as make:
        yield make


def session(session_id: str = "s", runs: int = 0, **fields: Any) -> WorkflowSession:
    """Make a session with runs r0, r1, ... in this order."""
    made = [a_run(f"r{number}", created_at=number + 1) for number in range(runs)]
    return WorkflowSession(session_id=session_id, runs=made, **fields)


def a_run(run_id: str = "r", **fields: Any) -> WorkflowRunOutput:
    """Make a completed run that says of itself whose it is."""
    defaults = {"input": f"in {run_id}", "content": f"out {run_id}", "status": "COMPLETED", "created_at": 1}
    return WorkflowRunOutput(run_id=run_id, **{**defaults, **fields})


def run_ids(session: WorkflowSession | None) -> list[str | None]:
    """Return the ids of a session's runs, in order."""
    assert session is not None
    return [run.run_id for run in session.runs or []]


def disconnect(cache: Any) -> None:
    """Close a cache's connections; the next call opens new ones."""
    getattr(cache, "close" if hasattr(cache, "close") else "aclose")()


def permitted(cache: Any) -> Any:
    """Let a cache write at once to its one server, as if that had been asked what its user may do."""
    routing = getattr(cache, "wrapped", cache).transport.topology
    routing.permitting.update(routing.servers())
    return cache


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer than so many seconds and the slack, on a machine that does not stall."""
    with Heartbeat() as heartbeat:
        stopwatch = Stopwatch(heartbeat)
        yield
        took = stopwatch.seconds()
    assert took < seconds + SLACK, f"took {took:.3f} s, and {seconds} s were allowed"
