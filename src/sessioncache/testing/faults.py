"""Faults on demand: Redis is down, slow or full, a reply gets lost, a session is damaged.

They strike between the library and the server, a real one or the embedded one, so that all that the library
does about them is what it does in production; but it does not go on trying.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final
from unittest.mock import patch

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError

from sessioncache.client import SessionCache
from sessioncache.errors import UnavailableError
from sessioncache.operations.context import Context
from sessioncache.operations.scanning import scan
from sessioncache.storage import keys
from sessioncache.storage.scripts import TRY_COMMANDS
from sessioncache.transport.awaited import AsyncTransport
from sessioncache.transport.batch import send_all
from sessioncache.transport.blocking import BlockingTransport
from sessioncache.transport.flow import Effect, Flow, Send, SendAll
from sessioncache.transport.redis_errors import REDIS_ERRORS, NotSentError, describe
from sessioncache.transport.request import Request
from sessioncache.transport.retry import Call, send

SCRIPTS: Final = frozenset({b"EVALSHA", b"EVAL"})

FULL: Final = "command not allowed when used memory > 'maxmemory'."

Before = Callable[[Send], float]
"""Called before what is sent; raises what happens instead, or returns how many seconds it takes longer."""

After = Callable[[Send, list[Any]], list[Any]]
"""Called with the replies; returns those that arrive, or raises."""


@total_ordering
@dataclass(eq=False)
class Trips:
    """How many round trips there were; grows until the block ends, and compares with numbers."""

    count: int = 0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """Compare with a number."""
        return self.count == other

    def __lt__(self, other: int) -> bool:
        """Compare with a number."""
        return self.count < other

    def __int__(self) -> int:
        """Return the number."""
        return self.count


class Faults:
    """Faults for all caches of this process, each until its block ends."""

    def __init__(self, session_cache: Callable[[], SessionCache]) -> None:
        self._session_cache = session_cache

    @contextmanager
    def down(self) -> Iterator[None]:
        """Have no server reply: every call raises UnavailableError."""

        def refuse(each: Send) -> float:
            raise NotSentError(each.address) from ConnectionRefusedError("down, as session_cache_faults says")

        with _between(before=refuse), _without_patience():
            yield

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Have every round trip take so much longer; a call takes its `timeout` at most."""
        with _between(before=lambda _: seconds):
            yield

    @contextmanager
    def lost_reply(self) -> Iterator[None]:
        """Lose the reply to the next write, which is stored: it raises OutcomeUnknownError."""
        lost: list[bool] = []

        def lose(each: Send, replies: list[Any]) -> list[Any]:
            if not lost and _is_write(each) and not any(isinstance(reply, Exception) for reply in replies):
                lost.append(True)
                raise RedisConnectionError("the reply is lost, as session_cache_faults says")
            return replies

        with _between(after=lose):
            yield

    @contextmanager
    def full(self) -> Iterator[None]:
        """Have the server refuse what needs memory: writes raise UnavailableError, reads are served."""

        def refuse(each: Send) -> float:
            if _is_write(each):
                raise OutOfMemoryError(FULL)
            return 0.0

        with _between(before=refuse, is_reply=True), _without_patience():
            yield

    @contextmanager
    def damaged(self, session_id: str) -> Iterator[None]:
        """Damage a session of `session_cache`, as something else would: it counts as absent."""
        cache = self._session_cache()
        meta, _ = keys.session_keys(cache.settings.prefix, session_id)
        before = cache._run(_exchange, Request(meta, ((b"HGET", meta, b"count"),)))  # noqa: SLF001 - as below
        if before is None:
            raise LookupError(f"session_cache has no session {session_id!r}")
        for_count = (b"HSET", meta, b"count", b"damaged")
        cache._run(_exchange, Request(meta, (for_count,), writes=True))  # noqa: SLF001 - no call of a user's
        try:
            yield
        finally:
            restored = Request(meta, ((b"HSET", meta, b"count", before),), writes=True)
            cache._run(_exchange, restored)  # noqa: SLF001

    @contextmanager
    def counted(self) -> Iterator[Trips]:
        """Count round trips; what goes to several servers at once is one."""
        trips = Trips()

        def count(effect: Effect) -> None:
            trips.count += isinstance(effect, Send | SendAll)

        with _watching(count):
            yield trips


def _exchange(ctx: Context, request: Request) -> Flow[Any]:
    return (yield from send(ctx, request))


