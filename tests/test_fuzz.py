"""Mutated payloads: whatever decodes them returns a value, or raises this library's own error."""

from __future__ import annotations

import contextlib
import copy
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from sessioncache import DamagedRunError, DamagedSessionError, EncryptionError, Keyring, WorkflowSession
from sessioncache.storage import codec, session_hash, zstd
from sessioncache.storage.adapters import WORKFLOWS
from sessioncache.storage.run_members import StoredRun, pack_run, read_run
from sessioncache.storage.sealing import BROKEN

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

SAMPLES = (Path(__file__).parent / "data" / "agno_sessions.jsonl").read_text().splitlines()
SESSIONS = [session for line in SAMPLES if (session := WorkflowSession.from_dict(json.loads(line)))]
RUNS = [pack_run(WORKFLOWS, run).stored(1, "fuzzed") for session in SESSIONS for run in session.runs or ()]
HASHES = [
    session_hash.to_fields(WORKFLOWS.to_dict(session))
    | {b"schema": session_hash.SCHEMA, b"rev": b"2", b"born": b"1", b"updated_at": b"1700000000"}
    for session in SESSIONS
]
OF_EVERY_TYPE = [
    codec.pack(value, "seed")
    for value in (
        [0, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), True, None],
        ["", "Grüße 東京 🚀", b"\x00\xff", {"deep": {"er": []}}],
        [datetime(2026, 1, 1, tzinfo=UTC), datetime.min, date.max],  # noqa: DTZ901 - a naive one
        [UUID(int=7), Decimal("1E-99"), {1, "a", (2, frozenset({3}))}],
    )
]
PACKED = [
    *OF_EVERY_TYPE,
    *(value for fields in HASHES for value in fields.values() if value[:1] == codec.FORMAT),
    *(part for run in RUNS for part in (run.head[run.head.index(codec.FORMAT) :], run.body[1:])),
]

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
    *({"extra_fields": 7}, {"status": {}}, {"workflow_name": 1, "parent_run_id": 1}),
    *(
        msgpack.ExtType(code, data)
        for code in range(8)
        for data in (b"", b"\x90", b"\x91\x80", b"2026-01-01", b"sNaN", b"\x91\xc7\x04\x04sNaN")
    ),
    msgpack.Timestamp(1),
    msgpack.ExtType(5, b"\x92" + (b"\x91" * 1010 + b"\xc0") * 2),  # a set of what is too deep to compare
)
"""Values that no payload has, for places where the model looks."""

