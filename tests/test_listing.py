"""Listings: pages of sessions by user, workflow, name and time; and indexes that follow what is alive."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessioncache import SessionCache, SessionPage, SessionSummary
from sessioncache.errors import InvalidArgumentError
from support.interleaving import another_worker, watched
from support.samples import a_run, a_session
from support.waiting import wait_for
from support.wire import CountingProxy

if TYPE_CHECKING:
    from support.servers import RedisServer
    from support.subjects import Caches

NOW = 1_000_000_000
"""Earlier than any time of the server's clock, later than those of `seed`."""

KINDS = pytest.mark.parametrize("kind", [(), ("user", "u"), ("workflow", "w")], ids=repr)
BY: tuple[dict[str, Any], ...] = ({}, {"user_id": "u"}, {"workflow_id": "w"})


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.fixture
def index(caches: Caches) -> Callable[..., str]:
    """Name the key of an index: `index()`, `index("user", "u")`."""
    return lambda *names: ":".join([caches.prefix, "index", *(names or ("all",))])


@pytest.fixture
def seed(writer: Any, admin: Any, caches: Caches, index: Any) -> Callable[..., None]:
    """Store a session as it was last updated at a time: `seed("s", 17, user_id="u")`."""

    def store(session_id: str, at: int, **fields: Any) -> None:
        writer.upsert_session(a_session(session_id, **fields))
        admin.hset(f"{caches.prefix}:{{{session_id}}}:meta", "updated_at", at)
        names = [("user", fields.get("user_id")), ("workflow", fields.get("workflow_id"))]
        for key in [index(), *(index(kind, name) for kind, name in names if name)]:
            admin.zadd(key, {session_id: at})

    return store


@pytest.fixture
def lose(admin: Any, caches: Caches) -> Callable[..., None]:
    """Take keys of a session away, as their end or an eviction does: `lose("s", "meta")`."""
    return lambda session_id, *parts: admin.delete(
        *(f"{caches.prefix}:{{{session_id}}}:{part}" for part in parts or ("meta", "runs"))
    )


def names(page: SessionPage) -> list[str]:
    """The ids of a page, in order."""
    return [session.session_id for session in page.sessions]


# --- which sessions, and in which order


def test_a_summary_says_what_is_stored_but_no_run(cache: Any) -> None:
    data = {"session_name": "Name"}
    session = a_session("s", 3, user_id="u", workflow_id="w", workflow_name="W", session_data=data)
    cache.upsert_session(session)

    with watched(cache) as trips:
        page = cache.list_sessions()

    summary = SessionSummary("s", "u", "w", "W", "Name", 1, session.updated_at, 3)
    assert page == SessionPage([summary], 1)
    assert {"ZRANGE", "ZCARD", "HMGET"} <= set(trips.names()) <= {"ZRANGE", "ZCARD", "HMGET", "ZRANDMEMBER"}
    assert len(trips) == 2


@pytest.fixture
def seven(seed: Any) -> None:
    """Seven sessions, last updated in the order of their ids and created at 100, 101, ..."""
    fields: dict[str, dict[str, Any]] = {
        "s0": {},
        "s1": {"user_id": "u", "name": "Quarterly REPORT"},
        "s2": {"workflow_id": "w", "name": "report"},
        "s3": {"user_id": "u", "workflow_id": "w", "name": "Straße"},
        "s4": {"user_id": "x", "workflow_id": "w", "name": 5},
        "s5": {"name": ""},
        "s6": {"name": None},
    }
    for name in random.Random(7).sample(list(fields), k=7):
        of_session = fields[name]
        data = {"session_name": of_session.pop("name")} if "name" in of_session else {}
        number = int(name[1])
        seed(name, number, created_at=100 + number, session_data=data, **of_session)


