"""Cancelled at any moment, a call leaves the cache whole, and a write is applied or not, never half."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from asyncio_.asking import (
    check_runs,
    check_session,
    connections,
    fill,
    look_up,
    no_resource_warning,
    run_of,
    standing_still,
    until,
    url_of,
)
from sessioncache import AsyncSessionCache
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import redis

    from support.servers import RedisServer

SESSIONS = 20
CALLS = 5_000
AT_ONCE = 250
SLOTS = 8
BATCH = 3
LONGEST_WAIT = 0.03
"""Seconds after which a call is cancelled at the latest: about what `AT_ONCE` calls take."""


class _Mixed:
    """Calls of all kinds; what was asked is checked against what was answered."""

    def __init__(self, cache: AsyncSessionCache) -> None:
        self.cache = cache
        self.answered: set[int] = set()
        self.writes: dict[int, int] = {}

    async def call(self, serial: int) -> None:
        """Make the call of a serial number: which one, and about which session, follows from it."""
        kinds: list[Callable[[int, int], Awaitable[None]]] = [
            self._write,
            self._load,
            self._load_many,
            self._history,
            self._run,
            self._list,
            self._state,
        ]
        await kinds[serial % len(kinds)](serial, random.randrange(SESSIONS))
        self.answered.add(serial)

    async def _write(self, serial: int, number: int) -> None:
        self.writes[serial] = number
        runs = [run_of(number, f"w{serial}.{index}", created_at=100) for index in range(BATCH)]
        await self.cache.upsert_runs(f"s{number}", runs)

    async def _load(self, serial: int, number: int) -> None:
        await look_up(self.cache, number)

    async def _load_many(self, serial: int, number: int) -> None:
        numbers = [number, (number + 7) % SESSIONS, (number + 3) % SESSIONS]
        sessions = await self.cache.get_sessions([f"s{number}" for number in numbers], last_n_runs=1)
        for asked, session in zip(numbers, sessions, strict=True):
            check_session(asked, session)

    async def _history(self, serial: int, number: int) -> None:
        check_runs(number, await self.cache.get_runs(f"s{number}", last_n_runs=4))

    async def _run(self, serial: int, number: int) -> None:
        run = await self.cache.get_run(f"s{number}", "r1")
        assert run is not None
        assert (run.run_id, run.content) == ("r1", f"of s{number}")

    async def _list(self, serial: int, number: int) -> None:
        page = await self.cache.list_sessions(limit=3, name=f"name {number}")
        assert all(f"name {number}" in (session.session_name or "") for session in page.sessions)

    async def _state(self, serial: int, number: int) -> None:
        await self.cache.update_session_state(f"s{number}", {f"k{serial}": serial})


async def _cancelled_at_random(mixed: _Mixed) -> int:
    """Make all calls, cancel most of them; return how many were really cut short."""
    loop = asyncio.get_running_loop()
    cancelled = 0
    for first in range(0, CALLS, AT_ONCE):
        tasks = [asyncio.create_task(mixed.call(serial)) for serial in range(first, first + AT_ONCE)]
        for task in tasks:
            if random.random() < 0.8:
                loop.call_later(random.uniform(0, LONGEST_WAIT), task.cancel)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
        wrong = [
            answer
            for answer in answers
            if answer is not None and not isinstance(answer, asyncio.CancelledError)
        ]
        assert not wrong, wrong[0]
    return cancelled


async def _check_writes(mixed: _Mixed) -> None:
    """Every write was applied whole or not at all; whatever was answered, was."""
    stored: set[str] = set()
    for number in range(SESSIONS):
        session = await mixed.cache.get_session(f"s{number}")
        check_session(number, session)
        assert session is not None
        stored |= {run.run_id or "" for run in session.runs or []}
    for serial in mixed.writes:
        found = sum(f"w{serial}.{index}" in stored for index in range(BATCH))
        assert found in (0, BATCH)
        assert serial not in mixed.answered or found == BATCH


async def _check_slots(cache: AsyncSessionCache, admin: redis.Redis) -> None:
    """All connections can be used at once: the server holds back as many writes as there are slots."""
    admin.client_pause(30_000, all=False)
    writes = [asyncio.create_task(cache.upsert_run("s0", run_of(0, f"last {n}"))) for n in range(2 * SLOTS)]
    await until(lambda: sum("b" in client["flags"] for client in connections(admin)) == SLOTS)
    assert len(connections(admin)) == SLOTS
    admin.client_unpause()
    await asyncio.gather(*writes)


def test_cancelling_mixed_calls_at_random_gives_no_wrong_reply_and_leaks_nothing(
    server: RedisServer, admin: redis.Redis
) -> None:
    async def main() -> None:
        url = url_of(server, f"max_connections={SLOTS}")
        async with AsyncSessionCache.from_url(url, timeout=60) as cache:
            await fill(cache, SESSIONS)
            mixed = _Mixed(cache)
            assert await _cancelled_at_random(mixed) > CALLS / 10
            assert len(mixed.answered) > CALLS / 10
            await until(lambda: len(connections(admin)) <= SLOTS)
            await _check_slots(cache, admin)
            await _check_writes(mixed)

    with no_resource_warning():
        asyncio.run(main())

    wait_for(lambda: not connections(admin), "the connections to be closed")


def test_a_cancelled_call_ends_at_once_and_its_connection_with_it(
    server: RedisServer, admin: redis.Redis
) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server), timeout=60) as cache:
            await fill(cache, 1)
            with standing_still(server):
                lookup = asyncio.create_task(look_up(cache, 0))
                await asyncio.sleep(0.02)
                lookup.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(lookup, 1)
            await look_up(cache, 0)

    with no_resource_warning():
        asyncio.run(main())


def test_a_call_cancelled_in_the_queue_does_not_hold_up_those_behind_it(
    server: RedisServer, admin: redis.Redis
) -> None:
    """redis-py's BlockingConnectionPool loses wake-ups then: waiters sleep on beside free connections."""

    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server, "max_connections=1"), timeout=60) as cache:
            await fill(cache, 1)
            for _ in range(50):
                lookups = [asyncio.create_task(look_up(cache, 0)) for _ in range(20)]
                await asyncio.sleep(0)
                for lookup in lookups[:-1]:
                    lookup.cancel()
                await asyncio.wait_for(lookups[-1], 5)
                await asyncio.gather(*lookups, return_exceptions=True)

    with no_resource_warning():
        asyncio.run(main())


def test_a_timeout_around_a_call_is_the_callers_own(server: RedisServer, admin: redis.Redis) -> None:
    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server), timeout=60) as cache:
            await fill(cache, 1)
            with standing_still(server), pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await look_up(cache, 0)
            await look_up(cache, 0)

    asyncio.run(main())


def test_a_group_of_tasks_that_fails_cancels_its_lookups_cleanly(server: RedisServer) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def look_all_up_and_fail(cache: AsyncSessionCache) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(SESSIONS):
                group.create_task(look_up(cache, number))
            group.create_task(fail())

    async def main() -> None:
        async with AsyncSessionCache.from_url(url_of(server)) as cache:
            await fill(cache, SESSIONS)
            with pytest.raises(ExceptionGroup):
                await look_all_up_and_fail(cache)
            for number in range(SESSIONS):
                await look_up(cache, number)

    with no_resource_warning():
        asyncio.run(main())
