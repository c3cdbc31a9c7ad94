"""Listings: pages of sessions by user, workflow, name and time; and indexes that follow what is alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache import SessionCache, SessionPage, SessionSummary
from sessioncache.errors import InvalidArgumentError
from support.interleaving import another_worker, watched
from support.samples import a_run, a_session
from support.waiting import wait_for
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.servers import RedisServer
    from support.subjects import Caches


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.fixture
def index(caches: Caches) -> Callable[..., str]:
    """Name the key of an index: `index()`, `index("user", "u")`."""
    return lambda *names: ":".join([caches.prefix, "index", *(names or ("all",))])


@pytest.fixture
def seed(cache: Any, admin: Any, index: Callable[..., str]) -> Callable[..., None]:
    """Store a session as it was last updated at a time: `seed("s", 17, user_id="u")`."""

    def store(session_id: str, at: int, **fields: Any) -> None:
        cache.upsert_session(a_session(session_id, **fields))
        admin.hset(f"{index()[: -len(':index:all')]}:{{{session_id}}}:meta", "updated_at", at)
        names = [("user", fields.get("user_id")), ("workflow", fields.get("workflow_id"))]
        for key in [index(), *(index(kind, name) for kind, name in names if name)]:
            admin.zadd(key, {session_id: at})

    return store


def names(page: SessionPage) -> list[str]:
    """The ids of a page, in order."""
    return [session.session_id for session in page.sessions]


def lose(admin: Any, caches: Caches, session_id: str, *parts: str) -> None:
    """Take keys of a session away, as their end or an eviction does."""
    for part in parts or ("meta", "runs"):
        admin.delete(f"{caches.prefix}:{{{session_id}}}:{part}")


# --- which sessions, and in which order


def test_a_summary_says_what_is_stored_but_no_run(cache: Any) -> None:
    session = a_session(
        "s", 3, user_id="u", workflow_id="w", workflow_name="W", session_data={"session_name": "Name"}
    )
    cache.upsert_session(session)

    with watched(cache) as trips:
        page = cache.list_sessions()

    summary = SessionSummary("s", "u", "w", "W", "Name", 1, session.updated_at, 3)
    assert page == SessionPage([summary], 1)
    assert set(trips.names()) == {"ZRANGE", "ZCARD", "HMGET"} | set(trips.names()) & {"ZRANDMEMBER"}
    assert len(trips) == 2


def test_nothing_stored_is_an_empty_page(cache: Any) -> None:
    assert cache.list_sessions() == SessionPage([], 0)
    assert cache.list_sessions(user_id="nobody") == SessionPage([], 0)


def test_sessions_are_listed_by_user_by_workflow_by_both_and_all(cache: Any, seed: Any) -> None:
    seed("none", 1)
    seed("u", 2, user_id="u")
    seed("w", 3, workflow_id="w")
    seed("uw", 4, user_id="u", workflow_id="w")
    seed("xw", 5, user_id="x", workflow_id="w")

    assert names(cache.list_sessions()) == ["xw", "uw", "w", "u", "none"]
    assert names(cache.list_sessions(user_id="u")) == ["uw", "u"]
    assert names(cache.list_sessions(workflow_id="w")) == ["xw", "uw", "w"]
    assert names(cache.list_sessions(user_id="u", workflow_id="w")) == ["uw"]
    assert names(cache.list_sessions(user_id="w")) == []


def test_a_session_without_a_user_is_listed_under_all_alone(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("s"))

    assert admin.keys(index("*")) == [index().encode()]


@pytest.mark.parametrize("odd", ["all", "user:u", "*", "ü/ {x}", "a:b", "%41"])
def test_odd_ids_are_listed_under_themselves_only(cache: Any, odd: str) -> None:
    cache.upsert_session(a_session(odd, user_id=odd, workflow_id=odd))
    cache.upsert_session(a_session("s", user_id="A", workflow_id="u"))

    assert names(cache.list_sessions(user_id=odd)) == names(cache.list_sessions(workflow_id=odd)) == [odd]


def test_a_part_of_the_name_is_found_in_any_case(cache: Any, seed: Any) -> None:
    for number, name in enumerate(["Quarterly REPORT", "report", "Straße", "", 5, None]):
        seed(f"s{number}", number, session_data={"session_name": name})
    seed("s6", 6)

    assert names(cache.list_sessions(name="ePoRt")) == ["s1", "s0"]
    assert names(cache.list_sessions(name="STRASSE")) == ["s2"]
    assert names(cache.list_sessions(name="absent")) == []
    assert len(cache.list_sessions(name="").sessions) == 7


def test_both_ends_of_the_time_of_creation_are_included(cache: Any, seed: Any) -> None:
    for number in range(5):
        seed(f"s{number}", number, created_at=100 + number)

    assert names(cache.list_sessions(created_after=103)) == ["s4", "s3"]
    assert names(cache.list_sessions(created_before=101)) == ["s1", "s0"]
    assert names(cache.list_sessions(created_after=102, created_before=102)) == ["s2"]
    assert names(cache.list_sessions(created_after=104, created_before=100)) == []


def test_the_order_is_that_of_the_last_update_either_way(cache: Any, seed: Any) -> None:
    for name, at in (("b", 30), ("a", 10), ("c", 20)):
        seed(name, at)

    assert names(cache.list_sessions()) == ["b", "c", "a"]
    assert names(cache.list_sessions(newest_first=False)) == ["a", "c", "b"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": -1},
        {"limit": 10_001},
        {"limit": 2.5},
        {"offset": -1},
        {"offset": None},
        {"user_id": ""},
        {"workflow_id": 5},
        {"name": 5},
        {"created_after": "now"},
        {"created_before": 1_700_000_000_000},
        {"created_after": True},
    ],
    ids=str,
)
def test_wrong_arguments_are_named_and_nothing_is_sent(cache: Any, wrong: dict[str, Any]) -> None:
    with watched(cache) as trips, pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        cache.list_sessions(**wrong)

    assert len(trips) == 0


# --- pages


def test_an_offset_beyond_the_end_and_a_limit_of_0_give_nothing(cache: Any, seed: Any) -> None:
    seed("s", 1)

    assert cache.list_sessions(offset=5) == SessionPage([], 1)
    assert cache.list_sessions(limit=0) == SessionPage([], 1)
    assert cache.list_sessions(offset=2**50, name="").sessions == []


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("filtered", [{}, {"user_id": "u"}, {"name": "even"}], ids=str)
def test_pages_tile_exactly(cache: Any, seed: Any, filtered: dict[str, Any], newest_first: bool) -> None:
    for number in range(41):
        name = "even" if number % 2 == 0 else "odd"
        seed(f"s{number}", number // 3, user_id="u", session_data={"session_name": name})
    whole = names(cache.list_sessions(limit=100, newest_first=newest_first, **filtered))

    for limit in (1, 7, 20):
        tiles = [
            names(cache.list_sessions(limit=limit, offset=offset, newest_first=newest_first, **filtered))
            for offset in range(0, 60, limit)
        ]
        assert [name for tile in tiles for name in tile] == whole
    assert len(whole) == (21 if "name" in filtered else 41)


def test_pages_tile_exactly_while_sessions_that_are_gone_lie_between(
    cache: Any, seed: Any, admin: Any, caches: Caches
) -> None:
    for number in range(100):
        seed(f"s{number:02}", number)
    for number in [*range(95, 80, -1), 70, 60, 59, 58, *range(15)]:
        lose(admin, caches, f"s{number:02}")

    pages = [names(cache.list_sessions(limit=10, offset=offset)) for offset in range(0, 100, 10)]

    alive = [n for n in range(99, -1, -1) if n not in {*range(81, 96), 70, 60, 59, 58, *range(15)}]
    assert [name for page in pages for name in page] == [f"s{number:02}" for number in alive]
    assert [len(page) for page in pages] == [10] * 6 + [6, 0, 0, 0]


@given(st.data())
@settings(max_examples=25)
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_any_page_is_a_slice_of_what_is_alive(
    make_cache: Any, caches: Caches, admin: Any, data: st.DataObject
) -> None:
    admin.flushall()
    cache = make_cache()
    updated = data.draw(st.lists(st.integers(1, 9), max_size=40), label="update times")
    gone = data.draw(st.sets(st.integers(0, 39)), label="gone")
    for number, at in enumerate(updated):
        cache.upsert_session(a_session(f"s{number}"))
        admin.zadd(f"{caches.prefix}:index:all", {f"s{number}": at})
        admin.hset(f"{caches.prefix}:{{s{number}}}:meta", "updated_at", at)
    for number in gone:
        lose(admin, caches, f"s{number}")
    alive = [(at, f"s{number}") for number, at in enumerate(updated) if number not in gone]
    newest_first = data.draw(st.booleans(), label="newest_first")
    expected = [name for _, name in sorted(alive, reverse=newest_first)]

    limit = data.draw(st.integers(1, 12), label="limit")
    anywhere = data.draw(st.integers(0, 40), label="offset")
    page = cache.list_sessions(limit=limit, offset=anywhere, newest_first=newest_first)
    found = []
    for offset in range(0, len(updated) + limit, limit):
        found += names(cache.list_sessions(limit=limit, offset=offset, newest_first=newest_first))

    assert names(page) == expected[anywhere : anywhere + limit]
    assert found == expected


# --- what is gone


@pytest.mark.parametrize("lost", [(), ("meta",), ("runs",)], ids=["both", "meta", "runs"])
def test_what_is_gone_is_dropped_from_page_and_index_and_the_page_is_filled(
    cache: Any, seed: Any, admin: Any, caches: Caches, index: Any, lost: tuple[str, ...]
) -> None:
    for number in range(40):
        seed(f"s{number:02}", number, runs=2)
    for number in range(10, 40):
        lose(admin, caches, f"s{number}", *lost)

    page = cache.list_sessions(limit=5)

    assert names(page) == ["s09", "s08", "s07", "s06", "s05"]
    assert page.total == 10
    assert admin.zcard(index()) == 10


def test_a_deleted_session_is_listed_nowhere(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    cache.delete_session("s")

    assert [names(cache.list_sessions(**by)) for by in ({}, {"user_id": "u"}, {"workflow_id": "w"})] == [
        []
    ] * 3
    assert admin.keys(index("*")) == []


def test_an_expired_session_is_listed_nowhere(make_cache: Any, admin: Any, index: Any) -> None:
    cache = make_cache()
    cache.upsert_session(a_session("short"))
    cache.upsert_session(a_session("long"))
    cache.touch_session("short", 1)

    wait_for(lambda: cache.get_session("short") is None, "the session to expire")

    assert names(cache.list_sessions()) == ["long"]
    assert admin.zrange(index(), 0, -1) == [b"long"]


def test_a_session_of_another_user_or_workflow_is_dropped(cache: Any, admin: Any, index: Any) -> None:
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    for key in (index("user", "other"), index("workflow", "other")):
        admin.zadd(key, {"s": 5})
        admin.expire(key, 100)

    assert cache.list_sessions(user_id="other") == SessionPage([], 0)
    assert cache.list_sessions(workflow_id="other") == SessionPage([], 0)
    assert admin.keys(index("*", "other")) == []


def test_a_session_that_changed_its_workflow_is_listed_under_the_new_one(cache: Any) -> None:
    cache.upsert_session(a_session("s", workflow_id="old"))
    session = cache.get_session("s")
    session.workflow_id = "new"
    cache.upsert_session(session)

    assert names(cache.list_sessions(workflow_id="old")) == []
    assert names(cache.list_sessions(workflow_id="new")) == ["s"]


@pytest.mark.parametrize(
    "member",
    [b"\xff\xfe", b"x" * 600, b"", b"unknown", b"\xed\xa0\x80"],
    ids=["bytes", "long", "empty", "id", "half"],
)
def test_what_something_else_wrote_into_an_index_is_dropped(
    cache: Any, admin: Any, index: Any, member: bytes
) -> None:
    cache.upsert_session(a_session("s"))
    admin.zadd(index(), {member: 2**40})

    assert names(cache.list_sessions()) == ["s"]
    assert admin.zrange(index(), 0, -1) == [b"s"]


def test_a_session_made_anew_between_look_and_removal_stays_listed(
    cache: Any, writer: Any, admin: Any, caches: Caches, index: Any
) -> None:
    """Be it in the same second, so that its time of update is the one it was listed with before."""
    writer.upsert_session(a_session("s", user_id="u"))
    writer.upsert_session(a_session("other", user_id="u"))
    lose(admin, caches, "s")

    def make_anew(trip: int) -> None:
        if trip == 2:
            old = admin.zscore(index("user", "u"), "s")
            writer.upsert_session(a_session("s", user_id="u"))
            admin.zadd(index("user", "u"), {"s": old})
            admin.hset(f"{caches.prefix}:{{s}}:meta", "updated_at", int(old))

    with watched(cache, make_anew):
        cache.list_sessions(user_id="u")

    assert sorted(names(cache.list_sessions(user_id="u"))) == ["other", "s"]


def test_a_session_updated_between_look_and_removal_stays_listed_as_of_then(
    cache: Any, writer: Any, admin: Any, seed: Any, caches: Caches, index: Any
) -> None:
    seed("s", 5)
    lose(admin, caches, "s")

    def make_anew(trip: int) -> None:
        if trip == 2:
            writer.upsert_session(a_session("s"))

    with watched(cache, make_anew):
        cache.list_sessions()

    assert admin.zscore(index(), "s") > 1_000_000_000


def test_every_session_that_is_gone_leaves_the_index_in_the_end(
    cache: Any, seed: Any, admin: Any, caches: Caches, index: Any
) -> None:
    """Also where sessions that live for ever are older than all that went, and others are newer."""
    for number in range(120):
        seed(f"s{number}", number)
    for number in range(30, 90):
        lose(admin, caches, f"s{number}")

    def lists_what_is_alive() -> bool:
        cache.list_sessions(limit=5)
        return bool(admin.zcard(index()) == 60)

    wait_for(lists_what_is_alive, "the index to hold what is alive", every=0)


def test_an_index_does_not_outgrow_what_is_alive(
    cache: Any, seed: Any, admin: Any, caches: Caches, index: Any
) -> None:
    for number in range(300):
        seed(f"s{number:03}", number)
        if number >= 10:
            lose(admin, caches, f"s{number - 10:03}")
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


@pytest.mark.parametrize("action", MOVING)
def test_a_write_moves_a_session_to_the_front(cache: Any, seed: Any, action: str) -> None:
    seed("s", 1, user_id="u", workflow_id="w", runs=1)
    seed("later", 5, user_id="u", workflow_id="w")

    MOVING[action](cache)

    for by in ({}, {"user_id": "u"}, {"workflow_id": "w"}):
        page = cache.list_sessions(**by)
        assert names(page) == ["s", "later"]
        assert page.sessions[0].updated_at == cache.get_session("s").updated_at > 1_000_000_000


@pytest.mark.parametrize("touch_on_read", [False, True])
@pytest.mark.parametrize("action", KEEPING)
def test_a_touch_or_a_read_moves_nothing(
    make_cache: Any, seed: Any, action: str, touch_on_read: bool
) -> None:
    cache = make_cache(touch_on_read=touch_on_read)
    seed("s", 1, user_id="u", workflow_id="w", runs=1)
    seed("later", 5, user_id="u", workflow_id="w")

    KEEPING[action](cache)

    for by in ({}, {"user_id": "u"}, {"workflow_id": "w"}):
        page = cache.list_sessions(**by)
        assert names(page) == ["later", "s"]
        assert page.sessions[1].updated_at == 1


def test_a_run_without_user_or_workflow_has_the_indexes_follow_in_a_second_trip(
    cache: Any, seed: Any
) -> None:
    seed("s", 1, user_id="u", workflow_id="w")
    seed("later", 5, user_id="u", workflow_id="w")
    cache.upsert_run("later", a_run("warm-up", user_id="u", workflow_id="w"))
    cache.upsert_run("later", a_run("warm-up"))

    with watched(cache) as both:
        cache.upsert_run("s", a_run("r1", user_id="u", workflow_id="w"))
    with watched(cache) as neither:
        cache.upsert_run("s", a_run("r2"))

    assert (len(both), len(neither)) == (1, 2)
    assert names(cache.list_sessions(user_id="u"))[0] in ("s", "later")
    assert cache.list_sessions(user_id="u").sessions[0].updated_at > 1_000_000_000


# --- how long an index lives


@pytest.mark.parametrize("kind", [(), ("user", "u"), ("workflow", "w")], ids=["all", "user", "workflow"])
def test_an_index_outlives_its_longest_session(make_cache: Any, admin: Any, index: Any, kind: Any) -> None:
    long, short = make_cache(ttl=5000), make_cache(ttl=50)

    long.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    short.upsert_session(a_session("t", user_id="u", workflow_id="w"))
    assert 4990 < admin.ttl(index(*kind)) <= 5000

    short.touch_session("t", 9000)
    assert 8990 < admin.ttl(index(*kind)) <= 9000

    short.update_session_state("t", {"k": 1})
    assert 8990 < admin.ttl(index(*kind)) <= 9000


@pytest.mark.parametrize("kind", [(), ("user", "u"), ("workflow", "w")], ids=["all", "user", "workflow"])
def test_an_index_outlives_a_session_that_reads_keep_alive(
    make_cache: Any, admin: Any, index: Any, kind: Any, caches: Caches
) -> None:
    cache = make_cache(touch_on_read=True, ttl=500)
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    for key in (index(), index("user", "u"), index("workflow", "w"), f"{caches.prefix}:{{s}}:meta"):
        admin.expire(key, 5)

    assert cache.get_session("s") is not None

    assert admin.ttl(f"{caches.prefix}:{{s}}:meta") > 490
    assert admin.ttl(index(*kind)) > 490


@pytest.mark.keys_without_ttl
@pytest.mark.parametrize("kind", [(), ("user", "u"), ("workflow", "w")], ids=["all", "user", "workflow"])
def test_an_index_of_a_session_that_lives_for_ever_does_so_too(
    make_cache: Any, admin: Any, index: Any, kind: Any
) -> None:
    cache = make_cache(ttl=50)
    cache.upsert_session(a_session("s", user_id="u", workflow_id="w"))
    cache.touch_session("s", None)
    cache.upsert_session(a_session("t", user_id="u", workflow_id="w"))

    assert admin.ttl(index(*kind)) == -1


# --- the total


def test_the_total_is_known_where_an_index_knows_it(cache: Any, seed: Any) -> None:
    for number in range(30):
        seed(f"s{number}", number, user_id="u" if number % 3 else "x", workflow_id="w")

    assert cache.list_sessions(limit=2).total == 30
    assert cache.list_sessions(user_id="u", limit=2).total == 20
    assert cache.list_sessions(workflow_id="w", limit=2, offset=29).total == 30


@pytest.mark.parametrize(
    "by",
    [{"name": "x"}, {"created_after": 1}, {"created_before": 1}, {"user_id": "u", "workflow_id": "w"}],
    ids=str,
)
def test_the_total_is_unknown_where_every_session_would_have_to_be_looked_at(
    cache: Any, by: dict[str, Any]
) -> None:
    assert cache.list_sessions(**by).total is None


# --- indexes made anew


@pytest.mark.parametrize("prefix", ["plain", "*", "a[b]c?", "back\\slash", "^x", "[", "ü*"])
def test_indexes_are_made_anew_from_what_is_stored(make_cache: Any, admin: Any, prefix: str) -> None:
    cache, other = make_cache(prefix=prefix), make_cache(prefix="abc" if prefix != "plain" else "*lain")
    for number in range(30):
        cache.upsert_session(a_session(f"s{number}", user_id=f"u{number % 3}", workflow_id="w", runs=1))
    other.upsert_session(a_session("foreign"))
    before = [cache.list_sessions(**by, limit=50) for by in ({}, {"user_id": "u1"}, {"workflow_id": "w"})]
    for key in admin.keys("*:index:*"):
        admin.delete(key)
    assert cache.list_sessions() == SessionPage([], 0)

    steps: list[int] = []
    assert cache.rebuild_indexes(steps.append) == 30

    after = [cache.list_sessions(**by, limit=50) for by in ({}, {"user_id": "u1"}, {"workflow_id": "w"})]
    assert after == before
    assert other.list_sessions() == SessionPage([], 0)
    assert steps == sorted(steps)
    assert steps[-1] == 30


def test_rebuilding_what_is_whole_changes_nothing(cache: Any, seed: Any) -> None:
    for number in range(5):
        seed(f"s{number}", number)
    before = cache.list_sessions()

    assert cache.rebuild_indexes() == 5
    assert cache.list_sessions() == before


def test_rebuilding_an_empty_store_finds_nothing(cache: Any) -> None:
    steps: list[int] = []

    assert cache.rebuild_indexes(steps.append) == 0
    assert steps == [0]


def test_indexes_made_anew_live_as_long_as_their_sessions(make_cache: Any, admin: Any, index: Any) -> None:
    cache = make_cache(ttl=50)
    cache.upsert_session(a_session("long", user_id="u"))
    cache.upsert_session(a_session("short", workflow_id="w"))
    cache.touch_session("long", 5000)
    for key in admin.keys(index("*")):
        admin.delete(key)

    cache.rebuild_indexes()

    assert 4990 < admin.ttl(index()) <= 5000
    assert 4990 < admin.ttl(index("user", "u")) <= 5000
    assert 40 < admin.ttl(index("workflow", "w")) <= 50


@pytest.mark.keys_without_ttl
def test_the_index_of_a_session_that_lives_for_ever_is_made_anew_for_ever(
    make_cache: Any, admin: Any, index: Any
) -> None:
    cache = make_cache(ttl=50)
    cache.upsert_session(a_session("s", user_id="u"))
    cache.touch_session("s", None)
    admin.delete(index(), index("user", "u"))

    cache.rebuild_indexes()

    assert (admin.ttl(index()), admin.ttl(index("user", "u"))) == (-1, -1)


def test_progress_is_a_function(cache: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="progress"):
        cache.rebuild_indexes(5)


# --- what it costs


@pytest.mark.parametrize("by", [{}, {"user_id": "u"}, {"newest_first": False}], ids=str)
def test_a_page_of_20_among_10000_sessions_takes_two_round_trips(
    redis_server: RedisServer, by: dict[str, Any]
) -> None:
    admin = redis_server.client()
    admin.flushall()
    fill(admin, 10_000)

    with (
        CountingProxy(redis_server.socket_path) as proxy,
        SessionCache.from_url(proxy.url, prefix="p") as cache,
    ):
        cache.get_session("warm-up")
        proxy.reset()
        page = cache.list_sessions(**by)

        assert (len(page.sessions), page.total) == (20, 10_000)
        assert proxy.round_trips == 2
        assert proxy.bytes_received < 12_000
    admin.flushall()


def test_an_offset_costs_two_round_trips_for_every_2000_sessions(redis_server: RedisServer) -> None:
    admin = redis_server.client()
    admin.flushall()
    fill(admin, 10_000)

    with (
        CountingProxy(redis_server.socket_path) as proxy,
        SessionCache.from_url(proxy.url, prefix="p", timeout=30) as cache,
    ):
        cache.get_session("warm-up")
        for offset, round_trips in ((2000, 2), (4000, 4), (9980, 10)):
            proxy.reset()

            page = cache.list_sessions(offset=offset)

            assert (page.sessions[0].session_id, len(page.sessions)) == (f"s{10_000 - offset}", 20)
            assert proxy.round_trips == round_trips
    admin.flushall()


def fill(admin: Any, sessions: int) -> None:
    """Store empty sessions of one user, last updated at 1, 2, 3, ..."""
    pipe = admin.pipeline(transaction=False)
    for number in range(1, sessions + 1):
        name = f"s{number}"
        fields = {
            "session_id": name,
            "user_id": "u",
            "created_at": 1,
            "updated_at": number,
            "rev": 1,
            "born": 1,
            "count": 0,
            "seq": 0,
            "schema": 1,
        }
        pipe.hset(f"p:{{{name}}}:meta", mapping=fields)
        pipe.zadd("p:index:all", {name: number})
        pipe.zadd("p:index:user:u", {name: number})
    pipe.execute()
