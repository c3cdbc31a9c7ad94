"""Bad input is an error of ours that names the argument, and nothing is sent."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    InvalidArgumentError,
    RunOutput,
    RunTooLargeError,
    SessionCache,
    SessionCacheError,
    UnserializableError,
    WorkflowRunOutput,
    WorkflowSession,
)
from support.subjects import Caches, Subject
from support.wire import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.servers import RedisServer

NOT_TEXT = [None, 5, b"s", ["s"], True]
NO_ID = [*NOT_TEXT, "", "x" * 513, "é" * 257, "\ud800"]
NO_COUNT = [True, False, 1.5, 2.0, "3", b"3", [1], math.nan]
NO_TIME = [-1, -0.5, 1_700_000_000_000, 2**33, math.nan, math.inf, True, "1700000000", b"1", [1]]
NO_TTL = [0, -1, 1.5, True, "60", b"60", timedelta(0), timedelta(seconds=-1), timedelta(days=36501)]


def run(**fields: Any) -> WorkflowRunOutput:
    return WorkflowRunOutput(**{"run_id": "r1", "created_at": 1000, **fields})


def session(**fields: Any) -> WorkflowSession:
    """A session with these attributes, set after it was made, as code that goes wrong does."""
    made = WorkflowSession("s")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@dataclass
class Case:
    """A call with a bad argument, and words of the error."""

    call: Callable[[Any], object]
    words: str
    error: type[Exception] = InvalidArgumentError
    marks: Any = field(default=())


def _each(values: list[Any], call: Callable[[Any, Any], object], words: str, **rest: Any) -> Iterator[Case]:
    for value in values:
        yield Case(lambda cache, value=value: call(cache, value), words, **rest)  # type: ignore[misc]


WITH_SESSION_ID: dict[str, Callable[[Any, Any], object]] = {
    "get_session": lambda cache, sid: cache.get_session(sid),
    "get_sessions": lambda cache, sid: cache.get_sessions(["s", sid]),
    "rename_session": lambda cache, sid: cache.rename_session(sid, "name"),
    "touch_session": lambda cache, sid: cache.touch_session(sid),
    "delete_session": lambda cache, sid: cache.delete_session(sid),
    "upsert_run": lambda cache, sid: cache.upsert_run(sid, run()),
    "upsert_runs": lambda cache, sid: cache.upsert_runs(sid, [run()]),
    "get_run": lambda cache, sid: cache.get_run(sid, "r1"),
    "get_runs": lambda cache, sid: cache.get_runs(sid),
    "delete_run": lambda cache, sid: cache.delete_run(sid, "r1"),
    "upsert_session": lambda cache, sid: cache.upsert_session(session(session_id=sid)),
}
WITH_USER_ID: dict[str, Callable[[Any, Any], object]] = {
    "get_session": lambda cache, user: cache.get_session("s", user_id=user),
    "rename_session": lambda cache, user: cache.rename_session("s", "name", user_id=user),
    "delete_session": lambda cache, user: cache.delete_session("s", user_id=user),
    "upsert_session": lambda cache, user: cache.upsert_session(session(user_id=user)),
    "run.user_id of upsert_run": lambda cache, user: cache.upsert_run("s", run(user_id=user)),
}
WITH_A_RUN: dict[str, Callable[[Any, Any], object]] = {
    "upsert_run": lambda cache, each: cache.upsert_run("s", each),
    "upsert_runs": lambda cache, each: cache.upsert_runs("s", [run(run_id="fine"), each]),
    "upsert_session": lambda cache, each: cache.upsert_session(session(runs=[run(run_id="fine"), each])),
}
WITH_COUNT: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "get_session": (lambda cache, n: cache.get_session("s", last_n_runs=n), "last_n_runs"),
    "get_sessions": (lambda cache, n: cache.get_sessions(["s"], last_n_runs=n), "last_n_runs"),
    "get_runs": (lambda cache, n: cache.get_runs("s", last_n_runs=n), "last_n_runs"),
    "get_chat_history": (lambda cache, n: cache.get_chat_history("s", n), "last_n_runs"),
    "get_workflow_history": (lambda cache, n: cache.get_workflow_history("s", n), "last_n_runs"),
}
WITH_STATUSES: dict[str, Callable[[Any, Any], object]] = {
    "statuses of get_runs": lambda cache, v: cache.get_runs("s", statuses=v),
    "skip_statuses of get_messages": lambda cache, v: cache.get_messages("s", "a", skip_statuses=v),
}
SAVE = WITH_A_RUN["upsert_session"]


def cases() -> Iterator[tuple[str, Case]]:
    """All bad calls, by the name of the method."""
    for name, call in WITH_SESSION_ID.items():
        yield from ((name, case) for case in _each(NO_ID, call, "session_id"))
    for name, call in WITH_USER_ID.items():
        yield from (
            (name, case) for case in _each([value for value in NO_ID if value is not None], call, "user_id")
        )
    for name, call in WITH_A_RUN.items():
        yield from ((name, case) for case in _runs(call))
    for name, (call, words) in WITH_COUNT.items():
        yield from ((name, case) for case in _each(NO_COUNT, call, f"{words} must be a whole number"))
    yield from (
        ("run_id of get_run", case) for case in _each(NO_ID, lambda c, v: c.get_run("s", v), "run_id")
    )
    yield from (
        ("run_id of delete_run", case) for case in _each(NO_ID, lambda c, v: c.delete_run("s", v), "run_id")
    )
    yield from (
        ("name", case) for case in _each(NOT_TEXT, lambda c, v: c.rename_session("s", v), "name must be")
    )
    yield from (("ttl", case) for case in _each(NO_TTL, lambda c, v: c.touch_session("s", v), "ttl"))
    for name, ask in WITH_STATUSES.items():
        yield from ((name, case) for case in _statuses(ask, name.split()[0]))
    yield from (
        ("skip_roles", case)
        for case in _each(
            [5, True, b"user"], lambda c, v: c.get_messages("s", "a", skip_roles=v), "skip_roles must be"
        )
    )
    for name in ("agent_id", "team_id"):
        ask = lambda c, v, name=name: c.get_messages("s", **{name: v})  # noqa: E731
        yield from ((name, case) for case in _each([5, b"a", ["a"], True], ask, f"{name} must be a str"))
    yield from (("session", case) for case in _sessions())
    yield from (("lists", case) for case in _lists())


def _statuses(call: Callable[[Any, Any], object], name: str) -> Iterator[Case]:
    yield from _each(["COMPLETED", b"ERROR", 5, True], call, f"{name} must be a list")
    unknown: list[Any] = [["COMPLETE"], ["error", ""], [None], [5], [[]], {"completed ": 1}]
    yield from _each(unknown, call, f"{name} has the unknown status")


def _runs(call: Callable[[Any, Any], object]) -> Iterator[Case]:
    not_runs = [None, 5, "run", {"run_id": "r1"}, RunOutput(run_id="r1"), WorkflowSession("s")]
    yield from _each(not_runs, call, "run must be a WorkflowRunOutput")
    yield from _each(NO_ID, lambda c, v: call(c, run(run_id=v)), "run.run_id")
    yield from _each(NO_TIME, lambda c, v: call(c, run(created_at=v)), "run.created_at")
    yield from _each(["other", "", 5, b"s"], lambda c, v: call(c, run(session_id=v)), "run 'r1' is not 's'")
    yield from _each(
        [-1, 1.5, True, "1", 2**53 + 1], lambda c, v: call(c, run(queue_attempt=v)), "run.queue_attempt"
    )
    yield from _each([5, "x", ["a"], [[]]], lambda c, v: call(c, run(extra_fields=v)), "extra_fields of a W")
    unpackable: list[Any] = [object(), {1: 2}, 2**64, "\ud800", len, [1, {2, object}]]
    yield from _each(
        unpackable,
        lambda c, v: call(c, run(metadata={"x": [v]})),
        "run.metadata['x'][0]",
        error=UnserializableError,
    )
    yield from _each(unpackable, lambda c, v: call(c, run(input=v)), "run.input", error=UnserializableError)
    large = "x" * 3000
    yield from _each([large], lambda c, v: call(c, run(input=v)), "max_run_bytes", error=RunTooLargeError)
    yield from _each([large], lambda c, v: call(c, run(events=[v])), "'r1'", error=RunTooLargeError)


def _sessions() -> Iterator[Case]:
    not_sessions = [None, 5, "s", {"session_id": "s"}, [], WorkflowSession, run()]
    yield from _each(not_sessions, lambda c, v: c.upsert_session(v), "session must be a WorkflowSession")
    yield from _each(NO_TIME, lambda c, v: c.upsert_session(session(created_at=v)), "session.created_at")
    for name in ("metadata", "workflow_data", "session_data"):
        yield from _each(
            [object(), {1: 2}, 2**64, "\ud800"],
            lambda c, v, name=name: c.upsert_session(session(**{name: {"k": v}})),
            f"session.{name}['k']",
            error=UnserializableError,
        )
        yield from _each(
            [1, None, b"k", "\ud800"],
            lambda c, v, name=name: c.upsert_session(session(**{name: {v: 1}})),
            f"session.{name}",
            error=UnserializableError,
        )
    yield from _each(
        [object(), {1: 2}],
        lambda c, v: c.upsert_session(session(session_data={"session_state": {"k": v}})),
        "session.session_state['k']",
        error=UnserializableError,
    )
    yield from _each(
        [5, b"w", ["w"]], lambda c, v: c.upsert_session(session(workflow_id=v)), "session.workflow_id"
    )
    yield from _each(
        [[run(), run()]], lambda c, v: c.upsert_session(session(runs=v)), "two runs of one run_id"
    )
    yield from _each(
        [-1, True, 1.5, "1", 2**60], lambda c, v: c.upsert_session(session(), expect_rev=v), "expect_rev"
    )
    yield from _each(
        [5, object()],
        lambda c, v: c.upsert_session(session(runs=v)),
        "session.runs",
    )
    yield from _each(
        ["text", 5, [1]],
        lambda c, v: c.upsert_session(session(metadata=v)),
        "session.metadata",
    )


def _lists() -> Iterator[Case]:
    yield from _each(["s", ["s", "s", None]], lambda c, v: c.get_sessions(v), "session_id")
    yield from _each(
        [None, 5],
        lambda c, v: c.get_sessions(v),
        "session_ids",
    )
    yield from _each(
        [None, 5, "runs", b"runs", run()], lambda c, v: c.upsert_runs("s", v), "runs must be a list"
    )
    yield from _each(
        NO_ID,
        lambda c, v: c.upsert_runs(v, []),
        "session_id",
    )
    yield from _each(
        [2**47],
        lambda c, v: c.touch_session("s", v),
        "ttl",
    )


@pytest.fixture(scope="module")
def proxy(redis_server: RedisServer) -> Iterator[CountingProxy]:
    """A proxy that counts what is sent."""
    with CountingProxy(redis_server.socket_path) as proxy:
        yield proxy


@pytest.fixture
def far_cache(proxy: CountingProxy, client_kind: str) -> Iterator[Any]:
    """A cache behind the proxy that has not sent anything yet."""
    caches = Caches(Subject("redis", proxy), client_kind)  # type: ignore[arg-type]
    yield caches.make(max_run_bytes=2000)
    caches.close()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{name}-{number}", marks=case.marks)
        for number, (name, case) in enumerate(cases())
    ],
)
def test_bad_input_is_refused_by_name_and_nothing_is_sent(
    far_cache: Any, proxy: CountingProxy, case: Case
) -> None:
    proxy.reset()

    with pytest.raises(case.error) as caught:
        case.call(far_cache)

    assert isinstance(caught.value, InvalidArgumentError)
    assert case.words in str(caught.value)
    assert (proxy.connections, proxy.bytes_sent) == (0, 0)


@pytest.mark.parametrize("name", WITH_COUNT)
@pytest.mark.parametrize("count", [0, -1, -(10**30)])
def test_a_count_of_none_or_less_is_no_error_and_means_no_runs(cache: Any, name: str, count: int) -> None:
    cache.upsert_session(WorkflowSession("s", runs=[run(input="in", content="out", status="COMPLETED")]))

    def found(count: int) -> Any:
        answer = WITH_COUNT[name][0](cache, count)
        if name == "get_sessions":
            (answer,) = answer
        return answer.runs if name in {"get_session", "get_sessions"} else answer

    assert len(found(1)) == 1
    assert found(count) == []


def test_what_is_stored_is_unchanged_when_one_of_many_runs_is_bad(cache: Any) -> None:
    stored = WorkflowSession("s", runs=[run(content="as it was")])
    cache.upsert_session(stored)

    with pytest.raises(InvalidArgumentError):
        cache.upsert_runs(
            "s", [run(content="changed"), *(run(run_id=f"x{n}") for n in range(600)), run(run_id="")]
        )
    assert cache.get_session("s") == stored


def test_an_error_does_not_repeat_what_a_run_holds(cache: Any) -> None:
    with pytest.raises(UnserializableError) as caught:
        cache.upsert_run("s", run(metadata={"password": ["hunter2", object()]}))

    assert "hunter2" not in str(caught.value)


ODD = [
    *(None, True, 5, -1, 2**70, 1.5, math.nan, "x", "", b"x", "\ud800", object(), timedelta(days=1)),
    *([], (), {}, set(), [None], [5], [[]], [object()], {"a": 1}, {5: 1}, iter([1])),
]
FINE: dict[str, Callable[[], Any]] = {
    "session_id": lambda: "s",
    "session_ids": lambda: ["s"],
    "session": lambda: WorkflowSession("s"),
    "name": lambda: "name",
    "run": run,
    "runs": lambda: [run()],
    "run_id": lambda: "r1",
    "changes": dict,
    "change": lambda: lambda _: None,
}


@pytest.mark.keys_without_ttl  # for a ttl of None is none that is wrong
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
@pytest.mark.parametrize("name", [name for name in vars(SessionCache) if not name.startswith("_")])
def test_an_argument_of_a_wrong_type_is_never_a_builtin_error(cache: Any, name: str) -> None:
    cache.upsert_session(WorkflowSession("s", runs=[run(step_executor_runs=[RunOutput(agent_id="A")])]))
    _, *parameters = inspect.signature(getattr(SessionCache, name)).parameters.values()
    needed = {each.name for each in parameters if each.default is each.empty}

    for parameter, odd in itertools.product(parameters, ODD):
        arguments = {each: FINE[each]() for each in needed} | {parameter.name: odd}
        if name == "get_messages":
            arguments = {"agent_id": "A"} | arguments
        with contextlib.suppress(SessionCacheError):
            answer = getattr(cache, name)(**arguments)
            if name == "iter_runs":
                list(answer)


@pytest.mark.parametrize(("name", "value"), [("session_id", None), ("session_id", 5), ("metadata", [1])])
def test_what_a_loaded_session_cannot_be_is_named(cache: Any, name: str, value: Any) -> None:
    cache.upsert_session(WorkflowSession("s"))
    loaded = cache.get_session("s")
    setattr(loaded, name, value)

    with pytest.raises(InvalidArgumentError, match=f"session.{name}"):
        cache.upsert_session(loaded)


def test_a_loaded_session_whose_runs_became_a_tuple_is_refreshed(cache: Any) -> None:
    cache.upsert_session(WorkflowSession("s", runs=[run()]))
    loaded = cache.get_session("s")
    loaded.runs = tuple(loaded.runs)
    cache.rename_session("s", "new")

    assert cache.refresh(loaded)
    assert loaded == cache.get_session("s")
