"""Pages of runs: how large, how many, and of one moment whatever others write between two of them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessioncache.errors import SessionNotFoundError
from sessioncache.models import RunStatus, WorkflowSession
from sessioncache.operations import messages, pages
from strategies import message_filters, workflow_runs, workflow_sessions
from support.interleaving import Trips, another_worker, then, watched
from support.samples import a_message, a_run, a_run_of, a_session, ids, named, repeated

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.subjects import Caches

    Change = Callable[[Any, str], object]
    Ask = Callable[[Any], Any]

_fresh = count()


@pytest.fixture
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


def limits(trips: Trips) -> list[tuple[int, int]]:
    """Return offset and size of each page that was read."""
    found = []
    for request in trips.requests:
        command = next(command for command in request if command[0] == b"ZRANGE")
        place = command.index(b"LIMIT")
        found.append((int(command[place + 1]), int(command[place + 2])))
    return found


def changes() -> st.SearchStrategy[Change]:
    """Draw what another worker does to a session between two round trips."""

    def put(run: Any) -> Change:
        return lambda cache, session_id: cache.upsert_run(session_id, a_copy(run, session_id))

    def drop(place: int) -> Change:
        def delete(cache: Any, session_id: str) -> None:
            runs = cache.get_session(session_id).runs
            if runs:
                cache.delete_run(session_id, runs[place % len(runs)].run_id)

        return delete

    def leave(cache: Any, session_id: str) -> None:
        """Change nothing."""

    return st.one_of(workflow_runs().map(put), st.integers(0, 30).map(drop), st.just(leave))


def a_copy(run: Any, session_id: str) -> Any:
    run.session_id, run.user_id, run.workflow_id, run.queue_attempt = session_id, None, None, None
    return run


def questions() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Draw lookups that may take several pages."""
    numbers = st.sampled_from([1, 2, 3, 5, 8])
    return st.one_of(
        st.tuples(st.just("get_workflow_history"), st.fixed_dictionaries({"number": numbers})),
        st.tuples(st.just("get_messages"), message_filters().filter(_asks_something)),
    )


def _asks_something(wanted: dict[str, Any]) -> bool:
    return len(wanted) > 1 and bool(wanted.get("agent_id") or wanted.get("team_id"))


def answer_of(asked: Any, name: str, *session_id: str, **arguments: Any) -> Any:
    try:
        if name == "get_workflow_history":  # the model calls the number by its documented name
            return asked.get_workflow_history(*session_id, arguments["number"])
        return getattr(asked, name)(*session_id, **arguments)
    except ValueError:
        return "no value"


@pytest.mark.parametrize(
    ("server", "examples"), [("embedded", 40), ("redis", 25)], indirect=["server"], ids=["embedded", "redis"]
)
def test_an_answer_is_of_one_moment_while_others_write_between_the_pages(
    cache: Any, writer: Any, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "FIRST_NEWEST", 1)
    monkeypatch.setattr(pages, "PAGE_BYTES", 900)
    restarts: list[bool] = []

    @settings(max_examples=examples)
    @given(
        workflow_sessions(max_runs=25),
        st.integers(2, 10),
        st.lists(changes(), min_size=2, max_size=6),
        questions(),
    )
    def check(
        drawn: WorkflowSession, times: int, planned: list[Change], question: tuple[str, dict[str, Any]]
    ) -> None:
        session = named(repeated(drawn, times), f"s{next(_fresh)}")
        session.user_id = None
        for run in session.runs or []:
            run.user_id = None
        writer.upsert_session(session)
        name, arguments = question
        moments = [writer.get_session(session.session_id)]

        def between(trip: int) -> None:
            if trip and planned:
                planned.pop()(writer, session.session_id)
                moments.append(writer.get_session(session.session_id))

        with watched(cache, between) as trips:
            answer = answer_of(cache, name, session.session_id, **arguments)

        assert answer in [answer_of(moment, name, **arguments) for moment in moments]
        read = limits(trips) if len(trips) > 1 else []
        restarts.append(any(offset == 0 for offset, _ in read[1:]))

    check()
    assert any(restarts), "reading began again"


MANY_PAGES: dict[str, Ask] = {
    "workflow history": lambda cache: cache.get_workflow_history("s", 2),
    "runs": lambda cache: ids(cache.get_runs("s", last_n_runs=2, statuses=["COMPLETED"])),
    "messages of runs": lambda cache: [m.id for m in cache.get_messages("s", agent_id="A", last_n_runs=2)],
    "last messages": lambda cache: [m.id for m in cache.get_messages("s", agent_id="A", limit=3)],
}


