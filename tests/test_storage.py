"""What is stored: real sessions come back equal, the layout is as documented, both keys expire together."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from sessioncache import (
    DamagedSessionError,
    RunStatus,
    WorkflowRunOutput,
    WorkflowSession,
)
from sessioncache.storage import codec, keys, scripts
from strategies import workflow_sessions
from support.interleaving import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches, Subject

DATA = Path(__file__).parent / "data"
GOLDEN = [json.loads(line) for line in (DATA / "agno_sessions.jsonl").read_text().splitlines()]
SCALE = 2**20
ID_SCALE = 2.0**60
HOUR = 3_600_000


def run(number: int, **fields: Any) -> WorkflowRunOutput:
    """A completed run; runs of different numbers were made in different seconds."""
    return WorkflowRunOutput(
        **{
            "run_id": f"r{number}",
            "input": f"question {number}",
            "content": f"answer {number}",
            "step_results": [{"n": number}],
            "created_at": 1000 + number,
            "status": RunStatus.completed,
            **fields,
        }
    )


def session_of(*numbers: int, session_id: str = "s", **fields: Any) -> WorkflowSession:
    """A session with these runs."""
    return WorkflowSession(session_id, runs=[run(number) for number in numbers], **fields)


def ids(runs: list[WorkflowRunOutput] | None) -> list[str | None]:
    return [each.run_id for each in runs or ()]


def raw(admin: redis.Redis, caches: Caches, session_id: str = "s") -> tuple[dict[bytes, bytes], list[Any]]:
    """Both keys of a session, as they are."""
    meta, runs = keys.session_keys(caches.prefix, session_id)
    return admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)


def lifetimes(admin: redis.Redis, caches: Caches, session_id: str = "s") -> tuple[int, int]:
    """PTTL of both keys at one moment: the server is asked again until no millisecond passes meanwhile."""
    meta, runs = keys.session_keys(caches.prefix, session_id)
    for _ in range(1000):
        with admin.pipeline() as pipeline:
            before, other, after = pipeline.pttl(meta).pttl(runs).pttl(meta).execute()
        if before == after:
            return before, other
    raise AssertionError("the server is too slow to be asked within one millisecond")


# real sessions


def test_real_sessions_come_back_equal(cache: Any) -> None:
    for data in GOLDEN:
        session = WorkflowSession.from_dict(data)
        assert session is not None
        cache.upsert_session(session)

        loaded = cache.get_session(session.session_id)

        assert loaded == session
        assert loaded.to_dict() == session.to_dict()
        assert loaded.to_dict() == {
            **WorkflowSession.from_dict(data).to_dict(),
            "updated_at": loaded.updated_at,
        }


def test_real_sessions_saved_again_are_stored_as_before(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    for data in GOLDEN:
        cache.upsert_session(WorkflowSession.from_dict(data))
        loaded = cache.get_session(data["session_id"])
        fields, members = raw(admin, caches, data["session_id"])

        cache.upsert_session(loaded)

        fields_after, members_after = raw(admin, caches, data["session_id"])
        assert members_after == members
        changing = {b"rev": b"", b"updated_at": b""}
        assert fields_after | changing == fields | changing
        assert cache.get_session(data["session_id"]) == loaded


def test_real_runs_upserted_one_by_one_make_the_same_session(cache: Any) -> None:
    for data in GOLDEN[1:8]:
        session = WorkflowSession.from_dict(data)
        cache.upsert_session(WorkflowSession.from_dict({**data, "runs": None}))
        for each in session.runs:
            cache.upsert_run(session.session_id, each)

        loaded = cache.get_session(session.session_id)

        assert loaded.runs == session.runs


@settings(max_examples=15)
@given(session=workflow_sessions())
def test_any_session_comes_back_equal(cache: Any, session: WorkflowSession) -> None:
    cache.delete_session(session.session_id)
    cache.upsert_session(session)

    loaded = cache.get_session(session.session_id)

    # Runs come back in the order of their creation, as they are stored.
    session.runs = sorted(session.runs or (), key=lambda each: each.created_at)
    assert loaded == session
    assert loaded.to_dict() == session.to_dict()


def test_saving_sets_updated_at_to_the_clock_of_the_server(cache: Any, server: Subject) -> None:
    session = session_of(1, updated_at=5)
    client = server.client()
    before = client.time()[0]
    cache.upsert_session(session)
    after = client.time()[0]
    client.close()

    assert before <= session.updated_at <= after
    assert cache.get_session("s").updated_at == session.updated_at


# layout


def test_a_session_is_a_hash_and_a_sorted_set_under_one_tag(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1, session_id="a{b}:c"))

    stored = {key: admin.type(key) for key in admin.keys(f"{caches.prefix}:{{*".replace("[", "\\["))}
    assert stored == {
        f"{caches.prefix}:{{a%7Bb%7D%3Ac}}:meta".encode(): b"hash",
        f"{caches.prefix}:{{a%7Bb%7D%3Ac}}:runs".encode(): b"zset",
    }


def test_the_hash_holds_the_fields_as_documented(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(
        WorkflowSession(
            "s",
            "u",
            "w",
            "name",
            session_data={"session_name": "n", "session_state": {"k": [1]}},
            metadata={"m": None},
            created_at=7,
        )
    )

    fields, _ = raw(admin, caches)
    born = int(fields.pop(b"born"))
    assert int(fields.pop(b"rev")) > born
    assert int(fields.pop(b"updated_at")) > 0
    assert fields == {
        b"session_id": b"s",
        b"user_id": b"u",
        b"workflow_id": b"w",
        b"workflow_name": b"name",
        b"created_at": b"7",
        b"session_data": codec.EMPTY_DICT,
        b"session_data.session_name": codec.pack("n", "v"),
        b"session_state": codec.EMPTY_DICT,
        b"session_state.k": codec.pack([1], "v"),
        b"workflow_data": codec.EMPTY_DICT,
        b"metadata": codec.EMPTY_DICT,
        b"metadata.m": codec.pack(None, "v"),
        b"system_messages": codec.EMPTY_DICT,
        b"count": b"0",
        b"seq": b"0",
        b"schema": b"1",
    }


def test_a_run_is_three_members_at_scores_made_of_its_order(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(WorkflowSession("s"))
    cache.upsert_run("s", run(1))
    cache.upsert_run("s", run(0, queue_attempt=3))

    _, members = raw(admin, caches)

    orders = [1000 * SCALE + 1, 1001 * SCALE + 1]
    scores = [score for _, score in members]
    marks = [order / ID_SCALE for order in orders]
    assert scores == [-orders[1], -orders[0], *marks, *orders]
    assert [member[:1] for member, _ in members] == [b"b", b"b", b"i", b"i", b"h", b"h"]
    assert [member for member, _ in members[2:4]] == [b"ir0", b"ir1"]
    heads = [re.match(rb"h(\d*):(\d+):\x01", head) for head, _ in members[4:]]
    assert [head[1] for head in heads] == [b"3", b""]
    assert int(heads[0][2]) > int(heads[1][2]) > 0
    assert codec.unpack_pair(members[0][0][1:])[0] == "r1"


def test_the_heavy_parts_of_a_run_are_in_its_body_alone(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(WorkflowSession("s", runs=[run(1, events=["heavy"])]))

    _, ((body, _), _, (head, _)) = raw(admin, caches)
    assert b"heavy" in body
    assert b"heavy" not in head
    assert b"question 1" in head
    assert b"question 1" not in body


@pytest.mark.parametrize(
    "run_id",
    ["h1", "i", "b", "ir1", "h:1:", "\x00", "a b\n", "é🚀", "{", "-1", "0.5", "+inf", "(1", "x" * 512],
)
def test_a_run_of_a_hostile_id_is_stored_found_and_removed_as_any_other(cache: Any, run_id: str) -> None:
    cache.upsert_session(session_of(1, 3))
    cache.upsert_run("s", run(2, run_id=run_id))

    assert cache.get_run("s", run_id) == run(2, run_id=run_id)
    assert ids(cache.get_session("s").runs) == ["r1", run_id, "r3"]
    assert cache.delete_run("s", run_id)
    assert ids(cache.get_session("s").runs) == ["r1", "r3"]


@pytest.mark.parametrize(
    "session_id", ["{", "}", "{}", "a}:meta", ":", " ", "\n", "\x00", "%7B", "🚀", "x" * 512, "*"]
)
def test_a_session_of_a_hostile_id_is_its_own(cache: Any, session_id: str) -> None:
    cache.upsert_session(WorkflowSession("other", metadata={"who": "other"}))
    cache.upsert_session(session_of(1, session_id=session_id, metadata={"who": "me"}))

    assert cache.get_session(session_id).metadata == {"who": "me"}
    assert cache.get_session("other").metadata == {"who": "other"}
    assert cache.delete_session(session_id)
    assert cache.get_session("other") is not None


def test_caches_of_different_prefixes_see_nothing_of_each_other(make_cache: Any, caches: Caches) -> None:
    one, other = make_cache(), make_cache(prefix=f"{caches.prefix}-other")
    one.upsert_session(WorkflowSession("s"))

    assert other.get_session("s") is None
    assert not other.delete_session("s")
    assert one.get_session("s") is not None


def test_nothing_is_left_of_a_deleted_session(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(session_of(1, 2))

    assert cache.delete_session("s")
    assert raw(admin, caches) == ({}, [])


# time to live


def test_both_keys_expire_in_the_same_millisecond(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(session_of(1))

    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert HOUR - 10_000 < meta <= HOUR


WRITES: dict[str, Callable[[Any], object]] = {
    "upsert_session": lambda cache: cache.upsert_session(session_of(1, 2)),
    "upsert_run": lambda cache: cache.upsert_run("s", run(2)),
    "upsert_run again": lambda cache: cache.upsert_run("s", run(1)),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [run(2), run(3)]),
    "delete_run": lambda cache: cache.delete_run("s", "r0"),
    "rename_session": lambda cache: cache.rename_session("s", "new"),
    "touch_session": lambda cache: cache.touch_session("s"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_starts_the_lifetime_anew(
    make_cache: Any, caches: Caches, admin: redis.Redis, write: Callable[[Any], object]
) -> None:
    make_cache(ttl=60).upsert_session(session_of(0, 1))

    write(make_cache(ttl=timedelta(milliseconds=123_456)))

    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert 100_000 < meta <= 123_456


@pytest.mark.parametrize(
    "write",
    [w for n, w in WRITES.items() if n != "touch_session"],
    ids=[n for n in WRITES if n != "touch_session"],
)
def test_a_write_of_a_cache_without_a_ttl_leaves_the_lifetime_as_it_is(
    make_cache: Any, caches: Caches, admin: redis.Redis, write: Callable[[Any], object]
) -> None:
    make_cache(ttl=60).upsert_session(session_of(0, 1))

    write(make_cache(ttl=None))

    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert 50_000 < meta <= 60_000


@pytest.mark.parametrize("with_first_run", ["upsert_session", "upsert_run", "upsert_runs"])
def test_the_first_run_of_a_session_gets_the_lifetime_that_the_session_has(
    make_cache: Any, caches: Caches, admin: redis.Redis, with_first_run: str
) -> None:
    make_cache(ttl=60).upsert_session(WorkflowSession("s"))

    WRITES[with_first_run](make_cache(ttl=None))

    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert 50_000 < meta <= 60_000


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_cache_without_a_ttl_stores_for_ever(
    make_cache: Any, caches: Caches, admin: redis.Redis, write: Callable[[Any], object]
) -> None:
    cache = make_cache(ttl=None)
    cache.upsert_session(session_of(0, 1))
    write(cache)

    assert lifetimes(admin, caches) == (-1, -1)


def test_a_write_of_a_cache_with_a_ttl_ends_for_ever(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    make_cache(ttl=None).upsert_session(session_of(0, 1))
    make_cache(ttl=60).upsert_run("s", run(1))

    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert 50_000 < meta <= 60_000


@pytest.mark.parametrize(
    "ttl", [30, timedelta(seconds=30), timedelta(seconds=29, milliseconds=999.9)], ids=repr
)
def test_touching_sets_the_lifetime_given(
    cache: Any, caches: Caches, admin: redis.Redis, ttl: int | timedelta
) -> None:
    cache.upsert_session(session_of(1))

    assert cache.touch_session("s", ttl)
    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert 25_000 < meta <= 30_000


@pytest.mark.keys_without_ttl
def test_touching_with_none_lets_a_session_live_for_ever(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1))

    assert cache.touch_session("s", None)
    assert lifetimes(admin, caches) == (-1, -1)


def test_touching_changes_nothing_else(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(session_of(1))
    before = raw(admin, caches)

    cache.touch_session("s", 30)

    assert raw(admin, caches) == before


def test_touching_what_does_not_exist_is_false_and_stores_nothing(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    assert not cache.touch_session("s")
    assert not cache.touch_session("s", 30)
    assert raw(admin, caches) == ({}, [])


READS: dict[str, Callable[[Any], object]] = {
    "get_session": lambda cache: cache.get_session("s"),
    "get_session, metadata alone": lambda cache: cache.get_session("s", last_n_runs=0),
    "get_sessions": lambda cache: cache.get_sessions(["other", "s"]),
    "get_session of its user": lambda cache: cache.get_session("s", user_id="u"),
}
OTHER_READS: dict[str, Callable[[Any], object]] = {
    "get_run": lambda cache: cache.get_run("s", "r1"),
    "get_runs": lambda cache: cache.get_runs("s", last_n_runs=1),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
}


@pytest.mark.parametrize("read", [*READS.values(), *OTHER_READS.values()], ids=[*READS, *OTHER_READS])
def test_reading_leaves_the_lifetime_as_it_is(
    make_cache: Any, caches: Caches, admin: redis.Redis, read: Callable[[Any], object]
) -> None:
    make_cache(ttl=60).upsert_session(session_of(1, user_id="u"))

    assert read(make_cache(ttl=3600))
    assert max(lifetimes(admin, caches)) <= 60_000


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_starts_the_lifetime_anew_where_that_is_wanted(
    make_cache: Any, caches: Caches, admin: redis.Redis, read: Callable[[Any], object]
) -> None:
    make_cache(ttl=60).upsert_session(session_of(1, user_id="u"))

    assert read(make_cache(ttl=3600, touch_on_read=True))
    meta, runs = lifetimes(admin, caches)
    assert meta == runs
    assert HOUR - 10_000 < meta <= HOUR


@pytest.mark.parametrize("read", OTHER_READS.values(), ids=OTHER_READS)
def test_reading_runs_starts_the_lifetime_anew_where_that_is_wanted(
    make_cache: Any, caches: Caches, admin: redis.Redis, read: Callable[[Any], object]
) -> None:
    make_cache(ttl=60).upsert_session(session_of(1))

    assert read(make_cache(ttl=3600, touch_on_read=True))
    assert min(lifetimes(admin, caches)) > 60_000


def test_reading_as_another_user_does_not_keep_a_session_alive(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    make_cache(ttl=60).upsert_session(session_of(1, user_id="u"))

    assert make_cache(touch_on_read=True).get_session("s", user_id="v") is None
    assert max(lifetimes(admin, caches)) <= 60_000


@pytest.mark.parametrize("read", [*READS.values(), *OTHER_READS.values()], ids=[*READS, *OTHER_READS])
@pytest.mark.parametrize("longer", [3600, None], ids=["an hour", "for ever"])
@pytest.mark.keys_without_ttl
def test_reading_does_not_shorten_a_longer_life(
    make_cache: Any, caches: Caches, admin: redis.Redis, read: Callable[[Any], object], longer: int | None
) -> None:
    cache = make_cache(ttl=60, touch_on_read=True)
    cache.upsert_session(session_of(1, user_id="u"))
    cache.touch_session("s", longer)

    assert read(cache)

    assert all(left == -1 if longer is None else left > 60_000 for left in lifetimes(admin, caches))


def test_refreshing_keeps_a_session_alive_where_reads_do(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache = make_cache(ttl=3600, touch_on_read=True)
    cache.upsert_session(session_of(1))
    session = cache.get_session("s")
    make_cache().touch_session("s", 60)

    assert cache.refresh(session) is False
    assert min(lifetimes(admin, caches)) > 60_000


def test_a_first_run_in_the_last_millisecond_of_a_session_does_not_outlive_it(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    """The script is told that no millisecond is left, for no test can hit one."""
    make_cache().upsert_session(WorkflowSession("s"))
    cache = make_cache(ttl=None)
    with watched(cache) as trips:
        cache.upsert_run("s", run(0))
    cache.delete_run("s", "r0")
    (_evalsha, _, *arguments), *_ = trips.requests[-1]
    ending = b"""
        local real = redis
        local function call(name, ...) if name == 'PTTL' then return 0 end return real.call(name, ...) end
        local redis = {call = call, pcall = real.pcall}
    """
    admin.execute_command("EVAL", ending + scripts.UPSERT_RUNS, *arguments)

    assert -1 not in lifetimes(admin, caches)


def test_reading_what_does_not_exist_stores_nothing_where_reads_touch(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache = make_cache(touch_on_read=True)

    assert cache.get_session("s") is None
    assert cache.get_sessions(["s", "t"]) == [None, None]
    assert admin.keys(f"{caches.prefix}*") == []


def test_reading_with_a_cache_without_a_ttl_leaves_the_lifetime_as_it_is(
    make_cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    make_cache(ttl=60).upsert_session(session_of(1))

    make_cache(ttl=None, touch_on_read=True).get_session("s")

    assert min(lifetimes(admin, caches)) > 0


# what something else wrote


@pytest.mark.parametrize("which", [0, 1], ids=["meta", "runs"])
def test_a_key_of_another_type_is_damage_and_stays_as_it_is(
    cache: Any, caches: Caches, admin: redis.Redis, which: int
) -> None:
    cache.upsert_session(session_of(1))
    foreign = keys.session_keys(caches.prefix, "s")[which]
    admin.set(foreign, "foreign", ex=60)

    for call in (
        lambda: cache.get_session("s"),
        lambda: cache.get_session("s", last_n_runs=0),
        lambda: cache.get_sessions(["s"]),
        lambda: cache.get_run("s", "r1"),
        lambda: cache.get_runs("s"),
        lambda: cache.upsert_run("s", run(2)),
        lambda: cache.upsert_session(session_of(2)),
        lambda: cache.rename_session("s", "new"),
        lambda: cache.delete_run("s", "r1"),
    ):
        with pytest.raises(DamagedSessionError):
            call()
    assert admin.get(foreign) == b"foreign"


def spoil(
    admin: redis.Redis, caches: Caches, run_id: str, kind: bytes, how: Callable[[bytes], bytes]
) -> None:
    """Exchange the head or body of a run for what `how` makes of it, at its place."""
    _, runs = keys.session_keys(caches.prefix, "s")
    order = admin.zscore(runs, f"i{run_id}") * ID_SCALE
    score = order if kind == b"h" else -order
    (member,) = admin.zrange(runs, score, score, byscore=True)
    admin.zrem(runs, member)
    admin.zadd(runs, {how(member): score})


def test_a_damaged_run_is_repaired_by_storing_it_again(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1, 2, 3))
    spoil(admin, caches, "r2", b"h", lambda member: member[:-1])
    spoil(admin, caches, "r2", b"b", lambda member: member[:-1])

    cache.upsert_run("s", run(2, content="repaired"))

    assert [each.content for each in cache.get_session("s").runs] == ["answer 1", "repaired", "answer 3"]


def test_fields_of_a_later_version_survive_a_read_and_a_write(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    cache.upsert_session(session_of(1))
    spoil(admin, caches, "r1", b"h", _with_a_field)
    session = cache.get_session("s")

    session.runs[0].metadata = {"changed": True}
    cache.upsert_session(session)

    loaded = cache.get_session("s").runs[0]
    assert loaded.to_dict()["from_the_future"] == [1]
    assert loaded.metadata == {"changed": True}


def test_a_run_of_a_later_version_is_not_written_by_one_who_did_not_change_it(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    """Else it would undo what another worker made of the run meanwhile."""
    cache.upsert_session(session_of(1))
    spoil(admin, caches, "r1", b"h", _with_a_field)
    session = cache.get_session("s")
    cache.upsert_run("s", run(1, content="of another worker"))

    session.metadata["k"] = 1
    cache.upsert_session(session)

    assert cache.get_run("s", "r1").content == "of another worker"


def _with_a_field(head: bytes) -> bytes:
    start = head.index(codec.FORMAT)
    return head[:start] + codec.pack({**codec.unpack_dict(head[start:]), "from_the_future": [1]}, "v")
