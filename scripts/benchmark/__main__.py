"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from support.servers import RedisServer

from . import cluster, comparison, lengths, plot, report, rows
from . import costs as costs_table
from .fixture import Fixture
from .systems import SYSTEMS

SECONDS: Final = 4.0
QUICK_SECONDS: Final = 0.5
"""Time for the measurement of one row, what has to be stored first not counted."""

SCRIPTS: Final = Path(__file__).parents[1]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    groups = [*rows.GROUPS, "lengths", "costs"]
    parser = argparse.ArgumentParser("scripts/bench", description="Measure sessioncache beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="shorter sessions, fewer repetitions: a minute")
    parser.add_argument(
        "--without", action="append", choices=SYSTEMS, default=[], help="leave a system out; may be repeated"
    )
    parser.add_argument(
        "--only", action="append", choices=groups, default=[], help="do this part only; may be repeated"
    )
    parser.add_argument("--cluster", action="store_true", help="measure clusters beside one server instead")
    parser.add_argument("--seconds", type=float, help=f"time for each row; {SECONDS:g} unless said otherwise")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for bench.json and bench.svg; a whole run updates those beside this script, any other "
        "leaves them alone and writes to a temporary folder",
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, write."""
    chosen = arguments()
    logging.disable(logging.WARNING)  # agno speaks of every bulk write
    console = Console(width=None if sys.stdout.isatty() else 190)
    if chosen.cluster:
        cluster.main(console)
        return 0
    with (
        RedisServer() as server,
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            transient=True,
        ) as progress,
    ):
        Benchmark(chosen, Fixture(server, quick=chosen.quick), progress).run(console)
    return 0


class Benchmark:
    """One run of the benchmark: what was chosen, and what came out."""

    def __init__(self, chosen: argparse.Namespace, fixture: Fixture, progress: Progress) -> None:
        self._only = frozenset(chosen.only)
        self._without = frozenset(chosen.without)
        self._seconds = chosen.seconds or (QUICK_SECONDS if chosen.quick else SECONDS)
        self._is_whole = not (self._only or self._without or chosen.quick)
        self._output: Path | None = chosen.output
        self._fixture = fixture
        self._results: list[comparison.Result] = []
        self._points: list[lengths.Point] = []
        self._costs: list[costs_table.Cost] = []
        self._todo = rows.chosen(self._only)
        self._lengths = (
            (lengths.QUICK_LENGTHS if chosen.quick else lengths.LENGTHS) if self._has("lengths") else ()
        )
        self._progress = progress
        self._bar = progress.add_task("", total=len(self._todo) + len(self._lengths) + self._has("costs"))
        fixture.say = self._say

    def _has(self, part: str) -> bool:
        return not self._only or part in self._only

    def _say(self, text: str) -> None:
        self._progress.update(self._bar, description=text)

    def run(self, console: Console) -> None:
        """Do all parts chosen, then show and write what came out."""
        asyncio.run(self._measure())
        if self._has("costs") and "sessioncache" not in self._without:
            self._say("round trips and bytes")
            self._costs = costs_table.measure(self._fixture)
        self._progress.stop()
        self._show(console)
        self._write(console)

    async def _measure(self) -> None:
        for row in self._todo:
            self._say(row.call)
            reason = comparison.why_not(row, self._without)
            pair = None if reason else await row.measure(self._fixture, self._seconds)
            self._results.append(comparison.Result(row, pair, reason))
            self._progress.advance(self._bar)
        for runs in self._lengths:
            self._points += await lengths.measure(self._fixture, runs, self._without, self._seconds)
            self._progress.advance(self._bar)
        await self._fixture.awaited.aclose()

    def _show(self, console: Console) -> None:
        if self._results:
            console.print(report.ratios(self._results))
        if self._points:
            console.print(report.lengths(self._points))
        if self._costs:
            console.print(report.costs(self._costs))

    def _write(self, console: Console) -> None:
        folder = self._output or (
            SCRIPTS if self._is_whole else Path(tempfile.gettempdir()) / "sessioncache-bench"
        )
        folder.mkdir(parents=True, exist_ok=True)
        about = report.versions(self._fixture.client("cache"))
        report.write_json(folder / "bench.json", about, self._results, self._points, self._costs)
        if self._points:
            plot.draw(self._points, folder / "bench.svg")
        console.print("  ".join(f"{name} {version}" for name, version in about.items()), style="dim")
        console.print(f"written: {folder}/bench.json" + (", bench.svg" if self._points else ""), style="dim")


if __name__ == "__main__":
    sys.exit(main())
