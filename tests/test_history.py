"""The histories of a session, and its runs: what the loaded session answers, read from slices of it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache.errors import DamagedRunError, InvalidArgumentError, SessionNotFoundError
from sessioncache.models import RunStatus, WorkflowChatInteraction, WorkflowSession
from sessioncache.operations import pages
from strategies import counts, workflow_sessions
from support.interleaving import watched
from support.samples import a_run, a_session, ids, named, repeated

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY_OR_MISSING: dict[str, tuple[Callable[..., Any], Any]] = {
    "chat": (lambda cache, sid: cache.get_chat_history(sid), []),
    "no chat": (lambda cache, sid: cache.get_chat_history(sid, 0), []),
    "workflow": (lambda cache, sid: cache.get_workflow_history(sid), []),
    "last workflow": (lambda cache, sid: cache.get_workflow_history(sid, 3), []),
    "no workflow": (lambda cache, sid: cache.get_workflow_history(sid, -1), []),
    "context": (lambda cache, sid: cache.get_workflow_history_context(sid), None),
    "last context": (lambda cache, sid: cache.get_workflow_history_context(sid, 2), None),
    "runs": (lambda cache, sid: cache.get_runs(sid), []),
    "no runs": (lambda cache, sid: cache.get_runs(sid, last_n_runs=0), []),
    "runs of a status": (lambda cache, sid: cache.get_runs(sid, statuses=["COMPLETED"]), []),
    "last of a status": (lambda cache, sid: cache.get_runs(sid, last_n_runs=2, statuses=["ERROR"]), []),
    "last of no status": (lambda cache, sid: cache.get_runs(sid, last_n_runs=2, statuses=[]), []),
}
_fresh = count()


def statuses() -> st.SearchStrategy[list[Any] | None]:
    """Draw some of the statuses that runs have, as members and as texts."""
    drawn = st.sampled_from([*RunStatus, "COMPLETED", "Error"])
    return st.none() | st.lists(drawn, max_size=3)


def runs_of(session: WorkflowSession, last_n: int | None, wanted: list[Any] | None) -> list[Any]:
    """Say what `get_runs` means."""
    parsed = wanted and [RunStatus.parse(status) for status in wanted]
    runs = [run for run in session.runs or [] if parsed is None or run.status in parsed]
    if last_n is None:
        return runs
    return runs[-last_n:] if last_n > 0 else []


@pytest.mark.parametrize(
    ("server", "examples"), [("embedded", 40), ("redis", 20)], indirect=["server"], ids=["embedded", "redis"]
)
def test_every_history_is_what_the_loaded_session_answers(
    cache: Any, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 500)
    sizes: list[int] = []

    @settings(max_examples=examples)
    @given(
        workflow_sessions(max_runs=25),
        st.integers(2, 10),
        st.lists(st.tuples(counts(), statuses()), min_size=1, max_size=3),
    )
    def check(drawn: WorkflowSession, times: int, asked: list[tuple[int | None, list[Any] | None]]) -> None:
        session = named(repeated(drawn, times), f"s{next(_fresh)}")
        cache.upsert_session(session)
        loaded = cache.get_session(session.session_id)
        session.runs = sorted(session.runs or [], key=lambda run: run.created_at or 0)
        for number, wanted in asked:
            for name in ("get_chat_history", "get_workflow_history", "get_workflow_history_context"):
                with watched(cache) as trips:
                    answer = getattr(cache, name)(session.session_id, number)
                sizes.append(len(trips))
                assert answer == getattr(loaded, name)(number) == getattr(session, name)(number)
            with watched(cache) as trips:
                found = cache.get_runs(session.session_id, last_n_runs=number, statuses=wanted)
            sizes.append(len(trips))
            assert found == runs_of(loaded, number, wanted) == runs_of(session, number, wanted)

    check()
    assert any(size == 1 for size in sizes), "one page was enough"
    assert any(size > 2 for size in sizes), "one page was not enough"


@pytest.mark.parametrize("name", EMPTY_OR_MISSING)
def test_an_empty_session_has_an_empty_history(cache: Any, name: str) -> None:
    ask, answer = EMPTY_OR_MISSING[name]
    cache.upsert_session(a_session("s"))

    assert ask(cache, "s") == answer


@pytest.mark.parametrize("name", EMPTY_OR_MISSING)
def test_a_missing_session_has_no_history(cache: Any, name: str) -> None:
    ask, _ = EMPTY_OR_MISSING[name]

    with pytest.raises(SessionNotFoundError, match="'gone'"):
        ask(cache, "gone")


def test_a_deleted_session_has_no_history(cache: Any) -> None:
    cache.upsert_session(a_session("s", 3))
    cache.delete_session("s")

    with pytest.raises(SessionNotFoundError):
        cache.get_chat_history("s", 1)


def test_chat_history_slices_first_and_drops_afterwards(cache: Any) -> None:
    session = a_session("s", 3)
    session.runs[1].content = None
    cache.upsert_session(session)

    assert cache.get_chat_history("s", 2) == [WorkflowChatInteraction("in r2", "out r2")]


def test_workflow_history_drops_first_and_slices_afterwards(cache: Any) -> None:
    session = a_session("s", 9)
    for run in session.runs[2:]:
        run.status = RunStatus.error
    cache.upsert_session(session)

    assert cache.get_workflow_history("s", 2) == [("in r0", "out r0"), ("in r1", "out r1")]


def test_histories_read_heads_alone(cache: Any, admin: Any, caches: Any) -> None:
    cache.upsert_session(a_session("s", 3))
    key = f"{caches.prefix}:{{s}}:runs"
    for member, score in admin.zrange(key, "-inf", -1, byscore=True, withscores=True):
        admin.zrem(key, member)
        admin.zadd(key, {b"b damaged %d" % score: score})

    assert len(cache.get_chat_history("s")) == 3
    assert len(cache.get_workflow_history("s", 2)) == 2
    assert (cache.get_workflow_history_context("s", 1) or "").count("Run-") == 1


def test_a_damaged_head_outside_of_the_slice_does_no_harm(cache: Any, admin: Any, caches: Any) -> None:
    cache.upsert_session(a_session("s", 5))
    key = f"{caches.prefix}:{{s}}:runs"
    (member, score), *_ = admin.zrange(key, 1, "+inf", byscore=True, withscores=True)
    admin.zrem(key, member)
    admin.zadd(key, {b"h:0:damaged": score})

    assert len(cache.get_chat_history("s", 4)) == 4
    with pytest.raises(DamagedRunError, match="'s'"):
        cache.get_chat_history("s", 5)


TRIPS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "chat": (lambda cache: cache.get_chat_history("s", 5), 1),
    "whole chat": (lambda cache: cache.get_chat_history("s"), 1),
    "workflow": (lambda cache: cache.get_workflow_history("s", 5), 1),
    "whole workflow": (lambda cache: cache.get_workflow_history("s"), 1),
    "runs": (lambda cache: cache.get_runs("s"), 1),
    "last runs": (lambda cache: cache.get_runs("s", last_n_runs=7), 1),
    "runs of a status": (lambda cache: cache.get_runs("s", last_n_runs=7, statuses=["COMPLETED"]), 1),
    # Pages of 2, 4, 8, ... up to all of 100.
    "runs of a status that none has": (
        lambda cache: cache.get_runs("s", last_n_runs=2, statuses=["ERROR"]),
        6,
    ),
}


@pytest.mark.parametrize("name", TRIPS)
def test_what_the_newest_runs_answer_takes_one_round_trip(cache: Any, name: str) -> None:
    ask, expected = TRIPS[name]
    cache.upsert_session(a_session("s", 100))

    with watched(cache) as trips:
        ask(cache)

    assert len(trips) == expected


@pytest.mark.parametrize("last_n", [1.5, "3", True])
def test_what_is_no_number_of_runs_is_refused(cache: Any, last_n: Any) -> None:
    cache.upsert_session(a_session("s", 2))

    for ask in (cache.get_chat_history, cache.get_workflow_history, cache.get_workflow_history_context):
        with pytest.raises(InvalidArgumentError, match="must be a whole number"):
            ask("s", last_n)
    with pytest.raises(InvalidArgumentError, match="last_n_runs"):
        cache.get_runs("s", last_n_runs=last_n)


@pytest.mark.parametrize(
    "stored_as_it_was", [False, True], ids=["this version", "one that knows no lower case"]
)
def test_a_run_of_status_completed_in_lower_case_is_history(
    cache: Any, monkeypatch: pytest.MonkeyPatch, stored_as_it_was: bool
) -> None:
    run = a_run("r1", input="question", content="answer")
    with monkeypatch.context() as older:
        if stored_as_it_was:
            older.setattr(RunStatus, "parse", lambda value: value)
        run.status = "completed"
        cache.upsert_session(a_session("s", [run]))

    assert cache.get_workflow_history("s") == [("question", "answer")]
    assert cache.get_workflow_history("s", 1) == [("question", "answer")]
    assert cache.get_session("s").get_workflow_history() == [("question", "answer")]
    for name in ("completed", "COMPLETED", RunStatus.completed):
        assert ids(cache.get_runs("s", statuses=[name], last_n_runs=1)) == ["r1"]
    assert cache.get_run("s", "r1").status is RunStatus.completed


def test_a_status_that_a_dict_has_in_lower_case_is_loaded_as_the_one_it_names(cache: Any) -> None:
    data = a_session("s", [a_run("r1")]).to_dict()
    data["runs"][0]["status"] = "completed"
    cache.upsert_session(WorkflowSession.from_dict(data))

    assert cache.get_run("s", "r1").status is RunStatus.completed
    assert cache.get_workflow_history("s") == [("in r1", "out r1")]


def test_runs_of_one_status_come_oldest_first(cache: Any) -> None:
    session = a_session("s", 10)
    for run in session.runs[::3]:
        run.status = RunStatus.error
    cache.upsert_session(session)

    assert ids(cache.get_runs("s", last_n_runs=3, statuses=[RunStatus.error])) == ["r3", "r6", "r9"]
    assert ids(cache.get_runs("s", statuses=["ERROR"])) == ["r0", "r3", "r6", "r9"]


def test_runs_created_at_one_time_keep_the_order_they_came_in(cache: Any) -> None:
    cache.upsert_session(a_session("s"))
    for name in "cab":
        cache.upsert_run("s", a_run(name, at=7))
    cache.upsert_run("s", a_run("c", at=7, content="again"))

    assert [item.output for item in cache.get_chat_history("s")] == ["again", "out a", "out b"]
