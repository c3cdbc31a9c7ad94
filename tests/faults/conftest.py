"""Fixtures: a proxy before a server, and caches of both kinds on any URL."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

import pytest

from faults.reaching import connect  # noqa: F401 - a fixture
from support.wire import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy before an empty server."""
    admin = redis_server.client()
    admin.flushall()
    with FaultProxy(redis_server.socket_path) as proxy:
        yield proxy
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # what the proxy was in the middle of when it was closed is no leak of ours
