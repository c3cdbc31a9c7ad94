"""What agno's durable queue asks of a Db: a job queue, and writes that refuse a late worker."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from agno.agent import Agent
from agno.db.redis import RedisDb
from agno.db.schemas.evals import EvalRunRecord, EvalType
from agno.db.schemas.jobs import QueuedJob
from agno.db.schemas.memory import UserMemory
from agno.job_queue.store import InMemoryQueueStore
from agno.os import job_queue
from agno.run.agent import RunOutput
from agno.run.status_persist import RunPersistOutcome
from agno.session import AgentSession

from sessioncache import SessionNotFoundError, SessionOwnershipError
from sessioncache.integrations.agno import AsyncSessionCacheDb, SessionCacheDb
from sessioncache.integrations.agno.calls import SessionCalls
from support.facade import BlockingFacade
from support.interleaving import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.facade import LoopThread

UPDATED = RunPersistOutcome.UPDATED
MISSING = RunPersistOutcome.MISSING
STALE = RunPersistOutcome.STALE_ATTEMPT
REFUSED = RunPersistOutcome.TERMINAL_REFUSED

WORKERS = 8
CHANGES_EACH = 20


def a_session(user_id: str | None = "alice", **data: Any) -> AgentSession:
    return AgentSession(session_id="s", agent_id="ann", user_id=user_id, session_data=data, created_at=1)


def a_run(run_id: str = "r", **fields: Any) -> dict[str, Any]:
    return RunOutput(run_id=run_id, agent_id="ann", created_at=100).to_dict() | fields


def stored_run(db: Any, run_id: str = "r") -> Any:
    row = db.get_run(run_id, deserialize=False)
    return row and row["run_data"]


def saved(db: Any, user_id: str | None = "alice", **fields: Any) -> Any:
    """Save a session with a run of some fields; return the run as it is stored."""
    db.upsert_session(a_session(user_id))
    assert db.append_run_to_session_if_absent("s", a_run(**fields), user_id)
    return stored_run(db)


# a run is changed unless a later attempt or an end of it is stored

ENDED = {"status": "COMPLETED", "content": "done", "queue_attempt": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], RunPersistOutcome, dict[str, Any]]] = {
    "fields": ({"content": "a"}, {"fields": {"status": "ERROR"}}, UPDATED, {"status": "ERROR"}),
    "a status in any spelling": ({}, {"fields": {"status": "running"}}, UPDATED, {"status": "RUNNING"}),
    "the first attempt": (
        {"queue_attempt": 0},
        {"fields": {"status": "RUNNING"}, "expected_attempt": 1},
        UPDATED,
        {"status": "RUNNING", "queue_attempt": 1},
    ),
    "the same attempt": (
        {"queue_attempt": 1},
        {"fields": {"x": 1}, "expected_attempt": 1},
        UPDATED,
        {"x": 1},
    ),
    "no attempt": ({"queue_attempt": 3}, {"fields": {"x": 1}}, UPDATED, {"x": 1}),
    "an earlier attempt": ({"queue_attempt": 2}, {"fields": {"x": 1}, "expected_attempt": 1}, STALE, {}),
    "an earlier attempt in the fields": ({"queue_attempt": 2}, {"fields": {"queue_attempt": 1}}, STALE, {}),
    "an earlier attempt at an end": (
        ENDED,
        {"fields": {"status": "ERROR"}, "expected_attempt": 1},
        STALE,
        {},
    ),
    "over an end": (ENDED, {"fields": {"status": "ERROR"}, "expected_attempt": 3}, REFUSED, {}),
    "over a cancelled run": ({"status": "CANCELLED"}, {"fields": {"status": "COMPLETED"}}, REFUSED, {}),
    "the same end": (ENDED, {"fields": {"status": "completed", "x": 1}}, UPDATED, {"x": 1}),
    "an end, but for its status": (ENDED, {"fields": {"x": 1}}, UPDATED, {"x": 1}),
    "after an error": (
        {"status": "ERROR"},
        {"fields": {"status": "RUNNING"}},
        UPDATED,
        {"status": "RUNNING"},
    ),
    "content if there is none": ({}, {"fields": {}, "content_if_absent": "why"}, UPDATED, {"content": "why"}),
    "content if there is some": ({"content": "a"}, {"fields": {}, "content_if_absent": "why"}, UPDATED, {}),
    "content that is new": (
        {},
        {"fields": {"content": "b"}, "content_if_absent": "why"},
        UPDATED,
        {"content": "b"},
    ),
    "another user's": ({}, {"fields": {"x": 1}, "user_id": "bob"}, MISSING, {}),
    "nobody's": ({}, {"fields": {"x": 1}, "user_id": None}, MISSING, {}),
    "a run that is not there": ({}, {"fields": {"x": 1}, "run_id": "other"}, MISSING, {}),
    "a session that is not there": ({}, {"fields": {"x": 1}, "session_id": "other"}, MISSING, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_updated_unless_a_later_attempt_or_an_end_is_stored(case: str, either_db: Any) -> None:
    stored, call, outcome, changed = CASES[case]
    before = saved(either_db, **stored)

    answer = either_db.update_run_in_session(**{"session_id": "s", "run_id": "r", "user_id": "alice", **call})

    assert answer is outcome
    assert stored_run(either_db) == before | changed


def test_a_run_of_nobody_is_anybodys_to_update(either_db: Any) -> None:
    saved(either_db, user_id=None)

    assert either_db.update_run_in_session("s", "r", {"x": 1}, user_id="bob") is UPDATED
    assert either_db.get_run("r", deserialize=False)["user_id"] is None


def test_a_run_keeps_its_place_its_type_and_its_index(either_db: Any) -> None:
    either_db.upsert_session(a_session())
    for number in range(3):
        either_db.upsert_run(
            RunOutput(run_id=f"r{number}", agent_id="ann", created_at=9), "s", "alice", number
        )
    before = either_db.get_run("r1", deserialize=False)

    either_db.update_run_in_session("s", "r1", {"x": 1, "created_at": 99}, user_id="alice")

    after = either_db.get_run("r1", deserialize=False)
    assert [run.run_id for run in either_db.get_session("s").runs] == ["r0", "r1", "r2"]
    assert {name: after[name] for name in ("run_type", "run_index")} == {
        name: before[name] for name in ("run_type", "run_index")
    }


def test_a_run_without_a_date_gets_none(either_db: Any, db: Any) -> None:
    either_db.upsert_session(a_session())
    either_db.append_run_to_session_if_absent("s", {"run_id": "r", "agent_id": "ann"}, "alice")
    dated = db.get_run("r", deserialize=False)["created_at"]

    assert either_db.update_run_in_session("s", "r", {"x": 1}, user_id="alice") is UPDATED

    assert stored_run(db) == {"run_id": "r", "agent_id": "ann", "x": 1}
    assert db.get_run("r", deserialize=False)["created_at"] == dated


# session_data in the same step


def data_of(db: Any) -> Any:
    return db.get_session("s", deserialize=False)["session_data"]


def test_session_data_are_replaced_with_the_run(either_db: Any) -> None:
    either_db.upsert_session(a_session(kept=1, session_state={"a": 1}))
    either_db.append_run_to_session_if_absent("s", a_run(), "alice")

    data = {"session_state": {"b": 2}, "session_metrics": {"tokens": 3}}
    answer = either_db.update_run_in_session("s", "r", {"x": 1}, 1, "alice", session_data=data)

    assert answer is UPDATED
    assert data_of(either_db) == data
    assert stored_run(either_db)["x"] == 1


@pytest.mark.parametrize("attempt", [1, 2], ids=["stale", "ended"])
def test_a_refused_run_leaves_the_session_data(attempt: int, either_db: Any) -> None:
    before = saved(either_db, **ENDED)

    answer = either_db.update_run_in_session(
        "s", "r", {"status": "ERROR"}, attempt, "alice", session_data={"new": 1}
    )

    assert answer in (STALE, REFUSED)
    assert (stored_run(either_db), data_of(either_db)) == (before, {})


@pytest.mark.parametrize("user_id", ["bob", None])
def test_data_of_another_users_session_are_an_error_and_nothing_is_written(
    user_id: str | None, either_db: Any
) -> None:
    either_db.upsert_session(a_session("alice", kept=1))
    either_db.append_run_to_session_if_absent("s", a_run())

    with pytest.raises(SessionOwnershipError):
        either_db.update_run_in_session("s", "r", {"x": 1}, user_id=user_id, session_data={"new": 1})

    assert (stored_run(either_db), data_of(either_db)) == (a_run(), {"kept": 1})


# a run, or a session, is stored if it is not there


def test_a_run_is_appended_once(either_db: Any) -> None:
    assert either_db.append_run_to_session_if_absent("s", a_run(), "alice") is None

    either_db.upsert_session(a_session())
    assert either_db.append_run_to_session_if_absent("s", a_run(queue_attempt=1), "alice") is True
    for attempt in (0, 1, 2, None):
        late = a_run(content="late", queue_attempt=attempt)
        assert either_db.append_run_to_session_if_absent("s", late, "alice") is False

    assert stored_run(either_db) == a_run(queue_attempt=1)
    assert either_db.get_run("r", deserialize=False)["user_id"] == "alice"


def test_no_run_is_appended_to_another_users_session(either_db: Any) -> None:
    either_db.upsert_session(a_session("alice"))

    with pytest.raises(SessionOwnershipError):
        either_db.append_run_to_session_if_absent("s", a_run(), "bob")

    assert stored_run(either_db) is None


@pytest.mark.parametrize("user_id", ["alice", "bob", None])
def test_a_session_is_inserted_once_and_without_its_runs(user_id: str | None, either_db: Any) -> None:
    session = a_session("alice", kept=1)
    session.runs = [RunOutput(run_id="r", agent_id="ann")]

    assert either_db.insert_session_if_absent(session) is True
    before = either_db.get_session("s", deserialize=False)
    assert either_db.insert_session_if_absent(a_session(user_id, other=1)) is False

    assert either_db.get_session("s", deserialize=False) == before
    assert (before["session_data"], before["runs"], before["user_id"]) == ({"kept": 1}, [], "alice")


def test_a_session_that_was_loaded_and_is_there_is_not_inserted(either_db: Any) -> None:
    either_db.upsert_session(a_session())

    assert either_db.insert_session_if_absent(either_db.get_session("s")) is False


def test_a_loaded_session_that_another_db_deleted_is_not_inserted(either_db: Any, make_db: Any) -> None:
    either_db.upsert_session(a_session())
    loaded = either_db.get_session("s")
    make_db().delete_session("s")

    with pytest.raises(SessionNotFoundError, match="deleted"):
        either_db.insert_session_if_absent(loaded)
    assert either_db.insert_session_if_absent(a_session()) is True


# many at once


def test_writes_of_other_runs_do_not_come_between(either_db: Any, db: Any) -> None:
    saved(either_db, user_id=None)
    db.upsert_run(RunOutput(run_id="other", agent_id="ann"), "s")

    with watched(either_db, lambda _: db.update_run_in_session("s", "other", {"x": 1})) as trips:
        assert either_db.update_run_in_session("s", "r", {"x": 1}) is UPDATED

    assert len(trips) == 2


@pytest.mark.parametrize(
    ("between", "outcome"),
    [
        (lambda db: db.update_run_in_session("s", "r", {"y": 1}), UPDATED),
        (lambda db: db.update_run_in_session("s", "r", {"queue_attempt": 2}, 2), STALE),
        (lambda db: db.update_run_in_session("s", "r", {"status": "CANCELLED"}), REFUSED),
        (lambda db: db.delete_run("r"), MISSING),
        (lambda db: db.delete_session("s"), MISSING),
    ],
    ids=["changed", "a later attempt", "an end", "no run", "no session"],
)
def test_what_is_written_between_reading_and_writing_counts(
    between: Callable[[Any], object], outcome: RunPersistOutcome, either_db: Any, db: Any
) -> None:
    saved(either_db, user_id=None)
    expected: Any = None

    def write(trip: int) -> None:
        nonlocal expected
        if trip == 1:
            between(db)
            expected = stored_run(db)

    with watched(either_db, write):
        answer = either_db.update_run_in_session("s", "r", {"status": "RUNNING", "x": 1}, 1)

    assert answer is outcome
    if outcome is UPDATED:
        expected |= {"status": "RUNNING", "x": 1, "queue_attempt": 1}
    assert stored_run(db) == expected


def test_all_that_many_workers_change_of_one_run_and_of_their_own_is_kept(either_db: Any) -> None:
    saved(either_db)
    for worker in range(WORKERS):
        either_db.append_run_to_session_if_absent("s", a_run(f"own-{worker}"), "alice")

    def change(worker: int) -> None:
        for number in range(CHANGES_EACH):
            for run_id in ("r", f"own-{worker}"):
                fields = {f"{worker}-{number}": number}
                assert either_db.update_run_in_session("s", run_id, fields, 1, "alice") is UPDATED

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(change, range(WORKERS)))

    changes = [{f"{worker}-{n}": n for n in range(CHANGES_EACH)} for worker in range(WORKERS)]
    for worker, own in enumerate(changes):
        assert stored_run(either_db, f"own-{worker}") == a_run(f"own-{worker}", queue_attempt=1) | own
    everything = {name: value for own in changes for name, value in own.items()}
    assert stored_run(either_db) == a_run(queue_attempt=1) | everything


def test_of_many_workers_one_creates_the_session_and_one_the_run(either_db: Any) -> None:
    def create(worker: int) -> tuple[bool, bool]:
        inserted = either_db.insert_session_if_absent(a_session(by=worker))
        return inserted, either_db.append_run_to_session_if_absent("s", a_run(by=worker), "alice")

    with ThreadPoolExecutor(WORKERS) as pool:
        created = list(pool.map(create, range(WORKERS)))

    assert data_of(either_db) == {"by": [inserted for inserted, _ in created].index(True)}
    assert stored_run(either_db)["by"] == [appended for _, appended in created].index(True)
    assert sum(map(sum, created)) == 2


# the job queue itself

QUEUE = sorted(
    name
    for name, method in inspect.getmembers(InMemoryQueueStore, inspect.iscoroutinefunction)
    if not name.startswith("_")
)
BEFORE_3_1 = {"session_blocker"}
"""What the queue of agno 3.0 lacks."""
LONG_AGO = 1000
TIMES = {"locked_at", "updated_at", "completed_at", "available_at"}
NO_GRACE = 0


def a_job(job_id: str, *, serialized: bool = True, **fields: Any) -> dict[str, Any]:
    payload = {"input": job_id, "serialize_session": serialized}
    known = {"component_type": "agent", "component_id": "ann", "session_id": "s", "created_at": LONG_AGO}
    job = QueuedJob(job_id, **known, available_at=LONG_AGO, payload=payload, **fields)
    return job.to_dict()


STEPS: list[tuple[str, tuple[Any, ...]]] = [
    ("enqueue_job", (a_job("a", idempotency_key="k", user_id="alice"),)),
    ("enqueue_job", (a_job("again", idempotency_key="k", user_id="alice"),)),
    ("enqueue_job", (a_job("b", idempotency_key="k", user_id="bob", max_attempts=2),)),
    ("enqueue_job", (a_job("c", serialized=False, deployment_id="blue"),)),
    ("enqueue_job", (a_job("d"), 3)),
    ("count_queued_jobs", ()),
    ("session_blocker", ("b",)),
    ("claim_job", ("w1",)),
    ("claim_job", ("w2",)),
    ("claim_job", ("w2", 60, "blue")),
    ("heartbeat_jobs", ("w1", ["a", "c", "none"])),
    ("complete_job", ("a", "w2", 1, "completed")),
    ("complete_job", ("a", "w1", 2, "completed")),
    ("complete_job", ("a", "w1", 1, "completed")),
    ("complete_job", ("a", "w1", 1, "completed")),
    ("claim_job", ("w1",)),
    ("retry_or_fail_job", ("b", "w2", 1, "not mine")),
    ("retry_or_fail_job", ("b", "w1", 1, "once", 0)),
    ("claim_job", ("w1",)),
    ("claim_job", ("w2", NO_GRACE)),
    ("sweep_exhausted_jobs", (NO_GRACE,)),
    ("acquire_sweep", ("b", "w2", 60)),
    ("acquire_sweep", ("b", "w2", NO_GRACE)),
    ("complete_job", ("b", "w1", 2, "completed")),
    ("settle_swept_job", ("b", "w1", "failed")),
    ("settle_swept_job", ("b", "w2", "failed", "lost")),
    ("requeue_job", ("a",)),
    ("requeue_job", ("b",)),
    ("claim_job", ("w1",)),
    ("complete_job", ("b", "w1", 3, "paused")),
    ("continue_job", ("b", {"yes": 1})),
    ("continue_job", ("b", {"yes": 2})),
    ("cancel_job", ("b",)),
    ("continue_job", ("b", {"yes": 3})),
    ("complete_job", ("c", "w2", 1, "paused")),
    ("settle_paused_job", ("c", "queued")),
    ("settle_paused_job", ("c", "completed")),
    ("get_job", ("none",)),
    ("get_job", ("b", True)),
    ("list_jobs", (["completed", "cancelled"], 2, 1, "id", "asc")),
    ("queue_stats", ()),
    ("cleanup_jobs", (3600,)),
    ("cleanup_jobs", (0,)),
    ("list_jobs", ()),
]


def without_times(answer: Any) -> Any:
    """An answer of a queue; of times, only whether there is one."""
    if isinstance(answer, dict):
        return {k: v is not None if k in TIMES else without_times(v) for k, v in answer.items()}
    return [without_times(each) for each in answer] if isinstance(answer, list | tuple) else answer


def test_the_job_queue_does_what_agnos_own_in_memory_does(either_db: Any, loop_thread: LoopThread) -> None:
    assert {name for name, _ in STEPS} - set(QUEUE) <= BEFORE_3_1
    theirs = BlockingFacade(InMemoryQueueStore(), loop_thread)

    for name, arguments in STEPS:
        if name not in QUEUE:
            continue
        expected = getattr(theirs, name)(*arguments)
        assert without_times(getattr(either_db, name)(*arguments)) == without_times(expected), (
            name,
            arguments,
        )


def test_every_job_goes_to_one_of_many_workers(either_db: Any) -> None:
    for number in range(40):
        either_db.enqueue_job(a_job(f"j{number}", serialized=False))

    def claim_all(worker: int) -> list[str]:
        claimed = []
        while either_db.count_queued_jobs():
            job = either_db.claim_job(f"w{worker}")
            claimed += [job["id"]] if job else []
        return claimed

    with ThreadPoolExecutor(WORKERS) as pool:
        claimed = [job_id for jobs in pool.map(claim_all, range(WORKERS)) for job_id in jobs]

    assert sorted(claimed) == sorted(f"j{number}" for number in range(40))


OURS = [
    name
    for name, _ in inspect.getmembers(SessionCalls, inspect.isfunction)
    if not name.startswith("_") and name != "near_cache_info"
]


@pytest.mark.parametrize("name", [*QUEUE, *OURS, "upsert_memories", "delete_eval_run"])
def test_a_method_of_the_asynchronous_db_is_a_coroutine_function(name: str) -> None:
    """agno calls any other in a thread, and takes the coroutine that it gets for the result."""
    method = getattr(AsyncSessionCacheDb, name)

    assert inspect.iscoroutinefunction(method)
    assert inspect.signature(method) == inspect.signature(getattr(SessionCacheDb, name))


@pytest.mark.skipif(not hasattr(RedisDb, "serializes_sessions"), reason="agno 3.0 has no order of runs")
def test_both_dbs_run_a_session_in_order() -> None:
    assert SessionCacheDb.serializes_sessions is AsyncSessionCacheDb.serializes_sessions is True


def test_memories_are_stored_together_and_an_evaluation_is_deleted(either_db: Any) -> None:
    memories = [UserMemory(memory=f"m{n}", memory_id=f"{n}", user_id="alice") for n in range(3)]
    either_db.create_eval_run(EvalRunRecord(run_id="e", eval_type=EvalType.ACCURACY, eval_data={}))

    assert [memory.memory for memory in either_db.upsert_memories(memories)] == ["m0", "m1", "m2"]
    either_db.delete_eval_run("e")

    assert len(either_db.get_user_memories(user_id="alice")) == 3
    assert either_db.get_eval_run("e") is None


def test_agno_warns_of_its_own_db_and_not_of_ours(
    either_db: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(job_queue, "log_warning", warnings.append)
    theirs = RedisDb(redis_client=db.redis_client)

    for each in (theirs, getattr(either_db, "wrapped", either_db)):
        system = SimpleNamespace(agents=[Agent(db=each)], teams=[], workflows=[], db=each)
        job_queue.warn_unfenced_session_stores(system)

    (warning,) = warnings
    assert "RedisDb" in warning
