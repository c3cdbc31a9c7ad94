"""Pages of runs, read from one end of a session, all as of one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from sessioncache.errors import SessionNotFoundError
from sessioncache.storage.adapters import Adapter
from sessioncache.storage.run_members import StoredRun, read_heads, read_runs
from sessioncache.storage.run_range import RunRange
from sessioncache.transport.flow import Flow
from sessioncache.validation import MOST_RUNS

from .context import Context
from .read import read

GROWTH: Final = 2
"""How many times larger each further page is: few round trips, and at most about twice what is needed."""

PAGE_BYTES: Final = 2 * 2**20
"""About how many bytes a further page may have, judging by the runs read before it."""


class Part(NamedTuple):
    """What is read of runs, and how to build them."""

    has_bodies: bool
    build: Callable[[Adapter, Sequence[StoredRun]], Sequence[Any]]


HEADS: Final = Part(has_bodies=False, build=read_heads)
WHOLE: Final = Part(has_bodies=True, build=read_runs)


@dataclass(frozen=True, slots=True)
class Page:
    """Runs from one end of a session, oldest first, and what the session was like when they were read."""

    runs: list[Any]
    size: int
    rev: int
    count: int
    n_bytes: int
    fields: Sequence[bytes | None] = ()
    """The fields of the session that were asked for."""

    @property
    def is_all(self) -> bool:
        """Return whether the session has no other runs."""
        return self.size >= self.count


def read_page(
    ctx: Context,
    session_id: str,
    part: Part,
    size: int | None,
    offset: int = 0,
    *,
    oldest: bool = False,
    fields: Sequence[bytes] = (),
) -> Flow[Page]:
    """Read `size` runs beyond the `offset` newest, or oldest, ones, and some fields: one round trip.

    Raises SessionNotFoundError if there is no such session, or if it is damaged.
    """
    wanted = RunRange(size, offset, oldest, part.has_bodies, has_orders=False)
    reading = yield from read(ctx, session_id, wanted, fields)
    if reading is None:
        raise SessionNotFoundError(f"there is no session {session_id!r}", session_id=session_id)
    runs = list(part.build(ctx.settings.adapter, reading.runs))
    n_bytes = sum(len(stored.head) + len(stored.body) for stored in reading.runs)
    asked = [*map(reading.fields.get, fields)]
    return Page(runs, len(runs), reading.rev, reading.n_runs, n_bytes, asked)


def read_newest(ctx: Context, session_id: str, part: Part, size: int | None) -> Flow[list[Any]]:
    """Read the newest runs, all for None, oldest first: one round trip."""
    if size == 0:
        yield from read_page(ctx, session_id, HEADS, 0)
        return []
    return (yield from read_page(ctx, session_id, part, size)).runs


def read_until(
    ctx: Context,
    session_id: str,
    part: Part,
    first: int,
    is_enough: Callable[[list[Any]], bool],
    *,
    oldest: bool = False,
    fields: Sequence[bytes] = (),
) -> Flow[Page]:
    """Read page after page, each larger than the one before, until the runs are enough or all.

    The runs are those of one moment: if the session changes between two pages, reading begins again with one
    page as large as all that were read.
    """
    page = yield from read_page(ctx, session_id, part, min(first, MOST_RUNS), oldest=oldest, fields=fields)
    size = first
    while not page.is_all and not is_enough(page.runs):
        size = _further(size, page)
        more = yield from read_page(ctx, session_id, part, size, page.size, oldest=oldest)
        if more.rev == page.rev:
            page = _joined(page, more, oldest=oldest)
        else:
            page = yield from read_page(ctx, session_id, part, page.size + size, oldest=oldest, fields=fields)
    return page


def _further(size: int, page: Page) -> int:
    """Return the size of the next page: larger, but not by its bytes out of bounds."""
    affordable = PAGE_BYTES * page.size // max(page.n_bytes, 1)
    return max(1, min(size * GROWTH, affordable))


def _joined(page: Page, more: Page, *, oldest: bool) -> Page:
    runs = page.runs + more.runs if oldest else more.runs + page.runs
    return replace(page, runs=runs, size=page.size + more.size, n_bytes=page.n_bytes + more.n_bytes)


def partial_session(ctx: Context, session_id: str, runs: list[Any]) -> Any:
    """Return a session object that has these runs and nothing else."""
    return ctx.settings.adapter.session_class(session_id=session_id, runs=runs)
