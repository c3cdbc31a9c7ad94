"""Servers killed, filled, emptied and starved while they are written to and read from."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from faults.load import Load, Written
from faults.reaching import SLACK, a_run, session
from sessioncache import SessionNotFoundError, UnavailableError
from support.servers import RedisServer
from support.storage import partial_sessions
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.faults

TIMEOUT = 3.0
PAYLOAD = "x" * 2_000


def test_every_acknowledged_write_outlives_a_kill(connect: Callable[..., Any]) -> None:
    """With `everysec` some may not: Redis replies before it writes while an fsync is under way."""
    with RedisServer(unix=False, config={"appendonly": "yes", "appendfsync": "always"}) as server:
        cache = connect(server.url, timeout=TIMEOUT)
        with Load(cache) as load:
            for _ in range(10):
                load.wait(200)
                server.kill()
                server.start()
            load.wait(200)
        load.check_all()

        assert load.wrong == []
        assert partial_sessions(server.client()) == []
        assert load.longest < TIMEOUT + SLACK
        assert load.errors.total() + load.reads > 0


def test_a_paused_server_loses_nothing(connect: Callable[..., Any]) -> None:
    with RedisServer(unix=False) as server:
        cache = connect(server.url, timeout=0.3)
        with Load(cache) as load:

            def unknown() -> int:
                return load.errors["append OutcomeUnknownError"]

            for _ in range(5):
                load.wait(50)
                server.pause()
                before = unknown()
                wait_for(lambda before=before: unknown() > before, "a write to give up")  # type: ignore[misc]
                server.resume()
            load.wait(50)
        load.check_all()

        assert load.wrong == []
        assert load.longest < 0.3 + SLACK


def test_evicted_keys_are_misses_and_never_half_an_answer(connect: Callable[..., Any]) -> None:
    config: dict[str, str | int] = {"maxmemory": "6mb", "maxmemory-policy": "allkeys-lru"}
    with RedisServer(config=config) as server:
        cache = connect(server.url, timeout=TIMEOUT)
        sessions = [Written(f"s{number}") for number in range(40)]
        with Load(cache, may_vanish=True, payload=PAYLOAD, sessions=sessions) as load:
            load.wait(10_000)
        load.check_all()

        assert load.wrong == []
        assert load.reads > 0
        assert server.client().info("stats")["evicted_keys"] > 0
        assert max(written.life for written in sessions) > 1


def test_a_server_emptied_under_load_gives_no_mixed_answer(connect: Callable[..., Any]) -> None:
    with RedisServer() as server:
        cache = connect(server.url, timeout=TIMEOUT)
        admin = server.client()
        with Load(cache, may_vanish=True) as load:
            for _ in range(100):
                load.wait(20)
                admin.flushall()
        load.check_all()

        assert load.wrong == []
        assert partial_sessions(admin) == []


def test_a_loaded_session_does_not_come_back_after_the_server_was_emptied(
    connect: Callable[..., Any], redis_server: RedisServer
) -> None:
    cache = connect(redis_server.url, prefix="emptied")
    cache.upsert_session(session(runs=2))
    loaded = cache.get_session("s")
    redis_server.client().flushall()

    with pytest.raises(SessionNotFoundError):
        cache.upsert_session(loaded)
    with pytest.raises(SessionNotFoundError):
        cache.upsert_run("s", a_run())
    assert redis_server.client().keys("emptied:{*") == []


def test_a_full_server_refuses_writes_whole(connect: Callable[..., Any]) -> None:
    config: dict[str, str | int] = {"maxmemory": "5mb", "maxmemory-policy": "noeviction"}
    with RedisServer(config=config) as server:
        admin = server.client()
        cache = connect(server.url, timeout=TIMEOUT)
        acknowledged = _fill_up(cache)

        assert partial_sessions(admin) == []
        assert all(cache.get_run(session_id, run_id) for session_id, run_id in acknowledged)
        admin.config_set("maxmemory", "100mb")
        for session_id, run_id in acknowledged:
            assert cache.get_run(session_id, run_id).metadata == {"payload": PAYLOAD}
        cache.upsert_run(*acknowledged[0][:1], a_run("after"))


def _fill_up(cache: Any) -> list[tuple[str, str]]:
    """Let threads write until each has been refused many times; return what was acknowledged."""
    acknowledged: list[tuple[str, str]] = []
    threads = [threading.Thread(target=_write_until_full, args=(cache, n, acknowledged)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert acknowledged
    return acknowledged


def _write_until_full(cache: Any, thread: int, acknowledged: list[tuple[str, str]]) -> None:
    refused = 0
    for number in range(100_000):
        session_id, run = f"s{thread}-{number // 10}", a_run(f"r{number}", metadata={"payload": PAYLOAD})
        try:
            if number % 10 == 0:
                cache.upsert_session(session(session_id))
            cache.upsert_run(session_id, run)
        except UnavailableError:
            refused += 1
        except SessionNotFoundError:
            continue  # it was refused before
        else:
            acknowledged.append((session_id, run.run_id or ""))
        if refused == 50:
            return
