"""Every call on a session of which one thing is damaged, and what it may return, raise and write.

Its own errors only; the server goes on; nothing is written to a session that counts as absent. The table of
damages is in `stored.py`, that of calls in `calls.py`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis

from damage import stored as table
from damage.calls import CALLS, DECODING, LISTINGS, OF_OWNERS, READS, REPLACING, WRITES
from damage.stored import TABLE, Damage, Move, Stored
from sessioncache import (
    DamagedSessionError,
    InvalidArgumentError,
    ReplyMismatchError,
    SessionCache,
    SessionCacheError,
    SessionNotFoundError,
    SessionOwnershipError,
    SessionVersionError,
    UnavailableError,
)
from support.samples import a_run, a_session
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from support.subjects import Caches, Subject

BUSY_AFTER_MS = 100
"""A script that runs for so long makes the server answer BUSY to everybody else."""


def allowed(call: str, damage: Damage) -> Collection[Any]:
    """Return the values and classes of errors that may come of a call."""
    meant, (_, whole, absent) = damage.meant, CALLS[call]
    if damage.fields.get("user_id") is not None and call in OF_OWNERS:
        return [SessionOwnershipError]
    if call in LISTINGS and meant not in {table.WHOLE, table.ANY}:
        return [absent, whole, *([ReplyMismatchError] if meant == table.FOREIGN else ())]
    decoded = DamagedSessionError if call in DECODING else whole
    return {
        table.WHOLE: [whole],
        table.ABSENT: [absent],
        table.FOREIGN: [absent, ReplyMismatchError],
        table.VERSION: [SessionVersionError],
        table.UNREADABLE: [decoded],
        table.UNSURE: [decoded, whole],
        table.FAILING: [DamagedSessionError],
        table.RIGHT: [object] if call in WRITES else [whole, absent, SessionCacheError],
        table.ANY: [object],
    }[meant]


@dataclass
class Findings:
    """What was wrong with the calls that were made."""

    stored: Stored
    end_script: Callable[[], None]
    found: list[str] = field(default_factory=list)

    def ask_all(self, damage: Damage) -> None:
        """Make every call; note what came of it if it is not allowed, or if it wrote where it must not."""
        self.stored.damage(damage)
        left_alone = damage.meant in table.LEFT_ALONE or not self.stored.has_all_members()
        before = self.stored.bytes()
        for call in CALLS:
            outcome = self._outcome(call)
            wrote = not self.stored.is_as_it_was(before) if left_alone else call not in READS
            if not _is_one_of(outcome, allowed(call, damage)):
                self.found.append(f"{damage.name} ({damage.meant}): {call}: {outcome!r}")
            if damage.meant != table.FAILING and getattr(outcome, "session_id", "s") != "s":
                self.found.append(f"{damage.name} ({damage.meant}): {call}: does not name the session")
            if left_alone and wrote and call not in REPLACING:
                self.found.append(f"{damage.name} ({damage.meant}): {call}: wrote to it")
            if wrote or call in LISTINGS or isinstance(outcome, UnavailableError):
                self.stored.store()
                before = self.stored.bytes()

    def _outcome(self, call: str) -> Any:
        try:
            return CALLS[call].ask(self.stored)
        except UnavailableError as error:
            self.end_script()
            return error
        except Exception as error:  # noqa: BLE001 - a builtin error is a finding
            return error


def _is_one_of(outcome: Any, allowed: Collection[Any]) -> bool:
    """Tell whether a value or an error is allowed; the arguments were right, and the server is there."""
    if isinstance(outcome, InvalidArgumentError | UnavailableError):
        return False
    if isinstance(outcome, Exception) and not isinstance(outcome, SessionCacheError):
        return False
    return any(isinstance(outcome, one) if isinstance(one, type) else outcome == one for one in allowed)


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


def test_every_public_call_is_in_the_table() -> None:
    public = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    assert {call.partition(",")[0] for call in CALLS} == public - {
        "aclose",
        "close",
        "for_user",
        "from_url",
        "get_ttls",  # it asks for the lifetime alone
        "near_cache_info",
        "ping",
        "rotate_keys",
        "stats",  # like verify, it reports what is there
        "verify",
    }


@pytest.mark.parametrize("what", TABLE)
def test_calls_on_damage(stored: Stored, findings: Findings, what: str) -> None:
    for damage in TABLE[what](stored):
        findings.ask_all(damage)

    assert not findings.found, "\n".join(findings.found)


def _absent(stored: Stored) -> Iterator[Damage]:
    """Damage the session in each way that makes it count as absent."""
    for damages in TABLE.values():
        for damage in damages(stored):
            if damage.meant == table.ABSENT:
                stored.damage(damage)
                yield damage


def test_damage_is_replaced(stored: Stored) -> None:
    for damage in _absent(stored):
        fresh = a_session("s", 1, metadata={"fresh": True})
        stored.cache.upsert_session(fresh)

        assert stored.cache.get_session("s") == fresh, damage.name
        assert stored.cache.get_run("s", "r1") is None, damage.name


def test_damage_is_deleted(stored: Stored) -> None:
    for damage in _absent(stored):
        stored.cache.delete_session("s")

        assert stored.is_gone(), damage.name


def test_damage_is_logged(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    for damage in _absent(stored):
        caplog.clear()
        stored.cache.get_session("s")

        assert "'s' is damaged" in caplog.text, damage.name


def test_a_run_in_two_places_is_not_written(stored: Stored) -> None:
    for kind, wrong in (("h", 2.0**51), ("b", -1.0)):
        member, _ = stored.newest(kind)
        stored.damage(Damage(kind, table.ANY, moves=[Move(member, member, wrong)]))
        before = stored.bytes()

        with pytest.raises(SessionNotFoundError):
            stored.cache.upsert_run("s", a_run("r2", 3, content="changed"))
        assert stored.cache.delete_run("s", "r2") is False

        assert stored.is_as_it_was(before)
