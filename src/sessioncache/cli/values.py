"""Texts for people: times, sizes, lifetimes; and the times and lifetimes that people write."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from math import isinf
from typing import Any, Final

from sessioncache import Message

from .access import USAGE, CommandError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_KILO: Final = 1000
_SPAN: Final = re.compile(r"(\d+)\s*([smhdw]?)")

DAY: Final = 86_400


def seconds_of(text: str, name: str) -> int:
    """Return the seconds of a span such as 30d, 12h, 90m or 45s."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise CommandError(f"{name} must be a time span such as 30d, 12h, 90m or 45s, not {text!r}", USAGE)
    return int(match[1]) * _UNITS[match[2] or "s"]


def moment_of(text: str | None, name: str) -> int | None:
    """Return the unix seconds of a date, a time, unix seconds, or a span before now."""
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    if _SPAN.fullmatch(text.strip()):
        return int(time.time()) - seconds_of(text, name)
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        raise CommandError(
            f"{name} must be a date, a time, or a span such as 30d, not {text!r}", USAGE
        ) from None


def clock(seconds: int | None) -> str:
    """Return a time as people read it, here."""
    if seconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def span(seconds: float | None) -> str:
    """Return a lifetime, short: 3h12m."""
    if seconds is None:
        return "gone"
    if isinf(seconds):
        return "none"
    left = timedelta(seconds=int(seconds))
    hours, minutes = left.seconds // 3600, left.seconds // 60 % 60
    if left.days:
        return f"{left.days}d{hours}h"
    return (
        f"{hours}h{minutes}m"
        if hours
        else f"{minutes}m{left.seconds % 60}s"
        if minutes
        else f"{left.seconds}s"
    )


def ago(seconds: int) -> str:
    """Return how long ago something was."""
    past = int(time.time()) - seconds
    if past < 1:
        return "now"
    return f"{span(past)} ago" if past < 30 * DAY else clock(seconds)[:10]


def size(n_bytes: float) -> str:
    """Return a size: 4.9 KB."""
    for unit in ("B", "KB", "MB", "GB"):
        if n_bytes < _KILO:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= _KILO
    return f"{n_bytes:.1f} TB"


def words(value: Any) -> str:
    """Return a value in one line of text, as it is worth showing."""
    if isinstance(value, Message):
        value = value.get_content_string()
    if value is None:
        return ""
    text = value if isinstance(value, str) else repr(value)
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return a text that moves no cursor and changes no colour, whatever a user wrote into it."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
