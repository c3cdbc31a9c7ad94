"""Feed mutated payloads to everything that decodes: it decodes, or it is *our* error.

The payloads are real sessions, packed, and values of every type that packs. Half of them are flipped, cut,
stretched or spliced with another as bytes; of the others, parts are exchanged for parts of other payloads, so
that they are whole msgpack of a shape nobody expects. What a payload must not do to the decoders:

    codec.unpack          raises anything but CodecError
    session_hash.from_fields    raises anything but DamagedSessionError
    run_members.read_run      raises anything, nor does a run that it built raise anything but DamagedRunError

Every finding is printed with the bytes that reproduce it; the exit status is 1 where there is one.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgpack

from sessioncache import DamagedRunError, DamagedSessionError, WorkflowSession
from sessioncache.storage import codec, session_hash
from sessioncache.storage.adapters import WORKFLOWS
from sessioncache.storage.run_members import StoredRun, pack_run, read_run

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
SESSIONS = ROOT / "tests" / "data" / "agno_sessions.jsonl"

DEFAULT_COUNT = 1_000_000
PROGRESS_SECONDS = 5.0
MAX_FINDINGS = 20
"""Different findings after which there is enough to do."""

CHANGES = (1, 1, 1, 2, 4)
"""Mutations of one payload: many of them make noise that the first bytes give away."""

BYTES_SHARE = 0.5
"""Payloads that are changed as bytes; of the others, whole parts are exchanged."""

NAME_SHARE = 0.3
"""Hashes of which the name of a field is changed too."""

CLASH_SHARE = 0.1
"""Hashes that two writers made who did not agree what is a dict."""

PACKED_SHARE = 0.8
"""Heads of which only the packed part is changed: what stands before it is found wanting at once."""

MODEL = WORKFLOWS
SESSION_ID = "fuzzed"

STEP_SHARE = 0.75
"""How often a walk through a payload takes one more step down, and how often a graft is an odd part."""

ODD_PARTS: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**63,
        1e308,
        float("nan"),
        "",
        "COMPLETED",
        b"\xff",
        [],
        {},
        [[]],
        [None],
        {"": None},
    ),
    *({b"bytes": 1}, {1: 2}, {"role": []}, {"messages": 7}, [{"role": "user"}], {"run_id": 5}, [["a", "b"]]),
    *({"agent_id": 1, "messages": [{}]}, [{"team_id": "t", "member_responses": [{}, 1]}], {"_load_body": 1}),
    *(
        {"extra_fields": {"x": 1}},
        {"extra_fields": 7},
        {"status": {}},
        {"workflow_name": 1, "parent_run_id": 1},
    ),
    *(
        msgpack.ExtType(code, data)
        for code in range(8)
        for data in (b"", b"\x90", b"\x91\x80", b"2026-01-01")
    ),
    *(msgpack.ExtType(4, b"sNaN"), msgpack.ExtType(5, b"\x91\xc7\x04\x04sNaN"), msgpack.Timestamp(1)),
    msgpack.ExtType(5, b"\x92" + (b"\x91" * 1010 + b"\xc0") * 2),  # a set of what is too deep to compare
)
"""What stands in no payload, at places where the model looks."""

SPECIALS = (
    bytes([0xC1]),  # the one byte that begins nothing
    b"\xdd\xff\xff\xff\xff",  # a list of 4 billion items
    b"\xdf\xff\xff\xff\xff",  # a dict as large
    b"\xc6\xff\xff\xff\xff",  # and bytes
    b"\xc7\x03\x04sNa",  # a Decimal cut short
    b"\xd4\x01\x00",  # a datetime of one zero byte
    b"\xd6\xff\x00\x00\x00\x00",  # msgpack's own timestamp
    b"\xd4\x05\x90",  # an empty set
    b"\xd5\x05\x91\x80",  # a set of a dict
    b"\xd4\x63\x00",  # an extension nobody knows
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
    b"\x81\x01\x01",  # a dict with an int as key
    b"\x91" * 40,  # deep
)


class Seeds(NamedTuple):
    """Payloads to mutate, all of them whole."""

    values: list[bytes]
    runs: list[StoredRun]
    hashes: list[dict[bytes, bytes]]

    def any_bytes(self, rng: random.Random) -> bytes:
        """Choose a payload of any kind, its format byte left off."""
        run = rng.choice(self.runs)
        head = run.head[run.head.index(codec.FORMAT) :]
        return rng.choice([rng.choice(self.values), head, run.body[1:]])[1:]


def load_seeds() -> Seeds:
    """Pack the real sessions as a cache would store them."""
    seeds = Seeds(_values_of_all_types(), [], [])
    for line in SESSIONS.read_text().splitlines():
        session = WorkflowSession.from_dict(json.loads(line))
        assert session is not None
        stored = session_hash.to_fields(MODEL.fields(session))
        seeds.hashes.append(
            stored
            | {b"schema": session_hash.SCHEMA, b"rev": b"2", b"born": b"1", b"updated_at": b"1700000000"}
        )
        seeds.values.extend(value for value in stored.values() if value[:1] == codec.FORMAT)
        seeds.runs.extend(pack_run(MODEL, run).stored(1) for run in session.runs or ())
    return seeds


def _values_of_all_types() -> list[bytes]:
    value = {
        "numbers": [0, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), True, None],
        "texts": ["", "Grüße 東京 🚀", b"\x00\xff"],
        "times": [datetime(2026, 1, 1, tzinfo=UTC), datetime.min, date.max],  # noqa: DTZ901 - a naive one
        "rest": [UUID(int=7), Decimal("1E-99"), {1, "a", (2, frozenset({3}))}, {"deep": {"er": []}}],
    }
    return [codec.pack(part, "seed") for part in [value, *value.values()]]


def mutated(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    """Return a payload, its format byte left off, with one change or a few."""
    if rng.random() > BYTES_SHARE:
        return grafted(payload, seeds, rng)
    for _ in range(rng.choice(CHANGES)):
        payload = rng.choice(MUTATIONS)(payload, seeds, rng)
    return payload


def grafted(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    """Return a payload of which some parts are others: values of other fields, or odd ones."""
    try:
        tree = [_tree(payload)]
    except ValueError:
        return payload
    for _ in range(rng.choice(CHANGES)):
        holder, key = _random_place(tree, rng)
        holder[key] = _random_part(seeds, rng)
    packed: bytes = msgpack.packb(tree[0])
    return packed


def _tree(payload: bytes) -> Any:
    return msgpack.unpackb(payload, ext_hook=msgpack.ExtType, strict_map_key=False)


def _random_place(tree: Any, rng: random.Random) -> tuple[Any, Any]:
    """Walk down from the root to some part, and return its holder and where it is in there."""
    holder, key = tree, 0
    while isinstance(part := holder[key], list | dict) and part and rng.random() < STEP_SHARE:
        holder, key = part, rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
    return holder, key


def _random_part(seeds: Seeds, rng: random.Random) -> Any:
    if rng.random() < STEP_SHARE:
        return copy.deepcopy(rng.choice(ODD_PARTS))
    holder, key = _random_place([_tree(seeds.any_bytes(rng))], rng)
    return holder[key]


def _flip_bit(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    if not payload:
        return payload
    at = rng.randrange(len(payload))
    return payload[:at] + bytes([payload[at] ^ 1 << rng.randrange(8)]) + payload[at + 1 :]


def _set_byte(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    at = rng.randint(0, len(payload))
    return payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]


def _set_early_byte(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    """Set one of the first bytes, where the structure is, rather than one of a long text."""
    at = rng.randint(0, min(len(payload), 24))
    return payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]


def _truncate(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    return payload[: rng.randint(0, len(payload))]


def _remove(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    start = rng.randint(0, len(payload))
    return payload[:start] + payload[start + rng.randint(1, 16) :]


def _repeat(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    start = rng.randint(0, len(payload))
    return payload[:start] + payload[start : start + rng.randint(1, 64)] * 2 + payload[start:]


def _insert_special(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    at = rng.randint(0, len(payload))
    special = rng.choice(SPECIALS)
    return payload[:at] + special + payload[at + rng.choice([0, len(special)]) :]


def _splice(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    other = seeds.any_bytes(rng)
    return payload[: rng.randint(0, len(payload))] + other[rng.randint(0, len(other)) :]


def _noise(payload: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    return payload[: rng.randint(0, min(3, len(payload)))] + rng.randbytes(rng.randint(0, 40))


MUTATIONS: tuple[Callable[[bytes, Seeds, random.Random], bytes], ...] = (
    _flip_bit,
    _flip_bit,
    _set_byte,
    _set_early_byte,
    _set_early_byte,
    _truncate,
    _remove,
    _repeat,
    _insert_special,
    _splice,
    _noise,
)


class Attempt(NamedTuple):
    """One payload and what is to be done with it; `judge` returns what became of it or raises a finding."""

    target: str
    payload: Any
    judge: Callable[[Any], str]


def next_attempt(seeds: Seeds, rng: random.Random) -> Attempt:
    """Choose a target and a mutated payload for it."""
    match rng.randrange(4):
        case 0:
            payload = mutated(seeds.any_bytes(rng), seeds, rng)
            return Attempt("unpack", codec.FORMAT + payload, judge_unpack)
        case 1:
            return Attempt("from_fields", _mutated_hash(seeds, rng), judge_fields)
        case 2:
            head, body = rng.choice(seeds.runs)
            return Attempt("read_run, head", StoredRun(_mutated_head(head, seeds, rng), body), judge_run)
        case _:
            head, body = rng.choice(seeds.runs)
            spoilt = body[:2] + mutated(body[2:], seeds, rng)
            return Attempt("read_run, body", StoredRun(head, spoilt), judge_run)


def _mutated_hash(seeds: Seeds, rng: random.Random) -> dict[bytes, bytes]:
    spoilt = dict(rng.choice(seeds.hashes))
    name = rng.choice(list(spoilt))
    value = spoilt.pop(name)
    if rng.random() < NAME_SHARE:
        name = rng.choice(MUTATIONS)(name, seeds, rng)[:64]
    spoilt[name] = value[:1] + mutated(value[1:], seeds, rng)
    if rng.random() < CLASH_SHARE:
        spoilt = {name: value for name, value in spoilt.items() if not name.startswith(b"session_data.")}
        spoilt[b"session_data"] = codec.pack(rng.choice([None, [], 1, "x"]), "seed")
    return spoilt


def _mutated_head(head: bytes, seeds: Seeds, rng: random.Random) -> bytes:
    start = head.index(codec.FORMAT) + 1 if rng.random() < PACKED_SHARE else 0
    return head[:start] + mutated(head[start:], seeds, rng)


def judge_unpack(payload: bytes) -> str:
    """Decode a value, and pack it again: what decodes is made of what packs."""
    try:
        codec.unpack(payload)
    except codec.CodecError:
        return "refused"
    return "decoded"


def judge_fields(payload: dict[bytes, bytes]) -> str:
    """Read a hash, and build the session of it."""
    try:
        record = session_hash.from_fields(payload, SESSION_ID, MODEL.names)
    except DamagedSessionError:
        return "refused"
    MODEL.session(record, [])
    return "decoded"


def judge_run(payload: StoredRun) -> str:
    """Build a run, and look at all of it."""
    run = read_run(MODEL, SESSION_ID, payload)
    assert isinstance(run.run_id, str), "a run without a run_id"
    try:
        run.status, run.input, run.content, run.queue_attempt  # noqa: B018 - what history looks at
        run.to_dict()
    except DamagedRunError:
        return "refused"
    return "decoded"


def fuzz(count: int, seed: int) -> int:
    """Make so many attempts; print the progress, the figures and the findings, and return how many."""
    seeds, rng = load_seeds(), random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    findings: dict[str, str] = {}
    started = reported = time.monotonic()
    for number in range(1, count + 1):
        attempt = next_attempt(seeds, rng)
        try:
            outcome = attempt.judge(attempt.payload)
        except Exception as error:  # noqa: BLE001 - finding it is the point
            outcome = "FINDING"
            findings.setdefault(_kind_of(attempt, error), f"{error!r}\n    {attempt.payload!r}")
        outcomes[attempt.target, outcome] += 1
        if time.monotonic() - reported >= PROGRESS_SECONDS:
            reported = time.monotonic()
            print(f"{number:>10,} of {count:,}  {number / (reported - started):,.0f}/s", file=sys.stderr)
        if len(findings) >= MAX_FINDINGS:
            break
    _report(outcomes, findings, time.monotonic() - started, seed)
    return len(findings)


def _kind_of(attempt: Attempt, error: Exception) -> str:
    """Name a finding by where it came from, so that one fault is one finding."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    return f"{attempt.target}: {type(error).__name__} at {where}"


def _report(outcomes: Counter[tuple[str, str]], findings: dict[str, str], seconds: float, seed: int) -> None:
    print(f"{outcomes.total():,} payloads in {seconds:.0f} s, seed {seed}")
    for (target, outcome), number in sorted(outcomes.items()):
        print(f"  {target:<16}{outcome:<10}{number:>10,}")
    for kind, example in findings.items():
        print(f"FINDING {kind}\n    {example}")
    print(f"{len(findings)} findings")


def main() -> int:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description="Feed mutated payloads to all decoders."
    )
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT, help="payloads (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the run with this seed")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    return 1 if fuzz(chosen.count, seed) else 0


if __name__ == "__main__":
    sys.exit(main())