@pytest.mark.parametrize(
    ("by", "found", "total"),
    [
        ({}, "6543210", 7),
        ({"newest_first": False}, "0123456", 7),
        ({"user_id": "u"}, "31", 2),
        ({"user_id": "w"}, "", 0),
        ({"workflow_id": "w"}, "432", 3),
        ({"workflow_id": "w", "limit": 1, "offset": 1}, "3", 3),
        ({"user_id": "u", "workflow_id": "w"}, "3", None),
        ({"name": "ePoRt"}, "21", None),
        ({"name": "STRASSE"}, "3", None),
        ({"name": "absent"}, "", None),
        ({"name": ""}, "6543210", None),
        ({"created_after": 105}, "65", None),
        ({"created_before": 101}, "10", None),
        ({"created_after": 102, "created_before": 102}, "2", None),
        ({"created_after": 104, "created_before": 100}, "", None),
        ({"offset": 9}, "", 7),
        ({"limit": 0}, "", 7),
        ({"offset": 2**50, "name": ""}, "", None),
    ],
    ids=str,
)
@pytest.mark.usefixtures("seven")
def test_sessions_are_found(cache: Any, by: dict[str, Any], found: str, total: int | None) -> None:
    """By what they have; the total is None if every session would have to be looked at."""
    page = cache.list_sessions(**by)

    assert names(page) == [f"s{number}" for number in found]
    assert page.total == total


@pytest.mark.parametrize("odd", ["all", "user:u", "*", "ü/ {x}", "a:b", "%41"])
def test_odd_ids_are_listed_under_themselves(cache: Any, admin: Any, index: Any, odd: str) -> None:
    cache.upsert_session(a_session(odd, user_id=odd, workflow_id=odd))
    cache.upsert_session(a_session("s", user_id="A", workflow_id="u"))
    cache.upsert_session(a_session("nobodys"))

    assert names(cache.list_sessions(user_id=odd)) == names(cache.list_sessions(workflow_id=odd)) == [odd]
    assert len(admin.keys(index("*"))) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        *({"limit": limit} for limit in (-1, 10_001, 2.5)),
        *({"offset": offset} for offset in (-1, None)),
        *({"user_id": ""}, {"workflow_id": 5}, {"name": 5}, {"created_after": "now"}),
        *({"created_before": 1_700_000_000_000}, {"created_after": True}),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(cache: Any, wrong: dict[str, Any]) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        cache.list_sessions(**wrong)

    assert len(trips) == 0


# --- pages


