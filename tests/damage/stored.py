"""A stored session that is damaged and made whole again, and the table of its damages."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from damage.calls import RUNS, a_stored_session
from sessioncache.storage import codec, keys
from sessioncache.validation import MAX_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import redis

    from support.subjects import Caches

TIMEOUT: Final = 2.0
"""Seconds of one call: only one that hangs takes so long."""


class Move(NamedTuple):
    """A member (None for none) and what takes its place (None for nothing), at which score."""

    old: bytes | None
    new: bytes | None = None
    score: float = 0.0


class Damage(NamedTuple):
    """What is changed of a session, and what the session is then."""

    name: str
    meant: str
    fields: Mapping[str, bytes | None] = {}
    """Values of fields of the hash, None for one that is missing."""
    moves: Iterable[Move] = ()
    keys: Mapping[str, bytes | None] = {}
    """Strings in the place of meta or runs, None for a key that is missing."""


class Stored:
    """Session `s`, which is damaged and made whole again, and session `other`, which stays whole."""

    def __init__(self, caches: Caches, admin: redis.Redis) -> None:
        self.cache = caches.make(timeout=TIMEOUT)
        self.touching = caches.make(timeout=TIMEOUT, touch_on_read=True)
        self._admin, self._index = admin, keys.index_of_all(caches.prefix)
        self._meta, self._runs = keys.session_keys(caches.prefix, "s")
        for session_id in ("s", "other"):
            self.cache.upsert_session(a_stored_session(session_id))
        self._loaded = self.cache.get_session("s")
        self.cache.update_session_state("s", {"changed": "since"})
        self._fields, self._members = admin.hgetall(self._meta), self._members_of(self._runs)
        self.others = self._members_of(keys.session_keys(caches.prefix, "other")[1])

    def _members_of(self, runs: bytes) -> dict[bytes, float]:
        return dict(self._admin.zrange(runs, 0, -1, withscores=True))

    def loaded(self) -> Any:
        """Return the session as it was loaded, before its last change."""
        return copy.deepcopy(self._loaded)

    def bytes(self) -> list[Any]:
        """Return both keys, of whatever type, and how long each lives."""
        with self._admin.pipeline() as pipeline:
            pipeline.hgetall(self._meta).get(self._meta).get(self._runs)
            pipeline.zrange(self._runs, 0, -1, withscores=True).pttl(self._meta).pttl(self._runs)
            found = pipeline.execute(raise_on_error=False)
        return [repr(one) if isinstance(one, Exception) else one for one in found]

    def is_as_it_was(self, before: list[Any]) -> bool:
        """Tell whether nothing was written since, lifetimes included."""
        *was, meta_had, runs_had = before
        *now, meta_left, runs_left = self.bytes()
        return now == was and meta_left <= meta_had and runs_left <= runs_had

    def is_gone(self) -> bool:
        """Tell whether nothing is stored."""
        return not self._admin.exists(self._meta, self._runs)

    def damage(self, damage: Damage) -> None:
        """Store the session with this damage."""
        fields = self._fields | {name.encode(): value for name, value in damage.fields.items()}
        self._damaged_fields = {name: value for name, value in fields.items() if value is not None}
        self._damaged_members = dict(self._members)
        for old, new, score in damage.moves:
            self._damaged_members.pop(old, None)  # type: ignore[arg-type]
            if new is not None:
                self._damaged_members[new] = score
        self._damaged_keys = damage.keys
        self.store()

    def store(self) -> None:
        """Store the session, damaged as it is, and list it: whatever was made of it meanwhile."""
        with self._admin.pipeline() as pipeline:
            pipeline.delete(self._meta, self._runs)
            pipeline.hset(self._meta, mapping=self._damaged_fields).zadd(self._runs, self._damaged_members)
            for name, value in self._damaged_keys.items():
                key = self._meta if name == "meta" else self._runs
                pipeline.delete(key) if value is None else pipeline.set(key, value)
            pipeline.pexpire(self._meta, 1_000_000).pexpire(self._runs, 1_000_000)
            pipeline.zadd(self._index, {"s": 1, "other": 1}).execute()

    def has_all_members(self) -> bool:
        """Tell whether there are a head, an id and a body for each run, by their number."""
        scores = self._damaged_members.values()
        heads, bodies = sum(score >= 1 for score in scores), sum(score <= -1 for score in scores)
        return (len(scores), heads, bodies) == (3 * len(RUNS), len(RUNS), len(RUNS))

    def newest(self, kind: str) -> tuple[bytes, float]:
        """Return the newest run's member of a kind, h, i or b, and its score."""
        found = [pair for pair in self._members.items() if pair[0][:1] == kind.encode()]
        return max(found, key=lambda pair: abs(pair[1]))


# what a session is

WHOLE: Final = "whole: nothing, or another value, and a good one"
ABSENT: Final = "damaged: counts as absent"
FOREIGN: Final = "damaged, or the answer to another question"
VERSION: Final = "another version's: neither read nor written"
UNREADABLE: Final = "calls that read the field fail"
UNSURE: Final = "whole, or unreadable"
FAILING: Final = "no session: every call fails"
RIGHT: Final = "what is read without an error is right"
ANY: Final = "no promise but that errors are ours"

LEFT_ALONE: Final = {ABSENT, FOREIGN, VERSION, FAILING}

# fields

