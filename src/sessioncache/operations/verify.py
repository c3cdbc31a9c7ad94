"""`verify`: every session and index of a prefix, held against the layout; and repairs that lose nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sessioncache.errors import DamagedSessionError, InvalidArgumentError
from sessioncache.storage import keys
from sessioncache.storage.checks import DAMAGES, Member, Problem, VerifyReport, session_problems
from sessioncache.storage.run_members import MEMBERS_PER_RUN
from sessioncache.storage.scripts import REPAIR_INDEX, REPAIR_SESSION, Correction
from sessioncache.transport.batch import send_all
from sessioncache.transport.flow import Flow
from sessioncache.transport.request import Request
from sessioncache.transport.retry import send
from sessioncache.validation import is_id

from .context import Context, writing_script
from .index import DAMAGE, FOR_EVER, GONE, WHEREABOUTS, Entry, correct_index, keys_of, read_whereabouts
from .index_shards import EntryWalk, Found
from .rebuild import is_outdated
from .runs import delete_run
from .scanning import scan
from .sealing import opened_fields, opened_members

Progress = Callable[[int], object]

_REPAIR_SESSION: Final = writing_script(REPAIR_SESSION)
_REPAIR_INDEX: Final = writing_script(REPAIR_INDEX)

SESSIONS_AT_ONCE: Final = 25
"""Sessions that are read in one exchange: a server serves others after some milliseconds."""

MEMBERS_AT_ONCE: Final = 1500
"""Members of runs that are read in one exchange, unless one session has more."""

ENTRIES_AT_ONCE: Final = 250

TTL_SLACK: Final = 5
"""Milliseconds by which both keys of a session may seem to differ: they are asked one after the other."""


def verify(
    ctx: Context,
    *,
    repair: bool = False,
    delete_damaged: bool = False,
    progress: Progress | None = None,
) -> Flow[VerifyReport]:
    """Check every session and index; SCAN on each server, and a rest after each step."""
    if progress is not None and not callable(progress):
        raise InvalidArgumentError("progress must be a function of one number")
    verifying = _Verifying(VerifyReport(), progress, repairs=repair, deletes=delete_damaged)
    yield from scan(ctx, verifying.check, rests=True)
    return verifying.report


class _Look(NamedTuple):
    """What a session is at first sight."""

    meta: bytes
    runs: bytes
    session_id: str
    n_members: int
    ttls: tuple[int, int]


class _Verifying:
    """A verification under way."""

    def __init__(
        self, report: VerifyReport, progress: Progress | None, *, repairs: bool, deletes: bool
    ) -> None:
        self.report = report
        self._progress = progress
        self._repairs = repairs
        self._deletes = deletes
        self._seen: set[bytes] = set()

    def check(self, step: Context, found: Sequence[bytes]) -> Flow[bool]:
        """Check what some keys are."""
        prefix = step.settings.prefix
        bases = {key.removesuffix(b"meta") for key in found if keys.is_meta(prefix, key)}
        alone = {base for key in found if (base := keys.base_of(prefix, key))} - bases
        bases |= yield from _without_metadata(step, sorted(alone))
        for part in _parts(sorted(bases), SESSIONS_AT_ONCE):
            yield from self._check_sessions(step.begun_anew(), part)
        for key in found:
            if keys.is_index(prefix, key):
                yield from self._check_index(step, key)
        if self._progress is not None:
            self._progress(self.report.sessions)
        return True

    # --- sessions

    def _check_sessions(self, ctx: Context, bases: Sequence[bytes]) -> Flow[None]:
        looks = yield from self._look(ctx, bases)
        group: list[_Look] = []
        for look in looks:
            if group and sum(each.n_members for each in group) + look.n_members > MEMBERS_AT_ONCE:
                yield from self._check_whole(ctx.begun_anew(), group)
                group = []
            group.append(look)
        yield from self._check_whole(ctx.begun_anew(), group)

    def _look(self, ctx: Context, bases: Sequence[bytes]) -> Flow[list[_Look]]:
        """Return the sessions whose keys have the right types; tell of the others."""
        pairs = [(base + b"meta", base + b"runs") for base in bases]
        commands = [
            ((b"HGET", meta, b"rev"), (b"EXISTS", meta), (b"ZCARD", runs), (b"PTTL", meta), (b"PTTL", runs))
            for meta, runs in pairs
        ]
        requests = [
            Request(pair[0], unit, tolerates=DAMAGE) for pair, unit in zip(pairs, commands, strict=True)
        ]
        replies = yield from send_all(ctx, requests)
        looks = []
        for (meta, runs), reply in zip(pairs, replies, strict=True):
            session_id = keys.session_id_of(ctx.settings.prefix, meta)
            if isinstance(reply, DamagedSessionError):
                yield from self._tell(ctx, Problem("wrong-type", session_id, str(reply), key=meta.decode()))
                continue
            _, is_there, n_members, *ttls = reply
            if is_there:
                looks.append(_Look(meta, runs, session_id, n_members, (ttls[0], ttls[1])))
            elif n_members:
                problem = Problem("no-metadata", session_id, f"{n_members} members", key=runs.decode())
                yield from self._tell(ctx, problem)
        return looks

    def _check_whole(self, ctx: Context, looks: Sequence[_Look]) -> Flow[None]:
        """Read sessions whole, and check them and their entries."""
        units = [
            ((b"HGETALL", look.meta), (b"ZRANGE", look.runs, b"0", b"-1", b"WITHSCORES")) for look in looks
        ]
        requests = [
            Request(look.meta, unit, tolerates=DAMAGE) for look, unit in zip(looks, units, strict=True)
        ]
        replies = yield from send_all(ctx, requests)
        for look, reply in zip(looks, replies, strict=True):
            if not isinstance(reply, DamagedSessionError):
                yield from self._check_one(ctx, look, *reply)

    def _check_one(
        self, ctx: Context, look: _Look, row: Sequence[bytes], scored: Sequence[bytes]
    ) -> Flow[None]:
        fields = dict(zip(row[::2], row[1::2], strict=True))
        if not fields or (b"deleted" in fields and b"session_id" not in fields):
            return  # gone by now, or the mark of a deletion
        members = [(member, float(at)) for member, at in zip(scored[::2], scored[1::2], strict=True)]
        if ctx.settings.encryption is not None:
            fields = opened_fields(ctx.settings.encryption, look.session_id, fields)
            members = opened_members(ctx.settings.encryption, look.session_id, members)
        problems = [*session_problems(look.session_id, fields, members)]
        problems += _ttl_problems(look)
        self.report.sessions += 1
        self.report.runs += len(members) // MEMBERS_PER_RUN
        for problem in problems:
            yield from self._tell(ctx, problem, fields, members)
        if not any(problem.kind in ("name", "counters") for problem in problems):
            yield from self._check_entries(ctx, look, fields)

    def _check_entries(self, ctx: Context, look: _Look, fields: dict[bytes, bytes]) -> Flow[None]:
        """Check that a session is in its indexes, as of its last update."""
        try:
            where = read_whereabouts([fields.get(name) for name in WHEREABOUTS])
        except ValueError:
            return
        names = keys_of(ctx, look.session_id, where.user_id, where.workflow_id)
        member, at = look.session_id.encode(), b"%d" % where.updated_at
        asked = [Request(key, ((b"ZSCORE", key, member),), tolerates=DAMAGE) for key in names]
        ttl = None if look.ttls[0] == FOR_EVER else max(look.ttls[0], 1)
        for key, score in zip(names, (yield from send_all(ctx, asked)), strict=True):
            if score is None or (not isinstance(score, Exception) and float(score) < where.updated_at):
                kind = "unlisted" if score is None else "score"
                problem = Problem(kind, look.session_id, "", key=key.decode(), is_repairable=True)
                entry = Entry(key, member, at, ttl)
                yield from self._tell(ctx, problem, repair=send(ctx, entry.request()))

    # --- indexes

    def _check_index(self, ctx: Context, key: bytes) -> Flow[None]:
        if key in self._seen:
            return
        self._seen.add(key)
        name = key.decode()
        if is_outdated(ctx, key):
            problem = Problem("outdated-index", None, "", key=name, is_repairable=True)
            unlink = Request(key, ((b"UNLINK", key),), writes=True)
            return (yield from self._tell(ctx, problem, repair=send(ctx, unlink)))
        walk = EntryWalk(key, ENTRIES_AT_ONCE)
        try:
            while entries := (yield from walk.next_page(ctx.begun_anew())):
                self.report.index_entries += len(entries)
                yield from self._check_strays(ctx.begun_anew(), entries)
        except DamagedSessionError:
            problem = Problem("index-type", None, "", key=name, is_repairable=True)
            yield from self._tell(ctx, problem, repair=send(ctx, _REPAIR_INDEX.call((key,), ())))
        return None

    def _check_strays(self, ctx: Context, entries: Sequence[Found]) -> Flow[None]:
        """Check that the sessions of some entries are there, and belong in this index."""
        names = [entry.member.decode(errors="replace") for entry in entries]
        known = [name for name in names if is_id(name)]
        metas = [keys.session_keys(ctx.settings.prefix, name)[0] for name in known]
        asked = [
            Request(meta, ((b"HMGET", meta, *WHEREABOUTS, b"session_id"),), tolerates=DAMAGE)
            for meta in metas
        ]
        replies = dict(zip(known, (yield from send_all(ctx, asked)), strict=True))
        for name, entry in zip(names, entries, strict=True):
            reply = replies.get(name, [])
            if not isinstance(reply, Exception) and _is_stray(ctx, entry.key, name, reply):
                problem = Problem("stray", name, "", key=entry.key.decode(), is_repairable=True)
                removal = correct_index(ctx, entry.key, [Correction(entry.member, entry.listed)])
                yield from self._tell(ctx, problem, repair=removal)

    # --- repairs

    def _tell(
        self,
        ctx: Context,
        problem: Problem,
        fields: dict[bytes, bytes] | None = None,
        members: Sequence[Member] = (),
        *,
        repair: Flow[Any] | None = None,
    ) -> Flow[None]:
        """Report a problem, after its repair if it is wanted."""
        if repair is None and problem.is_repairable and fields is not None:
            repair = send(ctx, _repair_request(ctx, problem, fields, members))
        is_damage = problem.kind in DAMAGES and not problem.is_repairable
        is_repaired = False
        if self._repairs and problem.is_repairable and repair is not None:
            is_repaired = (yield from repair) != 0
        elif is_damage and self._deletes and problem.session_id:
            is_repaired = yield from _remove(ctx, problem)
        if repair is not None:
            repair.close()
        self.report.problems.append(replace(problem, is_repaired=is_repaired))


def _without_metadata(ctx: Context, bases: Sequence[bytes]) -> Flow[set[bytes]]:
    """Return which sessions have no metadata: the others are met by it."""
    metas = [base + b"meta" for base in bases]
    found = yield from send_all(ctx, [Request(meta, ((b"EXISTS", meta),)) for meta in metas])
    return {base for base, is_there in zip(bases, found, strict=True) if not is_there}


def _ttl_problems(look: _Look) -> list[Problem]:
    meta, runs = look.ttls
    if GONE in look.ttls or abs(meta - runs) <= TTL_SLACK:
        return []
    detail = f"metadata {_left(meta)}, runs {_left(runs)}"
    return [Problem("ttl", look.session_id, detail, is_repairable=True)]


def _left(ttl: int) -> str:
    return "for ever" if ttl == FOR_EVER else f"{ttl / 1000:.1f} s"


def _is_stray(ctx: Context, key: bytes, session_id: str, reply: Sequence[bytes | None]) -> bool:
    if not reply or reply[-1] is None:
        return True
    *fields, _ = reply
    try:
        where = read_whereabouts(fields)
    except ValueError:
        return False
    return key not in keys_of(ctx, session_id, where.user_id, where.workflow_id)


def _repair_request(
    ctx: Context, problem: Problem, fields: dict[bytes, bytes], members: Sequence[Member]
) -> Request:
    count = b"%d" % (len(members) // MEMBERS_PER_RUN) if problem.kind == "count" else b""
    session_keys = keys.session_keys(ctx.settings.prefix, problem.session_id or "")
    return _REPAIR_SESSION.call(session_keys, (fields.get(b"rev", b""), count))


def _remove(ctx: Context, problem: Problem) -> Flow[bool]:
    """Remove a run that does not decode, or what is left of a damaged session, whatever its keys are."""
    session_id = problem.session_id or ""
    if problem.run_id is not None:
        return (yield from delete_run(ctx, session_id, problem.run_id))
    pair = keys.session_keys(ctx.settings.prefix, session_id)
    yield from send(ctx, Request(pair[0], ((b"UNLINK", *pair),), writes=True))
    return True


def _parts(items: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    return (items[start : start + size] for start in range(0, len(items), size))
