"""agno's sessions and runs, kept here: change one line, and every lookup is fast (extra `agno`).

from sessioncache.integrations.agno import SessionCacheDb

Workflow(db=SessionCacheDb(db_url="redis://localhost:6379/0"), ...)
"""

# ruff: noqa: E402 - a wrong agno is told before anything of it is imported
from .requirement import check_agno

check_agno()

from .async_db import AsyncSessionCacheDb
from .db import SessionCacheDb
from .importing import ImportReport, import_sessions

__all__ = ["AsyncSessionCacheDb", "ImportReport", "SessionCacheDb", "import_sessions"]
