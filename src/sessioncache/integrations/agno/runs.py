"""Runs, as agno's Db declares the calls: written once for both Dbs.

agno finds a run by its id alone. Here a run belongs to a session, so the sessions are asked for it, those
written last first: a run that is asked for is nearly always one of the latest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from agno.db.utils import deserialize_run, validate_pagination
from agno.run.base import RunStatus

from sessioncache.errors import InvalidArgumentError, SessionConflictError, SessionNotFoundError
from sessioncache.operations import runs as stored_runs
from sessioncache.operations import upsert
from sessioncache.operations.context import Context
from sessioncache.operations.index import DAMAGE
from sessioncache.operations.index_reader import IndexReader
from sessioncache.operations.pages import WHOLE, read_newest
from sessioncache.storage import keys
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.validation import encoded_id

from .listing import built, paged, sorted_rows, whole_request
from .run_record import RunRecord

FIRST_SESSIONS: Final = 128
"""Sessions asked for a run in the first round trip; then many more, for they are asked in one go."""

MORE_SESSIONS: Final = 4096

SESSIONS_AT_ONCE: Final = 64
"""Sessions read whole in one round trip, if runs of many are wanted."""


def upsert_run(
    ctx: Context, run: Any, session_id: str, user_id: str | None = None, run_index: int | None = None
) -> Flow[None]:
    """Store a run of a session that exists, or replace it in its place: one round trip.

    Raises InvalidArgumentError, a ValueError, for a run without run_id; SessionNotFoundError if there is
    no session, SessionOwnershipError if it belongs to another user.
    """
    record = RunRecord.of(run, session_id, user_id=user_id, run_index=run_index)
    yield from upsert.upsert_runs(ctx, session_id, [record])


def get_run(ctx: Context, run_id: str, deserialize: bool | None = True) -> Flow[Any]:
    """Load a run, of the session written last if several have one of this id; None if none has."""
    for session_id in (yield from _sessions_with(ctx, run_id, first_only=True)):
        run = yield from stored_runs.get_run(ctx, session_id, run_id)
        if run is not None:
            return run.deserialized() if deserialize else run.row()
    return None


def delete_run(ctx: Context, run_id: str) -> Flow[bool]:
    """Remove a run from every session that has one of this id; return False if none has."""
    deleted = False
    for session_id in (yield from _sessions_with(ctx, run_id)):
        deleted |= yield from stored_runs.delete_run(ctx, session_id, run_id)
    return deleted


def delete_runs(ctx: Context, run_ids: Iterable[str]) -> Flow[None]:
    """Remove runs, as far as they exist."""
    for run_id in run_ids:
        yield from delete_run(ctx, run_id)


def _sessions_with(ctx: Context, run_id: str, *, first_only: bool = False) -> Flow[list[str]]:
    """Return the ids of the sessions that have a run of this id, that written last first."""
    found = yield from _listed_with(ctx, run_id, first_only=first_only)
    if found or ctx.elsewhere is None:
        return found
    yield from ctx.fetch_all()
    return (yield from _listed_with(ctx, run_id, first_only=first_only))


def _listed_with(ctx: Context, run_id: str, *, first_only: bool) -> Flow[list[str]]:
    member = b"i" + encoded_id(run_id, "run_id")
    everything = keys.index_of_all(ctx.settings.prefix)
    if first_only:
        index = IndexReader(ctx, everything)
        newest = yield from index.read(FIRST_SESSIONS)
        found = yield from _having(ctx, list(newest), member)
        if found or index.is_read:
            return found
    found = []
    # Read at once: by pages, a session that is written meanwhile would slip by.
    session_ids = list((yield from IndexReader(ctx, everything).read()))
    for start in range(0, len(session_ids), MORE_SESSIONS):
        found += yield from _having(ctx, session_ids[start : start + MORE_SESSIONS], member)
        if found and first_only:
            break
    return found


def _having(ctx: Context, session_ids: list[str], member: bytes) -> Flow[list[str]]:
    """Return those sessions that have a member; one whose runs are of another type has none."""
    marks = yield from send_all(ctx, [_mark_request(ctx, session_id, member) for session_id in session_ids])
    return [name for name, mark in zip(session_ids, marks, strict=True) if isinstance(mark, bytes)]


def _mark_request(ctx: Context, session_id: str, member: bytes) -> Request:
    _, runs = keys.session_keys(ctx.settings.prefix, session_id)
    return Request(runs, ((b"ZSCORE", runs, member),), tolerates=DAMAGE)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are listed; None means any."""

    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    team_id: str | None = None
    workflow_id: str | None = None
    status: RunStatus | str | None = None

    def admits(self, run: RunRecord) -> bool:
        """Return whether a run is one of those wanted."""
        return all(
            value is None or run.head.get(name) == value
            for name, value in (
                ("user_id", self.user_id),
                ("agent_id", self.agent_id),
                ("team_id", self.team_id),
                ("workflow_id", self.workflow_id),
                ("status", self.status.value if isinstance(self.status, RunStatus) else self.status),
            )
        )


