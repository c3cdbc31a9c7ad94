"""The sessions of agno's RedisDb, of agno 2 and 3, read by flows, for its own calls hide outages.

    {prefix}:sessions:{session_id}            STRING  the session as JSON; of agno 2, with its runs in it
    {prefix}:runs:{run_id}                    STRING  a row as JSON: columns, and the run as `run_data`
    {prefix}:runs:by_session:{session_id}     ZSET    the ids of its runs, by their place in it
    {prefix}:sessions:index:session_type:*    SET     the ids of the sessions of a type; never expires

They are only read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from agno.db.base import SessionType
from agno.db.utils import merge_runs_table_with_legacy_blob

from sessioncache.errors import DamagedSessionError
from sessioncache.operations.context import Context
from sessioncache.operations.index import DAMAGE, FOR_EVER, checked
from sessioncache.operations.scanning import SCAN_COUNT
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send

Row = dict[str, Any]
"""A session or a run, as agno's databases give it with `deserialize=False`."""


class Unreadable(NamedTuple):
    """A session, or something of it, that could not be copied; its id as far as it is known."""

    session_id: str
    reason: str


class OldSession(NamedTuple):
    """A session of a database of agno."""

    row: Row
    runs: Sequence[Row]
    """Rows of its runs, in their order; `run_data` alone of a run that has no row."""
    left_out: Sequence[Unreadable] = ()
    """Runs that cannot be copied."""
    ttl: int | None = None
    """How long the database still keeps it, in milliseconds; None for ever."""


def requests(prefix: str, session_id: str) -> list[Request]:
    """Return what to ask first about a session; `read` takes the replies."""
    session, index = f"{prefix}:sessions:{session_id}", f"{prefix}:runs:by_session:{session_id}"
    return [
        Request(key, commands, tolerates=DAMAGE)
        for key, commands in (
            (session.encode(), ((b"GET", session.encode()), (b"PTTL", session.encode()))),
            (index.encode(), ((b"ZRANGE", index.encode(), b"0", b"-1"),)),
        )
    ]


def get(ctx: Context, prefix: str, session_id: str) -> Flow[OldSession | None]:
    """Return a session, None if there is none: two round trips, one if it has no runs; raises as `read`."""
    replies = yield from send_all(ctx, requests(prefix, session_id))
    return (yield from read(ctx, prefix, session_id, replies))


def read(ctx: Context, prefix: str, session_id: str, replies: Sequence[Any]) -> Flow[OldSession | None]:
    """Return the session of the replies to `requests`, None if there is none: a round trip if it has runs.

    Raises what JSON raises that is not what it should be. A run that cannot be read is left out.
    """
    session, run_ids = replies
    text, ttl = checked(session)
    if text is None:
        return None
    row = _parsed(text, "session_id", session_id)
    blob = json.loads(row["runs"]) if isinstance(row.get("runs"), str) else row.get("runs")
    left_out = without_id(session_id, blob or ())
    rows = yield from _read_runs(ctx, prefix, session_id, checked(run_ids), left_out)
    return OldSession(row, _merged(rows, blob), left_out, None if ttl == FOR_EVER else max(ttl, 1))


def without_id(session_id: str, runs: Sequence[Any]) -> list[Unreadable]:
    """Return which runs of a session are none, or have no id."""
    return [
        Unreadable(session_id, f"run {number} has no run_id")
        for number, run in enumerate(runs)
        if not isinstance(run, dict) or not run.get("run_id")
    ]


def _parsed(text: bytes, name: str, expected: str) -> Row:
    """Return the row of a text; raise ValueError if it is about something else."""
    row: Row = json.loads(text)
    if row[name] != expected:
        raise ValueError(f"its {name} is {row[name]!r}")
    return row


def _read_runs(
    ctx: Context, prefix: str, session_id: str, run_ids: Sequence[bytes], left_out: list[Unreadable]
) -> Flow[dict[str, Row]]:
    """Return the rows of runs by their ids, without those that are gone; add to what is left out."""
    run_keys = [f"{prefix}:runs:".encode() + run_id for run_id in run_ids]
    replies = yield from send_all(ctx, [Request(key, ((b"GET", key),), tolerates=DAMAGE) for key in run_keys])
    rows = {}
    for run_id, reply in zip(map(_text, run_ids), replies, strict=True):
        try:
            if (text := checked(reply)) is not None:
                row = _parsed(text, "run_id", run_id)
                rows[row["run_data"]["run_id"]] = row
        except (DamagedSessionError, *MISREAD) as exc:
            left_out.append(Unreadable(session_id, f"run {run_id}: {type(exc).__name__}: {exc}"))
    return rows


MISREAD: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What JSON that is not what it should be raises, sooner or later."""


def _merged(rows: dict[str, Row], blob: Any) -> list[Row]:
    """Return the rows of agno 3 and the runs of agno 2 in their order, each once."""
    runs = merge_runs_table_with_legacy_blob([row["run_data"] for row in rows.values()], blob)
    return [rows.get(run["run_id"]) or {"run_data": run} for run in runs if run["run_id"]]


INDEXES: Final = tuple(f"sessions:index:session_type:{kind.value}" for kind in SessionType)
"""The keys that together name every session, less the prefix."""


def index_requests(prefix: str, command: bytes) -> list[Request]:
    """Return the requests that run a command on each of the INDEXES."""
    index_keys = [f"{prefix}:{name}".encode() for name in INDEXES]
    return [Request(key, ((command, key),), tolerates=DAMAGE) for key in index_keys]


def indexed_ids(ctx: Context, prefix: str) -> Flow[set[str]]:
    """Return the ids of all sessions, and of some that are gone: one round trip for each server."""
    members = yield from send_all(ctx, index_requests(prefix, b"SMEMBERS"))
    return {_text(member) for index in members for member in checked(index)}


def scanned_ids(ctx: Context, prefix: str) -> Flow[set[str]]:
    """Return the ids of all sessions, by the names of their keys (SCAN on each server)."""
    start = f"{prefix}:sessions:"
    yield from send(ctx, Request(start.encode(), ((b"EXISTS", start.encode()),)))  # finds out where keys are
    found: set[str] = set()
    for address in ctx.topology.servers():
        cursor = b"0"
        while True:
            scan = (b"SCAN", cursor, b"MATCH", _escaped(start).encode() + b"*", b"COUNT", SCAN_COUNT)
            cursor, keys = yield from send(ctx.begun_anew(), Request(b"", (scan,), address=address))
            found |= {_text(key).removeprefix(start) for key in keys}
            if cursor == b"0":
                break
    return {session_id for session_id in found if not session_id.startswith("index:")}


def _text(stored: bytes) -> str:
    """Return stored bytes as text; what is none can be no id, and is refused as such."""
    return stored.decode(errors="surrogateescape")


def _escaped(text: str) -> str:
    """Return a text as a pattern of SCAN that matches itself only."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
