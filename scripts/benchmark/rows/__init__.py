"""The rows of the table, one module a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmark.rows import (
    agno,
    concurrency,
    history,
    imports,
    listing,
    lookups,
    memory,
    near_cache,
    processes,
    sealing,
    telemetry,
    writes,
)

if TYPE_CHECKING:
    from benchmark.comparison import Row

GROUPS: Final[dict[str, tuple[Row, ...]]] = {
    "lookups": lookups.ROWS,
    "near_cache": near_cache.ROWS,
    "history": history.ROWS,
    "writes": writes.ROWS,
    "listing": listing.ROWS,
    "concurrency": concurrency.ROWS,
    "processes": processes.ROWS,
    "memory": memory.ROWS,
    "sealing": sealing.ROWS,
    "telemetry": telemetry.ROWS,
    "imports": imports.ROWS,
    "agno": agno.ROWS,
}
"""Parts of the table, in its order."""


def chosen(groups: frozenset[str]) -> list[Row]:
    """Return the rows of some groups, or of all if none is named, in the order of the table."""
    return [row for group, rows in GROUPS.items() if not groups or group in groups for row in rows]
