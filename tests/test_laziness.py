"""A loaded session decodes heads; bodies decode on first use, and damage shows where it is touched."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from sessioncache.errors import DamagedRunError
from sessioncache.models import WorkflowRunOutput, WorkflowSession
from sessioncache.storage import codec
from strategies import workflow_sessions
from support.interleaving import another_worker, watched
from support.samples import a_message, a_run, a_run_of, a_session, ids, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.subjects import Caches

DATA = Path(__file__).parent / "data"
SAMPLES = [json.loads(line) for line in (DATA / "agno_sessions.jsonl").read_text().splitlines()]
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
def writer(caches: Caches) -> Any:
    """Another worker, on the same sessions."""
    return another_worker(caches)


@pytest.fixture
def spoil(admin: Any, caches: Caches) -> Callable[..., None]:
    """Overwrite members of a run of session s: `spoil("r1", head=b"h...", body=b"b...")`."""
    key = f"{caches.prefix}:{{s}}:runs"

    def overwrite(run_id: str, head: bytes | None = None, body: bytes | None = None) -> None:
        order = round(admin.zscore(key, f"i{run_id}") * 2**60)
        for score, member in ((order, head), (-order, body)):
            if member is not None:
                admin.zremrangebyscore(key, score, score)
                admin.zadd(key, {member: score})

    return overwrite


@pytest.fixture
def members(admin: Any, caches: Caches) -> Callable[[], dict[bytes, float]]:
    """All that is stored of the runs of session s."""
    return lambda: dict(admin.zrange(f"{caches.prefix}:{{s}}:runs", 0, -1, withscores=True))


def with_bodies(count: int = 4) -> WorkflowSession:
    return a_session("s", [a_run_of(f"r{n}", a_message(f"m{n}"), at=n + 1) for n in range(count)])


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
    "save": lambda cache: cache.upsert_session(cache.get_session("s")),
    "update": lambda cache: cache.update_session("s", lambda session: session.metadata.update(k=1)),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run("new", 9)),
}


@pytest.mark.parametrize("name", LOADS)
def test_loading_and_saving_decode_no_body(cache: Any, decoded: list[bytes], name: str) -> None:
    cache.upsert_session(with_bodies())

    LOADS[name](cache)

    assert decoded == []


def test_refreshing_decodes_no_body(cache: Any, writer: Any, decoded: list[bytes]) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")
    writer.upsert_run("s", a_run_of("r1", a_message("changed")))

    cache.refresh(session)

    assert decoded == []


def test_one_body_is_decoded_once(cache: Any, decoded: list[bytes]) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")

    first = session.runs[1].step_executor_runs
    assert session.runs[1].step_executor_runs is first
    assert session.runs[1].metadata is None

    assert len(decoded) == 1
    assert [run.has_pending_body for run in session.runs] == [True, False, True, True]


@pytest.mark.parametrize("name", USES)
def test_any_use_of_a_loaded_run_is_that_of_the_run_that_was_stored(cache: Any, name: str) -> None:
    for sample in SAMPLES[:4]:
        session = WorkflowSession.from_dict(sample)
        assert session is not None
        cache.upsert_session(session)
        loaded = cache.get_session(session.session_id)
        eager = sorted(session.runs or [], key=lambda run: run.created_at or 0)

        assert loaded.runs
        assert [run.has_pending_body for run in loaded.runs] == [True] * len(eager)
        for lazy, other in zip(loaded.runs, eager, strict=True):
            use = USES[name]
            assert use(lazy) == use(other)


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_any_run_that_was_loaded_is_equal_to_the_one_stored(cache: Any) -> None:
    numbers = iter(range(1_000_000))

    @settings(max_examples=40)
    @given(workflow_sessions(max_runs=4))
    def check(session: WorkflowSession) -> None:
        cache.upsert_session(named(session, f"s{next(numbers)}"))
        loaded = {run.run_id: run for run in cache.get_session(session.session_id).runs}

        for run in session.runs or []:
            eager = WorkflowRunOutput.from_dict(run.to_dict())
            for use in USES.values():
                assert use(cache.get_run(session.session_id, run.run_id)) == use(eager)
            assert loaded[run.run_id] == run
            assert run == loaded[run.run_id]

    check()


def test_a_copied_or_pickled_session_is_equal_and_can_be_saved(cache: Any) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")

    for twin in (copy.copy(session), copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        assert twin == session
        twin.metadata = {"turn": 1}
        cache.upsert_session(twin)

    assert cache.get_session("s").metadata == {"turn": 1}
    assert cache.get_session("s").runs == with_bodies().runs


@pytest.mark.parametrize(
    "use",
    [repr, copy.deepcopy, WorkflowRunOutput.to_dict, pickle.dumps],
    ids=["repr", "deepcopy", "to_dict", "pickle"],
)
@pytest.mark.parametrize("part", ["head", "body"])
def test_damage_is_an_error_that_names_session_and_run(
    cache: Any, spoil: Any, part: str, use: Callable[[Any], Any]
) -> None:
    cache.upsert_session(with_bodies())
    spoil("r1", **{part: part[:1].encode() + b":0:damaged"})

    session = cache.get_session("s")

    for run in (
        session.runs[1],
        cache.get_run("s", "r1"),
        cache.get_runs("s")[1],
        list(cache.iter_runs("s"))[1],
    ):
        assert run.run_id == "r1"
        with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
            use(run)
    assert ids(session.runs) == ["r0", "r1", "r2", "r3"]
    assert [run.to_dict() for run in session.runs if run.run_id != "r1"] == [
        run.to_dict() for run in with_bodies().runs or [] if run.run_id != "r1"
    ]


BODIES = {
    "empty": b"b",
    "no kind": b"",
    "cut off": b"b\x01\x92\xa2r1\x81\xa1k",
    "later format": b"b\x7f\x92\xa2r1\x80",
    "another run's": b"b" + codec.pack_pair("r2", {"metadata": {"k": 1}}, "run"),
    "no pair": b"b" + codec.pack({"metadata": {}}, "run"),
    "of another kind": b"x" + codec.pack_pair("r1", {}, "run"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_damaged_body_hurts_only_who_touches_it(cache: Any, spoil: Any, name: str) -> None:
    cache.upsert_session(with_bodies())
    spoil("r1", body=BODIES[name])

    run = cache.get_session("s").runs[1]

    assert (run.run_id, run.content) == ("r1", "out r1")
    with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
        _ = run.step_executor_runs
    assert len(cache.get_chat_history("s")) == 4


HEADS = {
    "empty": b"h",
    "no kind": b"",
    "cut off": b"h:0:\x01\x82\xa6run_id",
    "later format": b"h:0:\x7f\x80",
    "without a run_id": b"h:0:" + codec.pack({"content": 1}, "run"),
    "no dict": b"h:0:" + codec.pack(["r1"], "run"),
    "of another kind": b"x:0:" + codec.pack({"run_id": "r1"}, "run"),
    "attempt": b"hx:0:" + codec.pack({"run_id": "r1"}, "run"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_damaged_head_hurts_only_who_touches_it(cache: Any, spoil: Any, name: str) -> None:
    cache.upsert_session(with_bodies())
    spoil("r1", head=HEADS[name])

    session = cache.get_session("s")

    assert session.runs[1].run_id == "r1"
    assert session.get_run("r3").content == "out r3"
    for field in ("content", "status", "metadata"):
        with pytest.raises(DamagedRunError, match="'r1' of session 's'"):
            getattr(session.runs[1], field)
    with pytest.raises(DamagedRunError):
        session.get_chat_history()


def test_a_run_of_which_nothing_decodes_leaves_the_others_readable(cache: Any, spoil: Any) -> None:
    cache.upsert_session(with_bodies())
    for name in ("r1", "r2"):
        spoil(name, head=b"h:0:damaged " + name.encode(), body=b"bdamaged " + name.encode())

    session = cache.get_session("s")

    assert [run.content for run in (session.runs[0], session.runs[3])] == ["out r0", "out r3"]
    for run in session.runs[1:3]:
        with pytest.raises(DamagedRunError, match="session 's'"):
            _ = run.content
    session.metadata = {"k": 1}
    cache.upsert_session(session)
    assert cache.get_session("s").metadata == {"k": 1}


@pytest.mark.parametrize("part", ["head", "body"])
def test_saving_rewrites_nothing_of_a_damaged_run(cache: Any, spoil: Any, members: Any, part: str) -> None:
    cache.upsert_session(with_bodies())
    spoil("r1", **{part: part[:1].encode() + b":0:damaged"})
    before = members()
    session = cache.get_session("s")
    with pytest.raises(DamagedRunError):
        _ = session.runs[1].metadata
    session.metadata = {"k": 1}

    cache.upsert_session(session)
    cache.update_session("s", lambda loaded: loaded.metadata.update(k=2))

    assert members() == before
    assert cache.get_session("s").metadata == {"k": 2}


def test_saving_rewrites_nothing_that_was_read_or_not_but_is_unchanged(cache: Any, members: Any) -> None:
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


def test_a_field_of_the_body_that_is_set_before_the_rest_is_read_is_saved(cache: Any) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")
    session.runs[1].metadata = {"set": True}

    cache.upsert_session(session)

    stored = cache.get_run("s", "r1")
    assert stored.metadata == {"set": True}
    assert stored.step_executor_runs == with_bodies().runs[1].step_executor_runs  # type: ignore[index]


def test_a_part_of_a_body_changed_in_place_is_saved(cache: Any) -> None:
    cache.upsert_session(with_bodies())
    session = cache.get_session("s")
    session.runs[2].step_executor_runs[0].messages[0].content = "changed"

    cache.upsert_session(session)

    assert cache.get_run("s", "r2").step_executor_runs[0].messages[0].content == "changed"
