"""The keys in Redis: one hash tag a session, and no two sessions share a key."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.crc import key_slot

from sessioncache import InvalidArgumentError, validation
from sessioncache.options import check_options
from sessioncache.storage import keys

HOSTILE_IDS = [
    *(
        "{",
        "}",
        "{}",
        "}{",
        "{a}",
        "a}b{c",
        "}:meta",
        "a:meta",
        "a}:meta",
        ":",
        "::",
        " ",
        "\n",
        "\r\n",
        "\t",
    ),
    *(
        "\x00",
        "a\x00b",
        "🚀",
        "é",
        "e\u0301",
        "%",
        "%7B",
        "%2525",
        "*",
        "?",
        "[a]",
        "\\",
        '"',
        "'",
        "-_.~@",
        "../x",
    ),
    *("x" * 512, "é" * 256, "🚀" * 128, "all", "index:all", "a/b", "+", "A", "a"),
]
ids = (
    st.sampled_from(HOSTILE_IDS)
    | st.text(alphabet="ab{}:%\x00 é*/", min_size=1, max_size=6)
    | st.text(min_size=1, max_size=20)
)
tagged = st.sampled_from(["{a}", "a:{b}", "{a}:", "a{b}:index", "a:{a}", "a:index:{all}"])
prefixes = st.sampled_from(
    ["p", "p:", "p:index", "p:index:user", ":", " ", "é", "p%7B", "a:index:all"]
) | st.text(alphabet="ab:%é", min_size=1, max_size=6)


@pytest.mark.parametrize("session_id", HOSTILE_IDS, ids=ascii)
def test_both_keys_of_a_session_share_a_slot(session_id: str) -> None:
    meta, runs = keys.session_keys("prefix", session_id)

    assert key_slot(meta) == key_slot(runs)


@given(prefix=prefixes, session_id=ids)
def test_the_hash_tag_is_the_encoded_id_whatever_prefix_and_id_hold(prefix: str, session_id: str) -> None:
    for key in keys.session_keys(prefix, session_id):
        tags = re.findall(rb"\{([^{}]*)\}", key)

        assert len(tags) == 1
        assert tags[0]
        assert key.count(b"{") == key.count(b"}") == 1


@given(prefix=tagged, session_id=ids, user=ids)
def test_a_hash_tag_in_the_prefix_is_that_of_all_keys(prefix: str, session_id: str, user: str) -> None:
    made = {
        *keys.session_keys(prefix, session_id),
        *keys.indexes(prefix, user, user),
        *(keys.import_mark(prefix, session_id), keys.import_marker(prefix)),
    }

    assert len(made) == 7
    assert len({key_slot(key) for key in made}) == 1


@given(one=prefixes | tagged, other=prefixes | tagged, session_id=ids, user=ids)
def test_a_key_is_told_from_those_of_other_prefixes(one: str, other: str, session_id: str, user: str) -> None:
    assume(one != other)
    meta, indexes = keys.session_keys(one, session_id)[0], keys.indexes(one, user, user)

    assert keys.is_meta(one, meta)
    assert not keys.is_meta(other, meta)
    assert not keys.is_index(one, meta)
    assert all(keys.is_index(one, key) and not keys.is_meta(one, key) for key in indexes)
    assert not any(keys.is_index(other, key) for key in indexes)
    assert not keys.is_index(other, keys.import_marker(one))
    assert {keys.import_marker(one)}.isdisjoint(
        {
            keys.import_marker(other),
            keys.import_mark(other, session_id),
            *keys.session_keys(other, session_id),
        }
    )


@given(one=st.tuples(prefixes | tagged, ids), other=st.tuples(prefixes | tagged, ids))
def test_different_sessions_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)

    assert set(keys.session_keys(*one)).isdisjoint(keys.session_keys(*other))


@given(one=st.tuples(prefixes | tagged, ids), other=st.tuples(prefixes | tagged, ids, ids))
def test_no_session_has_the_key_of_an_index(one: tuple[str, str], other: tuple[str, str, str]) -> None:
    assert set(keys.session_keys(*one)).isdisjoint(keys.indexes(*other))


@given(prefix=prefixes, one=ids, other=ids)
def test_the_indexes_of_users_and_of_workflows_are_all_different(prefix: str, one: str, other: str) -> None:
    made = {
        keys.index_of_all(prefix),
        *(keys.index_of_user(prefix, each) for each in (one, other)),
        *(keys.index_of_workflow(prefix, each) for each in (one, other)),
    }

    assert len(made) == 1 + 2 * len({one, other})


@given(one=prefixes | tagged, other=prefixes | tagged, user=ids)
def test_different_prefixes_never_share_an_index(one: str, other: str, user: str) -> None:
    assume(one != other)

    assert set(keys.indexes(one, user, user)).isdisjoint(keys.indexes(other, user, user))


def test_keys_are_named_as_documented() -> None:
    assert keys.session_keys("app", "a b") == (b"app:{a%20b}:meta", b"app:{a%20b}:runs")
    assert keys.indexes("app", "u:1", "w") == (
        b"app:index:all",
        b"app:index:user:u%3A1",
        b"app:index:workflow:w",
    )


@given(session_id=ids)
def test_an_id_that_is_accepted_is_its_utf8_bytes(session_id: str) -> None:
    assume(len(session_id.encode()) <= validation.MAX_ID_BYTES)

    assert validation.encoded_id(session_id, "session_id") == session_id.encode()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "empty"),
        ("x" * 513, "513 bytes"),
        ("é" * 257, "514 bytes"),
        ("\ud800", "surrogate"),
        (None, "NoneType"),
        (5, "int"),
        (b"s", "bytes"),
        (["s"], "list"),
        (True, "bool"),
    ],
)
def test_what_is_no_id_is_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"session_id .*{words}"):
        validation.encoded_id(value, "session_id")


@pytest.mark.parametrize(
    "prefix", ["", "a{", "a}", "{}", "a{}b", "{a}{b}", "{a{b}}", "}a{", "p" * 513, "\ud800", None, 5, b"p"]
)
def test_a_prefix_that_would_break_the_keys_is_refused_by_name(prefix: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="prefix"):
        check_options(prefix=prefix)
