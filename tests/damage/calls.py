"""Every public call on session `s`, and what it returns of one that is whole, and of one that is absent."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sessioncache import SessionNotFoundError
from sessioncache.storage import keys
from support.samples import a_message, a_run, a_run_of, a_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

    from support.subjects import Caches

TIMEOUT = 2.0
"""Seconds of one call: only one that hangs takes so long."""

RUNS = [("r0", "out r0"), ("r1", "out r1"), ("r2", "out r2")]

Move = tuple[bytes, bytes, float]
"""A member, and what takes its place (nothing, if empty) at which score; b"" for one that is added."""


class Stored:
    """Session `s`, which is damaged and made whole again, and session `other`, which stays whole."""

    def __init__(self, caches: Caches, admin: redis.Redis) -> None:
        self.cache = caches.make(timeout=TIMEOUT)
        self.touching = caches.make(timeout=TIMEOUT, touch_on_read=True)
        self._admin, self._index = admin, keys.index_of_all(caches.prefix)
        self._meta, self._runs = keys.session_keys(caches.prefix, "s")
        for session_id in ("s", "other"):
            self.cache.upsert_session(_session(session_id))
        self._loaded = self.cache.get_session("s")
        self.cache.update_session_state("s", {"changed": "since"})
        self._fields, self._members, *_ = self.bytes()

    def loaded(self) -> Any:
        """Return the session as it was loaded, before its last change."""
        return copy.deepcopy(self._loaded)

    def bytes(self) -> list[Any]:
        """Return both keys, and how long each lives."""
        with self._admin.pipeline() as pipeline:
            pipeline.hgetall(self._meta).zrange(self._runs, 0, -1, withscores=True)
            return pipeline.pttl(self._meta).pttl(self._runs).execute()

    def is_as_it_was(self, before: list[Any]) -> bool:
        """Tell whether nothing was written since, lifetimes included."""
        *was, meta_had, runs_had = before
        *now, meta_left, runs_left = self.bytes()
        return now == was and meta_left <= meta_had and runs_left <= runs_had

    def damage(
        self, name: str = "", value: bytes | None = None, moves: Iterable[Move] = (), evicted: str = ""
    ) -> None:
        """Store the session with one field changed (None removes it), members replaced, or a key gone."""
        self._evicted = evicted
        self._damaged_fields = {
            kept: packed for kept, packed in self._fields.items() if kept != name.encode()
        }
        if value is not None:
            self._damaged_fields[name.encode()] = value
        self._damaged_members = dict(self._members)
        for old, new, score in moves:
            self._damaged_members.pop(old, None)
            self._damaged_members |= {new: score} if new or not old else {}
        self.store()

    def store(self) -> None:
        """Store the session, damaged as it is, and list it: whatever was made of it meanwhile."""
        with self._admin.pipeline() as pipeline:
            pipeline.delete(self._meta, self._runs)
            pipeline.hset(self._meta, mapping=self._damaged_fields).zadd(self._runs, self._damaged_members)
            pipeline.pexpire(self._meta, 1_000_000).pexpire(self._runs, 1_000_000)
            pipeline.zadd(self._index, {"s": 1, "other": 1})
            if self._evicted:
                pipeline.delete(self._meta if self._evicted == "meta" else self._runs)
            pipeline.execute()

    def has_all_members(self) -> bool:
        """Tell whether there are a head, an id and a body for each run, by their number."""
        scores = self._damaged_members.values()
        heads, bodies = sum(score >= 1 for score in scores), sum(score <= -1 for score in scores)
        return (len(scores), heads, bodies) == (3 * len(RUNS), len(RUNS), len(RUNS))

    def newest(self, kind: str) -> tuple[bytes, float]:
        """Return the newest run's member of a kind, h, i or b, and its score."""
        found: list[tuple[bytes, float]] = [pair for pair in self._members if pair[0][:1] == kind.encode()]
        return max(found, key=lambda pair: abs(pair[1]))


def _session(session_id: str) -> Any:
    runs = [a_run("r0", 1), a_run("r1", 2), a_run_of("r2", a_message("m"), at=3)]
    return a_session(
        session_id,
        runs,
        user_id="u",
        workflow_id="w",
        workflow_name="name",
        session_data={"list": [1]},
        metadata={"m": 1},
    )


# the calls


class Call(NamedTuple):
    """A public call, and what it returns or raises of a session that is whole, and of one that is absent."""

    ask: Callable[[Stored], Any]
    whole: Any
    absent: Any = SessionNotFoundError


