"""Which server holds a key: always the same one, a node of a cluster, or the master that Sentinels name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from redis.crc import key_slot

from . import faults
from .errors import UnavailableError
from .flow import Address, Command, Flow, Send

T = TypeVar("T")


class SingleServer:
    """Every key on one server."""

    indexes_join_writes = True

    def __init__(self, address: Address) -> None:
        self._address = address

    def locate(self, key: bytes) -> Address:
        """Return the one server."""
        return self._address

    def servers(self) -> list[Address]:
        """Return the one server."""
        return [self._address]

    def discover(self, seconds: float) -> Flow[None]:
        """Find nothing out: there is nothing to find."""
        yield from ()

    def redirect(self, error: faults.RedirectError) -> Address:
        """Stay: a server outside a cluster redirects nobody, so this one belongs to a cluster."""
        raise UnavailableError("the server is a node of a cluster: use redis+cluster://") from error

    def suspect(self, address: Address) -> None:
        """Stay: there is no other."""


class Cluster:
    """The master of each slot, as the nodes themselves tell it (CLUSTER SLOTS)."""

    indexes_join_writes = False

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._nodes = list(seeds)
        self._masters: dict[int, Address] = {}

    def locate(self, key: bytes) -> Address | None:
        """Return the master of the key's slot, as far as it is known."""
        return self._masters.get(key_slot(key))

    def servers(self) -> list[Address]:
        """Return the masters, as far as they are known."""
        return list(dict.fromkeys(self._masters.values()))

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the nodes that are known for the masters of all slots, until one answers."""
        question = (b"CLUSTER", b"SLOTS")
        self._masters = yield from _first_answer(self._nodes, question, seconds, _read_slots)
        self._nodes = list(dict.fromkeys([*self._masters.values(), *self._nodes]))

    def redirect(self, error: faults.RedirectError) -> Address:
        """Take in a MOVED; return the node that serves the slot."""
        target = Address(error.host, error.port)
        if faults.code(error) == "MOVED":
            self._masters[error.slot_id] = target
        return target

    def suspect(self, address: Address) -> None:
        """Forget who is master, and ask this node last: one that fails is replaced by one others know."""
        self._masters = {}
        _put_last(self._nodes, address)


class Sentinels:
    """The master of a service, as its Sentinels name it."""

    indexes_join_writes = True

    def __init__(self, sentinels: Sequence[Address], service: str) -> None:
        self._sentinels = list(sentinels)
        self._command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.encode())
        self._master: Address | None = None

    def locate(self, key: bytes) -> Address | None:
        """Return the master, as far as it is known."""
        return self._master

    def servers(self) -> list[Address]:
        """Return the master, as far as it is known."""
        return [self._master] if self._master else []

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the Sentinels for the master, until one of them names it."""
        self._master = yield from _first_answer(self._sentinels, self._command, seconds, _read_master)

    def redirect(self, error: faults.RedirectError) -> Address:
        """Stay: a server that Sentinels watch redirects nobody."""
        raise UnavailableError("the server is a node of a cluster: use redis+cluster://") from error

    def suspect(self, address: Address) -> None:
        """Forget who is master, and let another Sentinel say it: the one that named it may be behind."""
        self._master = None
        self._sentinels.append(self._sentinels.pop(0))


DISCOVERY_SECONDS: Final = 1.0
"""Longest wait for one node's word on where keys are: a silent one must not use up the whole call."""


def _first_answer(
    nodes: Sequence[Address], command: Command, seconds: float, read: Callable[[Any, Address], T | None]
) -> Flow[T]:
    problem: Exception = ConnectionError("no node has an answer")
    for node in tuple(nodes):
        try:
            (reply,) = yield Send(node, [command], min(seconds, DISCOVERY_SECONDS))
        except faults.REDIS_ERRORS as exc:
            problem = exc
            continue
        if isinstance(reply, Exception):
            problem = reply
        elif answer := read(reply, node):
            return answer
    raise faults.NotSentError from problem


def _read_slots(reply: Any, node: Address) -> dict[int, Address]:
    """Return the master of each slot; a node that does not know its own name leaves its host empty."""
    masters = {}
    for first, last, (host, port, *_), *_ in reply:
        master = Address(host.decode() if host else node.host, port)
        masters.update(dict.fromkeys(range(first, last + 1), master))
    return masters


def _read_master(reply: Any, node: Address) -> Address | None:
    return Address(reply[0].decode(), int(reply[1])) if reply else None


def _put_last(nodes: list[Address], node: Address) -> None:
    if node in nodes:
        nodes.remove(node)
        nodes.append(node)
