"""Pages of sessions, by every filter and order of agno's Db.

An index gives the ids of the sessions, those written last first. Where that is the order asked for, and no
total is, pages of it are read until enough sessions fit. Else the columns that filters and orders are about
are read of all sessions listed, in one round trip; the page comes with them where it lies, as it mostly does,
among the sessions written last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agno.db.base import SessionType
from agno.db.utils import validate_pagination

from sessioncache import codec, keys
from sessioncache.fields import field_name
from sessioncache.flow import Flow, Request
from sessioncache.operations import sessions as stored_sessions
from sessioncache.operations.listing import SPARE, UNLIST_SESSIONS
from sessioncache.operations.sessions import build_session, read_request
from sessioncache.resilience import Call, ask, ask_all

from .model import SessionRecord

MOST_GUESSED: Final = 256
"""Sessions read along with the columns at the most, in the hope that the page is among them."""

GROWTH: Final = 2

R = TypeVar("R", bound=Mapping[str, Any])

Columns = dict[str, Any]
"""What filters and orders look at of a session, by name."""

Entries = dict[str, bytes]
"""Session ids, and the update times they are listed with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions are listed; None stands for any."""

    session_type: SessionType | None = None
    user_id: str | None = None
    component_id: str | None = None
    session_name: str | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None

    def index(self, prefix: str) -> bytes:
        """Return the key of the smallest index that has all sessions wanted."""
        if self.user_id is not None:
            keys.encoded_id(self.user_id, "user_id")
            return keys.index_of_user(prefix, self.user_id)
        if self.component_id is not None and self.session_type is SessionType.WORKFLOW:
            return keys.index_of_workflow(prefix, self.component_id)
        return keys.index_of_all(prefix)

    def admits(self, session: Columns) -> bool:
        """Tell whether a session is one of those wanted."""
        name, created_at = session["session_name"] or "", session["created_at"] or 0
        return (
            self.session_type in (None, session["session_type"])
            and self.user_id in (None, session["user_id"])
            and (self.component_id is None or self.component_id in self._components(session))
            and (self.session_name is None or self.session_name.casefold() in str(name).casefold())
            and (self.start_timestamp is None or created_at >= self.start_timestamp)
            and (self.end_timestamp is None or created_at <= self.end_timestamp)
        )

    def _components(self, session: Columns) -> list[Any]:
        types = SessionType if self.session_type is None else [SessionType(self.session_type)]
        return [session[f"{kind.value}_id"] for kind in types]


def get_sessions(
    call: Call,
    wanted: Wanted,
    *,
    limit: int | None = None,
    page: int | None = None,
    sort_by: str | None = None,
    sort_order: str | None = None,
    deserialize: bool | None = True,
    include_runs: bool = True,
) -> Flow[Any]:
    """Load a page of sessions: two round trips, three where the page had to be found first.

    A list of sessions, those written last first unless an order is asked for; or, without `deserialize`, a
    list of dicts and how many sessions there are on all pages.
    """
    validate_pagination(limit, page)
    listing = _Listing(call, wanted, include_runs=include_runs)
    if deserialize and limit is not None and _is_of_the_index(sort_by, sort_order):
        sessions = yield from listing.newest(limit * (page or 1), limit)
    else:
        sessions = yield from listing.ordered(sort_by, sort_order, limit, page)
    yield from listing.forget_gone()
    if not deserialize:
        return [session.row(with_runs=include_runs) for session in sessions], listing.total
    return [session.deserialized(wanted.session_type, with_runs=include_runs) for session in sessions]


def sessions_for_metrics(call: Call, wanted: Wanted) -> Flow[list[dict[str, Any]]]:
    """Load all sessions as dicts, of each run the model alone: two round trips, and one a session."""
    found, _ = yield from get_sessions(call, wanted, deserialize=False, include_runs=False)
    for session in found:
        whole = yield from stored_sessions.get_session(call, session["session_id"])
        runs = [run.body for run in whole.runs] if whole is not None else []
        session["runs"] = [{name: run.get(name) for name in ("model", "model_provider")} for run in runs]
    return found


def _is_of_the_index(sort_by: str | None, sort_order: str | None) -> bool:
    return sort_by is None or (sort_by == "updated_at" and sort_order != "asc")


class _Listing:
    """One listing under way: the sessions read so far, and the entries found to be stale."""

    def __init__(self, call: Call, wanted: Wanted, *, include_runs: bool) -> None:
        self.total = 0
        self._call = call
        self._wanted = wanted
        self._index = wanted.index(call.settings.prefix)
        self._limit = None if include_runs else 0
        self._stale: Entries = {}

    def newest(self, count: int, limit: int) -> Flow[list[SessionRecord]]:
        """Return the last `limit` of the `count` sessions wanted that were written last."""
        found: list[SessionRecord] = []
        seen: set[str] = set()
        start, size = 0, count + SPARE
        while len(found) < count:
            entries = yield from listed_entries(self._call, self._index, start, size)
            fresh = {name: score for name, score in entries.items() if name not in seen}
            found += (yield from self._read(fresh)).values()
            if len(entries) < size:
                break
            seen |= entries.keys()
            start, size = start + size, size * GROWTH
        return found[count - limit : count]

    def ordered(
        self, sort_by: str | None, sort_order: str | None, limit: int | None, page: int | None
    ) -> Flow[list[SessionRecord]]:
        """Return a page of the sessions wanted in the order asked for, and count them all."""
        entries = yield from listed_entries(self._call, self._index)
        guessed = dict(list(entries.items())[: self._guess(limit, page, sort_order)])
        columns, read = yield from self._look_at(entries, guessed)
        fitting = [row for row in columns if self._wanted.admits(row)]
        self.total = len(fitting)
        chosen = [row["session_id"] for row in paged(sorted_rows(fitting, sort_by, sort_order), limit, page)]
        read |= yield from self._read({name: entries[name] for name in chosen if name not in guessed})
        return [read[name] for name in chosen if name in read]

    def _guess(self, limit: int | None, page: int | None, sort_order: str | None) -> int:
        if limit is None or sort_order == "asc":
            return 0
        return min(limit * (page or 1) + SPARE, MOST_GUESSED)

    def _look_at(
        self, entries: Entries, guessed: Entries
    ) -> Flow[tuple[list[Columns], dict[str, SessionRecord]]]:
        """Read the columns of all entries and the whole of some: one round trip a server."""
        requests = [_columns_request(self._call, session_id) for session_id in entries]
        whole = [read_request(self._call, session_id, self._limit) for session_id in guessed]
        replies = yield from ask_all(self._call, requests + whole)
        columns = [_columns(reply) for reply in replies[: len(requests)]]
        self._note_stale(entries, columns)
        read = self._built(guessed, replies[len(requests) :])
        return [row for row in columns if row is not None], read

    def _read(self, entries: Entries) -> Flow[dict[str, SessionRecord]]:
        """Read those sessions that are wanted, as they are now."""
        requests = [read_request(self._call, session_id, self._limit) for session_id in entries]
        return self._built(entries, (yield from ask_all(self._call, requests)))

    def _built(self, entries: Entries, replies: Sequence[Any]) -> dict[str, SessionRecord]:
        built = {
            session_id: build_session(self._call, session_id, reply, None, self._limit)
            for session_id, reply in zip(entries, replies, strict=True)
        }
        self._note_stale(entries, [_columns_of(session) for session in built.values()])
        return {
            session_id: session
            for session_id, session in built.items()
            if session is not None and self._wanted.admits(_columns_of(session) or {})
        }

    def _note_stale(self, entries: Entries, columns: Sequence[Columns | None]) -> None:
        for (session_id, score), row in zip(entries.items(), columns, strict=True):
            if row is None or self._index not in keys.indexes(
                self._call.settings.prefix, row["user_id"], row["workflow_id"]
            ):
                self._stale[session_id] = score

    def forget_gone(self) -> Flow[None]:
        """Take stale entries off the index, unless their sessions were listed anew meanwhile."""
        if self._stale:
            arguments = [part for name, score in self._stale.items() for part in (name.encode(), score)]
            yield from ask(self._call, UNLIST_SESSIONS.call((self._index,), arguments))


def listed_sessions(call: Call, size: int | None = None) -> Flow[list[str]]:
    """Return the ids of all sessions that are listed, or of those written last: one round trip."""
    return list((yield from listed_entries(call, keys.index_of_all(call.settings.prefix), 0, size)))


def listed_entries(call: Call, index: bytes, start: int = 0, size: int | None = None) -> Flow[Entries]:
    """Return entries of an index, those written last first: one round trip."""
    stop = b"-1" if size is None else b"%d" % (start + size - 1)
    command = (b"ZRANGE", index, b"%d" % start, stop, b"REV", b"WITHSCORES")
    flat = yield from ask(call, Request(index, (command,)))
    return {name.decode(): score for name, score in zip(flat[::2], flat[1::2], strict=True)}


_TEXTS: Final = ("session_id", "user_id", "workflow_id")
_TIMES: Final = ("created_at", "updated_at")
_PACKED: Final = ("session_type", "agent_id", "team_id", "session_name")
_FIELDS: Final = (
    *(name.encode() for name in (*_TEXTS, *_TIMES, *_PACKED[:-1])),
    field_name("session_data", "session_name"),
)


def _columns_request(call: Call, session_id: str) -> Request:
    meta, _ = keys.session_keys(call.settings.prefix, session_id)
    return Request(meta, ((b"HMGET", meta, *_FIELDS),))


def _columns(values: Sequence[bytes | None]) -> Columns | None:
    """Return the columns of a reply, None where the session is gone."""
    found = dict(zip((*_TEXTS, *_TIMES, *_PACKED), values, strict=True))
    if found["session_id"] is None:
        return None
    return {
        **{name: None if (text := found[name]) is None else text.decode() for name in _TEXTS},
        **{name: None if (time := found[name]) is None else int(time) for name in _TIMES},
        **{name: _unpacked(found[name]) for name in _PACKED},
    }


def _columns_of(session: SessionRecord | None) -> Columns | None:
    """Return the columns of a session that was read whole."""
    if session is None:
        return None
    columns = {name: session.fields.get(name) for name in (*_TEXTS, *_TIMES, *_PACKED)}
    return columns | {"session_name": (session.fields.get("session_data") or {}).get("session_name")}


def _unpacked(packed: bytes | None) -> Any:
    """Return a packed column; one that does not decode is none here, and an error where it is read whole."""
    try:
        return None if packed is None else codec.unpack(packed)
    except ValueError:
        return None


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
