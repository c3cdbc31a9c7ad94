"""The row of the time that an import takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Final

from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.timing import Pair, Sample

IMPORTS: Final = 21


QUICK_IMPORTS: Final = 5
"""Imports timed of each module, in processes of their own."""


async def _import_time(fixture: Fixture, seconds: float) -> Pair:
    ours, theirs = Sample(), Sample()
    with tempfile.TemporaryDirectory() as cache:
        _time_import("sessioncache", cache)
        for _ in range(QUICK_IMPORTS if fixture.quick else IMPORTS):
            ours.values.append(_time_import("sessioncache", cache))
            theirs.values.append(_time_import("redis", cache))
    return Pair(ours, theirs)


def _time_import(module: str, cache: str) -> float:
    """Return the seconds that an import takes in a new process, from bytecode as an installed package has."""
    code = f"from time import perf_counter as t; s = t(); import {module}; print(t() - s)"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings["PYTHONPYCACHEPREFIX"] = cache
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=settings).stdout
    )


ROWS: Final = (Row("import sessioncache", "import redis", "redis-py", Target(1.3), _import_time),)
