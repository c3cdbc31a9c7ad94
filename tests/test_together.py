"""Flows at the same time: what they send goes out at once, and each gets its own replies and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from sessioncache.transport.flow import Address, Send, SendAll, Sleep
from sessioncache.transport.together import together

if TYPE_CHECKING:
    from collections.abc import Callable

ONE, TWO = Address("one", 1), Address("two", 2)


def asks(address: Address, *names: bytes, seconds: float = 1) -> Any:
    """A flow that sends some commands and returns their replies."""
    return (yield Send(address, [(name,) for name in names], seconds))


def perform(flow: Any, answer: Callable[[Send], Any]) -> tuple[Any, list[Any]]:
    """Run a flow; return its result and its effects."""
    effects: list[Any] = []
    value: Any = None
    try:
        while True:
            effect = flow.throw(value) if isinstance(value, Exception) else flow.send(value)
            effects.append(effect)
            if isinstance(effect, SendAll):
                value = [answer(part) for part in effect.parts]
            else:
                value = answer(effect) if isinstance(effect, Send) else None
    except StopIteration as done:
        return done.value, effects


def echo(send: Send) -> list[bytes]:
    """Reply with the name of each command."""
    return [name for (name,) in send.commands]


def test_what_goes_to_one_server_is_one_write() -> None:
    flows = [asks(ONE, b"a", b"b"), asks(TWO, b"c", seconds=2), asks(ONE, b"d", seconds=3)]
    results, (effect,) = perform(together(flows), echo)

    assert results == [[b"a", b"b"], [b"c"], [b"d"]]
    assert effect == SendAll([Send(ONE, [(b"a",), (b"b",), (b"d",)], 3), Send(TWO, [(b"c",)], 2)])


def test_an_error_is_raised_when_all_others_have_ended() -> None:
    ended = []

    def two_steps() -> Any:
        for _ in range(2):
            yield from asks(TWO, b"a")
        ended.append(True)

    def answer(send: Send) -> Any:
        return RedisConnectionError("lost") if send.address == ONE else echo(send)

    with pytest.raises(RedisConnectionError, match="lost"):
        perform(together([asks(ONE, b"a"), two_steps()]), answer)
    assert ended == [True]


def test_who_sleeps_does_not_hold_up_who_sends() -> None:
    def sleepy(seconds: float) -> Any:
        yield Sleep(seconds)
        return (yield from asks(ONE, b"late"))

    results, effects = perform(together([sleepy(1), asks(ONE, b"a"), sleepy(2)]), echo)

    assert results == [[b"late"], [b"a"], [b"late"]]
    assert [type(effect) for effect in effects] == [Send, Sleep, Send]
    assert effects[1] == Sleep(2)


def test_flows_within_flows_are_at_the_same_time_too() -> None:
    inner = together([asks(ONE, b"a"), asks(TWO, b"b")])
    results, effects = perform(together([inner, asks(ONE, b"c")]), echo)

    assert results == [[[b"a"], [b"b"]], [b"c"]]
    assert [len(effect.parts) for effect in effects] == [2]


def test_what_is_left_of_flows_is_closed() -> None:
    closed = []

    def watched() -> Any:
        try:
            yield from asks(ONE, b"a")
        finally:
            closed.append(True)

    flow = together([watched(), watched()])
    next(flow)
    flow.close()

    assert closed == [True, True]
