"""What an exception of redis-py means, and our error for it: the one place where errors are translated.

The class of such an exception says too little: `ConnectionError` is a refused connection, a lost reply and a
server that is still loading. What counts is the code at the beginning of Redis' error, and whether the
command was sent: if not, a transport raises `NotSentError`.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, Final

from redis import exceptions

from sessioncache.errors import (
    ConfigurationError,
    DamagedSessionError,
    OutcomeUnknownError,
    SessionCacheError,
    UnavailableError,
)


class NotSentError(Exception):
    """There was no connection, so nothing was sent; the cause says why.

    Attributes:
        address: The server that was asked, if the caller cannot know it.
    """

    def __init__(self, address: Any = None) -> None:
        super().__init__()
        self.address = address


class Action(Enum):
    """What to do about an error."""

    RETRY = auto()
    REDIRECT = auto()
    SEND_SCRIPT = auto()
    READ_IN_SCRIPT = auto()
    RAISE = auto()


REDIS_ERRORS: Final = (NotSentError, exceptions.RedisError, OSError)
"""All that a transport raises into a flow; anything else comes from elsewhere and ends the flow."""

RedirectError = exceptions.AskError
"""A slot is elsewhere: ASK, for this command alone, or its subclass MOVED, for good."""

_LOST: Final = "LOST"
_CONNECT: Final = "CONNECT"

MISCONFIGURED: Final = "MISCONFIGURED"
"""Not a code of Redis: the server is not what the URL says, or lacks what the URL asks for."""

_ADVICE: Final = {
    "NOAUTH": "give a user and a password",
    "WRONGPASS": "correct the user and the password",
    "NOPERM": "allow it by ACL SETUSER",
}
"""What to do about a server that will go on refusing, by its code."""

_ADVICE_FOR_WORDS: Final = {
    "DB index": "choose another db",
    "not allowed in cluster mode": "use redis+cluster://",
    "cluster support disabled": "use redis://",
    "unknown command": "neither rename nor disable it",
    "Client names": "choose another client_name",
}
"""The same, by words of a refusal whose code is ERR."""

_FOR_GOOD: Final = frozenset({*_ADVICE, "DENIED", MISCONFIGURED})

LONGEST_WORDS: Final = 200
"""Letters of what a server says that are repeated."""

_SURELY_NOT_RUN: Final = frozenset(
    {
        _CONNECT,
        "LOADING",
        "READONLY",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "BUSY",
        "NOREPLICAS",
        "MAXCLIENTS",
    }
)
"""The server refused before it ran anything, and may serve in a moment."""

_CODE_IN_SCRIPT_ERROR = re.compile(r"@user_script: ?\d+: -?([A-Z]{3,}) ")
"""Redis 6.2 wraps the error of a command in a script: `Error ...: @user_script: 1: -OOM command ...`."""

_REFUSED_COMMAND = re.compile(r"user executing the script can't run|ACL failure in script: .* to run the ")
"""What a script is told about a command that the user may not run, up to Redis 7.0 and since."""


def code(exc: BaseException) -> str:
    """Return the code of an error: its first word from Redis, CONNECT, or LOST if a reply was lost."""
    if isinstance(exc, NotSentError):
        inner = code(exc.__cause__) if exc.__cause__ else _CONNECT
        if isinstance(exc.__cause__, exceptions.InvalidResponse):
            return MISCONFIGURED
        return inner if inner in _FOR_GOOD or inner in _SURELY_NOT_RUN else _CONNECT
    if "max number of clients" in str(exc):
        return "MAXCLIENTS"
    stated = getattr(exc, "status_code", None)
    if stated is None and not isinstance(exc, exceptions.ResponseError):
        return _LOST
    found = stated or str(exc).split(" ", 1)[0]
    return _code_of_err(exc) if found == "ERR" else found


def _code_of_err(exc: BaseException) -> str:
    """Return a better code for an error with ERR: of a script's command, or of a refused login."""
    if isinstance(exc, exceptions.AuthenticationError):
        return "WRONGPASS"
    if "unauthenticated" in str(exc):  # said of a long command; a short one gets NOAUTH
        return "NOAUTH"
    if "user executing the script can't" in str(exc) or "ACL failure in script" in str(exc):
        return "NOPERM"
    if _advice(exc):
        return MISCONFIGURED
    wrapped = _CODE_IN_SCRIPT_ERROR.search(str(exc))
    return wrapped[1] if wrapped else "ERR"


def is_command_refused(error: bytes) -> bool:
    """Return whether a command got this error in a script because the user may not run it."""
    return _REFUSED_COMMAND.search(error.decode(errors="replace")) is not None


def _advice(exc: BaseException) -> str:
    """Return what to change, if the words of a refusal are known."""
    return next((advice for words, advice in _ADVICE_FOR_WORDS.items() if words in str(exc)), "")


def action(exc: BaseException, *, writes: bool) -> Action:
    """Return what to do about an error: a write that may have been applied is never sent twice."""
    found = code(exc)
    if found == "NOSCRIPT":
        return Action.SEND_SCRIPT
    if found == "OOM" and not writes:
        return Action.READ_IN_SCRIPT
    if found in ("MOVED", "ASK"):
        return Action.REDIRECT
    if found in _SURELY_NOT_RUN or (found == _LOST and not writes):
        return Action.RETRY
    return Action.RAISE


def is_refusal(exc: BaseException) -> bool:
    """Return whether a server answered, if only that it does not serve."""
    return code(exc) not in (_CONNECT, _LOST)


def may_pass(exc: BaseException) -> bool:
    """Return whether what was not sent may be taken a moment later."""
    return code(exc) in _SURELY_NOT_RUN


def without_arguments(error: exceptions.RedisError) -> exceptions.RedisError:
    """Cut what Redis repeats of an unknown command: of AUTH, that would be the password."""
    error.args = tuple(str(word).partition(", with args beginning with")[0] for word in error.args)
    return error


def translate(exc: BaseException, server: str, key: bytes, *, writes: bool) -> SessionCacheError:
    """Return our error for an exception of redis-py, raised by what was sent for a key."""
    found = code(exc)
    if found == "WRONGTYPE":
        name = key.decode(errors="backslashreplace")
        return DamagedSessionError(f"{name}, or a key beside it, holds another type: something else wrote it")
    if found == _LOST and writes:
        return OutcomeUnknownError(
            f"{server}: the connection was lost after a write was sent; repeating it is safe"
        )
    if found in _FOR_GOOD:
        advice = _ADVICE.get(found) or _advice(exc.__cause__ or exc)
        return ConfigurationError(f"{server} refuses: {describe(exc)}" + (f" ({advice})" if advice else ""))
    return UnavailableError(f"{server} does not serve: {describe(exc)}")


def describe(exc: BaseException) -> str:
    """Return what happened, in the server's words, on one line and without anything that was sent."""
    found = code(exc)
    cause = exc.__cause__ if isinstance(exc, NotSentError) and exc.__cause__ else exc
    words = " ".join(str(cause).split())[:LONGEST_WORDS]
    if found == _CONNECT:
        return f"no connection ({type(cause).__name__}: {words})"
    if found == _LOST:
        return f"the connection was lost ({type(cause).__name__})"
    if isinstance(cause, exceptions.InvalidResponse):
        return "it does not speak Redis' protocol"
    return words if found == MISCONFIGURED or words.startswith(found) else f"{found} {words}"
