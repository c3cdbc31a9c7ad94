"""What a broken connection means: reads are repeated, writes only where surely nothing ran.

Every call ends within its `timeout` and a constant, whatever the other side does.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import a_run, disconnect, permitted, run_ids, session, within
from sessioncache import (
    ConfigurationError,
    OutcomeUnknownError,
    ReplyMismatchError,
    SessionCacheError,
    UnavailableError,
)
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import RedisServer
    from support.wire import Fault, FaultProxy

LOST: list[Fault] = ["reset_on_connect", "reset_before_send", "reset_after_send", "half_reply"]
"""Faults that end a connection at once; the first one may strike before anything is sent."""

STALLED: list[Fault] = ["black_hole", "silence", "drip"]
"""Faults that keep it open, and no answer, or no whole answer, ever comes."""

TIMEOUT = 0.8

CALLS: dict[str, Callable[[Any], object]] = {
    "read": lambda cache: cache.get_session("s"),
    "write": lambda cache: cache.upsert_run("s", a_run("r1", created_at=2)),
}


def _prepared(connect: Any, proxy: FaultProxy, **options: Any) -> Any:
    """Make a cache on the proxy that has stored session `s` with one run."""
    cache = connect(proxy.url, **options)
    cache.upsert_session(session(runs=1))
    disconnect(cache)
    return cache


@contextlib.contextmanager
def _unavailable(kind: type[UnavailableError] = UnavailableError, timeout: float = TIMEOUT) -> Iterator[None]:
    """Check that the block raises just this kind of error, within the timeout, and says why."""
    with within(timeout), pytest.raises(UnavailableError) as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None


# every fault


@contextlib.contextmanager
def _always(proxy: FaultProxy, fault: Any) -> Iterator[None]:
    if fault == "refused":
        with proxy.refusing():
            yield
    else:
        proxy.arm(fault, times=1000, seconds=0.05)
        yield
        proxy.disarm()


@pytest.mark.parametrize("fault", ["refused", *LOST, *STALLED])
@pytest.mark.parametrize(("call", "timeout"), [("read", 0.2), ("read", 0.6), ("write", 0.4)])
def test_a_call_ends_with_its_timeout(
    proxy: FaultProxy, connect: Any, fault: str, call: str, timeout: float
) -> None:
    """Of a write the outcome is unknown if it may have been sent; to repeat it stores it once."""
    cache = _prepared(connect, proxy, timeout=timeout)
    is_sent = call == "write" and fault not in ("refused", "reset_on_connect")
    proxy.reset()

    with _always(proxy, fault), _unavailable(OutcomeUnknownError if is_sent else UnavailableError, timeout):
        CALLS[call](cache)
    assert proxy.connections == 1 or not is_sent, "it is sent once"
    patient = connect(proxy.url)
    CALLS["write"](patient)
    assert run_ids(patient.get_session("s")) == ["r0", "r1"]


def test_a_write_waits_for_a_server_that_comes_back(proxy: FaultProxy, connect: Any) -> None:
    cache = _prepared(connect, proxy)
    with ThreadPoolExecutor() as pool:
        with proxy.refusing():
            writing = pool.submit(CALLS["write"], cache)
            with pytest.raises(TimeoutError):
                writing.result(0.1)
        writing.result()

    assert run_ids(cache.get_session("s")) == ["r0", "r1"]


# lost


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_read_is_repeated(proxy: FaultProxy, connect: Any, fault: Fault) -> None:
    cache = _prepared(connect, proxy)
    proxy.arm(fault)

    assert run_ids(cache.get_session("s")) == ["r0"]
    assert proxy.armed == 0


@pytest.mark.parametrize("fault", LOST)
def test_repeating_a_write_of_unknown_outcome_stores_it_once(
    proxy: FaultProxy, connect: Any, fault: Fault
) -> None:
    cache = _prepared(connect, proxy)
    for number in range(1, 4):
        proxy.arm(fault)
        with contextlib.suppress(OutcomeUnknownError):
            cache.upsert_run("s", a_run(f"r{number}", created_at=number + 1))
        cache.upsert_run("s", a_run(f"r{number}", created_at=number + 1))

    assert run_ids(cache.get_session("s")) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("fault", LOST)
def test_repeating_the_save_of_a_session_is_safe(proxy: FaultProxy, connect: Any, fault: Fault) -> None:
    """Created anew, and loaded and changed."""
    cache = connect(proxy.url)
    new = session("new", runs=2, session_data={"a": 1})
    proxy.arm(fault)
    with contextlib.suppress(OutcomeUnknownError):
        cache.upsert_session(new)
    cache.upsert_session(new)
    loaded = cache.get_session("new")
    loaded.session_data["b"] = 2
    disconnect(cache)
    proxy.arm(fault)
    with contextlib.suppress(OutcomeUnknownError):
        cache.upsert_session(loaded)
    cache.upsert_session(loaded)

    stored = cache.get_session("new")
    assert stored.session_data == {"a": 1, "b": 2}
    assert run_ids(stored) == ["r0", "r1"]


def test_a_closed_connection_is_noticed_before_a_write_is_sent(proxy: FaultProxy, connect: Any) -> None:
    cache = _prepared(connect, proxy)
    for number in range(20):
        proxy.drop_connections()

        cache.upsert_run("s", a_run(f"x{number}"))


@pytest.mark.parametrize("fault", ["reset_after_send", "half_reply", "silence", "drip"])
def test_what_was_left_of_a_reply_is_never_the_answer_to_another_question(
    proxy: FaultProxy, connect: Any, fault: Fault
) -> None:
    cache = connect(proxy.url, timeout=TIMEOUT)
    for name in ("a", "b"):
        cache.upsert_session(session(name, session_data={"name": name}))
    for number in range(3):
        proxy.arm(fault, seconds=0.05)
        with contextlib.suppress(UnavailableError):
            cache.get_session("a")

        assert cache.get_session("b").session_data == {"name": "b"}, number


# stalled


def test_a_slow_answer_is_an_answer(proxy: FaultProxy, connect: Any) -> None:
    cache = _prepared(connect, proxy)
    proxy.arm("delay", seconds=0.2)
    assert run_ids(cache.get_session("s")) == ["r0"]
    proxy.arm("delay", seconds=0.2)

    cache.upsert_run("s", a_run("r1"))


@pytest.mark.parametrize("fault", STALLED)
def test_a_login_that_stalls_ends_with_the_timeout(proxy: FaultProxy, connect: Any, fault: Fault) -> None:
    cache = connect(proxy.url.replace("redis://", "redis://user:password@"), timeout=TIMEOUT)
    proxy.arm(fault, times=1000, match=b"AUTH", seconds=0.07)

    with _unavailable():
        cache.upsert_session(session())


def test_a_paused_server_is_unavailable_after_the_timeout(connect: Any, redis_server: RedisServer) -> None:
    cache = connect(redis_server.url, timeout=TIMEOUT, prefix="paused")
    cache.delete_session("s")
    cache.upsert_session(session())
    redis_server.pause()
    try:
        with _unavailable(OutcomeUnknownError):
            CALLS["write"](cache)
        for call in CALLS.values():  # there is no connection now, so nothing is sent
            with _unavailable():
                call(cache)
    finally:
        redis_server.resume()

    CALLS["write"](cache)
    assert run_ids(cache.get_session("s")) == ["r1"]


@contextlib.contextmanager
def _black_hole() -> Iterator[int]:
    """Give a port whose connections neither open nor fail: its line of those waiting is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_connecting_into_a_black_hole_ends_with_the_timeout(connect: Any) -> None:
    with _black_hole() as port:
        cache = connect(f"redis://127.0.0.1:{port}", timeout=TIMEOUT)

        for call in CALLS.values():
            with _unavailable():
                call(cache)


