"""Where values are sealed and opened: at the border to Redis, so that all else works on what was sealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sessioncache.storage import codec
from sessioncache.storage.run_members import PackedRun, StoredRun
from sessioncache.storage.scripts import Merge
from sessioncache.storage.sealing import Keyring
from sessioncache.storage.session_hash import CONTROL_FIELDS
from sessioncache.storage.snapshot import Reading

from .context import Context

PLAIN_FIELDS: Final = CONTROL_FIELDS | {
    b"session_id",
    b"user_id",
    b"workflow_id",
    b"created_at",
    b"updated_at",
}
"""Fields that scripts and listings read."""

MARKS: Final = b"system_messages."
"""Which agents and teams have a message of the system: ids, and nothing that a user wrote."""


def sealed_change(ctx: Context, session_id: str, change: Merge) -> Merge:
    """Return a change of fields as it is stored."""
    if ctx.settings.keeps_plain:
        return change
    fields = {name: _sealed_field(ctx, session_id, name, value) for name, value in change.set_fields.items()}
    return change._replace(set_fields=fields)


def sealed_runs(ctx: Context, session_id: str, runs: Iterable[PackedRun]) -> list[PackedRun]:
    """Return runs as they are stored."""
    if ctx.settings.keeps_plain:
        return list(runs)
    return [
        run._replace(
            head=_stored(ctx, run.head, session_id, b"head"),
            body=run.body[:1] + _stored(ctx, run.body[1:], session_id, b"body"),
        )
        for run in runs
    ]


def _sealed_field(ctx: Context, session_id: str, name: bytes, value: bytes) -> bytes:
    return value if is_plain(name, value) else _stored(ctx, value, session_id, b"field:" + name)


def is_plain(name: bytes, value: bytes) -> bool:
    """Return whether a field is not sealed: it says what a session is, not what is in it."""
    return value == codec.EMPTY_DICT or name in PLAIN_FIELDS or name.startswith(MARKS)


def _stored(ctx: Context, value: bytes, session_id: str, place: bytes) -> bytes:
    if ctx.settings.compresses and place != b"field:workflow_name":
        value = codec.compressed(value)
    keyring: Keyring | None = ctx.settings.encryption
    return value if keyring is None else keyring.seal(value, session_id, place)


def opened(ctx: Context, session_id: str, reading: Reading | None) -> Reading | None:
    """Return what was read, opened; a part that does not open is one that does not decode.

    Raises EncryptionError if the keyring lacks a key.
    """
    keyring: Keyring | None = ctx.settings.encryption
    if keyring is None or reading is None:
        return reading
    fields = opened_fields(keyring, session_id, reading.fields)
    runs = [opened_run(keyring, session_id, run) for run in reading.runs]
    return Reading(reading.n_runs, reading.rev, reading.born, fields, runs)


def opened_fields(keyring: Keyring, session_id: str, fields: Mapping[bytes, Any]) -> dict[bytes, Any]:
    """Return fields opened."""
    found, open_value = dict(fields), keyring.open
    for name, value in fields.items():
        if name not in PLAIN_FIELDS and value is not None and not is_plain(name, value):
            found[name] = open_value(value, session_id, b"field:" + name)
    return found


def opened_run(keyring: Keyring, session_id: str, run: StoredRun) -> StoredRun:
    """Return a run opened."""
    head = _opened_head(keyring, session_id, run.head)
    return StoredRun(head, run.body and _opened_body(keyring, session_id, run.body), run.order, session_id)


def _opened_head(keyring: Keyring, session_id: str, member: bytes) -> bytes:
    start = head_start(member)
    return member[:start] + keyring.open(member[start:], session_id, b"head")


def _opened_body(keyring: Keyring, session_id: str, member: bytes) -> bytes:
    return member[:1] + keyring.open(member[1:], session_id, b"body")


def head_start(member: bytes) -> int:
    """Return where the sealed part of a head starts: behind its attempt and its version."""
    return member.find(b":", member.find(b":") + 1) + 1


def opened_members(
    keyring: Keyring, session_id: str, members: Iterable[tuple[bytes, float]]
) -> list[tuple[bytes, float]]:
    """Return the members of a sorted set of runs, opened."""
    return [(_opened_member(keyring, session_id, member, score), score) for member, score in members]


def _opened_member(keyring: Keyring, session_id: str, member: bytes, score: float) -> bytes:
    if score >= 1:
        return _opened_head(keyring, session_id, member)
    return _opened_body(keyring, session_id, member) if score <= -1 else member
