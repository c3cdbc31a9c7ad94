"""Pages of sessions, by every filter and order of agno's Db.

An index gives the ids of the sessions, those written last first. If that is the order asked for, and no total
is, pages of it are read until enough sessions fit. Else the columns for filters and orders are read of all
sessions listed, in one round trip; the page comes with them if it is among the sessions written last, as it
mostly is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from agno.db.base import SessionType
from agno.db.utils import validate_pagination

from sessioncache.operations.context import Context
from sessioncache.operations.index import DAMAGE, optional_text
from sessioncache.operations.index_reader import (
    GROWTH,
    LARGEST_READ,
    SPARE,
    Entries,
    IndexReader,
    look_request,
)
from sessioncache.operations.listing import packed_text
from sessioncache.operations.lookup import Lookup, parse_reply, read_request
from sessioncache.operations.read import build_session
from sessioncache.operations.read import get_session as load_session
from sessioncache.operations.sealing import opened
from sessioncache.storage import keys
from sessioncache.storage.run_range import RunRange
from sessioncache.storage.session_hash import field_name
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.validation import encoded_id

from .adapter import SessionRecord

MOST_GUESSED: Final = 256
"""Most sessions read along with the columns, in the hope that the page is among them."""

R = TypeVar("R", bound=Mapping[str, Any])


class Columns(dict[str, Any]):
    """The fields of a session that filters and orders use, by name."""

    @property
    def user_id(self) -> str | None:
        """Return whose session it is."""
        user_id: str | None = self["user_id"]
        return user_id

    @property
    def workflow_id(self) -> str | None:
        """Return the workflow it belongs to."""
        workflow_id: str | None = self["workflow_id"]
        return workflow_id

    @property
    def updated_at(self) -> int | None:
        """Return when it was written last."""
        updated_at: int | None = self["updated_at"]
        return updated_at


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are listed; None means any."""

    session_type: SessionType | None = None
    user_id: str | None = None
    component_id: str | None = None
    session_name: str | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None

    def index(self, prefix: str) -> bytes:
        """Return the key of the smallest index that has all sessions wanted."""
        if self.user_id is not None:
            encoded_id(self.user_id, "user_id")
            return keys.index_of_user(prefix, self.user_id)
        if self.component_id is not None and self.session_type is SessionType.WORKFLOW:
            return keys.index_of_workflow(prefix, self.component_id)
        return keys.index_of_all(prefix)

    def admits(self, session: Columns) -> bool:
        """Return whether a session is one of those wanted."""
        name, created_at = session["session_name"] or "", session["created_at"] or 0
        return (
            self.session_type in (None, session["session_type"])
            and self.user_id in (None, session["user_id"])
            and (self.component_id is None or self.component_id in self._components(session))
            and (self.session_name is None or self.session_name.casefold() in name.casefold())
            and (self.start_timestamp is None or created_at >= self.start_timestamp)
            and (self.end_timestamp is None or created_at <= self.end_timestamp)
        )

    def _components(self, session: Columns) -> list[Any]:
        types = SessionType if self.session_type is None else [SessionType(self.session_type)]
        return [session[f"{kind.value}_id"] for kind in types]


def get_sessions(
    ctx: Context,
    wanted: SessionFilter,
    *,
    limit: int | None = None,
    page: int | None = None,
    sort_by: str | None = None,
    sort_order: str | None = None,
    deserialize: bool | None = True,
    include_runs: bool = True,
) -> Flow[Any]:
    """Load a page of sessions: two round trips, three if the page had to be found first.

    A list of sessions, those written last first unless an order is asked for; or, without `deserialize`, a
    list of dicts and how many sessions there are on all pages.
    """
    validate_pagination(limit, page)
    yield from ctx.fetch_all()
    listing = _Listing(ctx, wanted, include_runs=include_runs)
    if deserialize and limit is not None and _is_of_the_index(sort_by, sort_order):
        sessions = yield from listing.newest(limit * (page or 1), limit)
    else:
        sessions = yield from listing.ordered(sort_by, sort_order, limit, page)
    yield from listing.index.finish()
    if not deserialize:
        return [session.row(with_runs=include_runs) for session in sessions], listing.total
    return [session.deserialized(wanted.session_type, with_runs=include_runs) for session in sessions]


def sessions_for_metrics(ctx: Context, wanted: SessionFilter) -> Flow[list[dict[str, Any]]]:
    """Load all sessions as dicts, of each run the model alone: two round trips, and one a session."""
    found, _ = yield from get_sessions(ctx, wanted, deserialize=False, include_runs=False)
    for session in found:
        whole = yield from load_session(ctx, session["session_id"])
        runs = [run.body for run in whole.runs] if whole is not None else []
        session["runs"] = [{name: run.get(name) for name in ("model", "model_provider")} for run in runs]
    return found


def _is_of_the_index(sort_by: str | None, sort_order: str | None) -> bool:
    return sort_by is None or (sort_by == "updated_at" and sort_order != "asc")


