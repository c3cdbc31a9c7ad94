"""Sessions as JSON: what it has no form for is an object of one key that begins with a dollar sign."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID


def to_json(value: Any) -> Any:
    """Return what JSON can hold in place of a value of a session."""
    if isinstance(value, dict):
        plain = {key: to_json(item) for key, item in value.items()}
        return {"$dict": plain} if _is_marked(plain) else plain
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    for name, kind, write, _ in _KINDS:
        if isinstance(value, kind):
            return {name: write(value)}
    return value


def from_json(value: Any) -> Any:
    """Return the value that `to_json` wrote; raise ValueError for an object that it did not write."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not _is_marked(value):
        return {key: from_json(item) for key, item in value.items()}
    ((name, item),) = value.items()
    if name == "$dict":
        return {key: from_json(each) for key, each in item.items()}
    try:
        return _READERS[name](item)
    except (KeyError, TypeError, ArithmeticError) as exc:
        raise ValueError(f"{name!r} is no value that was exported") from exc


def _is_marked(plain: Mapping[str, Any]) -> bool:
    return len(plain) == 1 and next(iter(plain)).startswith("$")


def _write_set(items: AbstractSet[Any]) -> list[Any]:
    return sorted(map(to_json, items), key=repr)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_KINDS: Final[tuple[tuple[str, type[Any], Callable[[Any], Any], Callable[[Any], Any]], ...]] = (
    ("$bytes", bytes, lambda value: base64.b64encode(value).decode(), _read_bytes),
    ("$datetime", datetime, datetime.isoformat, datetime.fromisoformat),
    ("$date", date, date.isoformat, date.fromisoformat),
    ("$uuid", UUID, str, UUID),
    ("$decimal", Decimal, str, Decimal),
    ("$set", set, _write_set, lambda items: set(map(_item, items))),
    ("$frozenset", frozenset, _write_set, lambda items: frozenset(map(_item, items))),
)
"""What JSON has no form for: its name, its type, and how it is written and read."""


def _item(plain: Any) -> Any:
    """Return an item of a set, which has tuples in place of lists."""
    value = from_json(plain)
    return tuple(value) if isinstance(value, list) else value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$float": float,
    **{name: read for name, _, _, read in _KINDS},
}
