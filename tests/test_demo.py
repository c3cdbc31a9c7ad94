"""The demo shows what is so, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sessioncache.cli.demo import play
from sessioncache.cli.demo.cache import DemoCache
from sessioncache.cli.report import Report

if TYPE_CHECKING:
    from support.servers import RedisServer

ENDS_WITHIN = 60
"""Seconds: it takes about five, and more on a busy machine."""


def run_demo(*arguments: str, python: tuple[str, ...] = ("-m", "sessioncache")) -> tuple[int, str, str]:
    """Run the demo with its output piped, in an environment that asks for colour; status and both streams."""
    done = subprocess.run(
        [sys.executable, *python, *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "FORCE_COLOR": "1", "PYTHONUTF8": "1"},
        text=True,
        encoding="utf-8",
        timeout=ENDS_WITHIN,
    )
    return done.returncode, done.stdout, done.stderr


def assert_all_right_and_plain(status: int, output: str, errors: str) -> None:
    assert (status, errors) == (0, ""), output
    assert output.splitlines()[-1].endswith(" claims right, 0 wrong")
    assert "\x1b" not in output


def test_everything_shown_is_right_on_the_embedded_server() -> None:
    result = run_demo("demo")

    assert_all_right_and_plain(*result)
    assert "8 threads" in result[1]


def test_everything_shown_is_right_on_a_real_server_which_is_left_as_it_was(
    redis_server: RedisServer,
) -> None:
    admin = redis_server.client()

    result = run_demo("demo", "--url", redis_server.url)

    assert_all_right_and_plain(*result)
    assert "8 processes" in result[1]
    assert list(admin.scan_iter("sessioncache-demo-*")) == []
    admin.close()


def test_no_server_is_one_line_and_status_1(tmp_path: object) -> None:
    status, output, errors = run_demo("demo", "--url", f"unix://{tmp_path}/no.sock")

    assert status == 1
    assert output == ""
    assert errors.startswith("UnavailableError: ")
    assert len(errors.splitlines()) == 1


def test_a_wrong_url_is_one_line_and_status_1() -> None:
    status, _, errors = run_demo("demo", "--url", "http://localhost")

    assert status == 1
    assert errors.startswith("InvalidArgumentError: ")
    assert len(errors.splitlines()) == 1


def test_without_the_extra_it_says_how_to_install_it() -> None:
    hidden = "import runpy, sys; sys.modules['typer'] = None; "

    status, _, errors = run_demo(
        python=("-c", hidden + "runpy.run_module('sessioncache', run_name='__main__')")
    )

    assert status == 2
    assert errors == "The command line needs typer: pip install 'sessioncache[cli]'\n"


def test_a_claim_that_is_wrong_is_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DemoCache, "positions", lambda *_: [1.0])
    report = Report()

    play("memory://", report)

    assert report.exit_status() == 1
    assert "WRONG 1 distinct positions" in capsys.readouterr().out
