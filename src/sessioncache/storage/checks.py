"""What can be wrong with a stored session: a pure function of all that is stored of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sessioncache.errors import DamagedRunError, DamagedSessionError
from sessioncache.validation import LARGEST_NUMBER

from .run_members import MEMBERS_PER_RUN, StoredRun
from .session_hash import SCHEMA, are_numbers, from_fields

SCALE: Final = 2.0**60
"""What the order of a run is divided by, to be the score of the member that holds its id."""

COUNTERS: Final = (b"rev", b"born", b"count", b"seq", b"updated_at")

ALL_NAMES: Final = frozenset(
    {
        "session_id",
        "user_id",
        "workflow_id",
        "workflow_name",
        "created_at",
        "updated_at",
        "session_data",
        "workflow_data",
        "metadata",
    }
)
"""The fields of a session that must decode."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that `verify` found: what it is, where, and what became of it."""

    kind: str
    """One of the KINDS."""
    session_id: str | None
    """The session, None if the problem is about a key alone."""
    detail: str
    run_id: str | None = None
    key: str | None = None
    """The key in Redis that is wrong."""
    is_repairable: bool = False
    """Whether a repair loses nothing."""
    is_repaired: bool = False


KINDS: Final[Mapping[str, str]] = {
    "wrong-type": "a key has another type than this library gives it",
    "no-metadata": "runs without metadata: the session counts as absent",
    "no-runs": "metadata that counts runs, and no run is there: evicted, or deleted by something else",
    "counters": "a number that every write keeps is missing, or is none",
    "count": "the number of runs is not the one counted",
    "order": "a run lacks its head, its body or its id, or has one at another place",
    "head": "the head of a run does not decode",
    "body": "the body of a run does not decode, or belongs to another run",
    "field": "a field of the session does not decode",
    "name": "the metadata names another session than the key",
    "ttl": "both keys do not expire at the same time",
    "version": "stored in a layout of another version; nothing is wrong with it",
    "unlisted": "missing from an index",
    "score": "listed with another time than that of its last update",
    "stray": "an entry of an index whose session is gone, or belongs elsewhere",
    "index-type": "an index that is no sorted set",
    "outdated-index": "an index that nobody reads: whole in a cluster, or a shard outside one",
}
"""What can be wrong, by the names of the problems."""

DAMAGES: Final = frozenset(
    {
        "wrong-type",
        "no-metadata",
        "no-runs",
        "counters",
        "count",
        "order",
        "head",
        "body",
        "field",
        "name",
    }
)
"""Kinds of problems of which only a deletion gets rid."""


@dataclass(slots=True)
class VerifyReport:
    """What `verify` looked at, and what it found."""

    sessions: int = 0
    runs: int = 0
    index_entries: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Return whether nothing is wrong: sessions of another version are as they should be."""
        return all(problem.is_repaired or problem.kind == "version" for problem in self.problems)


Member = tuple[bytes, float]


def session_problems(
    session_id: str, fields: Mapping[bytes, bytes], members: Sequence[Member]
) -> Iterator[Problem]:
    """Yield what is wrong with a session: its fields, its counters, and its runs."""
    if fields.get(b"schema") not in (SCHEMA, None):
        yield Problem("version", session_id, f"layout {fields[b'schema'].decode(errors='replace')}")
        return
    if fields.get(b"session_id") != session_id.encode():
        named = fields.get(b"session_id", b"nobody").decode(errors="replace")
        yield Problem("name", session_id, f"the metadata is of {named!r}")
    numbers = [fields.get(name) for name in COUNTERS]
    if fields.get(b"schema") is None or not are_numbers(numbers) or int(numbers[0]) >= LARGEST_NUMBER:
        wrong = [name.decode() for name in (*COUNTERS, b"schema") if not (fields.get(name) or b"").isdigit()]
        yield Problem("counters", session_id, f"wrong: {', '.join(wrong) or 'rev'}")
    else:
        yield from _count_problems(session_id, int(fields[b"count"]), members)
    try:
        from_fields(fields, session_id, ALL_NAMES)
    except DamagedSessionError as exc:
        yield Problem("field", session_id, str(exc).partition(": ")[2])
    yield from _run_problems(session_id, members)


def _count_problems(session_id: str, count: int, members: Sequence[Member]) -> Iterator[Problem]:
    if count and not members:
        yield Problem("no-runs", session_id, f"{count} runs counted")
    elif len(members) != count * MEMBERS_PER_RUN:
        is_whole = not [*_unpaired(members)]
        detail = f"{count} runs counted, {len(members) / MEMBERS_PER_RUN:g} stored"
        yield Problem("count", session_id, detail, is_repairable=is_whole)


def _run_problems(session_id: str, members: Sequence[Member]) -> Iterator[Problem]:
    """Yield what is wrong with runs: places that lack a part, and parts that do not decode."""
    for what in _unpaired(members):
        yield Problem("order", session_id, what)
    bodies = {-score: member for member, score in members if score <= -1}
    names = {round(score * SCALE): member for member, score in members if 0 < score < 1}
    for head, order in members:
        if order >= 1 and order in bodies and order in names:
            run_id = names[round(order)][1:].decode(errors="replace")
            stored = StoredRun(head, bodies[order], b"", session_id)
            yield from _part_problems(session_id, run_id, stored)


def _unpaired(members: Iterable[Member]) -> Iterator[str]:
    """Yield places of runs that do not have exactly a head, a body and an id."""
    parts: dict[float, list[str]] = {}
    for member, score in members:
        kind = "head" if score >= 1 else "body" if score <= -1 else "id"
        order = score if score >= 1 else -score if score <= -1 else round(score * SCALE)
        parts.setdefault(order, []).append(kind if member[:1] == kind[:1].encode() else f"foreign {kind}")
    for order, found in sorted(parts.items()):
        if sorted(found) != ["body", "head", "id"]:
            yield f"at {order:.0f}: {', '.join(sorted(found))}"


def _part_problems(session_id: str, run_id: str, stored: StoredRun) -> Iterator[Problem]:
    try:
        head, load_body = stored.read()
    except DamagedRunError:
        yield Problem("head", session_id, "it does not decode", run_id)
        return
    if head["run_id"] != run_id:
        yield Problem("head", session_id, f"it is of run {head['run_id']!r}", run_id)
        return
    try:
        load_body()
    except DamagedRunError as exc:
        yield Problem("body", session_id, str(exc).rpartition(": ")[2], run_id)
