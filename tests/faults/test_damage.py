"""Keys that something else wrote, cut, mixed up or removed; `tests/test_damage.py` damages single fields.

They are an error of ours or a session that is absent, and never a wrong answer.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.reaching import a_run, run_ids, session
from sessioncache import (
    DamagedRunError,
    DamagedSessionError,
    SessionCacheError,
    SessionNotFoundError,
    WorkflowSession,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _contents_of(session: WorkflowSession | None) -> list[Any] | None:
    return None if session is None else _contents(session.runs)


def _content(run: Any) -> str | None:
    return None if run is None else run.content


WHOLE = [(f"r{number}", f"in r{number}", f"out r{number}") for number in range(RUNS)]

READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "session": (lambda cache: _contents_of(cache.get_session("s")), WHOLE),
    "newest": (lambda cache: _contents_of(cache.get_session("s", last_n_runs=1)), WHOLE[-1:]),
    "two": (lambda cache: _contents_of(cache.get_session("s", last_n_runs=2)), WHOLE[-2:]),
    "runs": (lambda cache: _contents(cache.get_runs("s")), WHOLE),
    "run": (lambda cache: _content(cache.get_run("s", "r2")), "out r2"),
    "history": (lambda cache: cache.get_workflow_history("s"), [(i, o) for _, i, o in WHOLE]),
    "newest history": (lambda cache: cache.get_workflow_history("s", 1), [WHOLE[-1][1:]]),
    "chat": (
        lambda cache: [chat.output for chat in cache.get_chat_history("s", 2)],
        ["out r1", "out r2"],
    ),
}
"""Reads, each with what it returns if nothing is damaged."""


def _no_read_is_wrong(cache: Any) -> None:
    """Every read is right, returns None for "there is none", or raises that it is absent or damaged."""
    for name, (read, right) in READS.items():
        with contextlib.suppress(SessionNotFoundError, DamagedSessionError, DamagedRunError):
            assert read(cache) in (right, None), name


def test_what_these_tests_read_is_right_where_nothing_is_damaged(stored: Stored) -> None:
    assert {name: read(stored.cache) for name, (read, _) in READS.items()} == {
        name: right for name, (_, right) in READS.items()
    }


# one of the two keys is missing


@pytest.mark.parametrize("key", ["meta", "runs"])
def test_a_session_that_lost_one_of_its_keys_is_absent(stored: Stored, key: str) -> None:
    stored.admin.delete(getattr(stored, key))

    assert stored.cache.get_session("s") is None
    assert stored.cache.get_session("s", last_n_runs=1) is None
    assert stored.cache.get_session("s", last_n_runs=0) is None
    assert stored.cache.get_run("s", "r0") is None
    for read in (stored.cache.get_runs, stored.cache.get_workflow_history, stored.cache.get_chat_history):
        with pytest.raises(SessionNotFoundError):
            read("s")


@pytest.mark.parametrize("key", ["meta", "runs"])
def test_a_damaged_session_takes_no_run_and_can_be_made_anew(stored: Stored, key: str) -> None:
    loaded = stored.cache.get_session("s")
    stored.admin.delete(getattr(stored, key))
    with pytest.raises(SessionNotFoundError):
        stored.cache.upsert_run("s", a_run("r9"))
    with pytest.raises(SessionNotFoundError):
        stored.cache.upsert_session(loaded)

    stored.cache.upsert_session(session(runs=1))
    assert run_ids(stored.cache.get_session("s")) == ["r0"]


@pytest.mark.parametrize("key", ["meta", "runs"])
def test_a_damaged_session_can_be_deleted(stored: Stored, key: str) -> None:
    stored.admin.delete(getattr(stored, key))

    stored.cache.delete_session("s")
    assert not stored.admin.exists(stored.meta, stored.runs)


@pytest.mark.parametrize("kind", ["h", "i", "b"])
def test_a_run_that_lost_a_member_makes_no_answer_wrong(stored: Stored, kind: str) -> None:
    member, _ = stored.members(kind)[-1]
    stored.admin.zrem(stored.runs, member)

    _no_read_is_wrong(stored.cache)
    assert kind == "i" or stored.cache.get_session("s") is None


def test_a_count_that_is_not_the_runs_own_is_a_damaged_session(stored: Stored) -> None:
    stored.admin.hincrby(stored.meta, "count", 1)

    assert stored.cache.get_session("s") is None
    with pytest.raises(SessionNotFoundError):
        stored.cache.upsert_run("s", a_run("r9"))


# foreign members

FOREIGN_SCORES = [float("inf"), float("-inf"), 0.0, 0.5, 2.0**40, -(2.0**40), 1.0]


@pytest.mark.parametrize("score", FOREIGN_SCORES)
@pytest.mark.parametrize(
    "member", [b"foreign", b"", b"h", b"h:", b"i", b"b", b"ir9", b"h:\x01\x80", b"b\x01\xc0"]
)
def test_a_foreign_member_makes_no_answer_wrong(stored: Stored, member: bytes, score: float) -> None:
    stored.admin.zadd(stored.runs, {member: score})

    _no_read_is_wrong(stored.cache)
    with pytest.raises(SessionNotFoundError):
        stored.cache.upsert_run("s", a_run("r9"))


def test_a_run_of_another_session_among_the_members_makes_no_answer_wrong(stored: Stored, cache: Any) -> None:
    """Even one that is whole: whoever restores a backup may mix them up."""
    cache.upsert_session(session("other", runs=1))
    other = stored.runs.replace("{s}", "{other}")
    for member, score in stored.admin.zrange(other, 0, -1, withscores=True):
        stored.admin.zadd(stored.runs, {member + b"x" if member[:1] == b"i" else member: score + 2.0**30})

    assert stored.cache.get_session("s") is None


# payloads


@pytest.mark.parametrize("packed", [b"\x02\x81\xa6run_id\xa2r2", b"\x00", b"", b"\xff" * 100])
def test_a_run_of_an_unknown_format_is_named_and_the_others_stay_readable(
    stored: Stored, packed: bytes
) -> None:
    stored.replace("b", b"b" + packed)
    stored.replace("h", b"h:" + packed)

    runs = stored.cache.get_session("s").runs
    assert _contents(runs[:2]) == WHOLE[:2]
    with pytest.raises(DamagedRunError):
        _ = runs[2].content


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


# indexes


def test_an_index_of_another_type_is_no_reason_to_refuse_a_write(stored: Stored) -> None:
    """It is only a hint; and a call that raises has stored nothing."""
    index = stored.meta.split(":")[0] + ":index:all"
    stored.admin.delete(index)
    stored.admin.set(index, "foreign", ex=60)

    stored.cache.upsert_run("s", a_run("r9", created_at=9))
    assert run_ids(stored.cache.get_session("s")) == ["r0", "r1", "r2", "r9"]
