"""The shape of the source: small functions, small modules, the lightest imports."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sessioncache

if TYPE_CHECKING:
    from support.servers import RedisServer

PACKAGE = Path(sessioncache.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((PACKAGE / "storage" / "lua").glob("*.lua"))


def lines_of_functions() -> list[int]:
    """The lines of each function's code, its docstring left out."""
    lengths = []
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                if code:
                    lengths.append((code[-1].end_lineno or 0) - code[0].lineno + 2)
    return sorted(lengths)


def test_functions_are_small() -> None:
    lengths = lines_of_functions()

    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=10)[-1] <= 25


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_at_most_300_lines(module: Path) -> None:
    """Documentation does not count: that of the two clients is longer than they are."""
    lines = len(module.read_text().splitlines())
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and module.stem in ("client", "aio"):
            lines -= len((ast.get_docstring(node) or "").splitlines())

    assert lines <= 300


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_a_short_function_with_a_contract(script: Path) -> None:
    code = [line for line in script.read_text().splitlines() if line and not line.startswith("--")]

    assert script.read_text().startswith("-- ")
    assert len(code) <= 70


def test_a_lookup_is_read_in_ten_minutes(redis_server: RedisServer) -> None:
    """By `scripts/frames.py`, which counts what its reader has to pass through."""
    script = Path(__file__).parents[1] / "scripts" / "frames.py"
    told = subprocess.run(
        [sys.executable, str(script), redis_server.url], capture_output=True, text=True, check=True
    )

    row = next(line for line in told.stdout.splitlines() if line.startswith("get_session(last_n_runs=1)"))
    _, _, functions, modules, _ = row.split()
    assert int(functions) <= 45
    assert int(modules) <= 10


def test_the_public_names_are_sorted() -> None:
    assert sessioncache.__all__ == sorted(sessioncache.__all__)


def test_the_core_imports_nothing_but_redis_and_msgpack() -> None:
    """Extras stay outside: neither fakeredis nor the command line's libraries are loaded with the package."""
    program = "import sys, sessioncache; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert not {"fakeredis", "lupa", "typer", "rich", "agno"} & set(loaded.split())
