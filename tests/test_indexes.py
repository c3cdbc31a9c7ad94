"""Indexes are hints: what something else wrote into them, or in place of a session, never fails a call.

And what this version cannot read stays listed, for those that can.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import AsyncSessionCache, DamagedSessionError, SessionCache, SessionVersionError
from support.interleaving import another_worker, watched
from support.samples import a_run, a_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from support.subjects import Caches


def _lease(cache: Any) -> None:
    with cache.lease("s") as lease:
        lease.upsert_run(a_run("r0"))


CALLS: dict[str, Callable[[Any], Any]] = {
    "delete_run": lambda cache: cache.delete_run("s", "r0"),
    "delete_session": lambda cache: cache.delete_session("s"),
    "get_chat_history": lambda cache: cache.get_chat_history("s"),
    "get_messages": lambda cache: cache.get_messages("s", agent_id="A"),
    "get_run": lambda cache: cache.get_run("s", "r0"),
    "get_runs": lambda cache: cache.get_runs("s"),
    "get_session": lambda cache: cache.get_session("s"),
    "get_sessions": lambda cache: cache.get_sessions(["s"]),
    "get_ttls": lambda cache: cache.get_ttls(["s"]),
    "get_workflow_history": lambda cache: cache.get_workflow_history("s"),
    "get_workflow_history_context": lambda cache: cache.get_workflow_history_context("s"),
    "iter_runs": lambda cache: list(cache.iter_runs("s")),
    "iter_sessions": lambda cache: [list(cache.iter_sessions(**by)) for by in BY],
    "lease": _lease,
    "list_sessions": lambda cache: [cache.list_sessions(**by) for by in BY],
    "rebuild_indexes": lambda cache: cache.rebuild_indexes(),
    "refresh": lambda cache: cache.refresh(cache.loaded),
    "rename_session": lambda cache: cache.rename_session("s", "new"),
    "rotate_keys": lambda _: None,
    "stats": lambda cache: cache.stats(),
    "touch_session": lambda cache: cache.touch_session("s"),
    "update_session": lambda cache: cache.update_session("s", lambda session: session.metadata.update(k=1)),
    "update_session_state": lambda cache: cache.update_session_state("s", {"k": 1}),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("r0")),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run("r0")]),
    "upsert_session": lambda cache: cache.upsert_session(a_session("s", user_id="u")),
    "verify": lambda cache: cache.verify(repair=True),
}
"""One call of every method on session `s`, which `cache.loaded` is."""

OF_THE_CONNECTION = {"aclose", "close", "for_user", "from_url", "near_cache_info", "ping"}
OF_MANY = {"get_ttls", "iter_sessions", "list_sessions", "rebuild_indexes", "rotate_keys", "stats", "verify"}
BY: tuple[dict[str, Any], ...] = ({}, {"user_id": "u"}, {"workflow_id": "w"})
INDEXES = ("index:all", "index:user:u", "index:workflow:w")
FOREIGN = (b"\xff\xfe", b"", b"x" * 600, b"\xed\xa0\x80", b"unknown")
EXPIRED = 40
WITHOUT_S = [["newer", "older"]] * 3
WITH_S = [["newer", "older", "s"]] * 3


@pytest.mark.parametrize("client", [SessionCache, AsyncSessionCache])
def test_every_method_is_called_here(client: type) -> None:
    methods = {name for name, _ in inspect.getmembers(client, callable) if not name.startswith("_")}

    assert methods - OF_THE_CONNECTION == CALLS.keys()


class Store:
    """Session `s` of user `u` and workflow `w` and its neighbours, as the server has them."""

    def __init__(self, cache: Any, admin: redis.Redis, prefix: str) -> None:
        self.cache, self.admin, self.prefix = cache, admin, prefix
        for name in ("older", "s", "newer"):
            cache.upsert_session(a_session(name, runs=1, user_id="u", workflow_id="w"))
        self.meta, self.runs, *self.indexes = map(self.key, ("{s}:meta", "{s}:runs", *INDEXES))

    def key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def dump(self) -> dict[bytes, Any]:
        """Return every byte that is stored."""
        return {key: self.admin.dump(key) for key in self.admin.scan_iter(self.key("*"), count=1000)}

    def replace(self, *keys: str) -> None:
        """Have keys of another type in place of ours."""
        self.admin.delete(*keys)
        for key in keys:
            self.admin.set(key, "foreign", ex=60)

    def expire_some(self) -> None:
        """List sessions that expired, before and behind all others."""
        for key in self.indexes:
            entries = {f"gone{number}": number + 1 for number in range(EXPIRED)}
            latest = {f"gone{number}": 2**40 + number for number in range(EXPIRED, 2 * EXPIRED)}
            self.admin.zadd(key, entries | latest)

    def listed(self) -> list[list[str]]:
        """Return which sessions each index lists to a reader, in order of their names."""
        pages = [self.cache.list_sessions(**by) for by in BY]
        return [sorted(session.session_id for session in page.sessions) for page in pages]


@pytest.fixture
def store(cache: Any, admin: redis.Redis, caches: Caches) -> Store:
    return Store(cache, admin, caches.prefix)


@contextlib.contextmanager
def limited(admin: redis.Redis, option: str) -> Iterator[None]:
    """Limit what the server can do."""
    admin.config_set(option, 1)
    try:
        yield
    finally:
        admin.config_set(option, 0)


real_server = pytest.mark.parametrize("server", ["redis"], indirect=True)


# --- foreign members


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_foreign_members_fail_no_call(store: Store, call: Callable[[Any], Any]) -> None:
    store.cache.loaded = store.cache.get_session("s")
    for key in store.indexes:
        store.admin.zadd(key, {member: 2**40 + i for i, member in enumerate(FOREIGN)})
        store.admin.zadd(key, {b"\xfe": "-inf", b"\xfd": "inf"})

    call(store.cache)

    assert all({"older", "newer"} <= set(names) for names in store.listed())
    for key in store.indexes:
        assert set(store.admin.zrange(key, 0, -1)) <= {b"older", b"s", b"newer"}


# --- another version


def test_a_session_of_another_version_is_never_lost(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """However often others list, sweep and rebuild meanwhile."""
    caplog.set_level(logging.INFO, "sessioncache")
    store.admin.hset(store.meta, "schema", "99")

    for _ in range(10):
        store.expire_some()
        assert store.listed() == WITHOUT_S
        assert len(store.cache.list_sessions(name="", offset=1).sessions) == 1
    assert any("'s'" in line and "another version" in line for line in caplog.messages)
    assert store.cache.list_sessions().total == 3
    store.admin.delete(*store.indexes)
    assert store.cache.rebuild_indexes() == 3

    store.admin.hset(store.meta, "schema", "1")
    assert store.listed() == WITH_S


@pytest.mark.parametrize("lost", ["updated_at", "session_id"])
def test_one_whose_place_cannot_be_read_keeps_it(store: Store, lost: str) -> None:
    store.admin.hset(store.meta, "schema", "99")
    store.admin.hdel(store.meta, lost)

    assert store.cache.rebuild_indexes() == 2
    assert store.listed() == WITHOUT_S
    assert None not in [store.admin.zscore(key, "s") for key in store.indexes]


def test_one_that_a_newer_version_makes_between_look_and_removal_stays(store: Store) -> None:
    stored, score = store.admin.hgetall(store.meta), store.admin.zscore(store.indexes[0], "s")
    store.admin.delete(store.meta, store.runs)

    def make_anew(trip: int) -> None:
        if trip == 2:
            store.admin.hset(store.meta, mapping={**stored, b"schema": b"99"})
            store.admin.expire(store.meta, 60)

    with watched(store.cache, make_anew):
        store.cache.list_sessions()

    assert store.admin.zscore(store.indexes[0], "s") == score


@pytest.mark.parametrize("touch_on_read", [False, True])
@pytest.mark.parametrize("name", sorted(CALLS.keys() - OF_MANY))
def test_no_call_reads_or_changes_another_version(
    store: Store, make_cache: Any, name: str, touch_on_read: bool
) -> None:
    cache = make_cache(touch_on_read=touch_on_read)
    cache.loaded = cache.get_session("s")
    store.admin.hset(store.meta, mapping={"schema": "99", "rev": "7"})
    before = store.dump()

    with pytest.raises(SessionVersionError, match="version") as caught:
        CALLS[name](cache)

    assert caught.value.session_id == "s"
    assert store.dump() == before


# --- keys of another type


@pytest.mark.parametrize("part", ["meta", "runs"])
def test_a_key_of_another_type_hides_its_session_alone(store: Store, part: str) -> None:
    store.replace(store.key(f"{{s}}:{part}"))

    for _ in range(2):
        assert store.listed() == WITHOUT_S
        assert len(store.cache.list_sessions(offset=1).sessions) == 1
    with pytest.raises(DamagedSessionError):
        store.cache.get_sessions(["newer", "s"])


@real_server
def test_so_it_does_on_a_full_server(store: Store) -> None:
    """There reads go in scripts, for a full server refuses MULTI."""
    store.replace(store.runs)

    with limited(store.admin, "maxmemory"):
        assert store.listed() == WITHOUT_S


WRITES = [name for name in CALLS if name.startswith(("upsert", "update", "rename", "touch", "delete"))]


@pytest.mark.parametrize("write", WRITES)
def test_an_index_of_another_type_fails_listings_alone(store: Store, write: str) -> None:
    """Until it is rebuilt."""
    store.replace(*store.indexes)

    CALLS[write](store.cache)
    for by, name in zip(BY, INDEXES, strict=True):
        with pytest.raises(DamagedSessionError, match=rf"{name}.*rebuild_indexes"):
            store.cache.list_sessions(**by)
    store.cache.rebuild_indexes()

    assert store.listed() == (WITHOUT_S if write == "delete_session" else WITH_S)


def test_rebuilding_replaces_indexes_of_nobody_and_no_other_key(
    make_cache: Any, admin: redis.Redis, caches: Caches
) -> None:
    """Other caches may have a prefix that looks like the name of an index."""
    cache = make_cache()
    others = [make_cache(prefix=f"{caches.prefix}:{more}") for more in ("index", "index:user", "i", "{s}")]
    for other in others:
        other.upsert_session(a_session("s", user_id="u"))
    mine = [f"{caches.prefix}:index:{name}" for name in ("all", "user:nobody", "workflow:%C3%A4")]
    foreign = [f"{caches.prefix}:{name}" for name in ("index:", "index:any", "index:user:", "index:user:a:b")]
    for key in (*mine, *foreign):
        admin.set(key, "foreign", ex=60)

    assert cache.rebuild_indexes() == 0

    assert (admin.exists(*mine), admin.exists(*foreign)) == (0, len(foreign))
    assert [len(other.list_sessions(user_id="u").sessions) for other in others] == [1, 1, 1, 1]


# --- damaged sessions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("updated_at", value) for value in (b"", b"x", b"\xff", b"nan", b"9" * 400, b"9" * 5000, None)),
        *((owner, b"\xff") for owner in ("user_id", "workflow_id")),
        *(("session_id", value) for value in (b"", b"x", b"\xff", b"x" * 600, None)),
    ],
)
def test_one_malformed_session_does_not_end_a_rebuild(
    store: Store, field: str, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    store.admin.hdel(store.meta, field) if value is None else store.admin.hset(store.meta, field, value)
    store.admin.delete(*store.indexes)
    store.admin.set(store.key("{other}:meta"), "of another type", ex=60)
    store.admin.set(store.key("{").encode() + b"\xff}:meta", "no text", ex=60)

    assert store.cache.rebuild_indexes() == 2

    assert store.listed() == WITHOUT_S
    assert sum("in no index" in line for line in caplog.messages) == 3


@pytest.mark.parametrize("field", ["created_at", "user_id", "workflow_name"])
def test_a_session_that_does_not_decode_stays_listed(store: Store, field: str) -> None:
    """It is left out of pages; `get_session` raises an error for it, and it does not count as gone."""
    whole = store.admin.hgetall(store.meta)
    store.admin.hset(store.meta, field, b"\xff")

    for _ in range(2):
        assert store.listed() == WITHOUT_S
    store.admin.hdel(store.meta, field)
    store.admin.hset(store.meta, mapping=whole)

    assert store.listed() == WITH_S


# --- what is gone


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("by", BY, ids=str)
def test_an_offset_does_not_count_what_is_gone(store: Store, by: dict[str, Any], newest_first: bool) -> None:
    for number in range(30):
        store.cache.upsert_session(a_session(f"s{number:02}", user_id="u", workflow_id="w"))
    store.expire_some()
    asked = {**by, "limit": 7, "offset": 20, "newest_first": newest_first}

    pages = [store.cache.list_sessions(**asked) for _ in range(3)]

    everything = store.cache.list_sessions(**by, newest_first=newest_first, limit=100)
    assert [page.sessions for page in pages] == [everything.sessions[20:27]] * 3
    assert len(everything.sessions) == everything.total == 33


def test_a_session_that_moves_between_two_reads_is_listed_once(
    cache: Any, caches: Caches, admin: redis.Redis
) -> None:
    writer = another_worker(caches)
    for number in range(60):
        writer.upsert_session(a_session(f"s{number:02}"))
        if number >= 40:
            writer.delete_session(f"s{number}")
        admin.zadd(f"{caches.prefix}:index:all", {f"s{number:02}": number})

    def move(trip: int) -> None:
        if trip == 2:
            writer.upsert_session(a_session("new"))

    with watched(cache, move):
        found = [session.session_id for session in cache.list_sessions(limit=20).sessions]

    assert found == [f"s{number}" for number in range(39, 19, -1)]


@real_server
def test_a_listing_does_not_wait_for_a_server_that_takes_no_writes(store: Store) -> None:
    store.expire_some()

    with limited(store.admin, "min-replicas-to-write"), watched(store.cache) as trips:
        assert store.listed() == WITH_S

    assert trips.names().count("EVALSHA") == 3
