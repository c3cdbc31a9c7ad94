"""Values to bytes and back: one format byte, then msgpack. The only module that knows msgpack.

These come back as they were:

    str  bool  None  bytes  list  dict with str keys  date  UUID  set
    int             from -2**63 to 2**64 - 1
    float, Decimal  nan, infinities and -0.0 too; a Decimal to the digit, sNaN too
    datetime        with its offset from UTC; of its zone not the name, and no `fold`

and these as something plainer:

    tuple, frozenset                                     list, set; within a set as they were
    bytearray, contiguous memoryview                     bytes
    Enum                                                 its value
    dataclass, or what has `to_dict()`, `model_dump()`   a dict
    a subclass of these, as a key too                    what it is a subclass of

All else is refused. No pickle, and no class is ever looked up by name.
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

from sessioncache.errors import UnserializableError

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

_PACKING_ERRORS: Final = (
    *(TypeError, ValueError, ArithmeticError, BufferError, RuntimeError),
    *(AttributeError, LookupError),  # from a method of the value, as `items()`
)

_DATETIME, _DATE, _UUID, _DECIMAL, _SET = range(1, 6)

EMPTY_DICT: Final = FORMAT + b"\x80"
"""The packed form of {}."""


class CodecError(ValueError):
    """Bytes that are no packed value: the caller knows whose they are and says so."""


class _ConversionError(ValueError):
    """A value's own method raised what is chained."""


def pack(value: object, path: str) -> bytes:
    """Return the packed form of a value; `path` names it in the UnserializableError otherwise raised."""
    try:
        return FORMAT + _pack_checked(value)
    except _PACKING_ERRORS as exc:
        raise UnserializableError(_explain(value, path, exc)) from exc


def _pack_checked(value: object) -> bytes:
    """Pack, and read back once: nothing is ever stored that cannot be loaded."""
    packed: bytes = msgpack.packb(value, default=_extend)
    _check_size(len(packed))
    _read_back(packed)
    return packed


def _read_back(packed: bytes) -> None:
    """Raise what msgpack raises if it would not decode, or has bytes as a key: keys are only str."""
    hook, most = _restore, MAX_ITEMS
    try:  # below -1, which is no limit, not even b"" fits: the quick way for what holds no bytes
        msgpack.unpackb(packed, ext_hook=hook, raw=True, max_bin_len=-2, max_array_len=most, max_map_len=most)
    except ValueError:  # `join` gets each dict, and takes only keys that are str
        msgpack.unpackb(packed, ext_hook=hook, object_hook="".join, max_array_len=most, max_map_len=most)


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_PACKED_BYTES:
        raise CodecError(f"{n_bytes} bytes are over the limit of {MAX_PACKED_BYTES}")


def unpack(packed: bytes) -> Any:
    """Return the value of packed bytes; raise CodecError for whatever is none."""
    if packed[:1] != FORMAT:
        raise CodecError(f"format {packed[:1].hex() or 'missing'} is unknown to this version")
    if len(packed) > MAX_PACKED_BYTES:
        _check_size(len(packed) - len(FORMAT))
    return _decode(packed[1:], _restore)


def unpack_dict(packed: bytes) -> dict[str, Any]:
    """Return the dict that packed bytes hold; raise CodecError for anything else."""
    value = unpack(packed)
    if not isinstance(value, dict):
        raise CodecError(f"a {type(value).__name__} instead of a dict")
    return value


def pack_pair(name: str, value: Mapping[str, Any], path: str) -> bytes:
    """Return the packed form of a name and the dict that belongs to it."""
    try:
        return FORMAT + _pack_checked((name, value))
    except _PACKING_ERRORS as exc:
        raise UnserializableError(_explain(value, path, exc)) from exc


def unpack_pair(packed: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name and the dict that `pack_pair` packed; raise CodecError for anything else."""
    match unpack(packed):
        case [str(name), dict(value)]:
            return name, value
    raise CodecError("no pair of a name and a dict")


def _decode(data: bytes, ext_hook: ExtHook, *, use_list: bool = True) -> Any:
    try:
        if len(data) <= MAX_ITEMS:  # too small to have as many
            return msgpack.unpackb(data, ext_hook=ext_hook, use_list=use_list)
        limits = {"max_array_len": MAX_ITEMS, "max_map_len": MAX_ITEMS}
        return msgpack.unpackb(data, ext_hook=ext_hook, use_list=use_list, **limits)
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
    if not isinstance(value, Enum):
        return _as_mapping(value)
    return value.value if isinstance(value.value, _NATIVE) else _extend(value.value)


_NATIVE: Final = (str, int, float, bytes, bytearray, memoryview, list, tuple, dict, type(None))


def _pack_set(items: Collection[Any]) -> bytes:
    """Pack a set in one order, whatever its own: equal sets are equal bytes."""
    packed = sorted(msgpack.packb(item, default=_extend) for item in items)
    header: bytes = msgpack.Packer().pack_array_header(len(packed))
    return header + b"".join(packed)


_EXTENSIONS: Final[tuple[tuple[type[Any], int, Callable[[Any], bytes]], ...]] = (
    (datetime, _DATETIME, lambda value: datetime.isoformat(value).encode()),
    (date, _DATE, lambda value: date.isoformat(value).encode()),
    (UUID, _UUID, lambda value: value.bytes),
    (Decimal, _DECIMAL, lambda value: Decimal.__str__(value).encode()),
    (set, _SET, _pack_set),
    (frozenset, _SET, _pack_set),
)


def _as_mapping(value: Any) -> Any:
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
        raise _ConversionError(f"{name} raised {type(exc).__name__}") from exc


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


def _explain(value: object, path: str, error: Exception) -> str:
    """Return the path to the part of a value that does not pack, and why."""
    if path.count("[") > _MAX_EXPLAINED_DEPTH:
        return f"{path[:_MAX_EXPLAINED_PATH]}... is nested too deeply, or holds itself"
    for part, part_path in _parts(value, path):
        try:
            _pack_checked(part)
        except _PACKING_ERRORS as exc:
            return _explain(part, part_path, exc)
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
        converted = value.value if isinstance(value, Enum) else _as_mapping(value)
    except _PACKING_ERRORS:
        return []
    is_collection = isinstance(converted, dict | list | tuple | set | frozenset)
    return _parts(converted, path) if is_collection else []


def at(path: str, key: object, *, a_record: bool = False) -> str:
    """Return the path to an item of a dict; a key that is an enum shows as the text that it is."""
    if not isinstance(key, str):
        return f"{path}[{type(key).__name__}]"
    return f"{path}.{str.__str__(key)}" if a_record else f"{path}[{str.__repr__(key)}]"


def _reason(value: object, error: Exception) -> str:
    if isinstance(error, _ConversionError):
        return f"its {error}"
    if isinstance(value, dict):
        keys = sorted({type(key).__name__ for key in dict.keys(value) if not isinstance(key, str)})
        return f"its keys must be str, not {', '.join(keys)}" if keys else "a dict that does not pack"
    no_form = f"no packed form for {type(value).__module__}.{type(value).__qualname__}"
    return next((reason for kinds, reason in _REASONS if isinstance(value, kinds)), no_form)


_REASONS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (int, "an int of more than 64 bits"),
    (str, "a str with a lone surrogate, or too long"),
    (memoryview, "a memoryview that is not contiguous, or too long"),
    ((list, tuple), f"more than {MAX_ITEMS} items"),
    ((set, frozenset), f"too many items, or of one hash, or sets nested more than {MAX_SET_DEPTH} deep"),
)
