"""Values to bytes and back."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import struct
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import MagicMock
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessioncache import UnserializableError
from sessioncache.storage import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

SMALLEST, LARGEST = -(2**63), 2**63 - 1
LONGEST = 2 ** (8 * codec.MAX_INT_BYTES - 1) - 1


def offsets() -> SearchStrategy[timezone]:
    """Draw time zones, odd ones too."""
    return st.builds(
        timezone,
        st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).filter(lambda t: not t.microseconds),
    )


def hashable() -> SearchStrategy[Any]:
    """Draw what a set can hold."""
    plain = (
        st.none()
        | st.booleans()
        | st.integers(SMALLEST, LARGEST)
        | st.integers(-(2**200), 2**200)
        | st.floats(allow_nan=False)
        | st.text(max_size=8)
        | st.binary(max_size=8)
        | st.datetimes()
        | st.datetimes(timezones=offsets())
        | st.dates()
        | st.uuids()
        | st.decimals(allow_nan=False)
    )
    return plain | st.tuples(plain, plain) | st.frozensets(plain, max_size=2)


def values() -> SearchStrategy[Any]:
    """Draw what is equal to itself after a trip through bytes."""
    leaves = hashable().filter(lambda item: not isinstance(item, tuple | frozenset)) | st.sets(
        hashable(), max_size=3
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=12,
    )


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Name(str, Enum):  # noqa: UP042 - as users write it
    ADA = "ada"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    where: Any = None


class Pair(NamedTuple):
    left: int
    right: int


class Text(str):
    __slots__ = ()


class Moment(datetime):
    pass


class Day(date):
    pass


class Amount(Decimal):
    def __str__(self) -> str:
        return f"{super().__str__()} EUR"


class Key(UUID):
    pass


class Price(Decimal, Enum):
    LOW = Decimal("0.10")


class Holder(Enum):
    """An enum may hold anything."""

    MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
    DAY = date(2026, 1, 1)
    KEY = UUID(int=7)
    AMOUNT = Decimal("0.10")
    TAGS = frozenset({"a", "b"})
    ENUM = Color.RED
    LIST = [{"at": UUID(int=7)}]  # noqa: RUF012 - it is the value of a member
    POINT = Point(1)
    BYTES = b"ab"
    BAD = [1, object()]  # noqa: RUF012 - it is the value of a member


class WinterTime(tzinfo):
    """A zone whose clocks go back: the second of two equal hours is an hour nearer to UTC."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1 if moment and moment.fold else 2)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


class HasToDict:
    def to_dict(self) -> dict[str, Any]:
        return {"kind": "to_dict", "at": date(2026, 1, 1)}


class HasModelDump:
    def model_dump(self) -> dict[str, Any]:
        return {"kind": "model_dump"}


def nested(depth: int) -> Any:
    """A list so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def nested_sets(depth: int) -> Any:
    """A frozenset so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = frozenset([value])
    return value


# there and back


@given(value=values())
def test_whatever_packs_unpacks_equal(value: Any) -> None:
    unpacked = codec.unpack(codec.pack(value, "value"))

    assert unpacked == value
    assert type(unpacked) is type(value)


@given(value=values())
def test_a_value_that_was_unpacked_packs_into_the_same_bytes(value: Any) -> None:
    packed = codec.pack(value, "value")

    assert codec.pack(codec.unpack(packed), "value") == packed


