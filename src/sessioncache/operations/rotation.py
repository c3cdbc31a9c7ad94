"""`rotate_keys`: every value sealed anew under the first key of the keyring, while writers go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sessioncache.errors import InvalidArgumentError
from sessioncache.storage import keys
from sessioncache.storage.scripts import RESEAL
from sessioncache.storage.sealing import BROKEN, Keyring
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send

from .context import Context, writing_script
from .index import DAMAGE
from .scanning import scan
from .sealing import head_start, is_plain

Progress = Callable[[int], object]
Change = tuple[bytes, bytes, bytes]
"""A field, or the score of a member of runs; what it is, and what it is to be."""

_RESEAL: Final = writing_script(RESEAL)

SESSIONS_AT_ONCE: Final = 20
MEMBERS_AT_ONCE: Final = 300
"""Members of runs that are read, and replaced, in one exchange: a server serves others after milliseconds."""


def rotate_keys(ctx: Context, progress: Progress | None = None) -> Flow[int]:
    """Seal all values anew that are sealed with another key than the first; return in how many sessions.

    Each value is replaced only if it is still what was read: what is written meanwhile stays. To begin again
    is to go on. With `accept_plain`, what is not sealed is sealed, too.
    """
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    if ctx.settings.encryption is None:
        raise InvalidArgumentError("encryption: there is no Keyring to seal with")
    rotating = _Rotating(ctx.settings.encryption, progress)
    yield from scan(ctx, rotating.rotate, rests=True)
    return rotating.done


class _Rotating:
    """A rotation under way."""

    def __init__(self, keyring: Keyring, progress: Progress | None) -> None:
        self.done = 0
        self._seen = 0
        self._keyring = keyring
        self._progress = progress

    def rotate(self, step: Context, found: Sequence[bytes]) -> Flow[bool]:
        """Seal the sessions among some keys anew."""
        metas = [key for key in found if keys.is_meta(step.settings.prefix, key)]
        for start in range(0, len(metas), SESSIONS_AT_ONCE):
            part = metas[start : start + SESSIONS_AT_ONCE]
            requests = [Request(meta, ((b"HGETALL", meta),), tolerates=DAMAGE) for meta in part]
            for meta, row in zip(part, (yield from send_all(step.begun_anew(), requests)), strict=True):
                if isinstance(row, list):
                    changed = yield from self._rotate_one(step, meta, row)
                    self.done += changed
        self._seen += len(metas)
        if self._progress is not None:
            self._progress(self._seen)
        return True

    def _rotate_one(self, ctx: Context, meta: bytes, row: Sequence[bytes]) -> Flow[bool]:
        """Seal one session anew, its runs in parts; return whether anything was to be done."""
        session_id = keys.session_id_of(ctx.settings.prefix, meta)
        runs = meta.removesuffix(b"meta") + b"runs"
        fields = [*self._fields(session_id, zip(row[::2], row[1::2], strict=True))]
        done = yield from self._replace(ctx, (meta, runs), fields, ())
        for low, high in ((b"1", b"+inf"), (b"-inf", b"-1")):
            offset = 0
            while True:
                window = (b"LIMIT", b"%d" % offset, b"%d" % MEMBERS_AT_ONCE, b"WITHSCORES")
                command = (b"ZRANGE", runs, low, high, b"BYSCORE", *window)
                (scored,) = yield from send_all(
                    ctx.begun_anew(), [Request(runs, (command,), tolerates=DAMAGE)]
                )
                if not isinstance(scored, list) or not scored:
                    break
                members = [*self._members(session_id, zip(scored[::2], scored[1::2], strict=True))]
                done += yield from self._replace(ctx, (meta, runs), (), members)
                offset += MEMBERS_AT_ONCE
        return done > 0

    def _replace(
        self, ctx: Context, pair: Sequence[bytes], fields: Sequence[Change], members: Sequence[Change]
    ) -> Flow[int]:
        if not fields and not members:
            return 0
        arguments = [b"%d" % len(fields), *(word for each in (*fields, *members) for word in each)]
        done: int = yield from send(ctx.begun_anew(), _RESEAL.call(pair, arguments))
        return done

    def _fields(self, session_id: str, fields: Any) -> Iterator[Change]:
        for name, value in fields:
            if not is_plain(name, value):
                anew = self._anew(value, session_id, b"field:" + name)
                if anew is not None:
                    yield name, value, anew

    def _members(self, session_id: str, scored: Any) -> Iterator[Change]:
        for member, score in scored:
            is_head = float(score) > 0
            start = head_start(member) if is_head else 1
            anew = self._anew(member[start:], session_id, b"head" if is_head else b"body")
            if anew is not None:
                yield score, member, member[:start] + anew

    def _anew(self, value: bytes, session_id: str, place: bytes) -> bytes | None:
        """Return a value sealed anew; None if it is sealed so, or does not open."""
        if self._keyring.is_current(value):
            return None
        opened = self._keyring.open(value, session_id, place)
        return None if opened == BROKEN else self._keyring.seal(opened, session_id, place)
