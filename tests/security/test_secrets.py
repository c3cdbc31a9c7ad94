"""Passwords and payloads: in no error, no log and no repr."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any, get_args

import pytest

from faults.reaching import a_run, session
from sessioncache import SessionCache, SessionCacheError
from support.servers import RedisServer
from support.wire import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "correct-horse-battery"
PAYLOAD = "patient-has-measles"
TIMEOUT = 0.3


def _told(error: BaseException) -> str:
    """Return all that a log with a traceback would show of an error, its causes and their arguments."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(["".join(traceback.format_exception(item)) + repr(item) for item in chain])


def _told_by(call: Callable[[], Any]) -> str:
    """Return what is told of the error that a call raises, if it raises one."""
    try:
        call()
    except SessionCacheError as error:
        return _told(error)
    return ""


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    """A server with a password."""
    with RedisServer(unix=False, config={"requirepass": PASSWORD}) as server:
        yield server


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:{}@localhost:6390/0",
        "rediss://:{}@localhost",
        "unix://u:{}@/tmp/x.sock",
        "redis+cluster://u:{}@a,b",
        "redis+sentinel://u:{}@a/svc?sentinel_password={}",
        "redis://localhost?password={}",
        "rediss://localhost?ssl_password={}",
    ],
)
def test_a_repr_shows_no_password(url: str, connect: Callable[..., Any]) -> None:
    cache = connect(url.format(PASSWORD, PASSWORD))
    wrapped = getattr(cache, "wrapped", cache)

    assert PASSWORD not in repr(wrapped)
    assert PASSWORD not in repr(wrapped.transport._endpoint)
    assert PASSWORD not in repr(wrapped.transport.topology)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:{}@localhost:notaport",
        "redis://u:{}@localhost/notadb",
        "redis://u:{}@localhost?unknown=1",
        "redis://u:{}@localhost?ssl_ca_certs=x",
        "redis://u:{}@a,b",
        "redis://u:{}@localhost#x",
        "redis://localhost?passwort={}",
        "redis+sentinel://u:{}@a",
        "http://u:{}@localhost",
        "redis://u:{}@[::1",
        "redis://u:{}@localhost:99999",
    ],
)
def test_an_error_about_a_url_shows_no_password(url: str) -> None:
    with pytest.raises(SessionCacheError) as caught:
        SessionCache.from_url(url.format(PASSWORD))

    assert PASSWORD not in _told(caught.value)


@pytest.mark.parametrize("login", [f":{PASSWORD}x", f"nobody:{PASSWORD}", ""])
def test_a_refused_login_shows_no_password(
    guarded: RedisServer, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture, login: str
) -> None:
    caplog.set_level(logging.DEBUG)
    cache = connect(guarded.url.replace("://", f"://{login}@") if login else guarded.url, timeout=TIMEOUT)

    for call in (lambda: cache.get_session("s"), lambda: cache.upsert_session(session())):
        with pytest.raises(SessionCacheError) as caught:
            call()
        assert PASSWORD not in _told(caught.value)
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_broken_connection_shows_no_password_and_no_payload(
    guarded: RedisServer, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultProxy(guarded.socket_path) as proxy:
        url = proxy.url.replace("://", f"://:{PASSWORD}@")
        connect(url).upsert_session(_secret_session())
        cache = connect(url, timeout=TIMEOUT)
        proxy.arm(fault, times=50, match=b"" if fault == "reset_on_connect" else b"S")
        proxy.drop_connections()
        for call in (lambda: cache.get_session("s"), lambda: cache.upsert_session(_secret_session())):
            _shows_no_secret(_told_by(call))
        proxy.disarm()
    _shows_no_secret(caplog.text)


def _secret_session() -> Any:
    stored = session(runs=1, session_data={"secret": PAYLOAD}, metadata={"secret": PAYLOAD})
    stored.runs[0].content = PAYLOAD
    stored.runs[0].metadata = {"secret": [PAYLOAD]}
    return stored


def _shows_no_secret(text: str) -> None:
    assert PASSWORD not in text
    assert PAYLOAD not in text


def test_what_is_refused_or_damaged_shows_no_payload(
    connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer() as server:
        admin = server.client()
        cache = connect(server.url, timeout=TIMEOUT)
        cache.upsert_session(_secret_session())
        spoil: list[Callable[[], Any]] = [
            lambda: admin.config_set("maxmemory", 1),
            lambda: admin.config_set("maxmemory", 0),
            lambda: admin.hset("t:{s}:meta", "metadata.secret", PAYLOAD),
            lambda: admin.zadd("t:{s}:runs", {PAYLOAD: 2.0**50}),
            lambda: admin.delete("t:{s}:runs"),
            lambda: admin.set("t:{s}:runs", PAYLOAD),
            lambda: admin.set("t:{s}:meta", PAYLOAD),
        ]
        for step in spoil:
            step()
            for call in (
                lambda: cache.get_session("s"),
                lambda: cache.upsert_run("s", a_run(content=PAYLOAD)),
            ):
                assert PAYLOAD not in _told_by(call)
    assert PAYLOAD not in caplog.text


def test_what_cannot_be_packed_is_named_and_not_shown(cache: Any) -> None:
    class Secret:
        def __repr__(self) -> str:
            return PAYLOAD

    for value in (Secret(), {"deep": [PAYLOAD, Secret()]}, {1: PAYLOAD}, 10**5000):
        with pytest.raises(SessionCacheError) as caught:
            cache.upsert_session(session(metadata={"x": value}))
        assert PAYLOAD not in str(caught.value)
