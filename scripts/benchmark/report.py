"""What the benchmark prints and writes: two tables, a JSON file, a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgpack
import redis
from rich.table import Table

from .comparison import Result
from .costs import Cost
from .lengths import TITLES, Point
from .timing import FEWEST, Pair, Sample

THREE_DIGITS: Final = 100
"""From here on three digits stand ahead of the point."""

STYLES: Final = {"met": "green", "missed": "bold red"}


def ratios(results: Sequence[Result]) -> Table:
    """Return the table of the ratios to be reached."""
    caption = "Limit: the ratio of bare redis-py commands that move the same bytes, timed in the same rounds."
    table = Table(
        title="Ratios in one run: medians, and between which half of all pairs lie", caption=caption
    )
    for heading in ("call", "against"):
        table.add_column(heading, overflow="fold")
    for heading in ("ours", "theirs", "ratio", "limit", "target", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        row = result.row
        call = f"{row.call}\n[dim]{row.note}[/]" if row.note else row.call
        style = STYLES.get(result.verdict, "dim")
        verdict = f"[{style}]{result.verdict}[/]"
        table.add_row(call, row.against, *_measured(result), str(row.target), verdict)
    return table


def _measured(result: Result) -> tuple[str, str, str, str]:
    if result.pair is None:
        return "", "", "", ""
    ratio, low, high = result.ratio
    spread = "" if low == high else f" ({_number(low)}-{_number(high)})"
    limit = _number(result.limit_ratio[0]) if result.limit_ratio else ""
    pair = result.pair
    return amount(pair.ours, pair.unit), amount(pair.theirs, pair.unit), _number(ratio) + spread, limit


def _number(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= THREE_DIGITS else f"{ratio:.3g}"


def amount(sample: Sample, unit: str) -> str:
    """Return a median with its spread, in a unit that suits its size."""
    scales = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((2**20, "MiB"),), "/s": ((1, "/s"),)}[unit]
    scale, name = next((pair for pair in scales if sample.median >= pair[0]), scales[-1])
    low, high = sample.spread
    spread = f" ±{_number((high - low) / 2 / scale)}" if len(sample.values) > 1 else ""
    return f"{_number(sample.median / scale)}{spread} {name}"


def lengths(points: Sequence[Point]) -> Table:
    """Return the table of the plot's lengths."""
    runs = sorted({point.runs for point in points})
    caption = f"Medians of many batches of calls; what takes longer than a batch is called {FEWEST} times."
    table = Table(title="By the length of the session", caption=caption)
    table.add_column("call")
    table.add_column("system")
    for number in runs:
        table.add_column(f"{number:,} runs", justify="right", no_wrap=True)
    by_place = {(point.title, point.system, point.runs): point.sample for point in points}
    for title in TITLES:
        for system in dict.fromkeys(point.system for point in points):
            cells = [by_place.get((title, system, number)) for number in runs]
            table.add_row(title, system, *(amount(cell, "s") if cell else "" for cell in cells))
        table.add_section()
    return table


def costs(found: Sequence[Cost]) -> Table:
    """Return the table of round trips and bytes."""
    table = Table(title="On a session of 1,000 runs: what a call moves, beside loading the whole session")
    table.add_column("call")
    for heading in ("round trips", "bytes received", "of the whole", "x its answer"):
        table.add_column(heading, justify="right")
    whole = found[0].received
    for cost in found:
        times = f"{cost.received / cost.answer:.2f}" if cost.answer else ""
        share = f"{cost.received / whole:.3%}"
        table.add_row(cost.call, str(cost.round_trips), f"{cost.received:,}", share, times)
    return table


def versions(server: redis.Redis) -> dict[str, str]:
    """Return what was measured with: no name of a machine."""
    found = {"python": platform.python_version(), "redis-server": server.info("server")["redis_version"]}
    for name in ("sessioncache", "redis", "hiredis", "msgpack", "agno", "openai-agents"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found | {"cores": str(os.cpu_count()), "msgpack C extension": str(not _is_pure_msgpack())}


def _is_pure_msgpack() -> bool:
    return msgpack.Packer.__module__.endswith("fallback")


def write_json(
    path: Path,
    about: dict[str, str],
    results: Sequence[Result],
    points: Sequence[Point],
    moved: Sequence[Cost],
) -> None:
    """Write all figures."""
    data = {
        "versions": about,
        "rows": [_row(result) for result in results],
        "lengths": [point.as_dict() for point in points],
        "costs": [asdict(cost) for cost in moved],
    }
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _row(result: Result) -> dict[str, Any]:
    row = result.row
    found = {
        "call": row.call,
        "against": row.against,
        "target": str(row.target),
        "verdict": result.verdict,
        "note": row.note,
    }
    return found | _figures(result, result.pair) if result.pair else found


def _figures(result: Result, pair: Pair) -> dict[str, Any]:
    figures = {
        "unit": pair.unit,
        "ours": pair.ours.as_dict(),
        "theirs": pair.theirs.as_dict(),
        "ratio": _spread(result.ratio),
    }
    if pair.limit and result.limit_ratio:
        figures |= {"limit": pair.limit.as_dict(), "limit ratio": _spread(result.limit_ratio)}
    return figures


def _spread(ratio: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("median", "low", "high"), ratio, strict=True))
