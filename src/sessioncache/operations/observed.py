"""Calls that are observed: what each took, said once it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar

from sessioncache.options import Settings
from sessioncache.storage.snapshot import snapshot_of
from sessioncache.transport.flow import Address, Flow, Send, SendAll
from sessioncache.transport.redis_errors import REDIS_ERRORS

from .context import Context
from .runs import RunsAfter

T = TypeVar("T")

log = logging.getLogger("sessioncache")


@dataclass(frozen=True, slots=True)
class CallRecord:
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
    tokens = [_safely(observer.started, METHODS.get(ctx.name, ctx.name), subject) for observer in observers]
    measure = _Measure()
    result: Any = None
    error: BaseException | None = None
    try:
        result = yield from measure.run(flow)
    except BaseException as exc:
        error = exc
        raise
    finally:
        record = measure.record(ctx, result, error)
        for observer, token in zip(observers, tokens, strict=True):
            _safely(observer.ended, token, record)
    returned: T = result
    return returned


def _safely(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except Exception:
        log.exception("an observer of calls failed")
        return None


class _Measure:
    """What a flow sends and receives."""

    def __init__(self) -> None:
        self._begun = perf_counter()
        self._trips = self._sent = self._received = 0
        self._server: Address | None = None

    def run(self, flow: Flow[T]) -> Flow[T]:
        """Pass on every effect and what becomes of it."""
        step: Callable[[Any], Any] = flow.send
        value: Any = None
        try:
            while True:
                effect = step(value)
                try:
                    value = yield effect
                    step = flow.send
                except REDIS_ERRORS as exc:
                    value, step = exc, flow.throw
                if isinstance(effect, Send):
                    self._note(effect, value)
                elif isinstance(effect, SendAll):
                    self._trips -= len(effect.parts) - 1
                    for part, outcome in zip(effect.parts, value, strict=True):
                        self._note(part, outcome)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()

    def _note(self, send: Send, outcome: Any) -> None:
        self._server = self._server or send.address
        self._trips += 1
        self._sent += sum(sum(map(len, command)) for command in send.commands)
        self._received += size_of(outcome)

    def record(self, ctx: Context, result: Any, error: BaseException | None) -> CallRecord:
        """Return what the call was."""
        host, port, _, db = self._server or ("", 0, False, 0)
        return CallRecord(
            METHODS.get(ctx.name, ctx.name),
            perf_counter() - self._begun,
            self._trips,
            self._sent,
            self._received,
            len(ctx.failed_on),
            None if error is None else type(error).__name__,
            None if error is not None else runs_of(result),
            ctx.near_outcome,
            host,
            port,
            db,
            ctx.settings.prefix,
        )


_NUMBER_BYTES: Final = 8


def size_of(reply: Any) -> int:
    """Return about how many bytes a reply has."""
    if type(reply) is bytes:
        return len(reply)
    if type(reply) is list:
        try:
            return len(b"".join(reply))
        except TypeError:
            return sum(map(size_of, reply))
    return len(str(reply)) if isinstance(reply, Exception) else _NUMBER_BYTES if reply is not None else 0


def runs_of(result: Any) -> int | None:
    """Return how many runs a call returned; None if what it returned is neither a run nor a session."""
    if isinstance(result, list):
        numbers = [runs_of(each) for each in result]
        known = [number for number in numbers if number is not None]
        return sum(known) if known else None
    if isinstance(result, RunsAfter):
        return len(result.runs)
    if not hasattr(result, "run_id"):
        loaded = snapshot_of(result) if hasattr(result, "__dict__") else None
        return len(loaded.stored) if loaded else None
    return 1
