"""Signals, threads and forks: every answer belongs to its question, and no client dies of them."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import coverage
import pytest
import redis

from faults.reaching import a_run, session
from sessioncache import OutcomeUnknownError, SessionCache, UnavailableError
from support.heartbeat import Heartbeat, Stopwatch
from support.servers import RedisServer
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SESSIONS = 10
TIMEOUT = 2.0
OPEN_CONNECTIONS = 6
"""Most connections that one thread may have open at a time, counting those about to be collected."""


class LimitReachedError(Exception):
    """What a handler raises: nothing the library could know."""


class LimitReachedTimeoutError(TimeoutError):
    """What a handler raises that looks like an error of a socket."""


KINDS = {kind.__name__: kind for kind in (LimitReachedError, KeyboardInterrupt, LimitReachedTimeoutError)}


def _prepare(cache: SessionCache) -> None:
    for number in range(SESSIONS):
        run = a_run("r", content=f"run {number}", metadata={"n": number})
        stored = session(f"s{number}", session_data={"n": number})
        stored.runs = [run]
        cache.upsert_session(stored)


def _ask(cache: SessionCache, number: int) -> bool:
    """Ask one of several questions about a session; tell whether the answer is about it."""
    name = f"s{number}"
    match random.randrange(6):
        case 0:
            return cache.get_session(name).session_data == {"n": number}  # type: ignore[union-attr]
        case 1:
            return cache.get_run(name, "r").content == f"run {number}"  # type: ignore[union-attr]
        case 2:
            return [run.content for run in cache.get_runs(name)] == [f"run {number}"]
        case 3:
            return cache.get_workflow_history(name) == [("in r", f"run {number}")]
        case 4:
            names = [f"s{n}" for n in range(SESSIONS)]
            return [found.session_id for found in cache.get_sessions(names) if found] == names
    run = a_run("r", content=f"run {number}", metadata={"n": number})
    return cache.upsert_run(name, run) is None


@dataclass
class Interrupter:
    """Raises in the main thread at random moments, wherever in the library it is just then."""

    kind: type[BaseException]
    struck: int = 0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._handle)
        self._restart()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _restart(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, random.choice([20e-6, 100e-6, 300e-6, 1e-3, 3e-3]))

    def _handle(self, _: int, frame: FrameType | None) -> None:
        self._restart()
        if _is_in_library(frame):
            self.struck += 1
            raise self.kind


def _is_in_library(frame: FrameType | None) -> bool:
    while frame is not None:
        if f"{os.sep}sessioncache{os.sep}" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


@dataclass
class Report:
    """What a child process has seen."""

    calls: Counter[str] = field(default_factory=Counter)
    struck: int = 0
    most_connections: int = 0
    longest_after: float = 0.0


def _interrupted(url: str, seconds: float, kind_name: str) -> Report:
    """Ask questions for so long while a signal handler raises; then ask some more in peace."""
    report = Report()
    kind = KINDS[kind_name]
    with SessionCache.from_url(url, timeout=TIMEOUT) as cache, RedisAdmin(url) as admin:
        _prepare(cache)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with Interrupter(kind) as interrupter:
                for _ in range(200):
                    _ask_and_count(cache, kind, report)
            report.struck += interrupter.struck
            report.most_connections = max(report.most_connections, admin.settled_connections())
        with Heartbeat() as heartbeat:
            for number in range(200):
                stopwatch = Stopwatch(heartbeat)
                report.calls["right" if _ask(cache, number % SESSIONS) else "wrong"] += 1
                report.longest_after = max(report.longest_after, stopwatch.seconds())
    return report


def _ask_and_count(cache: SessionCache, kind: type[BaseException], report: Report) -> None:
    outcome = "interrupted"
    with contextlib.suppress(kind):
        try:
            outcome = "right" if _ask(cache, random.randrange(SESSIONS)) else "wrong"
        except OutcomeUnknownError:
            outcome = "unknown"
        except UnavailableError:
            outcome = "unavailable"
        except Exception as error:  # noqa: BLE001 - whatever else leaves the library is a finding
            outcome = "interrupted" if isinstance(error, kind) else f"wrong: {error!r}"
    report.calls[outcome] += 1


class RedisAdmin:
    """Counts a server's connections."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def connections(self) -> int:
        """Return how many connections there are but this one."""
        return len(self._client.client_list()) - 1

    def settled_connections(self) -> int:
        """Return how many stay when garbage is collected, and the server has noticed what was closed."""
        gc.collect()
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: self.connections() <= OPEN_CONNECTIONS, "connections to close", seconds=5)
        return self.connections()


