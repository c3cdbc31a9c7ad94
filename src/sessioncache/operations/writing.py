"""What all writes share: one script, its answer as a result or an error, and the indexes that follow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sessioncache import keys
from sessioncache.errors import (
    ReplyMismatchError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    StaleRunError,
)
from sessioncache.fields import of_another_version
from sessioncache.flow import Flow, Request, Script
from sessioncache.resilience import Call, ask

from .index import list_session, ttl_of_indexes

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
    """Return what a script says of the session it wrote, or raise the error that it answered."""
    match answer:
        case [b"ok", rev, updated_at, user_id, workflow_id, *rest]:
            return Written(int(rev), int(updated_at), _text(user_id), _text(workflow_id), rest)
        case [b"version"]:
            raise of_another_version(session_id)
        case [b"absent"]:
            raise SessionNotFoundError(f"there is no session {session_id!r}")
        case [b"damaged"]:
            log.warning("session %r is damaged: it counts as absent", session_id)
            raise SessionNotFoundError(f"there is no session {session_id!r}: what is left of it is damaged")
        case [b"owner"]:
            raise SessionOwnershipError(f"session {session_id!r} belongs to another user")
        case [b"conflict"]:
            raise SessionConflictError(f"session {session_id!r} is not at the revision expected any more")
        case [b"stale", run_id]:
            raise StaleRunError(f"run {_text(run_id)!r} of session {session_id!r} is of a later attempt")
    raise ReplyMismatchError("the answer of a script does not fit what was asked")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def list_elsewhere(call: Call, target: Target, written: Written, ttl: int | None) -> Flow[None]:
    """List a session in those indexes that its script could not, or could not know of."""
    listed = _joining_indexes(call, target)
    wanted = keys.indexes(call.settings.prefix, written.user_id, written.workflow_id)
    left = [key for key in wanted if key not in listed]
    updated_at = b"%d" % written.updated_at
    yield from list_session(call, left, target.session_id, updated_at, ttl_of_indexes(call, ttl))