@given(items=st.lists(hashable(), max_size=6, unique=True))
def test_equal_sets_are_equal_bytes_in_whatever_order_they_were_built(items: list[Any]) -> None:
    forwards, backwards = set(items), set(items)
    for item in (1, 2, 3):  # a set that was larger once may have another order
        backwards |= {("filler", item)}
    backwards = {item for item in backwards if not (isinstance(item, tuple) and item[0] == "filler")}

    assert codec.pack(forwards, "value") == codec.pack(backwards, "value")


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        pytest.param((1, (2, "x")), [1, [2, "x"]], id="tuple"),
        pytest.param(Pair(1, 2), [1, 2], id="namedtuple"),
        pytest.param(Color.RED, "red", id="enum"),
        pytest.param([Color.RED, {"c": Color.RED}], ["red", {"c": "red"}], id="nested enum"),
        pytest.param({Color.RED}, {"red"}, id="enum in a set"),
        pytest.param(Level.HIGH, 3, id="int enum"),
        pytest.param(Name.ADA, "ada", id="str enum"),
        pytest.param(Point(1), {"x": 1, "where": None}, id="dataclass"),
        pytest.param(
            [Point(1, Point(2))], [{"x": 1, "where": {"x": 2, "where": None}}], id="nested dataclass"
        ),
        pytest.param(HasToDict(), {"kind": "to_dict", "at": date(2026, 1, 1)}, id="to_dict"),
        pytest.param({"m": HasModelDump()}, {"m": {"kind": "model_dump"}}, id="model_dump"),
        *(
            pytest.param([member], [value], id=f"enum of a {type(value).__name__}")
            for member, value in [
                (Holder.MOMENT, datetime(2026, 1, 1, tzinfo=UTC)),
                (Holder.DAY, date(2026, 1, 1)),
                (Holder.KEY, UUID(int=7)),
                (Holder.AMOUNT, Decimal("0.10")),
                (Holder.TAGS, {"a", "b"}),
                (Holder.ENUM, "red"),
                (Holder.LIST, [{"at": UUID(int=7)}]),
                (Holder.POINT, {"x": 1, "where": None}),
                (Holder.BYTES, b"ab"),
            ]
        ),
        pytest.param({Holder.TAGS}, {frozenset({"a", "b"})}, id="enum of a set in a set"),
        pytest.param(Price.LOW, Decimal("0.10"), id="decimal enum"),
        pytest.param({Name.ADA: {Name.ADA: Name.ADA}}, {"ada": {"ada": "ada"}}, id="str enum as key"),
        pytest.param({Color.RED: 1}, {"red": 1}, id="enum as key"),
        pytest.param(Text("x"), "x", id="str subclass"),
        pytest.param(
            Moment(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), id="datetime subclass"
        ),
        pytest.param(Day(2026, 1, 1), date(2026, 1, 1), id="date subclass"),
        pytest.param(Amount("1.50"), Decimal("1.50"), id="Decimal subclass"),
        pytest.param(Key(int=7), UUID(int=7), id="UUID subclass"),
        pytest.param(memoryview(b"ab"), b"ab", id="memoryview"),
        pytest.param(memoryview(b"abcd").cast("H"), b"abcd", id="memoryview of numbers"),
        pytest.param(set(), set(), id="empty set"),
        pytest.param(frozenset(), set(), id="empty frozenset"),
        pytest.param(b"", b"", id="no bytes"),
        pytest.param({"": [b"", b"ab"]}, {"": [b"", b"ab"]}, id="bytes beside an empty key"),
        pytest.param(OrderedDict(b=1, a=2), {"b": 1, "a": 2}, id="dict subclass"),
        pytest.param(bytearray(b"ab"), b"ab", id="bytearray"),
        pytest.param(frozenset({1}), {1}, id="frozenset"),
        pytest.param({(1, frozenset({2}))}, {(1, frozenset({2}))}, id="tuple and frozenset in a set"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), id="aware datetime"),
        pytest.param(float("-inf"), float("-inf"), id="infinity"),
        pytest.param(LARGEST, LARGEST, id="largest int"),
        pytest.param(2**64 - 1, 2**64 - 1, id="largest unsigned int"),
        pytest.param(SMALLEST, SMALLEST, id="smallest int"),
        pytest.param(10**20, 10**20, id="int over 64 bits"),
        pytest.param([-(2**71), 2**71], [-(2**71), 2**71], id="ints of a full first byte"),
        pytest.param({(10**20,)}, {(10**20,)}, id="int over 64 bits in a set"),
        pytest.param(LONGEST, LONGEST, id="longest int"),
        pytest.param("a\ud800\udfff", "a\ud800\udfff", id="lone surrogates"),
        pytest.param({"\ud800": [{"\udfff"}]}, {"\ud800": [{"\udfff"}]}, id="and in keys and sets"),
    ],
)
def test_a_value_comes_back_as_documented(value: Any, comes_back: Any) -> None:
    unpacked = codec.unpack(codec.pack(value, "value"))

    assert unpacked == comes_back
    assert type(unpacked) is type(comes_back)


def test_a_datetime_without_a_zone_stays_without_one() -> None:
    naive = datetime(2026, 2, 3, 4, 5, 6, 789)  # noqa: DTZ001 - naive on purpose

    assert codec.unpack(codec.pack(naive, "value")).tzinfo is None


def test_a_datetime_keeps_the_offset_it_was_written_with() -> None:
    zone = timezone(timedelta(hours=5, minutes=45, seconds=7))
    unpacked = codec.unpack(codec.pack(datetime(2026, 1, 1, tzinfo=zone), "value"))

    assert unpacked.utcoffset() == zone.utcoffset(None)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_datetime_of_a_zone_keeps_the_moment_and_not_the_zone(fold: int) -> None:
    local = datetime(2026, 10, 25, 2, 30, tzinfo=WinterTime(), fold=fold)
    unpacked = codec.unpack(codec.pack(local, "value"))

    assert unpacked.tzinfo == timezone(timedelta(hours=2 - fold))
    assert (unpacked.timestamp(), unpacked.fold) == (local.timestamp(), 0)


