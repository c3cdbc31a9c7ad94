"""What all writes share: one script, its answer as a result or an error, and the indexes that follow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sessioncache import keys
from sessioncache.errors import (
    InvalidArgumentError,
    ReplyMismatchError,
    SessionCacheError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    SessionVersionError,
    StaleRunError,
)
from sessioncache.fields import are_numbers
from sessioncache.flow import Flow, Request, Script
from sessioncache.resilience import Call, ask

from .index import list_session, ttl_of_indexes
from .reading import log_damaged

log = logging.getLogger("sessioncache")


class Target(NamedTuple):
    """The session that a write is for, and what has to be true of it; None stands for anything."""

    session_id: str
    user_id: str | None = None
    workflow_id: str | None = None
    expect_rev: int | None = None
    born: bytes | None = None
    claims: bool = True
    """Whether a session without a user is this user's to write."""


class Written(NamedTuple):
    """What a script says of the session that it wrote: user and workflow as they are stored now."""

    rev: int
    rev_before: int
    born: bytes
    updated_at: int
    user_id: str | None
    workflow_id: str | None
    rest: Sequence[bytes]


def write(
    call: Call, script: Script, target: Target, arguments: Iterable[bytes] = (), *, ttl: int | None = None
) -> Flow[Written]:
    """Run a script that writes a session: one round trip, and one more where an index has to follow.

    Raises SessionNotFoundError, SessionOwnershipError, SessionConflictError or StaleRunError; nothing is
    stored then.
    """
    written = yield from run_script(call, script, target, arguments, ttl=ttl)
    yield from list_elsewhere(call, target, written, ttl)
    return written


def run_script(
    call: Call, script: Script, target: Target, arguments: Iterable[bytes] = (), *, ttl: int | None = None
) -> Flow[Written]:
    """Run a script that writes a session, and no more: one round trip."""
    answer = yield from ask(call, script_request(call, script, target, arguments, ttl=ttl))
    return read_answer(answer, target.session_id)


def script_request(
    call: Call, script: Script, target: Target, arguments: Iterable[bytes] = (), *, ttl: int | None = None
) -> Request:
    """Return the request that runs a script on a session, and on its indexes where they can join."""
    session_keys = keys.session_keys(call.settings.prefix, target.session_id)
    return script.call(
        (*session_keys, *_joining_indexes(call, target)), (*_common_arguments(call, target, ttl), *arguments)
    )


def optional_number(number: int | None) -> bytes:
    """Return a number as scripts take it, empty for None."""
    return b"" if number is None else b"%d" % number


def _common_arguments(call: Call, target: Target, ttl: int | None) -> tuple[bytes, ...]:
    rule = b"=" if target.claims else b"!"
    return (
        b"" if target.user_id is None else rule + target.user_id.encode(),
        optional_number(ttl),
        optional_number(target.expect_rev),
        target.born or b"",
        target.session_id.encode(),
        ttl_of_indexes(call, ttl),
    )


def _joining_indexes(call: Call, target: Target) -> tuple[bytes, ...]:
    if not call.routing.indexes_join_writes:
        return ()
    return keys.indexes(call.settings.prefix, target.user_id, target.workflow_id)


def read_answer(answer: Any, session_id: str) -> Written:
    """Return what a script says of the session it wrote, or raise the error that it returned."""
    match answer:
        case [b"ok", answered, rev, before, born, updated_at, user_id, workflow_id, *rest] if (
            answered == session_id.encode() and are_numbers((rev, before, born, updated_at))
        ):
            return Written(
                int(rev), int(before), born, int(updated_at), _text(user_id), _text(workflow_id), rest
            )
        case [bytes(status), answered, *run_ids] if status != b"ok" and answered == session_id.encode():
            raise _refusal(status.decode(errors="replace"), session_id, *map(_text, run_ids))
    raise ReplyMismatchError("the answer of a script does not fit what was asked", session_id=session_id)


def _refusal(status: str, session_id: str, detail: str | None = None) -> SessionCacheError:
    """Return the error that a status stands for; `detail` is the run, or the revision, that it is about."""
    if status not in _REFUSALS:
        return ReplyMismatchError("the answer of a script does not fit what was asked", session_id=session_id)
    if status == "damaged":
        log_damaged(session_id)
    kind, text = _REFUSALS[status]
    error = kind(text.format(session=f"session {session_id!r}", run=f"run {detail!r}"), session_id=session_id)
    if isinstance(error, SessionConflictError):
        error.rev = int(detail or 0)
    else:
        error.run_id = detail
    return error


_REFUSALS: Final[Mapping[str, tuple[type[SessionCacheError], str]]] = {
    "version": (SessionVersionError, "{session} is stored in a layout of another version"),
    "absent": (SessionNotFoundError, "there is no {session}"),
    "damaged": (SessionNotFoundError, "there is no {session}: what is left of it is damaged"),
    "owner": (SessionOwnershipError, "{session} belongs to another user"),
    "conflict": (SessionConflictError, "{session} is not at the revision expected any more"),
    "stale": (StaleRunError, "{run} of {session} is of a later attempt"),
    "full": (InvalidArgumentError, "{run}: {session} has no room for one more run of its created_at"),
}


def _text(value: bytes | None) -> str | None:
    """Return a stored id as text; bytes that are no text, which something else wrote, stay what they are."""
    return None if value is None else value.decode(errors="surrogateescape")


def list_elsewhere(call: Call, target: Target, written: Written, ttl: int | None) -> Flow[None]:
    """List a session in those indexes that its script could not, or could not know of."""
    listed = _joining_indexes(call, target)
    wanted = keys.indexes(call.settings.prefix, written.user_id, written.workflow_id)
    left = [key for key in wanted if key not in listed]
    updated_at = b"%d" % written.updated_at
    yield from list_session(call, left, target.session_id, updated_at, ttl_of_indexes(call, ttl))
