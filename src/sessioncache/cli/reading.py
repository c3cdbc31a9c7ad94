"""`ls`, `show` and `history`: which sessions there are, and what is in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from math import isfinite
from typing import Annotated, Any, Final

import typer

from sessioncache import SessionCache, SessionSummary, WorkflowRunOutput, WorkflowSession
from sessioncache.storage.snapshot import snapshot_of

from .access import AsJson, CommandError, Prefix, Url, opened, telling
from .output import Output
from .values import ago, clock, moment_of, size, span, words

COLUMNS: Final = ("SESSION", "USER", "WORKFLOW", "RUNS", "UPDATED", "TTL", "NAME")

SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The id of a session.")]
User = Annotated[str | None, typer.Option("--user", help="Only sessions of this user.")]
Workflow = Annotated[str | None, typer.Option("--workflow", help="Only sessions of this workflow.")]
Name = Annotated[str | None, typer.Option("--name", help="Only sessions with this in their name.")]
After = Annotated[
    str | None, typer.Option("--created-after", help="A date, a time, unix seconds, or a span: 30d.")
]
Before = Annotated[str | None, typer.Option("--created-before", help="The same.")]


@telling
def ls(
    url: Url = None,
    prefix: Prefix = None,
    user: User = None,
    workflow: Workflow = None,
    name: Name = None,
    created_after: After = None,
    created_before: Before = None,
    limit: Annotated[int, typer.Option(help="How many sessions.")] = 20,
    everything: Annotated[
        bool, typer.Option("--all", help="All sessions, those updated last at the end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List sessions, those updated last first."""
    wanted: dict[str, Any] = {
        "user_id": user,
        "workflow_id": workflow,
        "name": name,
        "created_after": moment_of(created_after, "--created-after"),
        "created_before": moment_of(created_before, "--created-before"),
    }
    output = Output(as_json=as_json)
    with opened(url, prefix) as cache:
        total = None
        if everything:
            sessions: Iterable[SessionSummary] = cache.iter_sessions(**wanted)
        else:
            page = cache.list_sessions(**wanted, limit=limit)
            sessions, total = page.sessions, page.total
        found = _with_ttls(cache, sessions)
        if as_json:
            for session, ttl in found:
                output.item(asdict(session) | {"ttl": _finite(ttl)})
            return
        rows = [_row(session, ttl) for session, ttl in found]
    output.table(COLUMNS, rows, right=["RUNS"])
    if output.is_watched and total is not None and total > len(rows):
        output.line(f"{len(rows)} of {total:,}", "dim")


def _with_ttls(
    cache: SessionCache, sessions: Iterable[SessionSummary]
) -> Iterator[tuple[SessionSummary, float | None]]:
    for some in _batched(sessions, 500):
        ttls = cache.get_ttls([session.session_id for session in some])
        yield from zip(some, ttls, strict=True)


def _batched(items: Iterable[Any], number: int) -> Iterator[list[Any]]:
    some: list[Any] = []
    for item in items:
        some.append(item)
        if len(some) == number:
            yield some
            some = []
    if some:
        yield some


def _finite(ttl: float | None) -> float | None:
    """Return a lifetime for JSON, which has no infinity: null for ever."""
    return ttl if ttl is not None and isfinite(ttl) else None


def _row(session: SessionSummary, ttl: float | None) -> list[str]:
    return [
        words(session.session_id),
        words(session.user_id) or "-",
        words(session.workflow_id) or "-",
        str(session.run_count),
        ago(session.updated_at),
        span(ttl),
        words(session.session_name) or "-",
    ]


