"""Leases: one holder at a time, and nothing of a holder who was one is stored."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from leasing import RUNS, TTL
from sessioncache import (
    InvalidArgumentError,
    LeaseHeldError,
    LeaseLostError,
    OutcomeUnknownError,
    SessionCache,
    SessionNotFoundError,
)
from support.interleaving import watched
from support.samples import a_run, a_session, ids
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer

_NUMBERS = itertools.count()

WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "upsert_run": lambda cache, lease: cache.upsert_run("s", a_run("r9"), lease=lease),
    "upsert_runs": lambda cache, lease: cache.upsert_runs("s", [a_run("r8"), a_run("r9")], lease=lease),
    "upsert_session": lambda cache, lease: cache.upsert_session(a_session("s", user_id="u"), lease=lease),
    "update_session_state": lambda cache, lease: cache.update_session_state("s", {"k": 1}, lease=lease),
    "lease.upsert_run": lambda _, lease: lease.upsert_run(a_run("r9")),
    "lease.upsert_runs": lambda _, lease: lease.upsert_runs([a_run("r9")]),
    "lease.upsert_session": lambda _, lease: lease.upsert_session(a_session("s", user_id="u")),
    "lease.update_session_state": lambda _, lease: lease.update_session_state({"k": 1}),
    "lease.extend": lambda _, lease: lease.extend(),
}


@pytest.fixture
def stored(cache: Any) -> Any:
    """A cache with session `s`."""
    cache.upsert_session(a_session("s", runs=2, user_id="u"))
    return cache


def expire(lease: Any, cache: Any) -> None:
    lease.extend(0.001)
    wait_for(lambda: _is_free(cache), "the lease to expire")


def _is_free(cache: Any) -> bool:
    try:
        with cache.lease("s"):
            return True
    except LeaseHeldError:
        return False


def delete(_: Any, cache: Any) -> None:
    cache.delete_session("s")


def delete_and_make_anew(_: Any, cache: Any) -> None:
    cache.delete_session("s")
    cache.upsert_session(a_session("s", user_id="u"))


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "expired": expire,
    "deleted": delete,
    "made anew": delete_and_make_anew,
    "released": lambda lease, _: lease.release(),
}


@pytest.mark.parametrize("write", WRITES)
def test_who_holds_the_lease_writes(stored: Any, write: str) -> None:
    with stored.lease("s") as lease:
        WRITES[write](stored, lease)
        WRITES[write](stored, lease)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("write", WRITES)
def test_who_has_lost_it_stores_nothing(stored: Any, write: str, loss: str) -> None:
    with stored.lease("s") as lease:
        LOSSES[loss](lease, stored)
        before = stored.get_session("s")
        with pytest.raises(LeaseLostError) as caught:
            WRITES[write](stored, lease)

    assert caught.value.session_id == "s"
    after = stored.get_session("s")
    assert (before and before.to_dict()) == (after and after.to_dict())


def test_two_do_not_hold_it_at_once(stored: Any) -> None:
    with stored.lease("s") as first:
        with pytest.raises(LeaseHeldError), stored.lease("s"):
            pass
        first.upsert_run(a_run("r2"))
    with stored.lease("s") as second:
        assert second.number > first_number_of(second)


def first_number_of(lease: Any) -> int:
    """A number of before: the clock's microseconds of an hour ago."""
    return int((time.time() - 3600) * 1e6)


def test_numbers_grow_over_deletions_too(stored: Any) -> None:
    numbers = []
    for turn in range(5):
        with stored.lease("s") as lease:
            numbers.append(lease.number)
        if turn == 2:
            delete_and_make_anew(None, stored)

    assert numbers == sorted(set(numbers))


def test_a_write_extends_it_and_neither_taking_nor_extending_is_a_write(stored: Any) -> None:
    rev = stored.get_session("s").rev
    with stored.lease("s", ttl=0.25) as lease:
        lease.extend()
        assert stored.get_session("s").rev == rev
        for number in range(8):
            time.sleep(0.05)
            lease.upsert_run(a_run(f"new{number}"))
    assert stored.get_session("s").rev > rev


def test_taking_extending_and_releasing_are_a_round_trip_each(stored: Any) -> None:
    with stored.lease("s"):
        pass
    with watched(stored) as trips:
        with stored.lease("s") as lease:
            lease.extend()
            lease.upsert_run(a_run("r"))
            lease.upsert_run(a_run("r"))
        assert len(trips) >= 5


def test_who_waits_gets_it_when_it_ends(stored: Any) -> None:
    with stored.lease("s", ttl=0.1) as lost, stored.lease("s", ttl=5, wait=5) as lease:
        lease.upsert_run(a_run("r"))
        with pytest.raises(LeaseLostError):
            lost.upsert_run(a_run("late"))
    assert "late" not in ids(stored.get_runs("s"))


def test_waiting_is_bounded(stored: Any) -> None:
    with stored.lease("s"):
        started = time.monotonic()
        with pytest.raises(LeaseHeldError), stored.lease("s", wait=0.2):
            pass
        assert 0.2 <= time.monotonic() - started < 2


