"""Several flows at the same time: what they send goes out at once, one write to each server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

from .flow import Address, Effect, Flow, Send, SendAll, Sleep
from .redis_errors import REDIS_ERRORS

T = TypeVar("T")


class _Running(Generic[T]):
    """A flow under way: the effect it waits for, or how it ended."""

    def __init__(self, flow: Flow[T]) -> None:
        self.effect: Effect | None = None
        self.error: Exception | None = None
        self.results: list[T] = []
        self._flow = flow

    def resume(self, outcome: Any) -> None:
        """Give the flow what became of its effect; an exception is raised in it."""
        self.effect = None
        is_error = isinstance(outcome, Exception)
        try:
            self.effect = self._flow.throw(outcome) if is_error else self._flow.send(outcome)
        except StopIteration as done:
            self.results.append(done.value)
        except Exception as exc:  # noqa: BLE001 - raised once all others have ended
            self.error = exc


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Run flows at the same time, each to its end, and return their results in order.

    Then the first error among them is raised: an error of one leaves no other half done.
    """
    if len(flows) == 1:
        return [(yield from flows[0])]
    running = [_Running(flow) for flow in flows]
    try:
        for each in running:
            each.resume(None)
        while waiting := [each for each in running if each.effect is not None]:
            yield from _perform(waiting)
    finally:
        for flow in flows:
            flow.close()
    for each in running:
        if each.error is not None:
            raise each.error
    return [result for each in running for result in each.results]


def _perform(waiting: Sequence[_Running[T]]) -> Flow[None]:
    """Perform what flows wait for: who sends goes first, and who sleeps goes last."""
    senders = [each for each in waiting if isinstance(each.effect, Send | SendAll)]
    asleep = [each.effect.seconds for each in waiting if isinstance(each.effect, Sleep)]
    if senders:
        yield from _send(senders)
    elif len(asleep) == len(waiting):
        yield Sleep(max(asleep))
        for each in waiting:
            each.resume(None)
    else:
        other = next(each for each in waiting if not isinstance(each.effect, Sleep))
        other.resume((yield from _outcome_of(other.effect)))


def _send(senders: Sequence[_Running[T]]) -> Flow[None]:
    """Send what flows want to send, each server's share in one write, and give each flow its outcome."""
    wanted = [_sends_of(each.effect) for each in senders]
    by_server: dict[Address, list[Send]] = {}
    for send in chain.from_iterable(wanted):
        by_server.setdefault(send.address, []).append(send)
    parts = [_part(address, sends) for address, sends in by_server.items()]
    outcomes = (yield SendAll(parts)) if len(parts) > 1 else [(yield from _outcome_of(parts[0]))]
    replies = {
        address: outcome if isinstance(outcome, Exception) else iter(outcome)
        for address, outcome in zip(by_server, outcomes, strict=True)
    }
    for each, sends in zip(senders, wanted, strict=True):
        own = [_own_outcome(send, replies[send.address]) for send in sends]
        each.resume(own if isinstance(each.effect, SendAll) else own[0])


def _sends_of(effect: Effect | None) -> Sequence[Send]:
    return effect.parts if isinstance(effect, SendAll) else [effect] if isinstance(effect, Send) else []


def _part(address: Address, sends: Sequence[Send]) -> Send:
    commands = [*chain.from_iterable(send.commands for send in sends)]
    return Send(address, commands, max(send.seconds for send in sends))


def _own_outcome(send: Send, replies: Exception | Iterator[Any]) -> Any:
    return replies if isinstance(replies, Exception) else [next(replies) for _ in send.commands]


def _outcome_of(effect: Any) -> Flow[Any]:
    """Perform one effect; return what it raises."""
    try:
        return (yield effect)
    except REDIS_ERRORS as exc:
        return exc
