"""`upsert_session` and `upsert_runs`: what changed in an object or is new, merged into what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from sessioncache import validation
from sessioncache.errors import (
    InvalidArgumentError,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
)
from sessioncache.storage import keys, scripts
from sessioncache.storage.run_members import (
    IS_GONE,
    IS_STORED,
    PackedRun,
    is_not,
    is_unchanged,
    pack_run,
    run_id_of,
)
from sessioncache.storage.scripts import Merge, Precondition, WriteResult, upsert_runs_arguments
from sessioncache.storage.session_hash import STATE, Fields, replaced_dicts, section_of, to_fields
from sessioncache.storage.snapshot import SNAPSHOT, FoundRun, Snapshot, snapshot_of
from sessioncache.transport.flow import Flow
from sessioncache.transport.retry import send

from .context import Context, writing_script
from .write import UPSERT_SESSION, accepted, list_elsewhere, write, write_request

_IMPORT_SESSION: Final = writing_script(scripts.IMPORT_SESSION)
_UPSERT_RUNS: Final = writing_script(scripts.UPSERT_RUNS)

MAX_SCRIPT_BYTES: Final = 4 * 2**20
"""Most bytes of runs in one script, unless one run alone has more: a script holds up the server."""

MAX_SCRIPT_RUNS: Final = 500
"""Most runs in one script: some milliseconds of the server's time."""


def upsert_run(ctx: Context, session_id: str, run: Any) -> Flow[None]:
    """Store a run of a session that exists: one round trip."""
    return upsert_runs(ctx, session_id, [run])


def upsert_runs(ctx: Context, session_id: str, runs: Iterable[Any]) -> Flow[None]:
    """Store runs of a session that exists, each at the place it has or at that of its creation time."""
    if isinstance(runs, str | bytes) or not isinstance(runs, Iterable):
        raise InvalidArgumentError("runs must be a list of runs")
    validation.encoded_id(session_id, "session_id")
    packed = list({run.run_id: run for run in _pack_all(ctx, session_id, runs)}.values())
    precondition = _precondition_of_runs(session_id, packed)
    for batch in _batches(packed):
        if batch:
            yield from write_runs(ctx, precondition, batch)


def write_runs(ctx: Context, precondition: Precondition, runs: Sequence[PackedRun]) -> Flow[WriteResult]:
    """Write runs in one script."""
    arguments = upsert_runs_arguments(ctx.settings.max_runs, _marks_of(runs), runs)
    return write(ctx, _UPSERT_RUNS, precondition, arguments)


def add_run(ctx: Context, session_id: str, run: Any) -> Flow[WriteResult]:
    """Store a run of a session that exists; raise SessionConflictError if one of its id is stored."""
    (packed,) = _pack_all(ctx, session_id, [run])
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
    packed = _pack(ctx, session_id, run)
    precondition = Precondition(session_id, None, packed.workflow_id, born=found.born)
    return precondition, packed._replace(unless=is_not(found.stored))


def upsert_session(
    ctx: Context, session: Any, *, expect_rev: int | None = None, revives: bool = False
) -> Flow[None]:
    """Create a session, or merge what changed in this object into the stored one; no run is ever removed.

    If it `revives`, a session that is gone is created anew with all that the object holds, unless a mark says
    that another cache deleted it; runs that are stored by then stay as they are.
    """
    content = ctx.settings.adapter.to_dict(session)
    fields = to_fields(content)
    loaded = None if revives else snapshot_of(session)
    runs = _changed_runs(ctx, session, loaded)
    if revives:
        runs = [run._replace(unless=IS_STORED) for run in runs]
    precondition = _precondition(session, fields, loaded, runs, expect_rev)
    changed = _changed_fields(fields, loaded)
    creator = ctx.settings.deleter if revives else scripts.ANYBODY
    change = Merge(
        changed,
        _removed_fields(fields, loaded, {*content, STATE}),
        replaced_dicts(changed, loaded=loaded is not None),
        creates=creator if loaded is None and not expect_rev else b"",
    )
    if change.creates:
        yield from ctx.fetch(session.session_id)
    try:
        written = yield from _write(ctx, precondition, change, runs)
    except SessionNotFoundError as exc:
        if loaded and ctx.settings.ttl is not None and ctx.settings.mark_deletions:
            exc.reason = exc.reason or "expired"
        raise
    _take_snapshot(session, fields, loaded, runs, written)


