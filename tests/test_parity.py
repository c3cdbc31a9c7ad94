"""One library, two clients: the same names, the same signatures, one documentation."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from sessioncache import AsyncSessionCache, SessionCache

CLIENTS = (SessionCache, AsyncSessionCache)
OPERATIONS = sorted(
    name for name in vars(SessionCache) if not name.startswith("_") and name not in ("close", "from_url")
)
each_operation = pytest.mark.parametrize("name", OPERATIONS)


def test_both_clients_have_the_same_names() -> None:
    """`aclose` is the name that asyncio has for `close`, which is there as well."""
    sync, awaited = (
        {name for name, _ in inspect.getmembers(cls, callable) if name[0] != "_"} for cls in CLIENTS
    )

    assert sync == awaited - {"aclose"}
    assert AsyncSessionCache.aclose is AsyncSessionCache.close
    assert [hasattr(cls, "__enter__") for cls in CLIENTS] == [True, False]
    assert [hasattr(cls, "__aenter__") for cls in CLIENTS] == [False, True]


@pytest.mark.parametrize("name", ["__init__", "from_url", *OPERATIONS])
def test_parameters_and_documentation_are_the_same(name: str) -> None:
    sync, awaited = (getattr(cls, name) for cls in CLIENTS)

    parameters = dict(inspect.signature(awaited).parameters)
    if name == "update_session":  # whose `change` may be awaited
        change = parameters["change"]
        blocking = change.annotation.replace("Awaitable[None] | None", "None")
        parameters["change"] = change.replace(annotation=blocking)
    assert list(inspect.signature(sync).parameters.values()) == list(parameters.values())
    # Of operations, editors show what is written in the source at which they point.
    assert awaited.__doc__ == sync.__doc__ or name not in OPERATIONS
    assert inspect.getdoc(awaited) == inspect.getdoc(sync)


@each_operation
def test_the_result_is_the_same_awaited_or_iterated(name: str) -> None:
    sync, awaited = (get_type_hints(getattr(cls, name))["return"] for cls in CLIENTS)
    method = getattr(AsyncSessionCache, name)
    is_iterated = get_origin(sync) is Iterator

    if is_iterated:
        assert (get_origin(awaited), get_args(awaited)) == (AsyncIterator, get_args(sync))
    else:
        assert awaited == sync
    assert inspect.isasyncgenfunction(method) is is_iterated
    assert inspect.iscoroutinefunction(method) is not is_iterated
    assert not inspect.iscoroutinefunction(getattr(SessionCache, name))


@each_operation
def test_both_methods_carry_the_same_operation(name: str) -> None:
    """Nothing is decided in a client: without `await`, the two bodies are one."""
    sync, awaited = (_body_without_await(getattr(cls, name)) for cls in CLIENTS)

    assert sync == awaited


def _body_without_await(method: Any) -> list[str]:
    function: Any = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]
    return [ast.unparse(_Blocking().visit(statement)) for statement in function.body[1:]]


class _Blocking(ast.NodeTransformer):
    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_For(self, node: ast.For) -> Any:
        """Delegate, as only a generator that blocks can."""
        return ast.parse(f"yield from {ast.unparse(node.iter)}").body[0]
