"""A load decodes heads; the body of a run decodes on its first use, once; what is unchanged is not sent."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from sessioncache.models import WorkflowRunOutput, WorkflowSession
from sessioncache.storage import codec, keys
from strategies import workflow_sessions
from support.interleaving import watched
from support.samples import a_message, a_run, a_run_of, a_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.subjects import Caches

DATA = Path(__file__).parent / "data" / "agno_sessions.jsonl"
REAL: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text().splitlines()]
USES: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "to_dict": lambda run: run.to_dict(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda run: pickle.loads(pickle.dumps(run)),
    "replace": lambda run: dataclasses.replace(run, content="other"),
    "asdict": dataclasses.asdict,
    "equal": lambda run: run == copy.deepcopy(run),
    "vars": lambda run: (run.to_dict(), vars(run))[1],
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that were decoded."""
    found: list[bytes] = []
    unpack_pair = codec.unpack_pair

    def unpack(packed: bytes) -> Any:
        found.append(packed)
        return unpack_pair(packed)

    monkeypatch.setattr(codec, "unpack_pair", unpack)
    return found


@pytest.fixture
def members(admin: Any, caches: Caches) -> Callable[[], dict[bytes, float]]:
    """All that is stored of the runs of session s."""
    key = keys.session_keys(caches.prefix, "s")[1]
    return lambda: dict(admin.zrange(key, 0, -1, withscores=True))


def with_bodies() -> WorkflowSession:
    return a_session("s", [a_run_of(f"r{n}", a_message(f"m{n}"), at=n + 1) for n in range(4)])


def _save(cache: Any) -> None:
    session = cache.get_session("s")
    session.metadata["k"] = 1
    session.runs.append(a_run("new", 9))
    cache.upsert_session(session)


def _refresh(cache: Any) -> None:
    session = cache.get_session("s")
    cache.upsert_run("s", a_run_of("r1", a_message("changed")))
    assert cache.refresh(session)


LOADS: dict[str, Callable[[Any], Any]] = {
    "get_session": lambda cache: cache.get_session("s"),
    "part": lambda cache: cache.get_session("s", last_n_runs=2),
    "get_sessions": lambda cache: cache.get_sessions(["s", "s"]),
    "get_run": lambda cache: cache.get_run("s", "r1"),
    "get_runs": lambda cache: cache.get_runs("s"),
    "by status": lambda cache: cache.get_runs("s", statuses=["COMPLETED"], last_n_runs=1),
    "iter_runs": lambda cache: list(cache.iter_runs("s", page_size=2)),
    "chat": lambda cache: cache.get_chat_history("s"),
    "history": lambda cache: cache.get_workflow_history("s", 2),
    "list": lambda cache: cache.list_sessions(),
    "history of a session": lambda cache: cache.get_session("s").get_workflow_history(),
    "chat of a session": lambda cache: cache.get_session("s").get_chat_history(),
    "save": _save,
    "refresh": _refresh,
    "update": lambda cache: cache.update_session("s", lambda session: session.metadata.update(k=1)),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("new", 9)),
}


@pytest.mark.parametrize("name", LOADS)
def test_loads_and_saves_decode_no_body(cache: Any, decoded: list[bytes], name: str) -> None:
    cache.upsert_session(with_bodies())

    LOADS[name](cache)

    assert decoded == []


def test_one_body_is_decoded_once(cache: Any, decoded: list[bytes]) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")

    first = session.runs[1].step_executor_runs
    assert session.runs[1].step_executor_runs is first
    assert session.runs[1].metadata is None

    assert len(decoded) == 1
    assert [run.has_pending_body for run in session.runs] == [True, False, True, True]


def test_real_runs_are_used_as_they_were_stored(cache: Any) -> None:
    for data in REAL[:4]:
        session: Any = WorkflowSession.from_dict(data)
        cache.upsert_session(session)
        for run in session.runs:
            for name, use in USES.items():
                lazy = cache.get_run(session.session_id, run.run_id)
                assert lazy.has_pending_body
                assert use(lazy) == use(run), name


@settings(max_examples=20)
@given(session=workflow_sessions(max_runs=4))
def test_any_session_comes_back_equal(cache: Any, session: Any) -> None:
    cache.delete_session(session.session_id)
    cache.upsert_session(session)
    loaded = cache.get_session(session.session_id)

    # Runs come back in the order of their creation, as they are stored.
    session.runs = sorted(session.runs or (), key=lambda run: run.created_at)
    for run in session.runs:
        eager = WorkflowRunOutput.from_dict(run.to_dict())
        for use in USES.values():
            assert use(cache.get_run(session.session_id, run.run_id)) == use(eager)
    assert loaded == session
    assert session == loaded
    assert loaded.to_dict() == session.to_dict()


def test_copies_of_a_session_can_be_saved(cache: Any) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")

    for twin in (copy.copy(session), copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        assert twin == session
        twin.metadata = {"turn": 1}
        cache.upsert_session(twin)

    assert cache.get_session("s").metadata == {"turn": 1}
    assert cache.get_session("s").runs == with_bodies().runs


def test_unchanged_parts_are_not_sent(cache: Any, members: Any) -> None:
    session = with_bodies()
    for run in session.runs or []:
        run.metadata = {"long": "x" * 10_000}
    cache.upsert_session(session)
    before = members()
    session = cache.get_session("s")
    session.runs[0].to_dict()
    repr(session.runs[1])
    session.runs[3].content = "changed"
    session.metadata = {"k": 1}

    with watched(cache) as trips:
        cache.upsert_session(session)

    sent = sum(len(part) for request in trips.requests for command in request for part in command)
    assert sent < 12_000, "of the bodies, one alone"
    changed = dict(members().items() ^ before.items())
    assert {round(abs(score)) for member, score in changed.items() if score >= 1 or score <= -1} == {
        round(abs(score)) for member, score in before.items() if b"r3" in member and member[:1] == b"h"
    }


def _set_a_field(run: Any) -> None:
    run.metadata = {"set": True}


def _change_in_place(run: Any) -> None:
    run.step_executor_runs[0].messages[0].content = "changed"


@pytest.mark.parametrize("change", [_set_a_field, _change_in_place])
def test_a_changed_body_is_saved(cache: Any, change: Callable[[Any], None]) -> None:
    cache.upsert_session(with_bodies())
    session, expected = cache.get_session("s"), with_bodies()
    for runs in (session.runs, expected.runs):
        change(runs[2])  # type: ignore[index]

    cache.upsert_session(session)

    assert cache.get_session("s").runs == expected.runs
