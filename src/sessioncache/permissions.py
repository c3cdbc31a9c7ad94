"""Whether the Redis user may run all that scripts call, asked before a cache's first write on a server.

Redis checks a command's permission when a script comes to it, and rolls nothing back: the write of a user who
lacks one would be left half done.
"""

from __future__ import annotations

from typing import Any, Final

from . import faults, keys
from .errors import ConfigurationError, ReplyMismatchError
from .flow import Request, Script

TRY_COMMANDS: Final = Script("try_commands")


def check_before(write: Request, prefix: str) -> Request:
    """Return the request that tries all commands where a script is going to write.

    It carries the script's text: a server that is asked once does not know it by its SHA-1.
    """
    (command,) = write.commands
    last_key = 3 + int(command[2])
    absent = keys.absent_key(prefix, write.key)
    return Request(write.key, ((b"EVAL", TRY_COMMANDS.text, *command[2:last_key], absent),))


def read_check(check: Request, answer: Any, server: str) -> bool:
    """Tell whether every command could be tried; raise ConfigurationError naming those that are refused.

    A full server, or one that takes no writes, may refuse a command before it looks at permissions.
    """
    match answer:
        case [absent, *failed] if absent == check.commands[0][-1] and len(failed) % 2 == 0:
            errors = dict(zip(failed[::2], failed[1::2], strict=True))
        case _:
            raise ReplyMismatchError("the answer of a script does not fit what was asked")
    refused = [name for name, error in errors.items() if faults.is_command_refused(error)]
    if refused:
        rights = b" +".join(refused).decode().lower()
        raise ConfigurationError(
            f"{server} refuses: NOPERM, so nothing was stored (allow it by ACL SETUSER: +{rights})"
        )
    return not errors
