"""What runs and messages share: known fields as attributes, unknown ones kept.

A record is a dataclass that is stored as a dict. One rule holds in both directions: *a key that is
absent means None*. ``to_dict`` leaves out what is None, and ``from_dict`` reads a missing key as None,
not as the default of a newly made object; so a stored record comes back as it was stored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

from sessioncache.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

EXTRA_FIELDS = "extra_fields"
_CONVERTER = "sessioncache.converter"

R = TypeVar("R", bound="Record")


def unix_now() -> int:
    """Return the current time in whole unix seconds."""
    return int(time.time())


class Converter(NamedTuple):
    """Pair the functions that turn a stored value into an attribute and back.

    ``read`` takes the stored value and how deep the record is nested in other runs; neither function is
    called with None, and both return what they do not understand unchanged.
    """

    read: Callable[[Any, int], Any]
    write: Callable[[Any], Any]


def converted(converter: Converter) -> dict[str, Converter]:
    """Return the ``field(metadata=...)`` that has a field converted."""
    return {_CONVERTER: converter}


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold what reading and writing a set of fields needs, worked out once for each class."""

    blank: Mapping[str, None]
    converters: tuple[tuple[str, Converter], ...]

    def read(self, data: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split *data* into the values of all known fields, in field order, and the unknown rest."""
        known: dict[str, Any] = {**self.blank, **data}
        unknown: dict[str, Any] = {}
        if len(known) > len(self.blank):
            unknown = {name: known.pop(name) for name in data if name not in self.blank}
        for name, converter in self.converters:
            if known[name] is not None:
                known[name] = converter.read(known[name], depth)
        return known, unknown

    def write(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of *values* that are known and not None, in field order, as they are stored."""
        data = {name: value for name in self.blank if (value := values[name]) is not None}
        for name, converter in self.converters:
            if name in data:
                data[name] = converter.write(data[name])
        return data

    def restricted_to(self, names: Collection[str]) -> Layout:
        """Return the layout of those fields only that are among *names*."""
        return Layout(
            {name: None for name in self.blank if name in names},
            tuple(pair for pair in self.converters if pair[0] in names),
        )


def _layout_of(cls: type[Any]) -> Layout:
    known = {item.name: item.metadata.get(_CONVERTER) for item in fields(cls) if item.name != EXTRA_FIELDS}
    return Layout(
        dict.fromkeys(known),
        tuple((name, converter) for name, converter in known.items() if converter is not None),
    )


layout_of = cast("Callable[[type[Any]], Layout]", cache(_layout_of))
"""Return the layout of all known fields of a record class."""


@dataclass
class Record:
    """Be a dict's known keys as attributes and its unknown ones in ``extra_fields``.

    An entry of ``extra_fields`` that bears the name of a known field is not written.
    """

    extra_fields: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the record that ``to_dict`` made *data* of, leaving *data* as it is.

        Plain nested values are shared with *data*, not copied.
        """
        return build(cls, data)

    def to_dict(self) -> dict[str, Any]:
        """Return what is not None: known fields in field order, then the extra ones by name.

        Nested records become dicts and a status its value; other nested values are shared, not copied.
        """
        data = layout_of(type(self)).write(self.__dict__)
        return self._with_extra_fields(data)

    def _with_extra_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.extra_fields:
            if not isinstance(self.extra_fields, dict):
                raise InvalidArgumentError(f"extra_fields of a {type(self).__name__} must be a dict")
            known = layout_of(type(self)).blank
            for name in sorted(self.extra_fields, key=str):
                if name not in known:
                    data[name] = self.extra_fields[name]
        return data


def build(cls: type[R], data: Mapping[str, Any], depth: int = 0) -> R:
    """Build a record from a dict without its ``__init__``, nested *depth* deep in other runs."""
    values, unknown = layout_of(cls).read(data, depth)
    values[EXTRA_FIELDS] = unknown
    record = cls.__new__(cls)
    record.__dict__ = values
    return record


def write_nested(value: Any) -> Any:
    """Return a record, or every record of a list or tuple, as a dict; anything else as it is."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [item.to_dict() if isinstance(item, Record) else item for item in value]
    return value


def write_enum(value: Any) -> Any:
    """Return the value of an enum member; anything else as it is."""
    return value.value if isinstance(value, Enum) else value
