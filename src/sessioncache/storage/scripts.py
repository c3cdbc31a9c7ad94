"""The Lua scripts: their texts, the ARGV that each takes, and the replies that each gives.

All scripts that write a session take the arguments of a Precondition first (`lua/_session.lua`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from importlib.resources import files
from itertools import chain
from typing import Any, Final, NamedTuple

from sessioncache.errors import ReplyMismatchError

from .run_members import PackedRun
from .session_hash import Fields, are_numbers

_LUA: Final = files(__package__) / "lua"

Arguments = tuple[bytes, ...]


def _text_of(*names: str) -> bytes:
    return b"\n".join((_LUA / f"{name}.lua").read_bytes() for name in names)


UPSERT_SESSION: Final = _text_of("_index", "_changes", "_session", "_runs", "_upsert", "upsert_session")
LEASED_UPSERT_SESSION: Final = _text_of(
    "_index", "_changes", "_session", "_leased", "_runs", "_upsert", "upsert_session"
)
LEASED_UPSERT_RUNS: Final = _text_of(
    "_index", "_changes", "_session", "_leased", "_runs", "_upsert", "upsert_runs"
)
LEASE_SESSION: Final = _text_of("_index", "_changes", "_session", "lease_session")
IMPORT_SESSION: Final = _text_of(
    "_index", "_changes", "_session", "_runs", "_upsert", "_once", "upsert_session"
)
UPSERT_RUNS: Final = _text_of("_index", "_changes", "_session", "_runs", "_upsert", "upsert_runs")
TOUCH_SESSION: Final = _text_of("_index", "_changes", "_session", "touch_session")
DELETE_SESSION: Final = _text_of("_index", "_changes", "_session", "delete_session")
DELETE_RUN: Final = _text_of("_index", "_changes", "_session", "_runs", "delete_run")
GET_RUN: Final = _text_of("get_run")
GET_CHANGES: Final = _text_of("get_changes")
LIST_SESSION: Final = _text_of("_index", "list_session")
CORRECT_INDEX: Final = _text_of("correct_index")
REPAIR_INDEX: Final = _text_of("repair_index")
RESEAL: Final = _text_of("reseal")
REPAIR_SESSION: Final = _text_of("repair_session")
TRY_COMMANDS: Final = _text_of("try_commands")
"""Tries every command that those which write call, and stores nothing."""


NOBODY: Final = ""
"""The user of a session that has none: writing it is refused if the stored session has an owner."""


class Precondition(NamedTuple):
    """The session to write and what must be true of it; None means "any"."""

    session_id: str
    user_id: str | None = None
    workflow_id: str | None = None
    expect_rev: int | None = None
    born: bytes | None = None
    claims: bool = True
    """Whether a session without a user is this user's to write."""
    hides: bool = False
    """Whether a session that is not this user's does not exist."""

    def arguments(self, ttl: int | None, index_ttl: int | None) -> Arguments:
        """Return ARGV[1..6]; lifetimes in milliseconds, None to leave the session's as it is."""
        rule = b"=" if self.claims else b"!"
        return (
            b"" if self.user_id is None else rule + self.user_id.encode(),
            optional_number(ttl),
            optional_number(self.expect_rev),
            self.born or b"",
            self.session_id.encode(),
            optional_number(index_ttl),
        )


ANYBODY: Final = b"*"
"""Who creates a session, if deletions before it do not count."""


class Merge(NamedTuple):
    """What `upsert_session` does to the session's hash."""

    set_fields: Mapping[bytes, bytes]
    removed: Collection[bytes] = ()
    replaced_dicts: Collection[bytes] = ()
    """Dicts that are removed with all of their keys before `set_fields` are set."""
    creates: bytes = b""
    """ANYBODY, or who creates the session if it is gone and was not deleted lately by somebody else."""

    def arguments(self, max_runs: int | None, runs: Iterable[PackedRun] = ()) -> Arguments:
        """Return ARGV[7..] of `upsert_session`."""
        return (
            optional_number(max_runs),
            self.creates,
            b"%d" % len(self.set_fields),
            b"%d" % len(self.removed),
            b"%d" % len(self.replaced_dicts),
            *chain.from_iterable(self.set_fields.items()),
            *self.removed,
            *self.replaced_dicts,
            *_run_arguments(runs),
        )


def upsert_runs_arguments(max_runs: int | None, marks: Fields, runs: Iterable[PackedRun]) -> Arguments:
    """Return ARGV[7..] of `upsert_runs`."""
    return (
        optional_number(max_runs),
        b"%d" % len(marks),
        *chain.from_iterable(marks.items()),
        *_run_arguments(runs),
    )


def _run_arguments(runs: Iterable[PackedRun]) -> Iterable[bytes]:
    for run in runs:
        yield run.run_id.encode()
        yield b"%d" % run.created_at
        yield run.attempt
        yield run.unless
        yield run.head
        yield run.body


def touch_session_arguments(*, only_longer: bool) -> Arguments:
    """Return ARGV[7] of `touch_session`: whether a longer lifetime is left as it is."""
    return (b"1" if only_longer else b"",)


DELETED_FOR: Final = timedelta(days=1)
"""How long the mark of a deletion stays."""