ODD_BYTES = (
    *(b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"),
    *(b"\xc7\x03\x04sNa", b"\xd4\x01\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xd4\x05\x90", b"\xd5\x05\x91\x80"),
    *(b"\xd4\x63\x00", b"\xcb\x7f\xf8" + b"\x00" * 6, b"\x81\x01\x01", b"\x91" * 40),
)
"""Lengths without content, cut extensions, a dict with an int as key, and the like."""


@st.composite
def spliced(draw: DrawFn, whole: bytes) -> bytes:
    """Draw a payload of which some pieces, mostly near its beginning, are other bytes."""
    for _ in range(draw(st.integers(1, 4))):
        end = draw(st.sampled_from([24, len(whole)]))
        start = draw(st.integers(0, min(end, len(whole))))
        length = draw(st.sampled_from([0, 1, 1, 2, 16, len(whole)]))
        new = draw(
            st.sampled_from(ODD_BYTES) | st.binary(max_size=8) | st.just(whole[start : start + 64] * 2)
        )
        whole = whole[:start] + new + whole[start + length :]
    return whole


@st.composite
def grafted(draw: DrawFn, whole: bytes) -> bytes:
    """Draw a payload of which one part is another value."""
    tree = [msgpack.unpackb(whole, ext_hook=msgpack.ExtType, strict_map_key=False)]
    holder, key = tree, 0
    while isinstance(part := holder[key], list | dict) and part and draw(st.integers(0, 3)):
        places = list(part) if isinstance(part, dict) else range(len(part))
        holder, key = part, draw(st.sampled_from(places))
    holder[key] = copy.deepcopy(draw(st.sampled_from(ODD_PARTS)))
    packed: bytes = msgpack.packb(tree[0])
    return packed


def mutated(packed: bytes) -> SearchStrategy[bytes]:
    """Draw mutations of a packed value; its format byte stays."""
    changed = spliced(packed[1:]) | grafted(packed[1:])
    return changed.map(lambda payload: packed[:1] + payload)


@given(payload=st.sampled_from(PACKED).flatmap(mutated) | st.binary(max_size=60))
@example(payload=b"")
def test_a_value(payload: bytes) -> None:
    for decode in (codec.unpack, codec.unpack_dict, codec.unpack_pair):
        try:
            decode(payload)
        except codec.CodecError:
            continue


@st.composite
def hashes(draw: DrawFn) -> dict[bytes, bytes]:
    """Draw the fields of a session of which one is another, by its value or its name."""
    fields = dict(draw(st.sampled_from(HASHES)))
    name = draw(st.sampled_from(sorted(fields)))
    value = fields.pop(name)
    new_name = draw(st.just(name) | st.just(name) | spliced(name))
    fields[new_name] = draw(mutated(value) if value[:1] == codec.FORMAT else spliced(value))
    if draw(st.booleans()):
        fields[b"session_data"] = codec.pack(draw(st.sampled_from([None, [], 1, "x"])), "seed")
    return fields


@given(fields=hashes())
def test_a_hash(fields: dict[bytes, bytes]) -> None:
    try:
        content = session_hash.from_fields(fields, "fuzzed", WORKFLOWS.names)
    except DamagedSessionError:
        return
    WORKFLOWS.session_class(**{"session_id": "fuzzed", **content}, runs=[])


@st.composite
def members(draw: DrawFn) -> StoredRun:
    """Draw the members of a run of which one is mutated, within its packed part or anywhere."""
    head, body, _, _ = draw(st.sampled_from(RUNS))
    at = head.index(codec.FORMAT)
    if draw(st.booleans()):
        head = draw(mutated(head[at:]).map(lambda packed: head[:at] + packed) | spliced(head))
    else:
        body = draw(mutated(body[1:]).map(lambda packed: body[:1] + packed) | spliced(body))
    return StoredRun(head, body, b"1", "fuzzed")


@given(stored=members())
def test_a_run(stored: StoredRun) -> None:
    run = read_run(WORKFLOWS, stored)
    assert isinstance(run.run_id, str)
    try:
        run.status, run.input, run.content, run.queue_attempt  # noqa: B018 - what history looks at
        run.to_dict()
    except DamagedRunError:
        return


KEYRING = Keyring({"fuzz": b"f" * 32})
SEALED = [KEYRING.seal(value, "fuzzed", b"body") for value in PACKED[:20]]
MUTATIONS = 100
"""Mutations of each example: at length (profile `fuzz`), a million."""


@given(st.randoms(use_true_random=False))
def test_no_mutation_of_a_sealed_value_opens(chance: Any) -> None:
    for _ in range(MUTATIONS):
        mutated = bytearray(chance.choice(SEALED))
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        stored = bytes(mutated[: chance.choice((None, chance.randrange(len(mutated))))])
        if stored in SEALED:
            continue
        with contextlib.suppress(EncryptionError):  # of another key
            assert KEYRING.open(stored, "fuzzed", b"body") == BROKEN


@given(st.binary(max_size=200), st.sampled_from(PACKED))
def test_no_frame_is_more_than_it_declares(noise: bytes, packed: bytes) -> None:
    frame = codec.ZSTD_FORMAT + zstd.compress(packed)
    for stored in (codec.ZSTD_FORMAT + noise, frame + noise, frame[: len(noise)]):
        try:
            codec.unpack(stored)
        except codec.CodecError:
            continue
        assert stored == frame
