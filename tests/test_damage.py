"""Every call on a session of which one thing is damaged, and what it may return, raise and write.

Its own errors only; the server goes on; nothing is written to a session that counts as absent. `meaning` says
what each damage is.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import redis

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
from sessioncache.storage import codec, keys
from sessioncache.validation import MAX_ID_BYTES
from support.samples import a_message, a_run, a_run_of, a_session
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from support.subjects import Caches, Subject

BUSY_AFTER_MS = 100
"""A script that runs for so long makes the server answer BUSY to everybody else."""

TIMEOUT = 2.0
"""Seconds of one call: only one that hangs takes so long."""

RUNS = [("r0", "out r0"), ("r1", "out r1"), ("r2", "out r2")]

Move = tuple[bytes, bytes, float]
"""A member, and what takes its place (nothing, if empty) at which score."""


class Stored:
    """Session `s`, which is damaged and made whole again, and session `other`, which stays whole."""

    def __init__(self, caches: Caches, admin: redis.Redis) -> None:
        self.cache = caches.make(timeout=TIMEOUT)
        self.touching = caches.make(timeout=TIMEOUT, touch_on_read=True)
        self._admin, self._index = admin, keys.index_of_all(caches.prefix)
        self._meta, self._runs = keys.session_keys(caches.prefix, "s")
        for session_id in ("s", "other"):
            self.cache.upsert_session(_session(session_id))
        self._loaded = self.cache.get_session("s")
        self.cache.update_session_state("s", {"changed": "since"})
        self._fields, self._members, *_ = self.bytes()

    def loaded(self) -> Any:
        """Return the session as it was loaded, before its last change."""
        return copy.deepcopy(self._loaded)

    def bytes(self) -> list[Any]:
        """Return both keys, and how long each lives."""
        with self._admin.pipeline() as pipeline:
            pipeline.hgetall(self._meta).zrange(self._runs, 0, -1, withscores=True)
            return pipeline.pttl(self._meta).pttl(self._runs).execute()

    def is_as_it_was(self, before: list[Any]) -> bool:
        """Tell whether nothing was written since, lifetimes included."""
        *was, meta_had, runs_had = before
        *now, meta_left, runs_left = self.bytes()
        return now == was and meta_left <= meta_had and runs_left <= runs_had

    def damage(self, name: str = "", value: bytes | None = None, moves: Iterable[Move] = ()) -> None:
        """Store the session with one field changed (None removes it) or some members replaced."""
        self._damaged_fields = {
            kept: packed for kept, packed in self._fields.items() if kept != name.encode()
        }
        if value is not None:
            self._damaged_fields[name.encode()] = value
        self._damaged_members = dict(self._members)
        for old, new, score in moves:
            self._damaged_members.pop(old, None)
            self._damaged_members |= {new: score} if new else {}
        self.store()

    def store(self) -> None:
        """Store the session, damaged as it is, and list it: whatever was made of it meanwhile."""
        with self._admin.pipeline() as pipeline:
            pipeline.delete(self._meta, self._runs)
            pipeline.hset(self._meta, mapping=self._damaged_fields).zadd(self._runs, self._damaged_members)
            pipeline.pexpire(self._meta, 1_000_000).pexpire(self._runs, 1_000_000)
            pipeline.zadd(self._index, {"s": 1, "other": 1}).execute()

    def has_all_members(self) -> bool:
        """Tell whether there are a head, an id and a body for each run, by their number."""
        scores = self._damaged_members.values()
        heads, bodies = sum(score >= 1 for score in scores), sum(score <= -1 for score in scores)
        return (len(scores), heads, bodies) == (3 * len(RUNS), len(RUNS), len(RUNS))

    def newest(self, kind: str) -> tuple[bytes, float]:
        """Return the newest run's member of a kind, h, i or b, and its score."""
        found: list[tuple[bytes, float]] = [pair for pair in self._members if pair[0][:1] == kind.encode()]
        return max(found, key=lambda pair: abs(pair[1]))


def _session(session_id: str) -> Any:
    runs = [a_run("r0", 1), a_run("r1", 2), a_run_of("r2", a_message("m"), at=3)]
    return a_session(
        session_id,
        runs,
        user_id="u",
        workflow_id="w",
        workflow_name="name",
        session_data={"list": [1]},
        metadata={"m": 1},
    )


# the calls


