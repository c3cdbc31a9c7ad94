"""The options of a cache, checked once, when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from .errors import InvalidArgumentError
from .fields import LARGEST_NUMBER
from .keys import encoded_id
from .kinds import Model, WorkflowModel

DEFAULT_PREFIX: Final = "sessioncache"

DEFAULT_MAX_RUN_BYTES: Final = 8 * 2**20
"""Largest packed run, in bytes: far below what makes a server close a connection (512 MiB)."""

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for one call, retries included: longer than a failover, shorter than a user's patience."""

LONGEST_TIMEOUT: Final = 86_400
"""A day: what waits longer is not a lookup."""

LONGEST_TTL: Final = timedelta(days=100 * 365)
"""Longer than any session lives; Redis refuses times beyond 64 bits of milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a cache; `ttl` in milliseconds, as all scripts take it."""

    prefix: str
    ttl: int | None
    touch_on_read: bool
    max_runs: int | None
    max_run_bytes: int
    timeout: float
    model: Model


OPTIONS: Final = tuple(item.name for item in fields(Settings) if item.name != "model")
"""The names of all options."""


def make_settings(
    *,
    prefix: str = DEFAULT_PREFIX,
    ttl: int | timedelta | None = None,
    touch_on_read: bool = False,
    max_runs: int | None = None,
    max_run_bytes: int = DEFAULT_MAX_RUN_BYTES,
    timeout: float = DEFAULT_TIMEOUT,
    **unknown: object,
) -> Settings:
    """Check the options of a cache; raise InvalidArgumentError naming the one that is wrong or unknown."""
    if unknown:
        raise InvalidArgumentError(f"there is no option {min(unknown)!r}; known: {', '.join(OPTIONS)}")
    encoded_id(prefix, "prefix")
    if "{" in prefix or "}" in prefix:
        raise InvalidArgumentError("prefix must hold no brace: it would move the hash tag of the keys")
    if not isinstance(touch_on_read, bool):
        raise InvalidArgumentError("touch_on_read must be a bool")
    return Settings(
        prefix=str.__str__(prefix),  # of a str enum, the value
        ttl=milliseconds(ttl, "ttl"),
        touch_on_read=touch_on_read,
        max_runs=None if max_runs is None else at_least_one(max_runs, "max_runs"),
        max_run_bytes=at_least_one(max_run_bytes, "max_run_bytes"),
        timeout=_seconds(timeout, "timeout"),
        model=WorkflowModel(),
    )


def milliseconds(ttl: int | timedelta | None, name: str) -> int | None:
    """Return a time to live in milliseconds; None is for ever."""
    if ttl is None:
        return None
    seconds = (
        ttl if isinstance(ttl, timedelta) else whole_number(ttl, name, 1, LONGEST_TTL // timedelta(seconds=1))
    )
    duration = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    if not timedelta(milliseconds=1) <= duration <= LONGEST_TTL:
        raise InvalidArgumentError(f"{name} must be from a millisecond to {LONGEST_TTL.days} days")
    return duration // timedelta(milliseconds=1)


def at_least_one(value: Any, name: str) -> int:
    """Return a whole number from 1 on, or raise InvalidArgumentError naming the argument."""
    return whole_number(value, name, 1)


def whole_number(value: Any, name: str, least: int, most: int = LARGEST_NUMBER) -> int:
    """Return a whole number within bounds, or raise InvalidArgumentError naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{name} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be from {least} to {most}")
    return value


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_TIMEOUT:
        raise InvalidArgumentError(
            f"{name} must be a number of seconds over 0, and at most {LONGEST_TIMEOUT}"
        )
    return float(value)
