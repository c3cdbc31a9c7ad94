"""Changes of a session's state: of single keys without a load, or computed from what is stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import isawaitable, iscoroutinefunction
from itertools import count
from time import monotonic
from typing import Any, Final

from sessioncache import codec
from sessioncache.errors import InvalidArgumentError, SessionConflictError, SessionNotFoundError
from sessioncache.fields import STATE, field_name
from sessioncache.flow import Await, Flow, Sleep
from sessioncache.resilience import Call
from sessioncache.settings import whole_number

from .saving import UPSERT_SESSION, merge_arguments, upsert_session
from .sessions import get_session
from .writing import Target, write

UPDATE_RETRIES: Final = 100
"""How often a change is made again after a conflict; the call's timeout mostly ends it before."""

CONFLICT_PAUSE: Final = 0.002
"""Seconds that a writer waits at the most after its first conflict, more after each: about two writes."""

LONGEST_CONFLICT_PAUSE: Final = 0.05

_IS_A_DICT: Final = {b"session_data": codec.EMPTY_DICT, STATE.encode(): codec.EMPTY_DICT}
"""The fields that say that a session has a state."""

_NO_DICT: Final = field_name("session_data", STATE)
"""The field that holds the state where it is something else."""


def update_session_state(
    call: Call, session_id: str, changes: Mapping[str, Any], *, remove: Iterable[str] = ()
) -> Flow[None]:
    """Set and remove single keys of a session's state: one round trip, nothing is read."""
    if not isinstance(changes, Mapping):
        raise InvalidArgumentError(f"changes must be a dict, not {type(changes).__name__}")
    if isinstance(remove, str) or not isinstance(remove, Iterable):
        raise InvalidArgumentError(f"remove must be a list of keys, not {type(remove).__name__}")
    set_fields = {
        field_name(STATE, key): codec.pack(value, codec.at("changes", key)) for key, value in changes.items()
    }
    removed = [field_name(STATE, key) for key in remove]
    if not set_fields.keys().isdisjoint(removed):
        raise InvalidArgumentError("a key is both in changes and in remove")
    arguments = merge_arguments(call, _IS_A_DICT | set_fields, [*removed, _NO_DICT])
    yield from write(call, UPSERT_SESSION, Target(session_id), arguments, ttl=call.settings.ttl)


def update_session(
    call: Call,
    session_id: str,
    change: Callable[[Any], object],
    *,
    retries: int = UPDATE_RETRIES,
    last_n_runs: int | None = None,
) -> Flow[Any]:
    """Load a session, change it, save it if nobody else has, and begin again where somebody has."""
    yield from _check(change)
    whole_number(retries, "retries", 0)
    longest_pause = CONFLICT_PAUSE
    for attempt in count():
        session = yield from get_session(call, session_id, last_n_runs=last_n_runs)
        if session is None:
            raise SessionNotFoundError(f"there is no session {session_id!r}", session_id=session_id)
        rev = session.rev
        seconds = yield from _apply(change, session)
        try:
            yield from upsert_session(replace(call, started=call.started + seconds), session, expect_rev=rev)
        except SessionConflictError:
            pause = random.uniform(0, longest_pause)  # noqa: S311 - spreads retries, guards no secret
            if attempt == retries or pause >= call.seconds_left():
                raise
            longest_pause = min(longest_pause * 2, LONGEST_CONFLICT_PAUSE)
            yield Sleep(pause)
        else:
            return session
    return None


def _check(change: Any) -> Flow[None]:
    """Refuse what is no function; a carrier that cannot await refuses an asynchronous one, too."""
    if not callable(change):
        raise InvalidArgumentError("change must be a function of one session")
    if iscoroutinefunction(change) or iscoroutinefunction(type(change).__call__):
        yield Await(_nothing())


async def _nothing() -> None:
    """Be awaited, to find out whether that is possible."""


def _apply(change: Callable[[Any], object], session: Any) -> Flow[float]:
    """Change a session; return how many seconds that took, which are not Redis'."""
    started = monotonic()
    answer = change(session)
    if isawaitable(answer):
        yield Await(answer)
    return monotonic() - started
