"""Calls that are observed: what each took, said once it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sessioncache.options import Settings
from sessioncache.storage.snapshot import SNAPSHOT
from sessioncache.transport.flow import Address, Flow, Send, SendAll
from sessioncache.transport.redis_errors import REDIS_ERRORS

from .context import Context
from .runs import RunsAfter

T = TypeVar("T")

log = logging.getLogger("sessioncache")


class CallRecord(NamedTuple):
    """What one call was: no id and nothing that a user wrote."""

    name: str
    """The name of the method."""
    seconds: float
    round_trips: int
    """What goes to several servers at once is one."""
    bytes_sent: int
    """Arguments of commands, in bytes."""
    bytes_received: int
    """Replies, in bytes."""
    retries: int
    error: str | None
    """The name of the class of what the call raised."""
    runs: int | None
    """How many runs were returned; None for a call that returns none."""
    near_cache: str | None
    """What the near cache did: the name of what NearCacheInfo counts; None if it did nothing."""
    server: str
    """The host, or the path of the socket, that was asked first; empty if none was."""
    port: int
    db: int
    prefix: str


METHODS: Final[Mapping[str, str]] = {"get_runs_after": "iter_runs", "next_sessions": "iter_sessions"}
"""The methods of operations that have another name: each page of an iteration is a call."""

OnCall = Callable[[CallRecord], object]


class Observer(Protocol):
    """Who is told of calls."""

    def started(self, name: str, subject: Any) -> Any:
        """Return what is given back at the end; `subject` is the first argument of the call."""

    def ended(self, token: Any, record: CallRecord) -> None:
        """Take what the call was."""


class Telling:
    """An observer that is a callable of one record."""

    def __init__(self, on_call: OnCall) -> None:
        self._on_call = on_call

    def started(self, name: str, subject: Any) -> None:
        """Do nothing."""

    def ended(self, token: Any, record: CallRecord) -> None:
        """Tell it."""
        self._on_call(record)


def observers_of(settings: Settings) -> tuple[Observer, ...]:
    """Return who is told of the calls of a cache from its beginning."""
    return (Telling(settings.on_call),) if settings.on_call else ()


def observed(observers: Sequence[Observer], ctx: Context, flow: Flow[T], subject: Any) -> Flow[T]:
    """Run a flow, and tell observers what it was: an error of theirs is logged, and no error of the call."""
    name = METHODS.get(ctx.name, ctx.name)
    tokens = [_safely(observer.started, name, subject) for observer in observers]
    begun, sends, trips = perf_counter(), [], 0
    step: Callable[[Any], Any] = flow.send
    value: Any = None
    result: Any = None
    error: BaseException | None = None
    try:
        while True:
            effect = step(value)
            try:
                value, step = (yield effect), flow.send
            except REDIS_ERRORS as exc:
                value, step = exc, flow.throw
            if isinstance(effect, Send):
                trips += 1
                sends.append((effect, value))
            elif isinstance(effect, SendAll):
                trips += 1
                sends += zip(effect.parts, value, strict=True)
    except StopIteration as done:
        result = done.value
        return result
    except BaseException as exc:
        error = exc
        raise
    finally:
        flow.close()
        seconds = perf_counter() - begun
        record = _record(name, ctx, seconds, trips, sends, result, error)
        for observer, token in zip(observers, tokens, strict=True):
            _safely(observer.ended, token, record)


def _record(
    name: str,
    ctx: Context,
    seconds: float,
    trips: int,
    sends: Sequence[tuple[Send, Any]],
    result: Any,
    error: BaseException | None,
) -> CallRecord:
    host, port, _, db = sends[0][0].address if sends else _NOWHERE
    return CallRecord(
        name,
        seconds,
        trips,
        sum([sum(map(len, chain.from_iterable(send.commands))) for send, _ in sends]),
        sum([size_of(outcome) for _, outcome in sends]),
        len(ctx.failed_on),
        None if error is None else type(error).__name__,
        None if error is not None else runs_of(result),
        ctx.near_outcome,
        host,
        port,
        db,
        ctx.settings.prefix,
    )


_NOWHERE: Final = Address("", 0)


def _safely(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception:
        log.exception("an observer of calls failed")
        return None


_NUMBER_BYTES: Final = 8


def size_of(reply: Any) -> int:
    """Return about how many bytes a reply has."""
    kind = type(reply)
    if kind is bytes:
        return len(reply)
    if kind is list:
        return sum([len(each) if type(each) is bytes else size_of(each) for each in reply])
    return _NUMBER_BYTES if reply is not None else 0


def runs_of(result: Any) -> int | None:
    """Return how many runs a call returned; None if what it returned is neither a run nor a session."""
    if result is None or isinstance(result, bool | int | float | str):
        return None
    if isinstance(result, list):
        known = [number for each in result if (number := runs_of(each)) is not None]
        return sum(known) if known else None
    if isinstance(result, RunsAfter):
        return len(result.runs)
    known_as = getattr(result, "__dict__", {})
    if SNAPSHOT in known_as:
        return len(known_as[SNAPSHOT].stored)
    return 1 if hasattr(result, "run_id") else None
