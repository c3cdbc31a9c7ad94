"""The README shows only what runs, and names all there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest

import sessioncache
from sessioncache import errors
from sessioncache.options import Options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def first_cells(header: str) -> list[str]:
    """The first words, in backquotes, of the rows under a table's header."""
    table = README.split(header, 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([\w]+)", table, re.MULTILINE)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=[f"block{n}" for n in range(len(PYTHON_BLOCKS))])
def test_every_python_block_runs(block: str) -> None:
    on_memory = re.sub(r"redis://[^\"]*", "memory://", block)

    exec(compile(on_memory, "README.md", "exec"), {})


def test_the_example_has_about_20_lines() -> None:
    assert len(PYTHON_BLOCKS[0].splitlines()) <= 22


@pytest.mark.parametrize("command", re.findall(r"^(\./scripts/\w+)", README, re.MULTILINE))
def test_the_commands_exist(command: str) -> None:
    assert (ROOT / command).stat().st_mode & 0o100


def test_the_table_of_calls_has_every_call() -> None:
    calls = {name for name, value in vars(sessioncache.SessionCache).items() if callable(value)}
    public = {name for name in calls if not name.startswith("_")}

    assert set(first_cells("| call |")) == public | {"close"}


def test_the_table_of_options_has_every_option() -> None:
    assert first_cells("| option |") == list(get_type_hints(Options))


def test_the_tree_of_errors_is_that_of_the_module() -> None:
    tree = re.search(r"^```\n(SessionCacheError\n.*?)^```", README, re.DOTALL | re.MULTILINE)

    assert tree
    assert [line.strip() for line in tree[1].splitlines()] == [
        line.strip() for line in (errors.__doc__ or "").splitlines()[2 : 2 + len(tree[1].splitlines())]
    ]
