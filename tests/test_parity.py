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
ONLY_ASYNC = {"aclose"}
"""The name that asyncio has for `close`, which is there as well."""


def _methods(cls: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(cls, callable) if not name.startswith("_")}


def _own_methods(cls: type[Any]) -> list[str]:
    """The methods that the class itself defines: one for each operation."""
    return sorted(name for name in vars(cls) if not name.startswith("_"))


OPERATIONS = _own_methods(SessionCache)


def _is_iterated(name: str) -> bool:
    return get_origin(get_type_hints(getattr(SessionCache, name))["return"]) is Iterator


def test_both_clients_have_the_same_names() -> None:
    assert set(_methods(SessionCache)) == set(_methods(AsyncSessionCache)) - ONLY_ASYNC
    assert AsyncSessionCache.aclose is AsyncSessionCache.close


def test_the_methods_come_in_the_same_order() -> None:
    ordered = [[name for name in vars(cls) if name in OPERATIONS] for cls in CLIENTS]

    assert ordered[0] == ordered[1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_parameters_are_the_same_in_kind_order_default_and_annotation(name: str) -> None:
    sync, awaited = (inspect.signature(getattr(cls, name)) for cls in CLIENTS)

    parameters = dict(awaited.parameters)
    if name == "update_session":  # whose `change` may be awaited
        change = parameters["change"]
        blocking = change.annotation.replace("Awaitable[None] | None", "None")
        parameters["change"] = change.replace(annotation=blocking)

    assert list(sync.parameters.values()) == list(parameters.values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_result_is_the_same_awaited_or_iterated(name: str) -> None:
    sync, awaited = (get_type_hints(getattr(cls, name))["return"] for cls in CLIENTS)

    if _is_iterated(name):
        assert get_origin(awaited) is AsyncIterator
        assert get_args(awaited) == get_args(sync)
    else:
        assert awaited == sync


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_async_method_is_awaited_or_iterated_and_the_other_is_neither(name: str) -> None:
    method = getattr(AsyncSessionCache, name)

    assert inspect.isasyncgenfunction(method) is _is_iterated(name)
    assert inspect.iscoroutinefunction(method) is not _is_iterated(name)
    assert not inspect.iscoroutinefunction(getattr(SessionCache, name))


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_methods_have_the_same_documentation(name: str) -> None:
    """Editors show what is written in the source where they point at a method."""
    documentation = inspect.getdoc(getattr(SessionCache, name)) or ""

    assert getattr(AsyncSessionCache, name).__doc__ == getattr(SessionCache, name).__doc__
    assert len(documentation) > 60
    assert documentation.splitlines()[0].endswith((".", ":", ")", ","))


@pytest.mark.parametrize("name", OPERATIONS)
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


def test_both_clients_are_made_alike() -> None:
    for name in ("__init__", "from_url"):
        sync, awaited = (getattr(cls, name) for cls in CLIENTS)

        assert inspect.signature(sync) == inspect.signature(awaited)
        assert inspect.getdoc(sync) == inspect.getdoc(awaited)


def test_each_client_is_a_context_manager_of_its_own_kind() -> None:
    assert hasattr(SessionCache, "__enter__")
    assert not hasattr(SessionCache, "__aenter__")
    assert hasattr(AsyncSessionCache, "__aenter__")
    assert not hasattr(AsyncSessionCache, "__enter__")
