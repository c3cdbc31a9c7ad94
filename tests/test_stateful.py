"""Any sequence of calls returns what a plain dict returns."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sessioncache import (
    NearCache,
    SessionConflictError,
    SessionNotFoundError,
    SessionOwnershipError,
    WorkflowRunOutput,
    WorkflowSession,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SESSION_IDS = ["s", "{s}", "s:meta"]
session_ids = st.sampled_from(SESSION_IDS)
run_ids = st.sampled_from(["a", "b", "c", "d", "e"])
keys = st.sampled_from(["x", "y", "a.b"])
values = st.sampled_from([None, 0, "", "text", {}, {"n": 1}, [1, {"m": 2}]])
dicts = st.dictionaries(keys, values, max_size=3)
sections = st.fixed_dictionaries({"metadata": dicts, "data": dicts, "state": dicts})
section_names = st.sampled_from(["metadata", "data", "state"])
owners = st.sampled_from([None, None, "ada", "eve"])
counts = st.sampled_from([None, None, 0, 1, 2, 3, 9])
texts = st.sampled_from(["", "one", "two"])


@st.composite
def runs(draw: st.DrawFn) -> WorkflowRunOutput:
    """Draw runs of few ids, made in few seconds."""
    return WorkflowRunOutput(
        run_id=draw(run_ids),
        input=draw(texts),
        content=draw(texts),
        created_at=draw(st.integers(1000, 1003)),
        step_results=draw(st.sampled_from([[], ["step"]])),
    )


Sections = dict[str, dict[str, Any]]


def sections_of(session: WorkflowSession) -> Sections:
    """The dicts of a session of which single keys are merged; every session here has a state."""
    assert session.session_data is not None
    assert session.metadata is not None
    data = {key: value for key, value in session.session_data.items() if key != "session_state"}
    return {"metadata": session.metadata, "data": data, "state": session.session_data["session_state"]}


def section_of(session: WorkflowSession, name: str) -> dict[str, Any]:
    """One of these dicts, to be changed."""
    if name == "data":
        assert session.session_data is not None
        return session.session_data
    return sections_of(session)[name]


def merge(known: Sections, before: Sections, after: Sections) -> None:
    """Take over what differs between two states of an object."""
    for name, section in after.items():
        for key in before[name].keys() - section.keys():
            known[name].pop(key, None)
        for key, value in section.items():
            if key not in before[name] or before[name][key] != value:
                known[name][key] = copy.deepcopy(value)


def nothing() -> Sections:
    return {"metadata": {}, "data": {}, "state": {}}


@dataclass
class Stored:
    """What a session ought to be: its runs by id, each with its place."""

    life: int
    owner: str | None
    sections: Sections = field(default_factory=nothing)
    runs: dict[str, tuple[tuple[int, int], WorkflowRunOutput]] = field(default_factory=dict)
    writes: int = 0

    def in_order(self) -> list[WorkflowRunOutput]:
        return [run for _, run in sorted(self.runs.values(), key=lambda placed: placed[0])]


@dataclass
class Loaded:
    """A session object that somebody holds, and what it was when it was loaded or last saved."""

    session: WorkflowSession
    life: int
    writes: int
    sections: Sections
    runs: dict[str | None, WorkflowRunOutput]


class CacheMachine(RuleBasedStateMachine):
    """The client against a dict."""

    held = Bundle("held")

    def __init__(self, make_cache: Callable[..., Any]) -> None:
        super().__init__()
        self.make_cache = make_cache
        self.stored: dict[str, Stored] = {}
        self.arrivals = 0
        self.lives = 0

    @initialize(max_runs=st.sampled_from([None, None, 1, 3]))
    def begin(self, max_runs: int | None) -> None:
        self.max_runs = max_runs
        self.cache = self.make_cache(max_runs=max_runs)
        for session_id in SESSION_IDS:
            self.cache.delete_session(session_id)

    # writing

    @rule(
        session_id=session_ids,
        owner=owners,
        sections=sections,
        new=st.lists(runs(), max_size=4, unique_by=lambda run: run.run_id),
    )
    def save_a_new_object(
        self, session_id: str, owner: str | None, sections: Sections, new: list[WorkflowRunOutput]
    ) -> None:
        session = WorkflowSession(
            session_id,
            owner,
            runs=copy.deepcopy(new),
            metadata=copy.deepcopy(sections["metadata"]),
            session_data=copy.deepcopy({**sections["data"], "session_state": sections["state"]}),
        )
        known = self.stored.get(session_id)
        if known and known.owner and owner and known.owner != owner:
            self._refuse(SessionOwnershipError, session)
            return
        self.cache.upsert_session(session)
        if known is None:
            self.lives += 1
            known = self.stored[session_id] = Stored(self.lives, owner)
        known.owner = known.owner or owner
        merge(known.sections, nothing(), sections)
        self._write(known, new)

    @rule(target=held, session_id=session_ids, last_n=counts)
    def load(self, session_id: str, last_n: int | None) -> Any:
        session = self.cache.get_session(session_id, last_n_runs=last_n)
        known = self.stored.get(session_id)
        if known is None:
            assert session is None
            return multiple()
        assert session.runs == _newest(known.in_order(), last_n)
        return Loaded(
            session,
            known.life,
            known.writes,
            copy.deepcopy(sections_of(session)),
            {run.run_id: copy.deepcopy(run) for run in session.runs},
        )

    @rule(loaded=held, key=keys, value=values, name=section_names)
    def change_a_key(self, loaded: Loaded, key: str, value: Any, name: str) -> None:
        section_of(loaded.session, name)[key] = copy.deepcopy(value)

    @rule(loaded=held, key=keys, name=section_names)
    def remove_a_key(self, loaded: Loaded, key: str, name: str) -> None:
        section_of(loaded.session, name).pop(key, None)

    @rule(loaded=held, run=runs())
    def change_a_run(self, loaded: Loaded, run: WorkflowRunOutput) -> None:
        loaded.session.upsert_run(copy.deepcopy(run))

    @rule(loaded=held, expect=st.booleans())
    def save_a_loaded_object(self, loaded: Loaded, expect: bool) -> None:
        session = loaded.session
        known = self.stored.get(session.session_id)
        rev = session.rev if expect else None
        if known is None or known.life != loaded.life:
            self._refuse(SessionNotFoundError, session, rev)
            return
        if known.owner and session.user_id and known.owner != session.user_id:
            self._refuse(SessionOwnershipError, session, rev)
            return
        if expect and known.writes != loaded.writes:
            self._refuse(SessionConflictError, session, rev)
            return
        self.cache.upsert_session(session, expect_rev=rev)
        merge(known.sections, loaded.sections, sections_of(session))
        changed = [
            run
            for run in session.runs or ()
            if run != loaded.runs.get(run.run_id)
            and (run.run_id not in loaded.runs or run.run_id in known.runs)
        ]
        current = known.writes == loaded.writes
        self._write(known, changed)
        loaded.writes = known.writes if current else -1
        loaded.sections = copy.deepcopy(sections_of(session))
        loaded.runs |= {run.run_id: copy.deepcopy(run) for run in session.runs or ()}

    @rule(session_id=session_ids, new=st.lists(runs(), min_size=1, max_size=3))
    def upsert_runs(self, session_id: str, new: list[WorkflowRunOutput]) -> None:
        known = self.stored.get(session_id)
        call = self.cache.upsert_run if len(new) == 1 else self.cache.upsert_runs
        argument = copy.deepcopy(new[0] if len(new) == 1 else new)
        if known is None:
            with pytest.raises(SessionNotFoundError):
                call(session_id, argument)
            return
        call(session_id, argument)
        self._write(known, {run.run_id: run for run in new}.values())

    @rule(session_id=session_ids, run_id=run_ids)
    def delete_run(self, session_id: str, run_id: str) -> None:
        known = self.stored.get(session_id)
        exists = known is not None and run_id in known.runs

        assert self.cache.delete_run(session_id, run_id) == exists
        if known and exists:
            del known.runs[run_id]
            known.writes += 1

    @rule(session_id=session_ids, name=texts)
    def rename(self, session_id: str, name: str) -> None:
        known = self.stored.get(session_id)

        assert self.cache.rename_session(session_id, name) == (known is not None)
        if known:
            known.sections["data"]["session_name"] = name
            known.writes += 1

    @rule(session_id=session_ids)
    def delete_session(self, session_id: str) -> None:
        assert self.cache.delete_session(session_id) == (self.stored.pop(session_id, None) is not None)

    @rule(session_id=session_ids)
    def touch(self, session_id: str) -> None:
        assert self.cache.touch_session(session_id) == (session_id in self.stored)

    def _refuse(self, error: type[Exception], session: WorkflowSession, rev: int | None = None) -> None:
        with pytest.raises(error):
            self.cache.upsert_session(session, expect_rev=rev)

    def _write(self, known: Stored, new: Iterable[WorkflowRunOutput]) -> None:
        """Do what the script does: place, replace, trim, count the write."""
        for run in new:
            assert run.run_id is not None
            assert run.created_at is not None
            self.arrivals += 1
            place, _ = known.runs.get(run.run_id, ((run.created_at, self.arrivals), None))
            known.runs[run.run_id] = (place, replace(run))
        if self.max_runs is not None:
            kept = sorted(known.runs.items(), key=lambda item: item[1][0])[-self.max_runs :]
            known.runs = dict(kept)
        known.writes += 1

    # reading

    @rule(session_id=session_ids, last_n=counts)
    def read_runs(self, session_id: str, last_n: int | None) -> None:
        known = self.stored.get(session_id)
        if known is None:
            with pytest.raises(SessionNotFoundError):
                self.cache.get_runs(session_id, last_n_runs=last_n)
            return
        assert self.cache.get_runs(session_id, last_n_runs=last_n) == _newest(known.in_order(), last_n)

    @rule(session_id=session_ids, run_id=run_ids)
    def read_run(self, session_id: str, run_id: str) -> None:
        known = self.stored.get(session_id)
        expected = known.runs.get(run_id) if known else None

        assert self.cache.get_run(session_id, run_id) == (expected[1] if expected else None)

    @rule(session_id=session_ids, user_id=st.sampled_from(["ada", "eve"]))
    def read_as(self, session_id: str, user_id: str) -> None:
        known = self.stored.get(session_id)

        found = self.cache.get_session(session_id, user_id=user_id, last_n_runs=0)
        assert (found is not None) == (known is not None and known.owner == user_id)

    @invariant()
    def every_session_is_as_it_ought_to_be(self) -> None:
        if not hasattr(self, "cache"):
            return
        for session_id, session in zip(SESSION_IDS, self.cache.get_sessions(SESSION_IDS), strict=True):
            known = self.stored.get(session_id)
            assert (session is None) == (known is None)
            if known:
                assert session.runs == known.in_order()
                assert (session.user_id, sections_of(session)) == (known.owner, known.sections)


def _newest(found: list[WorkflowRunOutput], last_n: int | None) -> list[WorkflowRunOutput]:
    return found if last_n is None else found[len(found) - min(last_n, len(found)) :]


def run_machine(make_cache: Callable[..., Any]) -> None:
    run_state_machine_as_test(
        lambda: CacheMachine(make_cache),
        settings=settings(stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )


@pytest.mark.parametrize("server", ["redis", "embedded"], indirect=True)
def test_any_calls_return_what_a_dict_does(make_cache: Callable[..., Any]) -> None:
    run_machine(make_cache)


class OthersWrite:
    """A cache whose sessions another one writes: all calls but lookups are the other's."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader, self._writer = reader, writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader if name.startswith("get_") else self._writer, name)


@pytest.mark.parametrize("server", ["redis", "embedded"], indirect=True)
@pytest.mark.parametrize("max_bytes", [30_000, 2**26], ids=["narrow", "wide"])
def test_a_near_cache_changes_no_answer(make_cache: Callable[..., Any], max_bytes: int) -> None:
    def make(**options: Any) -> Any:
        return OthersWrite(make_cache(**options, near_cache=max_bytes), make_cache(**options))

    run_machine(make)


@pytest.mark.parametrize("server", ["redis", "embedded"], indirect=True)
def test_of_own_writes_a_near_cache_is_never_stale(make_cache: Callable[..., Any]) -> None:
    run_machine(lambda **options: make_cache(**options, near_cache=NearCache(max_staleness=3600)))