def with_completed_ones_at_the_far_end() -> WorkflowSession:
    """Return a session of which questions about the agent, or completed runs, need its oldest runs."""
    runs = [a_run_of(f"r{n}", a_message(f"m{n}", "user" if n else "system"), at=n + 1) for n in range(4)]
    runs += [a_run(f"r{n}", n + 1, status="ERROR") for n in range(4, 40)]
    return a_session("s", runs)


@pytest.mark.parametrize("name", MANY_PAGES)
def test_a_session_deleted_between_two_pages_is_an_error(cache: Any, writer: Any, name: str) -> None:
    cache.upsert_session(with_completed_ones_at_the_far_end())

    with (
        watched(cache, then(lambda: writer.delete_session("s"))),
        pytest.raises(SessionNotFoundError),
    ):
        MANY_PAGES[name](cache)


@pytest.mark.parametrize("name", MANY_PAGES)
def test_a_session_made_anew_between_two_pages_is_not_mixed_with_the_old_one(
    cache: Any, writer: Any, name: str
) -> None:
    cache.upsert_session(with_completed_ones_at_the_far_end())

    def replace() -> None:
        writer.delete_session("s")
        runs = [a_run_of(f"new{n}", a_message(f"new{n}"), at=n + 1) for n in range(60)]
        writer.upsert_session(a_session("s", runs))

    with watched(cache, then(replace)):
        answer = MANY_PAGES[name](cache)

    assert answer == MANY_PAGES[name](writer)


@pytest.mark.parametrize("name", MANY_PAGES)
def test_a_writer_between_all_pages_does_not_keep_the_answer_from_coming(
    cache: Any, writer: Any, name: str
) -> None:
    cache.upsert_session(with_completed_ones_at_the_far_end())
    expected = MANY_PAGES[name](cache)

    def append(trip: int) -> None:
        writer.upsert_run("s", a_run(f"later{trip}", at=1000 + trip, status="ERROR"))

    with watched(cache, append) as trips:
        answer = MANY_PAGES[name](cache)

    assert answer == expected
    assert len(trips) <= 20


def test_pages_grow_and_do_not_overlap(cache: Any) -> None:
    cache.upsert_session(a_session("s", [a_run(f"r{n}", n + 1, status="ERROR") for n in range(100)]))

    with watched(cache) as trips:
        cache.get_workflow_history("s", 3)

    assert limits(trips) == [(0, 3), (3, 6), (9, 12), (21, 24), (45, 48), (93, 96)]


def test_a_change_between_two_pages_has_both_read_again_as_one(cache: Any, writer: Any) -> None:
    cache.upsert_session(a_session("s", [a_run(f"r{n}", n + 1, status="ERROR") for n in range(100)]))

    with watched(cache, then(lambda: writer.delete_run("s", "r50"))) as trips:
        cache.get_workflow_history("s", 10)

    assert limits(trips) == [(0, 10), (10, 20), (0, 30), (30, 40), (70, 80)]


@pytest.mark.parametrize(
    "is_small",
    [lambda _: False, lambda n: n % 2 == 1, lambda n: n > 190],
    ids=["none is small", "every other one", "the newest"],
)
@pytest.mark.parametrize("server", ["redis"], indirect=True)
def test_further_pages_are_bounded_in_bytes_however_sizes_alternate(
    cache: Any, monkeypatch: pytest.MonkeyPatch, is_small: Callable[[int], bool]
) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 4_000)
    runs = [
        a_run_of(f"r{n}", a_message(f"m{n}", size=10 if is_small(n) else 2_000), agent_id="B", at=n + 1)
        for n in range(200)
    ]
    cache.upsert_session(a_session("s", runs))

    with watched(cache) as trips:
        cache.get_messages("s", agent_id="A", last_n_runs=4)

    read = limits(trips)
    assert sum(size for _, size in read) >= 200
    weights = [0 if is_small(199 - n) else 1 for n in range(200)]
    assert max(sum(weights[offset : offset + size]) for offset, size in read) <= 8, read


def test_runs_larger_than_a_page_are_read_one_by_one(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 1)
    runs = [a_run(f"r{n}", n + 1, status=RunStatus.error) for n in range(6)]
    cache.upsert_session(a_session("s", runs))

    with watched(cache) as trips:
        cache.get_workflow_history("s", 1)

    assert limits(trips) == [(n, 1) for n in range(6)]