@pytest.mark.parametrize("limit", [1, 7, 20])
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("by", [{}, {"user_id": "u"}, {"name": "even"}], ids=str)
def test_pages_tile_exactly(
    cache: Any, seed: Any, lose: Any, by: dict[str, Any], newest_first: bool, limit: int
) -> None:
    """While sessions that are gone lie between, and several were updated in one second."""
    gone = {*range(55, 40, -1), 30, 20, 19, *range(5)}
    for number in range(60):
        name = "odd" if number % 2 else "even"
        seed(f"s{number:02}", number // 3, user_id="u", session_data={"session_name": name})
    for number in gone:
        lose(f"s{number:02}")

    options = {**by, "newest_first": newest_first, "limit": limit}
    pages = [names(cache.list_sessions(**options, offset=offset)) for offset in range(0, 60, limit)]

    alive = [n for n in range(60) if n not in gone and ("name" not in by or n % 2 == 0)]
    expected = [f"s{number:02}" for number in (reversed(alive) if newest_first else alive)]
    assert pages == [expected[start : start + limit] for start in range(0, 60, limit)]


@given(st.data())
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_any_page_is_a_slice_of_what_is_alive(
    cache: Any, admin: Any, seed: Any, lose: Any, data: st.DataObject
) -> None:
    admin.flushall()
    updated = data.draw(st.lists(st.integers(1, 9), max_size=40), label="update times")
    gone = data.draw(st.sets(st.integers(0, 39)), label="gone")
    for number, at in enumerate(updated):
        seed(f"s{number}", at)
    for number in gone:
        lose(f"s{number}")
    newest_first = data.draw(st.booleans(), label="newest_first")
    limit = data.draw(st.integers(1, 12), label="limit")
    offset = data.draw(st.integers(0, 40), label="offset")

    page = cache.list_sessions(limit=limit, offset=offset, newest_first=newest_first)

    alive = [(at, f"s{number}") for number, at in enumerate(updated) if number not in gone]
    expected = [name for _, name in sorted(alive, reverse=newest_first)]
    assert names(page) == expected[offset : offset + limit]


# --- what is gone


@pytest.mark.parametrize("lost", [(), ("meta",), ("runs",)], ids=["both", "meta", "runs"])
def test_what_is_gone_leaves_page_and_index(
    cache: Any, seed: Any, admin: Any, lose: Any, index: Any, lost: tuple[str, ...]
) -> None:
    for number in range(40):
        seed(f"s{number:02}", number, runs=2)
    for number in range(10, 40):
        lose(f"s{number}", *lost)

    page = cache.list_sessions(limit=5)

    assert names(page) == ["s09", "s08", "s07", "s06", "s05"]
    assert page.total == 10
    assert admin.zcard(index()) == 10


def test_a_deleted_session_leaves_every_index(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    cache.delete_session("s")

    assert [cache.list_sessions(**by) for by in BY] == [SessionPage([], 0)] * 3
    assert admin.keys(index("*")) == []


def test_an_expired_session_is_listed_nowhere(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("short"))
    cache.upsert_session(a_session("long"))
    cache.touch_session("short", 1)

    wait_for(lambda: cache.get_session("short") is None, "the session to expire")

    assert names(cache.list_sessions()) == ["long"]
    assert admin.zrange(index(), 0, -1) == [b"long"]


def test_a_session_of_another_owner_leaves_an_index(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("s", user_id="u", workflow_id="old"))
    admin.zadd(index("user", "other"), {"s": 5})
    session = cache.get_session("s")
    session.workflow_id = "w"
    cache.upsert_session(session)

    assert cache.list_sessions(user_id="other") == SessionPage([], 0)
    assert cache.list_sessions(workflow_id="old") == SessionPage([], 0)
    assert [names(cache.list_sessions(**by)) for by in BY] == [["s"]] * 3
    assert admin.exists(index("user", "other"), index("workflow", "old")) == 0


@pytest.mark.parametrize("same_second", [True, False])
def test_a_session_made_anew_between_look_and_removal_stays(
    cache: Any, writer: Any, admin: Any, seed: Any, lose: Any, index: Any, same_second: bool
) -> None:
    seed("s", 5, user_id="u")
    seed("other", 6, user_id="u")
    lose("s")

    def make_anew(trip: int) -> None:
        if trip == 2 and same_second:
            seed("s", 5, user_id="u")
        elif trip == 2:
            writer.upsert_session(a_session("s", user_id="u"))

    with watched(cache, make_anew):
        cache.list_sessions(user_id="u")

    assert sorted(names(cache.list_sessions(user_id="u"))) == ["other", "s"]
    assert (admin.zscore(index("user", "u"), "s") > NOW) == (not same_second)


def test_all_that_is_gone_leaves_the_index_in_the_end(
    cache: Any, seed: Any, admin: Any, lose: Any, index: Any
) -> None:
    """Also if sessions that live for ever are older than all that went, and others are newer."""
    for number in range(120):
        seed(f"s{number}", number)
    for number in range(30, 90):
        lose(f"s{number}")

    def lists_what_is_alive() -> bool:
        cache.list_sessions(limit=5)
        return bool(admin.zcard(index()) == 60)

    wait_for(lists_what_is_alive, "the index to hold what is alive", every=0)


def test_an_index_does_not_outgrow_what_is_alive(
    cache: Any, seed: Any, admin: Any, lose: Any, index: Any
) -> None:
    for number in range(300):
        seed(f"s{number:03}", number)
        if number >= 10:
            lose(f"s{number - 10:03}")
        if number % 10 == 9:
            cache.list_sessions(limit=2)

    assert admin.zcard(index()) <= 10 + 10 + 10


# --- what keeps or moves a place

MOVING: dict[str, Callable[[Any], Any]] = {
    "rename": lambda cache: cache.rename_session("s", "new"),
    "state": lambda cache: cache.update_session_state("s", {"k": 1}),
    "run": lambda cache: cache.upsert_run("s", a_run("r")),
    "save": lambda cache: cache.upsert_session(cache.get_session("s")),
    "update": lambda cache: cache.update_session("s", lambda _: None),
    "delete run": lambda cache: cache.delete_run("s", "r0"),
}
KEEPING: dict[str, Callable[[Any], Any]] = {
    "touch": lambda cache: cache.touch_session("s"),
    "touch for a time": lambda cache: cache.touch_session("s", 500),
    "get": lambda cache: cache.get_session("s"),
    "history": lambda cache: cache.get_chat_history("s"),
    "list": lambda cache: cache.list_sessions(),
    "delete no run": lambda cache: cache.delete_run("s", "none"),
}


@pytest.mark.parametrize("touch_on_read", [False, True])
@pytest.mark.parametrize("action", MOVING | KEEPING)
def test_a_write_moves_a_session_to_the_front(
    make_cache: Any, seed: Any, action: str, touch_on_read: bool
) -> None:
    """A read or a touch does not."""
    cache = make_cache(touch_on_read=touch_on_read)
    seed("s", 1, user_id="u", workflow_id="w", runs=1)
    seed("later", 5, user_id="u", workflow_id="w")

    (MOVING | KEEPING)[action](cache)

    pages = [cache.list_sessions(**by) for by in BY]
    assert [names(page) for page in pages] == [["s", "later"] if action in MOVING else ["later", "s"]] * 3
    (updated_at,) = {each.updated_at for page in pages for each in page.sessions if each.session_id == "s"}
    assert updated_at == cache.get_session("s").updated_at
    assert (updated_at > NOW) == (action in MOVING)


def test_indexes_of_a_run_of_nobody_follow_in_a_second_trip(cache: Any, seed: Any) -> None:
    seed("s", 1, user_id="u", workflow_id="w")
    cache.upsert_run("s", a_run("warm-up"))
    seed("s", 1)

    with watched(cache) as trips:
        cache.upsert_run("s", a_run("r2"))

    assert len(trips) == 2
    assert all(cache.list_sessions(**by).sessions[0].updated_at > NOW for by in BY)


# --- how long an index lives


@KINDS
def test_an_index_outlives_its_longest_session(make_cache: Any, admin: Any, index: Any, kind: Any) -> None:
    long, short = make_cache(ttl=5000), make_cache(ttl=50)

    long.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    short.upsert_session(a_session("t", user_id="u", workflow_id="w"))
    assert 4990 < admin.ttl(index(*kind)) <= 5000

    short.touch_session("t", 9000)
    assert 8990 < admin.ttl(index(*kind)) <= 9000

    short.update_session_state("t", {"k": 1})
    assert 8990 < admin.ttl(index(*kind)) <= 9000


@KINDS
def test_an_index_outlives_a_session_that_reads_keep_alive(
    make_cache: Any, admin: Any, index: Any, kind: Any, caches: Caches
) -> None:
    cache = make_cache(touch_on_read=True, ttl=500)
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    meta = f"{caches.prefix}:{{s}}:meta"
    for key in (index(*kind), meta):
        admin.expire(key, 5)

    assert cache.get_session("s") is not None

    assert min(admin.ttl(meta), admin.ttl(index(*kind))) > 490


@pytest.mark.keys_without_ttl
@KINDS
def test_an_index_of_a_session_without_end_has_none(
    make_cache: Any, admin: Any, index: Any, kind: Any
) -> None:
    cache = make_cache(ttl=50)
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    cache.touch_session("s", None)
    cache.upsert_session(a_session("t", user_id="u", workflow_id="w"))
    assert admin.ttl(index(*kind)) == -1

    admin.delete(index(*kind))
    cache.rebuild_indexes()

    assert admin.ttl(index(*kind)) == -1


# --- indexes made anew


@pytest.mark.parametrize("prefix", ["plain", "*", "a[b]c?", "back\\slash", "^x", "[", "ü*", "{a}", "a:{b}c"])
def test_indexes_are_made_anew_from_what_is_stored(make_cache: Any, admin: Any, prefix: str) -> None:
    cache, other = make_cache(prefix=prefix), make_cache(prefix="abc" if prefix != "plain" else "*lain")
    for number in range(30):
        cache.upsert_session(a_session(f"s{number}", user_id=f"u{number % 3}", workflow_id="w", runs=1))
    other.upsert_session(a_session("foreign"))
    by: tuple[dict[str, Any], ...] = ({}, {"user_id": "u1"}, {"workflow_id": "w"})
    before = [cache.list_sessions(**each, limit=50) for each in by]
    admin.delete(*admin.keys("*:index:*"))
    assert cache.list_sessions() == SessionPage([], 0)
    steps: list[int] = []

    for _ in range(2):
        steps.clear()
        assert cache.rebuild_indexes(steps.append) == 30
        assert steps == sorted(steps)
        assert [cache.list_sessions(**each, limit=50) for each in by] == before

    assert other.list_sessions() == SessionPage([], 0)
    assert steps[-1] == 30


def test_rebuilding_nothing_is_said(cache: Any) -> None:
    steps: list[int] = []

    assert cache.rebuild_indexes(steps.append) == 0
    assert steps == [0]
    with pytest.raises(InvalidArgumentError, match="progress"):
        cache.rebuild_indexes(5)


def test_indexes_made_anew_live_as_long_as_their_sessions(make_cache: Any, admin: Any, index: Any) -> None:
    cache = make_cache(ttl=50)
    cache.upsert_session(a_session("long", user_id="u"))
    cache.upsert_session(a_session("short", workflow_id="w"))
    cache.touch_session("long", 5000)
    admin.delete(*admin.keys(index("*")))

    cache.rebuild_indexes()

    assert 4990 < admin.ttl(index()) <= 5000
    assert 4990 < admin.ttl(index("user", "u")) <= 5000
    assert 40 < admin.ttl(index("workflow", "w")) <= 50


# --- what it costs


PAGES: list[tuple[dict[str, Any], int, str]] = [
    ({}, 2, "s10000"),
    ({"user_id": "u"}, 2, "s10000"),
    ({"newest_first": False}, 2, "s1"),
    *(
        ({"offset": offset}, trips, f"s{10_000 - offset}")
        for offset, trips in ((2000, 2), (4000, 4), (9980, 10))
    ),
]


def test_a_page_costs_two_trips_for_every_2000_sessions(
    redis_server: RedisServer, subtests: pytest.Subtests
) -> None:
    admin = redis_server.client()
    admin.flushall()
    fill(admin, 10_000)
    with (
        CountingProxy(redis_server.socket_path) as proxy,
        SessionCache.from_url(proxy.url, prefix="p", timeout=30) as cache,
    ):
        cache.get_session("warm-up")
        for by, round_trips, first in PAGES:
            with subtests.test(**by):
                proxy.reset()
                with watched(cache) as trips:
                    page = cache.list_sessions(**by)

                assert (page.sessions[0].session_id, len(page.sessions), page.total) == (first, 20, 10_000)
                assert len(trips) == round_trips
                assert proxy.bytes_received < 12_000 or by.get("offset")
    admin.flushall()


def fill(admin: Any, sessions: int) -> None:
    """Store empty sessions of one user, last updated at 1, 2, 3, ..."""
    fields = {"user_id": "u", "created_at": 1, "rev": 1, "born": 1, "count": 0, "seq": 0, "schema": 1}
    pipe = admin.pipeline(transaction=False)
    for number in range(1, sessions + 1):
        own = {"session_id": f"s{number}", "updated_at": number}
        pipe.hset(f"p:{{s{number}}}:meta", mapping=fields | own)
        for index in ("all", "user:u"):
            pipe.zadd(f"p:index:{index}", {f"s{number}": number})
    pipe.execute()
