"""What the source does not do: run what it was given, or look up what it was told the name of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sessioncache

SOURCE = Path(sessioncache.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "globals", "locals"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "ctypes"}


def _id(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_nothing_is_evaluated_and_nothing_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"
        if isinstance(node, ast.Import):
            assert not {name.name.split(".")[0] for name in node.names} & FORBIDDEN_MODULES, path
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN_MODULES, path


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_no_module_is_imported_by_a_name_that_is_not_written_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _name(node.func) == "import_module":
            assert isinstance(node.args[0], ast.Constant)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.lua")), ids=_id)
def test_no_script_runs_a_payload_or_parses_one(path: Path) -> None:
    text = path.read_text()

    for word in ("loadstring", "load(", "dofile", "cmsgpack", "cjson", "struct.unpack", "_G", "setfenv"):
        assert word not in text, word
