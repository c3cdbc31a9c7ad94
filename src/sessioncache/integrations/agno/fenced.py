"""What agno's durable queue asks of a Db: writes that a late worker cannot make over those of the next one.

Each is one script that checks and writes. If Redis does not serve, each raises: agno takes None, and MISSING,
for leave to save what it holds without a check.
"""

from __future__ import annotations

from typing import Any, Final

from agno.db.utils import canonical_run_status
from agno.run.status_persist import RunPersistOutcome

from sessioncache.errors import (
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    StaleRunError,
)
from sessioncache.operations import runs as stored_runs
from sessioncache.operations import upsert
from sessioncache.operations.context import Context
from sessioncache.storage.scripts import NOBODY
from sessioncache.storage.snapshot import snapshot_of
from sessioncache.transport.flow import Flow

from .adapter import SessionRecord
from .run_record import RunRecord

_ENDED: Final = frozenset({"COMPLETED", "CANCELLED"})
"""Statuses that no other status is written over."""


def update_run_in_session(
    ctx: Context,
    session_id: str,
    run_id: str,
    fields: dict[str, Any],
    expected_attempt: int | None = None,
    user_id: str | None = None,
    content_if_absent: str | None = None,
    session_data: dict[str, Any] | None = None,
) -> Flow[RunPersistOutcome]:
    """Change fields of a run, unless a later attempt or an end of it is stored: two round trips.

    With `session_data`, all that the session has of it is replaced in the same step. Writes of other runs do
    not come between; if this run is written meanwhile, it is read and checked again. Raises
    SessionOwnershipError if session data are given and the session is another user's.
    """
    while True:
        found = yield from stored_runs.find_run(ctx, session_id, run_id)
        if found is None or not found.run.is_of(user_id):
            return RunPersistOutcome.MISSING
        if (refusal := _refusal(found.run, fields, expected_attempt)) is not None:
            return refusal
        run = _updated(found.run, fields, expected_attempt, content_if_absent)
        try:
            if session_data is None:
                yield from upsert.replace_run(ctx, session_id, found, run)
            else:
                owner = NOBODY if user_id is None else user_id
                yield from upsert.replace_run_and_data(ctx, session_id, found, run, session_data, owner)
        except SessionConflictError:
            continue
        except StaleRunError:
            return RunPersistOutcome.STALE_ATTEMPT
        except SessionNotFoundError:
            return RunPersistOutcome.MISSING
        return RunPersistOutcome.UPDATED


def _refusal(run: RunRecord, fields: dict[str, Any], attempt: int | None) -> RunPersistOutcome | None:
    """Return why a stored run is not to be changed, None if it is."""
    stored_attempt, stored = run.head.get("queue_attempt"), canonical_run_status(run.head.get("status"))
    if attempt is not None and stored_attempt is not None and stored_attempt > attempt:
        return RunPersistOutcome.STALE_ATTEMPT
    if stored in _ENDED and fields.get("status") and canonical_run_status(fields["status"]) != stored:
        return RunPersistOutcome.TERMINAL_REFUSED
    return None


def _updated(
    run: RunRecord, fields: dict[str, Any], attempt: int | None, content_if_absent: str | None
) -> RunRecord:
    changes = dict(fields)
    if changes.get("status") is not None:
        changes["status"] = canonical_run_status(changes["status"])
    if content_if_absent is not None and not changes.get("content", run.head.get("content")):
        changes["content"] = content_if_absent
    if attempt is not None:
        changes["queue_attempt"] = attempt
    return run.updated(changes)


def append_run_to_session_if_absent(
    ctx: Context, session_id: str, run_dict: dict[str, Any], user_id: str | None = None
) -> Flow[bool | None]:
    """Store a run; return False if the session has it already, None if there is no session: one round trip.

    Raises SessionOwnershipError if the session is another user's.
    """
    record = RunRecord.of(run_dict, session_id, user_id=user_id)
    try:
        yield from upsert.add_run(ctx, session_id, record)
    except SessionConflictError:
        return False
    except SessionNotFoundError:
        return None
    return True


def insert_session_if_absent(ctx: Context, session: Any) -> Flow[bool]:
    """Create a session without its runs, or return False if there is one, whoever's: one round trip.

    Raises SessionNotFoundError if the session was loaded, and deleted through another Db since.
    """
    record = SessionRecord.of(session)
    try:
        yield from upsert.upsert_session(ctx, record, expect_rev=0, revives=snapshot_of(record) is not None)
    except (SessionConflictError, SessionOwnershipError):
        return False
    record.copy_snapshot_to(session)
    return True
