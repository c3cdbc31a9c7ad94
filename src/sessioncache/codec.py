"""Values to bytes and back: one format byte, then msgpack. The only module that knows msgpack.

Packable: str, int (64 bit), float, bool, None, bytes, list, tuple (comes back a list), dict with str keys,
datetime, date, UUID, Decimal, set, Enum (comes back its value); dataclasses, pydantic models and whatever
has `to_dict()` or `model_dump()` (come back dicts). No pickle, and no class is ever looked up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import eq
from typing import Any, Final
from uuid import UUID

import msgpack

from .errors import UnserializableError

FORMAT: Final = b"\x01"
"""First byte of every packed value: plain msgpack. Other values are for later formats."""

MAX_PACKED_BYTES: Final = 64 * 2**20
"""Largest value that is decoded, in bytes: a hostile one takes up to 70 times its size in memory."""

MAX_ITEMS: Final = 2**20
"""Most items of one list or dict that are decoded."""

MAX_SET_DEPTH: Final = 4
"""Most sets within sets: each level takes 50 KB of the C stack, and a thread may have half a MB of it."""

MAX_SAME_HASH: Final = (16, 4, 2, 2)
"""Most items of one hash in a set, and in sets within it by their depth: each is compared with all others."""

MAX_SET_NUMBERS: Final = 2**17
"""Most items of a set that are no text: numbers can be chosen that hash apart, and yet clash in its table."""

_PACKING_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError, ArithmeticError)

_DATETIME, _DATE, _UUID, _DECIMAL, _SET = range(1, 6)


EMPTY_DICT: Final = FORMAT + b"\x80"
"""The packed form of {}."""


class CodecError(ValueError):
    """Bytes that are no packed value: the caller knows whose they are and says so."""


def pack(value: object, path: str) -> bytes:
    """Return the packed form of a value; `path` names it in the UnserializableError otherwise raised."""
    try:
        return FORMAT + _pack_checked(value)
    except _PACKING_ERRORS as exc:
        raise UnserializableError(_explain(value, path)) from exc


def _pack_checked(value: object) -> bytes:
    """Pack, and read back once: nothing is ever stored that cannot be loaded."""
    packed: bytes = msgpack.packb(value, default=_extend)
    _check_size(len(packed))
    _decode(packed, _restore, raw=True)
    return packed


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_PACKED_BYTES:
        raise CodecError(f"{n_bytes} bytes are over the limit of {MAX_PACKED_BYTES}")


def unpack(packed: bytes) -> Any:
    """Return the value of packed bytes; raise CodecError for whatever is none."""
    if packed[:1] != FORMAT:
        raise CodecError(f"format {packed[:1].hex() or 'missing'} is unknown to this version")
    _check_size(len(packed) - len(FORMAT))
    return _decode(packed[1:], _restore)


def unpack_dict(packed: bytes) -> dict[str, Any]:
    """Return the dict that packed bytes hold; raise CodecError for anything else."""
    value = unpack(packed)
    if not isinstance(value, dict):
        raise CodecError(f"a {type(value).__name__} stands where a dict was expected")
    return value


def pack_pair(name: str, value: Mapping[str, Any], path: str) -> bytes:
    """Return the packed form of a name and the dict that belongs to it."""
    try:
        return FORMAT + _pack_checked((name, value))
    except _PACKING_ERRORS as exc:
        raise UnserializableError(_explain(value, path)) from exc


def unpack_pair(packed: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name and the dict that `pack_pair` packed; raise CodecError for anything else."""
    match unpack(packed):
        case [str(name), dict(value)]:
            return name, value
    raise CodecError("no pair of a name and a dict")


def _decode(data: bytes, ext_hook: ExtHook, *, use_list: bool = True, raw: bool = False) -> Any:
    try:
        if len(data) <= MAX_ITEMS:  # too small to have as many: without limits it takes half as long
            return msgpack.unpackb(data, ext_hook=ext_hook, use_list=use_list, raw=raw)
        return msgpack.unpackb(
            data,
            ext_hook=ext_hook,
            use_list=use_list,
            raw=raw,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except CodecError:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError, msgpack.UnpackException) as exc:
        raise CodecError(f"not msgpack: {type(exc).__name__}") from exc


ExtHook = Callable[[int, bytes], Any]


def _extend(value: Any) -> Any:
    """Return what msgpack can pack in place of a value that it cannot."""
    for kind, code, encode in _EXTENSIONS:
        if isinstance(value, kind):
            return msgpack.ExtType(code, encode(value))
    return value.value if isinstance(value, Enum) else _as_mapping(value)


