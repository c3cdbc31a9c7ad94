"""Errors say as attributes, too, what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    DamagedRunError,
    DamagedSessionError,
    InvalidArgumentError,
    RunTooLargeError,
    SessionNotFoundError,
    UnserializableError,
)
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT: dict[str, Callable[[Any], object]] = {
    "get_runs": lambda cache: cache.get_runs("s"),
    "iter_runs": lambda cache: list(cache.iter_runs("s")),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
    "get_messages": lambda cache: cache.get_messages("s", "A"),
    "update_session": lambda cache: cache.update_session("s", lambda _: None),
    "refresh": lambda cache: (
        cache.upsert_session(session := a_session("s")),
        cache.delete_session("s"),
        cache.refresh(session),
    ),
}


@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_session_is_named(cache: Any, name: str) -> None:
    with pytest.raises(SessionNotFoundError) as caught:
        ABSENT[name](cache)

    assert (caught.value.session_id, caught.value.run_id) == ("s", None)


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (RunTooLargeError, {"content": "x" * 500}),
        (UnserializableError, {"metadata": {"k": object()}}),
        (InvalidArgumentError, {"created_at": -1}),
        (InvalidArgumentError, {"session_id": "other"}),
    ],
)
def test_the_one_of_many_runs_is_named(make_cache: Any, error: Any, fields: dict[str, Any]) -> None:
    cache = make_cache(max_run_bytes=400)

    with pytest.raises(error) as caught:
        cache.upsert_runs("s", [a_run("r1"), a_run("r2", **fields), a_run("r3")])

    assert caught.value.run_id == "r2"
    if error is RunTooLargeError:
        assert (caught.value.size > 500, caught.value.limit) == (True, 400)


def test_what_is_damaged_is_named(cache: Any, caches: Any, admin: Any) -> None:
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
