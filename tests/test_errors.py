"""Errors say as attributes, too, what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    DamagedRunError,
    DamagedSessionError,
    InvalidArgumentError,
    RunTooLargeError,
    SessionCacheError,
    SessionNotFoundError,
    UnserializableError,
)
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

ABSENT: dict[str, Callable[[Any], object]] = {
    "get_runs": lambda cache: cache.get_runs("s"),
    "iter_runs": lambda cache: list(cache.iter_runs("s")),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
    "get_messages": lambda cache: cache.get_messages("s", "A"),
    "update_session": lambda cache: cache.update_session("s", lambda _: None),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_session_that_is_absent_is_named(cache: Any, name: str) -> None:
    with pytest.raises(SessionNotFoundError) as caught:
        ABSENT[name](cache)

    assert (caught.value.session_id, caught.value.run_id) == ("s", None)


def test_a_loaded_session_that_is_gone_is_named(cache: Any) -> None:
    session = a_session("s")
    cache.upsert_session(session)
    cache.delete_session("s")

    with pytest.raises(SessionNotFoundError) as caught:
        cache.refresh(session)

    assert caught.value.session_id == "s"


WRONG: dict[str, tuple[type[SessionCacheError], Any]] = {
    "too large": (RunTooLargeError, {"content": "x" * 500}),
    "unserializable": (UnserializableError, {"metadata": {"k": object()}}),
    "wrong time": (InvalidArgumentError, {"created_at": -1}),
    "of another session": (InvalidArgumentError, {"session_id": "other"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_one_of_many_runs_that_cannot_be_stored_is_named(
    make_cache: Callable[..., Any], name: str
) -> None:
    cache = make_cache(max_run_bytes=400)
    error, fields = WRONG[name]

    with pytest.raises(error) as caught:
        cache.upsert_runs("s", [a_run("r1"), a_run("r2", **fields), a_run("r3")])

    assert caught.value.run_id == "r2"
    if isinstance(caught.value, RunTooLargeError):
        assert (caught.value.size > 500, caught.value.limit) == (True, 400)


def test_what_is_damaged_is_named(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", 1))
    runs, meta = f"{caches.prefix}:{{s}}:runs", f"{caches.prefix}:{{s}}:meta"
    ((body, score),) = admin.zrange(runs, 0, 0, withscores=True)
    admin.zrem(runs, body)
    admin.zadd(runs, {b"b\x01junk": score})

    with pytest.raises(DamagedRunError) as run:
        _ = cache.get_run("s", "r0").metadata
    admin.hset(meta, "metadata.k", b"junk")
    with pytest.raises(DamagedSessionError) as session:
        cache.get_session("s")

    assert (run.value.session_id, run.value.run_id) == ("s", "r0")
    assert (session.value.session_id, session.value.run_id) == ("s", None)
