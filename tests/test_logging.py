"""The logger `sessioncache`: a line when retrying begins and one when it ends, one for a damaged session."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import a_run, connect, session
from sessioncache import SessionCacheError
from sessioncache.transport import outages
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


@pytest.fixture
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no line wait for the second after the one before it."""
    monkeypatch.setattr(outages, "SECONDS_BETWEEN_LINES", 0)


def test_what_is_left_of_a_session_without_its_hash_is_said_to_be_damaged(
    cache: Any, caches: Caches, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache.upsert_session(session(runs=1))
    admin.delete(f"{caches.prefix}:{{s}}:meta")

    assert cache.get_session("s") is None

    assert _lines(caplog) == ["session 's' is damaged: it counts as absent"]


@pytest.mark.usefixtures("_always_due")
def test_retrying_is_a_line_when_it_begins_and_one_when_it_ends(
    proxy: FaultProxy, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    cache = connect(proxy.url, prefix="logged")
    cache.upsert_session(session(runs=1, metadata={"x": PAYLOAD}))
    proxy.arm("half_reply", times=3)
    cache.get_session("s")
    cache.get_session("s")

    first, last = _lines(caplog)
    server = re.escape(f"127.0.0.1:{proxy.port}/0")
    assert re.fullmatch(f"retrying: {server}, get_session, attempt 1: the connection was lost .*", first)
    assert re.fullmatch(rf"serving again: {server}, get_session, attempt 4, after [\d.]+ s", last)
    assert PAYLOAD not in caplog.text


@pytest.mark.usefixtures("_always_due")
def test_the_end_of_an_outage_that_outlasted_its_calls_is_told_by_a_later_one(
    proxy: FaultProxy, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    cache = connect(proxy.url, prefix="logged", timeout=0.1)
    with proxy.refusing():
        for _ in range(3):
            with pytest.raises(SessionCacheError):
                cache.upsert_run("s", a_run())
    cache.delete_session("s")

    assert [line.split(":")[0] for line in _lines(caplog)] == ["retrying", "serving again"]
    assert ", upsert_run, attempt 1: " in caplog.messages[0]
    assert ", delete_session, attempt 1, after " in caplog.messages[1]


def test_an_outage_is_no_flood(
    proxy: FaultProxy, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """At most a line a second of one server, though it fails and serves in turn."""
    cache = connect(proxy.url, prefix="logged", timeout=0.4)

    def fail() -> None:
        with pytest.raises(SessionCacheError):
            cache.get_session("s")

    with proxy.refusing():
        calls = [threading.Thread(target=fail) for _ in range(50)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
    for _ in range(10):
        proxy.arm("half_reply")
        cache.get_session("s")

    lines = [record for record in caplog.records if record.name == "sessioncache"]
    assert len(lines) <= 1 + (lines[-1].created - lines[0].created)


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
