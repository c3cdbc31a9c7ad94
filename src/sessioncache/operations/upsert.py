"""`upsert_session` and `upsert_runs`: what changed in an object or is new, merged into what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from sessioncache import validation
from sessioncache.errors import (
    InvalidArgumentError,
    SessionCacheError,
    SessionNotFoundError,
    SessionOwnershipError,
)
from sessioncache.storage import codec, scripts
from sessioncache.storage.run_members import IS_STORED, PackedRun, StoredRun, is_not
from sessioncache.storage.scripts import Merge, Precondition, WriteResult, upsert_runs_arguments
from sessioncache.storage.session_hash import STATE, Fields, replaced_dicts, section_of, to_fields
from sessioncache.storage.snapshot import SNAPSHOT, FoundRun, Snapshot, snapshot_of
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request

from .context import Context, writing_script
from .packed_runs import batches, by_size, changed_runs, marks_of, pack_all, pack_one
from .sealing import sealed_change, sealed_runs
from .write import UPSERT_SESSION, accepted, list_all_elsewhere, noted, scoped, write, write_request

_UPSERT_RUNS: Final = writing_script(scripts.UPSERT_RUNS, scripts.LEASED_UPSERT_RUNS)

MAX_SESSIONS_AT_ONCE: Final = 64
"""Most sessions saved in one round trip: some milliseconds of the server's time."""


def upsert_run(ctx: Context, session_id: str, run: Any) -> Flow[None]:
    """Store a run of a session that exists: one round trip."""
    return upsert_runs(ctx, session_id, [run])


def upsert_runs(ctx: Context, session_id: str, runs: Iterable[Any]) -> Flow[None]:
    """Store runs of a session that exists, each at the place it has or at that of its creation time."""
    if isinstance(runs, str | bytes) or not isinstance(runs, Iterable):
        raise InvalidArgumentError("runs must be a list of runs")
    validation.encoded_id(session_id, "session_id")
    packed = list({run.run_id: run for run in pack_all(ctx, session_id, runs)}.values())
    precondition = _precondition_of_runs(session_id, packed)
    for batch in batches(packed):
        if batch:
            yield from write_runs(ctx, precondition, batch)


def write_runs(ctx: Context, precondition: Precondition, runs: Sequence[PackedRun]) -> Flow[WriteResult]:
    """Write runs in one script."""
    sealed = sealed_runs(ctx, precondition.session_id, runs)
    arguments = upsert_runs_arguments(ctx.settings.max_runs, marks_of(runs), sealed)
    return write(ctx, _UPSERT_RUNS, precondition, arguments)


def add_run(ctx: Context, session_id: str, run: Any) -> Flow[WriteResult]:
    """Store a run of a session that exists; raise SessionConflictError if one of its id is stored."""
    (packed,) = pack_all(ctx, session_id, [run])
    precondition = _precondition_of_runs(session_id, [packed])
    return write_runs(ctx, precondition, [packed._replace(unless=is_not(None))])


def replace_run(ctx: Context, session_id: str, found: FoundRun, run: Any) -> Flow[WriteResult]:
    """Replace a run that was found; raise SessionConflictError if it was written since.

    Writes of anything else in the session do not matter.
    """
    precondition, packed = _replacing(ctx, session_id, found, run)
    return write_runs(ctx, precondition, [packed])


def replace_run_and_data(
    ctx: Context, session_id: str, found: FoundRun, run: Any, data: dict[str, Any], user_id: str
) -> Flow[list[WriteResult]]:
    """Replace a run that was found, and all of `session_data`, in a session of this user or of nobody."""
    precondition, packed = _replacing(ctx, session_id, found, run)
    change = Merge(to_fields({"session_data": data}), replaced_dicts=(b"session_data", STATE.encode()))
    return _write(ctx, precondition._replace(user_id=user_id), change, [packed])


def _replacing(ctx: Context, session_id: str, found: FoundRun, run: Any) -> tuple[Precondition, PackedRun]:
    packed = pack_one(ctx, session_id, run)
    precondition = Precondition(session_id, None, packed.workflow_id, born=found.born)
    return precondition, packed._replace(unless=is_not(found.stored))