def _contents(runs: Iterable[Any]) -> list[Any]:
    return [(run.run_id, run.content) for run in runs]


def runs_of(session: Any) -> Any:
    return None if session is None else _contents(session.runs)


def _content(run: Any) -> Any:
    return None if run is None else run.content


OUTPUTS = [output for _, output in RUNS]

SESSION_READS: Final = {
    "get_session": Call(lambda s: runs_of(s.cache.get_session("s")), RUNS, None),
    "get_session, newest": Call(lambda s: runs_of(s.cache.get_session("s", last_n_runs=1)), RUNS[-1:], None),
    "get_session, no run": Call(lambda s: runs_of(s.cache.get_session("s", last_n_runs=0)), [], None),
    "get_session, touching": Call(lambda s: runs_of(s.touching.get_session("s")), RUNS, None),
    "get_sessions": Call(
        lambda s: [*map(runs_of, s.cache.get_sessions(["s", "other"]))], [RUNS, RUNS], [None, RUNS]
    ),
}
RUN_READS: Final = {
    "get_run": Call(lambda s: _content(s.cache.get_run("s", "r2")), "out r2", None),
    "get_run, touching": Call(lambda s: _content(s.touching.get_run("s", "r0")), "out r0", None),
    "get_runs": Call(lambda s: _contents(s.cache.get_runs("s")), RUNS),
    "get_runs, by status": Call(lambda s: _contents(s.cache.get_runs("s", statuses=["COMPLETED"])), RUNS),
    "iter_runs": Call(lambda s: _contents(s.cache.iter_runs("s", page_size=2)), RUNS),
    "get_chat_history": Call(lambda s: [chat.output for chat in s.cache.get_chat_history("s")], OUTPUTS),
    "get_workflow_history": Call(lambda s: [out for _, out in s.cache.get_workflow_history("s")], OUTPUTS),
    "get_workflow_history_context": Call(
        lambda s: s.cache.get_workflow_history_context("s").count("out r"), 3
    ),
    "get_messages": Call(lambda s: [message.id for message in s.cache.get_messages("s", "A")], ["m"]),
}
LISTINGS: Final = {
    "list_sessions": Call(
        lambda s: sorted(one.session_id for one in s.cache.list_sessions().sessions),
        ["other", "s"],
        ["other"],
    ),
    "rebuild_indexes": Call(lambda s: s.cache.rebuild_indexes(), 2, 1),
}
WRITES: Final = {
    "upsert_session, loaded": Call(lambda s: s.cache.upsert_session(s.loaded()), None),
    "upsert_session, new": Call(lambda s: s.cache.upsert_session(a_session("s", 1, user_id="u")), None, None),
    "rename_session": Call(lambda s: s.cache.rename_session("s", "new"), True, False),
    "touch_session": Call(lambda s: s.cache.touch_session("s"), True, False),
    "update_session": Call(
        lambda s: runs_of(s.cache.update_session("s", lambda one: one.metadata.update(m=2))), RUNS
    ),
    "update_session_state": Call(lambda s: s.cache.update_session_state("s", {"k": 1}, remove=["x"]), None),
    "refresh": Call(lambda s: s.cache.refresh(s.loaded()), True),
    "upsert_run, stored": Call(lambda s: s.cache.upsert_run("s", a_run("r0", content="changed")), None),
    "upsert_run, new": Call(lambda s: s.cache.upsert_run("s", a_run("r9")), None),
    "upsert_runs": Call(lambda s: s.cache.upsert_runs("s", [a_run("r1"), a_run("r9", 9)]), None),
    "delete_run": Call(lambda s: s.cache.delete_run("s", "r1"), True, False),
    "delete_session": Call(lambda s: s.cache.delete_session("s"), True, False),
    "delete_session, another's": Call(lambda s: s.cache.delete_session("s", user_id="v"), False, False),
}
READS: Final = SESSION_READS | RUN_READS
CALLS: Final = READS | LISTINGS | WRITES

DECODING: Final = {*SESSION_READS, "update_session", "refresh"}
"""Calls that read every field."""

REPLACING: Final = {"upsert_session, new", "delete_session"}
"""Calls that remove what is left of a damaged session."""

OF_OWNERS: Final = {"upsert_session, loaded", "upsert_session, new"}
"""Calls that are refused if the session is another user's."""
