"""The steps that lead from the runs of a session to the messages of one agent or team."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .message import Message
from .runs import RunOutput, TeamRunOutput
from .status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from .runs import WorkflowRunOutput

T = TypeVar("T")


def last(items: Sequence[T], count: int | None) -> list[T]:
    """Return the last *count* items: all of them for None, none for zero and less."""
    if count is None:
        return list(items)
    return list(items[-count:]) if count > 0 else []


def agent_runs(runs: Iterable[WorkflowRunOutput], agent_id: str) -> list[RunOutput]:
    """Return the executor runs of an agent, not looking into nested runs."""
    return [run for run in _executor_runs(runs) if isinstance(run, RunOutput) and run.agent_id == agent_id]


def team_runs(runs: Iterable[WorkflowRunOutput], team_id: str) -> list[TeamRunOutput]:
    """Return the executor runs of a team, not looking into nested runs."""
    return [run for run in _executor_runs(runs) if isinstance(run, TeamRunOutput) and run.team_id == team_id]


def _executor_runs(runs: Iterable[WorkflowRunOutput]) -> Iterator[object]:
    for run in runs:
        yield from _items(run.step_executor_runs)


def select_messages(
    runs: Sequence[RunOutput | TeamRunOutput],
    last_n_runs: int | None,
    limit: int | None,
    skip_roles: Collection[str] | None,
    skip_statuses: Collection[RunStatus | str] | None,
    *,
    skip_history_messages: bool,
) -> list[Message]:
    """Return the messages of executor runs that pass every filter, in order."""
    statuses = [RunStatus.parse(status) for status in skip_statuses or ()]
    roles = [skip_roles] if isinstance(skip_roles, str) else list(skip_roles or ())
    wanted = [run for run in runs if _has_other_status(run, statuses)] if statuses else runs
    kept = [
        message
        for run in last(wanted, last_n_runs)
        for message in _messages(run)
        if not (skip_history_messages and message.from_history) and message.role not in roles
    ]
    return _one_system_message(kept) if limit is None else _limited(kept, limit)


def _has_other_status(run: object, statuses: Collection[object]) -> bool:
    return hasattr(run, "status") and run.status not in statuses


def _messages(run: RunOutput | TeamRunOutput | None) -> list[Message]:
    return [message for message in _items(run and run.messages) if isinstance(message, Message)]


def _items(value: Any) -> Sequence[Any]:
    """Return a list as it is, and nothing for a stored value that is none."""
    return value if isinstance(value, (list, tuple)) else ()


def _one_system_message(messages: list[Message]) -> list[Message]:
    """Drop every system message but the first, which stays where it is."""
    system = _first_system_message(messages)
    return [message for message in messages if message is system or message.role != "system"]


def _limited(messages: list[Message], limit: int) -> list[Message]:
    """Return the last messages, at most *limit*, the first system message ahead of them.

    The system message is there whatever the limit. Answers of tools do not lead: what they answer
    has been cut off.
    """
    system = _first_system_message(messages)
    others = [message for message in messages if message.role != "system"]
    if system is not None:
        return [system, *last(others, limit - 1)]
    return _without_leading_tools(last(others, limit))


def _first_system_message(messages: Iterable[Message]) -> Message | None:
    return next((message for message in messages if message.role == "system"), None)


def _without_leading_tools(messages: list[Message]) -> list[Message]:
    start = next((i for i, message in enumerate(messages) if message.role != "tool"), len(messages))
    return messages[start:]
