"""What a session object was loaded as or last saved as: its changes are measured against this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .run_members import StoredRun
from .session_hash import Fields

SNAPSHOT: Final = "_snapshot"
"""The attribute of session objects that holds their snapshot; objects made new have none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stored session as of one revision."""

    rev: int
    born: bytes
    fields: Fields = field(repr=False)
    """Without those that the scripts keep."""
    runs: dict[str, StoredRun] = field(repr=False)
    """By their ids, oldest first."""
    limit: int | None = None
    """How many of the newest runs were loaded, None for all."""


class FoundRun(NamedTuple):
    """A run as it is stored, in this life of its session: what has to be so still when it is replaced."""

    run: Any
    stored: StoredRun
    born: bytes


def snapshot_of(session: Any) -> Snapshot | None:
    """Return the snapshot of a session object, None if it was made new."""
    snapshot: Snapshot | None = vars(session).get(SNAPSHOT)
    return snapshot
