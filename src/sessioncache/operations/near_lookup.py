"""A lookup of a session that the process may hold: of what is held, Redis is asked only what has changed."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

from sessioncache.errors import UnserializableError
from sessioncache.storage import codec
from sessioncache.storage.run_range import RunRange
from sessioncache.transport.request import Request

from .changes import changes_request, read_changes
from .context import Context
from .lookup import Build, Lookup
from .near_cache import Copy, NearCacheStore


class NearLookup(Lookup):
    """A lookup in a near cache: answered from memory if that is allowed, else after one question.

    If the answer is no, the copy is dropped, and the session is read anew, whole.
    """

    def __init__(
        self, ctx: Context, near: NearCacheStore, session_id: str, wanted: RunRange, *, validates: bool
    ) -> None:
        # Whatever a copy is read for, it is the same copy: with all that others may ask of it.
        wanted = wanted if wanted.has_orders else wanted._replace(has_orders=True)
        super().__init__(ctx, session_id, wanted)
        self._near = near
        self._key = session_id, self.wanted
        self._asked_at = monotonic()
        self.copy = near.get(self._key)
        if self.copy is not None and not validates and near.is_fresh(self._key, self.copy, self._asked_at):
            self._count("hits")
            self.reading, self.is_answered = self.copy.reading, True

    def again(self) -> None:
        """Look the session up once more: it may be here by now."""
        super().again()
        self._asked_at = monotonic()

    def request(self) -> Request:
        """Return the question for Redis: what has changed of the copy, or what the session is."""
        if self.copy is not None:
            return changes_request(self.ctx, self.session_id, self.copy.reading, self.wanted)
        request = super().request()
        return request._replace(commands=(*request.commands, (b"PTTL", request.key)))

    def take(self, reply: Any) -> None:
        """Take the reply to the request; if too much has changed, the next one is for all of it."""
        if self.copy is None:
            *whole, ttl = reply
            super().take(whole)
            self._count("misses")
            if self.reading is not None:
                self.copy = Copy(self.reading, self._asked_at, self._deadline(ttl))
                self._near.put(self._key, self.copy)
            return
        changes = read_changes(self.ctx, self.session_id, reply, self.copy.reading, self.wanted)
        if changes is None:
            self._near.drop(self._key)
            self.copy = None
            return
        deadline = self._deadline(changes.ttl)
        if changes.reading is self.copy.reading:
            self._near.renew(self.copy, self._asked_at, deadline)
            self.ctx.near_outcome = "validated_hits"
        else:
            self._count("delta_reads")
            self.copy = self.copy.replaced(changes.reading, changes.orders, self._asked_at, deadline)
            self._near.put(self._key, self.copy)
        self.reading, self.is_answered = changes.reading, True

    def _count(self, outcome: str) -> None:
        self._near.count(outcome)
        self.ctx.near_outcome = outcome

    def _deadline(self, ttl: int) -> float:
        return self._asked_at + ttl / 1000 if ttl >= 0 else inf

    def content(self) -> dict[str, Any]:
        """Return the fields of the session, decoded: from one packed value from the second time on."""
        if self.copy is not None and self.copy.content:
            return codec.unpack_dict(self.copy.content)
        content = super().content()
        if self.copy is not None:
            with suppress(UnserializableError):  # deeper or larger, all in one, than may be packed
                self.copy.content = codec.pack(content, "session")
            self._near.resize(self._key, self.copy)
        return content

    def objects(self, kind: str, build: Build) -> list[Any]:
        """Return what `build` makes of each run, oldest first; what may be shared is made once, and kept."""
        runs = self.reading.by_order if self.reading else {}
        if self.copy is None or len(runs) < len(self.copy.reading.runs):
            return super().objects(kind, build)
        known, made = self.copy.objects.get(kind, {}), {}
        found = []
        for order, stored in runs.items():
            if order in known:
                found.append(known[order])
                continue
            new, may_be_shared = build(stored)
            found.append(new)
            if may_be_shared:
                made[order] = new
        if made:
            self.copy.objects = {**self.copy.objects, kind: {**known, **made}}
            self._near.resize(self._key, self.copy)
        return found
