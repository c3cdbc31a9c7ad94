"""Whether the Redis user may run all that scripts call, checked before a cache's first write on a server.

Redis checks a command's permission when a script comes to it, and rolls nothing back: a write of a user who
lacks one permission would stop halfway. So a script names another one, its trial, that tries every command.
"""

from __future__ import annotations

from typing import Any

from sessioncache.errors import ConfigurationError, ReplyMismatchError

from . import redis_errors
from .request import Request


def trial_of(write: Request) -> Request | None:
    """Return the request that tries all commands in the slot of a write; None if the write needs no trial.

    It carries the script's text, because a server that is asked once does not know it by its SHA-1.
    """
    if not write.writes or write.script is None or write.script.trial is None:
        return None
    (command,) = write.commands
    last_key = 3 + int(command[2])
    arguments = (*command[2:last_key], _absent_key(write.key))
    return Request(write.key, ((b"EVAL", write.script.trial.text, *arguments),))


def _absent_key(key: bytes) -> bytes:
    """Return a key that nothing is ever stored at, that begins like another key and is in the same slot."""
    has_tag = key.partition(b"{")[2].find(b"}") > 0
    return key + b":absent" if has_tag else b"%b:{%b}:absent" % (key, key)


def read_trial(trial: Request, reply: Any, server: str) -> bool:
    """Return whether every command could be tried; raise ConfigurationError naming those that are refused.

    A full server, or one that takes no writes, may refuse a command before it looks at permissions.
    """
    match reply:
        case [absent, *failed] if absent == trial.commands[0][-1] and len(failed) % 2 == 0:
            errors = dict(zip(failed[::2], failed[1::2], strict=True))
        case _:
            raise ReplyMismatchError("the reply of a script does not fit the request")
    refused = [name for name, error in errors.items() if redis_errors.is_command_refused(error)]
    if refused:
        rights = b" +".join(refused).decode().lower()
        raise ConfigurationError(
            f"{server} refuses: NOPERM, so nothing was stored (allow it by ACL SETUSER: +{rights})"
        )
    return not errors
