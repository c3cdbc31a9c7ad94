"""Saving: what changed of a session object or is new, merged into what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from sessioncache import keys
from sessioncache.errors import InvalidArgumentError, SessionOwnershipError
from sessioncache.fields import STATE, Fields, replaced_dicts, section_of, to_fields
from sessioncache.flow import Flow, Script
from sessioncache.records import (
    Origin,
    PackedRun,
    is_unchanged,
    marks_of,
    origin_of,
    pack_run,
    set_origin,
)
from sessioncache.resilience import Call
from sessioncache.settings import whole_number

from .writing import Target, Written, optional_number, write

UPSERT_SESSION: Final = Script("_session", "_runs", "_upsert", "upsert_session")
UPSERT_RUNS: Final = Script("_session", "_runs", "_upsert", "upsert_runs")

MAX_SCRIPT_BYTES: Final = 4 * 2**20
"""Most bytes of runs in one script, unless one run alone has more: a script holds up the server."""

MAX_SCRIPT_RUNS: Final = 500
"""Most runs in one script: some milliseconds of the server's time."""


def upsert_session(call: Call, session: Any, *, expect_rev: int | None = None) -> Flow[None]:
    """Create a session, or merge what changed in this object into the stored one; no run is ever removed."""
    record = call.settings.model.fields(session)
    fields = to_fields(record)
    origin = origin_of(session)
    runs = _changed_runs(call, session, origin)
    target = _target(session, fields, origin, runs, expect_rev)
    removed = _removed_fields(fields, origin, {*record, STATE})
    written = yield from _write(call, target, _changed_fields(fields, origin), removed, origin, runs)
    _remember(session, fields, origin, runs, written)


def upsert_runs(call: Call, session_id: str, runs: Iterable[Any]) -> Flow[None]:
    """Store runs of a session that exists, each at the place it has or at that of its creation time."""
    if isinstance(runs, str | bytes) or not isinstance(runs, Iterable):
        raise InvalidArgumentError("runs must be a list of runs")
    keys.encoded_id(session_id, "session_id")
    packed = {run.run_id: run for run in _pack_all(call, session_id, runs)}
    target = _target_of_runs(session_id, list(packed.values()))
    for batch in _batches(list(packed.values())):
        if batch:
            yield from write_runs(call, target, batch)


def _pack_all(call: Call, session_id: str, runs: Iterable[Any]) -> Iterator[PackedRun]:
    for run in runs:
        packed = pack_run(call.settings.model, run, call.settings.max_run_bytes)
        if packed.session_id not in (None, session_id):
            raise InvalidArgumentError(
                f"run.session_id of run {packed.run_id!r} is not {session_id!r}, where it is to be stored",
                session_id=session_id,
                run_id=packed.run_id,
            )
        yield packed


def _changed_runs(call: Call, session: Any, origin: Origin | None) -> list[PackedRun]:
    """Return those runs of a session object that are new or not what they were loaded as."""
    model = call.settings.model
    by_id = {model.run_id(run): run for run in model.runs(session)}
    if len(by_id) < len(model.runs(session)):
        raise InvalidArgumentError("session.runs holds two runs of one run_id")
    loaded = origin.runs if origin else {}
    changed = (
        run
        for run_id, run in by_id.items()
        if run_id not in loaded or not is_unchanged(model, session.session_id, run, loaded[run_id])
    )
    return list(_pack_all(call, session.session_id, changed))


def _target(
    session: Any, fields: Fields, origin: Origin | None, runs: Sequence[PackedRun], expect_rev: int | None
) -> Target:
    if origin and origin.fields[b"session_id"] != fields.get(b"session_id"):
        raise InvalidArgumentError(
            "session.session_id of a loaded session cannot change: copy it, and its runs, with replace()"
        )
    return Target(
        session.session_id,
        _common([session.user_id, *(run.user_id for run in runs)]),
        session.workflow_id,
        None if expect_rev is None else whole_number(expect_rev, "expect_rev", 0),
        origin.born if origin else None,
    )


def _target_of_runs(session_id: str, runs: Sequence[PackedRun]) -> Target:
    workflows = {run.workflow_id for run in runs}
    workflow_id = workflows.pop() if len(workflows) == 1 else None
    return Target(session_id, _common([run.user_id for run in runs]), workflow_id)


