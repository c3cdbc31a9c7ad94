"""The entries of indexes: the one place that adds, removes and repairs them.

An entry is a hint, and what is stored of its session is the truth: `index_reader` compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sessioncache.errors import DamagedSessionError, UnavailableError
from sessioncache.storage import keys
from sessioncache.storage.scripts import (
    CORRECT_INDEX,
    LIST_SESSION,
    Correction,
    correct_index_arguments,
    list_session_arguments,
)
from sessioncache.storage.session_hash import stored_time
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import find_server, send
from sessioncache.transport.together import together

from .context import Context, writing_script

log = logging.getLogger("sessioncache")

_LIST_SESSION: Final = writing_script(LIST_SESSION)
_CORRECT_INDEX: Final = writing_script(CORRECT_INDEX)

FOR_EVER: Final = -1
GONE: Final = -2
"""Redis' replies for the time left of a key without a TTL, and of one that does not exist."""

DAMAGE: Final = (DamagedSessionError,)
"""What a request about one of many sessions tolerates: a key of another type."""


def checked(reply: Any) -> Any:
    """Return the reply of a request that tolerates DAMAGE, or raise the error that it is."""
    if isinstance(reply, DamagedSessionError):
        raise reply
    return reply


class Entry(NamedTuple):
    """An entry to be made: of an index, a session, and the time it is listed with."""

    key: bytes
    session_id: bytes
    updated_at: bytes
    ttl: int | None
    """For how many milliseconds the index has to live at least, None for ever."""

    def request(self) -> Request:
        """Return what makes it."""
        arguments = list_session_arguments(self.session_id, self.updated_at, self.ttl)
        return _LIST_SESSION.call((self.key,), arguments)._replace(tolerates=DAMAGE)


def keys_of(ctx: Context, session_id: str, user_id: str | None, workflow_id: str | None) -> tuple[bytes, ...]:
    """Return the keys that a session is listed under: its shards of those indexes that have some."""
    prefix = ctx.settings.prefix
    indexes = keys.indexes(prefix, user_id, workflow_id)
    if ctx.is_in_one_place:
        return indexes
    return tuple(
        keys.shard_of(prefix, index, session_id) if keys.is_split(prefix, index) else index
        for index in indexes
    )


def shards(ctx: Context, index: bytes) -> tuple[bytes, ...]:
    """Return the keys of an index: all its shards, if it has some."""
    is_split = not ctx.is_in_one_place and keys.is_split(ctx.settings.prefix, index)
    return keys.shards_of(index) if is_split else (index,)


def make_entries(ctx: Context, entries: Iterable[Entry]) -> Flow[list[bool]]:
    """Make entries, all at once; return which of them are made."""
    if not ctx.is_in_one_place:
        ctx = ctx.limited(INDEX_SHARE)
    return (yield from together([make_entry(ctx, entry) for entry in entries]))


def make_entry(ctx: Context, entry: Entry) -> Flow[bool]:
    """List a session that was written; an index that fails is logged and is no error, being only a hint.

    In a cluster, a server that failed lately is left alone: what it misses is listed by a later write.
    """
    silences = ctx.topology.silences
    server = None if ctx.is_in_one_place else (yield from find_server(ctx, entry.key))
    if server and silences.keeps(server):
        return False
    try:
        checked((yield from send(ctx, entry.request())))
    except (UnavailableError, DamagedSessionError) as exc:
        log.warning("session %r is not listed in every index: %s", entry.session_id.decode(), exc)
        if server and isinstance(exc, UnavailableError):
            silences.begin(server)
        return False
    silences.end(server)
    return True


INDEX_SHARE: Final = 0.1
"""The share of a call's time that it waits, in a cluster, for indexes: its session is stored without them."""

GRACE_SECONDS: Final = 30
"""How old an entry is at least, in a cluster, before it is corrected.

It can be ahead of its session's write, with which it is sent at the same time.
"""


def correct_index(ctx: Context, index: bytes, corrections: Iterable[Correction]) -> Flow[None]:
    """Remove entries from an index, or lower them, unless they were listed again since."""
    grace = 0 if ctx.is_in_one_place else GRACE_SECONDS
    yield from send(ctx, _CORRECT_INDEX.call((index,), correct_index_arguments(grace, corrections)))


class Whereabouts(NamedTuple):
    """Where a session is listed, and as of when."""

    user_id: str | None
    workflow_id: str | None
    updated_at: int


WHEREABOUTS: Final = (b"user_id", b"workflow_id", b"updated_at")


def read_whereabouts(fields: Sequence[bytes | None]) -> Whereabouts:
    """Return what the WHEREABOUTS fields say; raise ValueError if one does not decode."""
    user_id, workflow_id, updated_at = fields
    updated = stored_time(updated_at or b"")
    return Whereabouts(optional_text(user_id), optional_text(workflow_id), updated)


def optional_text(stored: bytes | None) -> str | None:
    """Return a text field, if it is stored; raise ValueError if it does not decode."""
    return None if stored is None else stored.decode()
