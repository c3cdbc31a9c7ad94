"""A session that is damaged, and all calls on it: their own errors only, and nothing written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from damage.calls import Stored
from damage.findings import Findings
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.subjects import Caches, Subject

BUSY_AFTER_MS = 100
"""A script that runs for so long makes the server answer BUSY to everybody else."""


@pytest.fixture
def stored(caches: Caches, server: Subject, admin: redis.Redis) -> Iterator[Stored]:
    """The session, on a server that soon says so if one of our scripts does not end."""
    if caches.kind == "async" and server.name != "redis":
        pytest.skip("the clients share what reads and writes: both on one server, one on the others")
    stored = Stored(caches, admin)
    if server.real is None:
        yield stored
        return
    usual = admin.config_get("lua-time-limit")
    admin.config_set("lua-time-limit", BUSY_AFTER_MS)
    yield stored
    admin.config_set("lua-time-limit", usual["lua-time-limit"])


@pytest.fixture
def findings(stored: Stored, server: Subject, admin: redis.Redis) -> Findings:
    """What makes the calls, and stops a script that does not end."""

    def end_script() -> None:
        try:
            admin.script_kill()
        except redis.ResponseError as error:
            if "UNKILLABLE" in str(error) and server.real:
                server.real.restart()
        wait_for(admin.ping, "the script's end")

    return Findings(stored, end_script)
