"""Every call on a session of which members are lost, foreign, misplaced or damaged, or a key is gone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from damage.calls import CALLS, LISTINGS, WRITES, Move, Stored
from sessioncache import SessionCacheError, SessionNotFoundError
from sessioncache.storage import codec
from sessioncache.validation import MAX_ID_BYTES
from support.samples import a_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from damage.findings import Findings


FOREIGN = (b"foreign", b"", b"h", b"h:", b"i", b"b", b"ir9", b"h:\x01\x80", b"b\x01\xc0")
SCORES = (math.inf, -math.inf, 0.0, 0.5, 2.0**40, -(2.0**40), 1.0)


def _counts_as_absent(call: str) -> Collection[Any]:
    """Return what may come of a call; an entry of an index stays while the session's hash is there."""
    _, whole, absent = CALLS[call]
    return [absent, whole] if call in LISTINGS else [absent]


@pytest.mark.parametrize("key", ["meta", "runs"])
def test_a_lost_key(stored: Stored, findings: Findings, key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each key can be evicted, or expire, without the other."""
    stored.damage(evicted=key)
    findings.ask_all(f"{key} evicted", _counts_as_absent, leaves_alone=True)

    findings.check()
    assert "'s' is damaged" in caplog.text


def test_a_wrong_number_of_members(stored: Stored, findings: Findings) -> None:
    newest = [(stored.newest(kind)[0], b"", 0.0) for kind in "hib"]
    cases: dict[str, dict[str, Any]] = {
        "a run lost": {"moves": newest},
        "count too high": {"name": "count", "value": b"9"},
        "count too low": {"name": "count", "value": b"1"},
        **{
            f"foreign {member!r} at {score}": {"moves": [(b"", member, score)]}
            for member in FOREIGN
            for score in SCORES
        },
    }
    for case, damage in cases.items():
        stored.damage(**damage)
        findings.ask_all(case, _counts_as_absent, leaves_alone=True)

    findings.check()


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
