"""A session's record as the fields of a hash, and back."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncache import DamagedSessionError, InvalidArgumentError, UnserializableError, WorkflowSession
from sessioncache.storage import codec, session_hash
from sessioncache.storage.adapters import WORKFLOWS
from strategies import workflow_sessions

MODEL = WORKFLOWS
NAMES = {*MODEL.names, "anything", "x"}


def stored(record: dict[str, Any]) -> dict[bytes, bytes]:
    """The hash of a record, with what the scripts add."""
    return session_hash.to_fields(record) | {b"schema": session_hash.SCHEMA, b"updated_at": b"1700000000"}


def there_and_back(record: dict[str, Any]) -> dict[str, Any]:
    return session_hash.from_fields(stored(record), "s", NAMES)


@given(session=workflow_sessions(max_runs=1))
def test_a_session_comes_back_equal(session: WorkflowSession) -> None:
    session.runs, session.updated_at = [], 1700000000

    assert MODEL.session_class(**there_and_back(MODEL.to_dict(session)), runs=[]) == session


@pytest.mark.parametrize(
    ("data", "comes_back"),
    [
        pytest.param({}, {}, id="empty"),
        pytest.param({"session_state": {}}, {"session_state": {}}, id="empty state"),
        pytest.param({"session_state": None}, {"session_state": None}, id="no state"),
        pytest.param({"session_state": [1]}, {"session_state": [1]}, id="a state that is no dict"),
        pytest.param({"session_state": {"": 1}}, {"session_state": {"": 1}}, id="empty key"),
        pytest.param({"session_state": {"a.b": 1}}, {"session_state": {"a.b": 1}}, id="dot in a key"),
        pytest.param({"a.b": 1, ".": 2, "": 3}, {"a.b": 1, ".": 2, "": 3}, id="dots in keys"),
        pytest.param({"é\x00\n": None}, {"é\x00\n": None}, id="odd key"),
        pytest.param({"rev": 1, "count": 2}, {"rev": 1, "count": 2}, id="keys named as control fields"),
    ],
)
def test_session_data_comes_back_key_by_key(data: dict[str, Any], comes_back: dict[str, Any]) -> None:
    assert there_and_back({"session_id": "s", "session_data": data})["session_data"] == comes_back


@pytest.mark.parametrize("value", [None, [], [1], "text", 0])
def test_a_section_that_is_no_dict_comes_back_as_it_is(value: Any) -> None:
    assert there_and_back({"session_id": "s", "metadata": value})["metadata"] == value


def test_each_key_of_a_dict_is_a_field_of_its_own() -> None:
    data = {"session_name": "n", "session_state": {"k": 1}}
    written = session_hash.to_fields({"session_id": "s", "session_data": data, "metadata": {"a": [2]}})

    assert written == {
        b"session_id": b"s",
        b"session_data": codec.EMPTY_DICT,
        b"session_data.session_name": codec.pack("n", "v"),
        b"session_state": codec.EMPTY_DICT,
        b"session_state.k": codec.pack(1, "v"),
        b"metadata": codec.EMPTY_DICT,
        b"metadata.a": codec.pack([2], "v"),
    }


class Topic(str, Enum):  # noqa: UP042 - as users write it
    STATE = "session_state"
    MOOD = "mood"


class PlainTopic(Enum):
    STATE = "session_state"
    MOOD = "mood"


@pytest.mark.parametrize("topic", [Topic, PlainTopic])
def test_an_enum_as_key_is_its_value_at_every_depth(topic: Any) -> None:
    nested = {topic.MOOD: {topic.MOOD: 1}}
    written = session_hash.to_fields(
        {"session_id": "s", "session_data": {topic.STATE: nested, topic.MOOD: nested}, "metadata": nested}
    )

    assert written == session_hash.to_fields(
        {
            "session_id": "s",
            "session_data": {"session_state": {"mood": {"mood": 1}}, "mood": {"mood": {"mood": 1}}},
            "metadata": {"mood": {"mood": 1}},
        }
    )


def test_a_value_under_a_str_enum_is_named_by_the_value() -> None:
    with pytest.raises(UnserializableError, match=r"^session\.metadata\['mood'\] "):
        session_hash.to_fields({"session_id": "s", "metadata": {Topic.MOOD: object()}})


def test_no_field_of_a_session_is_taken_for_a_control_field() -> None:
    hostile = {name.decode(): {name.decode(): 1} for name in session_hash.CONTROL_FIELDS}
    written = session_hash.to_fields({"session_id": "s", "metadata": hostile, "session_data": hostile})

    assert written.keys().isdisjoint(session_hash.CONTROL_FIELDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"metadata.x", b""),
        (b"metadata.x", b"\x03\xc0"),
        (b"metadata.x", b"\x01\xc1"),
        (b"metadata", b"\x01\xa5"),
        (b"created_at", b"soon"),
        (b"updated_at", b"1.5"),
        (b"user_id", b"\xff"),
        (b"\xff", b"\x01\xc0"),
    ],
)
def test_a_field_that_does_not_decode_is_damage_that_names_the_field(name: bytes, value: bytes) -> None:
    with pytest.raises(DamagedSessionError) as caught:
        session_hash.from_fields(stored({"session_id": "s"}) | {name: value}, "s", NAMES)

    assert repr(name) in str(caught.value)


@given(
    hash_fields=st.dictionaries(
        st.sampled_from(
            [b"session_id", b"user_id", b"created_at", b"metadata", b"metadata.x", b"workflow_data"]
        )
        | st.binary(max_size=12),
        st.binary(max_size=12) | st.binary(max_size=12).map(lambda data: codec.FORMAT + data),
        max_size=4,
    )
)
def test_whatever_a_hash_holds_is_read_or_is_damage(hash_fields: dict[bytes, bytes]) -> None:
    try:
        record = session_hash.from_fields(hash_fields | {b"schema": session_hash.SCHEMA}, "s", NAMES)
    except DamagedSessionError:
        return

    assert b"schema" not in record


@pytest.mark.parametrize("not_a_dict", [None, [1], "text"])
def test_a_state_beside_session_data_that_is_no_dict_is_read_or_is_damage(not_a_dict: Any) -> None:
    """One worker sets session_data to None while another sets a key of the state: both are stored."""
    both = stored({"session_id": "s", "session_data": not_a_dict}) | {
        b"session_state": codec.EMPTY_DICT,
        b"session_state.k": codec.pack(1, "v"),
    }

    try:
        record = session_hash.from_fields(both, "s", NAMES)
    except DamagedSessionError:
        return

    assert record["session_data"] == {"session_state": {"k": 1}}


@pytest.mark.parametrize(
    "value",
    [-1, -0.5, 2**33, 1_700_000_000_000, math.nan, math.inf, -math.inf, True, "1700000000", b"1", [], {}],
)
def test_what_is_no_time_in_unix_seconds_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"run\.created_at"):
        session_hash.unix_seconds(value, "run.created_at")


def test_a_time_in_milliseconds_is_recognised_as_such() -> None:
    with pytest.raises(InvalidArgumentError, match="milliseconds"):
        session_hash.unix_seconds(1_700_000_000_000, "run.created_at")


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0), (0.99, 0), (1_700_000_000.5, 1_700_000_000), (2**33 - 1, 2**33 - 1)]
)
def test_a_time_is_whole_seconds(value: float, seconds: int) -> None:
    assert session_hash.unix_seconds(value, "t") == seconds


@pytest.mark.parametrize("key", [1, None, (1,), b"k", 1.5])
@pytest.mark.parametrize("section", ["metadata", "workflow_data", "session_data"])
def test_a_key_that_is_no_text_is_unserializable_by_the_name_of_its_dict(section: str, key: Any) -> None:
    with pytest.raises(UnserializableError, match=rf"session\.{section}"):
        session_hash.to_fields({"session_id": "s", section: {key: 1}})


@pytest.mark.parametrize("name", ["user_id", "workflow_id", "workflow_name"])
@pytest.mark.parametrize("value", [5, b"x", ["x"], True, "\ud800"])
def test_a_text_of_a_session_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"session\.{name}"):
        session_hash.to_fields({"session_id": "s", name: value})


@pytest.mark.parametrize("name", ["", "n" * 1000])
def test_the_name_of_a_workflow_may_be_any_text(name: str) -> None:
    assert there_and_back({"session_id": "s", "workflow_name": name})["workflow_name"] == name
