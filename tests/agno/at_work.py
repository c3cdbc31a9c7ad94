"""Processes that run real agents, teams and workflows of agno."""

from __future__ import annotations

import asyncio

from tests.agno.components import MAKERS

from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb


def run_many(kind: str, db_url: str, worker: int, times: int, with_asyncio: bool) -> None:
    """Run a component some times on the one session: what a worker process does."""
    if with_asyncio:
        asyncio.run(_arun_many(kind, db_url, worker, times))
        return
    db = SessionCacheDb(db_url=db_url, ttl=3600)
    component = MAKERS[kind](db)
    for number in range(times):
        component.run(f"q{worker}-{number}", session_id="shared", user_id="alice")
    db.close()


async def _arun_many(kind: str, db_url: str, worker: int, times: int) -> None:
    db = AsyncSessionCacheDb(db_url=db_url, ttl=3600)
    component = MAKERS[kind](db)
    for number in range(times):
        await component.arun(f"q{worker}-{number}", session_id="shared", user_id="alice")
    await db.close()
