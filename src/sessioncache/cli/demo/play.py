"""The demo from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

from sessioncache.cli.report import Report

from .cache import open_cache
from .lookups import show_chat, show_context, show_slices, show_stored
from .rules import show_expiry, show_many_writers, show_rules
from .scene import Scene
from .table import show_timings

PARTS: Final[tuple[tuple[str, Callable[[Scene], None]], ...]] = (
    ("Recorded sessions, stored and loaded", show_stored),
    ("Many workers, one session", show_many_writers),
    ("The newest runs of a long session", show_slices),
    ("Chat history", show_chat),
    ("Workflow history, as context for a prompt", show_context),
    ("What holds between workers", show_rules),
    ("A lifetime that runs out", show_expiry),
    ("What each call takes", show_timings),
)


def play(url: str, report: Report) -> None:
    """Show every part on the Redis at a URL, under a prefix of its own, and remove what was stored."""
    prefix = f"sessioncache-demo-{uuid4().hex[:8]}"
    is_embedded = url.startswith("memory:")
    if is_embedded:
        url = f"memory://{prefix}"
    with open_cache(url, prefix) as cache:
        scene = Scene(url, prefix, cache, report)
        cache.get_session("is anybody there?")
        report.say(f"sessioncache on {'an embedded server' if is_embedded else 'a real server'}")
        for number, (title, show) in enumerate(PARTS, 1):
            report.heading(f"{number}. {title}")
            show(scene)
