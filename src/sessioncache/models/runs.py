"""The runs of a workflow, and those of the agents and teams that did its steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from .lazy import LazyRecord, defers_body
from .message import Message
from .record import Converter, Record, build, converted, unix_now, write_enum, write_nested
from .status import RunStatus, parses_status

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("sessioncache")

MAX_NESTING = 10
"""How many runs deep runs of workflows and teams are built; dicts below stay dicts."""


def _read_status(value: Any, _depth: int) -> Any:
    return RunStatus.exact(value)


def _read_message(data: dict[str, Any], _depth: int) -> Message:
    return build(Message, data)


def _read_run(data: dict[str, Any], depth: int) -> Any:
    """Build a run that is nested in one at *depth*, of the class its keys tell."""
    cls = _run_class(data)
    if depth >= MAX_NESTING and cls is not RunOutput:
        return data
    return build(cls, data, depth + 1)


def _run_class(data: dict[str, Any]) -> type[Record]:
    """Return the class of a run by the keys it has; a key with None is one it lacks."""
    if _has(data, "team_id") or _has(data, "team_name"):
        return TeamRunOutput
    if _has(data, "agent_id") or _has(data, "agent_name"):
        return RunOutput
    if _has(data, "workflow_name") and _has(data, "parent_run_id"):
        return WorkflowRunOutput
    return RunOutput


def _has(data: dict[str, Any], name: str) -> bool:
    return data.get(name) is not None


def _read_workflow_agent_run(value: Any, depth: int) -> Any:
    return build(RunOutput, value, depth + 1) if isinstance(value, dict) else value


def _each(read: Callable[[dict[str, Any], int], Any]) -> Callable[[Any, int], Any]:
    """Have every dict of a list read by *read*, and anything else left as it is."""

    def read_list(value: Any, depth: int) -> Any:
        if not isinstance(value, list):
            return value
        return [read(item, depth) if isinstance(item, dict) else item for item in value]

    return read_list


_STATUS = converted(Converter(_read_status, write_enum))
_MESSAGES = converted(Converter(_each(_read_message), write_nested))
_RUNS = converted(Converter(_each(_read_run), write_nested))
_WORKFLOW_AGENT_RUN = converted(Converter(_read_workflow_agent_run, write_nested))


@parses_status
@dataclass(kw_only=True)
class ExecutorRun(Record):
    """Hold what the runs of agents and of teams have in common.

    ``status`` takes a ``RunStatus``, or its name or value in any case; any other string stays as it is.
    So does one that ``from_dict`` reads and that is no value.
    """

    run_id: str | None = None
    session_id: str | None = None
    parent_run_id: str | None = None
    workflow_id: str | None = None
    workflow_step_id: str | None = None
    user_id: str | None = None
    input: Any = None
    content: Any = None
    content_type: str | None = "str"
    messages: list[Message] | None = field(default=None, metadata=_MESSAGES)
    model: str | None = None
    model_provider: str | None = None
    metrics: dict[str, Any] | None = None
    tools: list[Any] | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    response_audio: Any = None
    reasoning_content: str | None = None
    citations: Any = None
    references: list[Any] | None = None
    events: list[Any] | None = None
    requirements: list[Any] | None = None
    session_state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    created_at: int | None = field(default_factory=unix_now)
    status: RunStatus | str | None = field(default=RunStatus.running, metadata=_STATUS)


@dataclass(kw_only=True)
class RunOutput(ExecutorRun):
    """Hold one run of an agent."""

    agent_id: str | None = None
    agent_name: str | None = None


@dataclass(kw_only=True)
class TeamRunOutput(ExecutorRun):
    """Hold one run of a team, with those of its members."""

    team_id: str | None = None
    team_name: str | None = None
    member_responses: list[Any] | None = field(default=None, metadata=_RUNS)


@parses_status
@defers_body
@dataclass
class WorkflowRunOutput(LazyRecord):
    """Hold one run of a workflow: its input, its output and the runs of the steps between.

    Only a run whose ``status`` is ``COMPLETED`` counts as workflow history; a run made new is ``PENDING``.
    ``status`` takes a ``RunStatus``, or its name or value in any case; any other string stays as it is.
    So does one that ``from_dict`` reads and that is no value.

    ``step_executor_runs`` are ``RunOutput``, ``TeamRunOutput`` or, for a workflow as a step,
    ``WorkflowRunOutput`` objects.
    """

    HEAD_FIELDS: ClassVar[frozenset[str]] = frozenset(
        {
            "run_id",
            "session_id",
            "user_id",
            "workflow_id",
            "workflow_name",
            "parent_run_id",
            "workflow_step_id",
            "status",
            "input",
            "content",
            "content_type",
            "created_at",
            "queue_attempt",
            "cancellation_stage",
            "paused_step_index",
            "paused_step_name",
            "pause_kind",
        }
    )

    input: Any = None
    content: Any = None
    content_type: str | None = "str"
    workflow_id: str | None = None
    workflow_name: str | None = None
    run_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    parent_run_id: str | None = None
    workflow_step_id: str | None = None
    images: list[Any] | None = None
    videos: list[Any] | None = None
    audio: list[Any] | None = None
    files: list[Any] | None = None
    response_audio: Any = None
    step_results: list[Any] | None = field(default_factory=list)
    step_executor_runs: list[Any] | None = field(default=None, metadata=_RUNS)
    workflow_agent_run: RunOutput | None = field(default=None, metadata=_WORKFLOW_AGENT_RUN)
    events: list[Any] | None = None
    metrics: Any = None
    metadata: dict[str, Any] | None = None
    created_at: int | None = field(default_factory=unix_now)
    status: RunStatus | str | None = field(default=RunStatus.pending, metadata=_STATUS)
    queue_attempt: int | None = None
    cancellation_stage: Any = None
    step_requirements: list[Any] | None = None
    error_requirements: list[Any] | None = None
    paused_step_index: int | None = None
    paused_step_name: str | None = None
    pause_kind: str | None = None


_EXECUTOR_KEYS = ("agent_id", "agent_name", "team_id", "team_name")


def read_workflow_runs(value: Any) -> list[WorkflowRunOutput]:
    """Build the workflow runs of a stored list, and say in the log how many items are none."""
    if not isinstance(value, (list, tuple)):
        if value is not None:
            _log.warning("the runs of a session were skipped: they are no list")
        return []
    runs = [run for run in map(_read_workflow_run, value) if run is not None]
    if len(runs) < len(value):
        _log.warning("%d runs that are no workflow runs were skipped", len(value) - len(runs))
    return runs


def _read_workflow_run(item: Any) -> WorkflowRunOutput | None:
    if isinstance(item, WorkflowRunOutput):
        return item
    if not isinstance(item, dict) or any(item.get(key) for key in _EXECUTOR_KEYS):
        return None
    return WorkflowRunOutput.from_dict(item)
