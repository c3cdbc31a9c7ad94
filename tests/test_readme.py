"""The README shows only what runs, and names all there is."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from fastapi.testclient import TestClient

import sessioncache
from sessioncache import errors
from sessioncache.options import Options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def block_with(word: str) -> str:
    """The block of Python that has a word, on a server in this process."""
    (block,) = (block for block in PYTHON_BLOCKS if word in block)
    return re.sub(r"redis://[^\"]*", "memory://", block)


def run(block: str) -> dict[str, Any]:
    """Run a block; return its names."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    return names


def table(header: str) -> list[str]:
    """The first cells of a table's rows, by its header."""
    rows = README.split(header, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [row.removeprefix("| ").split(" | ")[0] for row in rows]


# blocks that run


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run(block_with('run_id="run-1"'))

    assert "Workflow output: It arrives on Monday." in capsys.readouterr().out


def test_the_service_answers_with_statuses() -> None:
    service = run(block_with("FastAPI"))
    run_of_ada = sessioncache.WorkflowRunOutput(
        run_id="r", input="Hello?", content="Yes?", status="completed"
    )

    with TestClient(service["app"], raise_server_exceptions=False) as client:
        assert client.get("/ready").status_code == 200
        assert client.get("/cases/c?user=ada").status_code == 404
        store = sessioncache.WorkflowSession("c", user_id="ada", runs=[run_of_ada])
        client.portal.call(service["cache"].upsert_session, store)  # type: ignore[union-attr]
        assert client.get("/cases/c?user=ada").json() == [["Hello?", "Yes?"]]
        assert client.get("/cases/c?user=bob").status_code == 404
        assert client.get(f"/cases/{'c' * 600}?user=ada").status_code == 422


def test_the_service_says_that_redis_is_away(tmp_path: Path) -> None:
    block = block_with("FastAPI").replace("memory://", f"unix://{tmp_path}/no.sock")
    service = run(block.replace("ttl=3600", "timeout=0.1"))

    with TestClient(service["app"], raise_server_exceptions=False) as client:
        ready = client.get("/ready")

    assert (ready.status_code, ready.json()) == (503, {"error": "UnavailableError"})


@pytest.mark.parametrize("word", ['for_user("bob")', "telemetry import"])
def test_the_other_examples_run(word: str) -> None:
    run(block_with(word))


def test_the_test_of_a_user_passes() -> None:
    run(block_with("def test_"))["test_approvals_are_counted"]()


def test_the_near_cache_is_used() -> None:
    info = run(block_with("NearCache"))["cache"].near_cache_info()

    assert info.misses == 2  # there is no such session: nothing is held


@pytest.mark.skipif(importlib.util.find_spec("agno.db") is None, reason="agno is not installed")
def test_the_workflow_of_agno_is_stored() -> None:
    db = run(block_with("agno"))["db"]

    assert [run.content for run in db.get_session("case-1", "workflow").runs] == ["It arrives on Monday."]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(\./scripts/\w+)", README))))
def test_the_commands_exist(command: str) -> None:
    assert (ROOT / command).stat().st_mode & 0o100


# tables that are complete


def test_the_table_of_calls_has_every_call_and_its_arguments() -> None:
    calls = dict(re.findall(r"`(\w+)\(([^`]*)\)`", "\n".join(table("| call |"))))
    methods = dict(inspect.getmembers(sessioncache.SessionCache, inspect.isfunction))

    assert set(calls) == {name for name in methods if not name.startswith("_")}
    for name, arguments in calls.items():
        shown = [
            argument.partition("=")[0] for argument in arguments.split(", ") if argument not in ("", "*")
        ]
        real = [*inspect.signature(methods[name]).parameters][1:]
        if "..." in shown:
            shown.remove("...")
            real = real[: len(shown)]
        assert shown == real, name


def test_the_table_of_options_has_every_option() -> None:
    assert [cell.strip("`") for cell in table("| option |")] == list(get_type_hints(Options))


def test_the_table_of_errors_has_every_error() -> None:
    ours = {name for name, value in vars(errors).items() if isinstance(value, type)}

    assert set(re.findall(r"`(\w+)`", " ".join(table("| error |")))) == ours - {"SessionCacheError"}
