"""The states a run goes through."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

R = TypeVar("R")


class RunStatus(str, Enum):  # noqa: UP042 - a StrEnum prints as its value
    """Name the state of a run; every member equals the string it is stored as.

    Only a run that is ``completed`` counts as workflow history.
    """

    pending = "PENDING"
    running = "RUNNING"
    completed = "COMPLETED"
    paused = "PAUSED"
    cancelled = "CANCELLED"
    error = "ERROR"
    regenerated = "REGENERATED"

    @classmethod
    def exact(cls, value: Any) -> Any:
        """Return the member of this value, or *value* itself if there is none, as the original does."""
        return BY_VALUE.get(value, value) if isinstance(value, str) else value

    @classmethod
    def parse(cls, value: Any) -> Any:
        """Return the member of this name or value, in any case, or *value* itself if there is none."""
        return _MEMBERS.get(value.lower(), value) if isinstance(value, str) else value


_MEMBERS: dict[str, RunStatus] = {status.name: status for status in RunStatus}
BY_VALUE: dict[str, RunStatus] = {status.value: status for status in RunStatus}


class _Status:
    """Be the attribute ``status`` of a run: a string that names a member is that member, once assigned."""

    def __get__(self, run: Any, owner: type[Any]) -> Any:
        try:
            return run.__dict__["status"]
        except KeyError:  # yet to be loaded
            return run.__getattr__("status")

    def __set__(self, run: Any, value: Any) -> None:
        vars(run)["status"] = RunStatus.parse(value)


def parses_status(cls: type[R]) -> type[R]:
    """Have a class of runs parse its ``status``; a ``__setattr__`` would slow down every other attribute."""
    cls.status = _Status()  # type: ignore[attr-defined]
    return cls