class Call(NamedTuple):
    """A public call, and what it returns or raises of a session that is whole, and of one that is absent."""

    ask: Callable[[Stored], Any]
    whole: Any
    absent: Any = SessionNotFoundError


def _contents(runs: Iterable[Any]) -> list[Any]:
    return [(run.run_id, run.content) for run in runs]


def _runs_of(session: Any) -> Any:
    return None if session is None else _contents(session.runs)


def _content(run: Any) -> Any:
    return None if run is None else run.content


OUTPUTS = [output for _, output in RUNS]

SESSION_READS: Final = {
    "get_session": Call(lambda s: _runs_of(s.cache.get_session("s")), RUNS, None),
    "get_session, newest": Call(lambda s: _runs_of(s.cache.get_session("s", last_n_runs=1)), RUNS[-1:], None),
    "get_session, no run": Call(lambda s: _runs_of(s.cache.get_session("s", last_n_runs=0)), [], None),
    "get_session, touching": Call(lambda s: _runs_of(s.touching.get_session("s")), RUNS, None),
    "get_sessions": Call(
        lambda s: [*map(_runs_of, s.cache.get_sessions(["s", "other"]))], [RUNS, RUNS], [None, RUNS]
    ),
}
RUN_READS: Final = {
    "get_run": Call(lambda s: _content(s.cache.get_run("s", "r2")), "out r2", None),
    "get_run, touching": Call(lambda s: _content(s.touching.get_run("s", "r0")), "out r0", None),
    "get_runs": Call(lambda s: _contents(s.cache.get_runs("s")), RUNS),
    "get_runs, by status": Call(lambda s: _contents(s.cache.get_runs("s", statuses=["COMPLETED"])), RUNS),
    "iter_runs": Call(lambda s: _contents(s.cache.iter_runs("s", page_size=2)), RUNS),
    "get_chat_history": Call(lambda s: [chat.output for chat in s.cache.get_chat_history("s")], OUTPUTS),
    "get_workflow_history": Call(lambda s: [out for _, out in s.cache.get_workflow_history("s")], OUTPUTS),
    "get_workflow_history_context": Call(
        lambda s: s.cache.get_workflow_history_context("s").count("out r"), 3
    ),
    "get_messages": Call(lambda s: [message.id for message in s.cache.get_messages("s", "A")], ["m"]),
}
LISTINGS: Final = {
    "list_sessions": Call(
        lambda s: sorted(one.session_id for one in s.cache.list_sessions().sessions),
        ["other", "s"],
        ["other"],
    ),
    "rebuild_indexes": Call(lambda s: s.cache.rebuild_indexes(), 2, 1),
}
WRITES: Final = {
    "upsert_session, loaded": Call(lambda s: s.cache.upsert_session(s.loaded()), None),
    "upsert_session, new": Call(lambda s: s.cache.upsert_session(a_session("s", 1, user_id="u")), None, None),
    "rename_session": Call(lambda s: s.cache.rename_session("s", "new"), True, False),
    "touch_session": Call(lambda s: s.cache.touch_session("s"), True, False),
    "update_session": Call(
        lambda s: _runs_of(s.cache.update_session("s", lambda one: one.metadata.update(m=2))), RUNS
    ),
    "update_session_state": Call(lambda s: s.cache.update_session_state("s", {"k": 1}, remove=["x"]), None),
    "refresh": Call(lambda s: s.cache.refresh(s.loaded()), True),
    "upsert_run, stored": Call(lambda s: s.cache.upsert_run("s", a_run("r0", content="changed")), None),
    "upsert_run, new": Call(lambda s: s.cache.upsert_run("s", a_run("r9")), None),
    "upsert_runs": Call(lambda s: s.cache.upsert_runs("s", [a_run("r1"), a_run("r9", 9)]), None),
    "delete_run": Call(lambda s: s.cache.delete_run("s", "r1"), True, False),
    "delete_session": Call(lambda s: s.cache.delete_session("s"), True, False),
    "delete_session, another's": Call(lambda s: s.cache.delete_session("s", user_id="v"), False, False),
}
READS: Final = SESSION_READS | RUN_READS
CALLS: Final = READS | LISTINGS | WRITES

DECODING: Final = {*SESSION_READS, "update_session", "refresh"}
"""Calls that read every field."""

REPLACING: Final = {"upsert_session, new", "delete_session"}
"""Calls that remove what is left of a damaged session."""

OF_OWNERS: Final = {"upsert_session, loaded", "upsert_session, new"}
"""Calls that are refused if the session is another user's."""


