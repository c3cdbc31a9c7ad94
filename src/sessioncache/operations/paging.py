"""Pages of runs, read from one end of a session, as of one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from sessioncache import keys
from sessioncache.errors import SessionNotFoundError
from sessioncache.flow import Command, Flow, Request
from sessioncache.kinds import Model
from sessioncache.records import StoredRun, read_head, read_run
from sessioncache.resilience import Call

from .reading import (
    IDENTITY,
    MAX_SLICE,
    has_all,
    identify,
    newest_bodies,
    newest_heads,
    oldest_bodies,
    oldest_heads,
)
from .touching import ask_and_touch

GROWTH: Final = 2
"""How many times larger each further page is: few round trips, and at most about twice what is needed."""

PAGE_BYTES: Final = 2 * 2**20
"""About how many bytes a further page may have, going by the runs read before it."""


class Part(NamedTuple):
    """What is read of runs: the slices, and how to build runs of their members."""

    newest: tuple[Callable[[bytes, int | None, int], Command], ...]
    oldest: tuple[Callable[[bytes, int | None, int], Command], ...]
    build: Callable[..., Any]


def _build_whole(model: Model, session_id: str, head: bytes, body: bytes) -> Any:
    return read_run(model, session_id, StoredRun(head, body))


HEADS: Final = Part((newest_heads,), (oldest_heads,), read_head)
WHOLE: Final = Part((newest_heads, newest_bodies), (oldest_heads, oldest_bodies), _build_whole)


@dataclass(frozen=True, slots=True)
class Page:
    """Runs from one end of a session, oldest first, and what the session was like when they were read."""

    runs: list[Any]
    size: int
    rev: int
    count: int
    n_bytes: int

    @property
    def is_all(self) -> bool:
        """Tell whether the session has no other runs."""
        return self.size >= self.count


def read_page(
    call: Call, session_id: str, part: Part, size: int | None, offset: int = 0, *, oldest: bool = False
) -> Flow[Page]:
    """Read `size` runs beyond the `offset` newest, or oldest, ones: one round trip.

    Raises SessionNotFoundError where there is no such session, or it is damaged.
    """
    meta, runs = keys.session_keys(call.settings.prefix, session_id)
    slices = [command(runs, size, offset) for command in (part.oldest if oldest else part.newest)]
    request = Request(meta, ((b"HMGET", meta, *IDENTITY), (b"ZCARD", runs), *slices))
    ((stored_identity, n_members, *found),) = yield from ask_and_touch(call, [(session_id, request)])
    identity = identify(session_id, stored_identity, n_members)
    if identity is None or not has_all(session_id, identity.count, size, *map(len, found), offset=offset):
        raise SessionNotFoundError(f"there is no session {session_id!r}", session_id=session_id)
    built = [part.build(call.settings.model, session_id, *run) for run in zip(*found, strict=True)]
    n_bytes = sum(map(len, chain.from_iterable(found)))
    return Page(built if oldest else built[::-1], len(built), identity.rev, identity.count, n_bytes)


def read_newest(call: Call, session_id: str, part: Part, size: int | None) -> Flow[list[Any]]:
    """Read the newest runs, oldest first, all for None: one round trip."""
    if size == 0:
        yield from read_page(call, session_id, HEADS, 0)
        return []
    return (yield from read_page(call, session_id, part, size)).runs


def read_until(
    call: Call,
    session_id: str,
    part: Part,
    first: int,
    is_enough: Callable[[list[Any]], bool],
    *,
    oldest: bool = False,
) -> Flow[Page]:
    """Read page after page, each larger than the one before, until the runs are enough or all.

    The runs are those of one moment: where the session changes between two pages, reading begins again, with
    one page as large as all that were read.
    """
    page = yield from read_page(call, session_id, part, min(first, MAX_SLICE), oldest=oldest)
    size = first
    while not page.is_all and not is_enough(page.runs):
        size = _further(size, page)
        more = yield from read_page(call, session_id, part, size, page.size, oldest=oldest)
        if more.rev == page.rev:
            page = _joined(page, more, oldest=oldest)
        else:
            page = yield from read_page(call, session_id, part, page.size + size, oldest=oldest)
    return page


def _further(size: int, page: Page) -> int:
    """Return the size of the next page: larger, but not by its bytes out of bounds."""
    affordable = PAGE_BYTES * page.size // max(page.n_bytes, 1)
    return max(1, min(size * GROWTH, affordable))


def _joined(page: Page, more: Page, *, oldest: bool) -> Page:
    runs = page.runs + more.runs if oldest else more.runs + page.runs
    return Page(runs, page.size + more.size, page.rev, page.count, page.n_bytes + more.n_bytes)