@contextlib.contextmanager
def _slow_reader() -> Iterator[str]:
    """Give a URL where what is sent is read a little at a time, and not answered but for an introduction."""
    with socket.socket() as listener, ThreadPoolExecutor() as pool:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = threading.Event()
        pool.submit(_read_slowly, listener, done)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        done.set()


def _read_slowly(listener: socket.socket, done: threading.Event) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"-ERR unknown command 'HELLO'\r\n")
        while not done.wait(0.01) and connection.recv(4096):
            pass


def test_a_request_that_is_taken_slowly_ends_with_the_timeout(connect: Any) -> None:
    """Even if the request goes out in many pieces, each of which makes some progress."""
    runs = [a_run(f"r{number}", content="x" * 20_000) for number in range(150)]
    with _slow_reader() as url:
        cache = permitted(connect(url, timeout=TIMEOUT))

        with within(TIMEOUT + 0.1), pytest.raises(OutcomeUnknownError):
            cache.upsert_runs("s", runs)


def test_waiting_for_a_busy_connection_ends_with_the_timeout(proxy: FaultProxy, connect: Any) -> None:
    connect(proxy.url).upsert_session(session())
    cache = connect(f"{proxy.url}?max_connections=1", timeout=TIMEOUT)
    proxy.arm("silence", match=b"HGETALL")
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(cache.get_session, "s")
        wait_for(lambda: not proxy.armed, "the reader to hold the connection")
        with within(TIMEOUT), contextlib.suppress(UnavailableError):  # it may just get it in the end
            CALLS["write"](cache)

        assert isinstance(reading.exception(), UnavailableError)
    CALLS["write"](cache)


@contextlib.contextmanager
def _speaking(answer: bytes) -> Iterator[str]:
    """Give the URL of a port that says this whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_speak, args=(listener, answer), daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def _speak(listener: socket.socket, answer: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65_536):
                    connection.sendall(answer)


def test_a_server_of_another_protocol_is_refused_before_anything_is_sent(connect: Any) -> None:
    with _speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        cache = permitted(connect(url, timeout=TIMEOUT))

        for call in CALLS.values():
            with within(0), pytest.raises(ConfigurationError, match="does not speak Redis' protocol"):
                call(cache)


@pytest.mark.parametrize(
    "answer", [b"*2\r\n*0\r\n*0\r\n", b"*2\r\n$4\r\nmode\r\n*0\r\n", b":1\r\n", b"*-1\r\n"]
)
def test_an_answer_to_another_question_is_an_error_of_ours(connect: Any, answer: bytes) -> None:
    with _speaking(answer) as url, pytest.raises(ReplyMismatchError):
        connect(url, timeout=TIMEOUT).ping()


@pytest.mark.parametrize("host", ["foo..bar", "a" * 70])
def test_a_host_that_can_be_none_is_an_error_of_ours(connect: Any, host: str) -> None:
    with pytest.raises(SessionCacheError):
        connect(f"redis://{host}", timeout=TIMEOUT).get_session("s")
