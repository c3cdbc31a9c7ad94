"""Whether Redis answers."""

from __future__ import annotations

from time import monotonic
from typing import Final

from sessioncache import keys
from sessioncache.flow import Flow, Request
from sessioncache.resilience import Call, ask, locate

_PING: Final = ((b"PING",),)


def ping(call: Call) -> Flow[float]:
    """Ask the server, of a cluster every master, whether it answers; return the seconds of the slowest."""
    key = keys.index_of_all(call.settings.prefix)
    yield from locate(call, key)
    masters = call.routing.servers()
    slowest = 0.0
    # A single one is asked by a key: if another takes its place meanwhile, that one is asked.
    for address in masters if len(masters) > 1 else [None]:
        started = monotonic()
        yield from ask(call, Request(key, _PING, address=address))
        slowest = max(slowest, monotonic() - started)
    return slowest
