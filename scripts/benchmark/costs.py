"""What a call moves, whatever the machine: its round trips and the bytes it receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from sessioncache import SessionCache
from support.wire import CountingProxy

from . import dataset, systems
from .fixture import DATABASES, Fixture

RUNS: Final = 1_000


@dataclass(frozen=True)
class Cost:
    """What one call moved."""

    call: str
    round_trips: int
    received: int
    answer: int | None = None
    """Bytes of the answer, packed; None where it is an object of more than what was read."""


Calls = dict[str, Callable[[SessionCache], Any]]


def _calls(session_id: str, run_id: str) -> Calls:
    """Return the calls to be measured; the first one loads the whole session."""
    return {
        "get_session()": lambda cache: cache.get_session(session_id),
        "get_session(last_n_runs=5)": lambda cache: cache.get_session(session_id, last_n_runs=5),
        "get_session(last_n_runs=0)": lambda cache: cache.get_session(session_id, last_n_runs=0),
        "get_run(run_id)": lambda cache: cache.get_run(session_id, run_id),
        "get_runs(last_n_runs=5)": lambda cache: cache.get_runs(session_id, last_n_runs=5),
        "get_chat_history(last_n_runs=10)": lambda cache: cache.get_chat_history(session_id, last_n_runs=10),
        "get_chat_history()": lambda cache: cache.get_chat_history(session_id),
        "get_workflow_history(last_n_runs=10)": lambda cache: cache.get_workflow_history(
            session_id, last_n_runs=10
        ),
        "get_workflow_history_context(last_n_runs=10)": lambda cache: cache.get_workflow_history_context(
            session_id, last_n_runs=10
        ),
        "get_messages(agent_id, last_n_runs=5)": lambda cache: cache.get_messages(
            session_id, agent_id=dataset.AGENT, last_n_runs=5
        ),
        "get_messages(agent_id, limit=20)": lambda cache: cache.get_messages(
            session_id, agent_id=dataset.AGENT, limit=20
        ),
        "upsert_run": lambda cache: cache.upsert_run(session_id, *systems.new_runs(session_id, 1)),
        "update_session_state": lambda cache: cache.update_session_state(session_id, {"step": 3}),
    }


def measure(fixture: Fixture) -> list[Cost]:
    """Measure every call that there is on a session of `RUNS` runs, and a page of a list."""
    session_id = fixture.session(RUNS)
    run_id = next(dataset.run_records(session_id, 1))["run_id"]
    costs = []
    with CountingProxy(fixture.server.socket_path) as proxy:
        with _cache(proxy, "cache") as cache:
            for name, call in _calls(session_id, run_id).items():
                costs.append(_cost(proxy, cache, name, call))
            costs += _refresh(proxy, cache, session_id)
            costs += _near(proxy, cache, session_id)
        costs += _listing(fixture, proxy)
    return costs


def _cache(proxy: CountingProxy, database: str, near_cache: int | None = None) -> SessionCache:
    url = proxy.url.removesuffix("/0") + f"/{DATABASES.index(database)}"
    return SessionCache.from_url(url, near_cache=near_cache)


def _cost(proxy: CountingProxy, cache: SessionCache, name: str, call: Callable[[SessionCache], Any]) -> Cost:
    call(cache)  # connects, and has the scripts known
    proxy.reset()
    answer = call(cache)
    return Cost(name, proxy.round_trips, proxy.bytes_received, _size(answer))


def _size(answer: Any) -> int | None:
    """Return the packed size of a history, a text or messages."""
    if isinstance(answer, str):
        return len(answer.encode())
    if not isinstance(answer, list) or not answer:
        return None
    if hasattr(answer[0], "output"):
        return len(msgpack.packb([(turn.input, turn.output) for turn in answer]))
    if hasattr(answer[0], "role"):
        return len(msgpack.packb([message.to_dict() for message in answer]))
    return len(msgpack.packb(answer)) if isinstance(answer[0], tuple) else None


def _refresh(proxy: CountingProxy, cache: SessionCache, session_id: str) -> list[Cost]:
    session = cache.get_session(session_id)
    unchanged = _cost(proxy, cache, "refresh(session), unchanged", lambda cache: cache.refresh(session))
    cache.upsert_runs(session_id, systems.new_runs(session_id, 1))
    proxy.reset()
    cache.refresh(session)
    return [unchanged, Cost("refresh(session), one run added", proxy.round_trips, proxy.bytes_received)]


def _near(proxy: CountingProxy, writer: SessionCache, session_id: str) -> list[Cost]:
    with _cache(proxy, "cache", near_cache=2**28) as cache:
        cache.get_session(session_id)
        unchanged = _cost(
            proxy, cache, "get_session(), near cache, unchanged", lambda c: c.get_session(session_id)
        )
        writer.upsert_runs(session_id, systems.new_runs(session_id, 1))
        proxy.reset()
        cache.get_session(session_id)
        return [
            unchanged,
            Cost("get_session(), near cache, one run added", proxy.round_trips, proxy.bytes_received),
        ]


def _listing(fixture: Fixture, proxy: CountingProxy) -> list[Cost]:
    fixture.listing_cache()
    calls: Calls = {
        f"list_sessions(limit=20) of {fixture.listed:,} sessions": lambda cache: cache.list_sessions(
            limit=20
        ),
        f"list_sessions(user_id, limit=20) of {fixture.listed:,}": lambda cache: cache.list_sessions(
            user_id="user-7", limit=20
        ),
    }
    with _cache(proxy, "cache listing") as cache:
        return [_cost(proxy, cache, name, call) for name, call in calls.items()]