def import_session(ctx: Context, session: Any, updated_at: int | None, mark_ttl: int | None) -> Flow[bool]:
    """Create a session, whole, as it was elsewhere; return False if it is here, or was once.

    However large it is, it is one script: nobody sees a part of it. Its mark says for `mark_ttl`, in
    milliseconds, that it was here.
    """
    runs = _pack_all(ctx, session.session_id, ctx.settings.adapter.runs(session))
    packed = _in_this_order({run.run_id: run for run in runs}.values())
    fields = to_fields(ctx.settings.adapter.to_dict(session)) | _marks_of(packed)
    if updated_at is not None:
        fields[b"updated_at"] = b"%d" % validation.unix_seconds(updated_at, "session.updated_at")
    validation.encoded_id(session.session_id, "session.session_id")
    precondition = Precondition(session.session_id, session.user_id, session.workflow_id)
    arguments = Merge(fields, creates=scripts.ANYBODY).arguments(ctx.settings.max_runs, packed)
    mark = keys.import_mark(ctx.settings.prefix, session.session_id)
    arguments += (scripts.optional_number(mark_ttl),)
    reply = yield from send(ctx, write_request(ctx, _IMPORT_SESSION, precondition, arguments, (mark,)))
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


def _pack_all(ctx: Context, session_id: str, runs: Iterable[Any]) -> Iterator[PackedRun]:
    for run in runs:
        packed = _pack(ctx, session_id, run)
        if packed.session_id not in (None, session_id):
            raise InvalidArgumentError(
                f"run.session_id of run {packed.run_id!r} is not {session_id!r}, where it is to be stored",
                session_id=session_id,
                run_id=packed.run_id,
            )
        yield packed


def _pack(ctx: Context, session_id: str, run: Any) -> PackedRun:
    try:
        return pack_run(ctx.settings.adapter, run, ctx.settings.max_run_bytes)
    except InvalidArgumentError as exc:
        exc.session_id = session_id
        raise


def _changed_runs(ctx: Context, session: Any, loaded: Snapshot | None) -> list[PackedRun]:
    """Return those runs of a session object that are new or not what they were loaded as."""
    adapter = ctx.settings.adapter
    runs = adapter.runs(session)
    by_id = {run_id_of(adapter, run): run for run in runs}
    if len(by_id) < len(runs):
        raise InvalidArgumentError("session.runs holds two runs of one run_id")
    known = loaded.runs if loaded else {}
    changed = (
        run
        for run_id, run in by_id.items()
        if run_id not in known or not is_unchanged(adapter, session.session_id, run, known[run_id])
    )
    packed = _pack_all(ctx, session.session_id, changed)
    return [run._replace(unless=IS_GONE) if run.run_id in known else run for run in packed]


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
    first, *further = _batches(runs)
    change = change._replace(set_fields={**change.set_fields, **_marks_of(first)})
    arguments = change.arguments(ctx.settings.max_runs, first)
    written = [(yield from write(ctx, UPSERT_SESSION, precondition, arguments))]
    for batch in further:
        written += [(yield from write_runs(ctx, precondition._replace(expect_rev=None), batch))]
    return written


def _changed_fields(fields: Fields, loaded: Snapshot | None) -> Fields:
    was = loaded.fields if loaded else {}
    return {name: value for name, value in fields.items() if was.get(name) != value}


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


def _marks_of(runs: Sequence[PackedRun]) -> Fields:
    return {name: value for run in runs for name, value in run.marks.items()}


def _batches(runs: Sequence[PackedRun]) -> list[list[PackedRun]]:
    """Return runs in batches that one script each takes; at least one batch, be it empty."""
    batches: list[list[PackedRun]] = [[]]
    size = 0
    for run in runs:
        size += run.size
        if batches[-1] and (size > MAX_SCRIPT_BYTES or len(batches[-1]) == MAX_SCRIPT_RUNS):
            batches.append([])
            size = run.size
        batches[-1].append(run)
    return batches


def _take_snapshot(
    session: Any,
    fields: Fields,
    loaded: Snapshot | None,
    runs: Sequence[PackedRun],
    written: Sequence[WriteResult],
) -> None:
    """Measure later changes of the session object against what is stored now.

    If another writer came between, the object lacks what that one wrote: it keeps its old revision.
    """
    born = loaded.born if loaded else written[0].born
    before = [loaded.rev if loaded else int(born), *(result.rev for result in written)]
    is_alone = all(result.rev_before == rev for result, rev in zip(written, before, strict=False))
    rev = written[-1].rev if is_alone else (loaded.rev if loaded else 0)
    stored = dict(loaded.runs) if loaded else {}
    for batch, result in zip(_batches(runs), written, strict=True):
        stored |= {run.run_id: run.stored(result.rev - int(born)) for run in batch}
    vars(session)[SNAPSHOT] = Snapshot(rev, born, fields, stored, loaded.limit if loaded else None)
    session.updated_at = written[-1].updated_at
