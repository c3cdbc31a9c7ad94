"""Values to bytes and back: one format byte, then msgpack.

These come back as they were:

    str  bool  None  bytes  list  dict with str keys  date  UUID  set
    int             of up to 2 KB, about 4,900 digits
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

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import eq
from typing import Any, Final
from uuid import UUID

import msgpack

from sessioncache.errors import UnserializableError

from . import zstd
from .packable import PACKING_ERRORS, as_mapping, explain

FORMAT: Final = b"\x01"
"""First byte of a packed value: msgpack, with texts in UTF-8. Other values are for later formats."""

LENIENT_FORMAT: Final = b"\x02"
"""The same for a value of which a text has lone surrogates: they are encoded as if they were characters."""

ZSTD_FORMAT: Final = b"\x03"
"""The same for a zstd frame that holds a packed value, with a format byte of its own."""

_SURROGATES: Final[Mapping[bytes, str | None]] = {FORMAT: None, LENIENT_FORMAT: "surrogatepass"}
"""What becomes of lone surrogates, by the format. None is strict, and a third faster than to say so."""

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

MAX_INT_BYTES: Final = 2048
"""Longest int: Python writes no more than 4,300 digits, and reads more in quadratic time."""

_DATETIME, _DATE, _UUID, _DECIMAL, _SET, _INT = range(1, 7)

EMPTY_DICT: Final = FORMAT + b"\x80"
"""The packed form of {}."""


class CodecError(ValueError):
    """Bytes that are no packed value: the caller knows whose they are and says so."""


class TooLargeError(CodecError):
    """A value, or its packed form, of more bytes than are decoded."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes are over the limit of {MAX_PACKED_BYTES}")
        self.size = size


def pack(value: object, path: str) -> bytes:
    """Return the packed form of a value; `path` names it in the UnserializableError otherwise raised."""
    try:
        return _pack_checked(value)
    except PACKING_ERRORS as exc:
        raise UnserializableError(explain(value, path, exc, _pack_checked)) from exc


def _pack_checked(value: object) -> bytes:
    try:
        return _pack_as(FORMAT, value)
    except UnicodeEncodeError:
        return _pack_as(LENIENT_FORMAT, value)


def _pack_as(form: bytes, value: object) -> bytes:
    """Pack, and read back once: nothing is ever stored that cannot be loaded."""
    errors = _SURROGATES[form]
    packed: bytes = msgpack.packb(value, default=_EXTENDERS[form], unicode_errors=errors)
    _check_size(len(packed))
    _read_back(packed, _RESTORERS[form], errors)
    return form + packed


def _read_back(packed: bytes, hook: ExtHook, errors: str | None) -> None:
    """Raise what msgpack raises if it would not decode, or has bytes as a key: keys are only str."""
    limits = {"max_array_len": MAX_ITEMS, "max_map_len": MAX_ITEMS}
    try:  # below -1, which is no limit, not even b"" fits: the quick way for what holds no bytes
        msgpack.unpackb(packed, ext_hook=hook, raw=True, max_bin_len=-2, **limits)
    except ValueError:  # `join` gets each dict, and takes only keys that are str
        msgpack.unpackb(packed, ext_hook=hook, object_hook="".join, unicode_errors=errors, **limits)


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_PACKED_BYTES:
        raise TooLargeError(n_bytes)


def compressed(packed: bytes) -> bytes:
    """Return packed bytes compressed, if that is worth it."""
    if len(packed) < zstd.MIN_BYTES:
        return packed
    shorter = ZSTD_FORMAT + zstd.compress(packed)
    return shorter if len(shorter) <= zstd.WORTH * len(packed) else packed


def inner(packed: bytes) -> bytes:
    """Return packed bytes as they were before they were compressed; raise CodecError if they never were."""
    if packed[:1] != ZSTD_FORMAT:
        return packed
    try:
        return zstd.decompress(packed[1:], MAX_PACKED_BYTES + 1)
    except ValueError as exc:
        raise CodecError(str(exc)) from exc


def is_same(packed: bytes, stored: bytes | None) -> bool:
    """Return whether packed bytes are the stored ones, which may be compressed."""
    return packed == stored or (stored is not None and packed == inner(stored))


def unpack(packed: bytes) -> Any:
    """Return the value of packed bytes; raise CodecError for whatever is none."""
    form = packed[:1]
    if form == ZSTD_FORMAT:
        packed = inner(packed)
        form = packed[:1]
    if form not in _SURROGATES:
        raise CodecError(f"format {form.hex() or 'missing'} is unknown to this version")
    if len(packed) > MAX_PACKED_BYTES:
        _check_size(len(packed) - len(form))
    return _decode(packed[1:], _RESTORERS[form], _SURROGATES[form])


def unpack_dict(packed: bytes) -> dict[str, Any]:
    """Return the dict that packed bytes hold; raise CodecError for anything else."""
    value = unpack(packed)
    if not isinstance(value, dict):
        raise CodecError(f"a {type(value).__name__} instead of a dict")
    return value


