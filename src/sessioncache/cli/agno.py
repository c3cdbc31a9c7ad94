"""`import --from-agno`: any of agno's databases, by its URL."""

from __future__ import annotations

from typing import Any

from sessioncache import SessionCache

from .access import USAGE, WRONG, CommandError, say
from .output import Bar


def import_from(url: str, cache: SessionCache) -> dict[str, int]:
    """Copy all sessions of a database; return what became of them."""
    try:
        from sessioncache.integrations.agno import import_sessions  # noqa: PLC0415 - needs agno
    except ImportError as exc:
        raise CommandError(f"agno is needed: pip install 'sessioncache[agno]' ({exc})", WRONG) from exc
    source = _database(url)
    with Bar("importing", None) as bar:
        report = import_sessions(source, cache, progress=bar.at)
    for each in report.failed:
        say(f"{each.session_id}: {each.reason}")
    return {
        "imported": report.imported,
        "runs": report.runs,
        "already_there": report.already_there,
        "failed": len(report.failed),
    }


def _database(url: str) -> Any:
    scheme = url.partition(":")[0].partition("+")[0]
    try:
        if scheme in ("redis", "rediss"):
            from agno.db.redis import RedisDb  # noqa: PLC0415

            return RedisDb(db_url=url)
        if scheme == "sqlite":
            from agno.db.sqlite import SqliteDb  # noqa: PLC0415

            return SqliteDb(db_url=url)
        if scheme in ("postgres", "postgresql"):
            from agno.db.postgres import PostgresDb  # noqa: PLC0415

            return PostgresDb(db_url=url)
    except ImportError as exc:
        raise CommandError(f"agno needs more for {scheme}: {exc}", WRONG) from exc
    raise CommandError(f"--from-agno takes redis, sqlite or postgresql, not {scheme!r}", USAGE)
