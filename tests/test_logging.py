"""The logger `sessioncache`: one line for a call that was repeated, one for a damaged session, no payload."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import a_run, connect, session
from support.wire import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from support.servers import RedisServer
    from support.subjects import Caches

__all__ = ["connect"]

PAYLOAD = "patient-has-measles"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sessioncache")


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(redis_server.socket_path) as proxy:
        yield proxy


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, and check whose logger said it and how loud."""
    records = [record for record in caplog.records if record.name.startswith("sessioncache")]
    assert all(record.levelno == logging.WARNING and record.name == "sessioncache" for record in records)
    return [record.getMessage() for record in records]


def test_a_call_that_just_works_says_nothing(cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    cache.upsert_session(session(runs=2, metadata={"x": PAYLOAD}))
    cache.get_session("s")
    cache.get_session("none")
    cache.upsert_run("s", a_run())
    cache.list_sessions()
    cache.delete_session("s")

    assert _lines(caplog) == []


def test_each_repetition_of_a_call_is_one_line(
    proxy: FaultProxy, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    cache = connect(proxy.url, prefix="logged")
    cache.upsert_session(session(runs=1, metadata={"x": PAYLOAD}))
    proxy.arm("half_reply", times=2)
    cache.get_session("s")

    lines = _lines(caplog)
    assert len(lines) == 2
    assert all(line.startswith("retrying: ") and "\n" not in line for line in lines)
    assert PAYLOAD not in caplog.text


@pytest.mark.parametrize("key", ["meta", "runs"])
def test_a_damaged_session_is_one_line_that_names_it(
    cache: Any, caches: Caches, admin: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    cache.upsert_session(session(runs=2, metadata={"x": PAYLOAD}))
    admin.delete(f"{caches.prefix}:{{s}}:{key}")
    assert cache.get_session("s") is None

    (line,) = _lines(caplog)
    assert "'s'" in line
    assert "damaged" in line
    assert PAYLOAD not in line


def test_a_hostile_id_cannot_begin_a_line_of_its_own(
    cache: Any, caches: Caches, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    name = "x\nERROR root: all is lost"
    cache.upsert_session(session(name, runs=1))
    for key in admin.keys(f"{caches.prefix}:{{*:runs"):
        admin.delete(key)
    assert cache.get_session(name) is None

    (line,) = _lines(caplog)
    assert "\n" not in line
