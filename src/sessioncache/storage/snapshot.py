"""What was read of a session; and what an object was loaded as, which its changes are measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from .run_members import StoredRun
from .session_hash import CONTROL_FIELDS, Fields

SNAPSHOT: Final = "_snapshot"
"""The attribute of session objects that holds their snapshot; objects made new have none."""


@dataclass(eq=False)
class Snapshot:
    """The stored session as of one revision; nothing in it is ever changed."""

    rev: int
    born: bytes
    stored_fields: Mapping[bytes, bytes] = field(repr=False)
    stored: Sequence[StoredRun] = field(repr=False)
    """The runs, oldest first."""
    limit: int | None = None
    """How many of the newest runs were loaded, None for all."""
    since: int = 0
    """The last revision as of which the orders of all runs are known: own writes do not tell them."""

    @cached_property
    def fields(self) -> Fields:
        """The fields without those that the scripts keep."""
        return {name: value for name, value in self.stored_fields.items() if name not in CONTROL_FIELDS}

    @cached_property
    def runs(self) -> Mapping[str, StoredRun]:
        """The runs by their ids."""
        return {stored.run_id: stored for stored in self.stored}


@dataclass(eq=False)
class Reading:
    """What a read found of a session, as of one moment; nothing in it is ever changed."""

    n_runs: int
    rev: int
    born: bytes
    fields: Mapping[bytes, Any]
    """The stored fields, or those asked for; then None stands for one that is not stored."""
    runs: Sequence[StoredRun]
    """Those asked for, oldest first; without bodies or orders if none were."""

    @cached_property
    def by_order(self) -> Mapping[bytes, StoredRun]:
        """The runs by their orders, oldest first; without those of which it is not known."""
        return {run.order: run for run in self.runs if run.order}


class FoundRun(NamedTuple):
    """A run as it is stored, in this life of its session: what has to be so still when it is replaced."""

    run: Any
    stored: StoredRun
    born: bytes


def snapshot_of(session: Any) -> Snapshot | None:
    """Return the snapshot of a session object, None if it was made new."""
    snapshot: Snapshot | None = vars(session).get(SNAPSHOT)
    return snapshot
