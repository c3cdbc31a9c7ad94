"""Draw what `show` and `watch` look like on a terminal: pictures for the README, from real runs.

    PYTHONPATH=src python scripts/pictures.py redis://localhost:6379/0

It uses a prefix of its own, which it removes, and writes show.svg and watch.svg beside itself.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from sessioncache import RunStatus, SessionCache
from sessioncache.testing import make_session

FOLDER: Final = Path(__file__).parent
COLUMNS: Final = 100
SESSION: Final = "order-4471"


def on_a_terminal(url: str, prefix: str, *arguments: str) -> str:
    """Run a command on a terminal, and return what it showed."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "sessioncache", "--url", url, "--prefix", prefix, *arguments]
    child = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    shown = b""
    while True:
        try:
            shown += os.read(primary, 65_536)
        except OSError:  # the other end is closed
            break
    child.wait()
    return shown.decode().replace("\r\n", "\n")


def draw(name: str, typed: str, shown: str) -> None:
    """Write a picture of a command and of what it showed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold"), typed))
    console.print(Text.from_ansi(shown.rstrip()), no_wrap=True)
    console.save_svg(str(FOLDER / f"{name}.svg"), title="sessioncache", unique_id=f"sessioncache-{name}")


def work_on(cache: SessionCache) -> Callable[[], None]:
    """Return what a worker does while somebody watches."""

    def work() -> None:
        time.sleep(1.0)
        (run,) = make_session(SESSION, runs=5).runs[4:]  # type: ignore[index]
        run.status = RunStatus.running
        content, run.content = run.content, None
        cache.upsert_run(SESSION, run)
        time.sleep(1.2)
        run.status, run.content = RunStatus.completed, content
        cache.upsert_run(SESSION, run)

    return work


def main(url: str) -> None:
    """Draw both."""
    prefix = "sessioncache-pictures"
    with SessionCache.from_url(url, prefix=prefix, ttl=3600) as cache:
        cache.upsert_session(make_session(SESSION, runs=4))
        draw("show", f"sessioncache show {SESSION}", on_a_terminal(url, prefix, "show", SESSION))
        worker = threading.Thread(target=work_on(cache))
        worker.start()
        shown = on_a_terminal(url, prefix, "watch", "--user", "ada", "--for", "4", "--interval", "0.2")
        worker.join()
        draw("watch", "sessioncache watch --user ada", shown)
        cache.delete_session(SESSION)
        cache.verify(repair=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
