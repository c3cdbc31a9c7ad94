"""What this process knows of indexes: which sessions it has listed, and what time it is on each server.

Only a cluster needs it, where a session and its indexes are on several servers. Nothing of it is a promise:
who knows nothing lists a session after its write.
"""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic
from typing import Final, NamedTuple

from sessioncache.storage.scripts import WriteResult
from sessioncache.transport.flow import Address

KNOWN_SESSIONS: Final = 4096
"""Sessions that are known; beyond, all are forgotten, and known again after their next write."""

MICROSECONDS: Final = 1_000_000


class Listing(NamedTuple):
    """How a session was listed last: as of which write, and in which indexes."""

    written: WriteResult
    indexes: frozenset[bytes]

    def still_holds(self, written: WriteResult) -> bool:
        """Return whether a write left it as it is: the next one after it, in the same second."""
        last = self.written
        follows = (written.rev_before, written.born) == (last.rev, last.born)
        return follows and written.updated_at == last.updated_at


class ListedSessions:
    """The last writes of this process; shared by threads."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}
        self._clocks: dict[Address, float] = {}

    def find(self, session_id: str) -> Listing | None:
        """Return how a session was listed last."""
        return self._listings.get(session_id)

    def note(
        self, server: Address | None, session_id: str, written: WriteResult, indexes: Collection[bytes]
    ) -> None:
        """Record a write, and in which indexes its session is listed as of it."""
        if len(self._listings) >= KNOWN_SESSIONS:
            self._listings.clear()
        self._listings[session_id] = Listing(written, frozenset(indexes))
        if server is not None and written.rev // MICROSECONDS == written.updated_at:
            self._clocks[server] = written.rev / MICROSECONDS - monotonic()

    def second_on(self, server: Address | None) -> int | None:
        """Return the second that it is on a server at least, if its clock only goes forward."""
        ahead = None if server is None else self._clocks.get(server)
        return None if ahead is None else int(monotonic() + ahead)
