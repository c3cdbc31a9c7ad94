"""Connections for asyncio: calls queue for them, closing leaves nothing, a wait has an end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING

import pytest

from asyncio_.asking import (
    connections,
    fill,
    look_up,
    no_resource_warning,
    run_of,
    session_of,
    standing_still,
    until,
    url_of,
)
from sessioncache import AsyncSessionCache, OutcomeUnknownError, ReplyMismatchError, UnavailableError
from support.heartbeat import Heartbeat, Stopwatch
from support.servers import RedisServer, supports_tls, tls_material
from support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    import redis

SESSIONS = 50
LOOKUPS = 5_000


def test_five_thousand_lookups_at_once_queue_for_eight_connections(
    server: RedisServer, admin: redis.Redis
) -> None:
    """redis-py's pool raises MaxConnectionsError at 100 calls at once; the one that waits loses wake-ups."""

    async def main() -> None:
        url = url_of(server, "max_connections=8")
        async with AsyncSessionCache.from_url(url, timeout=60) as cache:
            await fill(cache, SESSIONS)
            await asyncio.gather(*(look_up(cache, number % SESSIONS) for number in range(LOOKUPS)))
            assert len(connections(admin)) == 8

    opened_before = admin.info("stats")["total_connections_received"]
    asyncio.run(main())

    assert admin.info("stats")["total_connections_received"] - opened_before == 8
    wait_for(lambda: not connections(admin), "the connections to be closed")


def test_five_hundred_lookups_at_once_need_no_option(server: RedisServer, admin: redis.Redis) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server)) as cache:
            await fill(cache, SESSIONS)
            await asyncio.gather(*(look_up(cache, number % SESSIONS) for number in range(500)))
            assert len(connections(admin)) <= 32

    asyncio.run(main())


def test_one_call_after_the_other_needs_one_connection(server: RedisServer, admin: redis.Redis) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server)) as cache:
            await fill(cache, SESSIONS)
            assert len(connections(admin)) == 1

    asyncio.run(main())


def test_closing_leaves_nothing_open(server: RedisServer, admin: redis.Redis) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server)) as cache:
            await fill(cache, 1)
            await asyncio.gather(*(look_up(cache, 0) for _ in range(100)))

    with no_resource_warning():
        asyncio.run(main())

    wait_for(lambda: not connections(admin), "the connections to be closed")


def test_a_closed_cache_that_is_used_again_opens_new_connections(server: RedisServer) -> None:
    async def main() -> None:
        cache = AsyncSessionCache.from_url(url_of(server))
        await fill(cache, 1)
        await cache.aclose()
        await look_up(cache, 0)
        await cache.aclose()
        await cache.aclose()

    with no_resource_warning():
        asyncio.run(main())


def test_calls_under_way_while_it_is_closed_are_answered_and_leave_nothing_open(
    server: RedisServer, admin: redis.Redis
) -> None:
    async def main() -> None:
        cache = AsyncSessionCache.from_url(url_of(server, "max_connections=4"))
        await fill(cache, 1)
        lookups = [asyncio.create_task(look_up(cache, 0)) for _ in range(100)]
        await asyncio.sleep(0)
        await cache.aclose()
        await asyncio.gather(*lookups)
        await cache.aclose()

    with no_resource_warning():
        asyncio.run(main())

    wait_for(lambda: not connections(admin), "the connections to be closed")


def test_a_call_that_finds_no_free_connection_has_sent_nothing(
    server: RedisServer, admin: redis.Redis
) -> None:
    """Of two writes to a server that stands still, one was sent: it alone has an unknown outcome."""

    async def main() -> list[BaseException | None]:
        async with AsyncSessionCache.from_url(url_of(server, "max_connections=1"), timeout=0.3) as cache:
            await cache.upsert_session(session_of(0))
            writes = (cache.upsert_run("s0", run_of(0, f"w{number}")) for number in range(2))
            with standing_still(server):
                return await asyncio.gather(*writes, return_exceptions=True)

    answers = asyncio.run(main())

    assert {type(answer) for answer in answers} == {OutcomeUnknownError, UnavailableError}


def test_a_connection_that_the_server_closed_while_idle_is_replaced(
    server: RedisServer, admin: redis.Redis
) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server)) as cache:
            await fill(cache, 1)
            await asyncio.gather(*(look_up(cache, 0) for _ in range(20)))
            for client in connections(admin):
                admin.client_kill_filter(_id=client["id"])
            await asyncio.sleep(0.01)
            await cache.upsert_run("s0", run_of(0, "after"))
            await look_up(cache, 0)

    with no_resource_warning():
        asyncio.run(main())


def test_after_an_answer_to_another_question_all_connections_are_given_up(
    server: RedisServer, admin: redis.Redis
) -> None:
    """The session's own id is in its metadata: an answer about another one is noticed, never returned."""

    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server), prefix="t") as cache:
            await fill(cache, 2)
            admin.hset("t:{s0}:meta", "session_id", "s1")
            with pytest.raises(ReplyMismatchError):
                await cache.get_session("s0")
            await until(lambda: not connections(admin))
            await look_up(cache, 1)

    with no_resource_warning():
        asyncio.run(main())


@pytest.mark.skipif(not supports_tls(), reason="this redis-server has no TLS")
def test_closing_does_not_wait_for_a_server_that_has_fallen_silent(tmp_path: Path) -> None:
    """TLS says goodbye to the other side, and waits for its answer: at most a third of the timeout."""
    material = tls_material(tmp_path)
    options = "&".join(f"{name}={value}" for name, value in material.client_options().items())

    async def main(server: RedisServer) -> float:
        cache = AsyncSessionCache.from_url(f"{server.tls_url}?{options}", timeout=4)
        await fill(cache, 1)
        await asyncio.gather(*(look_up(cache, 0) for _ in range(5)))
        with standing_still(server), Heartbeat() as heartbeat:
            stopwatch = Stopwatch(heartbeat)
            await cache.aclose()
            return stopwatch.seconds()

    with RedisServer(tls=material) as server:
        assert asyncio.run(main(server)) < 2
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # what that server never said goodbye to is no leak of ours, nor of the next test