def pack_pair(name: str, value: Mapping[str, Any], path: str) -> bytes:
    """Return the packed form of a name and the dict that belongs to it."""
    try:
        return _pack_checked((name, value))
    except PACKING_ERRORS as exc:
        raise UnserializableError(explain(value, path, exc, _pack_checked)) from exc


def unpack_pair(packed: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name and the dict that `pack_pair` packed; raise CodecError for anything else."""
    match unpack(packed):
        case [str(name), dict(value)]:
            return name, value
    raise CodecError("no pair of a name and a dict")


ExtHook = Callable[[int, bytes], Any]


def _decode(data: bytes, ext_hook: ExtHook, errors: str | None, *, use_list: bool = True) -> Any:
    try:
        if len(data) <= MAX_ITEMS:  # too small to have as many
            return msgpack.unpackb(data, ext_hook=ext_hook, use_list=use_list, unicode_errors=errors)
        limits = {"max_array_len": MAX_ITEMS, "max_map_len": MAX_ITEMS}
        return msgpack.unpackb(data, ext_hook=ext_hook, use_list=use_list, unicode_errors=errors, **limits)
    except CodecError:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError, msgpack.UnpackException) as exc:
        raise CodecError(f"not msgpack: {type(exc).__name__}") from exc


def _extend(value: Any, errors: str | None = None) -> Any:
    """Return what msgpack can pack in place of a value that it cannot."""
    if isinstance(value, set | frozenset):
        return msgpack.ExtType(_SET, _pack_set(value, errors))
    for kind, code, encode in _EXTENSIONS:
        if isinstance(value, kind):
            return msgpack.ExtType(code, encode(value))
    if not isinstance(value, Enum):
        return as_mapping(value)
    return value.value if isinstance(value.value, _NATIVE) else _extend(value.value, errors)


_NATIVE: Final = (str, int, float, bytes, bytearray, memoryview, list, tuple, dict, type(None))


def _pack_set(items: Collection[Any], errors: str | None) -> bytes:
    """Pack a set in one order, whatever its own: equal sets are equal bytes."""
    default = partial(_extend, errors=errors)
    packed = sorted(msgpack.packb(item, default=default, unicode_errors=errors) for item in items)
    header: bytes = msgpack.Packer().pack_array_header(len(packed))
    return header + b"".join(packed)


def _pack_int(value: int) -> bytes:
    """Pack what msgpack has no form for: in two's complement, the first byte that of the highest bits."""
    size = value.bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise CodecError(f"an int of {size} bytes")
    return int.to_bytes(value, size, "big", signed=True)


def _restore_int(data: bytes) -> int:
    value = int.from_bytes(data, "big", signed=True)
    if -(2**63) <= value < 2**64 or data != _pack_int(value):
        raise CodecError("an int in a form that it is never stored in")
    return value


_EXTENSIONS: Final[tuple[tuple[type[Any], int, Callable[[Any], bytes]], ...]] = (
    (datetime, _DATETIME, lambda value: datetime.isoformat(value).encode()),
    (date, _DATE, lambda value: date.isoformat(value).encode()),
    (UUID, _UUID, lambda value: value.bytes),
    (Decimal, _DECIMAL, lambda value: Decimal.__str__(value).encode()),
    (int, _INT, _pack_int),
)


def _restore(code: int, data: bytes, depth: int = 0, errors: str | None = None) -> Any:
    """Restore a value of a type that msgpack lacks, within so many sets."""
    if code == _SET:
        return _restore_set(data, depth + 1, errors)
    try:
        return _DECODERS[code](data)
    except KeyError:
        raise CodecError(f"extension type {code} is unknown to this version") from None


def _restore_set(data: bytes, depth: int, errors: str | None) -> AbstractSet[Any]:
    """Restore a set; within another one it is a frozenset, and lists are tuples, for they are hashed."""
    if depth > MAX_SET_DEPTH:
        raise CodecError(f"sets are nested more than {MAX_SET_DEPTH} deep")
    items = _decode(data, partial(_restore, depth=depth, errors=errors), errors, use_list=False)
    _check_hashes(items, MAX_SAME_HASH[depth - 1])
    return set(items) if depth == 1 else frozenset(items)


def _check_hashes(items: Collection[Any], most_of_one: int) -> None:
    """Refuse items that were chosen to clash: only the hashes of texts are salted."""
    if len(items) <= MAX_SET_NUMBERS and len(items) - len(set(map(hash, items))) < most_of_one:
        return  # the quick look, and mostly enough
    hashes = sorted(hash(item) for item in items if not isinstance(item, str | bytes))
    if len(hashes) > MAX_SET_NUMBERS or any(map(eq, hashes, hashes[most_of_one:])):
        raise CodecError("a set of too many items that are no text, or of too many of one hash")


_DECODERS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    _DATETIME: lambda data: datetime.fromisoformat(data.decode()),
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _INT: _restore_int,
}


_EXTENDERS: Final = {form: partial(_extend, errors=errors) for form, errors in _SURROGATES.items()}
_RESTORERS: Final[Mapping[bytes, ExtHook]] = {
    FORMAT: _restore,
    LENIENT_FORMAT: partial(_restore, errors=_SURROGATES[LENIENT_FORMAT]),
}
