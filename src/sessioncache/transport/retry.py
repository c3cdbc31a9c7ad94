"""Sending requests until they are served or the call's time is over: retries, redirections, scripts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from time import monotonic
from typing import Any, Final, Protocol

from sessioncache.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    ReplyMismatchError,
    SessionCacheError,
    UnavailableError,
)

from . import permissions, redis_errors
from .flow import Address, Command, Flow, Probe, Send, Sleep
from .redis_errors import REDIS_ERRORS, Action, NotSentError, RedirectError
from .request import Request
from .topology import Topology

FIRST_PAUSE: Final = 0.005
"""Seconds before the first retry, doubled for each further one: longer than a call, shorter than outages."""

LONGEST_PAUSE: Final = 0.25
"""Most seconds between two retries: how late the end of an outage is noticed."""

PROBE_SECONDS: Final = 0.25
"""Longest wait for a reply in another protocol: a server that speaks it replies at once."""


class Settings(Protocol):
    """The one option of a caller that counts here."""

    @property
    def timeout(self) -> float:
        """Return the seconds that one call may take, retries included."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of a user: where keys are, and until when to try."""

    topology: Topology
    settings: Settings
    name: str = "call"
    """What the log calls it."""
    started: float = field(default_factory=monotonic)
    pause: float = FIRST_PAUSE
    asked_at: float = 0.0
    failed_on: tuple[str, ...] = ()

    def seconds_left(self) -> float:
        """Return how long this call may still take."""
        return self.started + self.settings.timeout - monotonic()

    def server(self, address: Address | None, exc: BaseException) -> str:
        """Return the name of the server that failed: the one asked, else the one that the error names."""
        return str(address or getattr(exc, "address", None) or self.topology)

    def back_off(self, exc: BaseException, server: str) -> Flow[None]:
        """Wait before a retry, longer each time; raise UnavailableError if no time is left for one.

        A retry needs at least as much time as the pause before it, and as a server that refused took: an
        attempt cut off by the deadline would turn a known refusal into an unknown outcome.
        """
        pause = self.pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards no secret
        least = max(pause, monotonic() - self.asked_at) if redis_errors.is_refusal(exc) else pause
        if pause + least >= self.seconds_left():
            took = monotonic() - self.started
            reason = redis_errors.describe(exc)
            raise UnavailableError(f"{server}: gave up after {took:.2f} s: {reason}") from exc
        self.pause = min(self.pause * 2, LONGEST_PAUSE)
        yield Sleep(pause)


def send(call: Call, request: Request) -> Flow[Any]:
    """Send a request to the server that holds its key and return its result: one round trip.

    Reads are repeated until the call's time is over, writes only if surely no server ran them.
    """
    asking: Address | None = None
    topology = call.topology
    while True:
        address = asking or request.address or topology.only_server
        call.asked_at = monotonic()
        try:
            if address is None:
                address = yield from _locate(call, request.key)
            if request.writes and address not in topology.permitting:
                yield from check_permissions(call, address, [request], asking)
            commands = to_commands(request)
            sent = _after_asking(commands) if asking else commands
            result = result_of(request, (yield Send(address, sent, call.seconds_left())))
        except REDIS_ERRORS as exc:
            request, asking = yield from _recover(call, request, address, exc)
        else:
            if topology.outages.open:
                note_served(call, address)
            return result


def _recover(
    call: Call, request: Request, address: Address | None, exc: BaseException
) -> Flow[tuple[Request, Address | None]]:
    """Return the request to send next, and the server to ask just this once; or raise our error."""
    action = redis_errors.action(exc, writes=request.writes)
    if action is Action.SEND_SCRIPT:
        return request.with_full_script(), None
    if action is Action.READ_IN_SCRIPT and request.script is None:
        return request.as_script(), None
    if address is not None and isinstance(exc, RedirectError):
        return request, (yield from _redirect(call, exc, address))
    if action is Action.RETRY and not issubclass(UnavailableError, request.tolerates):
        yield from _prepare_retry(call, address, exc)
        return request, None
    raise final_error(call, address, exc, request) from exc


def _after_asking(commands: Sequence[Command]) -> list[Command]:
    """Return commands for a node that does not own the slot yet."""
    return [(b"ASKING",), *commands]


def _locate(call: Call, key: bytes) -> Flow[Address]:
    """Return the server that holds a key, after finding out if need be."""
    if (address := call.topology.locate(key)) is not None:
        return address
    yield from call.topology.discover(call.seconds_left())
    if (address := call.topology.locate(key)) is not None:
        return address
    raise NotSentError from ConnectionError("no server holds the key")


def find_server(call: Call, key: bytes) -> Flow[Address | None]:
    """Return the server that holds a key, after finding out if need be; None if nobody says so now."""
    try:
        return (yield from _locate(call, key))
    except REDIS_ERRORS:
        return None


def check_permissions(
    call: Call, address: Address, requests: Iterable[Request], asking: Address | None = None
) -> Flow[None]:
    """Raise ConfigurationError if a script that writes would be refused midway; once for each server."""
    if address in call.topology.permitting:
        return
    check = next((trial for request in requests if (trial := permissions.trial_of(request))), None)
    if check is None:
        return
    commands = to_commands(check)
    try:
        replies = yield Send(address, _after_asking(commands) if asking else commands, call.seconds_left())
    except NotSentError:
        raise
    except REDIS_ERRORS as exc:
        raise NotSentError from exc  # the check is lost, and the write yet to be sent
    if permissions.read_trial(check, result_of(check, replies), str(address)):
        call.topology.permitting.add(address)


