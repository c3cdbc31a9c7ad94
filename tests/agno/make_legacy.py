"""Sessions of agno's RedisDb, made by agno itself: its own agents, teams and workflows run on it.

`tests/data/agno_2_redis.json` is what agno 2.9.0 leaves in Redis. It was made on an empty server, in an
environment of its own:

    python -m venv /tmp/agno2 && /tmp/agno2/bin/pip install "agno<3" fastapi redis
    /tmp/agno2/bin/python -m tests.agno.make_legacy redis://localhost:6379/0 > tests/data/agno_2_redis.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

from agno.db.base import SessionType
from agno.db.redis import RedisDb
from tests.agno.components import MAKERS

USERS = ("alice", None)
RUNS = 3


def make(db: Any) -> list[str]:
    """Run each component some times for each user, and name some sessions; return their ids."""
    session_ids = []
    for kind, maker in MAKERS.items():
        for user_id in USERS:
            session_id = f"{kind} of {user_id}"
            for number in range(RUNS):
                state = {"number": number, "nested": {"list": [1, None, "ü"]}}
                maker(db).run(f"q0-{number}", session_id=session_id, user_id=user_id, session_state=state)
            session_ids.append(session_id)
        db.rename_session(f"{kind} of alice", SessionType(kind), f"Alice's {kind}")
    return session_ids


def stored_keys(client: Any) -> dict[str, Any]:
    """Return what is in Redis, but for sorted sets, as JSON takes it."""
    kinds = {key: client.type(key) for key in sorted(client.keys())}
    sets = {key: sorted(client.smembers(key)) for key, kind in kinds.items() if kind == "set"}
    return sets | {key: client.get(key) for key, kind in kinds.items() if kind == "string"}


def main(db_url: str) -> None:
    """Write what agno leaves in Redis to standard output."""
    db = RedisDb(db_url=db_url)
    make(db)
    made = {"agno": version("agno"), "keys": stored_keys(db.redis_client)}
    print(json.dumps(made, indent=1, ensure_ascii=False))  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    main(sys.argv[1])
