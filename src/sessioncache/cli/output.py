"""Where output goes: tables on a terminal, tabs in a pipe, JSON for programs; bars on stderr."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .jsonl import to_json
from .values import printable

PIPED_WIDTH: Final = 1_000_000
"""Columns of a pipe or a file, which have no width: nothing is cut."""


class Output:
    """Writes what a command found to stdout."""

    def __init__(self, *, as_json: bool = False) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode is no reason to stop
        self.as_json = as_json
        self.is_watched = sys.stdout.isatty()
        options: dict[str, Any] = {} if self.is_watched else {"width": PIPED_WIDTH}
        self.console = Console(
            force_terminal=self.is_watched,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=False,
            **options,
        )

    def item(self, found: Mapping[str, Any]) -> None:
        """Write one JSON object."""
        sys.stdout.write(json.dumps(to_json(found), ensure_ascii=True) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line, cut at the width of the terminal."""
        self.console.print(Text(text), style=style, no_wrap=True, overflow="ellipsis", crop=True)

    def finding(self, verdict: str, style: str, text: str) -> None:
        """Write a line that begins with a verdict."""
        self.console.print(Text.assemble((f"{verdict:<5}", style), text), soft_wrap=True)

    def flush(self) -> None:
        """Show what was written so far."""
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write text of several lines, whole."""
        sys.stdout.write(text + "\n")

    def pretty(self, found: Any) -> None:
        """Write a value whole, as JSON that people can read."""
        text = json.dumps(to_json(found), indent=2, ensure_ascii=not self.is_unicode)
        self.text(printable(text))

    def turn(self, role: str, content: Any) -> None:
        """Write what somebody said, whole."""
        text = content if isinstance(content, str) else json.dumps(to_json(content))
        self.console.print(Text(f"{role}:"), style="bold" if role == "user" else "bold cyan")
        self.text(printable(text).rstrip() + "\n")

    @property
    def is_unicode(self) -> bool:
        """Return whether stdout takes every text."""
        return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Write rows under the names of their columns; the last column is cut first."""
        if not self.is_watched:
            sys.stdout.write("\t".join(columns) + "\n")
            for row in rows:
                sys.stdout.write("\t".join(cell.replace("\t", " ") for cell in row) + "\n")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, name in enumerate(columns):
            is_last = number == len(columns) - 1
            table.add_column(
                name,
                justify="right" if name in right else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if is_last else None,
            )
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)


class Bar:
    """A progress bar on stderr, with a rate and what is left, if somebody watches."""

    def __init__(self, what: str, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(what, total=total, rate="")

    def __enter__(self) -> Self:
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._progress.disable:
            self._progress.stop()

    def at(self, done: int) -> None:
        """Show how much is done."""
        task = self._progress.tasks[self._task]
        rate = f"{done / task.elapsed:,.0f}/s" if task.elapsed else ""
        self._progress.update(self._task, completed=done, rate=rate)
