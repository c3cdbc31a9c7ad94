"""Whole sessions: rename, change their owner or time, delete."""

from __future__ import annotations

from typing import Any, Final

from sessioncache.errors import InvalidArgumentError
from sessioncache.storage import codec, scripts
from sessioncache.storage.scripts import Merge, Precondition, WriteResult
from sessioncache.storage.session_hash import field_name
from sessioncache.storage.snapshot import snapshot_of
from sessioncache.transport.flow import Flow
from sessioncache.validation import encoded_id, optional_id, unix_seconds

from .context import Context, writing_script
from .write import found, merge, run_script

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


def set_updated_at(ctx: Context, session_id: str, seconds: int) -> Flow[WriteResult]:
    """Let a session count as written at another time than now: one copied from elsewhere keeps its own."""
    encoded_id(session_id, "session_id")
    fields = {b"updated_at": b"%d" % unix_seconds(seconds, "session.updated_at")}
    return merge(ctx, Precondition(session_id), Merge(fields))


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


def delete_session(ctx: Context, session_id: str, *, user_id: str | None = None) -> Flow[bool]:
    """Remove a session with all of its runs; return False if it does not exist for this user."""
    encoded_id(session_id, "session_id")
    precondition = Precondition(session_id, optional_id(user_id, "user_id"), claims=False)
    arguments = scripts.delete_session_arguments(ctx.settings.deleter, marks=ctx.settings.mark_deletions)
    deleting = run_script(ctx, _DELETE_SESSION, precondition, arguments, scripts.read_write_reply)
    return (yield from found(deleting))
