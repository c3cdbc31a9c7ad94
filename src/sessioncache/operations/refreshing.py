"""Bringing a loaded session up to date: what has changed in Redis, and no more."""

from __future__ import annotations

from typing import Any, Final

from sessioncache import keys
from sessioncache.errors import InvalidArgumentError, SessionNotFoundError
from sessioncache.fields import Fields, from_fields, to_fields
from sessioncache.flow import Flow, Request
from sessioncache.records import (
    Origin,
    StoredRun,
    is_unchanged,
    origin_from,
    origin_of,
    read_run,
    run_id_of_head,
    set_origin,
)
from sessioncache.resilience import Call, ask

from .reading import IDENTITY, has_all, identify, newest_bodies, newest_heads, pairs

Heads = dict[bytes, bytes]
"""Members by the order of their runs, oldest first; both as Redis answers them."""

Members = list[tuple[bytes, bytes | None]]
"""Head and body of each run, oldest first; None for a body that was not read."""

ATTEMPTS: Final = 3
"""How often changes are read again because there were more of them meanwhile, before all is read at once."""


def refresh(call: Call, session: Any) -> Flow[bool]:
    """Bring a session object up to date; True where something had changed.

    One small round trip where nothing has; two more where something has. What this object changed and has not
    saved wins over what others saved.
    """
    call.settings.model.fields(session)
    origin = origin_of(session)
    if origin is None:
        raise InvalidArgumentError(
            "session was neither loaded nor saved: there is nothing to refresh it from"
        )
    meta, _ = keys.session_keys(call.settings.prefix, session.session_id)
    rev, born = yield from ask(call, Request(meta, ((b"HMGET", meta, b"rev", b"born"),)))
    if born == origin.born and rev == b"%d" % origin.rev:
        return False
    fields, members = yield from _read_changed(call, session.session_id, origin)
    _merge(call, session, origin, fields, _stored_runs(call, session.session_id, origin, members))
    return True


def _read_changed(call: Call, session_id: str, origin: Origin) -> Flow[tuple[Fields, Members]]:
    """Read the fields, all heads, and the bodies of those heads that this object does not have.

    All of it is as of one moment: where the session changes between the two steps, they are taken again, and
    at last everything is read at once.
    """
    known = {stored.head for stored in origin.runs.values()}
    for _ in range(ATTEMPTS):
        fields, heads = yield from _read_heads(call, session_id, origin)
        changed = [order for order, head in heads.items() if head not in known]
        bodies = yield from _read_bodies(call, session_id, fields[b"rev"], changed)
        if bodies is not None:
            return fields, [(head, bodies.get(order)) for order, head in heads.items()]
    return (yield from _read_all(call, session_id, origin))


def _read_heads(call: Call, session_id: str, origin: Origin) -> Flow[tuple[Fields, Heads]]:
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    heads_slice = (*newest_heads(runs, origin.limit), b"WITHSCORES")
    commands = ((b"HGETALL", meta), (b"ZCARD", runs), heads_slice)
    flat, members, scored = yield from ask(call, Request(meta, commands))
    heads = {order: head for head, order in reversed(pairs(scored).items())}
    return _checked(pairs(flat), members, session_id, origin, len(heads)), heads


def _read_bodies(call: Call, session_id: str, rev: bytes, orders: list[bytes]) -> Flow[Heads | None]:
    """Return bodies by the orders of their runs; None where they are not those of this revision any more."""
    if not orders:
        return {}
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    slices = [(b"ZRANGE", runs, b"-" + order, b"-" + order, b"BYSCORE") for order in orders]
    rev_now, *found = yield from ask(call, Request(meta, ((b"HGET", meta, b"rev"), *slices)))
    if rev_now != rev or not all(found):
        return None
    return {order: body for order, (body, *_) in zip(orders, found, strict=True)}


def _read_all(call: Call, session_id: str, origin: Origin) -> Flow[tuple[Fields, Members]]:
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    slices = newest_heads(runs, origin.limit), newest_bodies(runs, origin.limit)
    commands = ((b"HGETALL", meta), (b"ZCARD", runs), *slices)
    flat, members, heads, bodies = yield from ask(call, Request(meta, commands))
    fields = _checked(pairs(flat), members, session_id, origin, len(heads), len(bodies))
    return fields, list(zip(reversed(heads), reversed(bodies), strict=True))


def _checked(fields: Fields, members: int, session_id: str, origin: Origin, *found: int) -> Fields:
    identity = identify(session_id, list(map(fields.get, IDENTITY)), members)
    if (
        identity
        and identity.born == origin.born
        and has_all(session_id, identity.count, origin.limit, *found)
    ):
        return fields
    raise SessionNotFoundError(
        f"session {session_id!r}, as it was loaded, exists no more", session_id=session_id
    )


def _stored_runs(call: Call, session_id: str, origin: Origin, members: Members) -> dict[str, StoredRun]:
    """Return what is stored of each run, oldest first; a body that was not read is the one loaded before."""
    model = call.settings.model
    loaded = {stored.head: (run_id, stored) for run_id, stored in origin.runs.items()}
    runs = {}
    for head, body in members:
        if body is None:
            run_id, stored = loaded[head]
        else:
            stored = StoredRun(head, body)
            run_id = run_id_of_head(head) or model.run_id(read_run(model, session_id, stored))
        runs[run_id] = stored
    return runs


def _merge(call: Call, session: Any, origin: Origin, fields: Fields, stored: dict[str, StoredRun]) -> None:
    """Give a session object what is stored, under what it changed itself."""
    model = call.settings.model
    mine = {model.run_id(run): run for run in model.runs(session)}
    runs = [
        _newer(call, session.session_id, mine.get(run_id), origin.runs.get(run_id), now)
        for run_id, now in stored.items()
    ]
    runs += [run for run_id, run in mine.items() if run_id not in stored and run_id not in origin.runs]
    beyond = _changed_beyond(call, session.session_id, origin, mine, stored)
    merged = _merged_fields(fields, origin.fields, to_fields(model.fields(session)))
    model.refill(session, from_fields(merged, session.session_id), [*map(mine.get, beyond), *runs])
    set_origin(session, origin_from(fields, beyond | stored, origin.limit))


def _changed_beyond(
    call: Call, session_id: str, origin: Origin, mine: dict[str, Any], stored: dict[str, StoredRun]
) -> dict[str, StoredRun]:
    """Return what runs were loaded as that are changed here and not among the newest any more.

    Where only the newest runs are read, one that is missing may be older than they, and need not be deleted.
    """
    if origin.limit is None:
        return {}
    return {
        run_id: was
        for run_id, was in origin.runs.items()
        if run_id in mine
        and run_id not in stored
        and not is_unchanged(call.settings.model, session_id, mine[run_id], was)
    }


def _newer(call: Call, session_id: str, mine: Any, was: StoredRun | None, now: StoredRun) -> Any:
    """Return the run object that is here already, unless only the stored run has changed."""
    model = call.settings.model
    if mine is not None and (was is None or was == now or not is_unchanged(model, session_id, mine, was)):
        return mine
    return read_run(model, session_id, now)


def _merged_fields(stored: Fields, loaded: Fields, mine: Fields) -> Fields:
    """Return the stored fields with what this object has changed since it was loaded."""
    changed = {name: value for name, value in mine.items() if loaded.get(name) != value}
    removed = {name for name in loaded if name not in mine and name != b"updated_at"}
    return {name: value for name, value in (stored | changed).items() if name not in removed}
