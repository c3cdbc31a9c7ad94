"""Whole sessions, as agno's Db declares the calls: written once for both Dbs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agno.db.base import SessionType

from sessioncache.errors import SessionConflictError, SessionNotFoundError, SessionOwnershipError
from sessioncache.operations import sessions as stored_sessions
from sessioncache.operations import upsert
from sessioncache.operations.context import Context
from sessioncache.operations.pages import WHOLE, read_until
from sessioncache.operations.read import build_session, find_session
from sessioncache.operations.read import get_session as load_session
from sessioncache.operations.read import get_sessions as load_sessions
from sessioncache.storage.snapshot import snapshot_of
from sessioncache.transport.flow import Flow

from .adapter import SessionRecord
from .history import ACTIVE, runs_of
from .run_record import RunRecord


def get_session(
    ctx: Context,
    session_id: str,
    session_type: SessionType | None = None,
    user_id: str | None = None,
    deserialize: bool | None = True,
    runs_limit: int | None = None,
) -> Flow[Any]:
    """Load a session, or None if it does not exist for this user: one round trip.

    If fewer of the newest `runs_limit` count as history, further round trips read back until as many do.
    """
    limit = None if runs_limit is not None and runs_limit < 0 else runs_limit
    lookup = yield from find_session(ctx, session_id, user_id=user_id, last_n_runs=limit)
    if lookup is None:
        return None
    record: SessionRecord = build_session(lookup)
    if deserialize and runs_limit is None:
        session = record.deserialized(session_type, with_runs=False)
        session.runs = runs_of(lookup, session)
        return session
    if runs_limit is not None:
        yield from _fill_up(ctx, record, runs_limit)
        record.runs = record.context_runs(runs_limit)
    return record.deserialized(session_type) if deserialize else record.row()


def _fill_up(ctx: Context, session: SessionRecord, limit: int) -> Flow[None]:
    """Read further back if fewer of the runs read count as history than are wanted."""

    def is_enough(runs: list[RunRecord]) -> bool:
        return sum(run.is_context for run in runs) >= limit

    if 0 <= limit <= len(session.runs) and not is_enough(session.runs):
        try:
            page = yield from read_until(ctx, session.session_id, WHOLE, 2 * limit, is_enough)
        except SessionNotFoundError:
            return  # deleted since: what was read is what there was
        session.runs = page.runs


def upsert_session(ctx: Context, session: Any, deserialize: bool | None = True) -> Flow[Any]:
    """Save what changed of a session object, without its runs, or create it: one round trip.

    If the object was loaded and its session is gone, one more creates it anew, with the runs the object has.
    Returns what is stored then, after one more round trip if others wrote it meanwhile; None if the stored
    session belongs to another user, as agno's databases do. Raises SessionNotFoundError if the session was
    deleted through another Db, for a day.
    """
    saved = yield from upsert_sessions(ctx, [session], deserialize)
    return saved[0] if saved else None


def upsert_sessions(
    ctx: Context, sessions: Iterable[Any], deserialize: bool | None = True, preserve_updated_at: bool = False
) -> Flow[list[Any]]:
    """Save sessions as `upsert_session` does, up to 64 in one round trip; leave out those of other users.

    If a session is refused with an error, those before it, and those sent with it, are stored.
    """
    saves = [_Save(session) for session in sessions]
    try:
        refusals = yield from upsert.upsert_sessions(ctx, [save.record for save in saves])
    finally:  # an outage comes after some were stored
        for save in saves:
            save.take_snapshot()
    stored = []
    for save, refusal in zip(saves, refusals, strict=True):
        if refusal is None or (isinstance(refusal, SessionNotFoundError) and (yield from _revive(ctx, save))):
            stored.append(save)
    yield from _reload(ctx, [save for save in stored if save.is_of_others_too])
    if preserve_updated_at:
        times = [(save.record, save.updated_at) for save in stored if save.updated_at is not None]
        yield from stored_sessions.set_updated_at(ctx, times)
        for save in stored:
            save.keep_time()
    return [save.result(deserialize=bool(deserialize)) for save in stored]


class _Save:
    """One of agno's session objects, being saved."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.record = SessionRecord.of(session)
        self.updated_at = session.updated_at
        self.is_of_others_too = False
        """Whether others wrote the session, so that it is not what the object holds."""
        before = snapshot_of(self.record)
        self._rev = before.rev if before else 0

    def with_runs(self) -> SessionRecord:
        """Return the record with the runs of the object."""
        self._rev = 0
        self.record.add_runs(self.session)
        return self.record

    def take_snapshot(self) -> None:
        """Let the object be saved as what it was stored as."""
        self.record.copy_snapshot_to(self.session)
        after = snapshot_of(self.record)
        self.is_of_others_too = after is not None and after.rev == self._rev

    def keep_time(self) -> None:
        """Let the time of the last update be that of the object."""
        if self.updated_at is not None:
            self.session.updated_at = self.record.updated_at = self.updated_at

    def result(self, *, deserialize: bool) -> Any:
        """Return the saved session with the runs that the object has, as agno's databases do."""
        if deserialize:
            saved = self.record.deserialized(None, with_runs=False)
            saved.runs = self.session.runs
            return saved
        runs = [run if isinstance(run, dict) else run.to_dict() for run in self.session.runs or ()]
        return self.record.row() | {"runs": runs}


