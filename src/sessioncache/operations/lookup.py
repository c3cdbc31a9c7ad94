"""A session that is looked up: what to ask, natively, and what the reply says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sessioncache import validation
from sessioncache.errors import ReplyMismatchError
from sessioncache.storage.keys import session_keys
from sessioncache.storage.run_members import MEMBERS_PER_RUN, StoredRun
from sessioncache.storage.run_range import NO_RUNS, RunRange
from sessioncache.storage.session_hash import SCHEMA, are_numbers, from_fields, of_another_version
from sessioncache.storage.snapshot import Reading
from sessioncache.transport.request import Request

from .context import Context
from .sealing import opened
from .write import log_damaged

HEADER: Final = (b"session_id", b"schema", b"count", b"rev", b"born", b"seq", b"updated_at")
"""Fields that every read asks for, to know whether what it got is a whole session."""


def read_request(
    ctx: Context,
    session_id: str,
    wanted: RunRange = NO_RUNS,
    fields: Sequence[bytes] | None = None,
    tolerates: tuple[type[Exception], ...] = (),
) -> Request:
    """Return the request that reads some runs of a session, and fields, all for None."""
    validation.encoded_id(session_id, "session_id")
    meta, runs = session_keys(ctx.settings.prefix, session_id)
    hash_read = (b"HGETALL", meta) if fields is None else (b"HMGET", meta, *HEADER, *fields)
    return Request(meta, (hash_read, (b"ZCARD", runs), *wanted.commands(runs)), tolerates=tolerates)


def parse_reply(
    session_id: str, reply: Any, wanted: RunRange = NO_RUNS, fields: Sequence[bytes] | None = None
) -> Reading | None:
    """Return what the reply of a read holds; None if there is no session, or if it is damaged.

    Raises ReplyMismatchError for the reply about another session, SessionVersionError for another version.
    """
    row, n_members, *slices = reply
    names, values = (row[::2], row[1::2]) if fields is None else ((*HEADER, *fields), row)
    stored: dict[bytes, Any] = dict(zip(names, values, strict=True))
    stored_id, schema, *numbers = header = [stored.get(name) for name in HEADER]
    if stored_id is not None and stored_id != session_id.encode():
        raise not_about(session_id)
    if schema is not None and schema != SCHEMA:
        raise of_another_version(session_id)
    if not n_members and not any(header):
        return None
    if stored_id and schema and are_numbers(numbers):
        count, rev = int(numbers[0]), int(numbers[1])
        is_whole = n_members == count * MEMBERS_PER_RUN and int(numbers[2]) <= rev < validation.LARGEST_NUMBER
        if is_whole and wanted.fits(count, slices):
            return Reading(count, rev, numbers[2], stored, wanted.runs(session_id, slices))
    log_damaged(session_id)
    return None


def not_about(session_id: str) -> ReplyMismatchError:
    """Return the error for a reply about another session."""
    return ReplyMismatchError(f"the reply is not about session {session_id!r}", session_id=session_id)


Build = Callable[[StoredRun], tuple[Any, bool]]
"""What makes an object of a run, and says whether lookups may share it."""


class Lookup:
    """One session that is looked up: what to ask for, until it is answered."""

    def __init__(
        self, ctx: Context, session_id: str, wanted: RunRange, fields: Sequence[bytes] | None = None
    ) -> None:
        validation.encoded_id(session_id, "session_id")
        self.ctx = ctx
        self.session_id = session_id
        self.wanted = wanted
        self.is_answered = False
        self.reading: Reading | None = None
        self._fields = fields if fields is None or ctx.user_id is None else (*fields, b"user_id")

    def again(self) -> None:
        """Look the session up once more: it may be here by now."""
        self.is_answered = False

    def request(self) -> Request:
        """Return what to send next."""
        return read_request(self.ctx, self.session_id, self.wanted, self._fields)

    def take(self, reply: Any) -> None:
        """Take the reply to the request."""
        self.reading = parse_reply(self.session_id, reply, self.wanted, self._fields)
        if self.ctx.settings.encryption is not None:
            self.reading = opened(self.ctx, self.session_id, self.reading)
        self.is_answered = True

    def hide_others(self) -> None:
        """Let there be no session if it is not that of the call's user."""
        user_id, reading = self.ctx.user_id, self.reading
        if user_id is not None and reading and reading.fields.get(b"user_id") != user_id.encode():
            self.reading = None

    def objects(self, kind: str, build: Build) -> list[Any]:
        """Return what `build` makes of each run that was found, oldest first."""
        return [build(stored)[0] for stored in (self.reading.runs if self.reading else ())]

    def content(self) -> dict[str, Any]:
        """Return the fields of the session that was found, decoded."""
        fields = self.reading.fields if self.reading else {}
        return from_fields(fields, self.session_id, self.ctx.settings.adapter.names)