def test_a_datetime_without_a_zone_comes_back_equal_and_without_its_fold() -> None:
    naive = datetime(2026, 10, 25, 2, 30, fold=1)  # noqa: DTZ001 - naive on purpose
    unpacked = codec.unpack(codec.pack(naive, "value"))

    assert (unpacked, unpacked.fold) == (naive, 0)


def test_a_float_that_is_no_number_comes_back_as_such() -> None:
    assert math.isnan(codec.unpack(codec.pack(math.nan, "value")))


@pytest.mark.parametrize("value", [-0.0, 5e-324, -math.inf])
def test_a_float_comes_back_to_the_bit(value: float) -> None:
    assert struct.pack(">d", codec.unpack(codec.pack(value, "value"))) == struct.pack(">d", value)


@pytest.mark.parametrize("text", ["NaN", "NaN123", "sNaN", "-sNaN9", "-Infinity", "1E-999", "0.10", "-0"])
def test_a_decimal_comes_back_to_the_digit(text: str) -> None:
    assert str(codec.unpack(codec.pack(Decimal(text), "value"))) == text


def test_a_dict_keeps_the_order_of_its_keys() -> None:
    assert list(codec.unpack(codec.pack({"b": 1, "a": 2}, "value"))) == ["b", "a"]


@given(name=st.text(max_size=20), body=st.dictionaries(st.text(max_size=5), values(), max_size=3))
def test_a_pair_comes_back_as_the_name_and_the_dict(name: str, body: dict[str, Any]) -> None:
    assert codec.unpack_pair(codec.pack_pair(name, body, "run")) == (name, body)


def test_the_empty_dict_has_the_bytes_that_stand_for_it() -> None:
    assert codec.pack({}, "value") == codec.EMPTY_DICT


# bytes that are no packed value


@given(data=st.binary(max_size=80))
@example(data=b"")
@example(data=b"\xc1")
@example(data=b"\xdd\xff\xff\xff\xff")
def test_whatever_bytes_come_in_decode_or_are_a_codec_error(data: bytes) -> None:
    for payload in (data, codec.FORMAT + data):
        for decode in (codec.unpack, codec.unpack_dict, codec.unpack_pair):
            _decode_or_refuse(decode, payload)


@given(code=st.integers(0, 127), data=st.binary(max_size=24) | values().map(lambda v: codec.pack(v, "v")[1:]))
def test_whatever_an_extension_holds_decodes_or_is_a_codec_error(code: int, data: bytes) -> None:
    extension = msgpack.packb(msgpack.ExtType(code, data))

    for payload in (extension, b"\x91" + extension, msgpack.packb(msgpack.ExtType(5, b"\x91" + extension))):
        _decode_or_refuse(codec.unpack, codec.FORMAT + payload)


@given(value=values(), data=st.data())
def test_a_packed_value_with_bytes_changed_decodes_or_is_a_codec_error(
    value: Any, data: st.DataObject
) -> None:
    packed = bytearray(codec.pack(value, "value"))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    _decode_or_refuse(codec.unpack, bytes(packed[: data.draw(st.integers(0, len(packed)))]))


