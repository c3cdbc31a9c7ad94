"""The sessions of any of agno's databases, in batches; and which cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from agno.db.base import BaseDb
from agno.db.redis import RedisDb

from sessioncache.errors import DamagedSessionError
from sessioncache.operations.context import Context
from sessioncache.options import Settings
from sessioncache.transport.blocking import BlockingTransport

from . import redis_keys
from .redis_keys import MISREAD, OldSession, Row, Unreadable, without_id

BATCH_SIZE: Final = 100
"""Sessions read from a database at once, with all of their runs."""

Batch = tuple[list[OldSession], list[Unreadable]]


def batches(source: BaseDb, size: int, settings: Settings) -> Iterator[Batch]:
    """Yield all sessions of a database, ordered so that pages neither repeat nor skip one."""
    return _of_redis(source, size, settings) if isinstance(source, RedisDb) else _of_any(source, size)


def _of_any(source: BaseDb, size: int) -> Iterator[Batch]:
    for page in count(1):
        rows, unreadable = _page(source, size, page)
        if not rows and not unreadable:
            return
        yield [_old(row) for row in rows], unreadable


def _old(row: Row) -> OldSession:
    runs = row.get("runs") or []
    named = [{"run_data": run} for run in runs if isinstance(run, dict) and run.get("run_id")]
    return OldSession(row, named, without_id(row["session_id"], runs))


def _page(source: BaseDb, size: int, page: int) -> tuple[list[Row], list[Unreadable]]:
    """Read a page; if it cannot be read, each session of it by itself."""
    try:
        return _rows(source, size, page), []
    except MISREAD:
        rows: list[Row] = []
        unreadable: list[Unreadable] = []
        for single in range((page - 1) * size + 1, page * size + 1):
            try:
                rows.extend(_rows(source, 1, single))
            except MISREAD as exc:
                unreadable.append(Unreadable(f"number {single} by id", f"{type(exc).__name__}: {exc}"))
        return rows, unreadable


def _rows(source: BaseDb, size: int, page: int) -> list[Row]:
    found: Any = source.get_sessions(
        limit=size, page=page, sort_by="session_id", sort_order="asc", deserialize=False
    )
    rows: list[Row] = found[0]
    return rows


def _of_redis(source: RedisDb, size: int, settings: Settings) -> Iterator[Batch]:
    """Yield the sessions of agno's RedisDb by their keys, over connections of our own."""
    transport = BlockingTransport.from_client(source.redis_client)
    ctx = Context(topology=transport.topology, settings=settings, name="import_sessions")
    try:
        session_ids = sorted(transport.run(redis_keys.scanned_ids(ctx, source.db_prefix)))
        for start in range(0, len(session_ids), size):
            yield _redis_batch(transport, ctx, source.db_prefix, session_ids[start : start + size])
    finally:
        transport.close()


def _redis_batch(
    transport: BlockingTransport, ctx: Context, prefix: str, session_ids: Sequence[str]
) -> Batch:
    found: list[OldSession] = []
    unreadable: list[Unreadable] = []
    for session_id in session_ids:
        try:
            old = transport.run(redis_keys.get(ctx.begun_anew(), prefix, session_id))
            found += [old] if old is not None else []  # None has expired since
        except (DamagedSessionError, *MISREAD) as exc:
            unreadable.append(Unreadable(session_id, f"{type(exc).__name__}: {exc}"))
    return found, unreadable
