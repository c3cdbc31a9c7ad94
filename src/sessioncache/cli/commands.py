"""The commands. An error of the library is one line on stderr and exit status 1."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from sessioncache.errors import SessionCacheError

from .demo import play
from .report import Report

commands = typer.Typer(
    name="sessioncache",
    help="Workflow sessions in Redis.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@commands.callback()
def _prepare() -> None:
    """Leave what goes wrong to the one line of `_errors_as_lines`: no retries and no tracebacks on stderr."""
    logging.getLogger("sessioncache").addHandler(logging.NullHandler())


@contextmanager
def _errors_as_lines() -> Iterator[None]:
    try:
        yield
    except SessionCacheError as exc:
        sys.stdout.flush()
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        raise typer.Exit(1) from exc


@commands.command()
def demo(
    url: Annotated[str, typer.Option(help="The Redis to use; an embedded one unless given.")] = "memory://",
) -> None:
    """Store and look up real sessions, and check every answer: exit status 0 if all were right."""
    report = Report()
    with _errors_as_lines():
        play(url, report)
    raise typer.Exit(report.exit_status())
