"""Requests about many sessions at once, of which one with a key of another type does not fail the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sessioncache import faults
from sessioncache.errors import DamagedSessionError
from sessioncache.flow import Request


class TolerantRequest(Request):
    """A request that a key of another type does not fail: the reply is the DamagedSessionError then.

    So of many sessions that are asked for together, the others are still read.
    """

    def settle(self, replies: Sequence[Any]) -> Any:
        """Return the reply, or the error that says that a key holds another type."""
        try:
            return super().settle(replies)
        except faults.REDIS_ERRORS as exc:
            error = faults.translate(exc, "the server", writes=self.writes)
            if not isinstance(error, DamagedSessionError):
                raise
            return error

    def as_script(self) -> Request:
        """Return the same reads as a script, as tolerant."""
        return TolerantRequest(*super().as_script())


def checked(reply: Any) -> Any:
    """Return the reply of a tolerant request, or raise the error that it is."""
    if isinstance(reply, DamagedSessionError):
        raise reply
    return reply
