"""A call under way, with the options of its cache; and the scripts that calls run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from sessioncache.options import Settings
from sessioncache.storage import scripts
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Script
from sessioncache.transport.retry import Call

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Context(Call):
    """One call of a user on one cache."""

    settings: Settings

    def with_ttl(self, ttl: int | None) -> Self:
        """Return the same call on a cache whose sessions live so many milliseconds, None for ever."""
        return replace(self, settings=replace(self.settings, ttl=ttl))


Operation = Callable[Concatenate[Context, P], Flow[T]]

_TRIAL: Final = Script(scripts.TRY_COMMANDS)


def writing_script(text: bytes) -> Script:
    """Return a script that writes, and runs only if its user may run every command of all such scripts."""
    return Script(text, _TRIAL)
