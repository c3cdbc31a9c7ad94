"""Every key this library keeps in Redis, one function each.

A session is two keys under one cluster hash tag; ID is the session id, percent-encoded:

    {prefix}:{ID}:meta   HASH
        session_id user_id workflow_id workflow_name created_at updated_at   plain text
        session_data.<key> session_state.<key> ...                            packed, one field a key
        session_data session_state ...                                        packed {} or packed None, so
                                                                              that empty and missing differ
        system_messages.agent:<id> system_messages.team:<id>                  who has a message of the system
        rev      new with every write: the server's microseconds, and more than before
        born     rev at creation: tells a session that was made anew from the old one
        count    runs stored                   seq     runs ever added
        schema   version of this layout

    {prefix}:{ID}:runs   ZSET, three members for each run, at scores made of one number, its *order*
        order = created_at * 2**20 + n         n-th run of that second, from 1; exact in a double
        h<attempt>:<version>:<packed head>   at  order            what history needs; version: the
                                                            rev, less born, of its last write
        i<run_id>                            at  order / 2**60    ZSCORE finds a run, a range lists the ids
        b<packed [run_id, body]>             at -order            the heavy rest

Both ends of the sorted set are native slices: the newest heads are a reverse range from +inf, the newest
bodies a range from -inf. The kind byte keeps a hostile run_id from being any other member.
Indexes for listing live in slots of their own:

    {prefix}:index:all  {prefix}:index:user:<id>  {prefix}:index:workflow:<id>
        ZSET of session ids scored by updated_at

Numbers are up to 16 digits, at most 2**53; a session whose numbers are anything else, or whose members do
not fit its count, is *damaged*: it counts as absent, and is neither read nor written to. An entry of an index
stays while its session is there, be it readable or not.

Workers of several versions run beside each other. Without a new `schema`, a later version may add fields,
dicts and their keys to `meta`, entries to heads and bodies, and indexes; it keeps writing all that is
described here. What a version does not know, it keeps: fields are neither decoded nor removed, entries of
heads and bodies stay in the part they came in. If an older client would read or write something wrong, the
`schema` is a new one. A client that meets a `schema` it does not know raises SessionVersionError: it never
reads, writes, repairs or deletes the session, and leaves it in every index. A new format byte of values,
too, needs a new `schema`, or readers that were there before it is written.

A layout with another `schema` keeps the names and types of both keys, the indexes, and the fields session_id,
user_id, workflow_id, updated_at and schema: by these, older versions list its sessions, and leave them alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from .errors import InvalidArgumentError

MAX_ID_BYTES = 512
"""Longest session, user, workflow or run id, in UTF-8 bytes: keys stay small, whatever is passed."""

_SAFE = "-_.~@"

KNOWN_IDS = 4096
"""Ids that are kept encoded: workers serve the same sessions and users again and again."""


@lru_cache(maxsize=KNOWN_IDS)
def _escaped(text: str) -> str:
    """Return a text percent-encoded, so that none of it can end a hash tag."""
    return quote(text, safe=_SAFE, errors="surrogateescape")


def encoded_id(value: object, name: str) -> bytes:
    """Return an id as UTF-8 bytes, or raise InvalidArgumentError naming the argument."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} must be a str, not {type(value).__name__}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArgumentError(f"{name} is not valid Unicode (a lone surrogate)") from exc
    if not encoded:
        raise InvalidArgumentError(f"{name} must not be empty")
    if len(encoded) > MAX_ID_BYTES:
        raise InvalidArgumentError(f"{name} has {len(encoded)} bytes, more than {MAX_ID_BYTES}")
    return encoded


def session_keys(prefix: str, session_id: str) -> tuple[bytes, bytes]:
    """Return the keys of a session's metadata and of its runs: one hash tag, so one slot."""
    encoded_id(session_id, "session_id")
    tag = _escaped(session_id)
    base = f"{prefix}:{{{tag}}}:".encode()
    return base + b"meta", base + b"runs"


def pattern_of_all(prefix: str) -> bytes:
    """Return the SCAN pattern of all keys, and of some more that begin so."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", prefix).encode() + b":[{i]*"


def is_meta(prefix: str, key: bytes) -> bool:
    """Tell whether a key is the metadata of a session."""
    return key.startswith(f"{prefix}:{{".encode()) and key.endswith(b"}:meta")


def is_index(prefix: str, key: bytes) -> bool:
    """Tell whether a key is an index: ids are escaped, so no key of a longer prefix looks like one."""
    name = key.removeprefix(f"{prefix}:index:".encode())
    return name != key and _INDEX.fullmatch(name) is not None


_INDEX = re.compile(rb"all|(user|workflow):[\w.~@%-]+")


def index_of_all(prefix: str) -> bytes:
    """Return the key of the index of all sessions."""
    return f"{prefix}:index:all".encode()


def index_of_user(prefix: str, user_id: str) -> bytes:
    """Return the key of the index of one user's sessions."""
    return f"{prefix}:index:user:{_escaped(user_id)}".encode()


def index_of_workflow(prefix: str, workflow_id: str) -> bytes:
    """Return the key of the index of one workflow's sessions."""
    return f"{prefix}:index:workflow:{_escaped(workflow_id)}".encode()


def absent_key(prefix: str, key: bytes) -> bytes:
    """Return a key that nothing is ever stored at, in the slot of another key."""
    tag = key.partition(b"{")[2].partition(b"}")[0] or key
    return b"%b:{%b}:absent" % (prefix.encode(), tag)


def indexes(prefix: str, user_id: str | None, workflow_id: str | None) -> tuple[bytes, ...]:
    """Return the keys of all indexes that a session belongs in."""
    keys = [index_of_all(prefix)]
    if user_id:
        keys.append(index_of_user(prefix, user_id))
    if workflow_id is not None:
        keys.append(index_of_workflow(prefix, workflow_id))
    return tuple(keys)
