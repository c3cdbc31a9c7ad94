"""Clients of agno's users, which decode: of a cluster, behind Sentinels, with a prefix in braces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from agno.db.schemas.memory import UserMemory
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from tests.agno.components import agent, workflow

from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import RedisCluster
    from support.sentinel import SentinelSetup

pytestmark = pytest.mark.cluster


@pytest.fixture(params=["cluster", "sentinels"])
def clients(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A blocking client that decodes, and how to make one of asyncio on the same data."""
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("cluster")
        port = cluster.nodes[0].port
        blocking: Any = redis.RedisCluster(host="127.0.0.1", port=port, decode_responses=True)
        yield blocking, lambda: AsyncRedisCluster(host="127.0.0.1", port=port, decode_responses=True)
    else:
        setup: SentinelSetup = request.getfixturevalue("sentinels")
        places = [("127.0.0.1", sentinel.port) for sentinel in setup.sentinels]
        options: dict[str, Any] = {"decode_responses": True, "socket_timeout": 5}
        name = setup.url.split("/")[3]
        blocking = redis.sentinel.Sentinel(places, **options).master_for(name)
        yield blocking, lambda: redis.asyncio.sentinel.Sentinel(places, **options).master_for(name)
    blocking.close()


@pytest.mark.parametrize("prefix", ["agno", "{agno}", "app:{agno}"])
def test_agents_and_memories_are_stored(clients: tuple[Any, Any], prefix: str) -> None:
    client, make_async_client = clients
    db = SessionCacheDb(redis_client=client, db_prefix=prefix, expire=60)
    agent(db).run("q0-0", session_id="s")
    workflow(db).run("q0-1", session_id="w", user_id="ada")
    db.upsert_user_memory(UserMemory(memory="tea", memory_id="m", user_id="ada"))

    async def in_asyncio() -> None:
        async_client = make_async_client()
        other = AsyncSessionCacheDb(
            redis_client=async_client, blocking_client=client, db_prefix=prefix, expire=60
        )
        await agent(other).arun("q0-2", session_id="s")
        assert len((await other.get_session("s")).runs) == 2
        assert [memory.memory for memory in await other.get_user_memories(user_id="ada")] == ["tea"]
        await other.close()
        await async_client.aclose()

    asyncio.run(in_asyncio())
    assert {each.session_id for each in db.get_sessions()} == {"s", "w"}
    assert len(db.get_session("s").runs) == 2
    assert [each.session_id for each in db.get_sessions(user_id="ada")] == ["w"]
    db.close()
