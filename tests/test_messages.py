"""The messages of an agent or team: what the loaded session answers, read from both ends of it."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache.errors import DamagedRunError, InvalidArgumentError, SessionNotFoundError
from sessioncache.models import WorkflowSession
from sessioncache.operations import messages, pages
from strategies import message_filters, workflow_sessions
from support.interleaving import another_worker, then, watched
from support.samples import a_message, a_run, a_run_of, a_session, named, repeated

_fresh = count()


def outcome(of: Any, *session_id: str, **arguments: Any) -> Any:
    """Return the answer of a cache or session, or that there is none: our error is a ValueError too.

    An empty session that is asked about nobody has an answer; a cache refuses before it asks for the session.
    """
    if not (arguments.get("agent_id") or arguments.get("team_id")) and isinstance(of, WorkflowSession):
        return "no value"
    try:
        return of.get_messages(*session_id, **arguments)
    except ValueError as error:
        is_ours = isinstance(error, InvalidArgumentError)
        return "no value" if is_ours is not isinstance(of, WorkflowSession) else error


def filters() -> st.SearchStrategy[dict[str, Any]]:
    """Draw arguments; a role alone stands for a collection."""
    odd = st.fixed_dictionaries(
        {
            "agent_id": st.just("A"),
            "skip_roles": st.sampled_from(["user", "system", "tool", ("user",), {"tool"}]),
        },
        optional={"limit": st.integers(0, 6), "skip_statuses": st.sampled_from([{"ERROR"}, ("completed",)])},
    )
    return st.one_of(message_filters(), message_filters(), message_filters(), odd)


@pytest.mark.parametrize(
    ("server", "examples"), [("embedded", 50), ("redis", 25)], indirect=["server"], ids=["embedded", "redis"]
)
def test_messages_are_what_the_loaded_session_answers(
    cache: Any, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "FIRST_NEWEST", 1)
    monkeypatch.setattr(pages, "PAGE_BYTES", 900)
    sizes: list[int] = []
    both_ends: list[bool] = []

    @settings(max_examples=examples)
    @given(workflow_sessions(max_runs=25), st.integers(2, 10), st.lists(filters(), min_size=1, max_size=6))
    def check(drawn: WorkflowSession, times: int, asked: list[dict[str, Any]]) -> None:
        session = named(repeated(drawn, times), f"s{next(_fresh)}")
        cache.upsert_session(session)
        loaded = cache.get_session(session.session_id)
        session.runs = sorted(session.runs or [], key=lambda run: run.created_at or 0)
        for wanted in asked:
            with watched(cache) as trips:
                answer = outcome(cache, session.session_id, **wanted)
            assert answer == outcome(loaded, **wanted), wanted
            assert answer == outcome(session, **wanted), wanted
            sizes.append(len(trips))
            both_ends.append(any(b"REV" in command for request in trips.requests for command in request))

    check()
    assert any(size == 1 for size in sizes), "one page was enough"
    old = [a_run_of("old", a_message("far away"), at=1), *(a_run(f"r{number}", 2) for number in range(60))]
    cache.upsert_session(a_session("of many pages", old))
    with watched(cache) as trips:
        assert len(cache.get_messages("of many pages", agent_id="A", limit=1)) == 1
    assert len(trips) > 2, "one page was not enough"
    assert any(both_ends), "the oldest runs were read"


ARGUMENTS: list[dict[str, Any]] = [
    {"agent_id": "A"},
    {"team_id": "T", "limit": 3},
    {"agent_id": "A", "last_n_runs": 3},
    {"agent_id": "A", "last_n_runs": 0},
    {"agent_id": "A", "limit": 0},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_an_empty_session_has_no_messages(cache: Any, arguments: dict[str, Any]) -> None:
    cache.upsert_session(a_session("s"))

    assert cache.get_messages("s", **arguments) == []


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_missing_session_is_an_error(cache: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(SessionNotFoundError):
        cache.get_messages("gone", **arguments)


def test_an_agent_or_a_team_is_asked_for_but_not_both(cache: Any) -> None:
    cache.upsert_session(a_session("s", 1))

    with pytest.raises(InvalidArgumentError, match="cannot be used together"):
        cache.get_messages("s", agent_id="A", team_id="T")
    with pytest.raises(InvalidArgumentError, match="must be provided"):
        cache.get_messages("s")


def test_wrong_ids_are_refused_before_anything_is_sent(cache: Any) -> None:
    with watched(cache) as trips:
        for wrong in ({"agent_id": "A", "team_id": "T"}, {}, {"agent_id": "", "limit": 3}):
            with pytest.raises(InvalidArgumentError):
                cache.get_messages("s", **wrong)

    assert len(trips) == 0


@pytest.mark.parametrize("name", ["last_n_runs", "limit"])
@pytest.mark.parametrize("wrong", [1.5, "3", False])
def test_what_is_no_number_is_refused(cache: Any, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        cache.get_messages("s", agent_id="A", **{name: wrong})


def test_a_limit_still_finds_the_first_system_message_of_all(cache: Any) -> None:
    first = a_run_of("r0", a_message("system-0", "system"), a_message("user-0"))
    others = [
        a_run_of(
            f"r{number}", a_message(f"system-{number}", "system"), a_message(f"user-{number}"), at=number
        )
        for number in range(1, 50)
    ]
    cache.upsert_session(a_session("s", runs=[first, *others]))

    found = cache.get_messages("s", agent_id="A", limit=3)

    assert [message.id for message in found] == ["system-0", "user-48", "user-49"]


def test_a_limit_reads_neither_the_middle_nor_more_than_it_needs(cache: Any) -> None:
    runs = [
        a_run_of(
            f"r{number}", a_message("sys", "system"), a_message("u"), a_message("a", "assistant"), at=number
        )
        for number in range(1, 201)
    ]
    cache.upsert_session(a_session("s", runs=runs))

    with watched(cache) as trips:
        found = cache.get_messages("s", agent_id="A", limit=7)

    assert len(found) == 7
    assert len(trips) == 2, "one page from either end"


def test_roles_given_as_one_text_are_skipped_as_the_model_does(cache: Any) -> None:
    runs = [a_run_of("r0", a_message("m0", "system")), a_run_of("r1", a_message("m1", "assistant"))]
    runs += [a_run_of(f"r{number}", a_message(f"m{number}", "user"), at=number) for number in range(2, 20)]
    cache.upsert_session(a_session("s", runs=runs))
    loaded = cache.get_session("s")

    answer = cache.get_messages("s", agent_id="A", limit=2, skip_roles="user")

    assert answer == loaded.get_messages(agent_id="A", limit=2, skip_roles="user")
    assert [message.id for message in answer] == ["m0", "m1"]


def test_an_agent_without_a_system_message_is_not_looked_for_at_the_other_end(cache: Any) -> None:
    """However the runs came there; that of another agent does not count."""
    runs = [a_run_of(f"r{number}", a_message(f"m{number}"), at=number) for number in range(2, 30)]
    cache.upsert_session(a_session("s", runs=runs))
    cache.upsert_run("s", a_run_of("b", a_message("system", "system"), agent_id="B", at=1))

    with watched(cache) as trips:
        found = cache.get_messages("s", agent_id="A", limit=2)
        assert len(trips) == 1

    assert [message.id for message in found] == ["m28", "m29"]
    cache.upsert_run("s", a_run_of("r3", a_message("first", "system"), at=1))
    assert [message.id for message in cache.get_messages("s", agent_id="A", limit=2)] == ["first", "m29"]


def test_both_ends_of_an_answer_are_of_one_moment(cache: Any, caches: Any) -> None:
    runs = [a_run_of("r0", a_message("first", "system"), at=1)]
    runs += [a_run_of(f"r{number}", a_message(f"m{number}"), at=number) for number in range(2, 30)]
    cache.upsert_session(a_session("s", runs=runs))
    worker = another_worker(caches)

    def change_both_ends() -> None:
        worker.upsert_run("s", a_run_of("r0", a_message("changed", "system"), at=1))
        worker.upsert_run("s", a_run_of("r30", a_message("m30"), at=30))

    with watched(cache, then(change_both_ends)):
        found = cache.get_messages("s", agent_id="A", limit=2)

    assert [message.id for message in found] == ["changed", "m30"]


def test_a_session_of_before_there_were_marks_is_read_to_its_other_end(
    cache: Any, admin: Any, caches: Any
) -> None:
    runs = [a_run_of("r0", a_message("first", "system"), at=1)]
    runs += [a_run_of(f"r{number}", a_message(f"m{number}"), at=number) for number in range(2, 30)]
    cache.upsert_session(a_session("s", runs=runs))
    admin.hdel(f"{caches.prefix}:{{s}}:meta", "system_messages", "system_messages.agent:A")

    assert [message.id for message in cache.get_messages("s", agent_id="A", limit=2)] == ["first", "m29"]


def test_the_answers_of_tools_do_not_lead(cache: Any) -> None:
    runs = [a_run(f"r{number}", number) for number in range(1, 10)]
    runs.append(a_run_of("last", a_message("t", "tool"), a_message("a", "assistant"), at=99))
    cache.upsert_session(a_session("s", runs=runs))

    assert [message.id for message in cache.get_messages("s", agent_id="A", limit=2)] == ["a"]


def test_a_body_that_does_not_decode_is_an_error_where_it_is_read(
    cache: Any, admin: Any, caches: Any
) -> None:
    runs = [a_run_of(f"r{number}", a_message(f"m{number}"), at=number) for number in range(1, 5)]
    cache.upsert_session(a_session("s", runs=runs))
    key = f"{caches.prefix}:{{s}}:runs"
    (member, score), *_ = admin.zrange(key, -1, "-inf", desc=True, byscore=True, withscores=True)
    admin.zrem(key, member)
    admin.zadd(key, {b"b\x01damaged": score})

    assert [message.id for message in cache.get_messages("s", agent_id="A", last_n_runs=3)] == [
        "m2",
        "m3",
        "m4",
    ]
    with pytest.raises(DamagedRunError, match="'s'"):
        cache.get_messages("s", agent_id="A", last_n_runs=4)
