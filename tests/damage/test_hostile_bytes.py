"""Bytes that somebody made to hurt: they decode, or are refused, in bounded time and memory."""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest

import sessioncache
from sessioncache import UnserializableError
from sessioncache.storage import codec

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 2**18
"""Bytes of each payload, a 256th of the largest that is decoded: what they cost grows with their size."""

MOST_MEMORY = 80
"""Bytes of memory for each byte that is decoded; 76 were measured, of empty sets."""

MOST_SECONDS = 5.0
"""A quarter of a megabyte takes some 0.05 s; traced, and on a busy machine, more."""

UUID, DECIMAL, SET = 3, 4, 5

SCRIPTS = sorted(Path(sessioncache.__file__).parent.rglob("*.lua"))


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
    "a set of colliding numbers": lambda: _set_of([number << 38 for number in range(SIZE // 9)]),
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


@pytest.mark.parametrize("name", PAYLOADS)
def test_decoding_is_bounded(name: str) -> None:
    """In memory and in time."""
    packed = PAYLOADS[name]()
    tracemalloc.start()
    started = time.process_time()
    try:
        with contextlib.suppress(codec.CodecError):
            codec.unpack(codec.FORMAT + packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert time.process_time() - started < MOST_SECONDS
    assert peak < MOST_MEMORY * max(len(packed), 2**16), f"{peak / len(packed):.0f} bytes a byte"


def _decimal(number: int) -> msgpack.ExtType:
    return msgpack.ExtType(DECIMAL, b"%d" % number)


def _frozenset(items: list[object]) -> msgpack.ExtType:
    return msgpack.ExtType(SET, msgpack.packb(items))


def _sets_in_sets() -> list[object]:
    """Return sets in sets in sets, those at each depth of one hash, as many as are taken."""

    def third(last: int) -> object:
        zeros = [[_decimal(0), _decimal(MODULUS * number)] for number in (1, 2 + last)]
        return _frozenset([_frozenset(items) for items in zeros])

    def second(last: int) -> object:
        return _frozenset([third(number) for number in (0, 1, 2, 3 + last)])

    return [second(last) for last in range(MOST_ALIKE)]


MODULUS = 2**61 - 1
"""Python's hash of a number is the number modulo this, and known to everyone."""

MOST_ALIKE = codec.MAX_SAME_HASH[0]

ALIKE: dict[str, Callable[[], list[object]]] = {
    "decimals": lambda: [_decimal(number * MODULUS) for number in range(8_000)],
    "uuids": lambda: [
        msgpack.ExtType(UUID, (number * MODULUS).to_bytes(16, "big")) for number in range(8_000)
    ],
    "tuples": lambda: list(itertools.product((-1, -2), repeat=13)),  # -1 and -2 have one hash
    "frozensets": lambda: [
        _frozenset([_decimal(number * MODULUS), _decimal(number * MODULUS + MODULUS)])
        for number in range(4_000)
    ],
}
"""Many items of one hash: in a set each is compared with all before it."""


@pytest.mark.parametrize("kind", ALIKE)
def test_many_items_of_one_hash_are_refused(kind: str) -> None:
    packed = _set_of(ALIKE[kind]())
    assert len(packed) < SIZE
    started = time.process_time()
    with pytest.raises(codec.CodecError, match="one hash"):
        codec.unpack(codec.FORMAT + packed)

    assert time.process_time() - started < MOST_SECONDS / 10


@pytest.mark.parametrize("kind", ALIKE)
def test_a_few_items_of_one_hash_come_back(kind: str) -> None:
    packed = codec.FORMAT + _set_of(ALIKE[kind]()[:MOST_ALIKE])

    assert len(codec.unpack(packed)) == MOST_ALIKE
    assert codec.pack(codec.unpack(packed), "v")


def test_a_few_of_one_hash_at_every_depth() -> None:
    one = _set_of(_sets_in_sets())
    packed = b"\xdd" + struct.pack(">I", SIZE // len(one)) + one * (SIZE // len(one))
    started = time.process_time()
    decoded = codec.unpack(codec.FORMAT + packed)

    assert time.process_time() - started < MOST_SECONDS
    assert len(decoded[0]) == MOST_ALIKE


def test_a_set_of_texts_may_have_more_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(codec, "MAX_SET_NUMBERS", 100)
    numbers, texts = set(range(101)), {f"{number}" for number in range(101)}

    assert codec.unpack(codec.pack(texts, "v")) == texts
    with pytest.raises(UnserializableError, match="too many items"):
        codec.pack(numbers, "v")
    with pytest.raises(codec.CodecError, match="too many items"):
        codec.unpack(codec.FORMAT + _set_of(list(numbers)))


def test_a_value_over_the_cap_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_PACKED_BYTES", 50)

    with pytest.raises(codec.CodecError, match="over the limit"):
        codec.unpack(codec.FORMAT + b"\xc1" * 51)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_runs_or_parses_a_payload(path: Path) -> None:
    words = ("loadstring", "load(", "dofile", "cmsgpack", "cjson", "struct.unpack", "_G", "setfenv")

    assert not [word for word in words if word in path.read_text()]
