"""Fixtures: an empty server, and a plain client to look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import redis

    from support.servers import RedisServer


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The machine's own Redis, empty."""
    redis_server.client().flushall()
    return redis_server


@pytest.fixture
def admin(server: RedisServer) -> redis.Redis:
    """A plain client on the same server, connected already."""
    client = server.client()
    client.ping()
    return client
