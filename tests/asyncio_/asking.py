"""Questions whose answers can be told apart, and what a test needs to see of connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from typing import TYPE_CHECKING, Any

from sessioncache import WorkflowRunOutput, WorkflowSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis

    from sessioncache import AsyncSessionCache
    from support.servers import RedisServer

CLIENT_NAME = "under-test"
"""What the connections of a cache made with `url_of` are called in CLIENT LIST."""


def url_of(server: Any, *options: str) -> str:
    """The URL of a server, for connections that can be told from all others."""
    return f"{server.url}?{'&'.join([f'client_name={CLIENT_NAME}', *options])}"


def session_of(number: int, runs: int = 3) -> WorkflowSession:
    """Make the session of a number: everything in it says whose it is."""
    return WorkflowSession(
        session_id=f"s{number}",
        session_data={"session_name": f"name {number}"},
        runs=[run_of(number, f"r{index}", index + 1) for index in range(runs)],
    )


def run_of(number: int, run_id: str, created_at: int = 1) -> WorkflowRunOutput:
    """Make a run that says which session it is of."""
    return WorkflowRunOutput(
        run_id=run_id, session_id=f"s{number}", content=f"of s{number}", created_at=created_at
    )


def check_session(number: int, session: WorkflowSession | None) -> None:
    """Fail unless this is the session that was asked for, whole."""
    assert session is not None
    assert session.session_id == f"s{number}"
    assert session.session_data is not None
    assert session.session_data["session_name"] == f"name {number}"
    check_runs(number, session.runs or [])


def check_runs(number: int, runs: Iterable[WorkflowRunOutput]) -> None:
    """Fail unless every run is of the session that was asked for."""
    for run in runs:
        assert run.content == f"of s{number}"


async def fill(cache: AsyncSessionCache, sessions: int) -> None:
    """Store sessions s0, s1, ..."""
    for number in range(sessions):
        await cache.upsert_session(session_of(number))


async def look_up(cache: AsyncSessionCache, number: int) -> None:
    """Load a session and check that it is the one asked for."""
    check_session(number, await cache.get_session(f"s{number}", last_n_runs=2))


def connections(admin: redis.Redis) -> list[dict[str, Any]]:
    """The open connections of caches made with `url_of`, as the server sees them."""
    return [client for client in admin.client_list() if client["name"] == CLIENT_NAME]


@contextlib.contextmanager
def no_resource_warning() -> Iterator[None]:
    """Fail where anything that was opened in the block is left to the garbage collector."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    left = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert not left


@contextlib.contextmanager
def standing_still(server: RedisServer) -> Iterator[None]:
    """Let a server answer nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait for a condition, while the loop goes on."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a server's state tells nobody that it changed
            await asyncio.sleep(0.01)