def upsert_session(
    ctx: Context, session: Any, *, expect_rev: int | None = None, revives: bool = False
) -> Flow[None]:
    """Create a session, or merge what changed in this object into the stored one; no run is ever removed.

    If it `revives`, a session that is gone is created anew with all that the object holds, unless a mark says
    that another cache deleted it; runs that are stored by then stay as they are.
    """
    if ctx.user_id is not None and session.user_id is None:
        session.user_id = ctx.user_id
    save = _save_of(ctx, session, expect_rev, revives=revives)
    if save.change.creates:
        yield from ctx.fetch(session.session_id)
    try:
        written = yield from _write(ctx, save.precondition, save.change, save.runs)
    except SessionNotFoundError as exc:
        if save.loaded and ctx.settings.ttl is not None and ctx.settings.mark_deletions:
            exc.reason = exc.reason or "expired"
        raise
    _take_snapshot(save, written)


def upsert_sessions(ctx: Context, sessions: Iterable[Any]) -> Flow[list[SessionCacheError | None]]:
    """Save sessions as `upsert_session` does, up to 64 in one round trip.

    Returns for each None, or the SessionNotFoundError or SessionOwnershipError for which it is not stored.
    """
    refusals: list[SessionCacheError | None] = []
    saves = [_save_of(ctx, session) for session in sessions]
    for group in by_size(((save, _size(save)) for save in saves), MAX_SESSIONS_AT_ONCE):
        for save in group:
            if save.change.creates:
                yield from ctx.fetch(save.session.session_id)
        requests = [_first_request(ctx, save) for save in group]
        session_ids = [save.session.session_id for save in group]
        replies = yield from noted(ctx, session_ids, send_all(ctx, requests))
        outcomes = [*map(_outcome_of, group, replies)]
        pairs = zip(group, outcomes, strict=True)
        written = [(save.precondition, each) for save, each in pairs if isinstance(each, WriteResult)]
        yield from list_all_elsewhere(ctx, written)
        for save, outcome in zip(group, outcomes, strict=True):
            refusals.append((yield from _finish(ctx, save, outcome)))
    return refusals


class _Save(NamedTuple):
    """A session object about to be written."""

    session: Any
    fields: Fields
    loaded: Snapshot | None
    runs: list[PackedRun]
    precondition: Precondition
    change: Merge


def _save_of(ctx: Context, session: Any, expect_rev: int | None = None, *, revives: bool = False) -> _Save:
    content = ctx.settings.adapter.to_dict(session)
    fields = to_fields(content)
    loaded = None if revives else snapshot_of(session)
    runs = changed_runs(ctx, session, loaded)
    if revives:
        runs = [run._replace(unless=IS_STORED) for run in runs]
    changed = _changed_fields(fields, loaded)
    creator = ctx.settings.deleter if revives else scripts.ANYBODY
    change = Merge(
        changed,
        _removed_fields(fields, loaded, {*content, STATE}),
        replaced_dicts(changed, loaded=loaded is not None),
        creates=creator if loaded is None and not expect_rev else b"",
    )
    precondition = _precondition(session, fields, loaded, runs, expect_rev)
    precondition = scoped(ctx, precondition, hides=loaded is not None)
    return _Save(session, fields, loaded, runs, precondition, change)


def _size(save: _Save) -> int:
    return sum(run.size for run in save.runs) + sum(map(len, save.change.set_fields.values()))


def _outcome_of(save: _Save, reply: Any) -> WriteResult | SessionCacheError:
    """Return what the first script of a save wrote, or why it stored nothing."""
    try:
        return accepted(scripts.read_write_reply, reply, save.precondition)
    except (SessionNotFoundError, SessionOwnershipError) as exc:
        return exc


def _finish(
    ctx: Context, save: _Save, first: WriteResult | SessionCacheError
) -> Flow[SessionCacheError | None]:
    """Write what is left of a save after its first script, or return why it is not stored."""
    if isinstance(first, SessionCacheError):
        return first
    try:
        further = yield from _write_further(ctx, save.precondition, batches(save.runs)[1:])
    except (SessionNotFoundError, SessionOwnershipError) as exc:
        return exc
    _take_snapshot(save, [first, *further])
    return None


def _precondition(
    session: Any, fields: Fields, loaded: Snapshot | None, runs: Sequence[PackedRun], expect_rev: int | None
) -> Precondition:
    if loaded and loaded.fields[b"session_id"] != fields.get(b"session_id"):
        raise InvalidArgumentError(
            "session.session_id of a loaded session cannot change: copy it, and its runs, with replace()"
        )
    validation.encoded_id(session.session_id, "session.session_id")
    # A session of nobody may hold runs of several users.
    user_ids = [] if session.user_id == scripts.NOBODY else [run.user_id for run in runs]
    return Precondition(
        session.session_id,
        _common([session.user_id, *user_ids]),
        session.workflow_id,
        None if expect_rev is None else validation.whole_number(expect_rev, "expect_rev", 0),
        loaded.born if loaded else None,
    )


