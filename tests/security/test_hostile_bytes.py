"""Bytes that somebody made to hurt: they decode, or are refused, in bounded time and memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import msgpack
import pytest

from sessioncache import codec

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 2**18
"""Bytes of each payload, a 256th of the largest that is decoded: what they cost grows with their size."""

MOST_MEMORY = 80
"""Bytes of memory for each byte that is decoded; 76 were measured, of empty sets."""

MOST_SECONDS = 5.0
"""A quarter of a megabyte takes some 0.05 s; traced, and on a busy machine, more."""

DECIMAL, SET = 4, 5


def _array(item: bytes) -> bytes:
    """Return nested arrays that hold as many of these items as there is room for."""
    per_list = 2**16 - 1
    full = b"\xdc" + struct.pack(">H", per_list) + item * per_list
    lists = max(1, SIZE // len(full))
    return b"\xdd" + struct.pack(">I", lists) + full * lists


def _set_of(items: list[object]) -> bytes:
    packed = msgpack.packb(items)
    return msgpack.packb(msgpack.ExtType(SET, packed))


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "empty lists": lambda: _array(b"\x90"),
    "empty dicts": lambda: _array(b"\x80"),
    "empty strings": lambda: _array(b"\xa0"),
    "lists of one": lambda: _array(b"\x91\x90"),
    "dicts of one": lambda: _array(b"\x81\xa1a\x80"),
    "numbers": lambda: _array(b"\xcb" + struct.pack(">d", 1.5)),
    "empty sets": lambda: _array(b"\xd4\x05\x90"),
    "decimals": lambda: _array(b"\xd4\x041"),
    "one string": lambda: b"\xdb" + struct.pack(">I", SIZE) + b"x" * SIZE,
    "one decimal": lambda: msgpack.packb(msgpack.ExtType(DECIMAL, b"9" * SIZE)),
    "one huge exponent": lambda: _set_of([msgpack.ExtType(DECIMAL, b"1e999999999")] * 1000),
    "a set of numbers": lambda: _set_of(list(range(2**31, 2**31 + SIZE // 5))),
    "a set of colliding numbers": lambda: _set_of([number << 40 for number in range(2**20)])[:SIZE],
    "a dict of many keys": lambda: msgpack.packb({f"{number:06}": None for number in range(SIZE // 8)}),
    "deep lists": lambda: b"\x91" * SIZE,
    "deep dicts": lambda: b"\x81\xa1a" * (SIZE // 3),
    "deep sets": lambda: _nested_sets(2**14),
    "a length without content": lambda: b"\xdd\xff\xff\xff\xff",
    "a long length without content": lambda: b"\xdd" + struct.pack(">I", codec.MAX_ITEMS),
    "a dict's length without content": lambda: b"\xdf" + struct.pack(">I", codec.MAX_ITEMS),
    "a string's length without content": lambda: b"\xdb\xff\xff\xff\xff",
}


def _nested_sets(size: int) -> bytes:
    packed = b"\x90"
    while len(packed) < size:
        packed = msgpack.packb([msgpack.ExtType(SET, packed)])
    return packed


def _decode(packed: bytes) -> None:
    """Decode: it works, or it is our error."""
    try:
        codec.unpack(codec.FORMAT + packed)
    except codec.CodecError:
        return


@pytest.mark.parametrize("name", PAYLOADS)
def test_decoding_takes_bounded_memory(name: str) -> None:
    packed = PAYLOADS[name]()
    tracemalloc.start()
    try:
        _decode(packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < MOST_MEMORY * max(len(packed), 2**16), f"{peak / len(packed):.0f} bytes a byte"


@pytest.mark.parametrize("name", PAYLOADS)
def test_decoding_takes_bounded_time(name: str) -> None:
    packed = PAYLOADS[name]()
    started = time.perf_counter()
    _decode(packed)

    assert time.perf_counter() - started < MOST_SECONDS


@pytest.mark.xfail(reason="decimals of one hash make a set's decoding quadratic", strict=True)
def test_a_set_of_decimals_of_one_hash_takes_bounded_time() -> None:
    """Python's hash of a number is the number modulo 2**61 - 1, and known to everyone."""
    packed = _set_of([msgpack.ExtType(DECIMAL, b"%d" % (number * (2**61 - 1))) for number in range(8_000)])
    assert len(packed) < SIZE
    started = time.perf_counter()
    _decode(packed)

    assert time.perf_counter() - started < MOST_SECONDS / 10


def test_a_value_over_the_cap_is_refused_without_a_look_at_it() -> None:
    packed = codec.FORMAT + bytes(codec.MAX_PACKED_BYTES + 1)
    tracemalloc.start()
    try:
        with pytest.raises(codec.CodecError, match="over the limit"):
            codec.unpack(packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 2**16
