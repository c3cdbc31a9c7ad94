"""What agno's other databases store, and msgpack has no form for; and runs as large as images make them."""

from __future__ import annotations

import base64
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
from agno.media import Image
from agno.run.agent import RunOutput
from agno.session import AgentSession
from tests.agno.components import agent

from sessioncache import RunTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

WEI = 10**20
SURROGATE = "half of a pair: \ud83d"


def stored_and_loaded(db: Any, value: Any) -> list[Any]:
    session = AgentSession(
        session_id="s", agent_id="ann", session_data={"v": value, "session_state": {"v": value}}, created_at=5
    )
    db.upsert_session(session)
    db.upsert_run(RunOutput(run_id="r", agent_id="ann", content=value, metadata={"v": value}), "s")
    loaded = db.get_session("s")
    (run,) = loaded.runs
    return [
        loaded.session_data["v"],
        loaded.session_data["session_state"]["v"],
        run.content,
        run.metadata["v"],
    ]


@pytest.mark.parametrize("value", [WEI, -WEI, {"deep": [WEI]}], ids=["wei", "-wei", "deep"])
def test_an_int_over_64_bits_comes_back(value: Any, either_db: Any, sqlite_db: Any) -> None:
    assert stored_and_loaded(sqlite_db, value) == stored_and_loaded(either_db, value) == [value] * 4


def test_a_lone_surrogate_comes_back(either_db: Any, sqlite_db: Any) -> None:
    value = {SURROGATE: [SURROGATE]}

    assert stored_and_loaded(sqlite_db, value) == stored_and_loaded(either_db, value) == [value] * 4


def test_a_question_with_half_of_a_pair_is_stored_with_its_run(db: Any, sqlite_db: Any) -> None:
    for each in (sqlite_db, db):
        agent(each).run(f"q0-0 {SURROGATE}", session_id="s")

        (run,) = each.get_session("s").runs
        assert run.input.input_content == f"q0-0 {SURROGATE}"


def a_picture(size: int) -> bytes:
    return random.Random(1).randbytes(size)


@pytest.mark.parametrize("megabytes", [9, 45])
def test_a_run_with_a_large_picture_is_stored(megabytes: int, either_db: Any, sqlite_db: Any) -> None:
    picture = a_picture(megabytes * 2**20)  # in base64, a third more
    for db in (sqlite_db, either_db):
        db.upsert_session(AgentSession(session_id="s", agent_id="ann", created_at=5))
        run = RunOutput(run_id="r", agent_id="ann", images=[Image(content=picture)])
        db.upsert_run(run, "s")

        (run,) = db.get_session("s").runs
        assert run.images[0].get_content_bytes() == picture


@pytest.mark.parametrize(
    ("limits", "limit"), [({"max_run_bytes": 2**20}, 2**20), ({}, 64 * 2**20)], ids=["given", "by default"]
)
def test_a_run_that_is_too_large_is_one_warning_with_its_size(
    limits: Any, limit: int, make_db: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    db = make_db(**limits)
    picture = base64.b64encode(a_picture(limit)).decode()
    with caplog.at_level(logging.WARNING, "sessioncache"):
        response = agent(db).run(f"q0-0 {picture}", session_id="s")

    assert "q0-0" in response.content
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "sessioncache"]
    assert all(part in warning for part in (repr(response.run_id), "'s'", f"more than {limit}"))
    assert db.get_session("s").runs == []


def test_its_error_says_the_size_and_whose_it_is(make_db: Callable[..., Any]) -> None:
    db = make_db(max_run_bytes=1000)
    db.upsert_session(AgentSession(session_id="s", agent_id="ann"))

    with pytest.raises(RunTooLargeError) as caught:
        db.upsert_run(RunOutput(run_id="r", agent_id="ann", content="x" * 2000), "s")

    error = caught.value
    assert (error.session_id, error.run_id, error.limit) == ("s", "r", 1000)
    assert 2000 < error.size < 2500
