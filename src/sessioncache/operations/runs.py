"""Single runs, and runs in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sessioncache.errors import SessionNotFoundError
from sessioncache.storage import keys, scripts
from sessioncache.storage.run_members import StoredRun, read_run, read_runs
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.scripts import Precondition, get_run_arguments
from sessioncache.storage.snapshot import FoundRun
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Script
from sessioncache.transport.retry import fits
from sessioncache.validation import encoded_id, whole_number

from .context import Context, writing_script
from .lookup import HEADER, parse_reply
from .read import read, send_read
from .sealing import opened_run
from .write import list_elsewhere, run_script

_GET_RUN: Final = Script(scripts.GET_RUN)
_DELETE_RUN: Final = writing_script(scripts.DELETE_RUN)


def get_run(ctx: Context, session_id: str, run_id: str) -> Flow[Any]:
    """Load one run; None if it, or its session, does not exist."""
    found = yield from find_run(ctx, session_id, run_id)
    return found and found.run


def find_run(ctx: Context, session_id: str, run_id: str) -> Flow[FoundRun | None]:
    """Load one run so that it can be replaced; None if it, or its session, does not exist."""
    owner = () if ctx.user_id is None else (b"user_id",)
    names = (*HEADER, *owner)
    arguments = get_run_arguments(encoded_id(run_id, "run_id"), names)
    encoded_id(session_id, "session_id")
    session_keys = keys.session_keys(ctx.settings.prefix, session_id)
    request = _GET_RUN.call(session_keys, arguments, writes=False)
    reply = yield from send_read(ctx, session_id, request)
    if not _is_run_reply(reply, names):
        raise scripts.mismatch(session_id)
    reading = parse_reply(session_id, reply[:2], fields=owner)
    if reading is None or not reply[2:]:
        return None
    if ctx.user_id is not None and reading.fields[b"user_id"] != ctx.user_id.encode():
        return None
    head, body = reply[2:]
    stored = StoredRun(head, body, b"", session_id)
    if ctx.settings.encryption is not None:
        stored = opened_run(ctx.settings.encryption, session_id, stored)
    return FoundRun(read_run(ctx.settings.adapter, stored), stored, reading.born)


def _is_run_reply(reply: Any, names: Sequence[bytes]) -> bool:
    """Return whether a reply has the header, the number of members, and head and body of a stored run."""
    if not isinstance(reply, list) or len(reply) not in (2, 4):
        return False
    header, n_members, *members = reply
    has_header = fits((b"HMGET", b"", *names), header)
    return has_header and isinstance(n_members, int) and all(isinstance(part, bytes) for part in members)


def delete_run(ctx: Context, session_id: str, run_id: str) -> Flow[bool]:
    """Remove one run, whole; return False if it, or its session, does not exist."""
    wanted = encoded_id(run_id, "run_id")
    encoded_id(session_id, "session_id")
    precondition = Precondition(session_id)
    try:
        deleted = yield from run_script(
            ctx, _DELETE_RUN, precondition, (wanted,), scripts.read_delete_run_reply
        )
    except SessionNotFoundError:
        return False
    if deleted.was_stored:
        yield from list_elsewhere(ctx, precondition, deleted.session)
    return deleted.was_stored


class Position(NamedTuple):
    """A place in the runs of a session: the order of a run, and the life of the session it was in."""

    order: bytes
    born: bytes | None = None


START: Final = Position(b"0.5")
"""Before the order of any run, and after the members that hold ids."""


@dataclass(frozen=True, slots=True)
class RunsAfter:
    """Some runs of a session in order, and the position of the last: the next page begins there."""

    runs: Sequence[Any]
    last: Position


def get_runs_after(ctx: Context, session_id: str, position: Position, page_size: int) -> Flow[RunsAfter]:
    """Read the runs that follow a position, oldest first: one round trip.

    Raises SessionNotFoundError if there is no such session, or if it is damaged or was created anew since.
    """
    size = whole_number(page_size, "page_size", 1)
    reading = yield from read(ctx, session_id, RunRange(size, after=position.order), ())
    if reading is None or position.born not in (None, reading.born):
        raise SessionNotFoundError(f"there is no session {session_id!r}, or no longer", session_id=session_id)
    runs = read_runs(ctx.settings.adapter, reading.runs)
    last = reading.runs[-1].order if runs else position.order
    return RunsAfter(runs, Position(last, reading.born))
