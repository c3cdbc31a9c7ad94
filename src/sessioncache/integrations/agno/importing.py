"""Copying the sessions of any of agno's databases into a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from agno.db.base import BaseDb
from agno.db.redis import RedisDb

from sessioncache.client import SessionCache
from sessioncache.errors import (
    DamagedSessionError,
    InvalidArgumentError,
    SessionCacheError,
    UnavailableError,
)
from sessioncache.operations import upsert
from sessioncache.operations.context import Context, Operation
from sessioncache.operations.index import checked
from sessioncache.operations.index_reader import look_request
from sessioncache.operations.lookup import parse_reply
from sessioncache.operations.read import get_session as load_session
from sessioncache.operations.sessions import set_updated_at
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.validation import is_id

from .adapter import AGNO, SessionRecord
from .db import SessionCacheDb
from .legacy import Legacy, store
from .redis_keys import MISREAD, OldSession, Unreadable
from .run_record import RunRecord
from .sources import BATCH_SIZE, batches

T = TypeVar("T")

Progress = Callable[[int], object]


@dataclass(slots=True)
class ImportReport:
    """What happened to the sessions of a database."""

    imported: int = 0
    """Sessions that were copied, or completed."""
    runs: int = 0
    """Runs that were copied."""
    already_there: int = 0
    """Sessions that were in the cache, with as many runs."""
    failed: list[Unreadable] = field(default_factory=list)
    """What could not be read, or not be stored, and why."""


def import_sessions(
    source_db: BaseDb,
    cache: SessionCacheDb | SessionCache,
    *,
    progress: Progress | None = None,
    batch_size: int = BATCH_SIZE,
) -> ImportReport:
    """Copy every session of one of agno's databases, its runs and times included, into a cache.

    `source_db` is any of agno's blocking Dbs; a RedisDb may hold blobs of agno 2, keys of agno 3, or both.
    `cache` is a SessionCacheDb, or a SessionCache with the Db's prefix. `progress` is called after each batch
    with the number of sessions so far.

    Sessions that are in the cache already are not touched, but for runs that are missing: an import that was
    interrupted is resumed by calling again. A session of a RedisDb with the cache's own prefix is copied
    once, whole, and not again if it was deleted since. What cannot be read, or not be stored, is reported and
    passed over; if a database cannot be reached, its error is raised.
    """
    if not isinstance(source_db, BaseDb):
        raise InvalidArgumentError(f"source_db must be a blocking Db of agno, not {type(source_db).__name__}")
    report, done = ImportReport(), 0
    is_own = isinstance(source_db, RedisDb) and source_db.db_prefix == cache.settings.prefix
    for found, unreadable in batches(source_db, batch_size, cache.settings):
        report.failed += unreadable
        session_ids = [old.row["session_id"] for old in found]
        counts = {} if is_own else _run(cache, _stored_counts, session_ids)
        for old in found:
            _import_one(cache, old, _take_over if is_own else partial(_copy, counts=counts), report)
        done += len({*session_ids, *(each.session_id for each in unreadable)})
        if progress is not None:
            progress(done)
    if is_own:
        _run(cache, Legacy().fetch_all)
    return report


def _run(cache: SessionCacheDb | SessionCache, operation: Operation[..., T], *args: Any) -> T:
    settings = replace(cache.settings, adapter=AGNO)
    ctx = Context(topology=cache.transport.topology, settings=settings, name="import_sessions")
    return cache.transport.run(operation(ctx, *args))


def _import_one(
    cache: SessionCacheDb | SessionCache,
    old: OldSession,
    copy: Operation[..., int | None],
    report: ImportReport,
) -> None:
    report.failed += old.left_out
    try:
        copied = _run(cache, copy, old)
    except UnavailableError:
        raise
    except (SessionCacheError, *MISREAD) as exc:
        report.failed.append(Unreadable(str(old.row.get("session_id")), f"{type(exc).__name__}: {exc}"))
    else:
        report.runs += copied or 0
        report.imported += copied is not None
        report.already_there += copied is None


def _take_over(ctx: Context, old: OldSession) -> Flow[int | None]:
    """Import a session that RedisDb left under the same prefix; None if it was imported before."""
    return len(old.runs) if (yield from store(ctx, old)) else None


def _stored_counts(ctx: Context, session_ids: list[str]) -> Flow[dict[str, int | None]]:
    """Return how many runs each session has, None if none can be read: one round trip for each server.

    A session or an id that is wrong is reported when it is to be stored.
    """
    asked = [session_id for session_id in session_ids if is_id(session_id)]
    replies = yield from send_all(ctx, [look_request(ctx, session_id, ()) for session_id in asked])
    return {session_id: _count(session_id, reply) for session_id, reply in zip(asked, replies, strict=True)}


def _count(session_id: str, reply: Any) -> int | None:
    try:
        reading = parse_reply(session_id, checked(reply), fields=())
    except DamagedSessionError:
        return None
    return None if reading is None else reading.n_runs


def _copy(ctx: Context, old: OldSession, counts: Mapping[str, int | None]) -> Flow[int | None]:
    """Store a session, or the runs it lacks; return how many runs, None if there was nothing to do."""
    record, updated_at = SessionRecord.of_row(old.row, old.runs), old.row.get("updated_at")
    count = counts.get(record.session_id)
    if count is not None and count >= min(len(record.runs), ctx.settings.max_runs or len(record.runs)):
        return None
    missing = record.runs if count is None else (yield from _missing(ctx, record))
    if count is None:
        yield from upsert.upsert_session(ctx, record)
    else:
        yield from upsert.upsert_runs(ctx, record.session_id, missing)
    if updated_at is not None:
        yield from set_updated_at(ctx, [(record, updated_at)])
    return len(missing)


def _missing(ctx: Context, record: SessionRecord) -> Flow[list[RunRecord]]:
    stored: SessionRecord | None = yield from load_session(ctx, record.session_id, validates=True)
    known = {run.run_id for run in stored.runs} if stored is not None else set()
    return [run for run in record.runs if run.run_id not in known]
