"""No server outlives its tests.

A process of its own watches a pipe from the test process. When the pipe closes, for whatever reason the
test process ended, `kill -9` included, it kills the servers still registered and removes their folders.
(PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the server ends.)
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys


class Reaper:
    """The end of the pipe that the test process holds."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__], stdin=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        self.owner = os.getpid()

    def add(self, kind: str, value: object) -> None:
        """Register a `pid` or a `dir`."""
        self._say("+", kind, value)

    def discard(self, kind: str, value: object) -> None:
        """Forget a `pid` that has been waited for, or a `dir` that has been removed."""
        self._say("-", kind, value)

    def _say(self, sign: str, kind: str, value: object) -> None:
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), f"{sign}{kind} {value}\n".encode())


@functools.cache
def reaper() -> Reaper:
    """Start the reaper of this test process, once."""
    return Reaper()


def main() -> None:
    """Read registrations until the pipe closes, then clean up."""
    registered: set[tuple[str, str]] = set()
    for line in sys.stdin:
        kind, _, value = line[1:].rstrip("\n").partition(" ")
        (registered.add if line[0] == "+" else registered.discard)((kind, value))
    for kind, value in sorted(registered, reverse=True):  # pids before their dirs
        if kind == "pid":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(value), signal.SIGKILL)
        else:
            shutil.rmtree(value, ignore_errors=True)


if __name__ == "__main__":
    main()
