"""Whether Redis answers."""

from __future__ import annotations

from time import monotonic
from typing import Final

from sessioncache import keys
from sessioncache.errors import ReplyMismatchError
from sessioncache.flow import Flow, Request
from sessioncache.resilience import Call, ask

_PING: Final = ((b"PING",),)


def ping(call: Call) -> Flow[float]:
    """Ask the server, of a cluster every master, whether it answers; return the seconds of the slowest."""
    key = keys.index_of_all(call.settings.prefix)
    slowest = yield from _time(call, Request(key, _PING))
    for address in call.routing.servers():
        if address != call.routing.locate(key):
            slowest = max(slowest, (yield from _time(call, Request(key, _PING, address=address))))
    return slowest


def _time(call: Call, request: Request) -> Flow[float]:
    started = monotonic()
    if (yield from ask(call, request)) != b"PONG":
        raise ReplyMismatchError("the answer to a PING does not fit what was asked")
    return monotonic() - started
