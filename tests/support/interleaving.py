"""What goes over the wire of one cache, round trip by round trip, and others who write in between."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sessioncache.transport.flow import Send, SendAll
from support.facade import BlockingFacade
from support.subjects import TTL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.subjects import Caches


@dataclass
class Trips:
    """The round trips of a cache while it is watched: what goes to several servers at once is one."""

    requests: list[tuple[tuple[bytes, ...], ...]] = field(default_factory=list)
    servers: list[int] = field(default_factory=list)
    """How many servers each went to."""

    def __len__(self) -> int:
        return len(self.requests)

    def names(self) -> list[str]:
        """The commands of all round trips, without MULTI and EXEC."""
        commands = [command[0].decode() for request in self.requests for command in request]
        return [name for name in commands if name not in ("MULTI", "EXEC")]


@contextlib.contextmanager
def watched(cache: Any, between: Callable[[int], object] = lambda _: None) -> Iterator[Trips]:
    """Note each round trip of a cache, of either kind; before the n-th one (from 0), call `between(n)`."""
    trips = Trips()

    def meet(effect: Any) -> None:
        sends = effect.parts if isinstance(effect, SendAll) else [effect]
        if all(isinstance(each, Send) for each in sends):
            between(len(trips))
            trips.requests.append(tuple(command for each in sends for command in each.commands))
            trips.servers.append(len(sends))

    is_async = isinstance(cache, BlockingFacade)
    transport = (cache.wrapped if is_async else cache).transport
    perform = transport._perform

    def perform_blocking(effect: Any) -> Any:
        meet(effect)
        return perform(effect)

    async def perform_awaited(effect: Any) -> Any:
        meet(effect)
        return await perform(effect)

    transport._perform = perform_awaited if is_async else perform_blocking
    try:
        yield trips
    finally:
        del transport._perform


def then(*actions: Callable[[], object]) -> Callable[[int], None]:
    """Do one action before each round trip but the first, as long as there are any."""
    left = list(actions)

    def act(trip: int) -> None:
        if trip and left:
            left.pop(0)()

    return act


def another_worker(caches: Caches) -> Any:
    """Make a blocking cache of the same sessions, which can be called at any time, in an event loop too."""
    return caches._sync({"prefix": caches.prefix, "ttl": TTL_SECONDS})
