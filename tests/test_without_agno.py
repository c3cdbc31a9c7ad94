"""Without agno 3, the integration says what to do, and the rest works."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

IMPORT = "import sessioncache.integrations.agno"


def said_with(agno: str) -> str:
    """Import the integration beside an agno of a version, '' for none, and return the last line of stderr."""
    give = f"return {agno!r}" if agno else "raise m.PackageNotFoundError(name)"
    code = f"import importlib.metadata as m\ndef version(name):\n    {give}\nm.version = version\n{IMPORT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("agno", ["1.8.4", "2.0.0rc1", "2.9.0"])
def test_an_older_agno_is_named_with_what_to_do(agno: str) -> None:
    said = said_with(agno)

    assert said.startswith("ImportError: sessioncache.integrations.agno needs agno 3")
    assert f"agno {agno} is installed" in said
    assert "pip install 'agno>=3,<4'" in said


def test_beside_agno_2_itself_too() -> None:
    try:
        agno = importlib.metadata.version("agno")
    except importlib.metadata.PackageNotFoundError:
        agno = ""
    if not agno.startswith("2."):
        pytest.skip("needs agno 2: the environment agno2")

    with pytest.raises(ImportError, match=f"agno {agno} is installed"):
        importlib.import_module("sessioncache.integrations.agno")


def test_no_agno_is_told_with_what_to_do() -> None:
    said = said_with("")

    assert said == "ImportError: sessioncache.integrations.agno needs agno: pip install 'agno>=3,<4'"
