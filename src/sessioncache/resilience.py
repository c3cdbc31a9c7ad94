"""Asking Redis and not giving up too early: routing, retries, redirections, and the time a call may take."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Protocol

from . import faults, permissions
from .errors import ConfigurationError, OutcomeUnknownError, SessionCacheError, UnavailableError
from .faults import Action
from .flow import Address, Command, Flow, Look, Request, Send, Sleep
from .outages import Outages
from .settings import Settings

FIRST_PAUSE: Final = 0.005
"""Seconds before the first retry, doubled for each further one: longer than a call, shorter than outages."""

LONGEST_PAUSE: Final = 0.25
"""Seconds between two retries at the most: how late the end of an outage is noticed."""

LOOK_SECONDS: Final = 0.25
"""Longest wait for what a server says in another protocol: one that speaks it answers at once."""


class Routing(Protocol):
    """Which server holds a key: one server, a cluster, or the master that Sentinels name."""

    indexes_join_writes: bool
    """Whether the indexes, in slots of their own, can be keys of the script that writes a session."""

    permitting: set[Address]
    """The servers that are known to let this user run all that scripts call."""

    outages: Outages
    """The servers that calls are being retried on."""

    def locate(self, key: bytes) -> Address | None:
        """Return the server that holds a key, or None where `discover` has to find out."""

    def servers(self) -> list[Address]:
        """Return every server that holds keys, as far as it is known."""

    def discover(self, seconds: float) -> Flow[None]:
        """Ask the servers that are known where keys are; raise one of `faults.REDIS_ERRORS` if none says."""

    def redirect(self, error: faults.RedirectError, asked: Address) -> Address:
        """Take in which server holds a slot now, as the one asked said, and return it."""

    def suspect(self, address: Address) -> None:
        """Forget what was believed of a server that did not serve as it should."""


@dataclass(slots=True)
class Call:
    """One call of a user: its cache's options, where keys are, and until when to try."""

    routing: Routing
    settings: Settings
    name: str = "call"
    started: float = field(default_factory=monotonic)
    pause: float = FIRST_PAUSE
    asked: float = 0.0
    failed_on: tuple[str, ...] = ()

    def seconds_left(self) -> float:
        """Return how long this call may still take."""
        return self.started + self.settings.timeout - monotonic()

    def server(self, address: Address | None, exc: BaseException) -> str:
        """Return the name of the server that failed: the one asked, else the one that names none."""
        return str(address or getattr(exc, "address", None) or self.routing)

    def rest(self, exc: BaseException, server: str) -> Flow[None]:
        """Wait before a retry, longer each time; raise UnavailableError where no time is left for one.

        A retry gets as long as the pause before it, and as a server that refused took: one cut short would
        turn a refusal that is known into an outcome that is not.
        """
        pause = self.pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards no secret
        least = max(pause, monotonic() - self.asked) if faults.is_refusal(exc) else pause
        if pause + least >= self.seconds_left():
            took = monotonic() - self.started
            raise UnavailableError(f"{server}: gave up after {took:.2f} s: {faults.describe(exc)}") from exc
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        yield Sleep(pause)


def ask(call: Call, request: Request) -> Flow[Any]:
    """Send a request to the server that holds its key and return the reply: one round trip.

    Reads are repeated until the call's time is over, writes only where surely no server ran them.
    """
    asking: Address | None = None
    while True:
        address = asking
        call.asked = monotonic()
        try:
            address = address or request.address or (yield from locate(call, request.key))
            yield from _check_permissions(call, address, [request], asking)
            replies = yield Send(address, _wire(request, asking), call.seconds_left())
            reply = request.settle(replies)
        except faults.REDIS_ERRORS as exc:
            asking = None
            action = faults.action(exc, writes=request.writes)
            if action is Action.SEND_SCRIPT:
                request = request.with_full_script()
            elif action is Action.READ_IN_SCRIPT and request.script is None:
                request = request.as_script()
            elif address is not None and isinstance(exc, faults.RedirectError):
                asking = yield from _redirect(call, exc, address)
            elif action is Action.RETRY and not request.optional:
                yield from _prepare_retry(call, address, exc)
            else:
                raise _given_up(call, address, exc, writes=request.writes) from exc
        else:
            _note_served(call, address)
            return reply


def _wire(request: Request, asking: Address | None) -> list[Command]:
    return [(b"ASKING",), *request.wire()] if asking else request.wire()


def _check_permissions(
    call: Call, address: Address, requests: Iterable[Request], asking: Address | None = None
) -> Flow[None]:
    """Raise ConfigurationError if a script that writes would be refused on its way; ask a server once."""
    if address in call.routing.permitting:
        return
    write = next((request for request in requests if request.writes and request.script), None)
    if write is None:
        return
    check = permissions.check_before(write, call.settings.prefix)
    try:
        replies = yield Send(address, _wire(check, asking), call.seconds_left())
    except faults.NotSentError:
        raise
    except faults.REDIS_ERRORS as exc:
        raise faults.NotSentError from exc  # the check is lost, and the write yet to be sent
    if permissions.read_check(check, check.settle(replies), str(address)):
        call.routing.permitting.add(address)


