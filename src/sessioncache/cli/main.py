"""The door of the command line: it says what is missing, or opens."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Final

NEEDED: Final = ("typer", "rich")
"""What the extra `cli` installs."""

USAGE_ERROR: Final = 2
"""Exit status of a command that could not begin, as in shells and click."""


def app() -> None:
    """Run the command that the arguments of this process name, and exit."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        needs = " and ".join(missing)
        sys.stderr.write(f"The command line needs {needs}: pip install 'sessioncache[cli]'\n")
        sys.exit(USAGE_ERROR)
    import_module("sessioncache.cli.commands").commands()
