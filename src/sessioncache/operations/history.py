"""Questions about a session's history: the model answers them, from as much of it as they need."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sessioncache.errors import InvalidArgumentError
from sessioncache.flow import Flow
from sessioncache.models import RunStatus
from sessioncache.resilience import Call

from .paging import HEADS, WHOLE, Part, read_newest, read_until
from .reading import checked_count


def session_of(call: Call, session_id: str, runs: list[Any]) -> Any:
    """Return a session object that has these runs and nothing else, to be asked what they answer."""
    return call.settings.model.session({"session_id": session_id}, runs)


def get_chat_history(call: Call, session_id: str, last_n_runs: int | None) -> Flow[list[Any]]:
    """Answer `get_chat_history` from the heads of the newest runs: one round trip."""
    runs = yield from read_newest(call, session_id, HEADS, checked_count(last_n_runs, "last_n_runs"))
    return session_of(call, session_id, runs).get_chat_history()


def get_workflow_history(call: Call, session_id: str, last_n_runs: int | None) -> Flow[list[tuple[str, str]]]:
    """Answer `get_workflow_history` from heads, read until there are enough completed runs."""
    runs = yield from _completed_runs(call, session_id, last_n_runs)
    return session_of(call, session_id, runs).get_workflow_history(last_n_runs)


def get_workflow_history_context(call: Call, session_id: str, last_n_runs: int | None) -> Flow[str | None]:
    """Answer `get_workflow_history_context` from what `get_workflow_history` reads."""
    runs = yield from _completed_runs(call, session_id, last_n_runs)
    return session_of(call, session_id, runs).get_workflow_history_context(last_n_runs)


def _completed_runs(call: Call, session_id: str, last_n_runs: int | None) -> Flow[list[Any]]:
    limit = checked_count(last_n_runs, "last_n_runs")
    return (yield from _newest_of_status(call, session_id, HEADS, limit, [RunStatus.completed]))


def get_runs(
    call: Call, session_id: str, *, last_n_runs: int | None, statuses: Collection[RunStatus | str] | None
) -> Flow[list[Any]]:
    """Load the newest runs, of certain statuses where they are given, oldest first."""
    limit = checked_count(last_n_runs, "last_n_runs")
    if statuses is None:
        return (yield from read_newest(call, session_id, WHOLE, limit))
    wanted = checked_statuses(statuses, "statuses")
    runs = yield from _newest_of_status(call, session_id, WHOLE, limit, wanted)
    found = [run for run in runs if run.status in wanted]
    return found if limit is None else found[max(0, len(found) - limit) :]


def checked_statuses(statuses: Collection[RunStatus | str], name: str) -> list[RunStatus]:
    """Return statuses given by name or value; raise InvalidArgumentError for any that is unknown."""
    parsed = [RunStatus.parse(status) for status in checked_list(statuses, name)]
    for status in parsed:
        if not isinstance(status, RunStatus):
            known = ", ".join(RunStatus.__members__)
            raise InvalidArgumentError(f"{name} has the unknown status {status!r}; known: {known}")
    return parsed


def checked_list(items: Collection[Any], name: str) -> list[Any]:
    """Return a collection as a list; a str is none, for its items would be its characters."""
    if isinstance(items, str | bytes) or not isinstance(items, Collection):
        raise InvalidArgumentError(f"{name} must be a list, not {type(items).__name__}")
    return list(items)


def _newest_of_status(
    call: Call, session_id: str, part: Part, limit: int | None, statuses: list[RunStatus]
) -> Flow[list[Any]]:
    """Read runs backwards until `limit` of them have one of the statuses; return all that were read."""
    if not limit:
        return (yield from read_newest(call, session_id, part, limit))

    def is_enough(runs: list[Any]) -> bool:
        return sum(run.status in statuses for run in runs) >= limit

    return (yield from read_until(call, session_id, part, limit, is_enough)).runs
