"""Leases: one holder of a session at a time, by the server's clock; what an older one writes is refused."""

from __future__ import annotations

import random
from time import monotonic
from typing import Final

from sessioncache.errors import LeaseHeldError
from sessioncache.storage import scripts
from sessioncache.storage.scripts import LeaseResult, Precondition
from sessioncache.transport.flow import Flow, Sleep
from sessioncache.transport.retry import send
from sessioncache.validation import encoded_id

from .context import Context, Held, writing_script
from .write import accepted, scoped, write_request

_LEASE_SESSION: Final = writing_script(scripts.LEASE_SESSION)

FIRST_LOOK: Final = 0.02
"""Seconds before who waits looks again, at first."""

LONGEST_LOOK: Final = 0.25
"""Most seconds between two looks: how long a lease that was released may stay untaken."""


def acquire(ctx: Context, session_id: str, owner: bytes, ttl: int, wait: float) -> Flow[Held]:
    """Take the lease of a session for `ttl` milliseconds; wait for it for so many seconds.

    A reply that is lost does no harm: the same owner is given the same lease. Raises SessionNotFoundError if
    there is no such session, LeaseHeldError if somebody else has the lease for longer.
    """
    ends, pause = monotonic() + wait, FIRST_LOOK
    while True:
        found = yield from _ask(ctx.begun_anew(), session_id, owner, ttl, b"")
        if found.number is not None:
            return Held(session_id, found.number, ttl)
        left = ends - monotonic()
        if left <= 0:
            raise LeaseHeldError(
                f"somebody else holds the lease of session {session_id!r}", session_id=session_id
            )
        # Who has waited for long looks as often as who has just come: each has the same chance.
        nap = min(pause, found.held_for / 1000 + 0.001, left)
        yield Sleep(nap * random.uniform(0.5, 1.0))  # noqa: S311 - spreads looks, guards no secret
        pause = min(pause * 2, LONGEST_LOOK)


def extend(ctx: Context, held: Held, owner: bytes, ttl: int) -> Flow[None]:
    """Let a lease last so many milliseconds from now; raise LeaseLostError if it is not held any more."""
    yield from _ask(ctx, held.session_id, owner, ttl, b"%d" % held.number)


def release(ctx: Context, held: Held, owner: bytes) -> Flow[None]:
    """Give a lease back; raise LeaseLostError if it is not held any more."""
    yield from _ask(ctx, held.session_id, owner, 0, b"%d" % held.number)


def _ask(ctx: Context, session_id: str, owner: bytes, ttl: int, number: bytes) -> Flow[LeaseResult]:
    encoded_id(session_id, "session_id")
    precondition = scoped(ctx, Precondition(session_id))
    arguments = (owner, b"%d" % ttl, number)
    request = write_request(ctx, _LEASE_SESSION, precondition, arguments)
    # To ask twice is to ask once, so this is sent again like a read.
    reply = yield from send(ctx, request._replace(writes=False))
    return accepted(scripts.read_lease_reply, reply, precondition)