def get_runs(
    ctx: Context,
    wanted: RunFilter,
    *,
    limit: int | None = None,
    page: int | None = None,
    sort_by: str | None = None,
    sort_order: str | None = None,
    deserialize: bool | None = True,
) -> Flow[Any]:
    """Load a page of runs: of one session in one round trip, else of all sessions, which are all read.

    A list of runs, or without `deserialize` a list of rows and how many there are on all pages.
    """
    validate_pagination(limit, page)
    runs = yield from _runs_of(ctx, wanted.session_id)
    rows = [run.row(position) for position, run in runs if wanted.admits(run)]
    if sort_by is None and wanted.session_id is None:
        rows.sort(key=lambda row: (row["run_index"], row["created_at"]))
    chosen = paged(sorted_rows(rows, sort_by, sort_order), limit, page)
    if not deserialize:
        return chosen, len(rows)
    return [deserialize_run(row["run_type"], row["run_data"]) for row in chosen]


def _runs_of(ctx: Context, session_id: str | None) -> Flow[list[tuple[int, RunRecord]]]:
    """Return the runs of a session, or of all, each with its place in its session."""
    if session_id is not None:
        try:
            return list(enumerate((yield from read_newest(ctx, session_id, WHOLE, None))))
        except SessionNotFoundError:
            return []
    return (yield from _all_runs(ctx))


def _all_runs(ctx: Context) -> Flow[list[tuple[int, RunRecord]]]:
    """Return the runs of all sessions that can be read, and take those that are gone off the index."""
    yield from ctx.fetch_all()
    index = IndexReader(ctx, keys.index_of_all(ctx.settings.prefix))
    entries = list((yield from index.read()).items())
    found: list[tuple[int, RunRecord]] = []
    for start in range(0, len(entries), SESSIONS_AT_ONCE):
        batch = dict(entries[start : start + SESSIONS_AT_ONCE])
        replies = yield from send_all(ctx, [whole_request(ctx, session_id) for session_id in batch])
        sessions = index.sift(batch, replies, partial(built, ctx, None))
        found += [run for session in sessions.values() for run in enumerate(session.runs)]
    yield from index.finish()
    return found


def cancel_pending_run(
    ctx: Context,
    run_id: str,
    *,
    session_id: str,
    reason: str,
    user_id: str | None = None,
    expected_status: str = "PENDING",
) -> Flow[bool]:
    """Cancel a run if its status is the one expected; its other data stays.

    Checked and written as one: if the run changes between, it is checked again.
    """
    if expected_status not in _CANCELLABLE:
        raise InvalidArgumentError("only PENDING or RUNNING runs can be cancelled by recovery")
    while True:
        found = yield from stored_runs.find_run(ctx, session_id, run_id)
        if found is None or not found.run.is_of(user_id):
            return False
        if found.run.head.get("status") != expected_status:
            return False
        try:
            yield from upsert.replace_run(ctx, session_id, found, found.run.cancelled(reason))
        except SessionConflictError:
            continue
        except SessionNotFoundError:
            return False
        return True


_CANCELLABLE: Final = frozenset({"PENDING", "RUNNING"})
