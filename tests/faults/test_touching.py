"""A server that refuses writes still serves reads that would keep a session alive: the answer is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from faults.reaching import run_ids, session
from support.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READS: dict[str, Callable[[Any], object]] = {
    "get_session": lambda cache: run_ids(cache.get_session("s")),
    "get_sessions": lambda cache: [found and run_ids(found) for found in cache.get_sessions(["s", "none"])],
    "get_run": lambda cache: cache.get_run("s", "r0").run_id,
    "get_runs": lambda cache: len(cache.get_runs("s")),
    "iter_runs": lambda cache: len(list(cache.iter_runs("s"))),
    "get_chat_history": lambda cache: len(cache.get_chat_history("s")),
    "refresh": lambda cache: cache.refresh(cache.get_session("s")),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(unix=False) as server:
        yield server


@pytest.fixture(params=["no replicas", "read only"])
def refusing(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Callable[[], object]]:
    """Make the server refuse writes, in one of the ways that last."""
    admin = server.client()
    if request.param == "no replicas":
        yield lambda: admin.config_set("min-replicas-to-write", 1)
        admin.config_set("min-replicas-to-write", 0)
    else:
        yield lambda: admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        admin.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("knows_scripts", [True, False], ids=["", "scripts unknown"])
def test_what_is_stored_is_read_and_the_touch_is_left_out(
    server: RedisServer,
    refusing: Callable[[], object],
    connect: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    knows_scripts: bool,
) -> None:
    cache = connect(server.url, timeout=5, ttl=60, touch_on_read=True)
    cache.upsert_session(session(runs=1))
    expected = {name: read(cache) for name, read in READS.items()}
    if not knows_scripts:
        server.client().script_flush()
    refusing()

    assert {name: read(cache) for name, read in READS.items()} == expected
    assert 1 <= caplog.text.count("was read") < len(READS)
    assert "retrying" not in caplog.text