def remove_all(ctx: Context) -> Flow[None]:
    """Remove all keys of a prefix."""

    def remove(step: Context, found: Sequence[bytes]) -> Flow[bool]:
        yield from send_all(step, [Request(key, ((b"UNLINK", key),), writes=True) for key in found])
        return True

    yield from scan(ctx, remove)


def _is_write(each: Send) -> bool:
    """Return whether what is sent runs a script, but for the one that tries commands, or only reads."""
    scripts = [command for command in each.commands if command[0] in SCRIPTS]
    return any(command[1] != TRY_COMMANDS and command[1] not in _READING for command in scripts)


def _reading_scripts() -> frozenset[bytes]:
    from sessioncache.operations.changes import _GET_CHANGES  # noqa: PLC0415
    from sessioncache.operations.runs import _GET_RUN  # noqa: PLC0415
    from sessioncache.transport.request import READ_UNIT  # noqa: PLC0415

    scripts = (_GET_CHANGES, _GET_RUN, READ_UNIT)
    return frozenset(word for script in scripts for word in (script.sha, script.text))


_READING: Final = _reading_scripts()


@contextmanager
def _without_patience() -> Iterator[None]:
    """Have calls give up at once: a test does not wait for five seconds."""

    def give_up(call: Call, exc: BaseException, server: str) -> Flow[None]:
        yield from ()
        raise UnavailableError(f"{server}: {describe(exc)}") from exc

    with patch.object(Call, "back_off", give_up):
        yield


class _Between:
    """What stands between the library and all servers."""

    def __init__(
        self,
        before: Before = lambda _: 0.0,
        after: After = lambda _, replies: replies,
        *,
        is_reply: bool = False,
    ) -> None:
        """What `before` raises `is_reply` if the server itself says so."""
        self._before = before
        self._after = after
        self._is_reply = is_reply

    def perform(self, original: Callable[..., Any], transport: BlockingTransport, effect: Effect) -> Any:
        """Perform an effect of blocking code."""
        if isinstance(effect, SendAll):
            return [self._outcome_of(original, transport, part) for part in effect.parts]
        if not isinstance(effect, Send):
            return original(transport, effect)
        seconds, instead = self._meet(effect)
        time.sleep(min(seconds, effect.seconds))
        _raise_if_late(seconds, effect)
        return self._after(effect, instead or original(transport, effect))

    async def exchange(self, original: Callable[..., Any], transport: AsyncTransport, each: Send) -> Any:
        """Send what a task sends."""
        seconds, instead = self._meet(each)
        await asyncio.sleep(min(seconds, each.seconds))
        _raise_if_late(seconds, each)
        return self._after(each, instead or await original(transport, each))

    def _outcome_of(self, original: Callable[..., Any], transport: BlockingTransport, part: Send) -> Any:
        try:
            return self.perform(original, transport, part)
        except REDIS_ERRORS as exc:
            return exc

    def _meet(self, each: Send) -> tuple[float, list[Any] | None]:
        """Return how long it takes longer, and the replies if the server is not to be asked."""
        try:
            return self._before(each), None
        except ResponseError as exc:
            if not self._is_reply:
                raise
            return 0.0, [exc] * len(each.commands)


def _raise_if_late(seconds: float, each: Send) -> None:
    if seconds > each.seconds:
        raise TimeoutError("it is slow, as session_cache_faults says")


@contextmanager
def _between(**what: Any) -> Iterator[None]:
    """Stand between the library and all servers; the arguments are those of `_Between`."""
    between = _Between(**what)
    perform, exchange = BlockingTransport._perform, AsyncTransport._exchange  # noqa: SLF001 - all is sent there

    def performed(self: BlockingTransport, effect: Effect) -> Any:
        return between.perform(perform, self, effect)

    async def exchanged(self: AsyncTransport, each: Send) -> Any:
        return await between.exchange(exchange, self, each)

    with (
        patch.object(BlockingTransport, "_perform", performed),
        patch.object(AsyncTransport, "_exchange", exchanged),
    ):
        yield


@contextmanager
def _watching(note: Callable[[Effect], None]) -> Iterator[None]:
    """Note every effect of all caches."""
    perform, perform_async = BlockingTransport._perform, AsyncTransport._perform  # noqa: SLF001

    def noted(self: BlockingTransport, effect: Effect) -> Any:
        note(effect)
        return perform(self, effect)

    async def noted_async(self: AsyncTransport, effect: Effect) -> Any:
        note(effect)
        return await perform_async(self, effect)

    with (
        patch.object(BlockingTransport, "_perform", noted),
        patch.object(AsyncTransport, "_perform", noted_async),
    ):
        yield
