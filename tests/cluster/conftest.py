"""Fixtures: a cache of either kind on any URL, on the cluster, and behind Sentinels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import connect  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.cluster import RedisCluster


@pytest.fixture
def cache(cluster: RedisCluster, connect: Callable[..., Any]) -> Any:  # noqa: F811 - the fixture
    """A cache on an empty cluster, which it has not yet asked anything."""
    return connect(cluster.url)
