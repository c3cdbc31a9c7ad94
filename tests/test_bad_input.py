"""Bad input is an error of ours that names the argument, and nothing is sent."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import (
    InvalidArgumentError,
    RunOutput,
    RunTooLargeError,
    SessionCache,
    SessionCacheError,
    UnserializableError,
    WorkflowSession,
)
from support.samples import a_run, a_session
from support.subjects import Caches, Subject
from support.wire import CountingProxy

if TYPE_CHECKING:
    from support.servers import RedisServer

Calls = dict[str, Callable[[Any, Any], object]]
"""Calls of a cache with a value, by the name of the method."""

NOT_TEXT = [5, b"s", ["s"], True]
NO_ID = [*NOT_TEXT, "", "x" * 513, "é" * 257, "\ud800"]
NO_COUNT = [True, False, 1.5, 2.0, "3", b"3", [1], math.nan]
NO_TIME = [-1, -0.5, 1_700_000_000_000, 2**33, math.nan, math.inf, True, "1700000000", b"1", [1]]
NO_TTL = [0, -1, 1.5, True, "60", b"60", timedelta(0), timedelta(seconds=-1), timedelta(days=36501), 2**47]
UNPACKABLE = [object(), {1: 2}, 10**5000, len, [1, {2, object}]]


def session(**fields: Any) -> WorkflowSession:
    """A session with these attributes, set after it was made, as code that goes wrong does."""
    made = a_session("s")
    vars(made).update(fields)
    return made


def of_session(name: str, wrapped: Callable[[Any], Any] = lambda value: value) -> Calls:
    """Save a session with a value in a field."""
    return {f"session.{name}": lambda cache, value: cache.upsert_session(session(**{name: wrapped(value)}))}


def of_run(name: str, wrapped: Callable[[Any], Any] = lambda value: value) -> Calls:
    """Store a run with a value in a field, by every call that stores one."""

    def store(call: Any, cache: Any, value: Any) -> None:
        call(cache, a_run(**{"run_id": "r1", name: wrapped(value)}))

    return {f"run.{name} of {method}": partial(store, call) for method, call in WITH_A_RUN.items()}


WITH_SESSION_ID: Calls = {
    "get_session": lambda cache, sid: cache.get_session(sid),
    "get_sessions": lambda cache, sid: cache.get_sessions(["s", sid]),
    "rename_session": lambda cache, sid: cache.rename_session(sid, "name"),
    "touch_session": lambda cache, sid: cache.touch_session(sid),
    "delete_session": lambda cache, sid: cache.delete_session(sid),
    "upsert_run": lambda cache, sid: cache.upsert_run(sid, a_run("r1")),
    "upsert_runs": lambda cache, sid: cache.upsert_runs(sid, [a_run("r1")]),
    "upsert_runs, none": lambda cache, sid: cache.upsert_runs(sid, []),
    "get_run": lambda cache, sid: cache.get_run(sid, "r1"),
    "get_runs": lambda cache, sid: cache.get_runs(sid),
    "delete_run": lambda cache, sid: cache.delete_run(sid, "r1"),
    **of_session("session_id"),
}
WITH_RUN_ID: Calls = {
    "get_run": lambda cache, rid: cache.get_run("s", rid),
    "delete_run": lambda cache, rid: cache.delete_run("s", rid),
}
WITH_USER_ID: Calls = {
    "get_session": lambda cache, user: cache.get_session("s", user_id=user),
    "rename_session": lambda cache, user: cache.rename_session("s", "name", user_id=user),
    "delete_session": lambda cache, user: cache.delete_session("s", user_id=user),
    **of_session("user_id"),
    "run.user_id": lambda cache, user: cache.upsert_run("s", a_run("r1", user_id=user)),
}
WITH_A_RUN: Calls = {
    "upsert_run": lambda cache, run: cache.upsert_run("s", run),
    "upsert_runs": lambda cache, run: cache.upsert_runs("s", [a_run("fine"), run]),
    "upsert_session": lambda cache, run: cache.upsert_session(session(runs=[a_run("fine"), run])),
}
WITH_COUNT: Calls = {
    "get_session": lambda cache, n: cache.get_session("s", last_n_runs=n).runs,
    "get_sessions": lambda cache, n: cache.get_sessions(["s"], last_n_runs=n)[0].runs,
    "get_runs": lambda cache, n: cache.get_runs("s", last_n_runs=n),
    "get_chat_history": lambda cache, n: cache.get_chat_history("s", n),
    "get_workflow_history": lambda cache, n: cache.get_workflow_history("s", n),
}


def with_messages(name: str) -> Calls:
    return {
        "get_messages": lambda cache, value: cache.get_messages("s", **({"agent_id": "a"} | {name: value}))
    }


STATUSES: dict[str, Calls] = {
    "statuses": {"get_runs": lambda cache, value: cache.get_runs("s", statuses=value)},
    "skip_statuses": with_messages("skip_statuses"),
}
NO_STATUS: list[Any] = [["COMPLETE"], ["error", ""], [None], [5], [[]], {"completed ": 1}]
NO_RUN = [None, 5, "run", {"run_id": "r1"}, RunOutput(run_id="r1"), WorkflowSession("s")]
NO_SESSION = [None, 5, "s", {"session_id": "s"}, [], WorkflowSession, a_run("r")]
DICTS = ("metadata", "workflow_data", "session_data")

WRONG: list[tuple[str, Calls, list[Any]]] = [
    ("session_id", WITH_SESSION_ID, [None, *NO_ID]),
    ("session_id", {"get_sessions": lambda cache, v: cache.get_sessions(v)}, ["s", ["s", "s", None]]),
    ("session_ids", {"get_sessions": lambda cache, v: cache.get_sessions(v)}, [None, 5]),
    ("user_id", WITH_USER_ID, NO_ID),
    ("run_id", WITH_RUN_ID, [None, *NO_ID]),
    ("last_n_runs must be a whole number", WITH_COUNT, NO_COUNT),
    ("name must be", {"": lambda cache, v: cache.rename_session("s", v)}, [None, *NOT_TEXT]),
    ("ttl", {"touch_session": lambda cache, v: cache.touch_session("s", v)}, NO_TTL),
    ("skip_roles must be", with_messages("skip_roles"), [5, True, b"user"]),
    ("agent_id must be a str", with_messages("agent_id"), [5, b"a", ["a"], True]),
    ("team_id must be a str", with_messages("team_id"), [5, b"a", ["a"], True]),
    *((f"{name} must be a list", calls, ["ERROR", b"ERROR", 5, True]) for name, calls in STATUSES.items()),
    *((f"{name} has the unknown status", calls, NO_STATUS) for name, calls in STATUSES.items()),
    ("run must be a WorkflowRunOutput", WITH_A_RUN, NO_RUN),
    ("run.run_id", of_run("run_id"), [None, *NO_ID]),
    ("run.created_at", of_run("created_at"), NO_TIME),
    ("run 'r1' is not 's'", of_run("session_id"), ["other", "", 5, b"s"]),
    ("run.queue_attempt", of_run("queue_attempt"), [-1, 1.5, True, "1", 2**53 + 1]),
    ("extra_fields of a W", of_run("extra_fields"), [5, "x", ["a"], [[]]]),
    (
        "runs must be a list",
        {"": lambda cache, v: cache.upsert_runs("s", v)},
        [*NO_RUN[:3], b"runs", a_run("r")],
    ),
    ("session must be a WorkflowSession", {"": lambda cache, v: cache.upsert_session(v)}, NO_SESSION),
    ("session.created_at", of_session("created_at"), NO_TIME),
    ("session.workflow_id", of_session("workflow_id"), [5, b"w", ["w"]]),
    ("session.runs", of_session("runs"), [5, object()]),
    ("session.metadata", of_session("metadata"), ["text", 5, [1]]),
    ("two runs of one run_id", of_session("runs"), [[a_run("r1"), a_run("r1")]]),
    (
        "expect_rev",
        {"": lambda cache, v: cache.upsert_session(session(), expect_rev=v)},
        [-1, True, 1.5, "1", 2**60],
    ),
]
UNSERIALIZABLE: list[tuple[str, Calls, list[Any]]] = [
    ("run.metadata['x'][0]", of_run("metadata", lambda v: {"x": [v]}), UNPACKABLE),
    ("run.input", of_run("input"), UNPACKABLE),
    *((f"session.{name}['k']", of_session(name, lambda v: {"k": v}), UNPACKABLE) for name in DICTS),
    *((f"session.{name}", of_session(name, lambda v: {v: 1}), [1, None, b"k"]) for name in DICTS),
    (
        "session.session_state['k']",
        of_session("session_data", lambda v: {"session_state": {"k": v}}),
        [len, {1: 2}],
    ),
]
TOO_LARGE: list[tuple[str, Calls, list[Any]]] = [
    ("max_run_bytes", of_run("input"), ["x" * 3000]),
    ("'r1'", of_run("events"), [["x" * 3000]]),
]
ERRORS: dict[type[InvalidArgumentError], list[tuple[str, Calls, list[Any]]]] = {
    InvalidArgumentError: WRONG, UnserializableError: UNSERIALIZABLE, RunTooLargeError: TOO_LARGE
}  # fmt: skip


def cases() -> Iterator[Any]:
    """All bad calls: the call, its value, the error and words of it."""
    numbers = itertools.count()
    for error, table in ERRORS.items():
        for words, calls, values in table:
            for (name, call), value in itertools.product(calls.items(), values):
                yield pytest.param(call, value, error, words, id=f"{words} {name} {next(numbers)}")


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


@pytest.mark.parametrize(("call", "value", "error", "words"), list(cases()))
def test_bad_input_is_refused_by_name(
    far_cache: Any, proxy: CountingProxy, call: Any, value: Any, error: Any, words: str
) -> None:
    proxy.reset()

    with pytest.raises(error) as caught:
        call(far_cache, value)

    assert isinstance(caught.value, InvalidArgumentError)
    assert words in str(caught.value)
    assert (proxy.connections, proxy.bytes_sent) == (0, 0)


@pytest.mark.parametrize("call", WITH_COUNT.values(), ids=WITH_COUNT)
@pytest.mark.parametrize("count", [0, -1, -(10**30)])
def test_a_count_of_none_or_less_means_no_runs(cache: Any, call: Any, count: int) -> None:
    cache.upsert_session(a_session("s", 2))

    assert len(call(cache, 1)) == 1
    assert call(cache, count) == []


def test_one_bad_run_of_many_has_nothing_stored(cache: Any) -> None:
    stored = a_session("s", 1)
    cache.upsert_session(stored)
    runs = [a_run("r0", content="changed"), *(a_run(f"x{number}") for number in range(600)), a_run("")]

    with pytest.raises(InvalidArgumentError):
        cache.upsert_runs("s", runs)
    assert cache.get_session("s") == stored


def test_an_error_does_not_repeat_what_a_run_holds(cache: Any) -> None:
    with pytest.raises(UnserializableError) as caught:
        cache.upsert_run("s", a_run("r", metadata={"password": ["hunter2", object()]}))

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
    "run": lambda: a_run("r1"),
    "runs": lambda: [a_run("r1")],
    "run_id": lambda: "r1",
    "changes": dict,
    "change": lambda: lambda _: None,
}


NOT_CALLS = {"lease", "close", "for_user", "from_url", "near_cache_info"}


@pytest.mark.keys_without_ttl  # for a ttl of None is none that is wrong
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
@pytest.mark.parametrize("name", sorted({name for name in vars(SessionCache) if name[0] != "_"} - NOT_CALLS))
def test_a_wrong_type_is_never_a_builtin_error(cache: Any, name: str) -> None:
    cache.upsert_session(a_session("s", [a_run("r1", step_executor_runs=[RunOutput(agent_id="A")])]))
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
