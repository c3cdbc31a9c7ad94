"""What all commands share: where Redis is, how to tell what went wrong, and with which exit status."""

from __future__ import annotations

import base64
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer

from sessioncache import InvalidArgumentError, Keyring, SessionCache, SessionCacheError, UnavailableError
from sessioncache.options import DEFAULT_PREFIX
from sessioncache.transport.redis_errors import REDIS_ERRORS

P = ParamSpec("P")
T = TypeVar("T")

WRONG: Final = 1
USAGE: Final = 2
UNREACHED: Final = 3
INTERRUPTED: Final = 130
"""Exit statuses: something is wrong, wrong usage, Redis is not reached, ended with Ctrl-C."""

TIMEOUT: Final = 3.0
"""Seconds to reach Redis in, and for a call unless a command needs more."""

DEFAULT_URL: Final = "redis://localhost:6379/0"

Url = Annotated[
    str | None,
    typer.Option("--url", help="The Redis to use; else SESSIONCACHE_URL.", show_default=DEFAULT_URL),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", help="The prefix of the keys; else SESSIONCACHE_PREFIX.", show_default=DEFAULT_PREFIX
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


@dataclass
class Defaults:
    """What was said ahead of the command's name."""

    url: str | None = None
    prefix: str | None = None


defaults = Defaults()


@contextmanager
def opened(url: str | None, prefix: str | None, **options: Any) -> Iterator[SessionCache]:
    """Yield a cache on the Redis that is meant, which replies; close it at the end."""
    where = url or defaults.url or os.environ.get("SESSIONCACHE_URL") or DEFAULT_URL
    keys = prefix or defaults.prefix or os.environ.get("SESSIONCACHE_PREFIX") or DEFAULT_PREFIX
    with SessionCache.from_url(where, prefix=keys, timeout=TIMEOUT) as first:
        first.ping()
    keyring = keyring_of(os.environ.get("SESSIONCACHE_KEYS"))
    given = {"timeout": TIMEOUT, "encryption": keyring, **options}
    with SessionCache.from_url(where, prefix=keys, **given) as cache:
        yield cache


def keyring_of(text: str | None) -> Keyring | None:
    """Return the keyring of `name=base64,name=base64`, the first of which seals; None for none."""
    if not text:
        return None
    pairs = (pair.partition("=") for pair in text.split(","))
    try:
        return Keyring({name.strip(): base64.b64decode(key, validate=True) for name, _, key in pairs})
    except ValueError as exc:
        if isinstance(exc, InvalidArgumentError):
            raise
        raise CommandError("SESSIONCACHE_KEYS must be name=key,name=key, keys in base64", USAGE) from None


class CommandError(Exception):
    """The command cannot go on: one line, and the exit status."""

    def __init__(self, message: str, status: int = WRONG) -> None:
        super().__init__(message)
        self.status = status


def say(line: str) -> None:
    """Write a line for people, beside the output."""
    sys.stdout.flush()
    sys.stderr.write(f"{line}\n")


def telling(command: Callable[P, T]) -> Callable[P, T]:
    """Have a command end with one line and its exit status, whatever happens."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            sys.stderr.close()  # whoever read the output has gone
            raise typer.Exit(WRONG) from None
        except KeyboardInterrupt:
            say("stopped")
            raise typer.Exit(INTERRUPTED) from None
        except (SessionCacheError, *REDIS_ERRORS, CommandError, OSError) as exc:
            say(f"sessioncache: {_line(exc)}")
            raise typer.Exit(_status(exc)) from exc

    return told


def _line(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return text if isinstance(exc, CommandError) else f"{type(exc).__name__}: {text}"


def _status(exc: BaseException) -> int:
    if isinstance(exc, CommandError):
        return exc.status
    if isinstance(exc, UnavailableError) or (isinstance(exc, REDIS_ERRORS) and not isinstance(exc, OSError)):
        return UNREACHED
    return USAGE if isinstance(exc, InvalidArgumentError) else WRONG


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; without a terminal, it has to be said beforehand."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nothing was done: say --yes.", USAGE)
    if not typer.confirm(question, err=True):
        raise CommandError("nothing was done")
