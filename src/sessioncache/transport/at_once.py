"""Exchanges of blocking code with several servers at once: all is written before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol

from .flow import Address, Command
from .redis_errors import REDIS_ERRORS

Outcome = list[Any] | Exception
"""The replies of a server, or why there are none."""


class Connections(Protocol):
    """The connections to one server, as many as there are slots."""

    address: Address
    idle: list[Any]
    slots: SimpleQueue[None]

    def take_slot(self, slot: list[None], deadline: float) -> None: ...  # noqa: D102
    def idle_connection(self) -> Any: ...  # noqa: D102
    def open_connection(self, deadline: float) -> Any: ...  # noqa: D102
    def write(self, connection: Any, commands: Sequence[Command], deadline: float) -> None: ...  # noqa: D102
    def read(self, connection: Any, n_replies: int) -> list[Any]: ...  # noqa: D102


class Part:
    """The exchange with one of the servers."""

    def __init__(self, pool: Connections, commands: Sequence[Command], seconds: float) -> None:
        self.pool = pool
        self.deadline = monotonic() + seconds
        self.outcome: Outcome | None = None
        self._commands = commands
        self._slot: list[None] = []
        self._connection: Any = None

    def take_slot(self) -> None:
        """Wait for a slot, and take an idle connection if there is one."""
        self.pool.take_slot(self._slot, self.deadline)
        self._connection = self.pool.idle_connection()

    def write_to_idle(self) -> None:
        """Send the commands if a connection is open."""
        if self._connection is not None:
            self.pool.write(self._connection, self._commands, self.deadline)

    def write_to_new(self) -> None:
        """Open a connection if none was, and send the commands."""
        if self._connection is None:
            self._connection = self.pool.open_connection(self.deadline)
            self.pool.write(self._connection, self._commands, self.deadline)

    def read(self) -> None:
        """Read the replies."""
        self.outcome = self.pool.read(self._connection, len(self._commands))
        self.pool.idle.append(self._connection)
        self._connection = None

    def end(self) -> None:
        """Close a connection that has not been read from, and give the slot back."""
        if self._connection is not None:
            self._connection.disconnect()
        if self._slot:
            self.pool.slots.put(None)


def exchange_all(parts: Sequence[Part]) -> list[Outcome]:
    """Exchange with all servers at once; return the outcome of each.

    Slots are taken in one order by all threads, so that no two wait for each other. A server that keeps
    silent at its opening holds up no other, and who may wait least is read first: the others can be late.
    """
    steps = (Part.take_slot, Part.write_to_idle, Part.write_to_new)
    try:
        for step in steps:
            _do(step, sorted(parts, key=lambda part: part.pool.address))
        _do(Part.read, sorted(parts, key=lambda part: part.deadline))
    finally:
        for part in parts:
            part.end()
    return [part.outcome or [] for part in parts]


def _do(step: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Take a step with those servers that nothing failed on."""
    for part in parts:
        if part.outcome is None:
            try:
                step(part)
            except REDIS_ERRORS as exc:
                part.outcome = exc
