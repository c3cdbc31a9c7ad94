"""Whole sessions: load, rename, keep alive, delete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sessioncache import codec, keys
from sessioncache.errors import InvalidArgumentError, SessionNotFoundError, SessionOwnershipError
from sessioncache.fields import Fields, field_name, from_fields
from sessioncache.flow import Flow, Request, Script
from sessioncache.records import StoredRun, origin_from, read_run, set_origin
from sessioncache.resilience import Call

from .reading import (
    IDENTITY,
    checked_count,
    has_all,
    identify,
    newest_bodies,
    newest_heads,
    oldest_first,
    pairs,
)
from .saving import UPSERT_SESSION, merge_arguments
from .touching import ask_and_touch
from .writing import Target, run_script, write

DELETE_SESSION: Final = Script("_session", "delete_session")


def get_session(
    call: Call, session_id: str, *, user_id: str | None = None, last_n_runs: int | None = None
) -> Flow[Any]:
    """Load a session, all of its runs or the newest ones; None where it does not exist for this user."""
    return (yield from _load(call, [session_id], checked_user(user_id), last_n_runs))[0]


def get_sessions(
    call: Call, session_ids: Sequence[str], *, last_n_runs: int | None = None
) -> Flow[list[Any]]:
    """Load sessions, in the order of their ids; None where one does not exist."""
    if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
        raise InvalidArgumentError(f"session_ids must be a list of ids, not {type(session_ids).__name__}")
    return (yield from _load(call, list(session_ids), None, last_n_runs))


def checked_user(user_id: str | None) -> str | None:
    """Return a user id that is one, or None."""
    if user_id is not None:
        keys.encoded_id(user_id, "user_id")
    return user_id


def _load(
    call: Call, session_ids: list[str], user_id: str | None, last_n_runs: int | None
) -> Flow[list[Any]]:
    limit = checked_count(last_n_runs, "last_n_runs")
    requests = [(session_id, read_request(call, session_id, limit)) for session_id in session_ids]
    replies = yield from ask_and_touch(call, requests, user_id)
    return [build_session(call, *found, user_id, limit) for found in zip(session_ids, replies, strict=True)]


def read_request(call: Call, session_id: str, limit: int | None) -> Request:
    """Return the request that reads a session and its newest runs; no run where the limit is 0."""
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    slices = (newest_heads(runs, limit), newest_bodies(runs, limit)) if limit != 0 else ()
    return Request(meta, ((b"HGETALL", meta), (b"ZCARD", runs), *slices))


def build_session(
    call: Call, session_id: str, reply: list[Any], user_id: str | None, limit: int | None
) -> Any:
    """Return the session object of a reply, or None where there is none for this user."""
    flat, members, *slices = reply
    heads, bodies = slices or ((), ())
    fields = pairs(flat)
    identity = identify(session_id, list(map(fields.get, IDENTITY)), members)
    if identity is None or not has_all(session_id, identity.count, limit, len(heads), len(bodies)):
        return None
    if user_id is not None and fields.get(b"user_id") != user_id.encode():
        return None
    return _session_object(call, session_id, fields, oldest_first(heads, bodies), limit)


def _session_object(
    call: Call, session_id: str, fields: Fields, stored: list[StoredRun], limit: int | None
) -> Any:
    model = call.settings.model
    runs = [read_run(model, session_id, run) for run in stored]
    session = model.session(from_fields(fields, session_id, model.names), runs)
    by_id = {run.run_id: members for run, members in zip(runs, stored, strict=True)}
    set_origin(session, origin_from(fields, by_id, limit))
    return session


def rename_session(call: Call, session_id: str, name: str, *, user_id: str | None = None) -> Flow[bool]:
    """Set the session_name in a session's session_data; False where it does not exist for this user."""
    if not isinstance(name, str):
        raise InvalidArgumentError(f"name must be a str, not {type(name).__name__}")
    packed = codec.pack(name, "name")
    changes = {b"session_data": codec.EMPTY_DICT, field_name("session_data", "session_name"): packed}
    arguments = merge_arguments(call, set_fields=changes)
    target = Target(session_id, checked_user(user_id), claims=False)
    return (yield from _found(write(call, UPSERT_SESSION, target, arguments, ttl=call.settings.ttl)))


def delete_session(call: Call, session_id: str, *, user_id: str | None = None) -> Flow[bool]:
    """Remove a session with all of its runs; False where it does not exist for this user."""
    target = Target(session_id, checked_user(user_id), claims=False)
    return (yield from _found(run_script(call, DELETE_SESSION, target)))


def _found(writing: Flow[Any]) -> Flow[bool]:
    """Tell whether a write found its session; another user's session is none."""
    try:
        yield from writing
    except (SessionNotFoundError, SessionOwnershipError):
        return False
    return True
