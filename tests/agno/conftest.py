"""Fixtures for the tests of the Db for agno: a real server, ours on it, and agno's SQLite to compare with.

Without agno none of these tests is collected. (It is looked for by a submodule: this folder is called agno.)
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from support.facade import BlockingFacade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.facade import LoopThread
    from support.servers import RedisServer

if importlib.util.find_spec("agno.db") is None:
    collect_ignore_glob = ["test_*.py"]

TTL_SECONDS = 3600


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty server."""
    admin = redis_server.client()
    admin.flushall()
    admin.close()
    return redis_server.url


@pytest.fixture
def make_db(redis_url: str) -> Iterator[Callable[..., Any]]:
    """Make a blocking Db on the server: `make_db(max_runs=3)`."""
    from sessioncache.integrations.agno import SessionCacheDb  # noqa: PLC0415 - agno may be missing

    made = []

    def make(db_url: str = redis_url, **options: Any) -> Any:
        made.append(
            SessionCacheDb(db_url=db_url, **({} if "expire" in options else {"ttl": TTL_SECONDS}), **options)
        )
        return made[-1]

    yield make
    for db in made:
        db.close()
        db.redis_client.close()


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    """A blocking Db."""
    return make_db()


@pytest.fixture(params=["sync", "async"])
def either_db(request: pytest.FixtureRequest, make_db: Callable[..., Any], redis_url: str) -> Iterator[Any]:
    """Each Db in turn, the asynchronous one as if it blocked."""
    if request.param == "sync":
        yield make_db()
        return
    from sessioncache.integrations.agno import AsyncSessionCacheDb  # noqa: PLC0415 - as above

    loop_thread: LoopThread = request.getfixturevalue("loop_thread")
    made = AsyncSessionCacheDb(db_url=redis_url, ttl=TTL_SECONDS)
    yield BlockingFacade(made, loop_thread)
    loop_thread.run(made.close())
    made.blocking.redis_client.close()


@pytest.fixture
def sqlite_db(tmp_path: Path) -> Iterator[Any]:
    """agno's SQLite Db, in a file of its own."""
    from agno.db.sqlite import SqliteDb  # noqa: PLC0415 - as above

    made = SqliteDb(db_file=str(tmp_path / "agno.db"))
    yield made
    made.close()
