"""`refresh`: bring a loaded session up to date by reading what has changed in Redis, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sessioncache.errors import InvalidArgumentError, SessionNotFoundError
from sessioncache.storage import codec
from sessioncache.storage.adapters import Adapter
from sessioncache.storage.run_members import StoredRun, is_unchanged, read_run, run_id_of
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.session_hash import Fields, from_fields, to_fields
from sessioncache.storage.snapshot import SNAPSHOT, Reading, Snapshot, snapshot_of
from sessioncache.transport.flow import Flow

from .changes import changes_request, read_changes
from .context import Context
from .lookup import Lookup
from .read import look_up, send_read, snapshot_from

ById = dict[str, StoredRun]


def refresh(ctx: Context, session: Any) -> Flow[bool]:
    """Bring a session object up to date; return whether anything had changed.

    One small round trip if little has changed; one more, for all of the session, if much has. What this
    object changed and has not saved wins over what others saved.
    """
    ctx.settings.adapter.to_dict(session)
    loaded = snapshot_of(session)
    if loaded is None:
        raise InvalidArgumentError(
            "session was neither loaded nor saved: there is nothing to refresh it from"
        )
    _check_owner(ctx, session.session_id, loaded.fields)
    known = _known(loaded)
    reading = yield from _read_changes(ctx, session.session_id, known, loaded)
    if reading is known:
        return False
    _check_owner(ctx, session.session_id, reading.fields)
    _merge(ctx, session, loaded, reading)
    return True


def _check_owner(ctx: Context, session_id: str, fields: Mapping[bytes, Any]) -> None:
    """Raise SessionNotFoundError for a session that is not that of the call's user."""
    if ctx.user_id is not None and fields.get(b"user_id") != ctx.user_id.encode():
        raise SessionNotFoundError(f"there is no session {session_id!r}", session_id=session_id)


def _known(loaded: Snapshot) -> Reading:
    """Return what was loaded as a reading: of all runs, or of as many of the newest as are loaded."""
    runs, limit = loaded.stored, loaded.limit
    is_all = limit is None or len(runs) < limit
    newest = runs if is_all else runs[len(runs) - (limit or 0) :]
    return Reading(len(runs) if is_all else -1, loaded.rev, loaded.born, loaded.fields, newest)


def _read_changes(ctx: Context, session_id: str, known: Reading, loaded: Snapshot) -> Flow[Reading]:
    """Return the session that was loaded as it is now; one that was created anew since is another."""
    wanted = RunRange(loaded.limit)
    request = changes_request(ctx, session_id, known, wanted, loaded.since)
    reply = yield from send_read(ctx, session_id, request)
    changes = read_changes(ctx, session_id, reply, known, wanted)
    if changes is not None:
        return changes.reading
    reading = yield from look_up(Lookup(ctx, session_id, wanted))
    if reading is None or reading.born != loaded.born:
        raise SessionNotFoundError(
            f"session {session_id!r}, as it was loaded, exists no more", session_id=session_id
        )
    return reading


def _merge(ctx: Context, session: Any, loaded: Snapshot, reading: Reading) -> None:
    """Give a session object what is stored, under what it changed itself."""
    adapter = ctx.settings.adapter
    kept = _untouched(adapter.runs(session), reading.runs)
    was = _others(loaded.stored, kept)
    now = _others(reading.runs, kept)
    others = (run for run in adapter.runs(session) if id(run.untouched_source) not in kept)
    mine = {run_id_of(adapter, run): run for run in others}
    kept |= {id(new): _newer(adapter, mine.get(i), was.get(i), new) for i, new in now.items()}
    beyond = _changed_beyond(adapter, loaded.limit, was, mine, now)
    added = [run for run_id, run in mine.items() if run_id not in now and run_id not in was]
    runs = [*map(mine.get, beyond), *(kept[id(stored)] for stored in reading.runs), *added]
    fields = _merged_fields(dict(reading.fields), loaded.fields, to_fields(adapter.to_dict(session)))
    content = from_fields(fields, session.session_id, adapter.names)
    adapter.refill(session, adapter.session_class(**content, runs=runs))
    stored = [*beyond.values(), *reading.runs]
    vars(session)[SNAPSHOT] = replace(snapshot_from(reading, loaded.limit), stored=stored)


def _untouched(runs: Sequence[Any], stored: Sequence[StoredRun]) -> dict[int, Any]:
    """Return the runs that nobody has looked at, and that are stored as they were, by `id` of the source."""
    unchanged = set(map(id, stored))
    by_source = {id(run.untouched_source): run for run in runs if run.untouched_source is not None}
    return {source: run for source, run in by_source.items() if source in unchanged}


def _others(runs: Sequence[StoredRun], kept: dict[int, Any]) -> ById:
    return {stored.run_id: stored for stored in runs if id(stored) not in kept}


def _changed_beyond(adapter: Adapter, limit: int | None, was: ById, mine: dict[str, Any], now: ById) -> ById:
    """Return the runs that are changed here and no longer among the newest, as they were loaded.

    If only the newest runs are read, one that is missing may be older than they, and need not be deleted.
    """
    if limit is None:
        return {}
    return {
        run_id: stored
        for run_id, stored in was.items()
        if run_id in mine and run_id not in now and not is_unchanged(adapter, mine[run_id], stored)
    }


def _newer(adapter: Adapter, mine: Any, was: StoredRun | None, now: StoredRun) -> Any:
    """Return the run object that is here already, unless only the stored run has changed."""
    if mine is not None and (was is None or was.head == now.head or not is_unchanged(adapter, mine, was)):
        return mine
    return read_run(adapter, now)


def _merged_fields(stored: Fields, loaded: Fields, mine: Fields) -> Fields:
    """Return the stored fields with what this object has changed since it was loaded."""
    changed = {name: value for name, value in mine.items() if not codec.is_same(value, loaded.get(name))}
    removed = {name for name in loaded if name not in mine and name != b"updated_at"}
    return {name: value for name, value in (stored | changed).items() if name not in removed}