def test_a_session_that_is_not_there_has_none(stored: Any) -> None:
    with pytest.raises(SessionNotFoundError), stored.lease("none"):
        pass
    with pytest.raises(SessionNotFoundError), stored.lease("s", user_id="other"):
        pass
    with stored.for_user("u").lease("s") as lease:
        lease.upsert_run(a_run("r"))


def test_a_lease_of_another_session_is_a_wrong_argument(stored: Any) -> None:
    stored.upsert_session(a_session("t"))
    with stored.lease("t") as lease, pytest.raises(InvalidArgumentError, match="another session"):
        stored.upsert_run("s", a_run("r"), lease=lease)


@pytest.mark.parametrize(
    "wrong", [{"ttl": 0}, {"ttl": None}, {"ttl": "x"}, {"ttl": float("nan")}, {"wait": -1}]
)
def test_wrong_arguments_are_named(stored: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        stored.lease("s", **wrong)


def test_before_it_is_taken_it_is_none(stored: Any) -> None:
    lease = stored.lease("s")

    with pytest.raises(LeaseLostError):
        lease.upsert_run(a_run("r"))


def test_what_happens_in_the_block_is_raised_and_the_lease_is_free(stored: Any) -> None:
    with pytest.raises(ZeroDivisionError), stored.lease("s"):
        raise ZeroDivisionError
    assert _is_free(stored)


def test_a_reply_that_is_lost_leaves_no_lease_of_nobody(redis_server: RedisServer) -> None:
    from sessioncache.testing import Faults  # noqa: PLC0415

    with SessionCache.from_url(redis_server.url, prefix="lost") as cache:
        cache.upsert_session(a_session("s"))
        with cache.lease("s"):
            pass
        with Faults(lambda: cache).lost_reply(), cache.lease("s") as lease:
            with pytest.raises(OutcomeUnknownError), Faults(lambda: cache).lost_reply():
                lease.upsert_run(a_run("r"))
            lease.upsert_run(a_run("r"))
        cache.delete_session("s")


@pytest.mark.faults
def test_no_two_holders_writes_interleave_whatever_is_stopped(redis_server: RedisServer) -> None:
    """Eight processes; now and then the holder is stopped for longer than its lease lasts."""
    redis_server.client().flushall()
    with SessionCache.from_url(redis_server.url) as cache:
        cache.upsert_session(a_session("s"))
        command = [sys.executable, "-m", "leasing", redis_server.url, "8"]
        path = ":".join(["tests", *sys.path])
        workers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path})
            for _ in range(8)
        ]
        ends = time.monotonic() + 6
        stops = 0
        while time.monotonic() < ends:
            victim = random.choice(workers)
            victim.send_signal(signal.SIGSTOP)
            time.sleep(TTL * 1.5)
            victim.send_signal(signal.SIGCONT)
            stops += 1
        outputs = [worker.communicate(timeout=30)[0] for worker in workers]
        stored = [tuple(map(int, run_id.split("-"))) for run_id in ids(cache.get_runs("s"))]

    assert all(worker.returncode == 0 for worker in workers)
    assert stops >= 5
    assert len(stored) > 50
    assert stored == sorted(stored)
    held: dict[int, list[int]] = {}
    for lease, number in stored:
        held.setdefault(lease, []).append(number)
    assert all(numbers == list(range(len(numbers))) for numbers in held.values())
    assert sum(len(numbers) == RUNS for numbers in held.values()) > 10
    assert sum("refused" in output for output in outputs) == 8


class LeaseMachine(RuleBasedStateMachine):
    """Holders that take, extend, lose and release leases in any order, and write under all they had."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = SessionCache.from_url(f"memory://leases-{next(_NUMBERS)}")
        self.cache.upsert_session(a_session("s"))
        self.leases: list[Any] = []
        self.holder: Any = None
        self.written: list[tuple[int, str]] = []

    @rule()
    def take(self) -> None:
        lease = self.cache.lease("s", ttl=60)
        if self.holder is not None:
            with pytest.raises(LeaseHeldError):
                lease.__enter__()
            return
        lease.__enter__()
        assert all(lease.number > other for other, _ in self.written)
        self.holder = lease
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        run_id = f"r{len(self.written)}"
        if lease is not self.holder:
            with pytest.raises(LeaseLostError):
                lease.upsert_run(a_run("late"))
            return
        lease.upsert_run(a_run(run_id))
        self.written.append((lease.number, run_id))

    @precondition(lambda self: self.holder)
    @rule()
    def release(self) -> None:
        self.holder.release()
        self.holder = None

    @precondition(lambda self: self.holder)
    @rule()
    def expire(self) -> None:
        self.holder.extend(0.001)
        time.sleep(0.003)
        self.holder = None

    @precondition(lambda self: self.leases)
    @rule()
    def delete(self) -> None:
        self.cache.delete_session("s")
        self.cache.upsert_session(a_session("s"))
        self.written, self.holder = [], None

    @invariant()
    def what_is_stored_is_what_holders_wrote_in_their_order(self) -> None:
        assert ids(self.cache.get_runs("s")) == [run_id for _, run_id in self.written]
        assert [number for number, _ in self.written] == sorted(number for number, _ in self.written)

    def teardown(self) -> None:
        self.cache.close()


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(stateful_step_count=30)
