"""A call under way, with the options of its cache; and the scripts that calls run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from time import monotonic
from typing import Concatenate, Final, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from sessioncache.options import Settings
from sessioncache.storage import scripts
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Script
from sessioncache.transport.retry import Call

from .listed import ListedSessions
from .near_cache import NearCacheStore

P = ParamSpec("P")
T = TypeVar("T")


class Held(NamedTuple):
    """A lease that was taken: of which session, its number, and how many milliseconds it lasts."""

    session_id: str
    number: int
    ttl: int


class Elsewhere(Protocol):
    """Where a session may be that is absent here: it is looked for there, and brought here."""

    def fetch(self, ctx: Context, session_id: str) -> Flow[bool]:
        """Bring an absent session here; return whether it may be here now."""

    def fetch_all(self, ctx: Context) -> Flow[None]:
        """Bring every session here."""


def near_cache_of(settings: Settings) -> NearCacheStore | None:
    """Return an empty near cache, None if the options ask for none."""
    given = settings.near_cache
    return None if given is None else NearCacheStore(given.max_bytes, settings.max_staleness)


@dataclass(slots=True, kw_only=True)
class Context(Call):
    """One call of a user on one cache."""

    settings: Settings
    near: NearCacheStore | None = None
    """What the process holds of sessions; None if the cache has no near cache."""
    listed: ListedSessions = field(default_factory=ListedSessions)
    """What the process knows of indexes in a cluster."""
    near_outcome: str | None = None
    """What the near cache did for this call: the name of what NearCacheInfo counts."""
    user_id: str | None = None
    """Whose sessions there are for this call; None for everybody's."""
    lease: Held | None = None
    """The lease under which this call writes."""
    elsewhere: Elsewhere | None = None
    """Decided when the call begins: what is brought here meanwhile, by whomever, is looked at again."""

    def with_ttl(self, ttl: int | None) -> Self:
        """Return the same call on a cache whose sessions live so many milliseconds, None for ever."""
        return replace(self, settings=replace(self.settings, ttl=ttl))

    def begun_anew(self) -> Context:
        """Return a call of its own for one step of many, with a deadline of its own, and here only."""
        return Context(
            topology=self.topology,
            settings=self.settings,
            name=self.name,
            near=self.near,
            listed=self.listed,
            user_id=self.user_id,
            lease=self.lease,
        )

    def limited(self, share: float) -> Self:
        """Return the same call with so much of its time at most, retries included."""
        seconds = max(min(share * self.settings.timeout, self.seconds_left()), 0)
        return replace(self, settings=replace(self.settings, timeout=seconds), started=monotonic())

    @property
    def is_in_one_place(self) -> bool:
        """Return whether a script can write all keys: they are on one server, or in one slot."""
        return self.topology.indexes_join_writes or "{" in self.settings.prefix

    def fetch(self, session_id: str) -> Flow[bool]:
        """Bring a session here that is absent; return whether it may be here now."""
        return self.elsewhere is not None and (yield from self.elsewhere.fetch(self, session_id))

    def fetch_all(self) -> Flow[None]:
        """Bring every session here that is elsewhere."""
        if self.elsewhere is not None:
            yield from self.elsewhere.fetch_all(self)


class Tally:
    """What this process has met of all caches, for telemetry; shared by threads."""

    def __init__(self) -> None:
        self._counts = {"damaged_sessions": 0, "healed_index_entries": 0}
        self._lock = Lock()

    def add(self, name: str, number: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += number

    def count(self, name: str) -> int:
        """Return how often it was met."""
        return self._counts[name]


TALLY: Final = Tally()

Operation = Callable[Concatenate[Context, P], Flow[T]]

_TRIAL: Final = Script(scripts.TRY_COMMANDS)


def writing_script(text: bytes, leased: bytes | None = None) -> Script:
    """Return a script that writes, and runs only if its user may run every command of all such scripts."""
    return Script(text, _TRIAL, None if leased is None else Script(leased, _TRIAL))
