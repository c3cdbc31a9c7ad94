"""Two versions beside each other on the same sessions: neither undoes what the other one stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sessioncache.storage import codec
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from support.subjects import Caches

FIELDS = {
    b"summary": codec.pack({"of": "a newer version"}, "v"),
    b"agent_data": codec.EMPTY_DICT,
    b"agent_data.model": codec.pack("m", "v"),
    b"tenant": b"plain text, in no packed form",
    b"checksum": b"\xff\x00",
}
"""What a newer version stores of a session, in the same layout."""


class NewerWriter:
    """Stands in for a newer version: it adds fields, dicts, and entries of heads and bodies."""

    def __init__(self, admin: redis.Redis, prefix: str) -> None:
        self._admin = admin
        self._meta, self._runs = (f"{prefix}:{{s}}:{key}" for key in ("meta", "runs"))

    def write(self) -> None:
        """Add everything, to the session and to each run."""
        self._admin.hset(self._meta, mapping=FIELDS)
        for member, score in self._admin.zrange(self._runs, 0, -1, withscores=True):
            if member[:1] != b"i":
                self._admin.zrem(self._runs, member)
                self._admin.zadd(self._runs, {_with_an_entry(member): score})

    def reads(self) -> tuple[dict[bytes, bytes], list[str], list[str]]:
        """Return its fields, and the runs that have its entry in the head, and in the body, by `content`."""
        fields = {name: value for name, value in self._admin.hgetall(self._meta).items() if name in FIELDS}
        heads = map(_unpacked, self._admin.zrange(self._runs, 1, "+inf", byscore=True))
        bodies = map(_unpacked, self._admin.zrange(self._runs, "-inf", -1, byscore=True))
        return (
            fields,
            sorted(head["run_id"] for head in heads if head.get("newer_head") == [1]),
            sorted(run_id for run_id, body in bodies if body.get("newer_body") == [2]),
        )


def _packed_at(member: bytes) -> int:
    return 1 if member[:1] == b"b" else member.index(codec.FORMAT)


def _unpacked(member: bytes) -> Any:
    return codec.unpack(member[_packed_at(member) :])


def _with_an_entry(member: bytes) -> bytes:
    start = _packed_at(member)
    if member[:1] == b"b":
        run_id, body = codec.unpack_pair(member[start:])
        return member[:start] + codec.pack_pair(run_id, body | {"newer_body": [2]}, "v")
    return member[:start] + codec.pack(codec.unpack_dict(member[start:]) | {"newer_head": [1]}, "v")


def _save_with_changes(cache: Any) -> None:
    session = cache.get_session("s")
    session.metadata["k"] = "of this version"
    session.session_data = {}
    session.runs[0].content = "changed head"
    session.runs[1].metadata = {"changed": "body"}
    cache.upsert_session(session)


def _save_again_and_again(cache: Any) -> None:
    session = cache.get_session("s")
    for number in range(3):
        session.metadata = {f"k{number}": 1}
        session.runs[0].content = f"changed {number}"
        cache.upsert_session(session)


def _update(cache: Any) -> None:
    cache.update_session("s", lambda session: session.metadata.update(k=1))
    cache.update_session_state("s", {"k": 1})
    cache.rename_session("s", "new name")
    cache.touch_session("s", 60)
    cache.upsert_run("s", a_run("r9", 9))
    cache.delete_run("s", "r9")


def _save_after_a_refresh(cache: Any) -> None:
    session = cache.get_session("s")
    cache.upsert_run("s", a_run("r9", 9))
    cache.refresh(session)
    session.metadata = {"k": 1}
    cache.upsert_session(session)
    cache.delete_run("s", "r9")


@pytest.mark.parametrize(
    "use",
    [_save_with_changes, _save_again_and_again, _update, _save_after_a_refresh],
    ids=lambda use: use.__name__,
)
def test_what_a_newer_version_stored_is_kept(
    cache: Any, caches: Caches, admin: redis.Redis, use: Callable[[Any], None]
) -> None:
    cache.upsert_session(a_session("s", 2, metadata={"m": 1}, session_data={"session_name": "n"}))
    newer = NewerWriter(admin, caches.prefix)
    newer.write()

    use(cache)

    assert newer.reads() == (FIELDS, ["r0", "r1"], ["r0", "r1"])


def test_both_versions_see_what_the_other_one_changed(cache: Any, caches: Caches, admin: redis.Redis) -> None:
    cache.upsert_session(a_session("s", 2))
    NewerWriter(admin, caches.prefix).write()
    admin.hset(f"{caches.prefix}:{{s}}:meta", "metadata.newer", codec.pack("theirs", "v"))

    session = cache.get_session("s")
    session.metadata["mine"] = 1
    cache.upsert_session(session)

    assert cache.get_session("s").metadata == {"mine": 1, "newer": "theirs"}
    assert session.runs[0].to_dict()["newer_head"] == [1]
    assert session.runs[0].to_dict()["newer_body"] == [2]
    assert cache.list_sessions().total == 1
