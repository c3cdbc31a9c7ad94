"""Every public call, and what it returns of session `s` if that is whole, and if it is absent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sessioncache import SessionNotFoundError
from support.samples import a_message, a_run, a_run_of, a_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from damage.stored import Stored

RUNS: Final = [("r0", "out r0"), ("r1", "out r1"), ("r2", "out r2")]
OUTPUTS: Final = [output for _, output in RUNS]


def a_stored_session(session_id: str) -> Any:
    """Make the session that is damaged."""
    return a_session(
        session_id,
        [a_run("r0", 1), a_run("r1", 2), a_run_of("r2", a_message("m"), at=3)],
        user_id="u",
        workflow_id="w",
        workflow_name="name",
        session_data={"list": [1]},
        metadata={"m": 1},
    )


class Call(NamedTuple):
    """A call, and what it returns or raises of a session that is whole, and of one that is absent."""

    ask: Callable[[Stored], Any]
    whole: Any
    absent: Any = SessionNotFoundError


def _lease(stored: Stored) -> None:
    with stored.cache.lease("s") as lease:
        lease.upsert_run(a_run("r0", content="changed"))


def contents(runs: Iterable[Any]) -> list[Any]:
    """Return what tells runs apart."""
    return [(run.run_id, run.content) for run in runs]


def runs_of(session: Any) -> Any:
    """Return what tells the runs of a session apart; None if there is no session."""
    return None if session is None else contents(session.runs)


def _content(run: Any) -> Any:
    return None if run is None else run.content


def _outputs(chats: Iterable[Any]) -> list[Any]:
    return [chat.output for chat in chats]


SESSION_READS: Final = {
    "get_session": Call(lambda s: runs_of(s.cache.get_session("s")), RUNS, None),
    "get_session, newest": Call(lambda s: runs_of(s.cache.get_session("s", last_n_runs=1)), RUNS[-1:], None),
    "get_session, two": Call(lambda s: runs_of(s.cache.get_session("s", last_n_runs=2)), RUNS[-2:], None),
    "get_session, no run": Call(lambda s: runs_of(s.cache.get_session("s", last_n_runs=0)), [], None),
    "get_session, touching": Call(lambda s: runs_of(s.touching.get_session("s")), RUNS, None),
    "get_sessions": Call(
        lambda s: [*map(runs_of, s.cache.get_sessions(["s", "other"]))], [RUNS, RUNS], [None, RUNS]
    ),
}
RUN_READS: Final = {
    "get_run": Call(lambda s: _content(s.cache.get_run("s", "r2")), "out r2", None),
    "get_run, touching": Call(lambda s: _content(s.touching.get_run("s", "r0")), "out r0", None),
    "get_runs": Call(lambda s: contents(s.cache.get_runs("s")), RUNS),
    "get_runs, newest": Call(lambda s: contents(s.cache.get_runs("s", last_n_runs=1)), RUNS[-1:]),
    "get_runs, by status": Call(lambda s: contents(s.cache.get_runs("s", statuses=["COMPLETED"])), RUNS),
    "iter_runs": Call(lambda s: contents(s.cache.iter_runs("s", page_size=2)), RUNS),
    "get_chat_history": Call(lambda s: _outputs(s.cache.get_chat_history("s")), OUTPUTS),
    "get_chat_history, two": Call(lambda s: _outputs(s.cache.get_chat_history("s", 2)), OUTPUTS[-2:]),
    "get_workflow_history": Call(
        lambda s: s.cache.get_workflow_history("s"), [(f"in {run}", output) for run, output in RUNS]
    ),
    "get_workflow_history, newest": Call(
        lambda s: s.cache.get_workflow_history("s", 1), [("in r2", "out r2")]
    ),
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
    "iter_sessions": Call(
        lambda s: sorted(one.session_id for one in s.cache.iter_sessions()),
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
    "lease": Call(_lease, None),
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