def _common(user_ids: Iterable[str | None]) -> str | None:
    """Return the one user that a session and its runs name, None where none does."""
    users = {user_id for user_id in user_ids if user_id is not None}
    if len(users) > 1:
        raise SessionOwnershipError("a session and its runs name more than one user_id")
    return users.pop() if users else None


def _write(
    call: Call,
    target: Target,
    changed: Fields,
    removed: Collection[bytes],
    origin: Origin | None,
    runs: Sequence[PackedRun],
) -> Flow[Sequence[Written]]:
    """Write a session in one script; runs that are too much for it follow in further ones."""
    known = origin.runs if origin else ()
    creates = origin is None and not target.expect_rev
    first, *further = _batches(runs)
    arguments = merge_arguments(
        call,
        changed | marks_of(first),
        removed,
        replaced_dicts(changed, loaded=origin is not None),
        creates=creates,
    )
    run_arguments = _run_arguments(first, known)
    written = [
        (yield from write(call, UPSERT_SESSION, target, (*arguments, *run_arguments), ttl=call.settings.ttl))
    ]
    for batch in further:
        written += [(yield from write_runs(call, target._replace(expect_rev=None), batch, known))]
    return written


def write_runs(
    call: Call, target: Target, runs: Sequence[PackedRun], known: Collection[str] = ()
) -> Flow[Written]:
    """Write runs in one script; those that are `known` to have been stored only if they still are."""
    marks = marks_of(runs)
    arguments = (
        optional_number(call.settings.max_runs),
        b"%d" % len(marks),
        *chain.from_iterable(marks.items()),
        *_run_arguments(runs, known),
    )
    return (yield from write(call, UPSERT_RUNS, target, arguments, ttl=call.settings.ttl))


def merge_arguments(
    call: Call,
    set_fields: Fields,
    removed: Collection[bytes] = (),
    replaced: Collection[bytes] = (),
    *,
    creates: bool = False,
) -> tuple[bytes, ...]:
    """Return what the script that merges takes after the common arguments, but for the runs."""
    return (
        optional_number(call.settings.max_runs),
        b"1" if creates else b"",
        b"%d" % len(set_fields),
        b"%d" % len(removed),
        b"%d" % len(replaced),
        *chain.from_iterable(set_fields.items()),
        *removed,
        *replaced,
    )


def _changed_fields(fields: Fields, origin: Origin | None) -> Fields:
    was = origin.fields if origin else {}
    return {name: value for name, value in fields.items() if was.get(name) != value}


def _removed_fields(fields: Fields, origin: Origin | None, names: Collection[str]) -> list[bytes]:
    """Return the fields that this object was loaded with and has no more; an owner is never removed.

    Those of other `names` than it has are a newer version's, and stay.
    """
    return [
        name
        for name in (origin.fields if origin else ())
        if name not in fields and name not in _NEVER_REMOVED and section_of(name) in names
    ]


_NEVER_REMOVED: Final = frozenset({b"user_id", b"updated_at"})


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


def _run_arguments(runs: Iterable[PackedRun], known: Collection[str]) -> Iterator[bytes]:
    """Return the arguments of runs; one that was loaded and is deleted by now stays deleted."""
    return chain.from_iterable(run.arguments(only_if_stored=run.run_id in known) for run in runs)


def _remember(
    session: Any, fields: Fields, origin: Origin | None, runs: Sequence[PackedRun], written: Sequence[Written]
) -> None:
    """Measure later changes of the session object against what is stored now.

    Where another writer came between, the object lacks what that one wrote: it keeps its old revision.
    """
    born = origin.born if origin else written[0].born
    before = [origin.rev if origin else int(born), *(script.rev for script in written)]
    is_alone = all(script.rev_before == rev for script, rev in zip(written, before, strict=False))
    rev = written[-1].rev if is_alone else (origin.rev if origin else 0)
    stored = dict(origin.runs) if origin else {}
    for batch, script in zip(_batches(runs), written, strict=True):
        stored |= {run.run_id: run.stored(script.rev - int(born)) for run in batch}
    set_origin(session, Origin(rev, born, fields, stored, origin.limit if origin else None))
    session.updated_at = written[-1].updated_at
