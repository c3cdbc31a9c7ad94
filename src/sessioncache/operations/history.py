"""Questions about a session's history: the model's own methods, asked of as few runs as the result needs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sessioncache import validation
from sessioncache.models import RunStatus
from sessioncache.transport.flow import Flow

from .context import Context
from .pages import HEADS, WHOLE, Part, partial_session, read_newest, read_until


def get_chat_history(ctx: Context, session_id: str, last_n_runs: int | None) -> Flow[list[Any]]:
    """Return the model's `get_chat_history`, from the heads of the newest runs: one round trip."""
    limit = validation.count(last_n_runs, "last_n_runs")
    runs = yield from read_newest(ctx, session_id, HEADS, limit)
    return partial_session(ctx, session_id, runs).get_chat_history()


def get_workflow_history(
    ctx: Context, session_id: str, last_n_runs: int | None
) -> Flow[list[tuple[str, str]]]:
    """Return the model's `get_workflow_history`, from heads, read until enough runs are completed."""
    runs = yield from _completed_runs(ctx, session_id, last_n_runs)
    return partial_session(ctx, session_id, runs).get_workflow_history(last_n_runs)


def get_workflow_history_context(ctx: Context, session_id: str, last_n_runs: int | None) -> Flow[str | None]:
    """Return the model's `get_workflow_history_context`, from what `get_workflow_history` reads."""
    runs = yield from _completed_runs(ctx, session_id, last_n_runs)
    return partial_session(ctx, session_id, runs).get_workflow_history_context(last_n_runs)


def _completed_runs(ctx: Context, session_id: str, last_n_runs: int | None) -> Flow[list[Any]]:
    limit = validation.count(last_n_runs, "last_n_runs")
    return (yield from _newest_of_status(ctx, session_id, HEADS, limit, [RunStatus.completed]))


def get_runs(
    ctx: Context, session_id: str, *, last_n_runs: int | None, statuses: Collection[RunStatus | str] | None
) -> Flow[list[Any]]:
    """Load the newest runs, of certain statuses if they are given, oldest first."""
    limit = validation.count(last_n_runs, "last_n_runs")
    if statuses is None:
        return (yield from read_newest(ctx, session_id, WHOLE, limit))
    wanted = validation.statuses(statuses, "statuses")
    runs = yield from _newest_of_status(ctx, session_id, WHOLE, limit, wanted)
    found = [run for run in runs if run.status in wanted]
    return found if limit is None else found[max(0, len(found) - limit) :]


def _newest_of_status(
    ctx: Context, session_id: str, part: Part, limit: int | None, statuses: list[RunStatus]
) -> Flow[list[Any]]:
    """Read runs backwards until `limit` of them have one of the statuses; return all that were read."""
    if not limit:
        return (yield from read_newest(ctx, session_id, part, limit))

    def is_enough(runs: list[Any]) -> bool:
        return sum(run.status in statuses for run in runs) >= limit

    return (yield from read_until(ctx, session_id, part, limit, is_enough)).runs