def _redirect(call: Call, exc: RedirectError, asked: Address) -> Flow[Address | None]:
    """Record where a slot is now; return the server to go to just this once, if the slot is still moving."""
    target = call.topology.redirect(exc, asked)
    yield from call.back_off(exc, call.server(asked, exc))
    return None if redis_errors.code(exc) == "MOVED" else target


def _prepare_retry(call: Call, address: Address | None, exc: BaseException) -> Flow[None]:
    server = call.server(address, exc)
    if call.topology.outages.begin(server) and isinstance(exc, NotSentError):
        yield from _probe(call, address or exc.address, exc)
    note_failed(call, server, exc)
    if address is not None:
        call.topology.mark_down(address)
    yield from call.back_off(exc, server)


def _probe(call: Call, address: Address | None, exc: NotSentError) -> Flow[None]:
    """Raise ConfigurationError if a server that cannot be used speaks another protocol."""
    if address is None or not address.port:
        return
    problem = yield Probe(address, min(PROBE_SECONDS, max(call.seconds_left(), 0) / 4))
    if problem:
        call.topology.outages.open.pop(str(address), None)
        raise ConfigurationError(f"{address} refuses: {problem}") from exc


def note_failed(call: Call, server: str, exc: BaseException) -> None:
    """Record that a server failed, and log that calls are retried on it."""
    call.failed_on += (server,)
    call.topology.outages.tell(server, call.name, len(call.failed_on), redis_errors.describe(exc))


def note_served(call: Call, address: Address) -> None:
    """Record the end of outages: of this server, and of those that this call was retried on."""
    for server in {str(address), *call.failed_on}:
        call.topology.outages.end(server, call.name, len(call.failed_on) + 1)


def final_error(
    call: Call, address: Address | None, exc: BaseException, request: Request
) -> SessionCacheError:
    """Return the error for the caller.

    The server that was lost with a write need not be the one for the next call. A server that refuses what it
    allowed has another ACL now: the next write checks it again.
    """
    error = redis_errors.translate(exc, call.server(address, exc), request.key, writes=request.writes)
    if address is not None and request.writes and isinstance(error, ConfigurationError):
        call.topology.permitting.discard(address)
    if address is not None and isinstance(error, OutcomeUnknownError):
        call.topology.mark_down(address)
    return error


_MULTI: Final[Command] = (b"MULTI",)
_EXEC: Final[Command] = (b"EXEC",)


def to_commands(request: Request) -> tuple[Command, ...]:
    """Return the commands of a request as they are sent."""
    commands = request.commands
    return commands if len(commands) == 1 else (_MULTI, *commands, _EXEC)


def pack_commands(commands: Sequence[Command]) -> bytes:
    """Return commands in the wire format (RESP), in one piece; redis-py takes three times as long."""
    arguments = [*chain.from_iterable(commands)]
    form = b"".join([b"*%d\r\n" % len(command) + b"$%d\r\n%b\r\n" * len(command) for command in commands])
    sized: list[int | bytes] = [0] * (2 * len(arguments))
    sized[::2], sized[1::2] = map(len, arguments), arguments
    return form % tuple(sized)


def result_of(request: Request, replies: Sequence[Any]) -> Any:
    """Return the reply, or the list of replies of an atomic unit; raise the error it holds.

    Raises ReplyMismatchError if a reply is of another kind than its command has.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    result = replies[-1]
    commands = request.unit or request.commands
    parts = result if request.unit or len(commands) > 1 else [result]
    if not isinstance(parts, list) or len(parts) != len(commands):
        raise ReplyMismatchError("the reply to a MULTI does not fit the request")
    for command, part in zip(commands, parts, strict=True):
        if isinstance(part, Exception):
            raise part
        if not fits(command, part):
            raise ReplyMismatchError(f"the reply to {command[0].decode()} does not fit the request")
    return result


_TEXT: Final[frozenset[type[Any]]] = frozenset({bytes})
_OPTIONAL_TEXT: Final[frozenset[type[Any]]] = frozenset({bytes, type(None)})

_KINDS: Final = {
    b"HGETALL": _TEXT,
    b"HMGET": _OPTIONAL_TEXT,
    b"SMEMBERS": _TEXT,
    b"ZRANDMEMBER": _TEXT,
    b"ZRANGE": _TEXT,
}
"""The kinds of items in the lists that some commands return."""

_SINGLE_KINDS: Final[Mapping[bytes, tuple[type[Any], ...]]] = {
    b"EXISTS": (int,),
    b"GET": (bytes, type(None)),
    b"HGET": (bytes, type(None)),
    b"PTTL": (int,),
    b"SCARD": (int,),
    b"ZCARD": (int,),
    b"ZSCORE": (bytes, type(None)),
}
"""The kinds of the replies of others. Those of scripts, and of the rest, are for their callers to check."""


def fits(command: Command, reply: Any) -> bool:
    """Return whether a reply is of the kind that its command has."""
    name = command[0]
    if name in _SINGLE_KINDS:
        return isinstance(reply, _SINGLE_KINDS[name])
    if name not in _KINDS:
        return name != b"SCAN" or (isinstance(reply, list) and list(map(type, reply)) == [bytes, list])
    if not isinstance(reply, list) or not _KINDS[name].issuperset(map(type, reply)):
        return False
    if name == b"HMGET":
        return len(reply) == len(command) - 2
    has_pairs = name == b"HGETALL" or command[-1] == b"WITHSCORES"
    return not (has_pairs and len(reply) % 2)
