"""A session's record as the fields of a hash, and back.

A *record* is a dict: the fields of a session, or one run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeGuard

from . import codec
from .errors import DamagedSessionError, InvalidArgumentError, SessionVersionError, UnserializableError
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


LONGEST_NUMBER: Final = 16
"""Digits of the largest number that the scripts write."""

LARGEST_NUMBER: Final = 2**53
"""Whole numbers are exact up to this in the scripts, which count in doubles."""

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


def replaced_dicts(fields: Mapping[bytes, bytes], *, loaded: bool) -> list[bytes]:
    """Return the names of those dicts of a session that something else is saved over, None for example.

    What is stored of them goes first: keys that others added must not make a dict of it again. Of an object
    that was not `loaded`, None says nothing of what is stored.
    """
    kept = {codec.EMPTY_DICT} if loaded else {codec.EMPTY_DICT, _NONE}
    names = [name for name, packed in fields.items() if b"." not in name and packed not in kept]
    replaced = [name for name in names if name.decode() not in TEXTS | TIMES]
    if _STATE_IN_DATA in fields or b"session_data" in replaced:
        replaced.append(STATE.encode())
    return replaced


_NONE: Final = codec.pack(None, "None")

_STATE_IN_DATA: Final = field_name("session_data", STATE)
"""The field that holds a state that is no dict."""


def of_another_version(session_id: str) -> SessionVersionError:
    """Return the error for a session that another version of this library stored."""
    message = f"session {session_id!r} is stored in a layout of another version"
    return SessionVersionError(message, session_id=session_id)


def from_fields(fields: Mapping[bytes, bytes], session_id: str, names: Collection[str]) -> dict[str, Any]:
    """Return the record of a session's hash fields; raise DamagedSessionError where one does not decode.

    `names` are the fields that the record has; others, of another version, are not looked at.
    """
    if fields.get(b"schema") != SCHEMA:
        raise of_another_version(session_id)
    record: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for raw, packed in fields.items():
        if raw not in CONTROL_FIELDS:
            try:
                _read_field(raw, packed, names, record, sections)
            except ValueError as exc:
                message = f"session {session_id!r}: field {raw!r} does not decode"
                raise DamagedSessionError(message, session_id=session_id) from exc
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


def section_of(raw: bytes) -> str:
    """Return the name of the field of a record that a hash field belongs to."""
    return _split_name(raw)[0]


def _read_field(
    raw: bytes,
    packed: bytes,
    names: Collection[str],
    record: dict[str, Any],
    sections: dict[str, dict[str, Any]],
) -> None:
    name, key = _split_name(raw)
    if name not in names and name != STATE:
        return
    if key is not None:
        sections.setdefault(name, {})[key] = codec.unpack(packed)
    elif name in TEXTS:
        record[name] = _text(packed.decode(), name).decode()
    elif name in TIMES:
        record[name] = unix_seconds(stored_number(packed), name)
    elif packed == codec.EMPTY_DICT:
        sections.setdefault(name, {})
    else:
        record[name] = codec.unpack(packed)


def are_numbers(texts: Sequence[bytes | None]) -> TypeGuard[Sequence[bytes]]:
    """Tell whether stored texts are numbers to the scripts, too: digits, no more than doubles can count."""
    given = list(filter(None, texts))
    are_digits = len(given) == len(texts) and b"".join(given).isdigit()
    return are_digits and max(map(len, given)) <= LONGEST_NUMBER and max(map(int, given)) <= LARGEST_NUMBER


def stored_number(text: bytes) -> int:
    """Return a stored number; raise ValueError for what is none to the scripts."""
    if not are_numbers([text]):
        raise ValueError("no number")
    return int(text)


def unix_seconds(value: Any, name: str) -> int:
    """Return a time in whole unix seconds; raise InvalidArgumentError for what can be none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(f"{name} must be unix seconds, not {type(value).__name__}")
    if not 0 <= value < END_OF_TIME:
        hint = ": milliseconds?" if value >= END_OF_TIME else ""
        raise InvalidArgumentError(f"{name} is {value}, not unix seconds{hint}")
    return int(value)
