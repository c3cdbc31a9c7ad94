"""The calls that look after all sessions, of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .base import BaseCache
from .models import SessionSummary
from .operations import iteration, listing, ping, rebuild, stats, verify
from .operations.stats import StoreStats
from .storage.checks import VerifyReport


class Maintenance(BaseCache):
    """Those of blocking code."""

    _run: Any

    def iter_sessions(
        self,
        *,
        user_id: str | None = None,
        workflow_id: str | None = None,
        name: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        page_size: int = 500,
    ) -> Iterator[SessionSummary]:
        """Iterate over sessions, all or those that fit, holding no more than a page and 8 bytes for each.

        Args:
            user_id: As in `list_sessions`, like all others.
            workflow_id: None for any.
            name: None for any.
            created_after: None for any.
            created_before: None for any.
            page_size: How many sessions are read at once.

        Yields:
            The sessions, those updated last at the end; in a cluster, sorted so within each part of an index.
            None comes twice, and none that was there from the beginning is left out, whatever others write.

        Raises:
            DamagedSessionError: An index is no sorted set; `rebuild_indexes` replaces it.

        Redis:
            ZRANGE, and MULTI of HMGET and ZCARD for each session; 2 round trips for each page.
        """
        wanted = listing.SessionFilter(user_id, workflow_id, name, created_after, created_before)
        walk = iteration.SessionWalk(wanted, page_size)
        while (page := self._run(iteration.next_sessions, walk)) is not None:
            yield from page

    def stats(self, sample: int | None = None, progress: Callable[[int], object] | None = None) -> StoreStats:
        """Measure what is stored: sessions, runs, memory, lifetimes.

        It rests after each step, four times as long as the step took, and holds some bytes for each session.

        Args:
            sample: About how many sessions to look at; None for all.
            progress: Called after each step with the number of sessions so far.

        Returns:
            Counts and bytes, and the largest sessions.

        Redis:
            SCAN, and MEMORY USAGE, PTTL, ZCARD and ZRANGE for each session; 2 round trips for 20 sessions.
        """
        return self._run(stats.stats, sample=sample, progress=progress)

    def verify(
        self,
        *,
        repair: bool = False,
        delete_damaged: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> VerifyReport:
        """Check every session and every index, and repair what can be repaired.

        It rests after each step, four times as long as the step took.

        Args:
            repair: Whether to repair what loses nothing: indexes, lifetimes, counts.
            delete_damaged: Whether to delete runs that do not decode, and damaged sessions.
            progress: Called after each step with the number of sessions so far.

        Returns:
            What was found, and what of it is repaired.

        Redis:
            SCAN, and all of each session; 3 round trips for 25 sessions, and EVALSHA for each repair.
        """
        return self._run(verify.verify, repair=repair, delete_damaged=delete_damaged, progress=progress)

    def rebuild_indexes(self, progress: Callable[[int], object] | None = None) -> int:
        """List every session in the indexes again: for repair, and for sessions stored without indexes.

        An index key of another type is replaced. A session that does not say where it belongs is skipped,
        with a line in the log.

        Args:
            progress: Called after each step with the number of sessions so far.

        Returns:
            How many sessions there are.

        Redis:
            SCAN of all keys, HMGET and PTTL for each session, EVALSHA for each entry; 5 round trips for about
            each 500 keys. Each step has the cache's `timeout` of its own.
        """
        return self._run(rebuild.rebuild_indexes, progress)

    def ping(self) -> float:
        """Check that Redis replies, in a cluster every master: a probe of readiness.

        It waits for a server that is starting or being replaced, as every call does.

        Returns:
            The seconds that the slowest reply took, connecting included.

        Redis:
            PING; 1 round trip, in a cluster 1 to each master, at once.
        """
        return self._run(ping.ping)


class AsyncMaintenance(BaseCache):
    """Those of asyncio."""

    _run: Any

    async def iter_sessions(
        self,
        *,
        user_id: str | None = None,
        workflow_id: str | None = None,
        name: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        page_size: int = 500,
    ) -> AsyncIterator[SessionSummary]:
        """Iterate over sessions, all or those that fit, holding no more than a page and 8 bytes for each.

        Args:
            user_id: As in `list_sessions`, like all others.
            workflow_id: None for any.
            name: None for any.
            created_after: None for any.
            created_before: None for any.
            page_size: How many sessions are read at once.

        Yields:
            The sessions, those updated last at the end; in a cluster, sorted so within each part of an index.
            None comes twice, and none that was there from the beginning is left out, whatever others write.

        Raises:
            DamagedSessionError: An index is no sorted set; `rebuild_indexes` replaces it.

        Redis:
            ZRANGE, and MULTI of HMGET and ZCARD for each session; 2 round trips for each page.
        """
        wanted = listing.SessionFilter(user_id, workflow_id, name, created_after, created_before)
        walk = iteration.SessionWalk(wanted, page_size)
        while (page := await self._run(iteration.next_sessions, walk)) is not None:
            for session in page:
                yield session

    async def stats(
        self, sample: int | None = None, progress: Callable[[int], object] | None = None
    ) -> StoreStats:
        """Measure what is stored: sessions, runs, memory, lifetimes.

        It rests after each step, four times as long as the step took, and holds some bytes for each session.

        Args:
            sample: About how many sessions to look at; None for all.
            progress: Called after each step with the number of sessions so far.

        Returns:
            Counts and bytes, and the largest sessions.

        Redis:
            SCAN, and MEMORY USAGE, PTTL, ZCARD and ZRANGE for each session; 2 round trips for 20 sessions.
        """
        return await self._run(stats.stats, sample=sample, progress=progress)

    async def verify(
        self,
        *,
        repair: bool = False,
        delete_damaged: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> VerifyReport:
        """Check every session and every index, and repair what can be repaired.

        It rests after each step, four times as long as the step took.

        Args:
            repair: Whether to repair what loses nothing: indexes, lifetimes, counts.
            delete_damaged: Whether to delete runs that do not decode, and damaged sessions.
            progress: Called after each step with the number of sessions so far.

        Returns:
            What was found, and what of it is repaired.

        Redis:
            SCAN, and all of each session; 3 round trips for 25 sessions, and EVALSHA for each repair.
        """
        return await self._run(verify.verify, repair=repair, delete_damaged=delete_damaged, progress=progress)

    async def rebuild_indexes(self, progress: Callable[[int], object] | None = None) -> int:
        """List every session in the indexes again: for repair, and for sessions stored without indexes.

        An index key of another type is replaced. A session that does not say where it belongs is skipped,
        with a line in the log.

        Args:
            progress: Called after each step with the number of sessions so far.

        Returns:
            How many sessions there are.

        Redis:
            SCAN of all keys, HMGET and PTTL for each session, EVALSHA for each entry; 5 round trips for about
            each 500 keys. Each step has the cache's `timeout` of its own.
        """
        return await self._run(rebuild.rebuild_indexes, progress)

    async def ping(self) -> float:
        """Check that Redis replies, in a cluster every master: a probe of readiness.

        It waits for a server that is starting or being replaced, as every call does.

        Returns:
            The seconds that the slowest reply took, connecting included.

        Redis:
            PING; 1 round trip, in a cluster 1 to each master, at once.
        """
        return await self._run(ping.ping)
