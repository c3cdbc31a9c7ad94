"""What the docstrings of the calls and the README's table say, held against what the calls do."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

from sessioncache import SessionCache, WorkflowRunOutput, WorkflowSession, errors
from sessioncache.maintenance import Maintenance
from support.interleaving import watched

if TYPE_CHECKING:
    from collections.abc import Callable

README = (Path(__file__).parent.parent / "README.md").read_text()
METHODS = {**vars(Maintenance), **vars(SessionCache)}
CALLS = sorted(name for name, value in METHODS.items() if callable(value) and name[0] != "_")
WITH_REDIS = [name for name in CALLS if name != "close"]
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Redis):\n((?:    .*\n|\n)+)", re.MULTILINE)


def sections(name: str) -> dict[str, str]:
    """The sections of a call's docstring, without their indentation."""
    documentation = inspect.getdoc(getattr(SessionCache, name)) or ""
    return {title: inspect.cleandoc("\n" + text) for title, text in SECTION.findall(documentation + "\n")}


def items(text: str) -> list[str]:
    """The names that a section explains."""
    return re.findall(r"^(\w+): ", text, re.MULTILINE)


@pytest.mark.parametrize("name", CALLS)
def test_the_docstring_has_a_section_for_all_that_the_signature_has(name: str) -> None:
    method = getattr(SessionCache, name)
    found = sections(name)
    result = get_type_hints(method)["return"]

    assert items(found.get("Args", "")) == list(inspect.signature(method).parameters)[1:]
    assert ("Returns" in found or "Yields" in found) == (result is not type(None))
    assert all(hasattr(errors, error) for error in items(found.get("Raises", "")))
    assert ("Redis" in found) == (name in WITH_REDIS)


def a_run(number: int) -> WorkflowRunOutput:
    run = WorkflowRunOutput(run_id=f"r{number}", user_id="u", workflow_id="w", created_at=number)
    run.status = "COMPLETED"
    return run


EXAMPLES: dict[str, Callable[[Any], object]] = {
    "upsert_session": lambda cache: cache.upsert_session(WorkflowSession("s", "u", "w")),
    "get_session": lambda cache: cache.get_session("s", last_n_runs=1),
    "get_sessions": lambda cache: cache.get_sessions(["s", "t"]),
    "get_ttls": lambda cache: cache.get_ttls(["s", "t"]),
    "rename_session": lambda cache: cache.rename_session("s", "name"),
    "touch_session": lambda cache: cache.touch_session("s", 60),
    "upsert_run": lambda cache: cache.upsert_run("s", a_run(1)),
    "upsert_runs": lambda cache: cache.upsert_runs("s", [a_run(1), a_run(2)]),
    "get_run": lambda cache: cache.get_run("s", "r1"),
    "get_runs": lambda cache: cache.get_runs("s", last_n_runs=1),
    "iter_runs": lambda cache: next(cache.iter_runs("s")),
    "get_chat_history": lambda cache: cache.get_chat_history("s", 1),
    "get_workflow_history": lambda cache: cache.get_workflow_history("s", 1),
    "get_workflow_history_context": lambda cache: cache.get_workflow_history_context("s", 1),
    "get_messages": lambda cache: cache.get_messages("s", "a"),
    "list_sessions": lambda cache: cache.list_sessions(),
    "ping": lambda cache: cache.ping(),
    "update_session_state": lambda cache: cache.update_session_state("s", {"k": 1}),
    "update_session": lambda cache: cache.update_session("s", lambda session: session.metadata.clear()),
    "delete_run": lambda cache: cache.delete_run("s", "r2"),
    "delete_session": lambda cache: cache.delete_session("s"),
}
SEVERAL_STEPS = {"refresh", "rebuild_indexes", "iter_sessions", "lease", "rotate_keys", "stats", "verify"}
"""Their round trips depend on what there is; tests of their own count them."""


def documented(name: str) -> str:
    """What a docstring says under Redis, with what it refers to."""
    text = sections(name)["Redis"]
    return text + "".join(
        sections(other)["Redis"] for other in re.findall(r"`(\w+)`", text) if other in CALLS
    )


@pytest.fixture
def warm_cache(make_cache: Any) -> Any:
    """A cache whose server knows the scripts, and two sessions."""
    cache = make_cache()
    for example in (*EXAMPLES.values(), lambda _: None):
        cache.upsert_session(WorkflowSession("s", "u", "w", runs=[a_run(1), a_run(2)]))
        example(cache)
    cache.upsert_session(WorkflowSession("t"))
    return cache


def test_every_call_has_an_example() -> None:
    assert EXAMPLES.keys() | SEVERAL_STEPS == set(WITH_REDIS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_commands_and_round_trips_are_those_of_the_docstring(warm_cache: Any, name: str) -> None:
    said = documented(name)
    with watched(warm_cache) as trips:
        EXAMPLES[name](warm_cache)

    assert set(trips.names()) <= set(re.findall(r"\b[A-Z]{4,}\b", said))
    first = int(re.search(r"(\d) round\s+trip", sections(name)["Redis"] + said)[1])  # type: ignore[index]
    and_indexes = "and 1 for the indexes" in " ".join(said.split())
    assert len(trips) == first + and_indexes


def rows() -> dict[str, tuple[str, str]]:
    """The README's table of calls: for each, its signature and its round trips."""
    table = README.split("| call |", 1)[1].split("\n\n", 1)[0]
    found = {}
    for line in table.splitlines()[2:]:
        first, *_, trips = (cell.strip() for cell in line.strip("| ").split(" | "))
        for signature in re.findall(r"`([^`]+)`", first):
            found[signature.partition("(")[0]] = signature, trips
    return found


@pytest.mark.parametrize("name", CALLS)
def test_the_table_has_the_signature_and_the_round_trips(name: str) -> None:
    signature, trips = rows()[name]
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(inspect.signature(getattr(SessionCache, name)).parameters.values())[1:]
    ]
    full = f"{name}{inspect.Signature(bare)}".replace("Ellipsis", "...").replace("=...", "=...")

    if signature.endswith(", ...)"):
        assert full.startswith(signature.removesuffix("...)"))
    else:
        assert full == signature
    if name in EXAMPLES:
        said = " ".join(documented(name).split())
        number = re.search(r"(\d) round trip", " ".join(sections(name)["Redis"].split()) + said)
        assert trips.startswith(number[1])  # type: ignore[index]
        assert trips.startswith("1 + 1") == ("and 1 for the indexes" in said)
