"""A session, as a dict without its runs, as the fields of a hash, and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeGuard

from sessioncache.errors import (
    DamagedSessionError,
    InvalidArgumentError,
    SessionVersionError,
    UnserializableError,
)
from sessioncache.validation import END_OF_TIME, LARGEST_NUMBER, MAX_ID_BYTES, encoded_id, unix_seconds

from . import codec
from .packable import at

Fields = dict[bytes, bytes]
"""Fields of a session's hash."""

TEXT_FIELDS: Final = frozenset({"session_id", "user_id", "workflow_id", "workflow_name"})
TIME_FIELDS: Final = frozenset({"created_at", "updated_at"})

CONTROL_FIELDS: Final = frozenset(
    {b"rev", b"born", b"count", b"seq", b"schema", b"deleted", b"changes", b"lease"}
)
"""Fields that the scripts keep."""

SCHEMA: Final = b"1"
"""Version of the layout in Redis, and the only one this library reads."""

STATE: Final = "session_state"
"""The entry of session_data that workers change most, split up one field a key like a dict of its own."""

LONGEST_NUMBER: Final = 16
"""Digits of the largest number that the scripts write."""

KNOWN_NAMES: Final = 1024
"""Size of the cache of split field names: most sessions have the same ones."""


def to_fields(session: Mapping[str, Any]) -> Fields:
    """Return the hash fields of a session; the server sets `updated_at`."""
    fields: Fields = {}
    for name, value in session.items():
        if name in TEXT_FIELDS:
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
            fields[field] = codec.pack(item, at(f"session.{name}", key))


_STATE_OF_DATA: Final = f"session_data.{STATE}".encode()


def field_name(section: str, key: Any) -> bytes:
    """Return the hash field of one key of a session's dict; an enum is its value, as it is further down."""
    if isinstance(key, Enum) and not isinstance(key, str):
        key = key.value
    if not isinstance(key, str):
        raise UnserializableError(f"session.{section}: its keys must be str, not {type(key).__name__}")
    return b"%b.%b" % (section.encode(), str.encode(key, errors="surrogatepass"))


def replaced_dicts(fields: Mapping[bytes, bytes], *, loaded: bool) -> list[bytes]:
    """Return the names of those dicts of a session that something else, such as None, is saved over.

    Their stored keys are removed first: keys that others added must not make them dicts again. In an object
    that was not `loaded`, None says nothing about what is stored.
    """
    kept = {codec.EMPTY_DICT} if loaded else {codec.EMPTY_DICT, _NONE}
    names = [name for name, packed in fields.items() if b"." not in name and packed not in kept]
    replaced = [name for name in names if name.decode() not in TEXT_FIELDS | TIME_FIELDS]
    if _STATE_IN_DATA in fields or b"session_data" in replaced:
        replaced.append(STATE.encode())
    return replaced


_NONE: Final = codec.pack(None, "None")

_STATE_IN_DATA: Final = field_name("session_data", STATE)
"""The field that holds a state which is no dict."""


def of_another_version(session_id: str) -> SessionVersionError:
    """Return the error for a session that another version of this library stored."""
    message = f"session {session_id!r} is stored in a layout of another version"
    return SessionVersionError(message, session_id=session_id)


def from_fields(fields: Mapping[bytes, bytes], session_id: str, names: Collection[str]) -> dict[str, Any]:
    """Return the session of hash fields as a dict; raise DamagedSessionError if a field does not decode.

    `names` are the fields that a session has; others, of another version, are not looked at.
    """
    session: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    raw = b""
    try:
        for raw, packed in fields.items():
            name, key, read = _place_of(raw)
            if name not in names and name != STATE:
                continue
            if key is not None:
                sections.setdefault(name, {})[key] = codec.unpack(packed)
            elif read is not None:
                session[name] = read(packed, name)
            elif packed == codec.EMPTY_DICT:
                sections.setdefault(name, {})
            else:
                session[name] = codec.unpack(packed)
    except ValueError as exc:
        message = f"session {session_id!r}: field {raw!r} does not decode"
        raise DamagedSessionError(message, session_id=session_id) from exc
    return _with_sections(session, sections)


def _with_sections(session: dict[str, Any], sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for name, section in sections.items():
        session[name] = dict(sorted(section.items()))
    if STATE in session:
        data = session.get("session_data")
        session["session_data"] = {**(data if isinstance(data, dict) else {}), STATE: session.pop(STATE)}
    return session


@lru_cache(maxsize=KNOWN_NAMES)
def _place_of(raw: bytes) -> tuple[str, str | None, Callable[[bytes, str], Any] | None]:
    """Return the name of a field, or its section and key; and what reads it if it is not packed."""
    name, dot, key = raw.decode(errors="surrogatepass").partition(".")
    read = _read_text if name in TEXT_FIELDS else stored_time if name in TIME_FIELDS else None
    return name, key if dot else None, read


def section_of(raw: bytes) -> str:
    """Return the name of the session's field that a hash field belongs to."""
    return _place_of(raw)[0]


def _read_text(stored: bytes, name: str) -> str:
    if name != "workflow_name" and not 0 < len(stored) <= MAX_ID_BYTES:
        raise ValueError("no id")
    return stored.decode()


def stored_time(stored: bytes, _: str = "") -> int:
    """Return a stored time in unix seconds; raise ValueError for what is none to the scripts."""
    if not stored.isdigit() or len(stored) > LONGEST_NUMBER or int(stored) >= END_OF_TIME:
        raise ValueError("no time")
    return int(stored)


def are_numbers(texts: Sequence[bytes | None]) -> TypeGuard[Sequence[bytes]]:
    """Return whether stored texts are numbers to the scripts, too: digits, no more than doubles can count."""
    given = list(filter(None, texts))
    are_digits = len(given) == len(texts) and b"".join(given).isdigit()
    return are_digits and max(map(len, given)) <= LONGEST_NUMBER and max(map(int, given)) <= LARGEST_NUMBER
