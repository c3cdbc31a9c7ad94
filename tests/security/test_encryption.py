"""Sealed and compressed values: what lies in Redis, who can read it, and what is tampered with."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    DamagedRunError,
    DamagedSessionError,
    EncryptionError,
    InvalidArgumentError,
    Keyring,
    SessionCache,
    WorkflowSession,
)
from sessioncache.storage import codec, zstd
from sessioncache.storage.sealing import BROKEN
from support.samples import a_message, a_run, a_run_of, a_session, ids

if TYPE_CHECKING:
    from support.cluster import RedisCluster

OLD, NEW = b"o" * 32, b"n" * 32
GOLDEN = Path(__file__).parent.parent / "data" / "agno_sessions.jsonl"
OPTIONS: dict[str, dict[str, Any]] = {
    "zstd": {"compression": "zstd"},
    "sealed": {"encryption": Keyring({"new": NEW})},
    "both": {"compression": "zstd", "encryption": Keyring({"new": NEW})},
}
SECRET = "the secret of a user, which is long enough to be compressed " * 20


def secret_session(session_id: str = "s") -> WorkflowSession:
    """Make a session in which everything that a user can write is a secret."""
    run = a_run_of("r0", a_message(SECRET))
    run.input, run.content = SECRET, SECRET
    return a_session(
        session_id,
        [run],
        user_id="u",
        workflow_id="w",
        workflow_name=SECRET,
        metadata={"note": SECRET},
        session_data={"session_name": SECRET, "session_state": {"k": SECRET}},
    )


@pytest.fixture(params=OPTIONS)
def stored(request: pytest.FixtureRequest, make_cache: Any) -> Any:
    """A cache of each kind."""
    return make_cache(**OPTIONS[request.param])


@pytest.fixture
def sealed(make_cache: Any) -> Any:
    """A cache with a keyring, and session `s`."""
    cache = make_cache(encryption=Keyring({"new": NEW, "old": OLD}))
    cache.upsert_session(secret_session())
    return cache


# --- the same as in the clear


def test_every_golden_session_comes_back_equal(stored: Any, make_cache: Any) -> None:
    plain = make_cache(prefix="plain")
    for line in GOLDEN.read_text().splitlines():
        for cache in (stored, plain):
            cache.upsert_session(WorkflowSession.from_dict(json.loads(line)))

    names = [each.session_id for each in plain.iter_sessions()]
    for one, other in zip(stored.get_sessions(names), plain.get_sessions(names), strict=True):
        one.updated_at = other.updated_at
        assert one.to_dict() == other.to_dict()
    one, other = (sorted(ids(cache.iter_sessions())) if False else cache for cache in (stored, plain))
    assert [each.session_name for each in one.iter_sessions()] == [
        each.session_name for each in other.iter_sessions()
    ]
    assert stored.verify().problems == []


def test_calls_work_on_what_was_sealed(stored: Any, make_cache: Any, caches: Any) -> None:
    stored.upsert_session(secret_session())
    loaded = stored.get_session("s")
    rev = loaded.rev
    stored.update_session_state("s", {"other": SECRET})
    stored.upsert_run("s", a_run("r1", content=SECRET))
    loaded.metadata["mine"] = SECRET
    assert stored.refresh(loaded)
    assert loaded.metadata == {"note": SECRET, "mine": SECRET}
    assert loaded.session_data["session_state"] == {"k": SECRET, "other": SECRET}
    stored.upsert_session(loaded)

    found = stored.get_session("s")
    assert found.rev > rev
    assert found.metadata == {"note": SECRET, "mine": SECRET}
    assert ids(found.runs) == ["r0", "r1"]
    assert found.get_run("r0").content == stored.get_run("s", "r0").content == SECRET
    assert [chat.output for chat in stored.get_chat_history("s")] == [SECRET, SECRET]
    assert stored.get_messages("s", agent_id="A")[0].content.startswith(SECRET)
    (summary,) = stored.list_sessions(name=SECRET[:20]).sessions
    assert summary.workflow_name == summary.session_name == SECRET
    before = stored.get_session("s")
    stored.upsert_session(before)
    assert stored.refresh(before) is False


def test_a_near_cache_holds_what_was_sealed(make_cache: Any) -> None:
    near = make_cache(encryption=Keyring({"new": NEW}), compression="zstd", near_cache=2**22)
    near.upsert_session(secret_session())
    for _ in range(3):
        assert near.get_session("s").metadata == {"note": SECRET}
    make_cache(encryption=Keyring({"new": NEW})).upsert_run("s", a_run("r1", content=SECRET))

    assert [run.content for run in near.get_session("s").runs] == [SECRET, SECRET]


# --- what lies in Redis


def dump(admin: Any, prefix: str) -> bytes:
    """Return all bytes that are stored."""
    found = b""
    for key in admin.keys(f"{prefix}*"):
        if admin.type(key) == b"hash":
            found += b"".join(b"%b=%b;" % pair for pair in admin.hgetall(key).items())
        else:
            found += b";".join(admin.zrange(key, 0, -1))
    return found


def test_no_text_of_a_user_lies_in_redis(sealed: Any, admin: Any, caches: Any) -> None:
    sealed.rename_session("s", "secret name")
    sealed.upsert_run("s", a_run("r1", content="short secret"))

    assert b"secret" not in dump(admin, caches.prefix)
    assert b"u" in dump(admin, caches.prefix)


def test_a_store_compresses_to_less_than_half(make_cache: Any, admin: Any, caches: Any) -> None:
    sizes = []
    for options in ({}, {"compression": "zstd"}):
        cache = make_cache(**options)
        for line in GOLDEN.read_text().splitlines():
            cache.upsert_session(WorkflowSession.from_dict(json.loads(line)))
        sizes.append(len(dump(admin, caches.prefix)))
        for session in list(cache.iter_sessions()):
            cache.delete_session(session.session_id)

    assert sizes[1] < 0.45 * sizes[0]


# --- keys


def test_two_workers_with_different_first_keys_read_each_other(make_cache: Any) -> None:
    one = make_cache(encryption=Keyring({"new": NEW, "old": OLD}))
    other = make_cache(encryption=Keyring({"old": OLD, "new": NEW}))
    one.upsert_session(secret_session())
    other.upsert_run("s", a_run("r1", content=SECRET))

    for cache in (one, other):
        assert [run.content for run in cache.get_session("s").runs] == [SECRET, SECRET]


def test_a_key_that_is_missing_is_named_with_its_session(sealed: Any, make_cache: Any) -> None:
    cache = make_cache(encryption=Keyring({"old": OLD}))
    for call in (
        lambda: cache.get_session("s"),
        lambda: cache.get_sessions(["s"]),
        lambda: cache.get_run("s", "r0"),
        lambda: cache.get_runs("s"),
        lambda: cache.get_chat_history("s"),
        lambda: cache.update_session("s", lambda _: None),
    ):
        with pytest.raises(EncryptionError, match=r"'s'.*'new'") as caught:
            call()
        assert (caught.value.key_name, caught.value.session_id) == ("new", "s")


def test_a_keyring_may_ask_for_keys(make_cache: Any) -> None:
    asked = []

    def get_key(name: str) -> bytes:
        asked.append(name)
        return {"new": NEW}[name]

    cache = make_cache(encryption=Keyring(get_key, current="new"))
    cache.upsert_session(secret_session())
    assert cache.get_session("s").metadata == {"note": SECRET}
    assert asked == ["new"]


@pytest.mark.parametrize(
    "keys", [{}, {"new": b"short"}, {"new": "x" * 32}, {"": NEW}, {"a b": NEW}, {"x" * 33: NEW}, {5: NEW}]
)
def test_wrong_keys_are_refused(keys: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="encryption"):
        Keyring(keys)
    with pytest.raises(InvalidArgumentError, match="encryption"):
        SessionCache.from_url("memory://", encryption=keys)


def test_a_key_shows_nowhere(sealed: Any, make_cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keyring = Keyring({"new": NEW})
    bare = getattr(sealed, "wrapped", sealed)
    shown = [repr(keyring), str(keyring), repr(bare), repr(bare.settings), caplog.text]
    with pytest.raises(EncryptionError) as caught:
        make_cache(encryption=Keyring({"old": OLD})).get_session("s")
    shown += [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]

    for text in shown:
        assert "nnnn" not in text
        assert "oooo" not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(keyring)


def test_plain_values_are_refused_unless_they_are_accepted(make_cache: Any) -> None:
    make_cache().upsert_session(secret_session())

    strict = make_cache(encryption=Keyring({"new": NEW}))
    with pytest.raises(DamagedSessionError):
        strict.get_session("s")
    with pytest.raises(DamagedRunError):
        strict.get_run("s", "r0").content  # noqa: B018
    for moving in (
        make_cache(encryption=Keyring({"new": NEW}), accept_plain=True),
        make_cache(encryption=Keyring({"new": NEW}, accept_plain=True)),
    ):
        assert moving.get_session("s").metadata == {"note": SECRET}


def test_sealed_values_without_a_keyring_are_damaged_and_never_absent(sealed: Any, make_cache: Any) -> None:
    with pytest.raises(DamagedSessionError):
        make_cache().get_session("s")


# --- rotation


def test_keys_are_rotated_while_writers_go_on(sealed: Any, make_cache: Any, admin: Any, caches: Any) -> None:
    """Nothing else changes: neither the time of the last update, nor the revision."""
    for number in range(30):
        sealed.upsert_session(secret_session(f"s{number}"))
    sealed.upsert_runs("s0", [a_run(f"r{number}", at=number, content=SECRET) for number in range(700)])
    before = {each.session_id: (each, sealed.get_session(each.session_id)) for each in sealed.iter_sessions()}
    told: list[int] = []
    rotating = make_cache(encryption=Keyring({"old": OLD, "new": NEW}))
    assert rotating.rotate_keys(told.append) == len(before)
    assert rotating.rotate_keys(told.append) == 0

    only_old = make_cache(encryption=Keyring({"old": OLD}))
    for name, (summary, session) in before.items():
        found = only_old.get_session(name)
        assert found.to_dict() == session.to_dict()
        assert found.rev == session.rev
        assert summary.updated_at == found.updated_at
    assert only_old.verify().problems == []
    assert told[-1] >= len(before)


def test_a_store_is_moved_in(make_cache: Any, admin: Any, caches: Any) -> None:
    make_cache().upsert_session(secret_session())
    moving = make_cache(encryption=Keyring({"new": NEW}), accept_plain=True)
    assert moving.rotate_keys() == 1

    assert b"secret" not in dump(admin, caches.prefix)
    assert make_cache(encryption=Keyring({"new": NEW})).get_session("s").metadata == {"note": SECRET}
    with pytest.raises(InvalidArgumentError, match="Keyring"):
        make_cache().rotate_keys()


# --- tampering


def test_no_flipped_bit_and_no_cut_opens() -> None:
    keyring = Keyring({"new": NEW})
    sealed = keyring.seal(b"value", "s", b"head")
    assert keyring.open(sealed, "s", b"head") == b"value"

    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            assert _opened(keyring, bytes(changed)) in (BROKEN, "missing key")
        assert _opened(keyring, sealed[:place]) == BROKEN
    assert _opened(keyring, sealed + b"x") == BROKEN


def _opened(keyring: Keyring, stored: bytes) -> Any:
    try:
        return keyring.open(stored, "s", b"head")
    except EncryptionError:
        return "missing key"


@pytest.mark.parametrize("count", [20_000])
def test_no_mutation_opens(count: int) -> None:
    keyring = Keyring({"new": NEW})
    chance = random.Random(7)
    values = [keyring.seal(os.urandom(30), "s", b"head") for _ in range(10)]
    for _ in range(count):
        mutated = bytearray(chance.choice(values))
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        if bytes(mutated) not in values:
            assert _opened(keyring, bytes(mutated)) in (BROKEN, "missing key")


@pytest.mark.parametrize(
    ("session_id", "place"), [("t", b"head"), ("s", b"body"), ("s", b"field:metadata.x")]
)
def test_a_value_opens_at_its_own_place_alone(session_id: str, place: bytes) -> None:
    keyring = Keyring({"new": NEW})

    assert keyring.open(keyring.seal(b"value", "s", b"head"), session_id, place) == BROKEN


def test_values_that_were_swapped_are_damaged(sealed: Any, admin: Any, caches: Any) -> None:
    """Between fields, between sessions, and between runs."""
    sealed.upsert_session(secret_session("t"))
    sealed.upsert_runs("s", [a_run("r1", at=5, content="mine"), a_run("r2", at=6, content="other")])
    meta, runs = (f"{caches.prefix}:{{s}}:{part}" for part in ("meta", "runs"))
    fields = admin.hgetall(meta)
    for value in (
        fields[b"session_data.session_name"],
        admin.hget(f"{caches.prefix}:{{t}}:meta", "metadata.note"),
    ):
        admin.hset(meta, "metadata.note", value)
        with pytest.raises(DamagedSessionError):
            sealed.get_session("s")
    admin.hset(meta, "metadata.note", fields[b"metadata.note"])
    bodies = admin.zrangebyscore(runs, "-inf", -1, withscores=True)
    (one, low), (other, high), *_ = bodies
    admin.zrem(runs, one, other)
    admin.zadd(runs, {one: high, other: low})

    found = sealed.get_session("s")
    for run in found.runs[1:]:
        with pytest.raises(DamagedRunError):
            run.step_executor_runs  # noqa: B018


def test_a_bomb_is_refused_by_what_it_declares_and_by_what_it_is() -> None:
    module = zstd.module()
    huge = module.compress(bytes(100 * 2**20))
    assert len(huge) < 20_000
    lying = zstd.compress(b"x" * 600)[:-3]
    for frame in (huge, lying, zstd.compress(b"x" * 600) + huge, b"", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(codec.CodecError):
            codec.unpack(codec.ZSTD_FORMAT + frame)
    nested = codec.ZSTD_FORMAT + zstd.compress(codec.ZSTD_FORMAT + zstd.compress(codec.pack("x" * 600, "x")))
    with pytest.raises(codec.CodecError):
        codec.unpack(nested)


def test_small_values_and_those_that_gain_nothing_stay_as_they_are() -> None:
    noise = codec.pack(os.urandom(5000), "x")

    assert codec.compressed(codec.pack("x" * 100, "x"))[:1] == codec.FORMAT
    assert codec.compressed(noise) == noise
    assert codec.unpack(codec.compressed(codec.pack("x" * 5000, "x"))) == "x" * 5000


@pytest.mark.parametrize(
    "wrong", [{"compression": "gzip"}, {"encryption": {"new": NEW}}, {"accept_plain": True}]
)
def test_wrong_options_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"compression|encryption"):
        SessionCache.from_url("memory://", **wrong)


@pytest.mark.cluster
def test_it_works_on_a_cluster(cluster: RedisCluster) -> None:
    with SessionCache.from_url(cluster.url, **OPTIONS["both"]) as cache:
        for number in range(5):
            cache.upsert_session(secret_session(f"s{number}"))
        assert all(found and found.metadata == {"note": SECRET} for found in cache.get_sessions(["s0", "s4"]))
        assert cache.list_sessions(name=SECRET[:9]).sessions[0].session_name == SECRET
