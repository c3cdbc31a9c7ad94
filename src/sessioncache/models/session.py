"""A session of a workflow: its metadata, its runs and what is asked of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from .history import completed_pairs, context_of
from .messages import agent_runs, last, select_messages, team_runs
from .pending import PendingRuns, has_no_default_of_runs
from .record import unix_now, write_nested
from .runs import WorkflowRunOutput, read_workflow_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .message import Message
    from .runs import RunOutput, TeamRunOutput
    from .status import RunStatus

    Runs = list[WorkflowRunOutput]
    Data = dict[str, Any]
    Time = int
else:  # what libraries go by that read annotations to check arguments
    Runs = list[WorkflowRunOutput] | None
    Data = dict[str, Any] | None
    Time = int | None

_log = logging.getLogger("sessioncache")

_SNAPSHOT = "_snapshot"
_NOT_GIVEN: Any = None
"""The None of an argument that was left out, as a value of any type."""


@dataclass
class WorkflowChatInteraction:
    """Pair the input of a workflow run with its output, both as they were."""

    input: Any
    output: Any


@has_no_default_of_runs
@dataclass
class WorkflowSession(PendingRuns):
    """Hold the metadata of a workflow's session and its runs, oldest first.

    If the constructor is given None, ``runs`` and the dicts are empty and the times are now.

    ``created_at`` and ``updated_at`` are unix seconds. ``session_data`` holds the session's name, state
    and media under the keys ``session_name``, ``session_state``, ``images``, ``videos`` and ``audio``.
    """

    session_id: str
    user_id: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    runs: Runs = _NOT_GIVEN
    session_data: Data = _NOT_GIVEN
    workflow_data: Data = _NOT_GIVEN
    metadata: Data = _NOT_GIVEN
    created_at: Time = _NOT_GIVEN
    updated_at: Time = _NOT_GIVEN

    if TYPE_CHECKING:  # the one that the dataclass makes: checkers would make one that refuses None

        def __init__(
            self,
            session_id: str,
            user_id: str | None = None,
            workflow_id: str | None = None,
            workflow_name: str | None = None,
            runs: list[WorkflowRunOutput] | None = None,
            session_data: dict[str, Any] | None = None,
            workflow_data: dict[str, Any] | None = None,
            metadata: dict[str, Any] | None = None,
            created_at: int | None = None,
            updated_at: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Replace every None that stands for "empty" or "now"."""
        self.runs = [] if self.runs is _NOT_GIVEN else self.runs
        self.session_data = {} if self.session_data is _NOT_GIVEN else self.session_data
        self.workflow_data = {} if self.workflow_data is _NOT_GIVEN else self.workflow_data
        self.metadata = {} if self.metadata is _NOT_GIVEN else self.metadata
        if self.created_at is _NOT_GIVEN or self.updated_at is _NOT_GIVEN:
            now = unix_now()
            self.created_at = now if self.created_at is _NOT_GIVEN else self.created_at
            self.updated_at = now if self.updated_at is _NOT_GIVEN else self.updated_at

    @property
    def rev(self) -> int | None:
        """Return the revision this object was loaded at or last saved with, None for one made new."""
        rev: int | None = getattr(self.__dict__.get(_SNAPSHOT), "rev", None)
        return rev

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self | None:
        """Return the session of a dict as ``to_dict`` makes it; unknown keys are ignored.

        Args:
            data: The dict, which stays as it is. Runs in it that are no workflow runs are skipped, with a
                warning in the log.

        Returns:
            The session, or None, with a warning in the log, if there is no ``session_id``.
        """
        if data is None or data.get("session_id") is None:
            _log.warning("a session without a session_id was ignored")
            return None
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        return cls(**{**known, "runs": read_workflow_runs(data.get("runs"))})

    def to_dict(self, include_runs: bool = True) -> dict[str, Any]:
        """Return the session as a dict.

        Args:
            include_runs: Whether the runs are wanted.

        Returns:
            Every field, None included; ``runs`` is None if there are none or none are wanted.
        """
        return {
            "session_id": self.session_id,
            "user_id": self.user_id,
            "workflow_id": self.workflow_id,
            "workflow_name": self.workflow_name,
            "session_data": self.session_data,
            "workflow_data": self.workflow_data,
            "metadata": self.metadata,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "runs": write_nested(self.runs) if include_runs and self.runs else None,
        }

    def upsert_run(self, run: WorkflowRunOutput) -> None:
        """Replace the first run of the same ``run_id``, or add the run at the end.

        Args:
            run: The run. If it has no ``queue_attempt``, it gets that of the run it replaces.
        """
        runs = self.runs = [] if self.runs is _NOT_GIVEN else self.runs
        for index, stored in enumerate(runs):
            if stored.run_id == run.run_id:
                if run.queue_attempt is None:
                    run.queue_attempt = stored.queue_attempt
                runs[index] = run
                return
        runs.append(run)

    def get_run(self, run_id: str) -> WorkflowRunOutput | None:
        """Return the first run of an id, or None.

        Args:
            run_id: The id.
        """
        return next((run for run in self.runs or () if run.run_id == run_id), None)

    def get_workflow_history(self, num_runs: int | None = None) -> list[tuple[str, str]]:
        """Return what was said in completed runs.

        Args:
            num_runs: How many of the newest completed runs; None for all.

        Returns:
            Input and output of each as text, oldest first; ``""`` for what is empty or missing.
        """
        return completed_pairs(self.runs or (), num_runs)

    def get_workflow_history_context(self, num_runs: int | None = None) -> str | None:
        """Return ``get_workflow_history`` as a block of text for a prompt.

        Args:
            num_runs: How many of the newest completed runs; None for all.

        Returns:
            The text, or None if the history is empty.
        """
        return context_of(self.get_workflow_history(num_runs))

    def get_chat_history(self, last_n_runs: int | None = None) -> list[WorkflowChatInteraction]:
        """Return inputs and outputs of runs of any status.

        Args:
            last_n_runs: How many of the newest runs are looked at; None for all.

        Returns:
            Input and output of each of these runs that has both, oldest first.
        """
        return [
            WorkflowChatInteraction(input=run.input, output=run.content)
            for run in last(self.runs or [], last_n_runs)
            if run.input and run.content
        ]

    def get_messages(
        self,
        agent_id: str | None = None,
        team_id: str | None = None,
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Collection[str] | None = None,
        skip_statuses: Collection[RunStatus | str] | None = None,
        skip_history_messages: bool = True,
        skip_member_messages: bool = True,
    ) -> list[Message]:
        """Return the messages of one agent or one team.

        Args:
            agent_id: The agent whose messages are wanted; either this or ``team_id``.
            team_id: The team whose messages are wanted.
            last_n_runs: How many of its newest runs, after ``skip_statuses``; None for all.
            limit: Most messages; the first system message then leads, whatever the limit.
            skip_roles: Roles whose messages are left out.
            skip_statuses: Statuses of runs that are left out.
            skip_history_messages: Whether messages repeated from earlier runs are left out.
            skip_member_messages: Changes nothing: a team's messages never include its members'.

        Returns:
            The messages, oldest first.

        Raises:
            ValueError: Both ids are given, or neither to a session that has runs.
        """
        if agent_id and team_id:
            raise ValueError("agent_id and team_id cannot be used together")
        if not self.runs:
            return []
        runs: Sequence[RunOutput | TeamRunOutput]
        if agent_id:
            runs = agent_runs(self.runs, agent_id)
        elif team_id:
            runs = team_runs(self.runs, team_id)
        else:
            raise ValueError("agent_id or team_id must be provided")
        return select_messages(
            runs, last_n_runs, limit, skip_roles, skip_statuses, skip_history_messages=skip_history_messages
        )

    def get_messages_from_agent_runs(
        self,
        runs: Sequence[RunOutput],
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Collection[str] | None = None,
        skip_statuses: Collection[RunStatus | str] | None = None,
        skip_history_messages: bool = True,
    ) -> list[Message]:
        """Return the messages of some runs, be they of this session or not.

        Args:
            runs: The runs, oldest first.
            last_n_runs: As all that follow, what it is for ``get_messages``.
            limit: Most messages.
            skip_roles: Roles that are left out.
            skip_statuses: Statuses of runs that are left out.
            skip_history_messages: Whether what is repeated from earlier runs is left out.

        Returns:
            The messages, oldest first.
        """
        return select_messages(
            runs, last_n_runs, limit, skip_roles, skip_statuses, skip_history_messages=skip_history_messages
        )

    def get_messages_from_team_runs(
        self,
        team_id: str,
        runs: Sequence[TeamRunOutput],
        last_n_runs: int | None = None,
        limit: int | None = None,
        skip_roles: Collection[str] | None = None,
        skip_statuses: Collection[RunStatus | str] | None = None,
        skip_history_messages: bool = True,
        skip_member_messages: bool = True,
    ) -> list[Message]:
        """Return the messages of some runs, be they of this session or not.

        Args:
            team_id: The team whose runs are wanted.
            runs: The runs, oldest first.
            last_n_runs: As all that follow, what it is for ``get_messages``.
            limit: Most messages.
            skip_roles: Roles that are left out.
            skip_statuses: Statuses of runs that are left out.
            skip_history_messages: Whether what is repeated from earlier runs is left out.
            skip_member_messages: Whether runs that are not the team's are left out.

        Returns:
            The messages, oldest first.
        """
        wanted = [run for run in runs if run.team_id == team_id] if skip_member_messages else runs
        return select_messages(
            wanted, last_n_runs, limit, skip_roles, skip_statuses, skip_history_messages=skip_history_messages
        )
