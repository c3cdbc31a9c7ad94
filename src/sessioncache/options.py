"""The options of a cache: what users pass, and the same checked once, when the cache is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from os import getpid
from typing import Any, Final, Literal, TypedDict
from uuid import uuid4

from . import validation
from .errors import InvalidArgumentError
from .storage import zstd
from .storage.adapters import WORKFLOWS, Adapter
from .storage.sealing import Keyring

DEFAULT_PREFIX: Final = "sessioncache"

DEFAULT_MAX_RUN_BYTES: Final = 8 * 2**20
"""Largest packed run, in bytes: far below what makes a server close a connection (512 MiB)."""

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for one call, retries included: longer than a failover, shorter than a user's patience."""


_PREFIX: Final = re.compile(r"[^{}]*(\{[^{}]+\}[^{}]*)?")


DEFAULT_NEAR_BYTES: Final = 64 * 2**20
"""Memory of a near cache: a thousand sessions of ten real runs."""


@dataclass(frozen=True, slots=True)
class NearCache:
    """What a process may hold of the sessions it reads, so that it fetches only what has changed.

    Args:
        max_bytes: Most bytes of memory; the sessions used least lately are dropped first.
        max_staleness: For how many seconds what is held may be returned without asking Redis. With 0, the
            default, every lookup asks, and nothing it returns is older than the call.

    Raises:
        InvalidArgumentError: One of them is wrong.
    """

    max_bytes: int = DEFAULT_NEAR_BYTES
    max_staleness: float = 0.0

    def __post_init__(self) -> None:
        """Check the options."""
        validation.whole_number(self.max_bytes, "near_cache: max_bytes", 1)
        validation.staleness(self.max_staleness, "near_cache: max_staleness")


class Options(TypedDict, total=False):
    """The options of a cache, all of them keyword-only."""

    prefix: str
    """Beginning of the names of all keys; `sessioncache` by default."""
    ttl: int | timedelta | None
    """Lifetime of a session after each write, in seconds or as a timedelta; None, the default, for ever."""
    touch_on_read: bool
    """Whether reading a session also begins its lifetime again."""
    max_runs: int | None
    """Most runs of a session: a write that adds one removes the oldest beyond it."""
    max_run_bytes: int
    """Largest packed run, in bytes; 8 MiB by default."""
    timeout: float
    """Seconds that one call may take, retries included; 5 by default."""
    mark_deletions: bool
    """Whether a deletion leaves a mark for a day, so that errors tell what was deleted from what expired."""
    near_cache: NearCache | int | None
    """What the process holds of the sessions it reads, or its most bytes; None, the default, for nothing."""
    compression: Literal["zstd"] | None
    """How values of 512 bytes or more are compressed; None, the default, for not at all."""
    encryption: Keyring | None
    """The keys that values are sealed with; None, the default, for none."""
    accept_plain: bool
    """Whether values that are not sealed are read although there is a keyring: while a store is moved in."""
    on_call: Callable[[Any], object] | None
    """A function that is told of each call, by a CallRecord, once it is over; None, the default, for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked options of a cache; `ttl` in milliseconds, as all scripts take it."""

    prefix: str
    ttl: int | None
    touch_on_read: bool
    """Whether reads begin a lifetime again; never if there is none."""
    max_runs: int | None
    max_run_bytes: int
    timeout: float
    mark_deletions: bool = False
    near_cache: NearCache | None = None
    compresses: bool = False
    encryption: Keyring | None = None
    on_call: Callable[[Any], object] | None = None
    adapter: Adapter = WORKFLOWS
    _token: str = field(default_factory=lambda: uuid4().hex, repr=False, compare=False)

    @property
    def keeps_plain(self) -> bool:
        """Return whether values are stored as they are packed."""
        return not self.compresses and self.encryption is None

    @property
    def deleter(self) -> bytes:
        """Return who deletes through this cache: each process that has it is another."""
        return f"{self._token}-{getpid()}".encode()

    @property
    def index_ttl(self) -> int | None:
        """Return the lifetime of indexes: twice as long if reads touch, which touch indexes less often."""
        return self.ttl * 2 if self.ttl is not None and self.touch_on_read else self.ttl

    @property
    def max_staleness(self) -> float:
        """Return for how many seconds Redis is not asked again: at most a tenth of the ttl if reads touch."""
        longest = self.near_cache.max_staleness if self.near_cache else 0.0
        return min(longest, self.ttl / 10_000) if self.ttl is not None and self.touch_on_read else longest


_NAMES: Final = tuple(Options.__annotations__)


def check_options(
    *,
    prefix: str = DEFAULT_PREFIX,
    ttl: int | timedelta | None = None,
    touch_on_read: bool = False,
    max_runs: int | None = None,
    max_run_bytes: int = DEFAULT_MAX_RUN_BYTES,
    timeout: float = DEFAULT_TIMEOUT,
    mark_deletions: bool = False,
    near_cache: NearCache | int | None = None,
    compression: Literal["zstd"] | None = None,
    encryption: Keyring | None = None,
    accept_plain: bool = False,
    on_call: Callable[[Any], object] | None = None,
    **unknown: Any,
) -> Settings:
    """Return checked options; raise InvalidArgumentError naming the one that is wrong or unknown."""
    if unknown:
        raise InvalidArgumentError(f"there is no option {min(unknown)!r}; known: {', '.join(_NAMES)}")
    validation.encoded_id(prefix, "prefix")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidArgumentError("prefix must hold no brace, or one pair with something in it: a hash tag")
    if on_call is not None and not callable(on_call):
        raise InvalidArgumentError("on_call must be a function of one CallRecord")
    for name, value in (("touch_on_read", touch_on_read), ("mark_deletions", mark_deletions)):
        if not isinstance(value, bool):
            raise InvalidArgumentError(f"{name} must be a bool")
    return Settings(
        prefix=str.__str__(prefix),  # of a str enum, the value
        ttl=validation.lifetime(ttl, "ttl"),
        touch_on_read=touch_on_read and ttl is not None,
        max_runs=None if max_runs is None else validation.whole_number(max_runs, "max_runs", 1),
        max_run_bytes=validation.whole_number(max_run_bytes, "max_run_bytes", 1),
        timeout=validation.timeout(timeout, "timeout"),
        mark_deletions=mark_deletions,
        near_cache=_near_cache(near_cache),
        compresses=_compresses(compression),
        encryption=_keyring(encryption, accept_plain),
        on_call=on_call,
    )


def _compresses(compression: str | None) -> bool:
    if compression not in (None, "zstd"):
        raise InvalidArgumentError('compression must be "zstd" or None')
    if compression is not None:
        zstd.module()
    return compression is not None


def _keyring(given: Keyring | None, accept_plain: bool) -> Keyring | None:
    if not isinstance(accept_plain, bool):
        raise InvalidArgumentError("accept_plain must be a bool")
    if given is None and not accept_plain:
        return None
    if not isinstance(given, Keyring):
        raise InvalidArgumentError(f"encryption must be a Keyring, not {type(given).__name__}")
    return given.accepting_plain() if accept_plain else given


def _near_cache(given: NearCache | int | None) -> NearCache | None:
    if given is None or isinstance(given, NearCache):
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise InvalidArgumentError(
            f"near_cache must be a NearCache, a number of bytes or None, not {type(given).__name__}"
        )
    return NearCache(given)
