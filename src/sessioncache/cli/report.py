"""What a command shows: claims that are checked, and tables; plain text where nobody watches."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH: Final = 100
"""Columns of what goes to a file or a pipe, which have no width of their own."""

LABEL_WIDTH: Final = len("WRONG") + 1


class Report:
    """Writes to stdout and remembers whether every claim was right."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode is no reason to stop
        watched = sys.stdout.isatty()
        self._console = Console(
            force_terminal=watched,
            width=None if watched else PIPED_WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._right = 0
        self._wrong = 0

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def say(self, text: str, style: str = "") -> None:
        """Show lines, indented; those too long for the width are cut."""
        for line in text.splitlines():
            text_line = Text(f"  {line}".rstrip(), style=style)
            self._console.print(text_line, no_wrap=True, overflow="ellipsis")

    def check(self, claim: str, right: bool) -> None:
        """Show a claim, and whether it is right."""
        self._right += right
        self._wrong += not right
        label = Text("ok" if right else "WRONG", style="green" if right else "bold red")
        label.pad_right(LABEL_WIDTH - len(label))
        self._console.print("  ", label, claim, sep="", soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show rows under their columns' names; a column whose name ends in `#` holds numbers."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        for name in columns:
            is_number = name.endswith("#")
            table.add_column(
                name.removesuffix("#"),
                justify="right" if is_number else "left",
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in rows:
            table.add_row("", *(str(cell) for cell in row))
        self._console.print(table)

    def exit_status(self) -> int:
        """Show the sum of it all; 0 if every claim was right, 1 otherwise."""
        self.heading(f"{self._right} claims right, {self._wrong} wrong")
        return 1 if self._wrong else 0
