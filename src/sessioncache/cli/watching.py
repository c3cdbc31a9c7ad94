"""`watch`: new and changed runs as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from sessioncache import SessionCache, SessionNotFoundError, WorkflowRunOutput, WorkflowSession
from sessioncache.storage.snapshot import snapshot_of

from .access import USAGE, AsJson, CommandError, Prefix, Url, opened, say, telling
from .output import Output
from .reading import found, run_line

NEWEST: Final = 20
"""Runs of a session that are watched: the newest."""

RECENT: Final = 5
"""Seconds for which a session is looked at after its last update: times are whole seconds."""

SESSIONS: Final = 100
"""Sessions of a user that are watched: those updated last."""


@telling
def watch(
    session_id: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="A session.")] = None,
    url: Url = None,
    prefix: Prefix = None,
    user: Annotated[str | None, typer.Option("--user", help="All sessions of this user.")] = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 1.0,
    seconds: Annotated[float | None, typer.Option("--for", help="End after so many seconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show new and changed runs as they come, until Ctrl-C."""
    if (session_id is None) == (user is None):
        raise CommandError("say a SESSION or --user", USAGE)
    ends = None if seconds is None else time.monotonic() + seconds
    output = Output(as_json=as_json)
    with opened(url, prefix) as cache:
        watched = (
            _OfUser(cache, user) if user is not None else _One(cache, found(cache, session_id or "", NEWEST))
        )
        try:
            while ends is None or time.monotonic() < ends:
                for session, run in watched.look():
                    _tell(session, run, output)
                time.sleep(interval)
        except KeyboardInterrupt:
            say("")  # behind the ^C


def _tell(session: WorkflowSession, run: WorkflowRunOutput, output: Output) -> None:
    if output.as_json:
        status = getattr(run.status, "value", run.status)
        return output.item(
            {
                "session_id": session.session_id,
                "rev": session.rev,
                "run_id": run.run_id,
                "status": status,
                "created_at": run.created_at,
            }
        )
    output.line(f"{time.strftime('%H:%M:%S')}  {session.session_id}  {run_line(run, session)}")
    return output.flush()


class _One:
    """A session that is watched: as of which write each run was seen."""

    def __init__(self, cache: SessionCache, session: WorkflowSession, *, is_new: bool = False) -> None:
        self._cache = cache
        self.session = session
        self._versions = {} if is_new else _versions_of(session)
        self._is_new = is_new

    def look(self) -> Iterator[tuple[WorkflowSession, WorkflowRunOutput]]:
        """Yield the runs that are new or have changed: a round trip of 28 bytes if none has."""
        try:
            if not self._cache.refresh(self.session) and not self._is_new:
                return
        except SessionNotFoundError:
            raise CommandError(f"session {self.session.session_id!r} is gone") from None
        self._is_new = False
        before, self._versions = self._versions, _versions_of(self.session)
        for run in self.session.runs or []:
            if before.get(str(run.run_id)) != self._versions.get(str(run.run_id)):
                yield self.session, run


class _OfUser:
    """The sessions of a user that are watched."""

    def __init__(self, cache: SessionCache, user_id: str) -> None:
        self._cache = cache
        self._user_id = user_id
        self._known: dict[str, _One] = {}
        self._seen = {
            each.session_id: (each.updated_at, each.run_count)
            for each in cache.list_sessions(user_id=user_id, limit=SESSIONS).sessions
        }
        for session in cache.get_sessions(list(self._seen), last_n_runs=NEWEST):
            if session is not None:
                self._known[session.session_id] = _One(cache, session)

    def look(self) -> Iterator[tuple[WorkflowSession, WorkflowRunOutput]]:
        """Yield the runs that are new or have changed, of the sessions updated last."""
        listed = self._cache.list_sessions(user_id=self._user_id, limit=SESSIONS).sessions
        for each in listed:
            now = (each.updated_at, each.run_count)
            is_recent = time.time() - each.updated_at < RECENT
            if self._seen.get(each.session_id) == now and not is_recent:
                continue
            self._seen[each.session_id] = now
            yield from self._look_at(each.session_id)

    def _look_at(self, session_id: str) -> Iterator[tuple[WorkflowSession, WorkflowRunOutput]]:
        try:
            if session_id not in self._known:
                session = found(self._cache, session_id, NEWEST)
                self._known[session_id] = _One(self._cache, session, is_new=True)
            yield from self._known[session_id].look()
        except CommandError:
            self._known.pop(session_id, None)  # deleted, or made anew: seen as new the next time


def _versions_of(session: WorkflowSession) -> dict[str, bytes]:
    loaded = snapshot_of(session)
    return {run_id: stored.head for run_id, stored in loaded.runs.items()} if loaded else {}
