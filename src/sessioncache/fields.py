"""A session's record as the fields of a hash, and back.

A *record* is a dict: the fields of a session, or one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from . import codec
from .errors import DamagedSessionError, InvalidArgumentError, UnserializableError
from .keys import encoded_id

Fields = dict[bytes, bytes]
"""Fields of a session's hash."""

TEXTS: Final = frozenset({"session_id", "user_id", "workflow_id", "workflow_name"})
TIMES: Final = frozenset({"created_at", "updated_at"})

CONTROL_FIELDS: Final = frozenset({b"rev", b"born", b"count", b"seq", b"schema"})
"""Fields that the scripts keep."""

SCHEMA: Final = b"1"
"""Version of the layout in Redis, and the only one this library reads."""

STATE: Final = "session_state"
"""The entry of session_data that workers change most, split up one field a key like a dict of its own."""

END_OF_TIME: Final = 2**33
"""Unix seconds stay below this until the year 2242; milliseconds have been above it since April 1970."""


KNOWN_NAMES: Final = 1024
"""Names of fields that are kept taken apart: most sessions have the same ones."""


def to_fields(record: Mapping[str, Any]) -> Fields:
    """Return the hash fields of a session's record; `updated_at` is the server's to set."""
    fields: Fields = {}
    for name, value in record.items():
        if name in TEXTS:
            if value is not None:
                fields[name.encode()] = _text(value, name)
        elif name == "created_at":
            if value is not None:
                fields[b"created_at"] = b"%d" % unix_seconds(value, "session.created_at")
        elif name != "updated_at":
            _add_section(fields, name, value)
    return fields


def _text(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"session.{name} must be a str or None, not {type(value).__name__}")
    if name != "workflow_name":
        return encoded_id(value, f"session.{name}")
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArgumentError(f"session.{name} is not valid Unicode (a lone surrogate)") from exc


def _add_section(fields: Fields, name: str, value: Any) -> None:
    """Add a dict one field a key, behind a field that says it is a dict; anything else as one field."""
    if not isinstance(value, dict):
        fields[name.encode()] = codec.pack(value, f"session.{name}")
        return
    fields[name.encode()] = codec.EMPTY_DICT
    for key, item in value.items():
        field = field_name(name, key)
        if field == _STATE_OF_DATA and isinstance(item, dict):
            _add_section(fields, STATE, item)
        else:
            fields[field] = codec.pack(item, codec.at(f"session.{name}", key))


_STATE_OF_DATA: Final = f"session_data.{STATE}".encode()


def field_name(section: str, key: Any) -> bytes:
    """Return the hash field of one key of a session's dict; an enum is its value, as it is further down."""
    if isinstance(key, Enum) and not isinstance(key, str):
        key = key.value
    if not isinstance(key, str):
        raise UnserializableError(f"session.{section}: its keys must be str, not {type(key).__name__}")
    try:
        return b"%b.%b" % (section.encode(), str.encode(key))
    except UnicodeEncodeError as exc:
        raise UnserializableError(f"session.{section}: a key has a lone surrogate") from exc


def from_fields(fields: Mapping[bytes, bytes], session_id: str) -> dict[str, Any]:
    """Return the record of a session's hash fields; raise DamagedSessionError where one does not decode."""
    if fields.get(b"schema") != SCHEMA:
        raise DamagedSessionError(f"session {session_id!r} is stored in a layout of another version")
    record: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for raw, packed in fields.items():
        if raw not in CONTROL_FIELDS:
            try:
                _read_field(raw, packed, record, sections)
            except ValueError as exc:
                message = f"session {session_id!r}: field {raw!r} does not decode"
                raise DamagedSessionError(message) from exc
    for name, section in sections.items():
        record[name] = dict(sorted(section.items()))
    if STATE in record:
        data = record.get("session_data")
        record["session_data"] = {**(data if isinstance(data, dict) else {}), STATE: record.pop(STATE)}
    return record


@lru_cache(maxsize=KNOWN_NAMES)
def _split_name(raw: bytes) -> tuple[str, str | None]:
    """Return the name of a field, or its section and key."""
    name, dot, key = raw.decode().partition(".")
    return name, key if dot else None


def _read_field(
    raw: bytes, packed: bytes, record: dict[str, Any], sections: dict[str, dict[str, Any]]
) -> None:
    name, key = _split_name(raw)
    if key is not None:
        sections.setdefault(name, {})[key] = codec.unpack(packed)
    elif name in TEXTS:
        record[name] = packed.decode()
    elif name in TIMES:
        record[name] = int(packed)
    elif packed == codec.EMPTY_DICT:
        sections.setdefault(name, {})
    else:
        record[name] = codec.unpack(packed)


def unix_seconds(value: Any, name: str) -> int:
    """Return a time in whole unix seconds; raise InvalidArgumentError for what can be none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(f"{name} must be unix seconds, not {type(value).__name__}")
    if not 0 <= value < END_OF_TIME:
        hint = ": milliseconds?" if value >= END_OF_TIME else ""
        raise InvalidArgumentError(f"{name} is {value}, not unix seconds{hint}")
    return int(value)
