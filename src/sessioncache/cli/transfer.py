"""`export` and `import`: sessions as JSON, one a line, read and written as they come."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from sessioncache import (
    DamagedRunError,
    DamagedSessionError,
    SessionCache,
    SessionCacheError,
    WorkflowSession,
)
from sessioncache.errors import UnavailableError
from sessioncache.operations.sessions import import_session

from .access import UNREACHED, USAGE, WRONG, AsJson, CommandError, Prefix, Url, opened, say, telling
from .agno import import_from
from .jsonl import from_json, to_json
from .output import Bar, Output
from .parts import Parts, digest
from .reading import User, Workflow

RUNS_AT_ONCE: Final = 200
"""Runs that are read in one round trip, unless one session has more: so much memory is used."""

MARK_MS: Final = 1
"""How long an import leaves a mark that the session was here: not at all."""

LARGEST_RUN: Final = 64 * 2**20
"""Bytes of a packed run: the most that anybody reads."""

PATIENCE: Final = 30.0
"""Seconds for one call."""

LONGEST_LINE: Final = 256 * 2**20
"""Bytes of a line: a session of more is no export."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines; .gz is compressed; - is a pipe.")]


@telling
def export(
    file: File,
    url: Url = None,
    prefix: Prefix = None,
    user: User = None,
    workflow: Workflow = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write sessions to a file, one JSON object a line; complete once FILE is there."""
    parts = Parts(file, resume=resume)
    with opened(url, prefix, timeout=PATIENCE) as cache, parts:
        try:
            damaged = _export(cache, parts, user, workflow)
        except KeyboardInterrupt:
            raise CommandError(f"stopped: {_kept(parts)}") from None
        except UnavailableError as exc:
            raise CommandError(f"{exc}; {_kept(parts)}", UNREACHED) from exc
        parts.finish()
    if as_json and not parts.is_pipe:
        Output(as_json=True).item({"sessions": parts.n_done, "damaged": damaged})
    else:
        lost = f"; {damaged} are damaged, and left out" if damaged else ""
        say(f"{parts.n_done:,} sessions are in {file}{lost}")
    if damaged:
        raise typer.Exit(WRONG)


def _kept(parts: Parts) -> str:
    return f"{parts.n_done:,} sessions are in {parts.part}; go on with --resume"


def _export(cache: SessionCache, parts: Parts, user: str | None, workflow: str | None) -> int:
    """Write sessions; return how many are damaged."""
    damaged = 0
    with Bar("exporting", _total(cache, user, workflow)) as bar:
        for group in _groups(cache, user, workflow, parts):
            lines, lost = _lines(cache, group)
            parts.write(lines)
            damaged += lost
            bar.at(parts.n_done)
    return damaged


def _total(cache: SessionCache, user: str | None, workflow: str | None) -> int | None:
    return cache.list_sessions(user_id=user, workflow_id=workflow, limit=0).total


def _groups(cache: SessionCache, user: str | None, workflow: str | None, parts: Parts) -> Iterator[list[str]]:
    """Yield ids of sessions yet to be written, as many as are read at once."""
    group: list[str] = []
    runs = 0
    for each in cache.iter_sessions(user_id=user, workflow_id=workflow):
        if digest(each.session_id) in parts.done:
            continue
        if group and runs + each.run_count > RUNS_AT_ONCE:
            yield group
            group, runs = [], 0
        group.append(each.session_id)
        runs += each.run_count + 1
    if group:
        yield group


def _lines(cache: SessionCache, session_ids: list[str]) -> tuple[dict[int, bytes], int]:
    """Return the lines of sessions, by the digests of their ids, and how many are damaged."""
    lines, damaged = {}, 0
    try:
        sessions = cache.get_sessions(session_ids)
    except DamagedSessionError:
        sessions = [each for name in session_ids for each in _alone(cache, name)]
        damaged += len(session_ids) - len(sessions)
    for session in sessions:
        if session is None:
            continue  # deleted meanwhile
        try:
            line = json.dumps(to_json(session.to_dict()), separators=(",", ":"))
        except DamagedRunError as exc:
            say(str(exc))
            damaged += 1
        else:
            lines[digest(session.session_id)] = line.encode() + b"\n"
    return lines, damaged


def _alone(cache: SessionCache, session_id: str) -> list[WorkflowSession | None]:
    try:
        return [cache.get_session(session_id)]
    except DamagedSessionError as exc:
        say(str(exc))
        return []


@telling
def import_(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="What export wrote.")] = None,
    url: Url = None,
    prefix: Prefix = None,
    from_agno: Annotated[
        str | None,
        typer.Option("--from-agno", metavar="URL", help="One of agno's databases instead of a file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store sessions from a file, each whole; those that are there stay as they are."""
    if (file is None) == (from_agno is None):
        raise CommandError("say a FILE or --from-agno", USAGE)
    output = Output(as_json=as_json)
    with opened(url, prefix, timeout=PATIENCE, max_run_bytes=LARGEST_RUN) as cache:
        report = _import_file(file, cache) if file is not None else import_from(from_agno or "", cache)
    if as_json:
        output.item(report)
    else:
        output.line(", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in report.items()))
    if report["failed"]:
        raise typer.Exit(WRONG)


def _import_file(file: Path, cache: SessionCache) -> dict[str, int]:
    report = {"imported": 0, "already_there": 0, "failed": 0}
    with _opened_file(file) as source, Bar("importing", None) as bar:
        try:
            for number, line in enumerate(_read_lines(source, file), 1):
                if number == 1:
                    _check_first(line, file)
                report[_import_line(cache, line, f"{file}:{number}")] += 1
                bar.at(number)
        except KeyboardInterrupt:
            raise CommandError(f"stopped: {_so_far(report)}; import again to go on") from None
        except UnavailableError as exc:
            raise CommandError(f"{exc}; {_so_far(report)}; import again to go on", UNREACHED) from exc
        except (EOFError, gzip.BadGzipFile) as exc:
            raise CommandError(f"{file} is cut off or no gzip: {exc}; {_so_far(report)}") from exc
    return report


def _check_first(line: bytes, file: Path) -> None:
    """Raise CommandError for a file of something else, before each of its lines is called wrong."""
    try:
        _parsed(line)
    except (ValueError, RecursionError) as exc:
        raise CommandError(f"{file} is no export: its first line is wrong: {exc}") from exc


def _so_far(report: dict[str, int]) -> str:
    return f"{report['imported']:,} sessions are imported"


def _opened_file(file: Path) -> Any:
    if str(file) == "-":
        return nullcontext(sys.stdin.buffer)
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _read_lines(source: IO[bytes], file: Path) -> Iterator[bytes]:
    while line := source.readline(LONGEST_LINE):
        if not line.endswith(b"\n"):
            raise CommandError(f"{file} is cut off: its last line has no end")
        yield line


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the session of a line as a dict; raise ValueError if there is none in it."""
    found = from_json(json.loads(line))
    if not isinstance(found, dict) or not isinstance(found.get("session_id"), str):
        raise ValueError("there is no session in it")
    return found


def _import_line(cache: SessionCache, line: bytes, where: str) -> str:
    """Store the session of a line; return what became of it."""
    try:
        found = _parsed(line)
        session = WorkflowSession.from_dict(found)
        is_new = cache._run(import_session, session, found.get("updated_at"), MARK_MS)  # noqa: SLF001
    except UnavailableError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError, SessionCacheError) as exc:
        say(f"{where}: {exc}")
        return "failed"
    return "imported" if is_new else "already_there"