def test_every_public_call_is_in_the_table() -> None:
    public = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    assert {call.partition(",")[0] for call in CALLS} == public - {"aclose", "close", "from_url", "ping"}


# the damage

VALUES: Final[dict[str, bytes | None]] = {
    "missing": None,
    "empty": b"",
    "nan": b"nan",
    "inf": b"inf",
    "hexadecimal": b"0x10",
    "exponent": b"1e3",
    "negative": b"-1",
    "17 digits": b"1" * 17,
    "2**53": b"%d" % 2**53,
    "over 2**53": b"%d" % (2**53 + 1),
    "no UTF-8": b"\xff\xfe",
    "text": b"x",
    "huge": b"9" * 5000,
    "another format": b"\x02\x00",
    "cut short": b"\x01\xdc\xff\xff",
}

COUNTERS: Final = {"rev", "born", "count", "seq", "updated_at"}
OWNERS: Final = {"user_id", "workflow_id"}
TEXTS: Final = {*OWNERS, "workflow_name", "created_at"}
PACKED: Final = {"session_data", "metadata.m"}  # the marker of a section, and one key of another
FIELDS: Final = sorted({*COUNTERS, *TEXTS, *PACKED, "session_id", "schema"})

WHOLE: Final = "another value, and a good one"
ABSENT: Final = "damaged: counts as absent"
FOREIGN: Final = "damaged, or the answer to another question"
VERSION: Final = "another version's: neither read nor written"
UNREADABLE: Final = "calls that read the field fail"
UNSURE: Final = "whole, or unreadable"
ANY: Final = "no promise but that errors are ours"

LEFT_ALONE: Final = {ABSENT, FOREIGN, VERSION}


def meaning(name: str, value: bytes | None) -> str:
    """Return what a session is if one of its fields has this value, None for missing."""
    if name in COUNTERS:
        return ANY if _is_number(value) and name in {"seq", "updated_at"} else ABSENT
    if value is None:
        return ABSENT if name in {"session_id", "schema"} else WHOLE
    return _meaning_of_a_text(name, value) if name in TEXTS else MEANINGS.get(name, UNREADABLE)


MEANINGS: Final = {"session_id": FOREIGN, "schema": VERSION}
"""Of all values but the right one."""


def _meaning_of_a_text(name: str, value: bytes) -> str:
    if name == "created_at":
        return UNSURE if value.removeprefix(b"-").isdigit() else UNREADABLE
    try:
        value.decode()
    except UnicodeDecodeError:
        return UNREADABLE
    return UNREADABLE if name in OWNERS and not 0 < len(value) <= MAX_ID_BYTES else WHOLE


def _is_number(value: bytes | None) -> bool:
    return value is not None and value.isdigit() and len(value) <= 16 and int(value) <= 2**53


def allowed(call: str, name: str, value: bytes | None) -> Collection[Any]:
    """Return the values and classes of errors that may come of a call if a field has this value."""
    meant, (_, whole, absent) = meaning(name, value), CALLS[call]
    if name == "user_id" and value is not None and call in OF_OWNERS:
        return [SessionOwnershipError]
    if call in LISTINGS and meant not in {WHOLE, ANY}:
        return [absent, whole, *([ReplyMismatchError] if meant == FOREIGN else ())]
    decoded = DamagedSessionError if call in DECODING else whole
    return {
        WHOLE: [whole],
        ABSENT: [absent],
        FOREIGN: [absent, ReplyMismatchError],
        VERSION: [SessionVersionError],
        UNREADABLE: [decoded],
        UNSURE: [decoded, whole],
        ANY: [object],
    }[meant]


def _with_id(stored: Stored, run_id: bytes) -> list[Move]:
    """Return what gives the newest run another id, such as this library would not write."""
    stand_in = "@" * len(run_id)
    head = codec.pack({"run_id": stand_in, "content": "out r2", "created_at": 3}, "run")
    body = codec.pack_pair(stand_in, {}, "run")
    new = {"h": b"h:1:" + head, "i": b"i" + stand_in.encode(), "b": b"b" + body}
    moved = [(*stored.newest(kind), member) for kind, member in new.items()]
    return [
        (old, member.replace(stand_in.encode(), run_id) if run_id else member, score)
        for old, score, member in moved
    ]


