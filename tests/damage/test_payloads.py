"""Payloads cut, flipped or mixed up, and clocks that are wrong: errors of ours, and never a wrong answer."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.reaching import a_run, run_ids, session
from sessioncache import (
    SessionCacheError,
    WorkflowSession,
)

if TYPE_CHECKING:
    import redis

    from support.subjects import Caches

RUNS = 3


class Stored:
    """Session `s` with its runs and some metadata, and the keys that hold it."""

    def __init__(self, cache: Any, admin: redis.Redis, prefix: str) -> None:
        self.cache, self.admin = cache, admin
        self.meta, self.runs = f"{prefix}:{{s}}:meta", f"{prefix}:{{s}}:runs"
        cache.delete_session("s")
        cache.upsert_session(_whole())

    def members(self, kind: str) -> list[tuple[bytes, float]]:
        """Return the members of a kind (h, i or b) with their scores, oldest run first."""
        found = self.admin.zrange(self.runs, 0, -1, withscores=True)
        return sorted((pair for pair in found if pair[0][:1] == kind.encode()), key=lambda pair: abs(pair[1]))

    def replace(self, kind: str, new: bytes) -> None:
        """Put other bytes in the place of the newest run's member of a kind."""
        member, score = self.members(kind)[-1]
        self.admin.zrem(self.runs, member)
        self.admin.zadd(self.runs, {new: score})


def _whole() -> WorkflowSession:
    return session(runs=RUNS, user_id="u", session_data={"name": "n", "list": [1, 2]}, metadata={"m": 1})


@pytest.fixture
def stored(cache: Any, admin: redis.Redis, caches: Caches) -> Stored:
    return Stored(cache, admin, caches.prefix)


def _contents(runs: list[Any]) -> list[Any]:
    return [(run.run_id, run.input, run.content) for run in runs]


WHOLE = [(f"r{number}", f"in r{number}", f"out r{number}") for number in range(RUNS)]


def test_a_run_of_another_session_among_the_members_makes_no_answer_wrong(stored: Stored, cache: Any) -> None:
    """Even one that is whole: whoever restores a backup may mix them up."""
    cache.upsert_session(session("other", runs=1))
    other = stored.runs.replace("{s}", "{other}")
    for member, score in stored.admin.zrange(other, 0, -1, withscores=True):
        stored.admin.zadd(stored.runs, {member + b"x" if member[:1] == b"i" else member: score + 2.0**30})

    assert stored.cache.get_session("s") is None


# payloads


@given(data=st.data())
def test_a_payload_cut_or_flipped_is_an_error_of_ours_or_decodes(stored: Stored, data: st.DataObject) -> None:
    """Which bits were flipped is beyond us to know where they decode; a run of another id is noticed."""
    Stored(stored.cache, stored.admin, stored.meta.split(":")[0])
    kind = data.draw(st.sampled_from("hb"))
    member, _ = stored.members(kind)[-1]
    at = data.draw(st.integers(1, len(member) - 1))
    cut = data.draw(st.booleans())
    flipped = bytes([member[at] ^ (1 << data.draw(st.integers(0, 7)))])
    stored.replace(kind, member[:at] if cut else member[:at] + flipped + member[at + 1 :])

    session = None
    with contextlib.suppress(SessionCacheError):
        session = stored.cache.get_session("s")  # absent, where what was flipped is another run's body now
    for run in session.runs if session else ():
        with contextlib.suppress(SessionCacheError):
            run.to_dict()
    if session:
        assert _contents(session.runs[:2]) == WHOLE[:2]


# clocks


@pytest.mark.parametrize("clock", [-5.0, 0.0, 1e9, 4e9, 2.0**34])
def test_a_workers_clock_may_be_wrong(
    stored: Stored, caches: Caches, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    """It gives only the time at which a run was made; all else is the server's clock, or a steady one."""
    if caches.subject.real is None:
        pytest.skip("an embedded server's clock is the worker's")
    before = stored.cache.get_session("s")
    monkeypatch.setattr(time, "time", lambda: clock)

    with contextlib.suppress(SessionCacheError):
        stored.cache.upsert_run("s", a_run("r9", created_at=int(clock)))
    after = stored.cache.get_session("s")
    assert after.updated_at - before.updated_at in range(60)
    assert set(run_ids(after)) >= {"r0", "r1", "r2"}
    assert stored.admin.zcard(stored.runs) == 3 * len(after.runs)
    assert stored.admin.ttl(stored.meta) > 3500


def test_a_clock_that_jumps_back_does_not_change_the_order_of_the_runs(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are placed by their creation time; a run that is written again keeps its place."""
    monkeypatch.setattr(time, "time", lambda: 1.0)

    stored.cache.upsert_run("s", a_run("r0", created_at=1_000_000, content="new"))
    assert run_ids(stored.cache.get_session("s")) == ["r0", "r1", "r2"]
    assert stored.cache.get_run("s", "r0").content == "new"
