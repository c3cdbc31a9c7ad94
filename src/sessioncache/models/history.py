"""What was said in the runs of a session, as text for a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import last
from .status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .runs import WorkflowRunOutput


def completed_pairs(runs: Iterable[WorkflowRunOutput], count: int | None) -> list[tuple[str, str]]:
    """Return input and output of the newest completed runs as text."""
    completed = [run for run in runs if run.status == RunStatus.completed]
    return [(_as_text(run.input), _as_text(run.content)) for run in last(completed, count)]


def context_of(pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return inputs and outputs as one block of text, None if there are none."""
    if not pairs:
        return None
    lines = ["<workflow_history_context>"]
    for number, (question, answer) in enumerate(pairs, start=1):
        lines += _context_lines(number, question, answer)
    return "\n".join([*lines, "</workflow_history_context>", ""])


def _as_text(value: Any) -> str:
    """Return what is empty as "", a text as it is and all else as ``str`` shows it."""
    if not value:
        return ""
    return value if isinstance(value, str) else str(value)


def _context_lines(number: int, question: str, answer: str) -> list[str]:
    """Return the lines of one run in a history context, the empty one at its end included."""
    lines = [f"[Workflow Run-{number}]"]
    if question:
        lines.append(f"User input: {question}")
    if answer:
        lines.append(f"Workflow output: {answer}")
    return [*lines, ""]