def damaged_runs(stored: Stored) -> Iterator[tuple[str, list[Move]]]:
    """Give each damage of the newest run, and the members it replaces."""
    for run_id in (b"", b"x" * (MAX_ID_BYTES + 1), b"\xff\xfe"):
        yield f"run id {run_id[:5]!r}", _with_id(stored, run_id)
    for kind in "hib":
        member, score = stored.newest(kind)
        yield f"{kind} lost", [(member, b"", 0.0)]
        for garbage in (
            b"",
            b":",
            b"::",
            b"::\x01\xc1",
            b"\x01\xc1",
            b":1:\x01\x80",
            b"9" * 5000 + b":1:\x01\x80",
        ):
            yield f"{kind} is {garbage[:9]!r}", [(member, kind.encode() + garbage, score)]


def misplaced_members(stored: Stored) -> Iterator[tuple[str, list[Move]]]:
    """Give each wrong score of a member of the newest run; Redis takes no NaN."""
    for kind in "hib":
        member, score = stored.newest(kind)
        for wrong in (0.0, 0.5, 1.0, -1.0, math.inf, -math.inf, -score, score + 1):
            yield f"{kind} at {wrong}", [(member, member, wrong)]


# both together


@dataclass
class Findings:
    """What was wrong with the calls that were made."""

    stored: Stored
    end_script: Callable[[], None]
    found: list[str] = field(default_factory=list)

    def ask_all(self, damage: str, allowed: Callable[[str], Collection[Any]], *, leaves_alone: bool) -> None:
        """Make every call; note what came of it if it is not allowed, or if it wrote where it must not."""
        before = self.stored.bytes()
        for call in CALLS:
            outcome = self._outcome(call)
            wrote = not self.stored.is_as_it_was(before) if leaves_alone else call not in READS
            if not _is_one_of(outcome, allowed(call)):
                self.found.append(f"{damage}: {call}: {outcome!r}")
            if leaves_alone and wrote and call not in REPLACING:
                self.found.append(f"{damage}: {call}: wrote to it")
            if wrote or call in LISTINGS or isinstance(outcome, UnavailableError):
                self.stored.store()
                before = self.stored.bytes()

    def check(self) -> None:
        """Fail if anything was found."""
        assert not self.found, "\n".join(self.found)

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


@pytest.mark.parametrize("name", FIELDS)
def test_a_damaged_field(stored: Stored, findings: Findings, name: str) -> None:
    for kind, value in VALUES.items():
        meant = meaning(name, value)
        stored.damage(name, value)
        findings.ask_all(
            f"{kind} ({meant})",
            lambda call, value=value: allowed(call, name, value),  # type: ignore[misc]
            leaves_alone=meant in LEFT_ALONE,
        )

    findings.check()


def test_a_damaged_run(stored: Stored, findings: Findings) -> None:
    """What is read without an error is right, and a session that lacks a member counts as absent."""

    def right_or_an_error(call: str) -> Collection[Any]:
        _, whole, absent = CALLS[call]
        return [object] if call in WRITES else [whole, absent, SessionCacheError]

    for damage, moves in damaged_runs(stored):
        stored.damage(moves=moves)
        findings.ask_all(damage, right_or_an_error, leaves_alone=not stored.has_all_members())

    findings.check()


def test_a_misplaced_member(stored: Stored, findings: Findings) -> None:
    """The order of runs is what scores say: what is read may be in another, or short of one."""
    for damage, moves in misplaced_members(stored):
        stored.damage(moves=moves)
        findings.ask_all(damage, lambda _: [object], leaves_alone=not stored.has_all_members())

    findings.check()


def test_a_run_whose_parts_lie_apart_is_not_written(stored: Stored) -> None:
    for kind, wrong in (("h", 2.0**51), ("b", -1.0)):
        member, _ = stored.newest(kind)
        stored.damage(moves=[(member, member, wrong)])
        before = stored.bytes()

        with pytest.raises(SessionNotFoundError):
            stored.cache.upsert_run("s", a_run("r2", 3, content="changed"))
        assert stored.cache.delete_run("s", "r2") is False

        assert stored.is_as_it_was(before)


def test_a_damaged_session_is_made_anew(stored: Stored) -> None:
    for name in FIELDS:
        for value in VALUES.values():
            if meaning(name, value) == ABSENT:
                stored.damage(name, value)
                stored.cache.upsert_session(a_session("s", 1))

                assert _runs_of(stored.cache.get_session("s")) == RUNS[:1]
