"""The logger `sessioncache`: a line when retrying begins and one when it ends, one for a damaged session."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import connect
from sessioncache import SessionCacheError
from sessioncache.transport import outages
from support.samples import a_run, a_session
from support.wire import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer

__all__ = ["connect"]

PAYLOAD = "patient-has-measles"


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sessioncache")


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged, and check whose logger said it, how loud, and that it holds no payload."""

    def logged() -> list[str]:
        records = [record for record in caplog.records if record.name.startswith("sessioncache")]
        assert all(record.levelno == logging.WARNING and record.name == "sessioncache" for record in records)
        assert PAYLOAD not in caplog.text
        return [record.getMessage() for record in records]

    return logged


@pytest.fixture
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no line wait for the second after the one before it."""
    monkeypatch.setattr(outages, "SECONDS_BETWEEN_LINES", 0)


def test_a_call_that_just_works_says_nothing(cache: Any, lines: Any) -> None:
    cache.upsert_session(a_session("s", 2, metadata={"x": PAYLOAD}))
    cache.get_session("s")
    cache.get_session("none")
    cache.upsert_run("s", a_run("r"))
    cache.list_sessions()
    cache.delete_session("s")

    assert lines() == []


@pytest.mark.usefixtures("_always_due")
def test_retrying_is_two_lines(proxy: FaultProxy, connect: Any, lines: Any) -> None:
    cache = connect(proxy.url, prefix="logged")
    cache.upsert_session(a_session("s", 1, metadata={"x": PAYLOAD}))
    proxy.arm("half_reply", times=3)
    cache.get_session("s")
    cache.get_session("s")

    first, last = lines()
    server = re.escape(f"127.0.0.1:{proxy.port}/0")
    assert re.fullmatch(f"retrying: {server}, get_session, attempt 1: the connection was lost .*", first)
    assert re.fullmatch(rf"serving again: {server}, get_session, attempt 4, after [\d.]+ s", last)


@pytest.mark.usefixtures("_always_due")
def test_the_end_of_an_outage_is_told_by_a_later_call(proxy: FaultProxy, connect: Any, lines: Any) -> None:
    cache = connect(proxy.url, prefix="logged", timeout=0.1)
    with proxy.refusing():
        for _ in range(3):
            with pytest.raises(SessionCacheError):
                cache.upsert_run("s", a_run("r"))
    cache.delete_session("s")

    first, last = lines()
    assert re.match("retrying: .*, upsert_run, attempt 1: ", first)
    assert re.match("serving again: .*, delete_session, attempt 1, after ", last)


def test_an_outage_is_no_flood(proxy: FaultProxy, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
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

    times = [record.created for record in caplog.records if record.name == "sessioncache"]
    assert 1 <= len(times) <= 1 + (times[-1] - times[0])


@pytest.mark.parametrize("name", ["s", "x\nERROR root: all is lost"], ids=["plain", "hostile"])
@pytest.mark.parametrize("part", ["meta", "runs"])
def test_a_damaged_session_is_one_line(
    cache: Any, caches: Any, admin: Any, lines: Any, part: str, name: str
) -> None:
    """It names the session; an id cannot begin a line of its own."""
    cache.upsert_session(a_session(name, 2, metadata={"x": PAYLOAD}))
    admin.delete(*admin.keys(f"{caches.prefix}:*:{part}"))
    assert cache.get_session(name) is None

    (line,) = lines()
    assert line.startswith(f"session {name!r} is damaged: ")
    assert "\n" not in line
