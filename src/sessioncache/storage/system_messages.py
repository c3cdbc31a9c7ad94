"""Fields of a session's hash that say which agents and teams have a system message in some run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import codec
from .session_hash import Fields

SYSTEM_MESSAGES: Final = b"system_messages"
"""The field of a session all of whose writers recorded who has a system message."""

_YES: Final = codec.pack(True, "True")


def system_mark(kind: str, executor_id: Any) -> bytes:
    """Return the field of an agent or a team (`kind`) that has a system message."""
    return b"%b.%b:%b" % (SYSTEM_MESSAGES, kind.encode(), str(executor_id).encode(errors="replace"))


def system_marks(body: Mapping[str, Any]) -> Fields:
    """Return the fields of all agents and teams with a system message in the body of a run."""
    return {
        system_mark(kind, executor[f"{kind}_id"]): _YES
        for executor in _dicts(body.get("step_executor_runs"))
        if any(message.get("role") == "system" for message in _dicts(executor.get("messages")))
        for kind in ("agent", "team")
        if executor.get(f"{kind}_id") is not None
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []
