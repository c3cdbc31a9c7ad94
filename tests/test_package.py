"""What is published: the wheel, the version, and the door of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import sessioncache

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel that this tree builds."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def test_the_wheel_holds_what_the_package_needs_and_nothing_else(wheel: ZipFile) -> None:
    info = f"sessioncache-{sessioncache.__version__}.dist-info/"
    names = [name for name in wheel.namelist() if not name.startswith(info)]
    source = ROOT / "src"
    kinds = {Path(name).suffix or Path(name).name for name in names}

    assert kinds == {".py", ".lua", ".typed", "LICENSE"}
    assert {name for name in names if name.endswith((".lua", ".typed"))} == {
        path.relative_to(source).as_posix()
        for pattern in ("*.lua", "py.typed")
        for path in source.rglob(pattern)
    }
    outside = [name for name in names if not name.startswith("sessioncache/")]
    assert outside == ["pytest_sessioncache.py"]


def test_the_wheel_says_version_and_license(wheel: ZipFile) -> None:
    info = f"sessioncache-{sessioncache.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()

    assert f"\nVersion: {sessioncache.__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert wheel.read(f"{info}/licenses/src/sessioncache/LICENSE").startswith(b"MIT License")


def command_line(*arguments: str, without: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run the command line as if some libraries were not installed; status and both streams."""
    hide = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    program = f"import sys; {hide}from sessioncache.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, check=False, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_opens_without_an_embedded_server() -> None:
    without = ("fakeredis", "lupa")

    assert command_line("--version", without=without) == (0, f"sessioncache {sessioncache.__version__}\n", "")
    assert command_line("--help", without=without)[0] == 0


def test_the_module_runs_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sessioncache", "--version"], capture_output=True, check=True, text=True
    )

    assert done.stdout == f"sessioncache {sessioncache.__version__}\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_line_says_how_to_install_it(missing: str) -> None:
    result = command_line("--version", without=(missing,))

    assert result == (2, "", f"The command line needs {missing}: pip install 'sessioncache[cli]'\n")
