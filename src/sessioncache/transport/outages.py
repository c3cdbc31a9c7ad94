"""Servers that fail: log lines when retries begin and end, and who is not waited for."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from threading import Lock
from time import monotonic
from typing import Final

log = logging.getLogger("sessioncache")

SECONDS_BETWEEN_LINES: Final = 1.0
"""For one server: whatever fails, and however often, the log stays readable."""


@dataclass(slots=True)
class _Outage:
    since: float = field(default_factory=monotonic)
    is_told: bool = False


class Outages:
    """The servers that calls are being retried on, by their names in messages; shared by threads.

    A line that comes too early is left out, or follows with a later call: nobody waits for it, nor for the
    lock.
    """

    def __init__(self) -> None:
        self.open: dict[str, _Outage] = {}
        self._told_at: dict[str, float] = {}
        self._telling = Lock()

    def begin(self, server: str) -> bool:
        """Record that a call failed on a server; return whether it is the first one."""
        outage = _Outage()
        return self.open.setdefault(server, outage) is outage

    def tell(self, server: str, call: str, attempt: int, why: str) -> None:
        """Log that calls are retried on a server, unless the log says so already."""
        outage = self.open.get(server)
        if outage is not None and not outage.is_told:
            outage.is_told = self.say(server, f"retrying: {server}, {call}, attempt {attempt}: {why}")

    def end(self, server: str, call: str, attempt: int) -> None:
        """Log that a server serves again, or that a call is served without it."""
        outage = self.open.get(server)
        if outage is None:
            return
        took = monotonic() - outage.since
        line = f"serving again: {server}, {call}, attempt {attempt}, after {took:.2f} s"
        if not outage.is_told or self.say(server, line):
            self.open.pop(server, None)

    def say(self, topic: str, line: str) -> bool:
        """Log a line, unless there was one of its topic a moment ago; return whether it was logged."""
        if not self._telling.acquire(blocking=False):
            return False
        try:
            is_due = monotonic() - self._told_at.get(topic, -inf) >= SECONDS_BETWEEN_LINES
            if is_due:
                self._told_at[topic] = monotonic()
        finally:
            self._telling.release()
        if is_due:
            log.warning(line)
        return is_due


SILENT_SECONDS: Final = 5.0
"""How long a server that failed is not waited for by calls that can do without it."""


class Silences:
    """The servers that failed calls which can do without them; one call at a time tries one of them again."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def begin(self, server: Hashable) -> None:
        """Record that a server failed."""
        self._until[server] = monotonic() + SILENT_SECONDS

    def keeps(self, server: Hashable) -> bool:
        """Return whether a server is better left alone; the one that is told to try it stands for all."""
        until = self._until.get(server)
        if until is None:
            return False
        if monotonic() < until:
            return True
        self.begin(server)
        return False

    def end(self, server: Hashable) -> None:
        """Record that a server serves."""
        self._until.pop(server, None)
