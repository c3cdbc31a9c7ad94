"""Ids, as agno's databases take them: an int or a UUID is its text, and an empty one is nobody's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar
from uuid import UUID

from sessioncache.operations.context import Context
from sessioncache.transport.flow import Flow
from sessioncache.validation import encoded_id, items

M = TypeVar("M", bound=Callable[..., Any])
Arguments = Mapping[str, Any]

IDS: Final = frozenset(
    {
        "session_id",
        "user_id",
        "previous_user_id",
        "run_id",
        "agent_id",
        "team_id",
        "workflow_id",
        "component_id",
    }
)
LISTS_OF_IDS: Final = frozenset({"session_ids", "run_ids"})


def as_id(value: Any) -> Any:
    """Return an int or a UUID as text, anything else as it is."""
    return str(value) if isinstance(value, int | UUID) and not isinstance(value, bool) else value


def with_ids(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a session or a run says of itself, with its ids as texts."""
    return fields | {name: as_id(fields[name]) for name in IDS & fields.keys()}


def takes_ids(nothing: Callable[[Arguments], Any] | None = None, *, writes: bool = False) -> Callable[[M], M]:
    """Let a method take ids as agno's databases do, and check them before anything is sent.

    If one is empty, the method returns what `nothing` makes of its arguments, without a round trip; it raises
    InvalidArgumentError if there is no `nothing`. If it `writes`, an empty user_id is None.
    """

    def decorate(method: M) -> M:
        signature = inspect.signature(method)

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options).arguments
            for name in LISTS_OF_IDS & given.keys():
                given[name] = [as_id(value) for value in items(given[name], name) if value != ""]
            ids = {name: as_id(given[name]) for name in IDS & given.keys() if given[name] is not None}
            if writes and ids.get("user_id") == "":
                del ids["user_id"]
                given["user_id"] = None
            if nothing is not None and "" in ids.values():
                return given["self"]._run(_nothing, nothing(given))  # noqa: SLF001 - a method of its own
            for name, value in ids.items():
                encoded_id(value, name)
            return method(**given | ids)

        return call  # type: ignore[return-value]

    return decorate


def _nothing(ctx: Context, value: Any) -> Flow[Any]:
    """Return what there is for nobody."""
    yield from ()
    return value
