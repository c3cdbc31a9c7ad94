"""What an operation is: a generator that yields effects, is handed replies, and returns its result.

There are four effects: `Send`, some commands for one server, `Look`, `Sleep`, and `Await`, what a user's
function returned. A carrier (`client.py`, `aio.py`) performs them and decides nothing; what to send, and what
to do about a reply or an error, is decided in generators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeVar

from .errors import ReplyMismatchError

T = TypeVar("T")
Command = tuple[bytes, ...]


class Address(NamedTuple):
    """A server: host and port, or a socket's path and 0."""

    host: str
    port: int
    is_sentinel: bool = False
    db: int = 0

    def __str__(self) -> str:
        """Return what messages call it: `host:port/db`, or the URL of what has no port."""
        if not self.port:
            return self.host if "://" in self.host else f"unix://{self.host}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"Sentinel {host}:{self.port}" if self.is_sentinel else f"{host}:{self.port}/{self.db}"


class Send(NamedTuple):
    """Effect: send commands to one server in one write; the answer is one reply for each, errors included."""

    address: Address
    commands: Sequence[Command]
    seconds: float


class Look(NamedTuple):
    """Effect: ask a server in another protocol; the answer says what is wrong with the URL, or is None."""

    address: Address
    seconds: float


class Sleep(NamedTuple):
    """Effect: wait; the answer is None."""

    seconds: float


class Await(NamedTuple):
    """Effect: await; a carrier that blocks raises InvalidArgumentError instead. The answer is the result."""

    awaitable: Awaitable[object]


def pack_commands(commands: Sequence[Command]) -> bytes:
    """Return commands as they go over the wire (RESP), in one piece; a third of the time redis-py takes."""
    arguments = [argument for command in commands for argument in command]
    form = b"".join([b"*%d\r\n" % len(command) + b"$%d\r\n%b\r\n" * len(command) for command in commands])
    sized: list[int | bytes] = [0] * (2 * len(arguments))
    sized[::2], sized[1::2] = map(len, arguments), arguments
    return form % tuple(sized)


Effect = Send | Look | Sleep | Await
Flow = Generator[Effect, Any, T]


class Script:
    """A Lua script of this package: its preludes and its file, known to the server by SHA-1."""

    def __init__(self, *names: str) -> None:
        folder = files("sessioncache") / "lua"
        self.text = b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def call(self, keys: Sequence[bytes], arguments: Iterable[bytes], *, writes: bool = True) -> Request:
        """Return the request that runs this script on keys of one slot."""
        command = (b"EVALSHA", self.sha, b"%d" % len(keys), *keys, *arguments)
        return Request(keys[0], (command,), writes, self)


class Request(NamedTuple):
    """What goes to the server that holds `key`: one command, or several as one atomic unit (MULTI)."""

    key: bytes
    commands: tuple[Command, ...]
    writes: bool = False
    script: Script | None = None
    address: Address | None = None
    """The server to ask, where it is not the one that holds the key."""
    optional: bool = False
    """Whether an error, among other requests, is its reply and not that of the call; it is not retried."""
    unit: tuple[Command, ...] = ()
    """The commands whose replies the reply of the script lists."""

    def wire(self) -> list[Command]:
        """Return the commands as they are sent."""
        if len(self.commands) == 1:
            return list(self.commands)
        return [(b"MULTI",), *self.commands, (b"EXEC",)]

    def with_full_script(self) -> Request:
        """Return the same request with its script's text in place of the SHA-1."""
        if self.script is None:
            return self
        (command,) = self.commands
        return self._replace(commands=((b"EVAL", self.script.text, *command[2:]),))

    def as_script(self) -> Request:
        """Return the same unit of reads as a script: a full server refuses whatever comes behind MULTI."""
        keys = tuple(dict.fromkeys(command[1] for command in self.commands))
        words = [part for command in self.commands for part in (b"%d" % len(command), *command)]
        return READ_UNIT.call(keys, words, writes=False)._replace(unit=self.commands)

    def settle(self, replies: Sequence[Any]) -> Any:
        """Return the reply, or the list of replies of an atomic unit; raise the error it holds."""
        refused = [reply for reply in replies[:-1] if isinstance(reply, Exception)]
        answer = refused[0] if refused else replies[-1]
        if isinstance(answer, Exception):
            raise answer
        unit = self.unit or (self.commands if len(self.commands) > 1 else ())
        commands, answers = (unit, answer) if unit else (self.commands, [answer])
        if not isinstance(answers, list) or len(answers) != len(commands):
            raise ReplyMismatchError("the answer to a MULTI does not fit what was asked")
        for part in answers:
            if isinstance(part, Exception):
                raise part
        if not all(map(fits, commands, answers)):
            raise ReplyMismatchError("an answer does not fit what was asked")
        return answer


def fits(command: Command, reply: Any) -> bool:
    """Tell whether a reply is of the kind that a command has; that of a script is for its caller to check."""
    check = _REPLIES.get(command[0])
    return check is None or check(command, reply)


def _is_list(types: frozenset[type[Any]], reply: Any) -> bool:
    return isinstance(reply, list) and types.issuperset(map(type, reply))


def _is_flat(command: Command, reply: Any) -> bool:
    """Tell whether a reply is a list of texts, of pairs of them if it is a hash or has scores."""
    has_pairs = command[0] == b"HGETALL" or command[-1] == b"WITHSCORES"
    return _is_list(_TEXT, reply) and not (has_pairs and len(reply) % 2)


_TEXT: Final[frozenset[type[Any]]] = frozenset({bytes})
_OPTIONAL_TEXT: Final[frozenset[type[Any]]] = frozenset({bytes, type(None)})

_REPLIES: Final[Mapping[bytes, Callable[[Command, Any], bool]]] = {
    b"HGET": lambda _, reply: type(reply) in _OPTIONAL_TEXT,
    b"HGETALL": _is_flat,
    b"HMGET": lambda command, reply: _is_list(_OPTIONAL_TEXT, reply) and len(reply) == len(command) - 2,
    b"PTTL": lambda _, reply: isinstance(reply, int),
    b"SCAN": lambda _, reply: isinstance(reply, list) and [type(part) for part in reply] == [bytes, list],
    b"ZCARD": lambda _, reply: isinstance(reply, int),
    b"ZRANDMEMBER": _is_flat,
    b"ZRANGE": _is_flat,
    b"ZSCORE": lambda _, reply: type(reply) in _OPTIONAL_TEXT,
}
"""The replies that fit a command, for those that are sent as they are."""


READ_UNIT: Final = Script("read_unit")
