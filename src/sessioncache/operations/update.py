"""`update_session` and `update_session_state`: changes that no other writer can undo."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import isawaitable, iscoroutinefunction
from time import monotonic
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError, SessionConflictError, SessionNotFoundError
from sessioncache.storage import codec
from sessioncache.storage.packable import at
from sessioncache.storage.scripts import Merge, Precondition
from sessioncache.storage.session_hash import STATE, field_name
from sessioncache.transport.flow import Await, Flow, Sleep
from sessioncache.validation import encoded_id, whole_number

from .context import Context
from .read import get_session
from .upsert import upsert_session
from .write import merge

UPDATE_RETRIES: Final = 100
"""How often a change is made again after conflicts; mostly the call's timeout ends it before."""

CONFLICT_PAUSE: Final = 0.002
"""Most seconds that a writer waits after its first conflict, more after each: about two writes."""

LONGEST_CONFLICT_PAUSE: Final = 0.05

_IS_A_DICT: Final = {b"session_data": codec.EMPTY_DICT, STATE.encode(): codec.EMPTY_DICT}
"""The fields that say that a session has a state."""

_NO_DICT: Final = field_name("session_data", STATE)
"""The field that holds the state if it is no dict."""


def update_session_state(
    ctx: Context, session_id: str, changes: Mapping[str, Any], *, remove: Iterable[str] = ()
) -> Flow[None]:
    """Set and remove single keys of a session's state: one round trip, nothing is read."""
    encoded_id(session_id, "session_id")
    if not isinstance(changes, Mapping):
        raise InvalidArgumentError(f"changes must be a dict, not {type(changes).__name__}")
    if isinstance(remove, str) or not isinstance(remove, Iterable):
        raise InvalidArgumentError(f"remove must be a list of keys, not {type(remove).__name__}")
    set_fields = {
        field_name(STATE, key): codec.pack(value, at("changes", key)) for key, value in changes.items()
    }
    removed = [field_name(STATE, key) for key in remove]
    if not set_fields.keys().isdisjoint(removed):
        raise InvalidArgumentError("a key is both in changes and in remove")
    yield from merge(ctx, Precondition(session_id), Merge(_IS_A_DICT | set_fields, [*removed, _NO_DICT]))


def update_session(
    ctx: Context,
    session_id: str,
    change: Callable[[Any], object],
    *,
    retries: int = UPDATE_RETRIES,
    last_n_runs: int | None = None,
) -> Flow[Any]:
    """Load a session, change it, save it if nobody else has written it; else begin again."""
    yield from _check(change)
    whole_number(retries, "retries", 0)
    conflicts, longest_pause = 0, CONFLICT_PAUSE
    while True:
        session = yield from get_session(ctx, session_id, last_n_runs=last_n_runs, validates=True)
        if session is None:
            raise SessionNotFoundError(f"there is no session {session_id!r}", session_id=session_id)
        rev = session.rev
        seconds = yield from _apply(change, session)
        try:
            yield from upsert_session(replace(ctx, started=ctx.started + seconds), session, expect_rev=rev)
        except SessionConflictError:
            pause = random.uniform(0, longest_pause)  # noqa: S311 - spreads retries, guards no secret
            if conflicts == retries or pause >= ctx.seconds_left():
                raise
            conflicts, longest_pause = conflicts + 1, min(longest_pause * 2, LONGEST_CONFLICT_PAUSE)
            yield Sleep(pause)
        else:
            return session


def _check(change: Any) -> Flow[None]:
    """Refuse what is no function; a blocking transport refuses an asynchronous one, too."""
    if not callable(change):
        raise InvalidArgumentError("change must be a function of one session")
    if iscoroutinefunction(change) or iscoroutinefunction(type(change).__call__):
        yield Await(_nothing())


async def _nothing() -> None:
    """Be awaited, to find out whether the transport can."""


def _apply(change: Callable[[Any], object], session: Any) -> Flow[float]:
    """Change a session; return how many seconds that took: they do not count as the call's."""
    started = monotonic()
    result = change(session)
    if isawaitable(result):
        yield Await(result)
    return monotonic() - started
