"""Which server holds a key: always the same one, a node of a cluster, or the master that Sentinels name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar

from redis.crc import key_slot
from redis.exceptions import ResponseError

from . import faults
from .errors import ConfigurationError
from .flow import Address, Command, Flow, Send
from .outages import Outages

T = TypeVar("T")

Remap = Callable[[tuple[str, int]], tuple[str, int]]
"""Gives the host and port to connect to, for those that a node of a cluster announces."""

DISCOVERY_SECONDS: Final = 1.0
"""Longest wait for one node's word on where keys are; a call that has less for each gives equal shares."""


class Informants:
    """Servers that know where keys are, to be asked in turn; one that failed is asked last from then on.

    Shared by threads without a lock: the order is replaced, never changed in place.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._order = tuple(addresses)

    def add(self, addresses: Iterable[Address]) -> None:
        """Ask these too, after those that are known."""
        self._order = tuple(dict.fromkeys([*self._order, *addresses]))

    def put_first(self, address: Address) -> None:
        """Ask this one first."""
        self._order = (address, *(other for other in self._order if other != address))

    def put_last(self, address: Address) -> None:
        """Ask this one last."""
        self._order = (*(other for other in self._order if other != address), address)

    def rotate(self) -> None:
        """Ask last which was asked first."""
        self.put_last(self._order[0])

    def __str__(self) -> str:
        """Return their hosts and ports, as in a URL."""
        return ",".join(f"{node.host}:{node.port}" for node in self._order)

    def ask(self, command: Command, seconds: float, read: Callable[[Any, Address], T]) -> Flow[T]:
        """Return the first answer that says something; raise NotSentError if there is none.

        It tells of a problem that may pass, if any of them has one.
        """
        deadline = monotonic() + seconds
        problem = faults.NotSentError()
        nodes = self._order
        for place, node in enumerate(nodes):
            share = (deadline - monotonic()) / (len(nodes) - place + 1)
            try:
                (reply,) = yield Send(node, [command], min(share, DISCOVERY_SECONDS))
                return _read(reply, node, read)
            except faults.REDIS_ERRORS as exc:
                self.put_last(node)
                if problem.address is None or not faults.may_pass(problem):
                    problem = faults.NotSentError(node)
                    problem.__cause__ = exc.__cause__ if isinstance(exc, faults.NotSentError) else exc
        raise problem


def _read(reply: Any, node: Address, read: Callable[[Any, Address], T]) -> T:
    """Return what a reply says; raise it, or one of `faults.REDIS_ERRORS` if it says nothing."""
    if isinstance(reply, Exception):
        raise reply
    try:
        return read(reply, node)
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise ConnectionError("the answer has a form that is not known") from exc


class SingleServer:
    """Every key on one server."""

    indexes_join_writes = True

    def __init__(self, address: Address) -> None:
        self._address = address
        self.permitting: set[Address] = set()
        self.outages = Outages()

    def __repr__(self) -> str:
        return str(self._address)

    def locate(self, key: bytes) -> Address:
        """Return the one server."""
        return self._address

    def servers(self) -> list[Address]:
        """Return the one server."""
        return [self._address]

    def discover(self, seconds: float) -> Flow[None]:
        """Find nothing out: there is nothing to find."""
        yield from ()

    def redirect(self, error: faults.RedirectError, asked: Address) -> Address:
        """Stay: a server outside a cluster redirects nobody, so this one belongs to a cluster."""
        _refuse_node(error, asked)

    def suspect(self, address: Address) -> None:
        """Stay: there is no other."""


class SlotMap:
    """The master of each slot of a cluster, as far as it is known; it does not change."""

    def __init__(self, ranges: Iterable[tuple[int, int, Address]] = ()) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _, _ in self._ranges]
        self.masters = list(dict.fromkeys(master for _, _, master in self._ranges))

    def master(self, slot: int) -> Address | None:
        """Return the master of a slot; None where nobody is known to serve it."""
        place = bisect_right(self._firsts, slot) - 1
        if place < 0:
            return None
        _, last, master = self._ranges[place]
        return master if slot <= last else None


class Cluster:
    """The master of each slot, as the nodes themselves tell it (CLUSTER SLOTS)."""

    indexes_join_writes = False

    def __init__(self, seeds: Iterable[Address], remap: Remap | None = None) -> None:
        self._nodes = Informants(seeds)
        self.permitting: set[Address] = set()
        self._slots = SlotMap()
        self._remap = remap
        self.outages = Outages()

    def __repr__(self) -> str:
        return f"cluster {self._nodes}"

    def locate(self, key: bytes) -> Address | None:
        """Return the master of the key's slot, as far as it is known."""
        return self._slots.master(key_slot(key))

    def servers(self) -> list[Address]:
        """Return the masters, as far as they are known."""
        return self._slots.masters

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the nodes that are known for the masters of all slots, until one answers."""
        self._slots = yield from self._nodes.ask((b"CLUSTER", b"SLOTS"), seconds, self._read_slots)
        self._nodes.add(self._slots.masters)

    def redirect(self, error: faults.RedirectError, asked: Address) -> Address:
        """Return the node that serves the slot; after a MOVED, ask it first where all the others are now.

        Slots move together: a failover or a resharding moves many, and one error tells of one.
        """
        target = self._address(error.host or asked.host, error.port)
        if faults.code(error) == "MOVED":
            self._slots = SlotMap()
            self._nodes.put_first(target)
        return target

    def suspect(self, address: Address) -> None:
        """Forget who is master, and ask this node last: one that fails is replaced by one others know."""
        if address in self._slots.masters:
            self._slots = SlotMap()
        self._nodes.put_last(address)

    def _read_slots(self, reply: Any, node: Address) -> SlotMap:
        """Return the masters of all slots; a node that does not know its own name leaves its host empty."""
        ranges = [
            (first, last, self._address(host.decode() if host else node.host, port))
            for first, last, (host, port, *_), *_ in reply
        ]
        if not ranges:
            raise ConnectionError("the node knows of no master")
        return SlotMap(ranges)

    def _address(self, host: str, port: int) -> Address:
        return Address(*self._remap((host, port))) if self._remap else Address(host, port)


class Sentinels:
    """The master of a service, as its Sentinels name it."""

    indexes_join_writes = True

    def __init__(self, sentinels: Iterable[Address], service: str, db: int = 0) -> None:
        self._sentinels = Informants(sentinels)
        self.permitting: set[Address] = set()
        self._service = service
        self._db = db
        self._command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.encode())
        self._master: Address | None = None
        self.outages = Outages()

    def __repr__(self) -> str:
        return f"Sentinels {self._sentinels}/{self._service}/{self._db}"

    def locate(self, key: bytes) -> Address | None:
        """Return the master, as far as it is known."""
        return self._master

    def servers(self) -> list[Address]:
        """Return the master, as far as it is known."""
        return [self._master] if self._master else []

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the Sentinels for the master, until one of them names it."""
        self._master = yield from self._sentinels.ask(self._command, seconds, self._read_master)

    def redirect(self, error: faults.RedirectError, asked: Address) -> Address:
        """Stay: a server that Sentinels watch redirects nobody."""
        _refuse_node(error, asked)

    def suspect(self, address: Address) -> None:
        """Forget who is master, and let another Sentinel say it: the one that named it may be behind."""
        if self._master == address:
            self._master = None
            self._sentinels.rotate()

    def _read_master(self, reply: Any, node: Address) -> Address:
        if reply is None:
            raise ResponseError(f"it watches no service {self._service!r}", status_code=faults.MISCONFIGURED)
        host, port = reply
        return Address(host.decode(), int(port), db=self._db)


def _refuse_node(error: faults.RedirectError, asked: Address) -> NoReturn:
    raise ConfigurationError(f"{asked} refuses: it is a node of a cluster: use redis+cluster://") from error
