"""The sessions of agno's databases, in batches, as dicts with their runs; and which cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from agno.db.base import BaseDb
from agno.db.redis import RedisDb
from agno.db.utils import merge_runs_table_with_legacy_blob

BATCH_SIZE: Final = 100
"""Sessions read from a database at once, with all of their runs."""

Row = dict[str, Any]
"""A session, as agno's databases give it with `deserialize=False`."""


class Unreadable(NamedTuple):
    """A session, or something of it, that could not be copied; its id as far as it is known."""

    session_id: str
    reason: str


Batch = tuple[list[Row], list[Unreadable]]


def batches(source: BaseDb, size: int) -> Iterator[Batch]:
    """Yield all sessions of a database, ordered so that pages neither repeat nor skip one."""
    return _of_redis(source, size) if isinstance(source, RedisDb) else _of_any(source, size)


def _of_any(source: BaseDb, size: int) -> Iterator[Batch]:
    page = 1
    while True:
        rows, unreadable = _page(source, size, page)
        if not rows and not unreadable:
            return
        yield rows, unreadable
        page += 1


def _page(source: BaseDb, size: int, page: int) -> Batch:
    """Read a page; if it cannot be read, each session of it by itself."""
    try:
        return _rows(source, size, page), []
    except (ValueError, TypeError, KeyError):
        batch: Batch = [], []
        for single in range((page - 1) * size + 1, page * size + 1):
            try:
                batch[0].extend(_rows(source, 1, single))
            except (ValueError, TypeError, KeyError) as exc:
                batch[1].append(Unreadable(f"number {single} by id", f"{type(exc).__name__}: {exc}"))
        return batch


def _rows(source: BaseDb, size: int, page: int) -> list[Row]:
    found: Any = source.get_sessions(
        limit=size, page=page, sort_by="session_id", sort_order="asc", deserialize=False
    )
    rows: list[Row] = found[0]
    return rows


def _of_redis(source: RedisDb, size: int) -> Iterator[Batch]:
    """Yield the sessions of agno's RedisDb by their keys: its own calls show an outage as no sessions."""
    prefix = f"{source.db_prefix}:sessions:"
    found: Iterator[Any] = source.redis_client.scan_iter(match=_escaped(prefix) + "*", count=1000)
    names = sorted({_text(key) for key in found})
    names = [name for name in names if not name.startswith(f"{prefix}index:")]
    for start in range(0, len(names), size):
        yield _redis_batch(source, names[start : start + size])


def _redis_batch(source: RedisDb, names: Sequence[str]) -> Batch:
    rows: list[Row] = []
    unreadable: list[Unreadable] = []
    for name, text in zip(names, _get_all(source, names), strict=True):
        if text is None:
            continue  # expired since
        session_id = name.removeprefix(f"{source.db_prefix}:sessions:")
        try:
            rows.append(_redis_row(source, json.loads(text), unreadable))
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            unreadable.append(Unreadable(session_id, f"{type(exc).__name__}: {exc}"))
    return rows, unreadable


def _redis_row(source: RedisDb, row: Row, unreadable: list[Unreadable]) -> Row:
    """Return a session with its runs: of the keys of agno 3, merged with the blob of agno 2."""
    session_id = row["session_id"]
    index = f"{source.db_prefix}:runs:by_session:{session_id}"
    run_ids = [_text(run_id) for run_id in source.redis_client.zrange(index, 0, -1)]
    texts = _get_all(source, [f"{source.db_prefix}:runs:{run_id}" for run_id in run_ids])
    runs = []
    blob = json.loads(row["runs"]) if isinstance(row.get("runs"), str) else row.get("runs") or []
    unreadable += [
        Unreadable(session_id, f"run {number} has no run_id")
        for number, run in enumerate(blob)
        if not isinstance(run, dict) or run.get("run_id") is None
    ]
    for run_id, text in zip(run_ids, texts, strict=True):
        try:
            runs += [json.loads(text)["run_data"]] if text is not None else []
        except (ValueError, TypeError, KeyError) as exc:
            unreadable.append(Unreadable(session_id, f"run {run_id}: {type(exc).__name__}: {exc}"))
    return row | {"runs": merge_runs_table_with_legacy_blob(runs, blob)}


def _get_all(source: RedisDb, names: Sequence[str]) -> list[Any]:
    """Read values, one command each, for the keys of a cluster lie apart."""
    pipeline = source.redis_client.pipeline(transaction=False)
    for name in names:
        pipeline.get(name)
    answers: list[Any] = pipeline.execute()
    return answers


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _escaped(text: str) -> str:
    """Return a text as a pattern of SCAN that matches itself only."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