def locate(call: Call, key: bytes) -> Flow[Address]:
    """Return the server that holds a key, finding out where that is if need be."""
    if (address := call.routing.locate(key)) is not None:
        return address
    yield from call.routing.discover(call.seconds_left())
    if (address := call.routing.locate(key)) is not None:
        return address
    raise faults.NotSentError from ConnectionError("no server holds the key")


def _redirect(call: Call, exc: faults.RedirectError, asked: Address) -> Flow[Address | None]:
    """Learn where a slot lives; return the server to go to just this once, where it is only on its way."""
    target = call.routing.redirect(exc, asked)
    yield from call.rest(exc, call.server(asked, exc))
    return None if faults.code(exc) == "MOVED" else target


def _prepare_retry(call: Call, address: Address | None, exc: BaseException) -> Flow[None]:
    server = call.server(address, exc)
    if call.routing.outages.begin(server) and isinstance(exc, faults.NotSentError):
        yield from _look(call, address or exc.address, exc)
    _note_failed(call, server, exc)
    if address is not None:
        call.routing.suspect(address)
    yield from call.rest(exc, server)


def _look(call: Call, address: Address | None, exc: faults.NotSentError) -> Flow[None]:
    """Raise ConfigurationError if a server that cannot be used speaks another protocol."""
    if address is None or not address.port:
        return
    problem = yield Look(address, min(LOOK_SECONDS, max(call.seconds_left(), 0) / 4))
    if problem:
        call.routing.outages.open.pop(str(address), None)
        raise ConfigurationError(f"{address} refuses: {problem}") from exc


def _note_failed(call: Call, server: str, exc: BaseException) -> None:
    call.failed_on += (server,)
    call.routing.outages.tell(server, call.name, len(call.failed_on), faults.describe(exc))


def _note_served(call: Call, address: Address) -> None:
    """Note the end of what failed before, here or on the servers that this call was retried on."""
    if call.routing.outages.open:
        for server in {str(address), *call.failed_on}:
            call.routing.outages.end(server, call.name, len(call.failed_on) + 1)


def _given_up(call: Call, address: Address | None, exc: BaseException, *, writes: bool) -> SessionCacheError:
    """Return the error to raise; a server that was lost need not be the one for the next call.

    One that refuses what it allowed has another ACL by now: the next write checks it again.
    """
    error = faults.translate(exc, call.server(address, exc), writes=writes)
    if address is not None and writes and isinstance(error, ConfigurationError):
        call.routing.permitting.discard(address)
    if address is not None and isinstance(error, OutcomeUnknownError):
        call.routing.suspect(address)
    return error


def ask_all(call: Call, requests: Sequence[Request]) -> Flow[list[Any]]:
    """Send requests, each an atomic unit, in one round trip for each server; return the replies in order.

    Of what is not served so, one is asked by itself, under the rules of `ask`: that finds out where keys are
    now, and then the rest is asked together again.
    """
    if len(requests) == 1:
        return [(yield from ask(call, requests[0]))]
    replies: dict[int, Any] = {}
    pending: Group = dict(enumerate(requests))
    while pending:
        for address, group in _by_server(call, pending).items():
            replies |= yield from _ask_group(call, address, group)
        pending = {index: request for index, request in pending.items() if index not in replies}
        if pending:
            index = min(pending)
            replies[index] = yield from _ask_one(call, pending.pop(index))
    return [replies[index] for index in range(len(requests))]


def _ask_one(call: Call, request: Request) -> Flow[Any]:
    try:
        return (yield from ask(call, request))
    except SessionCacheError as exc:
        if not request.optional:
            raise
        return exc


Group = dict[int, Request]
"""Requests for one server, by their place among all."""


def _by_server(call: Call, requests: Group) -> dict[Address, Group]:
    groups: dict[Address, Group] = {}
    for index, request in requests.items():
        address = call.routing.locate(request.key)
        if address is not None:
            groups.setdefault(address, {})[index] = request
    return groups


def _ask_group(call: Call, address: Address, group: Group) -> Flow[dict[int, Any]]:
    """Return the replies of those requests of a group that were served."""
    wires = {index: request.wire() for index, request in group.items()}
    try:
        yield from _check_permissions(call, address, group.values())
        flat = yield Send(
            address, [command for wire in wires.values() for command in wire], call.seconds_left()
        )
    except faults.REDIS_ERRORS as exc:
        _raise_unless_repeatable(call, address, exc, group.values())
        return {}
    served = {}
    end = 0
    for index, request in group.items():
        start, end = end, end + len(wires[index])
        try:
            served[index] = request.settle(flat[start:end])
        except faults.REDIS_ERRORS as exc:
            if request.optional and faults.action(exc, writes=False) in (Action.RAISE, Action.RETRY):
                served[index] = faults.translate(exc, str(address), writes=False)
            else:
                _raise_unless_repeatable(call, address, exc, [request])
    if len(served) == len(group):
        _note_served(call, address)
    return served


def _raise_unless_repeatable(
    call: Call, address: Address, exc: BaseException, requests: Iterable[Request]
) -> None:
    writes = any(request.writes for request in requests)
    action = faults.action(exc, writes=writes)
    if action is Action.RAISE:
        raise _given_up(call, address, exc, writes=writes) from exc
    if action is Action.RETRY:
        call.routing.outages.begin(str(address))
        _note_failed(call, str(address), exc)
