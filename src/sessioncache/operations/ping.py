"""`ping`: whether Redis replies."""

from __future__ import annotations

from time import monotonic
from typing import Final

from sessioncache.errors import ReplyMismatchError
from sessioncache.storage import keys
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.transport.together import together

from .context import Context

_PING: Final = ((b"PING",),)


def ping(ctx: Context) -> Flow[float]:
    """Ask the server, in a cluster every master, for a reply; return the seconds of the slowest."""
    key = keys.index_of_all(ctx.settings.prefix)
    first = yield from _time(ctx, Request(key, _PING))
    asked = ctx.topology.locate(key)
    others = [Request(key, _PING, address=address) for address in ctx.topology.servers() if address != asked]
    return max(first, *(yield from together([_time(ctx, request) for request in others])), 0)


def _time(ctx: Context, request: Request) -> Flow[float]:
    started = monotonic()
    if (yield from send(ctx, request)) != b"PONG":
        raise ReplyMismatchError("the reply to PING does not fit the request")
    return monotonic() - started
