"""What the demo prints: plain text if nobody watches, at most 110 columns."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from rich.console import Console
from rich.table import Table

WIDTH: Final = 110
"""Columns at most, and those of a pipe or a file, which have no width of their own."""


class Screen:
    """Writes lines to stdout; those too long for a narrow terminal are cut."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode is no reason to stop
        watched = sys.stdout.isatty()
        self._console = Console(
            force_terminal=watched,
            width=min(Console().width, WIDTH) if watched else WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def title(self, text: str) -> None:
        """Write a line that stands out."""
        self._line(text, "bold")

    def call(self, code: str) -> None:
        """Write a line of Python, after an empty line."""
        self._line("", "")
        self._line(code, "cyan")

    def more(self, code: str) -> None:
        """Write another line of Python."""
        self._line(code, "cyan")

    def say(self, text: str) -> None:
        """Write what a call led to."""
        self._line(f"  {text}", "")

    def command(self, text: str) -> None:
        """Write a command, whole: it is to be copied."""
        self._console.print(f"  {text}", soft_wrap=True)

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Show that something takes its time, if somebody watches."""
        return self._console.status(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write rows of numbers; the first column is their names."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for number, name in enumerate(columns):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def _line(self, text: str, style: str) -> None:
        self._console.print(text, style=style, no_wrap=True, overflow="ellipsis")
