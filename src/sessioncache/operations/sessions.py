"""Whole sessions: rename, change their owner or time, import, delete."""

from __future__ import annotations

from collections.abc import Collection
from itertools import accumulate
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError, SessionConflictError, SessionNotFoundError
from sessioncache.storage import codec, keys, scripts
from sessioncache.storage.run_members import PackedRun
from sessioncache.storage.scripts import Merge, Precondition, WriteResult
from sessioncache.storage.session_hash import field_name, to_fields
from sessioncache.storage.snapshot import snapshot_of
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.retry import send
from sessioncache.validation import encoded_id, optional_id, unix_seconds

from .context import Context, writing_script
from .packed_runs import marks_of, pack_all
from .sealing import sealed_change, sealed_runs
from .write import (
    UPSERT_SESSION,
    accepted,
    found,
    list_all_elsewhere,
    list_elsewhere,
    merge,
    noted,
    run_script,
    write_request,
)

_IMPORT_SESSION: Final = writing_script(scripts.IMPORT_SESSION)
_DELETE_SESSION: Final = writing_script(scripts.DELETE_SESSION)


def rename_session(ctx: Context, session_id: str, name: str, *, user_id: str | None = None) -> Flow[bool]:
    """Set `session_data["session_name"]`; return False if the session does not exist for this user."""
    encoded_id(session_id, "session_id")
    if not isinstance(name, str):
        raise InvalidArgumentError(f"name must be a str, not {type(name).__name__}")
    packed = codec.pack(name, "name")
    fields = {b"session_data": codec.EMPTY_DICT, field_name("session_data", "session_name"): packed}
    precondition = Precondition(session_id, optional_id(user_id, "user_id"), claims=False)
    return (yield from found(merge(ctx, precondition, Merge(fields))))


def set_updated_at(ctx: Context, times: Collection[tuple[Any, int]]) -> Flow[None]:
    """Let sessions count as written at other times, in seconds, than now: those copied from elsewhere."""
    preconditions = [
        Precondition(session.session_id, session.user_id, session.workflow_id) for session, _ in times
    ]
    requests = []
    for precondition, (_, seconds) in zip(preconditions, times, strict=True):
        change = Merge({b"updated_at": b"%d" % unix_seconds(seconds, "session.updated_at")})
        arguments = sealed_change(ctx, precondition.session_id, change).arguments(ctx.settings.max_runs)
        requests.append(write_request(ctx, UPSERT_SESSION, precondition, arguments))
    session_ids = [precondition.session_id for precondition in preconditions]
    replies = yield from noted(ctx, session_ids, send_all(ctx, requests))
    written = [
        (precondition, accepted(scripts.read_write_reply, reply, precondition))
        for precondition, reply in zip(preconditions, replies, strict=True)
    ]
    yield from list_all_elsewhere(ctx, written)


def change_owner(ctx: Context, session: Any, previous_user_id: str, user_id: str | None) -> Flow[WriteResult]:
    """Give a loaded session to another user, or to nobody.

    Raises SessionConflictError if it was written since, SessionOwnershipError if it is not the previous
    user's.
    """
    loaded = snapshot_of(session)
    owner = {} if user_id is None else {b"user_id": encoded_id(user_id, "user_id")}
    rev = loaded.rev if loaded else None
    precondition = Precondition(session.session_id, previous_user_id, session.workflow_id, rev)
    return merge(ctx, precondition, Merge(owner, () if owner else (b"user_id",)))


def import_session(ctx: Context, session: Any, updated_at: int | None, mark_ttl: int | None) -> Flow[bool]:
    """Create a session, whole, as it was elsewhere; return False if it is here, or was once.

    However large it is, it is one script: nobody sees a part of it. Its mark says for `mark_ttl`, in
    milliseconds, that it was here.
    """
    runs = pack_all(ctx, session.session_id, ctx.settings.adapter.runs(session))
    packed = _in_this_order({run.run_id: run for run in runs}.values())
    fields = to_fields(ctx.settings.adapter.to_dict(session)) | marks_of(packed)
    if updated_at is not None:
        fields[b"updated_at"] = b"%d" % unix_seconds(updated_at, "session.updated_at")
    encoded_id(session.session_id, "session.session_id")
    precondition = Precondition(session.session_id, session.user_id, session.workflow_id)
    change = sealed_change(ctx, session.session_id, Merge(fields, creates=scripts.ANYBODY))
    arguments = change.arguments(ctx.settings.max_runs, sealed_runs(ctx, session.session_id, packed))
    mark = keys.import_mark(ctx.settings.prefix, session.session_id)
    arguments += (scripts.optional_number(mark_ttl),)
    request = write_request(ctx, _IMPORT_SESSION, precondition, arguments, (mark,))
    reply = yield from noted(ctx, [session.session_id], send(ctx, request))
    try:
        written = accepted(scripts.read_write_reply, reply, precondition)
    except (SessionNotFoundError, SessionConflictError):
        return False
    yield from list_elsewhere(ctx, precondition, written)
    return True


def _in_this_order(runs: Collection[PackedRun]) -> list[PackedRun]:
    """Return runs that are stored in this order: placed as if none was created before the one ahead of it."""
    times = accumulate((run.created_at for run in runs), max)
    return [run._replace(created_at=time) for run, time in zip(runs, times, strict=True)]


def delete_session(ctx: Context, session_id: str, *, user_id: str | None = None) -> Flow[bool]:
    """Remove a session with all of its runs; return False if it does not exist for this user."""
    encoded_id(session_id, "session_id")
    precondition = Precondition(session_id, optional_id(user_id, "user_id"), claims=False)
    arguments = scripts.delete_session_arguments(ctx.settings.deleter, marks=ctx.settings.mark_deletions)
    deleting = run_script(ctx, _DELETE_SESSION, precondition, arguments, scripts.read_write_reply)
    return (yield from found(deleting))
