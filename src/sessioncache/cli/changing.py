"""`delete`, `touch` and `rename`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Final

import typer

from sessioncache import SessionCache, SessionSummary, WorkflowSession

from .access import USAGE, AsJson, CommandError, Prefix, Url, Yes, confirm, opened, say, telling
from .output import Bar, Output
from .reading import Name, SessionId, User, Workflow, count_of
from .values import ago, seconds_of, words

SHOWN: Final = 10
"""Most sessions that are named before they are deleted."""


@telling
def delete(
    session_ids: Annotated[list[str] | None, typer.Argument(metavar="[SESSION]...", help="Sessions.")] = None,
    url: Url = None,
    prefix: Prefix = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Those not updated for so long: 30d, 12h.")
    ] = None,
    user: User = None,
    workflow: Workflow = None,
    name: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and end.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete sessions, by their ids or by filters; asks before."""
    by_filter = any(each is not None for each in (older_than, user, workflow, name))
    if bool(session_ids) == by_filter:
        raise CommandError("say which sessions: by their ids, or by --older-than, --user, ...", USAGE)
    oldest = None if older_than is None else int(time.time()) - seconds_of(older_than, "--older-than")
    output = Output(as_json=as_json)
    with opened(url, prefix) as cache:
        found = _named(cache, session_ids) if session_ids else _filtered(cache, user, workflow, name, oldest)
        if not found:
            raise CommandError("there is no such session")
        runs = sum(each.run_count for each in found)
        what = f"{len(found):,} sessions with {runs:,} runs"
        for each in found[:SHOWN]:
            say(f"  {words(each.session_id)}  {each.run_count} runs  updated {ago(each.updated_at)}")
        if len(found) > SHOWN:
            say(f"  and {len(found) - SHOWN:,} more")
        if dry_run:
            return _told(output, f"would delete {what}", {"would_delete": len(found), "runs": runs})
        confirm(f"Delete {what}?", yes=yes)
        deleted = _delete(cache, found, oldest)
    return _told(output, f"deleted {deleted:,} sessions", {"deleted": deleted})


def _told(output: Output, line: str, found: Mapping[str, object]) -> None:
    output.item(found) if output.as_json else output.line(line)


def _named(cache: SessionCache, session_ids: Iterable[str]) -> list[SessionSummary]:
    ids = list(dict.fromkeys(session_ids))
    found = cache.get_sessions(ids, last_n_runs=0)
    missing = [session_id for session_id, each in zip(ids, found, strict=True) if each is None]
    if missing:
        raise CommandError(f"there is no session {missing[0]!r}; nothing was deleted")
    return [_summary(each) for each in found if each is not None]


def _summary(session: WorkflowSession) -> SessionSummary:
    return SessionSummary(
        session.session_id,
        session.user_id,
        session.workflow_id,
        session.workflow_name,
        None,
        session.created_at,
        session.updated_at or 0,
        count_of(session),
    )


def _filtered(
    cache: SessionCache, user: str | None, workflow: str | None, name: str | None, oldest: int | None
) -> list[SessionSummary]:
    sessions = cache.iter_sessions(user_id=user, workflow_id=workflow, name=name)
    return [each for each in sessions if oldest is None or each.updated_at < oldest]


def _delete(cache: SessionCache, found: list[SessionSummary], oldest: int | None) -> int:
    """Delete sessions, but for those that were written again since they were found."""
    deleted = 0
    with Bar("deleting", len(found)) as bar:
        try:
            for done, each in enumerate(found, 1):
                if oldest is None or _is_still_older(cache, each.session_id, oldest):
                    deleted += cache.delete_session(each.session_id)
                bar.at(done)
        except KeyboardInterrupt:
            raise CommandError(f"stopped: {deleted:,} of {len(found):,} sessions are deleted") from None
    return deleted


def _is_still_older(cache: SessionCache, session_id: str, oldest: int) -> bool:
    session = cache.get_session(session_id, last_n_runs=0)
    return session is not None and (session.updated_at or 0) < oldest


@telling
def touch(
    session_id: SessionId,
    ttl: Annotated[str, typer.Option("--ttl", help="How long it lives from now: 7d, 12h; none for ever.")],
    url: Url = None,
    prefix: Prefix = None,
    as_json: AsJson = False,
) -> None:
    """Let a session live so long from now."""
    lifetime = None if ttl == "none" else timedelta(seconds=seconds_of(ttl, "--ttl"))
    with opened(url, prefix) as cache:
        if not cache.touch_session(session_id, lifetime):
            raise CommandError(f"there is no session {session_id!r}")
    seconds = None if lifetime is None else lifetime.total_seconds()
    _told(
        Output(as_json=as_json),
        f"{words(session_id)} lives {ttl}",
        {"session_id": session_id, "ttl": seconds},
    )


@telling
def rename(
    session_id: SessionId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    url: Url = None,
    prefix: Prefix = None,
    as_json: AsJson = False,
) -> None:
    """Name a session."""
    with opened(url, prefix) as cache:
        if not cache.rename_session(session_id, name):
            raise CommandError(f"there is no session {session_id!r}")
    found = {"session_id": session_id, "name": name}
    _told(Output(as_json=as_json), f"{words(session_id)} is named {words(name)}", found)
