"""Waiting for a condition, never for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, *, seconds: float = 15.0, every: float = 0.02) -> T:
    """Call `condition` until it answers something true, and return that.

    Errors of the connection count as "not yet". Fails after `seconds`, naming `what` was waited for.
    """
    import redis

    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if answer := condition():
                return answer
            last = answer
        except (OSError, redis.RedisError) as error:
            last = error
        time.sleep(every)
    raise TimeoutError(f"waited {seconds} s for {what}; last seen: {last!r}")