class _Listing:
    """One listing under way: its index, and how many sessions it has."""

    def __init__(self, ctx: Context, wanted: SessionFilter, *, include_runs: bool) -> None:
        self.total = 0
        self.index = IndexReader(ctx, wanted.index(ctx.settings.prefix))
        self._ctx = ctx
        self._wanted = wanted
        self._limit = None if include_runs else 0

    def newest(self, count: int, limit: int) -> Flow[list[SessionRecord]]:
        """Return the last `limit` of the `count` sessions wanted that were written last."""
        size = count + SPARE
        entries, others = yield from self.index.read_first(size)
        _, read = yield from self._look_at(others, entries)
        found = self.index.arrange(read)
        while not self.index.is_read and len(found) < count:
            size = min(size * GROWTH, LARGEST_READ)
            _, read = yield from self._look_at({}, (yield from self.index.read(size)))
            found += self.index.arrange(read)
        return found[count - limit : count]

    def ordered(
        self, sort_by: str | None, sort_order: str | None, limit: int | None, page: int | None
    ) -> Flow[list[SessionRecord]]:
        """Return a page of the sessions wanted in the order asked for, and count them all."""
        entries = yield from self.index.read()
        guessed = dict(list(entries.items())[: self._guess(limit, page, sort_order)])
        columns, read = yield from self._look_at(entries, guessed)
        fitting = [row for row in self.index.arrange(columns) if self._wanted.admits(row)]
        self.total = len(fitting)
        chosen = [row["session_id"] for row in paged(sorted_rows(fitting, sort_by, sort_order), limit, page)]
        missing = {name: entries[name] for name in chosen if name not in guessed}
        read |= (yield from self._look_at({}, missing))[1]
        return [read[name] for name in chosen if name in read]

    def _guess(self, limit: int | None, page: int | None, sort_order: str | None) -> int:
        if limit is None or sort_order == "asc":
            return 0
        return min(limit * (page or 1) + SPARE, MOST_GUESSED)

    def _look_at(
        self, entries: Entries, whole: Entries
    ) -> Flow[tuple[dict[str, Columns], dict[str, SessionRecord]]]:
        """Read the columns of some entries, and of some those sessions that are wanted: one round trip."""
        requests = [look_request(self._ctx, session_id, _FIELDS) for session_id in entries]
        requests += [whole_request(self._ctx, session_id, self._limit) for session_id in whole]
        replies = yield from send_all(self._ctx, requests)
        columns = self.index.sift(entries, replies[: len(entries)], partial(_columns, self._ctx))
        read = self.index.sift(whole, replies[len(entries) :], partial(built, self._ctx, self._limit))
        wanted = {name: each for name, each in read.items() if self._wanted.admits(_columns_of(each))}
        return columns, wanted


def whole_request(ctx: Context, session_id: str, limit: int | None = None) -> Request:
    """Return the request that reads one of many sessions with its newest runs."""
    return read_request(ctx, session_id, RunRange(limit), tolerates=DAMAGE)


def built(ctx: Context, limit: int | None, session_id: str, reply: list[Any]) -> SessionRecord | None:
    """Return the session of a reply, None if it is gone."""
    lookup = Lookup(ctx, session_id, RunRange(limit))
    lookup.take(reply)
    session: SessionRecord | None = build_session(lookup)
    return session


_TEXTS: Final = ("user_id", "workflow_id")
_TIMES: Final = ("created_at", "updated_at")
_PACKED: Final = ("session_type", "agent_id", "team_id", "session_name")
_FIELDS: Final = (
    *(name.encode() for name in (*_TEXTS, *_TIMES, *_PACKED[:-1])),
    field_name("session_data", "session_name"),
)


def _columns(ctx: Context, session_id: str, reply: Sequence[Any]) -> Columns | None:
    """Return the columns of a reply, None if the session is gone."""
    reading = opened(ctx, session_id, parse_reply(session_id, reply, fields=_FIELDS))
    if reading is None:
        return None
    found = dict(zip((*_TEXTS, *_TIMES, *_PACKED), map(reading.fields.get, _FIELDS), strict=True))
    return Columns(
        session_id=session_id,
        **{name: optional_text(found[name]) for name in _TEXTS},
        **{name: None if (time := found[name]) is None else int(time) for name in _TIMES},
        **{name: packed_text(found[name]) for name in _PACKED},
    )


def _columns_of(session: SessionRecord) -> Columns:
    """Return the columns of a session that was read whole."""
    texts = {name: session.fields.get(name) for name in _PACKED}
    data = session.fields.get("session_data")
    texts["session_name"] = data.get("session_name") if isinstance(data, dict) else None
    return Columns(
        {name: session.fields.get(name) for name in ("session_id", *_TEXTS, *_TIMES)}
        | {name: text if isinstance(text, str) else None for name, text in texts.items()}
    )


def sorted_rows(rows: list[R], sort_by: str | None, sort_order: str | None) -> list[R]:
    """Return rows in an order as SQLite gives it: None is less than anything; as they are for no column."""
    if sort_by is None or not rows or not isinstance(rows[0].get(sort_by), str | int | None):
        return rows

    def key(row: R) -> tuple[bool, Any]:
        value = row[sort_by]
        if value is None and sort_by == "updated_at":
            value = row["created_at"]
        return value is not None, value

    return sorted(rows, key=key, reverse=sort_order != "asc") if sort_by in rows[0] else rows


def paged(rows: list[Any], limit: int | None, page: int | None) -> list[Any]:
    """Return one page of rows; pages count from 1."""
    if limit is None:
        return rows
    start = limit * ((page or 1) - 1)
    return rows[start : start + limit]
