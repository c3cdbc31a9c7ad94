"""What is stored of a session: it comes back equal, and its two keys are as documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import WorkflowSession
from sessioncache.storage import codec, keys
from support.samples import a_run, a_session, ids

if TYPE_CHECKING:
    import redis

    from support.subjects import Caches, Subject

DATA = Path(__file__).parent / "data" / "agno_sessions.jsonl"
REAL: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text().splitlines()]
SCALE = 2**20
ID_SCALE = 2.0**60


def raw(admin: redis.Redis, caches: Caches, session_id: str = "s") -> tuple[dict[bytes, bytes], list[Any]]:
    """Both keys of a session, as they are."""
    meta, runs = keys.session_keys(caches.prefix, session_id)
    return admin.hgetall(meta), admin.zrange(runs, 0, -1, withscores=True)


# what comes back


def test_real_sessions_come_back_equal(cache: Any) -> None:
    for data in REAL:
        session = WorkflowSession.from_dict(data)
        cache.upsert_session(session)

        loaded = cache.get_session(data["session_id"])

        assert loaded == session
        assert loaded.to_dict() == {
            **WorkflowSession.from_dict(data).to_dict(),  # type: ignore[union-attr]
            "updated_at": loaded.updated_at,
        }


def test_saved_again_they_are_as_before(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    for data in REAL:
        cache.upsert_session(WorkflowSession.from_dict(data))
        loaded = cache.get_session(data["session_id"])
        fields, members = raw(admin, caches, data["session_id"])

        cache.upsert_session(loaded)

        fields_after, members_after = raw(admin, caches, data["session_id"])
        changing = {b"rev": b"", b"updated_at": b"", b"changes": b""}
        assert members_after == members
        assert fields_after | changing == fields | changing
        assert cache.get_session(data["session_id"]) == loaded


def test_real_runs_are_the_same_one_by_one(cache: Any) -> None:
    for data in REAL[1:8]:
        runs = WorkflowSession.from_dict(data).runs  # type: ignore[union-attr]
        cache.upsert_session(WorkflowSession.from_dict({**data, "runs": None}))
        for run in runs:
            cache.upsert_run(data["session_id"], run)

        assert cache.get_session(data["session_id"]).runs == runs


def test_updated_at_is_the_servers_clock(cache: Any, server: Subject, admin: redis.Redis) -> None:
    session = a_session("s", 1, updated_at=5)
    before = admin.time()[0]
    cache.upsert_session(session)

    assert before <= session.updated_at <= admin.time()[0]
    assert cache.get_session("s").updated_at == session.updated_at


@pytest.mark.parametrize(
    "run_id",
    ["h1", "i", "b", "ir1", "h:1:", "\x00", "a b\n", "é🚀", "{", "-1", "0.5", "+inf", "(1", "x" * 512],
)
def test_a_run_may_have_a_hostile_id(cache: Any, run_id: str) -> None:
    cache.upsert_session(a_session("s", [a_run("r1", 1), a_run("r3", 3)]))
    cache.upsert_run("s", a_run(run_id, 2))

    assert cache.get_run("s", run_id) == a_run(run_id, 2)
    assert ids(cache.get_session("s").runs) == ["r1", run_id, "r3"]
    assert cache.delete_run("s", run_id)
    assert ids(cache.get_session("s").runs) == ["r1", "r3"]


# the two keys


def test_a_session_is_a_hash_and_a_sorted_set(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("a{b}:c", 1))

    assert {key: admin.type(key) for key in admin.keys(f"{caches.prefix}:{{*")} == {
        f"{caches.prefix}:{{a%7Bb%7D%3Ac}}:meta".encode(): b"hash",
        f"{caches.prefix}:{{a%7Bb%7D%3Ac}}:runs".encode(): b"zset",
    }


def test_a_deleted_session_leaves_nothing(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", 2))

    assert cache.delete_session("s")
    assert raw(admin, caches) == ({}, [])


def test_the_fields_are_as_documented(cache: Any, caches: Caches, admin: redis.Redis) -> None:
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
    rev = int(fields.pop(b"rev"))
    assert rev > born
    assert fields.pop(b"changes") == b";%d:;%d" % (born, rev)
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


def test_a_run_is_three_members(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    """Their scores are made of the run's order."""
    cache.upsert_session(WorkflowSession("s"))
    cache.upsert_run("s", a_run("r1", 1001))
    cache.upsert_run("s", a_run("r0", 1000, queue_attempt=3))

    _, members = raw(admin, caches)

    orders = [1000 * SCALE + 1, 1001 * SCALE + 1]
    marks = [order / ID_SCALE for order in orders]
    assert [score for _, score in members] == [-orders[1], -orders[0], *marks, *orders]
    assert [member[:1] for member, _ in members] == [b"b", b"b", b"i", b"i", b"h", b"h"]
    assert [member for member, _ in members[2:4]] == [b"ir0", b"ir1"]
    heads = [re.match(rb"h(\d*):(\d+):\x01", head) for head, _ in members[4:]]
    assert [head[1] for head in heads] == [b"3", b""]  # type: ignore[index]
    assert int(heads[0][2]) > int(heads[1][2]) > 0  # type: ignore[index]
    assert codec.unpack_pair(members[0][0][1:])[0] == "r1"


def test_the_heavy_parts_are_in_the_body(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", [a_run("r1", events=["heavy"])]))

    _, ((body, _), _, (head, _)) = raw(admin, caches)
    assert (b"heavy" in body, b"heavy" in head) == (True, False)
    assert (b"in r1" in body, b"in r1" in head) == (False, True)
