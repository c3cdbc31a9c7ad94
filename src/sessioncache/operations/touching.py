"""Lifetimes that begin anew: when a session is touched, and when it is read, where the cache wants that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import EllipsisType
from typing import Any, Final

from sessioncache.errors import SessionNotFoundError, SessionOwnershipError
from sessioncache.flow import Flow, Request, Script
from sessioncache.resilience import Call, ask_all
from sessioncache.settings import milliseconds

from .writing import Target, list_elsewhere, read_answer, script_request, write

TOUCH_SESSION: Final = Script("_session", "touch_session")


def touch_session(call: Call, session_id: str, ttl: int | timedelta | EllipsisType | None) -> Flow[bool]:
    """Let a session live for `ttl` from now, None for ever; False where it does not exist."""
    lifetime = call.settings.ttl if isinstance(ttl, EllipsisType) else milliseconds(ttl, "ttl")
    try:
        yield from write(call, TOUCH_SESSION, Target(session_id), (b"",), ttl=lifetime)
    except SessionNotFoundError:
        return False
    return True


def ask_and_touch(
    call: Call, requests: Sequence[tuple[str, Request]], user_id: str | None = None
) -> Flow[list[Any]]:
    """Ask about sessions, and start their lifetimes anew where reads do that: one round trip for each server.

    Twice in a ttl, a session's reads take another one, to keep alive the indexes that it is listed in.
    """
    wanted = [request for _, request in requests]
    if not call.settings.touch_on_read or call.settings.ttl is None:
        return (yield from ask_all(call, wanted))
    targets = [Target(session_id, user_id, claims=False) for session_id, _ in requests]
    touches = [
        script_request(call, TOUCH_SESSION, target, (b"1",), ttl=call.settings.ttl) for target in targets
    ]
    # To touch twice is to touch, so these are no writes; what cannot be touched is read all the same.
    optional = [touch._replace(writes=False, optional=True) for touch in touches]
    replies = yield from ask_all(call, [*wanted, *optional])
    for target, answer in zip(targets, replies[len(wanted) :], strict=True):
        yield from _follow(call, target, answer)
    return replies[: len(wanted)]


def _follow(call: Call, target: Target, answer: Any) -> Flow[None]:
    if isinstance(answer, Exception):
        line = f"session {target.session_id!r} was read, but lives no longer for it: {answer}"
        call.routing.outages.say("touching", line)
        return
    try:
        touched = read_answer(answer, target.session_id)
    except (SessionNotFoundError, SessionOwnershipError):
        return
    if touched.rest == [b"1"]:
        yield from list_elsewhere(call, target, touched, call.settings.ttl)
