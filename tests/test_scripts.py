"""The Lua scripts load on every server supported, and say in their headers what they take."""

from __future__ import annotations

import importlib
import pkgutil
import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

import sessioncache.operations
from sessioncache.storage.scripts import TRY_COMMANDS
from sessioncache.transport.request import Script
from support.servers import CARRIED

if TYPE_CHECKING:
    from support.servers import RedisServer

FOLDER = files("sessioncache") / "storage" / "lua"
NAMES = sorted(entry.name.removesuffix(".lua") for entry in FOLDER.iterdir() if entry.name.endswith(".lua"))
PRELUDES = [name for name in NAMES if name.startswith("_")]
MAIN = [name for name in NAMES if name not in PRELUDES]


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


def header_of(name: str) -> str:
    """The comment that a file opens with."""
    lines = text_of(name).splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end])


def code_of(name: str) -> str:
    return re.sub(r"--.*", "", text_of(name))


def scripts() -> dict[str, Script]:
    """Every script that an operation runs, by the text of its last file."""
    found: dict[str, Script] = {"try_commands": Script(TRY_COMMANDS)}
    for module in pkgutil.walk_packages(sessioncache.operations.__path__, "sessioncache.operations."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Script):
                (main,) = (name for name in MAIN if value.text.decode().endswith(text_of(name)))
                found.setdefault(main, value)
    return found


def preludes_of(name: str) -> list[str]:
    text = scripts()[name].text.decode()
    return [prelude for prelude in PRELUDES if text_of(prelude) in text]


def documented(name: str, table: str) -> float:
    """The highest index of KEYS or ARGV that a header, or that of a prelude, names; inf for an open end."""
    header = "\n".join(header_of(part) for part in (*preludes_of(name), name))
    if re.search(rf"{table}\[\d+\.\.\]|{table}: ", header):
        return float("inf")
    named = re.findall(rf"{table}\[(\d+)(?:\.\.(\d+))?\]", header)
    return max((int(last or first) for first, last in named), default=0)


def used(name: str, table: str) -> int:
    """The highest index of KEYS or ARGV that is written out in a script and its preludes."""
    code = "\n".join(code_of(part) for part in (*preludes_of(name), name))
    return max((int(index) for index in re.findall(rf"{table}\[(\d+)\]", code)), default=0)


def test_every_file_is_run_by_an_operation() -> None:
    assert sorted(scripts()) == MAIN


@pytest.mark.parametrize("version", ["redis", *CARRIED])
@pytest.mark.parametrize("name", MAIN)
def test_a_script_loads_on_a_real_server_under_the_sha_it_is_called_by(
    name: str, version: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer = request.getfixturevalue(f"{version}_server")
    script = scripts()[name]

    with server.client() as client:
        assert client.execute_command("SCRIPT LOAD", script.text) == script.sha.decode()


@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
@pytest.mark.parametrize("name", MAIN)
def test_a_script_uses_no_argument_that_its_header_does_not_name(name: str, table: str) -> None:
    assert used(name, table) <= documented(name, table)


@pytest.mark.parametrize("name", MAIN)
def test_a_header_says_what_the_script_does_takes_and_returns(name: str) -> None:
    header = header_of(name)

    assert re.match(r"-- [A-Z]", header)
    assert "KEYS" in header
    assert "ARGV" in header
    assert re.search(r"[Rr]eturns|result", header)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_gets_every_key_through_keys(name: str) -> None:
    calls = re.findall(r"redis\.call\('(\w+)', *([^,)]+)", code_of(name))
    without_key = {"TIME"}

    assert {key.strip() for command, key in calls if command not in without_key} <= {
        "meta",
        "runs",
        "KEYS[1]",
        "KEYS[2]",
        "KEYS[i]",
        "index",  # what `extend` is given is one of KEYS
        "mark",  # the last of KEYS
    }
