"""The one way a session is written: a precondition, one script, its reply, and the indexes that follow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

from sessioncache.errors import (
    InvalidArgumentError,
    LeaseLostError,
    SessionCacheError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    SessionVersionError,
    StaleRunError,
)
from sessioncache.storage import keys, scripts
from sessioncache.storage.scripts import Merge, Precondition, Refusal, WriteResult
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request, Script
from sessioncache.transport.retry import send
from sessioncache.transport.together import together

from .context import TALLY, Context, Held, writing_script
from .index import GRACE_SECONDS, INDEX_SHARE, Entry, keys_of, make_entries, make_entry
from .listed import Listing
from .sealing import sealed_change

R = TypeVar("R")

log = logging.getLogger("sessioncache")

UPSERT_SESSION: Final = writing_script(scripts.UPSERT_SESSION, scripts.LEASED_UPSERT_SESSION)


def write(
    ctx: Context, script: Script, precondition: Precondition, arguments: Iterable[bytes]
) -> Flow[WriteResult]:
    """Run a script that writes a session, and list it: one round trip, or one more if an index has to follow.

    Raises SessionNotFoundError, SessionOwnershipError, SessionConflictError or StaleRunError; nothing is
    stored then.
    """
    precondition = scoped(ctx, precondition)
    writing = run_script(ctx, script, precondition, arguments, scripts.read_write_reply)
    if ctx.is_in_one_place:
        written = yield from writing
        yield from list_elsewhere(ctx, precondition, written)
        return written
    return (yield from _write_and_list(ctx, precondition, writing))


def _write_and_list(
    ctx: Context, precondition: Precondition, writing: Flow[WriteResult]
) -> Flow[WriteResult]:
    """Write a session, and list it in indexes of other servers at the same time, as far as they are known.

    An entry that comes too early, or for a write that is refused, does no harm: readers go by the session.
    """
    session_id = precondition.session_id
    meta, _ = keys.session_keys(ctx.settings.prefix, session_id)
    last = ctx.listed.find(session_id)
    second = ctx.listed.second_on(ctx.topology.locate(meta)) if precondition.expect_rev is None else None
    early = _early_entries(ctx, precondition, last, second)
    limited = ctx.limited(INDEX_SHARE)
    sent_at = monotonic()
    flows: list[Flow[Any]] = [writing, *(make_entry(limited, entry) for entry in early)]
    written, *made = yield from together(flows)
    listed: set[bytes] = set()
    if second == written.updated_at and monotonic() - sent_at < GRACE_SECONDS / 2:
        listed = {entry.key for entry, is_made in zip(early, made, strict=True) if is_made}
    if last and last.still_holds(written):
        listed |= last.indexes
    failed = {entry.key for entry, is_made in zip(early, made, strict=True) if not is_made}
    left = _entries_of(ctx, session_id, written, listed | failed)
    made = yield from make_entries(ctx, left)
    listed |= {entry.key for entry, is_made in zip(left, made, strict=True) if is_made}
    ctx.listed.note(ctx.topology.locate(meta), session_id, written, listed)
    return written


def _early_entries(
    ctx: Context, precondition: Precondition, last: Listing | None, second: int | None
) -> list[Entry]:
    """Return the entries that a write needs if it happens in this second; none if it is listed so already."""
    if second is None or (last and last.written.updated_at == second):
        return []
    user_id = precondition.user_id or (last and last.written.user_id)
    workflow_id = precondition.workflow_id or (last and last.written.workflow_id)
    session_id, ttl = precondition.session_id, _index_ttl(ctx)
    found = keys_of(ctx, session_id, user_id, workflow_id)
    return [Entry(key, session_id.encode(), b"%d" % second, ttl) for key in found]


def run_script(
    ctx: Context,
    script: Script,
    precondition: Precondition,
    arguments: Iterable[bytes],
    read: Callable[[Any, str], R | Refusal],
) -> Flow[R]:
    """Run a script on a session and return what it says it wrote, by `read`: one round trip."""
    precondition = scoped(ctx, precondition)
    if ctx.lease is not None:
        script, arguments = _under_lease(ctx.lease, script, precondition, arguments)
    request = write_request(ctx, script, precondition, arguments)
    reply = yield from noted(ctx, [precondition.session_id], send(ctx, request))
    is_elsewhere = ctx.elsewhere and _is_unknown(read(reply, precondition.session_id), precondition)
    if is_elsewhere and (yield from ctx.fetch(precondition.session_id)):
        reply = yield from noted(ctx, [precondition.session_id], send(ctx, request))
    return accepted(read, reply, precondition)


def scoped(ctx: Context, precondition: Precondition, *, hides: bool = True) -> Precondition:
    """Return what must be true of a session for the user of a call, whose it has to be."""
    if ctx.user_id is None:
        return precondition
    if precondition.user_id not in (None, ctx.user_id):
        raise SessionOwnershipError(
            "what is written is another user's than the call", session_id=precondition.session_id
        )
    if not precondition.claims and precondition.user_id is not None:
        return precondition  # it is scoped already
    return precondition._replace(user_id=ctx.user_id, claims=False, hides=hides)


def _under_lease(
    lease: Held, script: Script, precondition: Precondition, arguments: Iterable[bytes]
) -> tuple[Script, Iterable[bytes]]:
    """Return the script, and its arguments, that writes only while a lease is held."""
    if script.leased is None or lease.session_id != precondition.session_id:
        raise InvalidArgumentError("lease is the one of another session")
    return script.leased, (*arguments, b"%d" % lease.number, b"%d" % lease.ttl)


def noted(ctx: Context, session_ids: Iterable[str], sending: Flow[R]) -> Flow[R]:
    """Send writes, and from then on return nothing of these sessions that was held before."""
    try:
        return (yield from sending)
    finally:
        if ctx.near is not None:
            for session_id in session_ids:
                ctx.near.note_write(session_id)


def _is_unknown(result: Any, precondition: Precondition) -> bool:
    """Return whether a session is absent that the caller does not know to have been here."""
    return isinstance(result, Refusal) and result.status == "absent" and precondition.born is None


def merge(ctx: Context, precondition: Precondition, change: Merge) -> Flow[WriteResult]:
    """Change fields of a session's hash, and none of its runs."""
    change = sealed_change(ctx, precondition.session_id, change)
    return write(ctx, UPSERT_SESSION, precondition, change.arguments(ctx.settings.max_runs))