def _revive(ctx: Context, save: _Save) -> Flow[bool]:
    """Create a session anew that is gone; return False if there is one of another user by now."""
    try:
        yield from upsert.upsert_session(ctx, save.with_runs(), revives=True)
    except SessionOwnershipError:
        return False
    save.take_snapshot()
    return True


def _reload(ctx: Context, saves: Sequence[_Save]) -> Flow[None]:
    """Load what is stored of sessions that others wrote as well."""
    if saves:
        session_ids = [save.record.session_id for save in saves]
        found = yield from load_sessions(ctx, session_ids, last_n_runs=0)
        for save, stored in zip(saves, found, strict=True):
            save.record = stored or save.record


def rename_session(
    ctx: Context,
    session_id: str,
    session_type: SessionType | None,
    session_name: str,
    user_id: str | None = None,
    deserialize: bool | None = True,
) -> Flow[Any]:
    """Set a session's name and load it, or None if it does not exist for this user: two round trips."""
    renamed = yield from stored_sessions.rename_session(ctx, session_id, session_name, user_id=user_id)
    if not renamed:
        return None
    return (yield from get_session(ctx, session_id, session_type, user_id, deserialize))


def delete_session(ctx: Context, session_id: str, user_id: str | None = None) -> Flow[bool]:
    """Remove a session with its runs; False if it does not exist for this user: one round trip."""
    return (yield from stored_sessions.delete_session(ctx, session_id, user_id=user_id))


def delete_sessions(ctx: Context, session_ids: Iterable[str], user_id: str | None = None) -> Flow[None]:
    """Remove sessions with their runs, as far as they exist for this user."""
    for session_id in session_ids:
        yield from delete_session(ctx, session_id, user_id)


def reassign_session_owner(
    ctx: Context, session_id: str, *, previous_user_id: str, user_id: str | None
) -> Flow[bool]:
    """Give a session to another user, or to nobody, if its owner is as expected and no run of it is active.

    Checked and written as one: if the session changes between, it is checked again.
    """
    while True:
        session: SessionRecord | None = yield from load_session(
            ctx, session_id, user_id=previous_user_id, validates=True
        )
        if session is None or any(run.head.get("status") in ACTIVE for run in session.runs):
            return False
        try:
            yield from stored_sessions.change_owner(ctx, session, previous_user_id, user_id)
        except SessionConflictError:
            continue
        except (SessionNotFoundError, SessionOwnershipError):
            return False
        return True
