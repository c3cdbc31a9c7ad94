"""What can be packed: objects as the dicts that they say they are; and why a value cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

PACKING_ERRORS: Final = (
    *(TypeError, ValueError, ArithmeticError, BufferError, RuntimeError),
    *(AttributeError, LookupError),  # from a method of the value, as `items()`
)


class ConversionError(ValueError):
    """A value's own method raised what is chained."""


def as_mapping(value: Any) -> Any:
    """Return what an object says of itself: by `to_dict()`, `model_dump()` or as a dataclass."""
    if isinstance(value, type):
        raise TypeError(f"{value.__name__} is a class")
    for method in ("to_dict", "model_dump"):
        convert = getattr(value, method, None)
        if callable(convert):
            return _converted(convert, f"{method}()")
    if is_dataclass(value):  # and no class, as checked above
        return _converted(partial(asdict, value), "asdict()")
    raise TypeError(f"{type(value).__name__} has no packed form")


def _converted(convert: Callable[[], Any], name: str) -> Any:
    try:
        return convert()
    except Exception as exc:
        raise ConversionError(f"{name} raised {type(exc).__name__}") from exc


_MAX_EXPLAINED_DEPTH: Final = 100
_MAX_EXPLAINED_PATH: Final = 200


def explain(value: object, path: str, error: Exception, pack: Callable[[Any], object]) -> str:
    """Return the path to the part of a value that does not pack, and why."""
    if path.count("[") > _MAX_EXPLAINED_DEPTH:
        return f"{path[:_MAX_EXPLAINED_PATH]}... is nested too deeply, or holds itself"
    for part, part_path in _parts(value, path):
        try:
            pack(part)
        except PACKING_ERRORS as exc:
            return explain(part, part_path, exc, pack)
    return f"{path} cannot be stored: {_reason(value, error)}"


def _parts(value: object, path: str) -> Iterable[tuple[object, str]]:
    try:
        if isinstance(value, Mapping):
            a_record = path.isidentifier()
            return [(item, at(path, key, a_record=a_record)) for key, item in value.items()]
        if isinstance(value, list | tuple):
            return [(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, set | frozenset):
            return [(item, f"{path}[...]") for item in value]
        converted = value.value if isinstance(value, Enum) else as_mapping(value)
    except PACKING_ERRORS:
        return []
    is_collection = isinstance(converted, dict | list | tuple | set | frozenset)
    return _parts(converted, path) if is_collection else []


def at(path: str, key: object, *, a_record: bool = False) -> str:
    """Return the path to an item of a dict; a key that is an enum shows as the text that it is."""
    if not isinstance(key, str):
        return f"{path}[{type(key).__name__}]"
    return f"{path}.{str.__str__(key)}" if a_record else f"{path}[{str.__repr__(key)}]"


def _reason(value: object, error: Exception) -> str:
    if isinstance(error, ConversionError):
        return f"its {error}"
    if isinstance(value, dict):
        keys = sorted({type(key).__name__ for key in dict.keys(value) if not isinstance(key, str)})
        return f"its keys must be str, not {', '.join(keys)}" if keys else "a dict that does not pack"
    no_form = f"no packed form for {type(value).__module__}.{type(value).__qualname__}"
    return next((reason for kinds, reason in _REASONS if isinstance(value, kinds)), no_form)


_REASONS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (int, "an int that is too long"),
    (str, "a str that is too long"),
    (memoryview, "a memoryview that is not contiguous, or too long"),
    ((list, tuple), "too many items"),
    ((set, frozenset), "too many items, or of one hash, or sets nested too deeply"),
)
