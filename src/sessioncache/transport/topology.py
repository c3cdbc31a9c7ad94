"""Which server holds a key: always the same one, a node of a cluster, or the master that Sentinels name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, TypeVar

from redis.crc import key_slot
from redis.exceptions import ResponseError

from sessioncache.errors import ConfigurationError

from . import redis_errors
from .flow import Address, Command, Flow, Send
from .outages import Outages, Silences

T = TypeVar("T")

Remap = Callable[[tuple[str, int]], tuple[str, int]]
"""Returns the host and port to connect to, for those that a node of a cluster announces."""

DISCOVERY_SECONDS: Final = 1.0
"""Longest wait for one node's reply about where keys are; a call with less time gives equal shares."""


class Topology:
    """Which server holds a key, and what is known of the servers. This base knows at most one."""

    indexes_join_writes = True
    """Whether the indexes, in slots of their own, can be keys of the script that writes a session."""

    def __init__(self, only_server: Address | None = None) -> None:
        self.only_server = only_server
        """The server that holds every key; None if there are several, or if it has yet to be found."""
        self.permitting: set[Address] = set()
        """The servers that are known to let this user run everything that scripts call."""
        self.outages = Outages()
        """The servers that calls are being retried on."""
        self.silences = Silences()
        """The servers that are not waited for by who can do without them."""

    def __repr__(self) -> str:
        return str(self.only_server)

    def locate(self, key: bytes) -> Address | None:
        """Return the server that holds a key, or None if `discover` has to find out."""
        return self.only_server

    def servers(self) -> list[Address]:
        """Return every server that holds keys, as far as they are known."""
        return [self.only_server] if self.only_server else []

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the known servers where keys are; raise one of `redis_errors.REDIS_ERRORS` if none says."""
        yield from ()

    def redirect(self, error: redis_errors.RedirectError, asked: Address) -> Address:
        """Record the server that a redirection names, and return it; only a cluster redirects."""
        raise ConfigurationError(
            f"{asked} refuses: it is a node of a cluster: use redis+cluster://"
        ) from error

    def mark_down(self, address: Address) -> None:
        """Forget what was known of a server that did not serve as it should."""


class SingleServer(Topology):
    """Every key on one server."""


class Sentinels(Topology):
    """The master of a service, as its Sentinels name it."""

    def __init__(self, sentinels: Iterable[Address], service: str, db: int = 0) -> None:
        super().__init__()
        self._sentinels = Seeds(sentinels)
        self._service = service
        self._db = db
        self._command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.encode())

    def __repr__(self) -> str:
        return f"Sentinels {self._sentinels}/{self._service}/{self._db}"

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the Sentinels for the master, until one of them names it."""
        self.only_server = yield from self._sentinels.ask(self._command, seconds, self._read_master)

    def mark_down(self, address: Address) -> None:
        """Forget the master, and ask another Sentinel next: the one that named it may be behind."""
        if self.only_server == address:
            self.only_server = None
            self._sentinels.rotate()

    def _read_master(self, reply: Any, node: Address) -> Address:
        if reply is None:
            message = f"it watches no service {self._service!r}"
            raise ResponseError(message, status_code=redis_errors.MISCONFIGURED)
        host, port = reply
        return Address(host.decode(), int(port), db=self._db)


class Cluster(Topology):
    """The master of each slot, as the nodes themselves tell it (CLUSTER SLOTS)."""

    indexes_join_writes = False

    def __init__(self, seeds: Iterable[Address], remap: Remap | None = None) -> None:
        super().__init__()
        self._nodes = Seeds(seeds)
        self._slots = SlotMap()
        self._remap = remap

    def __repr__(self) -> str:
        return f"cluster {self._nodes}"

    def locate(self, key: bytes) -> Address | None:
        """Return the master of the key's slot, as far as it is known."""
        return self._slots.master(key_slot(key))

    def servers(self) -> list[Address]:
        """Return the masters, as far as they are known."""
        return self._slots.masters

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the known nodes for the masters of all slots, until one replies."""
        self._slots = yield from self._nodes.ask((b"CLUSTER", b"SLOTS"), seconds, self._read_slots)
        self._nodes.add(self._slots.masters)

    def redirect(self, error: redis_errors.RedirectError, asked: Address) -> Address:
        """Return the node that serves the slot; after a MOVED, ask it first where all the others are now.

        Slots move together: a failover or a resharding moves many, and one error tells of one.
        """
        target = self._address(error.host or asked.host, error.port)
        if redis_errors.code(error) == "MOVED":
            self._slots = SlotMap()
            self._nodes.put_first(target)
        return target

    def mark_down(self, address: Address) -> None:
        """Forget the masters, and ask this node last: if it failed, the others know who replaced it."""
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


class SlotMap:
    """The master of each slot of a cluster, as far as it is known; it does not change."""

    def __init__(self, ranges: Iterable[tuple[int, int, Address]] = ()) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _, _ in self._ranges]
        self.masters = list(dict.fromkeys(master for _, _, master in self._ranges))

    def master(self, slot: int) -> Address | None:
        """Return the master of a slot; None if nobody is known to serve it."""
        place = bisect_right(self._firsts, slot) - 1
        if place < 0:
            return None
        _, last, master = self._ranges[place]
        return master if slot <= last else None


class Seeds:
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
        """Ask the first one last."""
        self.put_last(self._order[0])

    def __str__(self) -> str:
        """Return their hosts and ports, as in a URL."""
        return ",".join(f"{node.host}:{node.port}" for node in self._order)

    def ask(self, command: Command, seconds: float, read: Callable[[Any, Address], T]) -> Flow[T]:
        """Return the first reply that says something; raise NotSentError if there is none.

        If any of them has a problem that may pass, the error is about that one.
        """
        deadline = monotonic() + seconds
        problem = redis_errors.NotSentError()
        nodes = self._order
        for place, node in enumerate(nodes):
            share = (deadline - monotonic()) / (len(nodes) - place + 1)
            try:
                (reply,) = yield Send(node, [command], min(share, DISCOVERY_SECONDS))
                return _read(reply, node, read)
            except redis_errors.REDIS_ERRORS as exc:
                self.put_last(node)
                if problem.address is None or not redis_errors.may_pass(problem):
                    problem = redis_errors.NotSentError(node)
                    problem.__cause__ = exc.__cause__ if isinstance(exc, redis_errors.NotSentError) else exc
        raise problem


def _read(reply: Any, node: Address, read: Callable[[Any, Address], T]) -> T:
    """Return what a reply says; raise it, or one of `redis_errors.REDIS_ERRORS` if it says nothing."""
    if isinstance(reply, Exception):
        raise reply
    try:
        return read(reply, node)
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise ConnectionError("the reply has an unknown form") from exc
