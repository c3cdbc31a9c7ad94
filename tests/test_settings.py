"""The options of a cache are checked when it is made."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest
import redis

from sessioncache import AsyncSessionCache, InvalidArgumentError, SessionCache
from sessioncache.options import Options, check_options
from support.facade import BlockingFacade
from support.samples import a_session

if TYPE_CHECKING:
    from support.facade import LoopThread
    from support.subjects import Subject

both_clients = pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])

WRONG = [
    *(("ttl", value) for value in (0, -1, True, 1.5, "60", math.nan, timedelta(0), timedelta(-1))),
    *(("ttl", value) for value in (timedelta(microseconds=999), timedelta(days=36501), 36501 * 86400)),
    *(("ttl", value) for value in (2**47, 2**53)),
    *((name, value) for name in ("touch_on_read", "mark_deletions") for value in (1, 0, None, "yes")),
    *(("max_runs", value) for value in (0, -1, True, 1.5, "3", 2**53 + 1)),
    *(("max_run_bytes", value) for value in (0, -1, None, True, 1e6, "1", 2**53 + 1)),
    *(("timeout", value) for value in (0, -1, None, True, "5", math.nan, math.inf, 86_401)),
    *(("prefix", value) for value in ("", "{", 5, None)),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
@both_clients
def test_a_wrong_option_is_refused_by_name(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{name} "):
        cls.from_url("redis://localhost", **{name: value})


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [
        *((None, None), (1, 1_000), (3600, 3_600_000), (timedelta(milliseconds=1), 1)),
        (timedelta(hours=1, microseconds=1500), 3_600_001),
        (timedelta(days=36500), 36500 * 86_400_000),
    ],
)
def test_a_ttl_is_whole_milliseconds(ttl: Any, milliseconds: int | None) -> None:
    assert check_options(ttl=ttl).ttl == milliseconds


@pytest.mark.parametrize("name", ["ttll", "decode_responses", "model", "url_"])
@both_clients
def test_an_unknown_option_is_named_beside_those_known(cls: Any, name: str) -> None:
    known = ", ".join(get_type_hints(Options))
    client = redis.Redis() if cls is SessionCache else redis.asyncio.Redis()

    for make in (partial(cls.from_url, "redis://localhost"), partial(cls, client)):
        with pytest.raises(InvalidArgumentError, match=f"^there is no option '{name}'; known: {known}$"):
            make(**{name: 1})


@both_clients
def test_the_help_lists_every_option(cls: Any) -> None:
    listed = re.findall(r"^        (\w+): ", inspect.getdoc(cls.from_url) or "", re.MULTILINE)

    assert listed == list(get_type_hints(Options))


@pytest.mark.parametrize(
    ("client", "words"),
    [
        *((value, "^client ") for value in (None, 5, b"bytes", redis.Redis)),
        ("redis://localhost", "for a URL use from_url"),
    ],
    ids=repr,
)
@both_clients
def test_what_is_no_client_is_refused(cls: Any, client: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        cls(client)


def test_a_client_of_the_other_kind_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^client must be blocking"):
        SessionCache(redis.asyncio.Redis())
    with pytest.raises(InvalidArgumentError, match="asyncio for AsyncSessionCache"):
        AsyncSessionCache(redis.Redis())


def test_a_client_that_decodes_is_as_good(server: Subject, client_kind: str, loop_thread: LoopThread) -> None:
    options: dict[str, Any] = {"decode_responses": True, "encoding": "ascii"}
    session = a_session("s", 2, metadata={"k": "ü"})
    with contextlib.ExitStack() as stack:
        if client_kind == "sync":
            client = stack.enter_context(contextlib.closing(server.client(**options)))
            cache: Any = stack.enter_context(SessionCache(client, ttl=60))
        else:
            client = server.async_client(**options)
            stack.callback(lambda: loop_thread.run(client.aclose()))
            cache = stack.enter_context(BlockingFacade(AsyncSessionCache(client, ttl=60), loop_thread))

        cache.upsert_session(session)

        assert cache.get_session("s") == session


def test_the_repr_of_a_cache_on_a_client_shows_no_password() -> None:
    assert "hunter2" not in repr(SessionCache(redis.Redis(password="hunter2")))


def test_making_a_cache_connects_to_nothing() -> None:
    with SessionCache.from_url("redis://nowhere.invalid:1"):
        pass
