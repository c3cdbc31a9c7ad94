"""What the parts of the demo have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sessioncache.cli.report import Report

from .cache import DemoCache
from .samples import recorded

LONG_SESSION: Final = "many-workers"
"""Id of the session that many workers append to, and that later parts look things up in."""


@dataclass(frozen=True)
class Scene:
    """A cache to show, where it is, and where to show it."""

    url: str
    prefix: str
    cache: DemoCache
    report: Report
    recorded: list[dict[str, Any]] = field(default_factory=lambda: list(recorded()))

    def longest(self) -> dict[str, Any]:
        """Return the recorded session with the most runs."""
        return max(self.recorded, key=lambda data: len(data["runs"]))