@telling
def show(
    session_id: SessionId,
    url: Url = None,
    prefix: Prefix = None,
    run: Annotated[str | None, typer.Option("--run", help="Show this run, whole.")] = None,
    last: Annotated[int, typer.Option("--last", help="How many of the newest runs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show a session, a line a run; or one run whole."""
    output = Output(as_json=as_json)
    with opened(url, prefix) as cache:
        if run is not None:
            return _show_run(cache, session_id, run, output)
        session = found(cache, session_id, last)
        (ttl,) = cache.get_ttls([session_id])
    n_runs = count_of(session)
    if as_json:
        return output.item(session.to_dict() | {"ttl": _finite(ttl), "run_count": n_runs})
    _show_head(session, ttl, n_runs, output)
    _show_fields(session, output)
    for each in session.runs or []:
        output.line("  " + run_line(each, session))
    return None


def count_of(session: WorkflowSession) -> int:
    """Return how many runs a loaded session has, loaded or not."""
    loaded = snapshot_of(session)
    return int(loaded.stored_fields[b"count"]) if loaded else 0


def found(cache: SessionCache, session_id: str, last: int | None = None) -> WorkflowSession:
    """Return a session; raise CommandError if there is none."""
    session = cache.get_session(session_id, last_n_runs=last)
    if session is None:
        raise CommandError(f"there is no session {session_id!r}")
    return session


def _show_run(cache: SessionCache, session_id: str, run_id: str, output: Output) -> None:
    found(cache, session_id, 0)
    run = cache.get_run(session_id, run_id)
    if run is None:
        raise CommandError(f"session {session_id!r} has no run {run_id!r}")
    if output.as_json:
        return output.item(run.to_dict())
    return output.pretty(run.to_dict())


def _show_head(session: WorkflowSession, ttl: float | None, n_runs: int, output: Output) -> None:
    lives = "never expires" if ttl is not None and not isfinite(ttl) else f"expires in {span(ttl)}"
    parts = [f"{n_runs} runs", lives, f"updated {ago(session.updated_at or 0)}"]
    parts += [f"user {words(session.user_id)}"] if session.user_id else ["of no user"]
    parts += [f"workflow {words(session.workflow_id)}"] if session.workflow_id else []
    output.line(f"{words(session.session_id)}  rev {session.rev}", "bold")
    output.line("  " + "  ".join(parts))


def _show_fields(session: WorkflowSession, output: Output) -> None:
    data = dict(session.session_data or {})
    state = data.pop("session_state", None)
    for name, section in (
        ("metadata", session.metadata),
        ("session_state", state),
        ("session_data", data),
        ("workflow_data", session.workflow_data),
    ):
        if section:
            pairs = section.items() if isinstance(section, dict) else [("", section)]
            text = ", ".join(f"{words(key)} {words(value)}".strip() for key, value in pairs)
            output.line(f"  {name:<15}{text}")


def run_line(run: WorkflowRunOutput, session: WorkflowSession) -> str:
    """Return a run in one line: its time, status and size, and how input and content begin."""
    status = getattr(run.status, "value", run.status) or "-"
    times = clock(run.created_at)
    texts = " -> ".join(filter(None, (words(run.input), words(run.content))))
    return (
        f"{words(run.run_id)}  {str(status).lower():<10} {times}  {size_of(run.run_id, session):>8}  {texts}"
    )


def size_of(run_id: str | None, session: WorkflowSession) -> str:
    """Return the stored size of a run of a loaded session."""
    loaded = snapshot_of(session)
    stored = loaded.runs.get(run_id or "") if loaded else None
    return size(len(stored.head) + len(stored.body)) if stored else "-"


@telling
def history(
    session_id: SessionId,
    url: Url = None,
    prefix: Prefix = None,
    agent: Annotated[str | None, typer.Option("--agent", help="All messages of this agent.")] = None,
    last: Annotated[int | None, typer.Option("--last", help="Of how many of the newest runs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a session as a conversation."""
    output = Output(as_json=as_json)
    with opened(url, prefix) as cache:
        found(cache, session_id, 0)
        if agent is not None:
            messages = cache.get_messages(session_id, agent_id=agent, last_n_runs=last)
            said = [(message.role, message.get_content_string()) for message in messages]
        else:
            turns = cache.get_chat_history(session_id, last)
            said = [each for turn in turns for each in (("user", turn.input), ("assistant", turn.output))]
    for role, content in said:
        if as_json:
            output.item({"role": role, "content": content})
        elif content is not None:
            output.turn(role, content)
