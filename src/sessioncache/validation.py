"""Arguments of users, checked: each function returns the value or raises InvalidArgumentError naming it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from .errors import InvalidArgumentError
from .models import RunStatus

MAX_ID_BYTES: Final = 512
"""Longest session, user, workflow or run id, in UTF-8 bytes: keys stay small, whatever is passed."""

LARGEST_NUMBER: Final = 2**53
"""Whole numbers are exact up to this in the scripts, which count in doubles."""

MOST_RUNS: Final = 2**31
"""No session has as many runs: a larger count means all."""

END_OF_TIME: Final = 2**33
"""Unix seconds stay below this until the year 2242; milliseconds have been above it since April 1970."""

LONGEST_LIFETIME: Final = timedelta(days=100 * 365)
"""Longer than any session lives; Redis refuses times beyond 64 bits of milliseconds."""

LONGEST_TIMEOUT: Final = 86_400
"""A day: what waits longer is not a lookup."""


def encoded_id(value: object, name: str) -> bytes:
    """Return an id as UTF-8 bytes."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} must be a str, not {type(value).__name__}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArgumentError(f"{name} is not valid Unicode (a lone surrogate)") from exc
    if not encoded:
        raise InvalidArgumentError(f"{name} must not be empty")
    if len(encoded) > MAX_ID_BYTES:
        raise InvalidArgumentError(f"{name} has {len(encoded)} bytes, more than {MAX_ID_BYTES}")
    return encoded


def is_id(value: object) -> bool:
    """Return whether a value can be an id."""
    try:
        encoded_id(value, "id")
    except InvalidArgumentError:
        return False
    return True


def optional_id(value: str | None, name: str) -> str | None:
    """Return an id, or None."""
    return None if value is None else encoded_id(value, name).decode()


def optional_text(value: str | None, name: str) -> str | None:
    """Return a text, be it empty, or None."""
    if not isinstance(value, str | None):
        raise InvalidArgumentError(f"{name} must be a str or None, not {type(value).__name__}")
    return value


def whole_number(value: Any, name: str, least: int, most: int = LARGEST_NUMBER) -> int:
    """Return a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{name} must be a whole number, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} must be from {least} to {most}")
    return value


def count(value: Any, name: str) -> int | None:
    """Return how many of the newest runs are wanted: None for all, never less than 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{name} must be a whole number or None, not {type(value).__name__}")
    return max(0, min(value, MOST_RUNS))


def unix_seconds(value: Any, name: str) -> int:
    """Return a time in whole unix seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(f"{name} must be unix seconds, not {type(value).__name__}")
    if not 0 <= value < END_OF_TIME:
        hint = ": milliseconds?" if value >= END_OF_TIME else ""
        raise InvalidArgumentError(f"{name} is {value}, not unix seconds{hint}")
    return int(value)


def lifetime(ttl: int | timedelta | None, name: str) -> int | None:
    """Return a time to live, given in seconds or as a timedelta, in milliseconds; None is for ever."""
    if ttl is None:
        return None
    if not isinstance(ttl, timedelta):
        ttl = timedelta(seconds=whole_number(ttl, name, 1, LONGEST_LIFETIME // timedelta(seconds=1)))
    if not timedelta(milliseconds=1) <= ttl <= LONGEST_LIFETIME:
        raise InvalidArgumentError(f"{name} must be from a millisecond to {LONGEST_LIFETIME.days} days")
    return ttl // timedelta(milliseconds=1)


def staleness(value: Any, name: str) -> float:
    """Return for how many seconds an answer may be repeated."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_TIMEOUT:
        raise InvalidArgumentError(f"{name} must be a number of seconds from 0 to {LONGEST_TIMEOUT}")
    return value


def timeout(value: Any, name: str) -> float:
    """Return a number of seconds that a call may take."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_TIMEOUT:
        raise InvalidArgumentError(
            f"{name} must be a number of seconds over 0, and at most {LONGEST_TIMEOUT}"
        )
    return float(value)


def items(value: Collection[Any], name: str) -> list[Any]:
    """Return a collection as a list; a str is none, because its items would be its characters."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise InvalidArgumentError(f"{name} must be a list, not {type(value).__name__}")
    return list(value)


def statuses(value: Collection[RunStatus | str], name: str) -> list[RunStatus]:
    """Return statuses, each given by name or value in any case."""
    parsed = [RunStatus.parse(status) for status in items(value, name)]
    for status in parsed:
        if not isinstance(status, RunStatus):
            known = ", ".join(RunStatus.__members__)
            raise InvalidArgumentError(f"{name} has the unknown status {status!r}; known: {known}")
    return parsed
