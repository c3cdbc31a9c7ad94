"""Listings: pages of sessions without their runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """What a listing says about a session; times are unix seconds."""

    session_id: str
    user_id: str | None
    workflow_id: str | None
    workflow_name: str | None
    session_name: str | None
    created_at: int | None
    updated_at: int
    run_count: int


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions; `total` is how many the index lists, if that needs no look at each of them.

    `total` may count sessions that expired since the index was last looked at, and counts those that are
    damaged or of another version, which no page has.
    """

    sessions: list[SessionSummary]
    total: int | None
