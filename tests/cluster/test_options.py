"""Options of a URL reach the connections, and passwords reach nothing else."""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from cluster.fake_sentinel import FakeSentinel
from faults.reaching import a_run, session, within
from sessioncache import (
    AsyncSessionCache,
    InvalidArgumentError,
    OutcomeUnknownError,
    SessionCache,
    UnavailableError,
)
from sessioncache.transport.flow import Address
from sessioncache.transport.url import _OPTIONS, WITHOUT_EFFECT
from support.facade import BlockingFacade
from support.servers import RedisServer, supports_tls, tls_material
from support.wire import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.facade import LoopThread

SECRET = "hunter2"

OF_CONNECTIONS: dict[str, tuple[str, str, object]] = {
    "socket_connect_timeout": ("0.2", "socket_connect_timeout", 0.2),
    "socket_keepalive": ("true", "socket_keepalive", True),
}
OF_TLS: dict[str, tuple[str, str, object]] = {
    "ssl_cert_reqs": ("none", "cert_reqs", 0),
    "ssl_ca_certs": ("/ca.pem", "ca_certs", "/ca.pem"),
    "ssl_ca_path": ("/ca", "ca_path", "/ca"),
    "ssl_certfile": ("/cert.pem", "certfile", "/cert.pem"),
    "ssl_keyfile": ("/key.pem", "keyfile", "/key.pem"),
    "ssl_password": (SECRET, "password", SECRET),
    "ssl_check_hostname": ("false", "check_hostname", False),
}
TRIED_OUT = {
    *("max_connections", "socket_timeout"),
    *("db", "username", "password", "client_name", "sentinel_username", "sentinel_password"),
}
"""These are tried out below: they belong to all connections, to each call, or are said to a server."""

KNOWN = {**OF_CONNECTIONS, **OF_TLS}


def test_every_known_option_is_here() -> None:
    assert KNOWN.keys() | TRIED_OUT == set(_OPTIONS)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])
def test_an_option_reaches_the_connection(cls: Any, name: str) -> None:
    text, attribute, value = KNOWN[name]
    cache = cls.from_url(f"{'rediss' if name in OF_TLS else 'redis'}://h?{name}={text}")
    connection = cache.transport._endpoint.make_connection(Address("h", 1), 5.0)
    holder = getattr(connection, "ssl_context", connection) if name in OF_TLS else connection
    if cls is SessionCache and name == "ssl_password":
        attribute = "certificate_password"

    assert getattr(holder, attribute) == value


# tried out


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    redis_server.client().flushall()
    return redis_server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    """A client with all rights on a server that knows the user `me`."""
    admin = server.client()
    admin.execute_command("ACL", "SETUSER", "me", "on", f">{SECRET}", "~*", "+@all")
    yield admin
    admin.execute_command("ACL", "DELUSER", "me")


def test_what_has_no_effect_is_taken_of_urls_and_clients(
    server: RedisServer, connect: Callable[..., Any], client_kind: str, loop_thread: LoopThread
) -> None:
    options = "&".join(f"{name}=1" for name in (*WITHOUT_EFFECT, "socket_keepalive"))
    connect(f"unix://{server.socket_path}?{options}").upsert_session(session("s"))
    module: Any = redis if client_kind == "sync" else redis.asyncio
    pool = module.ConnectionPool(
        connection_class=module.UnixDomainSocketConnection,
        path=server.socket_path,
        socket_keepalive=True,
        socket_keepalive_options={1: 1},
        health_check_interval=3,
    )
    client = module.Redis(connection_pool=pool)
    cls: Any = SessionCache if client_kind == "sync" else AsyncSessionCache
    cache = cls(client) if client_kind == "sync" else BlockingFacade(cls(client), loop_thread)

    with cache:
        cache.upsert_session(session("s"))
        assert cache.get_session("s") is not None


