"""Single runs and slices of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sessioncache import keys
from sessioncache.errors import SessionNotFoundError
from sessioncache.flow import Flow, Request, Script
from sessioncache.records import StoredRun, read_run
from sessioncache.resilience import Call
from sessioncache.settings import at_least_one

from .reading import IDENTITY, identify
from .touching import ask_and_touch
from .writing import Target, write

GET_RUN: Final = Script("get_run")
DELETE_RUN: Final = Script("_session", "_runs", "delete_run")


def get_run(call: Call, session_id: str, run_id: str) -> Flow[Any]:
    """Load one run; None where it, or its session, does not exist."""
    wanted = keys.encoded_id(run_id, "run_id")
    session_keys = keys.session_keys(call.settings.prefix, session_id)
    request = GET_RUN.call(session_keys, (wanted, *IDENTITY), writes=False)
    ((identity, members, *stored),) = yield from ask_and_touch(call, [(session_id, request)])
    if identify(session_id, identity, members) is None or not stored:
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
    commands = ((b"HMGET", meta, *IDENTITY), (b"ZCARD", runs), heads_slice, bodies_slice)
    request = Request(meta, commands)
    (reply,) = yield from ask_and_touch(call, [(session_id, request)])
    stored_identity, members, scored, bodies = reply
    identity = identify(session_id, stored_identity, members)
    if identity is None or position.born not in (None, identity.born):
        raise SessionNotFoundError(f"there is no session {session_id!r}, or no longer", session_id=session_id)
    stored = [StoredRun(*run) for run in zip(scored[::2], bodies, strict=True)]
    found = [read_run(call.settings.model, session_id, run) for run in stored]
    return RunsAfter(found, Position(scored[-1] if scored else order, identity.born))
