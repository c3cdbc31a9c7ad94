"""The pytest plugin of sessioncache. It imports nothing but pytest until one of its fixtures is used.

It is no module of the package, which would be imported with it, and before coverage is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from sessioncache import AsyncSessionCache, SessionCache, WorkflowSession
    from sessioncache.testing.faults import Faults

_numbers = itertools.count()


class _Place(NamedTuple):
    """Where a test keeps its sessions."""

    url: str
    prefix: str
    options: dict[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let one choose a real server."""
    parser.getgroup("sessioncache").addoption(
        "--session-cache-url",
        metavar="URL",
        help="the Redis that session_cache and async_session_cache use, under a prefix of each test's own, "
        "which is removed after it (default: a server in this process)",
    )
    parser.addini("session_cache_url", "the same as --session-cache-url", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "session_cache(**options): options of the session_cache fixtures, such as ttl=60"
    )


@pytest.fixture
def _session_cache_place(request: pytest.FixtureRequest) -> Iterator[_Place]:
    """Choose where a test keeps its sessions, and remove them after it."""
    config = request.config
    given = config.getoption("--session-cache-url") or config.getini("session_cache_url")
    marker = request.node.get_closest_marker("session_cache")
    options = dict(marker.kwargs) if marker else {}
    name = f"test-{os.getpid()}-{next(_numbers)}-{uuid.uuid4().hex[:12]}"
    place = _Place(given or f"memory://{name}", options.pop("prefix", name), options)
    yield place
    if given:
        _remove_all(place)


def _remove_all(place: _Place) -> None:
    from sessioncache import SessionCache
    from sessioncache.testing.faults import remove_all

    with SessionCache.from_url(place.url, prefix=place.prefix) as cache:
        cache._run(remove_all)  # noqa: SLF001 - for tests alone


@pytest.fixture
def session_cache(_session_cache_place: _Place) -> Iterator[SessionCache]:
    """A SessionCache of this test's own, empty."""
    from sessioncache import SessionCache

    place = _session_cache_place
    with SessionCache.from_url(place.url, prefix=place.prefix, **place.options) as cache:
        yield cache


@pytest.fixture
def async_session_cache(_session_cache_place: _Place) -> Iterator[AsyncSessionCache]:
    """An AsyncSessionCache on the same sessions as `session_cache`."""
    from sessioncache import AsyncSessionCache

    place = _session_cache_place
    cache = AsyncSessionCache.from_url(place.url, prefix=place.prefix, **place.options)
    yield cache
    asyncio.run(cache.aclose())


@pytest.fixture
def make_session() -> Callable[..., WorkflowSession]:
    """Make a realistic session, yet to be stored: `make_session(runs=3, user_id="ada")`."""
    from sessioncache.testing.samples import make_session

    return make_session


@pytest.fixture
def session_cache_faults(request: pytest.FixtureRequest) -> Faults:
    """Have Redis fail on demand, for all caches of this process; each fault is a context manager."""
    from sessioncache.testing.faults import Faults

    return Faults(lambda: request.getfixturevalue("session_cache"))
