"""The options of a cache are checked when it is made."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import fakeredis
import pytest
import redis

from sessioncache import AsyncSessionCache, InvalidArgumentError, SessionCache
from sessioncache.settings import make_settings

CLASSES = [SessionCache, AsyncSessionCache]

WRONG = [
    *(("ttl", value) for value in (0, -1, True, 1.5, "60", math.nan, timedelta(0), timedelta(-1))),
    *(("ttl", value) for value in (timedelta(microseconds=999), timedelta(days=36501), 36501 * 86400)),
    *(("touch_on_read", value) for value in (1, 0, None, "yes")),
    *(("max_runs", value) for value in (0, -1, True, 1.5, "3", 2**53 + 1)),
    *(("max_run_bytes", value) for value in (0, -1, None, True, 1e6, "1", 2**53 + 1)),
    *(("timeout", value) for value in (0, -1, None, True, "5", math.nan, math.inf, 86_401)),
    *(("prefix", value) for value in ("", "{", 5, None)),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
@pytest.mark.parametrize("cls", CLASSES)
def test_an_option_that_is_wrong_is_refused_by_name(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{name} "):
        cls.from_url("redis://localhost", **{name: value})


@pytest.mark.parametrize("ttl", [2**47, 2**53])
def test_a_ttl_beyond_what_a_timedelta_holds_is_refused_by_name(ttl: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^ttl "):
        make_settings(ttl=ttl)


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        (None, None),
        (1, 1_000),
        (3600, 3_600_000),
        (timedelta(milliseconds=1), 1),
        (timedelta(hours=1, microseconds=1500), 3_600_001),
        (timedelta(days=36500), 36500 * 86_400_000),
    ],
)
def test_a_ttl_is_whole_milliseconds(ttl: Any, milliseconds: int | None) -> None:
    assert make_settings(ttl=ttl).ttl == milliseconds


@pytest.mark.parametrize("name", ["tll", "decode_responses"])
def test_an_option_that_does_not_exist_is_a_type_error_as_in_any_call(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        SessionCache.from_url("redis://localhost", **{name: 1})


@pytest.mark.parametrize("client", [None, 5, "redis://localhost", b"bytes", redis.Redis], ids=repr)
@pytest.mark.parametrize("cls", CLASSES)
def test_what_is_no_client_is_refused_by_name(cls: Any, client: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^client "):
        cls(client)


def test_a_client_of_the_other_color_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^client must be blocking"):
        SessionCache(redis.asyncio.Redis())
    with pytest.raises(InvalidArgumentError, match="asyncio for AsyncSessionCache"):
        AsyncSessionCache(redis.Redis())


@pytest.mark.parametrize(
    ("cls", "client"),
    [
        (SessionCache, redis.Redis(decode_responses=True)),
        (AsyncSessionCache, redis.asyncio.Redis(decode_responses=True)),
        (SessionCache, fakeredis.FakeRedis(decode_responses=True)),
    ],
    ids=["blocking", "asyncio", "embedded"],
)
def test_a_client_that_decodes_responses_is_refused(cls: Any, client: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="decode_responses"):
        cls(client)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_repr_shows_the_prefix_and_no_password(cls: Any) -> None:
    shown = repr(cls.from_url("redis://alice:hunter2@localhost", prefix="app"))

    assert cls.__name__ in shown
    assert "app" in shown
    assert "hunter2" not in shown


def test_the_repr_of_a_cache_on_a_client_shows_no_password() -> None:
    assert "hunter2" not in repr(SessionCache(redis.Redis(password="hunter2")))


def test_making_a_cache_connects_to_nothing() -> None:
    with SessionCache.from_url("redis://nowhere.invalid:1"):
        pass