def _in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own, spawned, so that it has one thread; return its answer."""
    context = multiprocessing.get_context("spawn")  # with daemon=True no child outlives the tests
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_answer, args=(sender, function, args), daemon=True)
    process.start()
    sender.close()
    try:
        assert receiver.poll(60), "the child does not answer"
        answer = receiver.recv()
        process.join(10)
        assert process.exitcode == 0
        return answer
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send_answer(sender: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Send what a function returns; unmeasured, for coverage's lock does not survive an interruption."""
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.stop()
    sender.send(function(*args))


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server nobody else is connected to."""
    with RedisServer(unix=False) as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [3.0])
def test_a_client_that_is_interrupted_stays_whole(own: RedisServer, seconds: float, kind: str) -> None:
    """An exception raised between send and read, by a signal handler, leaves no reply to the next caller."""
    report = _in_child(_interrupted, own.url, seconds, kind)

    assert report.struck > 100 * seconds
    assert {outcome for outcome in report.calls if outcome.startswith("wrong")} == set()
    assert report.calls["right"] > 0
    assert report.calls["unavailable"] == 0, "a client that runs out of connections is dead"
    assert report.most_connections <= OPEN_CONNECTIONS
    assert report.longest_after < TIMEOUT


def _interrupted_beside_threads(url: str, seconds: float) -> Report:
    report = Report()
    done = threading.Event()
    with SessionCache.from_url(f"{url}?max_connections=2", timeout=TIMEOUT) as cache:
        _prepare(cache)
        threads = [
            threading.Thread(target=_ask_until, args=(done, cache, report), daemon=True) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with Interrupter(LimitReachedError) as interrupter:
                for _ in range(50):
                    _ask_and_count(cache, LimitReachedError, Report())
            report.struck += interrupter.struck
        done.set()
        for thread in threads:
            thread.join(2 * TIMEOUT)
            report.calls["hung"] += thread.is_alive()
    return report


def _ask_until(done: threading.Event, cache: SessionCache, report: Report) -> None:
    while not done.is_set():
        _ask_and_count(cache, LimitReachedError, report)


def test_threads_beside_one_that_is_interrupted_go_on(own: RedisServer) -> None:
    """Signals strike the main thread, and what it holds at that moment must not be lacking to the others."""
    report = _in_child(_interrupted_beside_threads, own.url, 5.0)

    assert report.struck > 100
    assert report.calls.pop("hung") == 0
    assert set(report.calls) == {"right"}


def test_threads_share_one_client(make_cache: Callable[..., Any]) -> None:
    cache = make_cache()
    _prepare(cache)
    outcomes: Counter[bool] = Counter()
    threads = [threading.Thread(target=_ask_often, args=(cache, outcomes, 150)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == {True: 8 * 150}


def _ask_often(cache: Any, outcomes: Counter[bool], times: int) -> None:
    answers = [_ask(cache, random.randrange(SESSIONS)) for _ in range(times)]
    outcomes.update(answers)


def _forked(url: str, children: int) -> list[int]:
    """Fork with open connections; return the exit codes of the children, the parent's own last."""
    with SessionCache.from_url(url, timeout=TIMEOUT) as cache:
        _prepare(cache)
        pids = [_fork(cache, number) for number in range(children)]
        own_code = _check_often(cache)
        return [*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), own_code]


def _fork(cache: SessionCache, number: int) -> int:
    pid = os.fork()
    if pid == 0:
        random.seed(number)
        os._exit(_check_often(cache))
    return pid


def _check_often(cache: SessionCache) -> int:
    """Return 0 where each of many answers was right."""
    try:
        return 0 if all(_ask(cache, random.randrange(SESSIONS)) for _ in range(500)) else 1
    except Exception:  # noqa: BLE001 - told by the code
        return 2


def test_a_forked_client_works_in_parent_and_children(own: RedisServer) -> None:
    """Each process opens connections of its own: replies are never mixed between them."""
    assert _in_child(_forked, own.url, 4) == [0] * 5