def delete_session_arguments(deleter: bytes, *, marks: bool) -> Arguments:
    """Return ARGV[7..8] of `delete_session`: who deletes, and for how long a mark says so."""
    return (deleter, optional_number(DELETED_FOR // timedelta(milliseconds=1) if marks else None))


def list_session_arguments(session_id: bytes, updated_at: bytes, index_ttl: int | None) -> Arguments:
    """Return ARGV of `list_session`; the lifetime in milliseconds."""
    return (session_id, updated_at, optional_number(index_ttl))


class Correction(NamedTuple):
    """An entry of an index that does not fit what is stored of its session."""

    session_id: bytes
    listed: bytes
    """The time it is listed with."""
    updated_at: bytes = b""
    """The time it has; empty if the session is gone, or belongs in no such index."""


def correct_index_arguments(grace: int, corrections: Iterable[Correction]) -> Arguments:
    """Return ARGV of `correct_index`; `grace` is the least age of an entry, in seconds."""
    return (b"%d" % grace, *chain.from_iterable(corrections))


def get_run_arguments(run_id: bytes, fields: Iterable[bytes]) -> Arguments:
    """Return ARGV of `get_run`."""
    return (run_id, *fields)


MOST_CHANGED_BYTES: Final = 2**20
"""Most bytes of changed runs that a script returns: beyond it, all is better read natively."""


def get_changes_arguments(
    rev: int, born: bytes, since: int, first_order: bytes, *, has_bodies: bool
) -> Arguments:
    """Return ARGV of `get_changes`: what is held, since which revision, and what is wanted of which runs."""
    return (
        b"%d" % rev,
        born,
        b"%d" % since,
        first_order,
        b"1" if has_bodies else b"",
        b"%d" % MOST_CHANGED_BYTES,
    )


def optional_number(number: int | None) -> bytes:
    """Return a number as scripts take it, empty for None."""
    return b"" if number is None else b"%d" % number


class WriteResult(NamedTuple):
    """The session as a script wrote it: user and workflow as they are stored now."""

    rev: int
    rev_before: int
    born: bytes
    updated_at: int
    user_id: str | None
    workflow_id: str | None


class TouchResult(NamedTuple):
    """The reply of `touch_session`."""

    session: WriteResult
    is_index_due: bool
    """Whether a new half of the ttl began, so that indexes elsewhere have to be touched, too."""


class DeleteRunResult(NamedTuple):
    """The reply of `delete_run`."""

    session: WriteResult
    was_stored: bool


class Refusal(NamedTuple):
    """The reply of a script that wrote nothing."""

    status: str
    detail: str | None
    """The run, or the revision, that it is about."""


def read_write_reply(reply: Any, session_id: str) -> WriteResult | Refusal:
    """Return the reply of a script that says no more than what it wrote."""
    match reply:
        case [b"ok", stored_id, rev, before, born, updated_at, user_id, workflow_id] if (
            stored_id == session_id.encode() and are_numbers((rev, before, born, updated_at))
        ):
            numbers = int(rev), int(before), born, int(updated_at)
            return WriteResult(*numbers, _text(user_id), _text(workflow_id))
        case [bytes(status), stored_id, *details] if status != b"ok" and stored_id == session_id.encode():
            detail = _text(details[0]) if details else None
            return Refusal(status.decode(errors="replace"), detail)
    raise mismatch(session_id)


def read_touch_reply(reply: Any, session_id: str) -> TouchResult | Refusal:
    """Return the reply of `touch_session`."""
    session, flag = _with_flag(reply, session_id)
    return session if isinstance(session, Refusal) else TouchResult(session, flag)


def read_delete_run_reply(reply: Any, session_id: str) -> DeleteRunResult | Refusal:
    """Return the reply of `delete_run`."""
    session, flag = _with_flag(reply, session_id)
    return session if isinstance(session, Refusal) else DeleteRunResult(session, flag)


class LeaseResult(NamedTuple):
    """The reply of `lease_session`: the number of the lease, or for how many ms somebody else has it."""

    number: int | None
    held_for: int = 0


def read_lease_reply(reply: Any, session_id: str) -> LeaseResult | Refusal:
    """Return the reply of `lease_session`."""
    match reply:
        case [b"leased", stored_id, number] if stored_id == session_id.encode() and are_numbers((number,)):
            return LeaseResult(int(number))
        case [b"held", stored_id, left] if stored_id == session_id.encode() and are_numbers((left,)):
            return LeaseResult(None, int(left))
    found = read_write_reply(reply, session_id)
    if isinstance(found, Refusal):
        return found
    raise mismatch(session_id)


def _with_flag(reply: Any, session_id: str) -> tuple[WriteResult | Refusal, bool]:
    """Return a reply with a flag behind what it wrote."""
    match reply:
        case [b"ok", *written, b"0" | b"1" as flag]:
            return read_write_reply([b"ok", *written], session_id), flag == b"1"
        case [b"ok", *_]:
            raise mismatch(session_id)
    return read_write_reply(reply, session_id), False


def mismatch(session_id: str) -> ReplyMismatchError:
    """Return the error for a reply that no script of ours gives."""
    message = "the reply of a script does not fit the request"
    return ReplyMismatchError(message, session_id=session_id)


def _text(value: bytes | None) -> str | None:
    """Return a stored id as text; bytes that are no text, which something else wrote, stay what they are."""
    return None if value is None else value.decode(errors="surrogateescape")
