"""Every call on a session of which one field is damaged, and what it may return, raise and write.

Its own errors only; the server goes on; nothing is written to a session that counts as absent. `meaning` says
what each damage is.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import pytest

from damage.calls import CALLS, DECODING, LISTINGS, OF_OWNERS, RUNS, Stored, runs_of
from sessioncache import (
    DamagedSessionError,
    ReplyMismatchError,
    SessionCache,
    SessionOwnershipError,
    SessionVersionError,
)
from sessioncache.validation import MAX_ID_BYTES
from support.samples import a_session

if TYPE_CHECKING:
    from collections.abc import Collection

    from damage.findings import Findings


def test_every_public_call_is_in_the_table() -> None:
    public = {name for name, _ in inspect.getmembers(SessionCache, callable) if not name.startswith("_")}

    assert {call.partition(",")[0] for call in CALLS} == public - {"aclose", "close", "from_url", "ping"}


VALUES: Final[dict[str, bytes | None]] = {
    "missing": None,
    "empty": b"",
    "nan": b"nan",
    "inf": b"inf",
    "hexadecimal": b"0x10",
    "exponent": b"1e3",
    "negative": b"-1",
    "17 digits": b"1" * 17,
    "2**53": b"%d" % 2**53,
    "over 2**53": b"%d" % (2**53 + 1),
    "no UTF-8": b"\xff\xfe",
    "text": b"x",
    "huge": b"9" * 5000,
    "another format": b"\x02\x00",
    "cut short": b"\x01\xdc\xff\xff",
}

COUNTERS: Final = {"rev", "born", "count", "seq", "updated_at"}
OWNERS: Final = {"user_id", "workflow_id"}
TEXTS: Final = {*OWNERS, "workflow_name", "created_at"}
PACKED: Final = {"session_data", "metadata.m"}  # the marker of a section, and one key of another
FIELDS: Final = sorted({*COUNTERS, *TEXTS, *PACKED, "session_id", "schema"})

WHOLE: Final = "another value, and a good one"
ABSENT: Final = "damaged: counts as absent"
FOREIGN: Final = "damaged, or the answer to another question"
VERSION: Final = "another version's: neither read nor written"
UNREADABLE: Final = "calls that read the field fail"
UNSURE: Final = "whole, or unreadable"
ANY: Final = "no promise but that errors are ours"

LEFT_ALONE: Final = {ABSENT, FOREIGN, VERSION}


def meaning(name: str, value: bytes | None) -> str:
    """Return what a session is if one of its fields has this value, None for missing."""
    if name in COUNTERS:
        return ANY if _is_number(value) and name in {"seq", "updated_at"} else ABSENT
    if value is None:
        return ABSENT if name in {"session_id", "schema"} else WHOLE
    return _meaning_of_a_text(name, value) if name in TEXTS else MEANINGS.get(name, UNREADABLE)


MEANINGS: Final = {"session_id": FOREIGN, "schema": VERSION}
"""Of all values but the right one."""


def _meaning_of_a_text(name: str, value: bytes) -> str:
    if name == "created_at":
        return UNSURE if value.removeprefix(b"-").isdigit() else UNREADABLE
    try:
        value.decode()
    except UnicodeDecodeError:
        return UNREADABLE
    return UNREADABLE if name in OWNERS and not 0 < len(value) <= MAX_ID_BYTES else WHOLE


def _is_number(value: bytes | None) -> bool:
    return value is not None and value.isdigit() and len(value) <= 16 and int(value) <= 2**53


def allowed(call: str, name: str, value: bytes | None) -> Collection[Any]:
    """Return the values and classes of errors that may come of a call if a field has this value."""
    meant, (_, whole, absent) = meaning(name, value), CALLS[call]
    if name == "user_id" and value is not None and call in OF_OWNERS:
        return [SessionOwnershipError]
    if call in LISTINGS and meant not in {WHOLE, ANY}:
        return [absent, whole, *([ReplyMismatchError] if meant == FOREIGN else ())]
    decoded = DamagedSessionError if call in DECODING else whole
    return {
        WHOLE: [whole],
        ABSENT: [absent],
        FOREIGN: [absent, ReplyMismatchError],
        VERSION: [SessionVersionError],
        UNREADABLE: [decoded],
        UNSURE: [decoded, whole],
        ANY: [object],
    }[meant]


@pytest.mark.parametrize("name", FIELDS)
def test_a_damaged_field(stored: Stored, findings: Findings, name: str) -> None:
    for kind, value in VALUES.items():
        meant = meaning(name, value)
        stored.damage(name, value)
        findings.ask_all(
            f"{kind} ({meant})",
            lambda call, value=value: allowed(call, name, value),  # type: ignore[misc]
            leaves_alone=meant in LEFT_ALONE,
        )

    findings.check()


def test_a_damaged_session_is_made_anew(stored: Stored) -> None:
    for name in FIELDS:
        for value in VALUES.values():
            if meaning(name, value) == ABSENT:
                stored.damage(name, value)
                stored.cache.upsert_session(a_session("s", 1))

                assert runs_of(stored.cache.get_session("s")) == RUNS[:1]
