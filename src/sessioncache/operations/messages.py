"""The messages of one agent or team: read from the newest run backwards, as far as the answer goes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from sessioncache.errors import InvalidArgumentError
from sessioncache.flow import Flow
from sessioncache.models import RunStatus
from sessioncache.models.messages_filter import agent_runs, team_runs
from sessioncache.records import SYSTEM_MESSAGES, system_mark
from sessioncache.resilience import Call

from .history import checked_list, checked_statuses, session_of
from .paging import WHOLE, read_newest, read_until
from .reading import checked_count

SYSTEM: Final = "system"

FIRST_NEWEST: Final = 4
"""Runs of the first page where messages are limited and not runs: a run mostly has several messages."""

FIRST_OLDEST: Final = 1
"""Runs of the first page from the oldest end: the first run mostly has the system message."""

ATTEMPTS: Final = 3
"""How often both ends of a session are read again because it changed between, before it is read whole."""


class MessageArguments(TypedDict):
    """The arguments of `WorkflowSession.get_messages`."""

    agent_id: str | None
    team_id: str | None
    last_n_runs: int | None
    limit: int | None
    skip_roles: Collection[str] | None
    skip_statuses: Collection[RunStatus | str] | None
    skip_history_messages: bool
    skip_member_messages: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One `get_messages`: whom it asks, and its arguments."""

    call: Call
    session_id: str
    arguments: MessageArguments

    def answer(self, runs: list[Any], **changed: Any) -> list[Any]:
        """Return what the model answers where a session has these runs."""
        session = session_of(self.call, self.session_id, runs)
        try:
            messages: list[Any] = session.get_messages(**{**self.arguments, **changed})
        except ValueError as exc:
            raise InvalidArgumentError(str(exc)) from exc
        return messages

    @property
    def system_mark(self) -> bytes:
        """Return the field of a session that says that whom it asks has a message of the system."""
        agent_id, team_id = self.arguments["agent_id"], self.arguments["team_id"]
        return system_mark("agent", agent_id) if agent_id else system_mark("team", team_id)

    def executor_runs(self, runs: list[Any]) -> int:
        """Return how many runs of the agent or team there are in these runs, as last_n_runs counts them."""
        agent_id, team_id = self.arguments["agent_id"], self.arguments["team_id"] or ""
        found = agent_runs(runs, agent_id) if agent_id else team_runs(runs, team_id)
        skipped = list(self.arguments["skip_statuses"] or ())
        return sum(run.status not in skipped for run in found)

    def other_messages(self, runs: list[Any]) -> int:
        """Return how many messages there are in these runs besides those of the system."""
        return sum(message.role != SYSTEM for message in self.answer(runs, limit=None))

    def has_system_message(self, runs: list[Any]) -> bool:
        """Tell whether these runs have a message of the system that counts."""
        return any(message.role == SYSTEM for message in self.answer(runs, limit=None))


def get_messages(call: Call, session_id: str, arguments: MessageArguments) -> Flow[list[Any]]:
    """Answer `get_messages`: as far back as it counts runs or messages, or all where it counts neither."""
    arguments = _checked(arguments)
    last_n_runs = checked_count(arguments["last_n_runs"], "last_n_runs")
    limit = checked_count(arguments["limit"], "limit")
    query = Query(call, session_id, arguments)
    query.answer([])
    if not (arguments["agent_id"] or arguments["team_id"]):
        raise InvalidArgumentError("agent_id or team_id must be provided")
    if last_n_runs:
        runs = yield from _runs_of_executor(query, last_n_runs)
    elif last_n_runs is None and limit is not None:
        runs = yield from _both_ends(query, limit)
    else:
        runs = yield from read_newest(call, session_id, WHOLE, last_n_runs)
    return query.answer(runs)


def _checked(arguments: MessageArguments) -> MessageArguments:
    """Return arguments as the model takes them, which is less strict: it ignores what is no id or status."""
    for name, value in (("agent_id", arguments["agent_id"]), ("team_id", arguments["team_id"])):
        if not isinstance(value, str | None):
            raise InvalidArgumentError(f"{name} must be a str or None, not {type(value).__name__}")
    roles, statuses = arguments["skip_roles"], arguments["skip_statuses"]
    if roles is not None:
        roles = [roles] if isinstance(roles, str) else checked_list(roles, "skip_roles")
    if statuses is not None:
        statuses = checked_statuses(statuses, "skip_statuses")
    return {**arguments, "skip_roles": roles, "skip_statuses": statuses}


def _runs_of_executor(query: Query, last_n_runs: int) -> Flow[list[Any]]:
    def is_enough(runs: list[Any]) -> bool:
        return query.executor_runs(runs) >= last_n_runs

    return (yield from read_until(query.call, query.session_id, WHOLE, last_n_runs, is_enough)).runs


def _both_ends(query: Query, limit: int) -> Flow[list[Any]]:
    """Read the newest runs that have the messages wanted, and the oldest ones up to a message of the system.

    The model answers the same of both ends as of all runs: the first system message, then the last others.
    Whether there is any system message to look for, the session says in fields of its own.
    """

    def is_enough(runs: list[Any]) -> bool:
        return query.other_messages(runs) >= limit

    marks = (SYSTEM_MESSAGES, query.system_mark)
    for _ in range(ATTEMPTS):
        newest = yield from read_until(
            query.call, query.session_id, WHOLE, FIRST_NEWEST, is_enough, fields=marks
        )
        has_none = newest.fields[0] is not None and newest.fields[1] is None
        if newest.is_all or has_none or SYSTEM in (query.arguments["skip_roles"] or ()):
            return newest.runs
        oldest = yield from read_until(
            query.call, query.session_id, WHOLE, FIRST_OLDEST, query.has_system_message, oldest=True
        )
        if oldest.rev == newest.rev:
            return oldest.runs[: newest.count - newest.size] + newest.runs
    return (yield from read_newest(query.call, query.session_id, WHOLE, None))
