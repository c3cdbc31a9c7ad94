"""Requests: commands for the server that holds a key, and the scripts that some of them run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from .flow import Address, Command


class Script:
    """A Lua script, known to a server by its SHA-1.

    `trial` is a script that a server has to run before this one, once: see `permissions`. `leased` is the one
    to run in its place under a lease.
    """

    def __init__(self, text: bytes, trial: Script | None = None, leased: Script | None = None) -> None:
        self.text = text
        self.leased = leased
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self.trial = trial

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
    """The server to ask if it is not the one that holds the key."""
    tolerates: tuple[type[Exception], ...] = ()
    """Errors that are this request's result and not the call's: of many requests, the others still count."""
    unit: tuple[Command, ...] = ()
    """The commands whose replies the reply of the script lists."""

    def with_full_script(self) -> Request:
        """Return the same request with its script's text in place of the SHA-1."""
        if self.script is None:
            return self
        (command,) = self.commands
        return self._replace(commands=((b"EVAL", self.script.text, *command[2:]),))

    def as_script(self) -> Request:
        """Return the same unit of reads as a script: a full server refuses whatever follows MULTI."""
        keys = tuple(dict.fromkeys(command[1] for command in self.commands))
        words = [part for command in self.commands for part in (b"%d" % len(command), *command)]
        request = READ_UNIT.call(keys, words, writes=False)
        return request._replace(unit=self.commands, tolerates=self.tolerates)


READ_UNIT: Final = Script((files(__package__) / "lua" / "read_unit.lua").read_bytes())