def _decode_or_refuse(decode: Callable[[bytes], Any], payload: bytes) -> None:
    with contextlib.suppress(codec.CodecError):
        decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x03\xc0", id="a later format"),
        pytest.param(codec.FORMAT, id="only the format"),
        pytest.param(codec.FORMAT + b"\xc0\xc0", id="two values"),
        pytest.param(codec.FORMAT + b"\xa5abc", id="cut short"),
        pytest.param(codec.FORMAT + b"\xc1", id="a byte that msgpack never uses"),
        pytest.param(codec.FORMAT + b"\xa1\xff", id="text that is not UTF-8"),
        pytest.param(codec.FORMAT + b"\x81\x01\x01", id="an int key"),
        pytest.param(codec.FORMAT + b"\xd4\x63\x00", id="an unknown extension"),
        pytest.param(codec.FORMAT + b"\xdd\xff\xff\xff\xff", id="a list of four billion"),
        pytest.param(codec.FORMAT + b"\xd5\x05\x91\x80", id="a set of a dict"),
        pytest.param(codec.FORMAT + b"\x91" * 2000 + b"\x00", id="lists 2000 deep"),
    ],
)
def test_bytes_that_no_version_packed_are_refused(payload: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.unpack(payload)


@pytest.mark.parametrize("value", [[], "x", None, 1, [1, {}], ["a", {}, {}], ["a", []]])
def test_something_else_than_a_pair_is_refused_as_a_pair(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.unpack_pair(codec.pack(value, "value"))


@pytest.mark.parametrize("value", [[], "x", None, 1])
def test_something_else_than_a_dict_is_refused_as_a_dict(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.unpack_dict(codec.pack(value, "value"))


def test_a_value_over_the_limit_of_size_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = codec.pack("x" * 100, "value")
    monkeypatch.setattr(codec, "MAX_PACKED_BYTES", 50)

    with pytest.raises(codec.CodecError, match="over the limit"):
        codec.unpack(packed)


def test_bytes_as_keys_that_an_older_version_stored_are_read() -> None:
    assert codec.unpack(codec.FORMAT + msgpack.packb({b"k": {b"": 1}})) == {b"k": {b"": 1}}


def test_a_set_of_two_lists_so_deep_that_comparing_them_may_overflow_is_a_set_or_refused() -> None:
    """How deep Python can compare is another matter from 3.12 on."""
    deep = b"\x91" * 1010 + b"\xc0"
    packed = msgpack.packb(msgpack.ExtType(5, b"\x92" + deep + deep))

    try:
        found = codec.unpack(codec.FORMAT + packed)
    except codec.CodecError:
        return
    assert len(found) == 1


CRASHES = """
import msgpack
from sessioncache.storage import codec
packed = msgpack.packb([])
for _ in range({depth}):
    packed = msgpack.packb([msgpack.ExtType(5, packed)])
try:
    codec.unpack(codec.FORMAT + packed)
except codec.CodecError:
    pass
"""


@pytest.mark.parametrize("depth", [100, 400, 3000])
def test_sets_in_sets_however_deep_end_no_process(depth: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES.format(depth=depth)], capture_output=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"")


# values that do not pack


class Unpackable:
    """Nothing knows how to pack this."""


class WrongItems(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("hunter2")


class WrongItemsAndKeys(WrongItems):
    def __iter__(self) -> Any:
        raise RuntimeError("hunter2")


class WrongRepr(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("hunter2")


class OthersError(Exception):
    """An error of somebody else's."""


class Refuses:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def to_dict(self) -> dict[str, Any]:
        raise self.error


class RefusesToDump:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def model_dump(self) -> dict[str, Any]:
        raise self.error


class RefusesToBeCopied:
    def __deepcopy__(self, memo: Any) -> Any:
        raise self.error

    def __init__(self, error: Exception) -> None:
        self.error = error


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(
            {"metadata": {"x": [0, 1, 2, Unpackable()]}}, ["run.metadata['x'][3] ", "Unpackable"], id="deep"
        ),
        pytest.param({"input": Unpackable()}, ["run.input ", "Unpackable"], id="at the top"),
        pytest.param({"input": (1, Unpackable())}, ["run.input[1] ", "Unpackable"], id="in a tuple"),
        pytest.param({"input": {"é\n": Unpackable()}}, ["run.input['é\\n'] ", "Unpackable"], id="odd key"),
        pytest.param({"input": time(1)}, ["run.input ", "datetime.time"], id="a time of day"),
        pytest.param({"input": 1 + 2j}, ["run.input ", "complex"], id="complex"),
        pytest.param({"input": Point}, ["run.input ", "type"], id="a class"),
        pytest.param({"input": MagicMock()}, ["run.input ", "MagicMock"], id="a mock"),
        pytest.param({"input": iter([])}, ["run.input ", "list_iterator"], id="an iterator"),
        pytest.param({"metadata": {"x": {1: 2}}}, ["run.metadata['x'] ", "int"], id="int keys"),
        pytest.param({"metadata": {"x": {None: 2}}}, ["run.metadata['x'] ", "NoneType"], id="None as key"),
        pytest.param({"metadata": {"x": {(1, 2): 2}}}, ["run.metadata['x'] ", "tuple"], id="tuple as key"),
        pytest.param({"metadata": {"x": {b"k": 2}}}, ["run.metadata['x'] ", "not bytes"], id="bytes as key"),
        pytest.param({"metadata": {"x": {b"": 2}}}, ["run.metadata['x'] ", "not bytes"], id="b'' as key"),
        pytest.param({"input": [b"ab", {b"k": 2}]}, ["run.input[1] ", "not bytes"], id="bytes too"),
        pytest.param({"input": {Level.HIGH: 2}}, ["run.input ", "not Level"], id="an int enum as key"),
        pytest.param(
            {"input": {Name.ADA: Unpackable()}}, ["run.input['ada'] ", "Unpackable"], id="a str enum as key"
        ),
        pytest.param({Name.ADA: Unpackable()}, ["run.ada ", "Unpackable"], id="a str enum as field"),
        pytest.param({"input": {WrongRepr("k"): Unpackable()}}, ["run.input['k'] "], id="a key without repr"),
        pytest.param({"input": memoryview(b"abcd")[::2]}, ["run.input ", "not contiguous"], id="strided"),
        pytest.param({"input": Holder.BAD}, ["run.input[1] ", "object"], id="enum of a bad list"),
        pytest.param({"input": WrongItems(x=1)}, ["run.input "], id="items() raises"),
        pytest.param({"input": WrongItemsAndKeys(x=1)}, ["run.input "], id="all of a dict raises"),
        pytest.param({"metadata": [10**5000]}, ["run.metadata[0] ", "too long"], id="int of 5000 digits"),
        pytest.param({"metadata": cyclic()}, ["run.metadata[1]['again'][1]", "holds itself"], id="cyclic"),
        pytest.param({"metadata": nested(2000)}, ["run.metadata[0][0]", "too deeply"], id="2000 deep"),
        pytest.param({"metadata": {"x": {Unpackable()}}}, ["run.metadata['x']"], id="in a set"),
        pytest.param({"metadata": {"x": {10**5000}}}, ["run.metadata['x']", "too long"], id="and in a set"),
        pytest.param(
            {"metadata": Point(1, Unpackable())},
            ["Unpackable"],
            id="the reason in a dataclass",
        ),
    ],
)
def test_the_error_names_the_path_and_what_is_wrong_there(value: Any, words: list[str]) -> None:
    with pytest.raises(UnserializableError) as caught:
        codec.pack(value, "run")

    message = str(caught.value)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("error", [OthersError("hunter2"), KeyError("hunter2"), RecursionError("hunter2")])
@pytest.mark.parametrize(
    ("build", "method"),
    [
        pytest.param(Refuses, "to_dict()", id="to_dict"),
        pytest.param(RefusesToDump, "model_dump()", id="model_dump"),
        pytest.param(lambda error: Point(1, RefusesToBeCopied(error)), "asdict()", id="dataclass"),
    ],
)
def test_whatever_a_method_of_a_value_raises_is_chained_and_not_repeated(
    build: Callable[[Exception], Any], method: str, error: Exception
) -> None:
    with pytest.raises(UnserializableError) as caught:
        codec.pack({"metadata": {"x": [build(error)]}}, "run")

    assert str(caught.value) == (
        f"run.metadata['x'][0] cannot be stored: its {method} raised {type(error).__name__}"
    )
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__cause__ is error


def test_the_error_of_a_cyclic_value_is_short() -> None:
    with pytest.raises(UnserializableError) as caught:
        codec.pack(cyclic(), "run")

    assert len(str(caught.value)) < 400


def test_the_error_of_a_secret_does_not_repeat_the_value() -> None:
    with pytest.raises(UnserializableError) as caught:
        codec.pack({"metadata": {"x": memoryview(b"hunter2" * 2)[::2]}}, "run")

    assert "hunter2" not in str(caught.value)


def test_a_list_of_more_items_than_are_read_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ITEMS", 10)

    with pytest.raises(UnserializableError):
        codec.pack({"x": [0] * 11}, "run")


def test_a_value_of_more_bytes_than_are_read_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_PACKED_BYTES", 50)

    with pytest.raises(UnserializableError):
        codec.pack({"x": "x" * 100}, "run")


def test_a_value_of_as_many_bytes_as_are_read_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_PACKED_BYTES", len(msgpack.packb({"x": "x" * 100})))

    assert codec.unpack(codec.pack({"x": "x" * 100}, "run")) == {"x": "x" * 100}


def test_packing_sets_in_sets_packs_each_of_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []
    pack_set = codec._pack_set
    monkeypatch.setattr(codec, "_pack_set", lambda *given: packed.append(given) or pack_set(*given))

    codec.pack(nested_sets(codec.MAX_SET_DEPTH), "value")

    assert len(packed) == codec.MAX_SET_DEPTH


def test_sets_nested_too_deeply_are_refused() -> None:
    with pytest.raises(UnserializableError):
        codec.pack(nested_sets(codec.MAX_SET_DEPTH + 1), "value")


def test_a_uuid_comes_back_as_a_uuid() -> None:
    assert codec.unpack(codec.pack(UUID(int=5), "value")) == UUID(int=5)
