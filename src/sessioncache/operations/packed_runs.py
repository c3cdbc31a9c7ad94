"""The runs that a call is about to write: checked, packed, and in batches that one script each takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import is_
from typing import Any, Final, TypeVar

from sessioncache.errors import InvalidArgumentError
from sessioncache.storage.run_members import IS_GONE, PackedRun, is_unchanged, pack_run, run_id_of
from sessioncache.storage.session_hash import Fields
from sessioncache.storage.snapshot import Snapshot

from .context import Context

T = TypeVar("T")

MAX_SCRIPT_BYTES: Final = 4 * 2**20
"""Most bytes of runs in one script, unless one run alone has more: a script holds up the server."""

MAX_SCRIPT_RUNS: Final = 500
"""Most runs in one script: some milliseconds of the server's time."""


def pack_all(ctx: Context, session_id: str, runs: Iterable[Any]) -> Iterator[PackedRun]:
    """Check and pack runs that are to be stored in a session."""
    for run in runs:
        packed = pack_one(ctx, session_id, run)
        if packed.session_id not in (None, session_id):
            raise InvalidArgumentError(
                f"run.session_id of run {packed.run_id!r} is not {session_id!r}, where it is to be stored",
                session_id=session_id,
                run_id=packed.run_id,
            )
        yield packed


def pack_one(ctx: Context, session_id: str, run: Any) -> PackedRun:
    """Check and pack a run; its errors name its session."""
    try:
        return pack_run(ctx.settings.adapter, run, ctx.settings.max_run_bytes)
    except InvalidArgumentError as exc:
        exc.session_id = session_id
        raise


def changed_runs(ctx: Context, session: Any, loaded: Snapshot | None) -> list[PackedRun]:
    """Return those runs of a session object that are new or not what they were loaded as."""
    adapter = ctx.settings.adapter
    runs = adapter.runs(session)
    if loaded is not None and _are_as_loaded(runs, loaded):
        return []
    by_id = {run_id_of(adapter, run): run for run in runs}
    if len(by_id) < len(runs):
        raise InvalidArgumentError("session.runs holds two runs of one run_id")
    known = loaded.runs if loaded else {}
    changed = (
        run
        for run_id, run in by_id.items()
        if run_id not in known or not is_unchanged(adapter, run, known[run_id])
    )
    packed = pack_all(ctx, session.session_id, changed)
    return [run._replace(unless=IS_GONE) if run.run_id in known else run for run in packed]


def _are_as_loaded(runs: Sequence[Any], loaded: Snapshot) -> bool:
    """Return whether these are the runs that were loaded, and nobody has looked at any of them."""
    sources = [getattr(run, "untouched_source", None) for run in runs]
    return len(sources) <= len(loaded.stored) and all(map(is_, sources, loaded.stored))


def marks_of(runs: Sequence[PackedRun]) -> Fields:
    """Return the fields that tell who has a message of the system in these runs."""
    return {name: value for run in runs for name, value in run.marks.items()}


def batches(runs: Sequence[PackedRun]) -> list[list[PackedRun]]:
    """Return runs in batches that one script each takes; at least one batch, be it empty."""
    return by_size(((run, run.size) for run in runs), MAX_SCRIPT_RUNS)


def by_size(items: Iterable[tuple[T, int]], most: int) -> list[list[T]]:
    """Return items, given with their sizes, in batches of a few megabytes and at most so many."""
    found: list[list[T]] = [[]]
    total = 0
    for item, size in items:
        total += size
        if found[-1] and (total > MAX_SCRIPT_BYTES or len(found[-1]) == most):
            found.append([])
            total = size
        found[-1].append(item)
    return found
