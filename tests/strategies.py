"""Hypothesis strategies for values, messages, runs, sessions and the filters over them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from sessioncache.models import (
    Message,
    RunOutput,
    RunStatus,
    TeamRunOutput,
    WorkflowRunOutput,
    WorkflowSession,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

AGENTS = ("A", "B")
TEAM = "T"
ROLES = ("system", "user", "assistant", "tool")

_names = st.sampled_from(["a", "b", "c", "d.e", "{f}", "ü"]) | st.text(min_size=1, max_size=6)
_texts = st.sampled_from(["x", "", "two\nlines", "Grüße 東京 🚀"]) | st.text(max_size=12)
_ids = st.integers(min_value=0, max_value=999).map(str)
_times = st.integers(min_value=0, max_value=4)
_statuses = st.sampled_from([*RunStatus, RunStatus.completed, "completed", "ARCHIVED", None])
_extra_fields = st.sampled_from([{}, {}, {"x_new": None}, {"x_other": [1], "x_new": "v"}]).map(copy.deepcopy)


def _mostly(usual: SearchStrategy[Any], rare: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Draw from *usual* four times out of five; ``one_of`` knows no weights."""
    return st.sampled_from([usual, usual, usual, usual, rare]).flatmap(lambda chosen: chosen)


def _filled(items: SearchStrategy[Any], max_size: int) -> SearchStrategy[Any]:
    """Draw lists that are seldom empty or None: a draw must reach the messages inside to be worth it."""
    empty: SearchStrategy[Any] = st.none() | st.builds(list)
    return _mostly(st.lists(items, min_size=1, max_size=max_size), empty)


def values(max_depth: int = 2) -> SearchStrategy[Any]:
    """Draw what is equal to itself after a trip through msgpack."""
    drawn: SearchStrategy[Any] = (
        st.none()
        | st.booleans()
        | st.integers(min_value=-(2**80), max_value=2**80)
        | st.floats(allow_nan=False)
        | _texts
        | st.binary(max_size=12)
    )
    for _ in range(max_depth):
        drawn |= st.lists(drawn, max_size=2) | st.dictionaries(_names, drawn, max_size=2)
    return drawn


def contents() -> SearchStrategy[Any]:
    """Draw inputs and outputs: mostly text, often falsy."""
    plain: SearchStrategy[Any] = st.sampled_from(
        ["question", "answer\nof two lines", "", None, 0, False, [], {}]
    ).map(copy.copy)
    return _mostly(plain, values(1))


def messages() -> SearchStrategy[Message]:
    """Draw messages of all roles, some of them taken from history."""
    return st.builds(
        Message,
        id=_ids,
        role=st.sampled_from(ROLES),
        content=st.sampled_from(["x", "", None, "Grüße 東京 🚀"]),
        from_history=st.booleans(),
        created_at=_times,
        tool_calls=st.sampled_from([None, None, [{"id": "c1"}]]).map(copy.deepcopy),
        citations=st.sampled_from([None, None, {"urls": ["https://example.org"]}]).map(copy.deepcopy),
        extra_fields=_extra_fields,
    )


def executor_runs() -> SearchStrategy[RunOutput | TeamRunOutput]:
    """Draw runs of agents and teams, some of them without messages."""
    return _agent_runs() | _team_runs()


def _agent_runs() -> SearchStrategy[RunOutput]:
    return st.builds(RunOutput, agent_id=st.sampled_from(AGENTS), **_executor_fields())


def _team_runs() -> SearchStrategy[TeamRunOutput]:
    return st.builds(
        TeamRunOutput,
        team_id=st.just(TEAM),
        member_responses=st.none() | st.lists(_agent_runs(), max_size=1),
        **_executor_fields(),
    )


def _executor_fields() -> dict[str, SearchStrategy[Any]]:
    return {
        "run_id": _ids,
        "content": contents(),
        "messages": _filled(messages(), max_size=4),
        "created_at": _times,
        "status": _statuses,
        "extra_fields": _extra_fields,
    }


def workflow_runs(max_depth: int = 1) -> SearchStrategy[WorkflowRunOutput]:
    """Draw workflow runs, with workflows as steps nested *max_depth* deep at the most."""
    steps: SearchStrategy[Any] = executor_runs()
    if max_depth > 0:
        steps = _mostly(steps, workflow_runs(max_depth - 1).map(_as_step))
    return st.builds(
        WorkflowRunOutput,
        run_id=_names,
        workflow_name=st.none() | _names,
        input=contents(),
        content=contents(),
        step_results=st.none() | st.lists(st.dictionaries(_names, values(1), max_size=2), max_size=2),
        step_executor_runs=_filled(steps, max_size=3),
        workflow_agent_run=st.none() | _agent_runs(),
        metadata=st.none() | st.dictionaries(_names, values(1), max_size=2),
        created_at=_times,
        status=_statuses,
        queue_attempt=st.none() | st.integers(min_value=0, max_value=3),
        extra_fields=_extra_fields,
    )


def _as_step(run: WorkflowRunOutput) -> WorkflowRunOutput:
    """Give a run the two fields that tell a stored workflow run among executor runs."""
    run.workflow_name = run.workflow_name or "inner"
    run.parent_run_id = "outer"
    return run


def _with_unique_ids(runs: list[WorkflowRunOutput] | None) -> list[WorkflowRunOutput]:
    return list({run.run_id: run for run in runs or ()}.values())


@st.composite
def workflow_sessions(draw: st.DrawFn, max_runs: int = 6) -> WorkflowSession:
    """Draw sessions whose runs have ids of their own and the session's user and workflow, or none."""
    session = WorkflowSession(
        session_id=draw(_names),
        user_id=draw(st.none() | _names),
        workflow_id=draw(st.none() | _names),
        workflow_name=draw(st.none() | _names),
        runs=draw(_filled(workflow_runs(), max_size=max_runs).map(_with_unique_ids)),
        session_data=draw(st.dictionaries(_names, values(), max_size=3)),
        workflow_data=draw(st.dictionaries(_names, values(1), max_size=2)),
        metadata=draw(st.dictionaries(_names, values(1), max_size=2)),
        created_at=draw(_times),
        updated_at=draw(_times),
    )
    for run in session.runs or ():
        run.session_id = session.session_id
        run.user_id = draw(st.sampled_from([None, session.user_id]))
        run.workflow_id = draw(st.sampled_from([None, session.workflow_id]))
    return session


def counts() -> SearchStrategy[int | None]:
    """Draw arguments that count runs or messages: mostly small, some odd."""
    return st.sampled_from([1, 2, 3, 4, 5, 6, 10**9, None, 0, -1, -5])


def message_filters() -> SearchStrategy[dict[str, Any]]:
    """Draw keyword arguments for ``get_messages``, wrong pairs of ids included."""
    one_id = [{"agent_id": "A"}, {"agent_id": "B"}, {"team_id": TEAM}]
    wrong_ids = [{"agent_id": "A", "team_id": TEAM}, {"agent_id": ""}, {}]
    options = st.fixed_dictionaries(
        {},
        optional={
            "last_n_runs": counts(),
            "limit": counts(),
            "skip_roles": st.none() | st.lists(st.sampled_from(ROLES), max_size=2),
            "skip_statuses": st.none()
            | st.lists(st.sampled_from([*RunStatus, "error", "COMPLETED"]), max_size=2),
            "skip_history_messages": st.booleans(),
            "skip_member_messages": st.booleans(),
        },
    )
    return st.builds(
        lambda chosen, rest: {**chosen, **rest}, st.sampled_from(one_id * 4 + wrong_ids), options
    )
