"""What an operation is: a generator that yields effects, is sent their results, and returns its own.

A transport performs effects and decides nothing. What to send, and what to do about a reply or an error, is
decided in generators, so that it is written once for blocking code and for asyncio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Command = tuple[bytes, ...]


class Address(NamedTuple):
    """A server: host and port, or a socket's path and 0."""

    host: str
    port: int
    is_sentinel: bool = False
    db: int = 0

    def __str__(self) -> str:
        """Return what messages call it: `host:port/db`, or a URL if it has no port."""
        if not self.port:
            return self.host if "://" in self.host else f"unix://{self.host}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Sentinel {host}:{self.port}" if self.is_sentinel else f"{host}:{self.port}/{self.db}"


class Send(NamedTuple):
    """Effect: send commands to one server in one write. The result is one reply for each, errors included."""

    address: Address
    commands: Sequence[Command]
    seconds: float


class SendAll(NamedTuple):
    """Effect: send to several servers at once, each in one write, before any reply is read.

    The result is one outcome for each: its replies, or the exception that a single Send would raise.
    """

    parts: Sequence[Send]


class Probe(NamedTuple):
    """Effect: ask a server in another protocol. The result says what is wrong with the URL, or is None."""

    address: Address
    seconds: float


class Sleep(NamedTuple):
    """Effect: wait. The result is None."""

    seconds: float


class Await(NamedTuple):
    """Effect: await. The result is the awaited one; a blocking transport raises InvalidArgumentError."""

    awaitable: Awaitable[object]


Effect = Send | SendAll | Probe | Sleep | Await
Flow = Generator[Effect, Any, T]