NO_NUMBERS: Final = [b"", b"nan", b"inf", b"0x10", b"1e3", b"5.5", b"-1", b"x"]
LARGE: Final = [b"1" * 17, b"%d" % 2**53, b"%d" % (2**53 + 1), b"9" * 5000]
NOT_DECODING: Final = [b"\xff\xfe", b"\x03\x00", b"\x02\xa1\xff", b"\x01\xc1", b"\x01\xdc\xff\xff"]
VALUES: Final[list[bytes | None]] = [None, *NO_NUMBERS, *LARGE, *NOT_DECODING]
"""Of any field; None for one that is missing."""
OF_ONE_FIELD: Final[dict[str, list[bytes | None]]] = {"count": [b"1", b"9"], "schema": [b"2"]}

COUNTERS: Final = {"rev", "born", "count", "seq", "updated_at"}
OWNERS: Final = {"user_id", "workflow_id"}
TEXTS: Final = {*OWNERS, "workflow_name", "created_at"}
PACKED: Final = {"session_data", "metadata.m"}  # the marker of a section, and one key of another
FIELDS: Final = sorted({*COUNTERS, *TEXTS, *PACKED, "session_id", "schema"})


def damaged_field(name: str, _: Stored) -> Iterator[Damage]:
    """Give each damage of a field."""
    for value in VALUES + OF_ONE_FIELD.get(name, []):
        yield Damage(repr(value)[:20], _meaning(name, value), fields={name: value})


def _meaning(name: str, value: bytes | None) -> str:
    if name in COUNTERS:
        return ANY if _is_number(value) and name in {"seq", "updated_at"} else ABSENT
    if value is None:
        return ABSENT if name in {"session_id", "schema"} else WHOLE
    if name in TEXTS:
        return _meaning_of_a_text(name, value)
    return {"session_id": FOREIGN, "schema": VERSION}.get(name, UNREADABLE)


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


# keys and members


def damaged_keys(_: Stored) -> Iterator[Damage]:
    """Give each damage of a whole key."""
    yield Damage("no damage", WHOLE)
    for key in ("meta", "runs"):
        yield Damage(f"{key} lost", ABSENT, keys={key: None})
        yield Damage(f"{key} a string", FAILING, keys={key: b"foreign"})


def lost_members(stored: Stored) -> Iterator[Damage]:
    """Give each loss of members of the newest run."""
    for kinds in ("h", "i", "b", "hib"):
        yield Damage(f"{kinds} lost", ABSENT, moves=[Move(stored.newest(kind)[0]) for kind in kinds])


def foreign_members(stored: Stored) -> Iterator[Damage]:
    """Give each member too many, among heads, ids and bodies and at the edges; then a backup's whole run."""
    members = (b"foreign", b"", b"h", b"h:", b"i", b"b", b"ir9", b"h:\x01\x80", b"b\x01\xc0")
    places = [(member, score) for member in members for score in (2.0**40, 0.5, -(2.0**40))]
    edges = [(b"foreign", score) for score in (math.inf, -math.inf, 0.0, 1.0, 2.0**52, -(2.0**52))]
    for member, score in places + edges:
        yield Damage(f"{member!r} at {score}", ABSENT, moves=[Move(None, member, score)])
    others = [Move(None, member + b"x", score + 2.0**30) for member, score in stored.others.items()]
    yield Damage("another session's runs", ABSENT, moves=others)


GARBAGE: Final = [b"", b":", b"::", b"::\x01\xc1", b"\x01\xc1", b":1:\x01\x80", b"9" * 5000 + b":1:\x01\x80"]


def damaged_run(stored: Stored) -> Iterator[Damage]:
    """Give each damage of the newest run's members."""
    for run_id in (b"", b"x" * (MAX_ID_BYTES + 1), b"\xff\xfe"):
        yield Damage(f"run id {run_id[:5]!r}", RIGHT, moves=_with_id(stored, run_id))
    for kind in "hib":
        member, score = stored.newest(kind)
        for garbage in GARBAGE:
            moves = [Move(member, kind.encode() + garbage, score)]
            yield Damage(f"{kind} is {garbage[:9]!r}", RIGHT, moves=moves)


def _with_id(stored: Stored, run_id: bytes) -> list[Move]:
    """Return what gives the newest run another id, such as this library would not write."""
    stand_in = "@" * len(run_id)
    head = codec.pack({"run_id": stand_in, "content": "out r2", "created_at": 3}, "run")
    body = codec.pack_pair(stand_in, {}, "run")
    new = {"h": b"h:1:" + head, "i": b"i" + stand_in.encode(), "b": b"b" + body}
    return [
        Move(old, new[kind].replace(stand_in.encode(), run_id) if run_id else new[kind], score)
        for kind, (old, score) in ((kind, stored.newest(kind)) for kind in new)
    ]


def misplaced_members(stored: Stored) -> Iterator[Damage]:
    """Give each wrong score of a member of the newest run; Redis takes no NaN.

    The order of runs is what scores say: what is read may be in another, or short of one.
    """
    for kind in "hib":
        member, score = stored.newest(kind)
        for wrong in (0.0, 0.5, 1.0, -1.0, math.inf, -math.inf, -score, score + 1):
            yield Damage(f"{kind} at {wrong}", ANY, moves=[Move(member, member, wrong)])


TABLE: Final[dict[str, Callable[[Stored], Iterator[Damage]]]] = {
    **{name: partial(damaged_field, name) for name in FIELDS},
    "keys": damaged_keys,
    "lost members": lost_members,
    "foreign members": foreign_members,
    "a run": damaged_run,
    "misplaced members": misplaced_members,
}
