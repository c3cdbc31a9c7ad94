"""The commands. Exit status: 0 done, 1 something is wrong, 2 wrong usage, 3 Redis is not reached."""

from __future__ import annotations

import logging
import signal
import sys
from concurrent.futures import BrokenExecutor
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from sessioncache import InvalidArgumentError, SessionCache, SessionCacheError, __version__
from sessioncache.transport.redis_errors import REDIS_ERRORS

from .access import defaults
from .changing import delete, rename, touch
from .checking import rotate_keys, stats, verify
from .demo import play
from .doctor import doctor
from .reading import history, ls, show
from .screen import Screen
from .server import DemoError
from .transfer import export, import_
from .watching import watch

SCHEMES: Final = ("redis", "rediss", "unix", "memory")
"""URLs of one server: the demo compares with plain commands, and for these redis-py takes the same URL."""

commands = typer.Typer(
    name="sessioncache",
    help="Sessions of AI workflows, kept in Redis.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sessioncache {__version__}")
        raise typer.Exit


@commands.callback()
def _prepare(
    url: Annotated[str | None, typer.Option("--url", help="The Redis to use, for all commands.")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="The prefix of the keys.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keep the log off the screen, and end in order when told to end."""
    defaults.url, defaults.prefix = url, prefix
    logging.getLogger("sessioncache").addHandler(logging.NullHandler())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    """Unwind, so that the private server is stopped and its folder removed."""
    sys.exit(128 + number)


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        SessionCache.from_url(url)
    except InvalidArgumentError as exc:
        raise typer.BadParameter(str(exc)) from exc
    if urlsplit(url).scheme not in SCHEMES:
        raise typer.BadParameter(f"the demo wants one server: {', '.join(SCHEMES)}")
    return url


@commands.command()
def demo(
    url: Annotated[
        str | None,
        typer.Option(
            callback=_checked_url,
            help="The Redis to use, under a prefix of its own. Without it: a private redis-server if one is "
            "on PATH, else an embedded server.",
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="With --url: leave the case there for ten minutes."),
    ] = False,
) -> None:
    """Keep a support case in Redis, show each call, and measure it beside one JSON text a session."""
    if keep and url is None:
        raise typer.BadParameter("--keep goes with --url: a private server is stopped at the end")
    try:
        play(url, Screen(), keeps=keep)
    except (SessionCacheError, *REDIS_ERRORS, DemoError, BrokenExecutor) as exc:
        sys.stdout.flush()
        sys.stderr.write(f"The demo failed: {type(exc).__name__}: {exc}\n")
        raise typer.Exit(1) from exc


for command in (ls, show, history, watch, stats, verify, export, delete, touch, rename, doctor):
    commands.command()(command)
commands.command("import")(import_)
commands.command("rotate-keys")(rotate_keys)
