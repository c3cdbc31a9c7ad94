"""Single runs and slices of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sessioncache import keys
from sessioncache.errors import SessionNotFoundError
from sessioncache.flow import Flow, Request, Script
from sessioncache.records import StoredRun, read_run
from sessioncache.resilience import Call, ask
from sessioncache.settings import at_least_one

from .reading import MEMBERS_PER_RUN, is_whole
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


class Position(NamedTuple):
    """A place in the runs of a session: the order of a run, and the life of the session it was met in."""

    order: bytes
    born: bytes | None = None


START: Final = Position(b"0.5")
"""Before the order of any run, and after the marks of ids."""


@dataclass(frozen=True, slots=True)
class RunsAfter:
    """Some runs of a session in order, and where the last one is: there the next page begins."""

    runs: list[Any]
    last: Position


def read_runs_after(call: Call, session_id: str, position: Position, page_size: int) -> Flow[RunsAfter]:
    """Read the runs that follow a position, oldest first: one round trip.

    Raises SessionNotFoundError where there is no such session, or it is damaged, or made anew since.
    """
    size = b"%d" % at_least_one(page_size, "page_size")
    order = position.order
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    heads_slice = (b"ZRANGE", runs, b"(" + order, b"+inf", b"BYSCORE", b"LIMIT", b"0", size, b"WITHSCORES")
    bodies_slice = (b"ZRANGE", runs, b"(-" + order, b"-inf", b"BYSCORE", b"REV", b"LIMIT", b"0", size)
    identity = (b"HMGET", meta, b"session_id", b"count", b"born")
    commands = (identity, (b"ZCARD", runs), heads_slice, bodies_slice)
    (stored_id, count, born), members, scored, bodies = yield from ask(call, Request(meta, commands))
    whole = is_whole(session_id, stored_id, count, None, members / MEMBERS_PER_RUN)
    if not whole or position.born not in (None, born):
        raise SessionNotFoundError(f"there is no session {session_id!r}, or no longer")
    stored = [StoredRun(*run) for run in zip(scored[::2], bodies, strict=True)]
    found = [read_run(call.settings.model, session_id, run) for run in stored]
    return RunsAfter(found, Position(scored[-1] if scored else order, born))
