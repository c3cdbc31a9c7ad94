"""Every key this library keeps in Redis, one function each; the layout is in the package's docstring."""

from __future__ import annotations

import re
from binascii import crc_hqx
from functools import lru_cache
from itertools import count
from typing import Final
from urllib.parse import quote, unquote

_SAFE = "-_.~@"

KNOWN_IDS = 4096
"""Ids that are kept encoded: workers serve the same sessions and users again and again."""


@lru_cache(maxsize=KNOWN_IDS)
def _escaped(text: str) -> str:
    """Return a text percent-encoded, so that none of it can end a hash tag."""
    return quote(text, safe=_SAFE, errors="surrogateescape")


@lru_cache(maxsize=KNOWN_IDS)
def session_keys(prefix: str, session_id: str) -> tuple[bytes, bytes]:
    """Return the keys of a session's metadata and of its runs: one hash tag, so one slot.

    The tag is the id, unless the prefix has one, which then is that of all keys. The id has been checked by
    the caller.
    """
    base = f"{prefix}:{{{_escaped(session_id)}}}:".encode()
    return base + b"meta", base + b"runs"


def import_mark(prefix: str, session_id: str) -> bytes:
    """Return the key that says that a session was imported: in the slot of its keys, and outlives them."""
    return session_keys(prefix, session_id)[0].removesuffix(b"meta") + b"imported"


def import_marker(prefix: str) -> bytes:
    """Return the key that says that all sessions were imported."""
    return f"{prefix}:index:imported".encode()


def pattern_of_all(prefix: str) -> bytes:
    """Return the SCAN pattern of all keys, and of some more that begin so."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", prefix).encode() + b":[{i]*"


def is_meta(prefix: str, key: bytes) -> bool:
    """Return whether a key is the metadata of a session: ids are escaped, so theirs holds no more braces."""
    rest = key.removeprefix(f"{prefix}:".encode())
    return rest != key and _META.fullmatch(rest) is not None


def is_index(prefix: str, key: bytes) -> bool:
    """Return whether a key is an index: ids are escaped, so no key of a longer prefix looks like one."""
    name = key.removeprefix(f"{prefix}:index:".encode())
    return name != key and _INDEX.fullmatch(name) is not None


def base_of(prefix: str, key: bytes) -> bytes | None:
    """Return what both keys of a session begin with; None for a key that is neither."""
    base, _, part = key.rpartition(b":")
    return base + b":" if part in (b"meta", b"runs") and is_meta(prefix, base + b":meta") else None


def session_id_of(prefix: str, meta: bytes) -> str:
    """Return the id of a session by the key of its metadata."""
    escaped = meta.removeprefix(f"{prefix}:{{".encode()).removesuffix(b"}:meta")
    return unquote(escaped.decode(), errors="surrogateescape")


_META = re.compile(rb"\{[^{}]+\}:meta")
_INDEX = re.compile(rb"(all|workflow:[\w.~@%-]+)(:\{\d+\})?|user:[\w.~@%-]+")


def index_of_all(prefix: str) -> bytes:
    """Return the key of the index of all sessions."""
    return f"{prefix}:index:all".encode()


def index_of_user(prefix: str, user_id: str) -> bytes:
    """Return the key of the index of one user's sessions."""
    return f"{prefix}:index:user:{_escaped(user_id)}".encode()


def index_of_workflow(prefix: str, workflow_id: str) -> bytes:
    """Return the key of the index of one workflow's sessions."""
    return f"{prefix}:index:workflow:{_escaped(workflow_id)}".encode()


def indexes(prefix: str, user_id: str | None, workflow_id: str | None) -> tuple[bytes, ...]:
    """Return the keys of all indexes that a session belongs in."""
    keys = [index_of_all(prefix)]
    if user_id:
        keys.append(index_of_user(prefix, user_id))
    if workflow_id is not None:
        keys.append(index_of_workflow(prefix, workflow_id))
    return tuple(keys)


SHARDS: Final = 64
"""How many parts an index of many users has in a cluster, where one would be too busy."""

SLOTS: Final = 16_384
_SLOTS_OF_A_SHARD: Final = SLOTS // SHARDS


def slot_of(key: bytes) -> int:
    """Return the slot of a key in a cluster."""
    tag = _TAG.search(key)
    return crc_hqx(tag[1] if tag else key, 0) % SLOTS


_TAG = re.compile(rb"\{([^{}]+)\}")


@lru_cache(maxsize=1)
def _shard_names() -> tuple[bytes, ...]:
    """Return the names of the shards: the n-th one is in the n-th part of all slots, as its sessions are."""
    names: dict[int, bytes] = {}
    for number in count():
        name = b":{%d}" % number
        names.setdefault(slot_of(name) // _SLOTS_OF_A_SHARD, name)
        if len(names) == SHARDS:
            return tuple(names[shard] for shard in range(SHARDS))
    raise AssertionError  # pragma: no cover - count() never ends


def is_split(prefix: str, index: bytes) -> bool:
    """Return whether an index has shards in a cluster: that of one user is short, and whole."""
    return not index.startswith(f"{prefix}:index:user:".encode())


def shards_of(index: bytes) -> tuple[bytes, ...]:
    """Return the keys of all shards of an index."""
    return tuple(index + name for name in _shard_names())


def shard_of(prefix: str, index: bytes, session_id: str) -> bytes:
    """Return the key of the shard that lists a session: mostly on the same node as the session."""
    meta, _ = session_keys(prefix, session_id)
    return index + _shard_names()[slot_of(meta) // _SLOTS_OF_A_SHARD]