def _pack_set(items: Collection[Any]) -> bytes:
    """Pack a set in one order, whatever its own: equal sets are equal bytes."""
    packed = sorted(msgpack.packb(item, default=_extend) for item in items)
    header: bytes = msgpack.Packer().pack_array_header(len(packed))
    return header + b"".join(packed)


_EXTENSIONS: Final[tuple[tuple[type[Any], int, Callable[[Any], bytes]], ...]] = (
    (datetime, _DATETIME, lambda value: datetime.isoformat(value).encode()),
    (date, _DATE, lambda value: date.isoformat(value).encode()),
    (UUID, _UUID, lambda value: value.bytes),
    (Decimal, _DECIMAL, lambda value: str(value).encode()),
    (set, _SET, _pack_set),
    (frozenset, _SET, _pack_set),
)


def _as_mapping(value: Any) -> Any:
    if isinstance(value, type):
        raise TypeError(f"{value.__name__} is a class")
    for method in ("to_dict", "model_dump"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    if is_dataclass(value):  # and no class, as checked above
        return asdict(value)  # type: ignore[arg-type]
    raise TypeError(f"{type(value).__name__} has no packed form")


def _restore(code: int, data: bytes, depth: int = 0) -> Any:
    """Restore a value of a type that msgpack lacks, within so many sets."""
    if code == _SET:
        return _restore_set(data, depth + 1)
    try:
        return _RESTORERS[code](data)
    except KeyError:
        raise CodecError(f"extension type {code} is unknown to this version") from None


def _restore_set(data: bytes, depth: int) -> AbstractSet[Any]:
    """Restore a set; within another one it is a frozenset, and lists are tuples, for they are hashed."""
    if depth > MAX_SET_DEPTH:
        raise CodecError(f"sets are nested more than {MAX_SET_DEPTH} deep")
    items = _decode(data, partial(_restore, depth=depth), use_list=False)
    _check_hashes(items, MAX_SAME_HASH[depth - 1])
    return set(items) if depth == 1 else frozenset(items)


def _check_hashes(items: Collection[Any], most_of_one: int) -> None:
    """Refuse items that were chosen to clash: only the hashes of texts are salted."""
    if len(items) <= MAX_SET_NUMBERS and len(items) - len(set(map(hash, items))) < most_of_one:
        return  # the quick look, and mostly enough
    hashes = sorted(hash(item) for item in items if not isinstance(item, str | bytes))
    if len(hashes) > MAX_SET_NUMBERS or any(map(eq, hashes, hashes[most_of_one:])):
        raise CodecError("a set of too many items that are no text, or of too many of one hash")


_RESTORERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    _DATETIME: lambda data: datetime.fromisoformat(data.decode()),
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(data.decode()),
}


_MAX_EXPLAINED_DEPTH: Final = 100
_MAX_EXPLAINED_PATH: Final = 200


def _explain(value: object, path: str) -> str:
    """Return the path to the part of a value that does not pack, and why."""
    if path.count("[") > _MAX_EXPLAINED_DEPTH:
        return f"{path[:_MAX_EXPLAINED_PATH]}... is nested too deeply, or holds itself"
    for part, part_path in _parts(value, path):
        try:
            _pack_checked(part)
        except _PACKING_ERRORS:
            return _explain(part, part_path)
    return f"{path} cannot be stored: {_reason(value)}"


def _parts(value: object, path: str) -> Iterable[tuple[object, str]]:
    if isinstance(value, Mapping):
        a_record = path.isidentifier()
        return [(item, f"{path}.{key}" if a_record else f"{path}[{key!r}]") for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [(item, f"{path}[...]") for item in value]
    try:
        converted = _as_mapping(value)
    except TypeError:
        return []
    return _parts(converted, path) if isinstance(converted, dict) else []


def _reason(value: object) -> str:
    if isinstance(value, Mapping):
        keys = sorted({type(key).__name__ for key in value if type(key) is not str})
        return f"its keys must be str, not {', '.join(keys)}" if keys else "a dict that does not pack"
    if isinstance(value, int):
        return "an int of more than 64 bits"
    if isinstance(value, str):
        return "a str with a lone surrogate, or too long"
    if isinstance(value, list | tuple):
        return f"more than {MAX_ITEMS} items"
    if isinstance(value, set | frozenset):
        return f"too many items, or of one hash, or sets nested more than {MAX_SET_DEPTH} deep"
    return f"no packed form for {type(value).__module__}.{type(value).__qualname__}"
