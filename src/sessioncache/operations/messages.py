"""The messages of one agent or team, read from the newest run backwards as far as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from sessioncache import validation
from sessioncache.errors import InvalidArgumentError
from sessioncache.models import RunStatus
from sessioncache.models.messages import agent_runs, team_runs
from sessioncache.storage.system_messages import SYSTEM_MESSAGES, system_mark
from sessioncache.transport.flow import Flow

from .context import Context
from .pages import WHOLE, partial_session, read_newest, read_until

SYSTEM: Final = "system"

FIRST_NEWEST: Final = 4
"""Runs of the first page if messages are limited and not runs: a run mostly has several messages."""

FIRST_OLDEST: Final = 1
"""Runs of the first page from the oldest end: the first run mostly has the system message."""

ATTEMPTS: Final = 3
"""How often both ends of a session are read again because it changed between, before it is read whole."""


@dataclass(frozen=True, slots=True)
class Query:
    """One `get_messages`: whom it asks, and its checked arguments."""

    ctx: Context
    session_id: str
    agent_id: str | None
    team_id: str | None
    last_n_runs: int | None
    limit: int | None
    skip_roles: list[str]
    skip_statuses: list[RunStatus]
    skip_history_messages: bool

    def messages(self, runs: list[Any]) -> list[Any]:
        """Return what the model returns if a session has these runs."""
        return self._ask(runs, last_n_runs=self.last_n_runs, limit=self.limit)

    def _ask(self, runs: list[Any], **counts: int | None) -> list[Any]:
        session = partial_session(self.ctx, self.session_id, runs)
        found: list[Any] = session.get_messages(
            agent_id=self.agent_id,
            team_id=self.team_id,
            skip_roles=self.skip_roles,
            skip_statuses=self.skip_statuses,
            skip_history_messages=self.skip_history_messages,
            **counts,
        )
        return found

    @property
    def system_mark(self) -> bytes:
        """Return the field that a session has if this agent or team has a system message."""
        return system_mark("agent", self.agent_id) if self.agent_id else system_mark("team", self.team_id)

    def has_executor_runs(self, runs: list[Any]) -> bool:
        """Return whether these runs have `last_n_runs` runs of the agent or team that count."""
        found = agent_runs(runs, self.agent_id) if self.agent_id else team_runs(runs, self.team_id or "")
        return sum(run.status not in self.skip_statuses for run in found) >= (self.last_n_runs or 0)

    def has_other_messages(self, runs: list[Any]) -> bool:
        """Return whether these runs have `limit` messages besides system messages."""
        return sum(message.role != SYSTEM for message in self._ask(runs)) >= (self.limit or 0)

    def has_system_message(self, runs: list[Any]) -> bool:
        """Return whether these runs have a system message that counts."""
        return any(message.role == SYSTEM for message in self._ask(runs))


def get_messages(
    ctx: Context,
    session_id: str,
    agent_id: str | None = None,
    team_id: str | None = None,
    last_n_runs: int | None = None,
    limit: int | None = None,
    skip_roles: Collection[str] | None = None,
    skip_statuses: Collection[RunStatus | str] | None = None,
    skip_history_messages: bool = True,
    skip_member_messages: bool = True,
) -> Flow[list[Any]]:
    """Return the model's `get_messages`, from as few runs as it counts, or all if it counts nothing.

    The model is less strict: it ignores what is no id, status or list. `skip_member_messages` changes
    nothing, as in the model.
    """
    query = Query(
        ctx,
        session_id,
        validation.optional_text(agent_id, "agent_id"),
        validation.optional_text(team_id, "team_id"),
        validation.count(last_n_runs, "last_n_runs"),
        validation.count(limit, "limit"),
        _roles(skip_roles),
        validation.statuses(() if skip_statuses is None else skip_statuses, "skip_statuses"),
        skip_history_messages,
    )
    if agent_id and team_id:
        raise InvalidArgumentError("agent_id and team_id cannot be used together")
    if not (agent_id or team_id):
        raise InvalidArgumentError("agent_id or team_id must be provided")
    if query.last_n_runs:
        runs = yield from _read_until(query, query.last_n_runs, query.has_executor_runs)
    elif query.last_n_runs is None and query.limit is not None:
        runs = yield from _both_ends(query)
    else:
        runs = yield from read_newest(ctx, session_id, WHOLE, query.last_n_runs)
    return query.messages(runs)


def _roles(skip_roles: Collection[str] | None) -> list[str]:
    if isinstance(skip_roles, str):
        return [skip_roles]
    return validation.items(() if skip_roles is None else skip_roles, "skip_roles")


def _read_until(query: Query, first: int, is_enough: Callable[[list[Any]], bool]) -> Flow[list[Any]]:
    return (yield from read_until(query.ctx, query.session_id, WHOLE, first, is_enough)).runs


def _both_ends(query: Query) -> Flow[list[Any]]:
    """Read the newest runs that have the messages wanted, and the oldest ones up to a system message.

    The model returns the same for both ends as for all runs: the first system message, then the last others.
    Whether there is any system message to look for, the session says in fields of its own.
    """
    ctx, session_id = query.ctx, query.session_id
    marks = (SYSTEM_MESSAGES, query.system_mark)
    for _ in range(ATTEMPTS):
        newest = yield from read_until(
            ctx, session_id, WHOLE, FIRST_NEWEST, query.has_other_messages, fields=marks
        )
        has_none = newest.fields[0] is not None and newest.fields[1] is None
        if newest.is_all or has_none or SYSTEM in query.skip_roles:
            return newest.runs
        oldest = yield from read_until(
            ctx, session_id, WHOLE, FIRST_OLDEST, query.has_system_message, oldest=True
        )
        if oldest.rev == newest.rev:
            return oldest.runs[: newest.count - newest.size] + newest.runs
    return (yield from read_newest(ctx, session_id, WHOLE, None))
