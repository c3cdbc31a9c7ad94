"""How long this machine did not let us run: what a bound of time has to leave out."""

from __future__ import annotations

import threading
import time
from typing import Self

BEAT = 0.005
"""Seconds between two beats; a thread that runs when it wants to is late by much less."""


class Heartbeat:
    """A thread that wakes at every beat, and adds up how late it was.

    It shares the interpreter with what is measured, and so its processor and its lock: whatever holds up the
    one holds up the other.
    """

    def __init__(self) -> None:
        self.stalled = 0.0
        """Seconds that it was late, all together."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        due = time.monotonic() + BEAT
        while not self._stop.wait(max(0, due - time.monotonic())):
            now = time.monotonic()
            self.stalled += max(0.0, now - due)
            due = now + BEAT


class Stopwatch:
    """Measures how long things take, less what the machine was stalled meanwhile."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._started, self._stalled = time.monotonic(), heartbeat.stalled

    def seconds(self) -> float:
        """Return how long it took since this was made."""
        return time.monotonic() - self._started - (self._heartbeat.stalled - self._stalled)