def write_request(
    ctx: Context,
    script: Script,
    precondition: Precondition,
    arguments: Iterable[bytes] = (),
    more_keys: Iterable[bytes] = (),
) -> Request:
    """Return the request that runs a script on a session, and on those indexes that can join."""
    settings = ctx.settings
    session_keys = keys.session_keys(settings.prefix, precondition.session_id)
    common = precondition.arguments(settings.ttl, settings.index_ttl)
    script_keys = (*session_keys, *_joining_indexes(ctx, precondition), *more_keys)
    return script.call(script_keys, (*common, *arguments))


def _joining_indexes(ctx: Context, precondition: Precondition) -> tuple[bytes, ...]:
    if not ctx.is_in_one_place:
        return ()
    return keys.indexes(ctx.settings.prefix, precondition.user_id, precondition.workflow_id)


def accepted(read: Callable[[Any, str], R | Refusal], reply: Any, precondition: Precondition) -> R:
    """Return what a script wrote, or raise the error that its refusal stands for."""
    result = read(reply, precondition.session_id)
    if isinstance(result, Refusal):
        if precondition.hides and result.status == "owner":
            result = Refusal("absent", None)
        raise _error(result, precondition.session_id)
    return result


def _error(refusal: Refusal, session_id: str) -> SessionCacheError:
    if refusal.status not in _ERRORS:
        return scripts.mismatch(session_id)
    if refusal.status == "damaged":
        log_damaged(session_id)
    kind, text = _ERRORS[refusal.status]
    message = text.format(session=f"session {session_id!r}", run=f"run {refusal.detail!r}")
    error = kind(message, session_id=session_id)
    if refusal.status == "conflict" and isinstance(error, SessionConflictError):
        error.rev = int(refusal.detail or 0)
    else:
        error.run_id = refusal.detail
    if isinstance(error, SessionNotFoundError) and refusal.status == "deleted":
        error.reason = "deleted"
    return error


_ERRORS: Final[Mapping[str, tuple[type[SessionCacheError], str]]] = {
    "version": (SessionVersionError, "{session} is stored in a layout of another version"),
    "absent": (SessionNotFoundError, "there is no {session}"),
    "deleted": (SessionNotFoundError, "there is no {session}: it was deleted"),
    "damaged": (SessionNotFoundError, "there is no {session}: what is left of it is damaged"),
    "owner": (SessionOwnershipError, "{session} belongs to another user"),
    "conflict": (SessionConflictError, "{session} is not at the expected revision any more"),
    "stale": (StaleRunError, "{run} of {session} is of a later attempt"),
    "changed": (SessionConflictError, "{run} of {session} is not as expected any more"),
    "lease": (LeaseLostError, "the lease of {session} is not held any more"),
    "full": (InvalidArgumentError, "{run}: {session} has no room for one more run of its created_at"),
}


def log_damaged(session_id: str) -> None:
    """Log and count that a session is damaged."""
    TALLY.add("damaged_sessions")
    log.warning("session %r is damaged: it counts as absent", session_id)


def list_elsewhere(ctx: Context, precondition: Precondition, written: WriteResult) -> Flow[None]:
    """List a session in those indexes that its script could not reach, or did not know of."""
    yield from list_all_elsewhere(ctx, [(precondition, written)])


def list_all_elsewhere(ctx: Context, writes: Iterable[tuple[Precondition, WriteResult]]) -> Flow[None]:
    """List sessions in those indexes that their scripts could not reach, or did not know of: all at once."""
    entries = []
    for precondition, written in writes:
        joined = _joining_indexes(ctx, precondition)
        entries += _entries_of(ctx, precondition.session_id, written, joined)
    yield from make_entries(ctx, entries)


def _entries_of(
    ctx: Context, session_id: str, written: WriteResult, listed: Collection[bytes]
) -> list[Entry]:
    """Return the entries of a session that was written, but for those in which it is listed."""
    updated_at, ttl = b"%d" % written.updated_at, _index_ttl(ctx)
    wanted = keys_of(ctx, session_id, written.user_id, written.workflow_id)
    return [Entry(key, session_id.encode(), updated_at, ttl) for key in wanted if key not in listed]


def _index_ttl(ctx: Context) -> int | None:
    """Return how long an index lives: in a cluster a second more, in which writes make no further entry."""
    ttl = ctx.settings.index_ttl
    return ttl if ttl is None or ctx.is_in_one_place else ttl + 1000


def found(writing: Flow[Any]) -> Flow[bool]:
    """Return whether a write found its session; another user's session counts as absent."""
    try:
        yield from writing
    except (SessionNotFoundError, SessionOwnershipError):
        return False
    return True
