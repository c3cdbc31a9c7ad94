"""One call or more of every method, so that each script takes each of its paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faults.reaching import a_run, session
from support.acl import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def calls(cache: Any, admin: redis.Redis | redis.RedisCluster) -> dict[str, Callable[[], Any]]:
    """Return the calls by their methods' names; for a cache with `max_runs=3` and the README's prefix."""
    return {
        "upsert_session": lambda: _save(cache),
        "get_session": lambda: cache.get_session("s"),
        "get_sessions": lambda: cache.get_sessions(["s", "none"]),
        "lease": lambda: _lease(cache),
        "get_ttls": lambda: cache.get_ttls(["s", "none"]),
        "iter_sessions": lambda: list(cache.iter_sessions()),
        "rename_session": lambda: cache.rename_session("s", "name"),
        "touch_session": lambda: cache.touch_session("s", None) and cache.touch_session("s"),
        "upsert_run": lambda: cache.upsert_run("s", a_run("r1", created_at=2)),
        "upsert_runs": lambda: _trim(cache, admin),
        "get_run": lambda: cache.get_run("s", "r1"),
        "get_runs": lambda: cache.get_runs("s", last_n_runs=1),
        "iter_runs": lambda: list(cache.iter_runs("s")),
        "get_chat_history": lambda: cache.get_chat_history("s"),
        "get_workflow_history": lambda: cache.get_workflow_history("s", 1),
        "get_workflow_history_context": lambda: cache.get_workflow_history_context("s"),
        "get_messages": lambda: cache.get_messages("s", agent_id="a"),
        "ping": cache.ping if cache else len,
        "refresh": lambda: cache.refresh(cache.get_session("s")),
        "update_session_state": lambda: cache.update_session_state("s", {"k": 1}, remove=["other"]),
        "update_session": lambda: cache.update_session("s", lambda found: found.metadata.update(x=1)),
        "list_sessions": lambda: _list(cache, admin),
        "delete_run": lambda: cache.upsert_run("s", a_run("r9", created_at=9)) or cache.delete_run("s", "r9"),
        "delete_session": lambda: cache.delete_session("s"),
    }


def _save(cache: Any) -> None:
    cache.upsert_session(session(runs=1, user_id="u", workflow_id="w", metadata={"a": 1}))
    loaded = cache.get_session("s")
    del loaded.metadata["a"]
    loaded.runs[0].content = "new"
    cache.upsert_session(loaded)


def _lease(cache: Any) -> None:
    with cache.lease("s") as lease:
        lease.upsert_run(a_run("r1", created_at=2))
        lease.extend()


def _trim(cache: Any, admin: redis.Redis | redis.RedisCluster) -> None:
    """Add runs beyond `max_runs`, to a session that has had a million."""
    admin.hset(f"{PREFIX}:{{s}}:meta", "seq", 2**20)
    cache.upsert_runs("s", [a_run(f"r{number}", created_at=number + 1) for number in range(6)])


def _list(cache: Any, admin: redis.Redis | redis.RedisCluster) -> None:
    """List more than a few sessions, some of which are gone."""
    for number in range(12):
        cache.upsert_session(session(f"x{number}"))
    for gone in ("{x1}:meta", "{x1}:runs", "{x11}:meta"):
        admin.delete(f"{PREFIX}:{gone}")
    cache.list_sessions(limit=2)
