"""`refresh`: bring a loaded session up to date by reading what has changed in Redis, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError, SessionNotFoundError
from sessioncache.storage.keys import session_keys
from sessioncache.storage.run_members import (
    Slice,
    StoredRun,
    body_at,
    is_unchanged,
    newest_bodies,
    newest_heads,
    read_run,
    run_id_of,
    run_id_of_head,
)
from sessioncache.storage.session_hash import Fields, from_fields, to_fields
from sessioncache.storage.snapshot import SNAPSHOT, Snapshot, snapshot_of
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request

from .context import Context
from .read import Reading, not_about, read, send_read, snapshot_from

Members = list[tuple[bytes, bytes | None]]
"""Head and body of each run, oldest first; None for a body that was not read."""

ATTEMPTS: Final = 3
"""How often changes are read again because there were more of them meanwhile, before all is read at once."""


def refresh(ctx: Context, session: Any) -> Flow[bool]:
    """Bring a session object up to date; return whether anything had changed.

    One small round trip if nothing has; two more if something has. What this object changed and has not
    saved wins over what others saved.
    """
    ctx.settings.adapter.to_dict(session)
    loaded = snapshot_of(session)
    if loaded is None:
        raise InvalidArgumentError(
            "session was neither loaded nor saved: there is nothing to refresh it from"
        )
    if not (yield from _has_changed(ctx, session.session_id, loaded)):
        return False
    reading, members = yield from _read_changed(ctx, session.session_id, loaded)
    _merge(ctx, session, loaded, reading, _stored_runs(ctx, session.session_id, loaded, members))
    return True


def _has_changed(ctx: Context, session_id: str, loaded: Snapshot) -> Flow[bool]:
    meta, _ = session_keys(ctx.settings.prefix, session_id)
    request = Request(meta, ((b"HMGET", meta, b"session_id", b"rev", b"born"),))
    stored_id, rev, born = yield from send_read(ctx, session_id, request)
    if stored_id is not None and stored_id != session_id.encode():
        raise not_about(session_id)
    return bool(born != loaded.born or rev != b"%d" % loaded.rev)


def _read_changed(ctx: Context, session_id: str, loaded: Snapshot) -> Flow[tuple[Reading, Members]]:
    """Read the fields, all heads, and the bodies of those heads that this object does not have.

    All of it is as of one moment: if the session changes between the two steps, they are taken again, and at
    last everything is read at once.
    """
    known = {stored.head for stored in loaded.runs.values()}
    for _ in range(ATTEMPTS):
        reading = yield from _read_same(ctx, session_id, loaded, [newest_heads(loaded.limit).with_scores()])
        (scored,) = reading.slices
        heads = dict(zip(reversed(scored[1::2]), reversed(scored[::2]), strict=True))
        changed = [order for order, head in heads.items() if head not in known]
        bodies = yield from _read_bodies(ctx, session_id, reading.rev, changed)
        if bodies is not None:
            return reading, [(head, bodies.get(order)) for order, head in heads.items()]
    slices = [newest_heads(loaded.limit), newest_bodies(loaded.limit)]
    reading = yield from _read_same(ctx, session_id, loaded, slices)
    return reading, [*zip(*map(reversed, reading.slices), strict=True)]


def _read_same(ctx: Context, session_id: str, loaded: Snapshot, slices: Sequence[Slice]) -> Flow[Reading]:
    """Read the session that was loaded; one that was created anew since is another."""
    reading = yield from read(ctx, session_id, slices)
    if reading is None or reading.born != loaded.born:
        raise SessionNotFoundError(
            f"session {session_id!r}, as it was loaded, exists no more", session_id=session_id
        )
    return reading


def _read_bodies(
    ctx: Context, session_id: str, rev: int, orders: list[bytes]
) -> Flow[dict[bytes, bytes] | None]:
    """Return bodies by the orders of their runs; None if the session is at another revision by now."""
    if not orders:
        return {}
    reading = yield from read(ctx, session_id, [*map(body_at, orders)], ())
    if reading is None or reading.rev != rev or not all(reading.slices):
        return None
    return {order: members[0] for order, members in zip(orders, reading.slices, strict=True)}


def _stored_runs(ctx: Context, session_id: str, loaded: Snapshot, members: Members) -> dict[str, StoredRun]:
    """Return the members of each run, oldest first; a body that was not read is the one loaded before."""
    adapter = ctx.settings.adapter
    known = {stored.head: (run_id, stored) for run_id, stored in loaded.runs.items()}
    runs = {}
    for head, body in members:
        if body is None:
            run_id, stored = known[head]
        else:
            stored = StoredRun(head, body)
            run_id = run_id_of_head(head) or read_run(adapter, session_id, stored).run_id
        runs[run_id] = stored
    return runs


def _merge(
    ctx: Context, session: Any, loaded: Snapshot, reading: Reading, stored: dict[str, StoredRun]
) -> None:
    """Give a session object what is stored, under what it changed itself."""
    adapter = ctx.settings.adapter
    session_id = session.session_id
    mine = {run_id_of(adapter, run): run for run in adapter.runs(session)}
    runs = [
        _newer(ctx, session_id, mine.get(run_id), loaded.runs.get(run_id), now)
        for run_id, now in stored.items()
    ]
    runs += [run for run_id, run in mine.items() if run_id not in stored and run_id not in loaded.runs]
    beyond = _changed_beyond(ctx, session_id, loaded, mine, stored)
    fields = _merged_fields(dict(reading.fields), loaded.fields, to_fields(adapter.to_dict(session)))
    content = from_fields(fields, session_id, adapter.names)
    adapter.refill(session, adapter.session_class(**content, runs=[*map(mine.get, beyond), *runs]))
    vars(session)[SNAPSHOT] = snapshot_from(reading, beyond | stored, loaded.limit)


def _changed_beyond(
    ctx: Context, session_id: str, loaded: Snapshot, mine: dict[str, Any], stored: dict[str, StoredRun]
) -> dict[str, StoredRun]:
    """Return the runs that are changed here and no longer among the newest, as they were loaded.

    If only the newest runs are read, one that is missing may be older than they, and need not be deleted.
    """
    if loaded.limit is None:
        return {}
    return {
        run_id: was
        for run_id, was in loaded.runs.items()
        if run_id in mine
        and run_id not in stored
        and not is_unchanged(ctx.settings.adapter, session_id, mine[run_id], was)
    }


def _newer(ctx: Context, session_id: str, mine: Any, was: StoredRun | None, now: StoredRun) -> Any:
    """Return the run object that is here already, unless only the stored run has changed."""
    adapter = ctx.settings.adapter
    if mine is not None and (was is None or was == now or not is_unchanged(adapter, session_id, mine, was)):
        return mine
    return read_run(adapter, session_id, now)


def _merged_fields(stored: Fields, loaded: Fields, mine: Fields) -> Fields:
    """Return the stored fields with what this object has changed since it was loaded."""
    changed = {name: value for name, value in mine.items() if loaded.get(name) != value}
    removed = {name for name in loaded if name not in mine and name != b"updated_at"}
    return {name: value for name, value in (stored | changed).items() if name not in removed}