def test_a_login_a_db_and_a_name_are_those_of_the_url(
    server: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    url = f"unix://me:{SECRET}@{server.socket_path}?db=3&client_name=worker"
    connect(url).upsert_session(session("s"))
    (client,) = [client for client in admin.client_list() if client["name"] == "worker"]

    assert (client["user"], client["db"]) == ("me", "3")
    assert admin.info("keyspace")["db3"]["keys"] == 2


def test_no_more_connections_are_opened_than_the_url_allows(
    server: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    cache = connect(f"{server.url}?max_connections=2&client_name=worker")
    cache.upsert_session(session("s"))
    threads = [threading.Thread(target=lambda: [cache.get_session("s") for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([client for client in admin.client_list() if client["name"] == "worker"]) <= 2


def test_socket_timeout_is_the_longest_wait_for_an_answer(
    server: RedisServer, connect: Callable[..., Any]
) -> None:
    """A read is repeated after it, a write has an unknown outcome, and the call's own timeout still holds."""
    with FaultProxy(server.socket_path) as proxy:
        cache = connect(f"{proxy.url}?socket_timeout=0.1", timeout=5)
        cache.upsert_session(session("s"))

        proxy.arm("silence")
        with within(0.3):
            assert cache.get_session("s").session_id == "s"
        proxy.arm("silence")
        with within(0.1), pytest.raises(OutcomeUnknownError):
            cache.upsert_run("s", a_run())


def test_sentinels_are_given_their_own_login(connect: Callable[..., Any]) -> None:
    with FakeSentinel(None) as sentinel:
        url = (
            f"redis+sentinel://you:other@{sentinel.host}/main?sentinel_username=me&sentinel_password={SECRET}"
        )
        with pytest.raises(UnavailableError):
            connect(url, timeout=0.2).get_session("s")

        assert [b"AUTH", b"me", SECRET.encode()] in sentinel.told
        assert [b"AUTH", b"you", b"other"] not in sentinel.told


@pytest.mark.skipif(not supports_tls(), reason="this redis-server has no TLS")
def test_certificates_are_those_of_the_url(tmp_path: Path, connect: Callable[..., Any]) -> None:
    material = tls_material(tmp_path)
    options = "&".join(f"{name}={value}" for name, value in material.client_options().items())
    with RedisServer(tls=material) as server:
        cache = connect(f"{server.tls_url}?{options}")
        cache.upsert_session(session("s"))

        assert cache.get_session("s").session_id == "s"
        with pytest.raises(UnavailableError):
            connect(f"{server.tls_url}?ssl_ca_certs={material.ca}", timeout=0.5).get_session("s")
        cache.close() if hasattr(cache, "close") else cache.aclose()


@pytest.mark.parametrize("url", ["redis+cluster://h/1", "redis+cluster://h?db=1", "rediss+cluster://h/2"])
def test_a_cluster_has_one_db(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="db"):
        SessionCache.from_url(url)


# what a password must not be in


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"unix://me:{SECRET}@{{path}}", id="wrong password"),
        pytest.param(f"unix://{SECRET}:{SECRET}@{{path}}", id="password as user"),
        pytest.param(f"redis://me:{SECRET}@127.0.0.1:1", id="nobody listens"),
        pytest.param(f"redis://me:{SECRET}@no-such-host.invalid", id="unknown host"),
        pytest.param(f"redis+cluster://me:{SECRET}@127.0.0.1:1,127.0.0.1:2", id="no cluster"),
        pytest.param(
            f"redis+sentinel://me:{SECRET}@127.0.0.1:1/main?sentinel_password={SECRET}", id="no sentinel"
        ),
        pytest.param(f"rediss://me:{SECRET}@127.0.0.1:1?ssl_password={SECRET}", id="no TLS"),
        pytest.param(f"unix://me:{SECRET}@/no/such/{{socket}}", id="no socket"),
    ],
)
def test_a_password_is_in_no_error_no_log_and_no_repr(
    redis_server: RedisServer, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture, url: str
) -> None:
    caplog.set_level(logging.DEBUG)
    cache = connect(url.format(path=redis_server.socket_path, socket="r.sock"), timeout=0.2)
    with pytest.raises(UnavailableError) as caught:
        cache.get_session("s")
    with pytest.raises(UnavailableError) as caught_writing:
        cache.upsert_session(session("s"))

    own = getattr(cache, "wrapped", cache)
    seen = [
        *("".join(traceback.format_exception(error.value)) for error in (caught, caught_writing)),
        *(repr(thing) for thing in (own, own.transport._endpoint, own.transport.topology, own.settings)),
        *(record.getMessage() for record in caplog.records),
    ]
    assert [text for text in seen if SECRET in text] == []


def test_a_refused_login_is_not_tried_again(redis_server: RedisServer, connect: Callable[..., Any]) -> None:
    """It is a ConnectionError to redis-py, as a lost connection is; but it will not get better."""
    cache = connect(f"unix://me:wrong@{redis_server.socket_path}", timeout=5)

    with within(0.2), pytest.raises(UnavailableError, match="WRONGPASS"):
        cache.get_session("s")
