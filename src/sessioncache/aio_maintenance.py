"""The calls of the asyncio client that look after sessions: listings, walks, checks, leases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from .base import BaseCache
from .leases import LEASE_SECONDS, AsyncLease
from .models import SessionPage, SessionSummary
from .operations import iteration, listing, ping, rebuild, rotation, stats, verify
from .operations.stats import StoreStats
from .storage.checks import VerifyReport


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

    async def rotate_keys(self, progress: Callable[[int], object] | None = None) -> int:
        """Seal every value anew under the first key of the keyring, while others write.

        To call it again is to go on. With `accept_plain`, what is not sealed is sealed, too. It rests after
        each step, four times as long as the step took.

        Args:
            progress: Called after each step with the number of sessions so far.

        Returns:
            In how many sessions anything was sealed anew.

        Raises:
            InvalidArgumentError: The cache has no keyring.
            EncryptionError: The keyring lacks a key.

        Redis:
            SCAN, HGETALL and ZRANGE; EVALSHA for each session, and for each further 300 runs.
        """
        return await self._run(rotation.rotate_keys, progress)

    async def ping(self) -> float:
        """Check that Redis replies, in a cluster every master: a probe of readiness.

        It waits for a server that is starting or being replaced, as every call does.

        Returns:
            The seconds that the slowest reply took, connecting included.

        Redis:
            PING; 1 round trip, in a cluster 1 to each master, at once.
        """
        return await self._run(ping.ping)

    def lease(
        self,
        session_id: str,
        ttl: float | timedelta = LEASE_SECONDS,
        wait: float = 0,
        *,
        user_id: str | None = None,
    ) -> AsyncLease:
        """Have one holder of a session at a time: the lease is taken when a block with it begins.

        It is held by the server's clock, and has a number that grows for ever, by which what an earlier
        holder writes is refused, however late it comes. A session that is deleted releases its lease.

        Args:
            session_id: A session that exists.
            ttl: For how many seconds it lasts, after it is taken and after each write under it.
            wait: For how many seconds to wait while somebody else holds it.
            user_id: If given, only a session of this user is found.

        Returns:
            The lease, to be used as a context manager. It raises LeaseHeldError or SessionNotFoundError.

        Raises:
            InvalidArgumentError: An argument is wrong.

        Redis:
            EVALSHA; 1 round trip to take it, to extend it and to release it.
        """
        return AsyncLease(self._run, session_id, ttl, wait, user_id)

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        workflow_id: str | None = None,
        name: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        limit: int = 20,
        offset: int = 0,
        newest_first: bool = True,
    ) -> SessionPage:
        """List sessions by the time of their last update; no run is read.

        Sessions that are gone are removed from the index as they are met, the oldest 16 with every listing.

        Args:
            user_id: Only sessions of this user.
            workflow_id: Only sessions of this workflow.
            name: Only sessions whose name contains this, in any case.
            created_after: Only sessions created then or later, in unix seconds.
            created_before: Only sessions created then or earlier, in unix seconds.
            limit: Most sessions of the page, up to 10,000.
            offset: How many sessions come before the page; they are looked at too.
            newest_first: Whether the session updated last comes first.

        Returns:
            The page, and the total if it is cheap. Sessions that are damaged or of another version are left
            out, with a line in the log, and stay listed.

        Raises:
            DamagedSessionError: The index itself is damaged: `rebuild_indexes` repairs it.

        Redis:
            MULTI of ZRANGE, ZRANDMEMBER and ZCARD, then MULTI of HMGET and ZCARD for each session; 2 round
            trips, and more to search for a name or a time or to skip over 2,000 sessions.
        """
        wanted = listing.SessionFilter(user_id, workflow_id, name, created_after, created_before)
        return await self._run(
            listing.list_sessions, wanted, limit=limit, offset=offset, newest_first=newest_first
        )
