"""The demo shows what is so, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from sessioncache import SessionCache
from sessioncache.cli.demo import play
from sessioncache.cli.screen import WIDTH, Screen
from sessioncache.cli.server import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.servers import RedisServer

ENDS_WITHIN = 60
"""Seconds: it takes about three, and more on a busy machine."""

ONE_SCREEN = 40
"""Lines."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for temporary files whose path is short, as that of a unix socket has to be."""
    with TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def run_demo(
    *arguments: str, python: tuple[str, ...] = ("-m", "sessioncache"), **environment: str
) -> tuple[int, str, str]:
    """Run the demo with its output piped, in an environment that asks for colour; status and both streams."""
    done = subprocess.run(
        [sys.executable, *python, "demo", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "FORCE_COLOR": "1", "PYTHONUTF8": "1", **environment},
        text=True,
        encoding="utf-8",
        timeout=ENDS_WITHIN,
    )
    return done.returncode, done.stdout, done.stderr


def assert_all_shown(status: int, output: str, errors: str) -> None:
    assert (status, errors) == (0, ""), output
    lines = output.splitlines()
    assert len(lines) <= ONE_SCREEN
    assert max(map(len, lines[:-3])) <= WIDTH
    assert "\x1b" not in output
    assert "204 of 204 runs are there" in output
    assert lines[-5].startswith("At 1,000 runs")
    assert all(line.startswith("  sessioncache --url") for line in lines[-3:])


def test_it_fits_one_screen_on_a_private_server_that_is_gone_afterwards(folder: Path) -> None:
    result = run_demo(TMPDIR=str(folder))

    assert_all_shown(*result)
    assert "On a private " in result[1]
    assert list(folder.iterdir()) == []


def test_without_a_redis_server_it_says_that_times_are_not_those_of_redis(tmp_path: Path) -> None:
    result = run_demo(PATH=str(tmp_path))

    assert_all_shown(*result)
    assert "NOT those of Redis" in result[1]


def test_a_server_of_the_user_is_left_as_it_was(redis_server: RedisServer) -> None:
    admin = redis_server.client()
    admin.flushall()
    admin.set("theirs", "kept")

    result = run_demo("--url", redis_server.url)

    assert_all_shown(*result)
    assert admin.keys() == [b"theirs"]
    admin.close()


def test_the_commands_that_it_names_show_what_it_kept(redis_server: RedisServer) -> None:
    redis_server.client().flushall()
    status, output, errors = run_demo("--url", redis_server.url, "--keep")
    assert_all_shown(status, output, errors)
    named = [line.split()[1:] for line in output.splitlines() if line.startswith("  sessioncache --url")]

    assert len(named) == 3
    for command in named:
        done = subprocess.run(
            [sys.executable, "-m", "sessioncache", *command], capture_output=True, check=True, text=True
        )
        assert done.stdout
    assert run_demo("--keep")[0] == 2


def test_a_demo_told_to_end_stops_its_private_server(folder: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-um", "sessioncache", "demo"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
    )
    assert demo.stdout
    while b"case-4471" not in demo.stdout.readline():
        assert demo.poll() is None

    demo.terminate()
    demo.communicate(timeout=ENDS_WITHIN)

    assert demo.returncode == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == []


def test_no_server_is_one_line_and_status_1(tmp_path: Path) -> None:
    status, _, errors = run_demo("--url", f"unix://{tmp_path}/no.sock")

    assert status == 1
    assert errors.startswith("The demo failed: UnavailableError: ")
    assert len(errors.splitlines()) == 1


def test_without_any_server_it_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import runpy, sys; sys.modules['fakeredis'] = None; "

    status, _, errors = run_demo(
        python=("-c", hidden + "runpy.run_module('sessioncache', run_name='__main__', alter_sys=True)"),
        PATH=str(tmp_path),
    )

    assert status == 1
    assert "pip install 'sessioncache[embedded]'" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost?tpyo=1", "redis+cluster://localhost"])
def test_a_url_that_the_demo_cannot_use_is_wrong_usage(url: str) -> None:
    status, output, errors = run_demo("--url", url)

    assert (status, output) == (2, "")
    assert "Invalid value for '--url'" in errors


def test_a_claim_that_is_wrong_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SessionCache.get_runs

    def without_the_last(cache: SessionCache, *args: Any, **kwargs: Any) -> Any:
        return real(cache, *args, **kwargs)[:-1]

    monkeypatch.setattr(SessionCache, "get_runs", without_the_last)

    with pytest.raises(DemoError, match="203 of 204 runs"):
        play("memory://", Screen())
