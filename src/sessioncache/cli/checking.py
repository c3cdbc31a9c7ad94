"""`stats` and `verify`: what is stored, and whether all of it is as it should be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Final, TypeVar

import typer

from sessioncache import Problem, SessionCache, StoreStats, VerifyReport
from sessioncache.operations.stats import PERCENTILES
from sessioncache.storage.checks import KINDS

from .access import USAGE, WRONG, AsJson, CommandError, Prefix, Url, Yes, confirm, opened, say, telling
from .output import Bar, Output
from .values import size, words

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds for one step."""


def _counted(cache: SessionCache, what: str, call: Callable[[Callable[[int], object]], T]) -> T:
    total = cache.list_sessions(limit=0).total
    with Bar(what, total) as bar:
        return call(bar.at)


@telling
def stats(
    url: Url = None,
    prefix: Prefix = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Look at about so many sessions.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count sessions, runs and bytes."""
    output = Output(as_json=as_json)
    with opened(url, prefix, timeout=PATIENCE) as cache:
        found = _counted(cache, "measuring", lambda at: cache.stats(sample, at))
        total = cache.list_sessions(limit=0).total
    if as_json:
        return output.item(_as_dict(found, total))
    return _show_stats(found, total, output)


def _as_dict(found: StoreStats, total: int | None) -> dict[str, object]:
    named = asdict(found)
    del named["sizes"]
    named["largest"] = [each._asdict() for each in found.largest]
    named["percentiles"] = {
        str(each): {"runs": found.runs_at(each), "bytes": found.bytes_at(each)} for each in PERCENTILES
    }
    return named | {"listed": total}


def _show_stats(found: StoreStats, total: int | None, output: Output) -> None:
    sampled = f" of about {total:,}" if found.is_sample else ""
    n_bytes = found.metadata_bytes + found.run_bytes
    memory = size(n_bytes) if found.has_bytes else "unknown (MEMORY USAGE is not permitted)"
    output.line(f"sessions  {found.sessions:,}{sampled}   runs {found.runs:,}   memory {memory}")
    if found.has_bytes and n_bytes:
        share = found.run_bytes / n_bytes
        indexes = f"   indexes {size(found.index_bytes)}" if found.index_bytes else ""
        output.line(f"memory    runs {share:.0%}, metadata {1 - share:.0%}{indexes}")
    output.line(f"lifetime  for ever {found.without_ttl:,}   within an hour {found.expiring_within_hour:,}")
    newest = sum(found.formats.values()) or 1
    forms = ", ".join(f"{name} {number / newest:.0%}" for name, number in sorted(found.formats.items()))
    output.line(f"stored    {forms or '-'}")
    output.line()
    names = [*(f"p{each}" for each in PERCENTILES[:-1]), "most"]
    runs = [f"{found.runs_at(each):,}" for each in PERCENTILES]
    sizes = [size(found.bytes_at(each)) for each in PERCENTILES]
    output.table(["A SESSION", *names], [["runs", *runs], ["bytes", *sizes]], right=names)
    output.line()
    rows = [[f"{each.runs:,}", size(each.n_bytes), words(each.session_id)] for each in found.largest]
    output.table(["RUNS", "BYTES", "LARGEST"], rows, right=["RUNS", "BYTES"])


@telling
def verify(
    url: Url = None,
    prefix: Prefix = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what loses nothing.")] = False,
    delete_damaged: Annotated[
        bool, typer.Option("--delete-damaged", help="With --repair: delete what is damaged, too.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Check every session and every index; exit status 1 if anything is wrong."""
    if delete_damaged and not repair:
        raise CommandError("--delete-damaged goes with --repair", USAGE)
    output = Output(as_json=as_json)
    with opened(url, prefix, timeout=PATIENCE) as cache:
        report = _counted(cache, "verifying", lambda at: cache.verify(progress=at))
        damaged = [each for each in report.problems if delete_damaged and _is_damage(each)]
        todo = damaged + [each for each in report.problems if each.is_repairable]
        if repair and todo:
            _show_problems(report, output)
            doing = f"repair {len(todo) - len(damaged)}"
            doing += f" and delete {len(damaged)} damaged" if damaged else ""
            confirm(f"This would {doing}.", yes=yes)
            report = _counted(
                cache,
                "repairing",
                lambda at: cache.verify(repair=True, delete_damaged=delete_damaged, progress=at),
            )
    _show_problems(report, output)
    _sum_up(report, output, repairs=repair)
    if not report.is_clean:
        raise typer.Exit(WRONG)


@telling
def rotate_keys(
    url: Url = None,
    prefix: Prefix = None,
    accept_plain: Annotated[
        bool, typer.Option("--accept-plain", help="Seal what is not sealed yet, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Seal everything anew with the first key of SESSIONCACHE_KEYS; to run it again is to go on."""
    if not os.environ.get("SESSIONCACHE_KEYS"):
        raise CommandError("SESSIONCACHE_KEYS must be name=key,name=key, keys in base64", USAGE)
    output = Output(as_json=as_json)
    with opened(url, prefix, timeout=PATIENCE, accept_plain=accept_plain) as cache:
        done = _counted(cache, "sealing", cache.rotate_keys)
    if as_json:
        output.item({"sessions": done})
    else:
        output.line(f"{done:,} sessions were sealed anew")


def _is_damage(problem: Problem) -> bool:
    return not problem.is_repairable and problem.kind != "version"


def _show_problems(report: VerifyReport, output: Output) -> None:
    for problem in report.problems:
        if output.as_json:
            output.item(asdict(problem))
            continue
        where = words(problem.session_id) if problem.session_id is not None else ""
        where += f" run {words(problem.run_id)}" if problem.run_id else ""
        where += f" in {words(problem.key)}" if problem.key else ""
        state = "repaired" if problem.is_repaired else ""
        detail = words(problem.detail) or KINDS[problem.kind]
        output.line(f"{problem.kind:<14} {where.strip()}: {detail}  {state}".rstrip())


def _sum_up(report: VerifyReport, output: Output, *, repairs: bool) -> None:
    kinds = Counter(each.kind for each in report.problems if not each.is_repaired)
    left = kinds.total() - kinds["version"]
    looked = f"{report.sessions:,} sessions, {report.runs:,} runs, {report.index_entries:,} index entries"
    repaired = sum(each.is_repaired for each in report.problems)
    if output.as_json:
        summary = {"sessions": report.sessions, "runs": report.runs, "index_entries": report.index_entries}
        return output.item({"summary": summary | {"problems": left, "repaired": repaired}})
    said = "all is well" if not left else f"{left:,} problems" + ("" if repairs else ", nothing was changed")
    output.line(f"{looked}: {said}" + (f"; {repaired:,} repaired" if repaired else ""))
    if left and not repairs and any(each.is_repairable for each in report.problems):
        say("verify --repair repairs what loses nothing")
    return None
