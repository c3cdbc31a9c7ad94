"""Single runs and slices of them."""

from __future__ import annotations

from typing import Any, Final

from sessioncache import keys
from sessioncache.errors import SessionNotFoundError
from sessioncache.flow import Flow, Request, Script
from sessioncache.records import StoredRun, read_run
from sessioncache.resilience import Call, ask

from .reading import MEMBERS_PER_RUN, checked_count, is_whole, newest_bodies, newest_heads, oldest_first
from .writing import Target, write

GET_RUN: Final = Script("get_run")
DELETE_RUN: Final = Script("_session", "_runs", "delete_run")


def get_run(call: Call, session_id: str, run_id: str) -> Flow[Any]:
    """Load one run; None where it, or its session, does not exist."""
    wanted = keys.encoded_id(run_id, "run_id")
    request = GET_RUN.call(keys.session_keys(call.settings.prefix, session_id), (wanted,), writes=False)
    stored_id, count, members, *stored = yield from ask(call, request)
    if not is_whole(session_id, stored_id, count, None, members / MEMBERS_PER_RUN) or not stored:
        return None
    return read_run(call.settings.model, session_id, StoredRun(*stored))


def delete_run(call: Call, session_id: str, run_id: str) -> Flow[bool]:
    """Remove one run, whole; False where it, or its session, does not exist."""
    wanted = keys.encoded_id(run_id, "run_id")
    try:
        written = yield from write(call, DELETE_RUN, Target(session_id), (wanted,), ttl=call.settings.ttl)
    except SessionNotFoundError:
        return False
    return written.rest == [b"1"]


def get_runs(call: Call, session_id: str, *, last_n: int | None = None) -> Flow[list[Any]]:
    """Load the newest runs of a session, oldest first; their bodies decode on first use."""
    limit = checked_count(last_n, "last_n")
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    identity = (b"HMGET", meta, b"session_id", b"count")
    commands = (identity, newest_heads(runs, limit), newest_bodies(runs, limit))
    (stored_id, count), heads, bodies = yield from ask(call, Request(meta, commands))
    if not is_whole(session_id, stored_id, count, limit, len(heads), len(bodies)):
        raise SessionNotFoundError(f"there is no session {session_id!r}")
    return [read_run(call.settings.model, session_id, run) for run in oldest_first(heads, bodies)]
