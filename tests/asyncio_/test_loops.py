"""One cache in several event loops, threads and processes: each has connections of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from asyncio_.asking import connections, fill, look_up, no_resource_warning, run_of, session_of, url_of
from sessioncache import AsyncSessionCache
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    import redis

    from support.servers import RedisServer

SESSIONS = 20


@pytest.fixture
def cache(server: RedisServer) -> AsyncSessionCache:
    """A cache over `SESSIONS` sessions that has no connection open."""
    cache = AsyncSessionCache.from_url(url_of(server), timeout=30)
    asyncio.run(_closing(cache, fill(cache, SESSIONS)))
    return cache


async def _closing(cache: AsyncSessionCache, work: Coroutine[Any, Any, None]) -> None:
    async with cache:
        await work


async def _look_up_all(cache: AsyncSessionCache, times: int = 1) -> None:
    for _ in range(times):
        await asyncio.gather(*(look_up(cache, number) for number in range(SESSIONS)))


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_cache_works_in_a_second_loop(cache: AsyncSessionCache, admin: redis.Redis) -> None:
    """A client of redis-py fails there: its connections belong to the loop that opened them."""
    with no_resource_warning():
        for _ in range(3):
            asyncio.run(_closing(cache, _look_up_all(cache)))

    assert not connections(admin)


def test_a_cache_works_in_a_second_loop_while_the_first_is_only_paused(cache: AsyncSessionCache) -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    with no_resource_warning():
        for loop in (*loops, *loops):
            loop.run_until_complete(_look_up_all(cache))
        for loop in loops:
            loop.run_until_complete(cache.aclose())
            loop.close()


def test_loops_in_several_threads_use_one_cache_at_once(cache: AsyncSessionCache, admin: redis.Redis) -> None:
    with no_resource_warning():
        _in_threads(8, lambda: asyncio.run(_closing(cache, _look_up_all(cache, times=10))))

    wait_for(lambda: not connections(admin), "the connections to be closed")


@pytest.mark.usefixtures("frequent_switches")
def test_loops_that_come_and_go_in_several_threads_do_not_disturb_each_other(
    cache: AsyncSessionCache,
) -> None:
    def come_and_go() -> None:
        for _ in range(40):
            asyncio.run(_closing(cache, look_up(cache, 0)))

    _in_threads(6, come_and_go)


class _LoopWithAView(asyncio.SelectorEventLoop):
    """Tells when somebody asks whether it is closed: that is where a thread may be made to wait."""

    asked: Callable[[], None] | None = None

    def is_closed(self) -> bool:
        asked, self.asked = self.asked, None
        if asked:
            asked()
        return super().is_closed()


def test_a_loop_that_begins_in_another_thread_meanwhile_is_not_forgotten(cache: AsyncSessionCache) -> None:
    def begin_in_thread() -> None:
        _in_threads(1, lambda: late.run_until_complete(look_up(cache, 0)))

    first, second, late = _LoopWithAView(), asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(look_up(cache, 0))
    first.asked = begin_in_thread
    with no_resource_warning():
        second.run_until_complete(look_up(cache, 1))
        for loop in (first, second, late):
            loop.run_until_complete(cache.aclose())
            loop.close()


def _in_threads(number: int, work: Callable[[], None]) -> None:
    problems: list[BaseException] = []
    barrier = threading.Barrier(number)

    def run() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - shown by the test, whatever it is
            problems.append(exc)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, "".join(traceback.format_exception(problems[0]))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_parent_and_child_of_a_fork_have_connections_of_their_own(
    cache: AsyncSessionCache, admin: redis.Redis
) -> None:
    """A client of redis-py's asyncio, used after a fork, mixes the replies of the two processes."""

    async def parent() -> None:
        await _look_up_all(cache)
        opened = len(connections(admin))
        child = _fork(lambda: asyncio.run(_closing(cache, _child_looks_up(cache))))
        ended = asyncio.create_task(asyncio.to_thread(os.waitpid, child, 0))
        while not ended.done():
            await _look_up_all(cache)
        assert ended.result()[1] == 0
        await _look_up_all(cache)
        assert len(connections(admin)) == opened

    asyncio.run(_closing(cache, parent()))


async def _child_looks_up(cache: AsyncSessionCache) -> None:
    await _look_up_all(cache, times=20)
    await cache.upsert_session(session_of(SESSIONS))
    await cache.upsert_run("s0", run_of(0, "of the child"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_drops_an_inherited_cache_does_not_disturb_the_parent(
    server: RedisServer,
) -> None:
    """To close inherited connections would take their sockets out of the parent's event loop as well."""

    async def child(box: list[AsyncSessionCache]) -> None:
        await look_up(box[0], 0)
        await box[0].aclose()
        box.clear()
        gc.collect()

    async def parent() -> None:
        box = [AsyncSessionCache.from_url(url_of(server))]
        await box[0].upsert_session(session_of(0))
        pid = _fork(lambda: asyncio.run(child(box)))
        assert (await asyncio.to_thread(os.waitpid, pid, 0))[1] == 0
        await asyncio.wait_for(look_up(box[0], 0), 3)
        await box[0].aclose()

    asyncio.run(parent())


def _fork(work: Callable[[], None]) -> int:
    """Do something in a child process, which ends with status 0 if it went well."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a child must not run on into the parent's tests
        traceback.print_exc()
        status = 1
    os._exit(status)
