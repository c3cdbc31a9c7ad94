"""The states a run goes through."""

from __future__ import annotations

from enum import Enum
from typing import Any


class RunStatus(str, Enum):  # noqa: UP042 - a StrEnum prints as its value
    """Name the state of a run; every member equals the string it is stored as."""

    pending = "PENDING"
    running = "RUNNING"
    completed = "COMPLETED"
    paused = "PAUSED"
    cancelled = "CANCELLED"
    error = "ERROR"
    regenerated = "REGENERATED"

    @classmethod
    def parse(cls, value: Any) -> Any:
        """Return the member stored as *value*, or *value* itself where no member is."""
        return _MEMBERS.get(value, value) if isinstance(value, str) else value


_MEMBERS: dict[str, RunStatus] = {status.value: status for status in RunStatus}