def _precondition_of_runs(session_id: str, runs: Sequence[PackedRun]) -> Precondition:
    workflows = {run.workflow_id for run in runs}
    workflow_id = workflows.pop() if len(workflows) == 1 else None
    return Precondition(session_id, _common([run.user_id for run in runs]), workflow_id)


def _common(user_ids: Iterable[str | None]) -> str | None:
    """Return the one user that a session and its runs name, None if none does."""
    users = {user_id for user_id in user_ids if user_id is not None}
    if len(users) > 1:
        raise SessionOwnershipError("a session and its runs name more than one user_id")
    return users.pop() if users else None


def _write(
    ctx: Context, precondition: Precondition, change: Merge, runs: Sequence[PackedRun]
) -> Flow[list[WriteResult]]:
    """Write a session in one script; runs that are too much for it follow in further ones."""
    first, *further = batches(runs)
    arguments = _arguments(ctx, precondition.session_id, change, first)
    written = yield from write(ctx, UPSERT_SESSION, precondition, arguments)
    return [written, *(yield from _write_further(ctx, precondition, further))]


def _write_further(
    ctx: Context, precondition: Precondition, further: Iterable[Sequence[PackedRun]]
) -> Flow[list[WriteResult]]:
    written: list[WriteResult] = []
    for batch in further:
        written += [(yield from write_runs(ctx, precondition._replace(expect_rev=None), batch))]
    return written


def _first_request(ctx: Context, save: _Save) -> Request:
    arguments = _arguments(ctx, save.precondition.session_id, save.change, batches(save.runs)[0])
    return write_request(ctx, UPSERT_SESSION, save.precondition, arguments)


def _arguments(ctx: Context, session_id: str, change: Merge, runs: Sequence[PackedRun]) -> scripts.Arguments:
    change = change._replace(set_fields={**change.set_fields, **marks_of(runs)})
    change = sealed_change(ctx, session_id, change)
    return change.arguments(ctx.settings.max_runs, sealed_runs(ctx, session_id, runs))


def _changed_fields(fields: Fields, loaded: Snapshot | None) -> Fields:
    was = loaded.fields if loaded else {}
    return {name: value for name, value in fields.items() if not codec.is_same(value, was.get(name))}


def _removed_fields(fields: Fields, loaded: Snapshot | None, names: Collection[str]) -> list[bytes]:
    """Return the fields that this object was loaded with and lacks now; an owner is never removed.

    Fields with other `names` than the object has are those of a newer version, and stay.
    """
    return [
        name
        for name in (loaded.fields if loaded else ())
        if name not in fields and name not in _NEVER_REMOVED and section_of(name) in names
    ]


_NEVER_REMOVED: Final = frozenset({b"user_id", b"updated_at"})


def _take_snapshot(save: _Save, written: Sequence[WriteResult]) -> None:
    """Measure later changes of the session object against what is stored now.

    If another writer came between, the object lacks what that one wrote: it keeps its old revision.
    """
    loaded = save.loaded
    born = loaded.born if loaded else written[0].born
    before = [loaded.rev if loaded else int(born), *(result.rev for result in written)]
    is_alone = all(result.rev_before == rev for result, rev in zip(written, before, strict=False))
    rev = written[-1].rev if is_alone else (loaded.rev if loaded else 0)
    limit, since = (loaded.limit, loaded.since) if loaded else (None, 0)
    stored = _stored_now(save, written, born)
    vars(save.session)[SNAPSHOT] = Snapshot(rev, born, save.fields, stored, limit, since)
    save.session.updated_at = written[-1].updated_at


def _stored_now(save: _Save, written: Sequence[WriteResult], born: bytes) -> Sequence[StoredRun]:
    loaded = save.loaded
    if not save.runs:
        return loaded.stored if loaded else ()
    runs = dict(loaded.runs) if loaded else {}
    for batch, result in zip(batches(save.runs), written, strict=True):
        version = result.rev - int(born)
        runs |= {run.run_id: run.stored(version, save.session.session_id) for run in batch}
    return list(runs.values())
