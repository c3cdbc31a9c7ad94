"""The command line, over a real server: output for eyes, pipes and programs; statuses; bad input; faults."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from sessioncache import Message, SessionCache, WorkflowSession
from sessioncache.cli.commands import commands
from sessioncache.testing import make_session
from support.samples import a_run, a_run_of, a_session
from support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.cluster import RedisCluster
    from support.servers import RedisServer

GOLDEN = Path(__file__).parent / "data" / "agno_sessions.jsonl"
VALUES = {
    "bytes": b"\x00\xff",
    "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "day": date(2026, 1, 2),
    "id": UUID(int=5),
    "price": Decimal("1.10"),
    "tags": {"a", "b"},
    "inf": float("inf"),
    "big": 2**70,
    "$odd": 1,
    "lone": {"$bytes": "no bytes"},
    "surrogate": "\ud800",
    "nested": [{"$date": [b"x"]}],
}


class Shell:
    """Runs commands on one server, as a user does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str, given: str | None = None) -> tuple[int, str, str]:
        """Run a command; return its exit status, what it printed, and what it said on stderr."""
        done = CliRunner().invoke(commands, ["--url", self.url, *arguments], input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    def lines(self, *arguments: str) -> list[str]:
        """Run a command that has to succeed; return its lines."""
        status, out, err = self(*arguments)
        assert status == 0, err
        return out.splitlines()

    def json(self, *arguments: str) -> list[Any]:
        """Run a command that has to succeed with --json; return the objects it printed."""
        return [json.loads(line) for line in self.lines(*arguments, "--json")]


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[SessionCache]:
    redis_server.client().flushall()
    with SessionCache.from_url(redis_server.url) as cache:
        yield cache


@pytest.fixture
def shell(redis_server: RedisServer, store: SessionCache) -> Shell:
    for number in range(6):
        user_id = "ada" if number % 2 else "bob"
        session = make_session(f"order-{number}", runs=number, user_id=user_id)
        session.session_data["session_name"] = f"Parcel {number}"  # type: ignore[index]
        store.upsert_session(session)
    return Shell(redis_server.url)


def process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sessioncache", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
    )


# --- ls, show, history


def test_ls_lists_by_filters(shell: Shell) -> None:
    head, *rows = shell.lines("ls", "--user", "ada", "--limit", "2")

    assert head.split("\t") == ["SESSION", "USER", "WORKFLOW", "RUNS", "UPDATED", "TTL", "NAME"]
    assert [row.split("\t")[0] for row in rows] == ["order-5", "order-3"]
    assert [row["session_id"] for row in shell.json("ls", "--name", "parcel 4")] == ["order-4"]
    assert len(shell.json("ls", "--workflow", "support")) == 6
    assert shell.json("ls", "--created-before", "2000-01-01") == []
    assert len(shell.json("ls", "--all")) == 6
    assert shell.json("ls", "--limit", "1")[0]["ttl"] is None


def test_show_tells_of_a_session_and_its_runs(shell: Shell) -> None:
    head, about, *rest = shell.lines("show", "order-3")

    assert head.startswith("order-3  rev ")
    assert "3 runs  never expires" in about
    assert "user ada  workflow support" in about
    assert any(line.strip().startswith("metadata") and "channel web" in line for line in rest)
    runs = [line for line in rest if "order-3-run-" in line]
    assert len(runs) == 3
    assert all(re.search(r"completed +2026-01-01 .*[\d.]+ KB +", line) for line in runs)
    (found,) = shell.json("show", "order-3")
    assert found["run_count"] == len(found["runs"]) == 3


def test_show_shows_a_run_whole(shell: Shell) -> None:
    run = json.loads("\n".join(shell.lines("show", "order-3", "--run", "order-3-run-1")))

    assert run["run_id"] == "order-3-run-1"
    assert len(run["step_executor_runs"][0]["messages"]) == 5


def test_history_is_a_conversation(shell: Shell) -> None:
    assert [line for line in shell.lines("history", "order-2") if line.endswith(":")] == [
        "user:",
        "assistant:",
    ] * 2
    roles = [said["role"] for said in shell.json("history", "order-2", "--agent", "support-agent")]
    assert roles[0] == "system"
    assert roles.count("user") == 2


def test_what_a_user_wrote_moves_no_cursor(shell: Shell, store: SessionCache) -> None:
    store.upsert_session(WorkflowSession("\x1b[2Jevil", runs=[a_run("r", input="\x1b]0;title\x07 hello")]))

    for command in (["ls"], ["show", "\x1b[2Jevil"], ["history", "\x1b[2Jevil"]):
        _, out, _ = shell(*command)
        assert "\x1b" not in out
        assert "\x07" not in out


# --- a terminal


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["ls", "show order-5", "history order-2", "stats", "verify", "doctor"])
def test_on_a_terminal_no_line_is_wider(shell: Shell, command: str, columns: int) -> None:
    primary, secondary = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "SESSIONCACHE_URL": shell.url}
    child = subprocess.Popen(
        [sys.executable, "-m", "sessioncache", *command.split()], stdout=secondary, stderr=secondary,
        stdin=secondary, env=environment,
    )  # fmt: skip
    os.close(secondary)
    out = b""
    while select.select([primary], [], [], 20)[0]:
        try:
            out += os.read(primary, 65_536)
        except OSError:
            break
    os.close(primary)

    assert child.wait(20) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.decode())
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").splitlines()]
    is_whole = command.startswith(("history", "doctor"))  # texts and advice are never cut
    assert is_whole or max(map(len, lines)) <= columns
    assert len(lines) > 1 or command == "verify"


# --- watch


def test_watch_tells_of_new_and_changed_runs(shell: Shell, store: SessionCache) -> None:
    child = process("watch", "--user", "ada", "--interval", "0.05", "--json", SESSIONCACHE_URL=shell.url)
    assert child.stdout is not None
    found: list[Any] = []
    for number in range(100):
        store.upsert_run("order-1", a_run(f"new-{number}", user_id="ada"))
        if select.select([child.stdout], [], [], 0.2)[0]:
            found.append(json.loads(child.stdout.readline()))
            break
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)

    assert found[0]["session_id"] == "order-1"
    assert found[0]["run_id"].startswith("new-")
    assert child.returncode == 0
    assert "Traceback" not in err


def test_watch_of_a_session_ends_when_it_is_gone(shell: Shell, store: SessionCache) -> None:
    child = process("watch", "order-1", "--interval", "0.05", SESSIONCACHE_URL=shell.url)

    def has_ended() -> bool:
        store.delete_session("order-1")
        return child.poll() is not None

    wait_for(has_ended, "the end of watch")
    _, err = child.communicate()
    assert child.returncode == 1
    assert "order-1" in err
    assert len(err.splitlines()) == 1


# --- stats, verify, doctor


def test_stats_count(shell: Shell) -> None:
    (found,) = shell.json("stats")

    assert (found["sessions"], found["runs"], found["listed"]) == (6, 15, 6)
    assert found["largest"][0]["session_id"] == "order-5"
    assert found["percentiles"]["100"]["runs"] == 5
    assert found["run_bytes"] > found["metadata_bytes"] > 0
    assert shell.lines("stats")[0].startswith("sessions  6   runs 15")
    assert shell.json("stats", "--sample", "2")[0]["is_sample"] is True


def test_verify_says_what_is_wrong_repairs_it_and_deletes_nothing_unasked(
    shell: Shell, redis_server: RedisServer
) -> None:
    client = redis_server.client()
    client.zrem("sessioncache:index:all", "order-1")
    client.hset("sessioncache:{order-2}:meta", "count", "x")

    status, out, _ = shell("verify")
    assert status == 1
    assert "unlisted" in out
    assert "counters" in out
    assert "2 problems, nothing was changed" in out
    assert shell("verify", "--repair")[0] == 2  # nobody to ask
    status, out, _ = shell("verify", "--repair", "--yes")
    assert (status, "1 repaired" in out) == (1, True)
    assert client.exists("sessioncache:{order-2}:meta")
    assert shell("verify", "--delete-damaged")[0] == 2
    assert shell("verify", "--repair", "--delete-damaged", "--yes")[0] == 0
    assert not client.exists("sessioncache:{order-2}:meta")
    assert shell.json("verify")[-1]["summary"]["problems"] == 0


def test_doctor_finds_nothing_wrong_and_leaves_nothing(shell: Shell, redis_server: RedisServer) -> None:
    before = sorted(redis_server.client().keys("*"))
    findings = shell.json("doctor")

    assert {finding["verdict"] for finding in findings} <= {"ok", "warn"}
    assert {"round trip", "server", "writable", "eviction", "rights", "a session"} <= {
        finding["about"] for finding in findings
    }
    assert sorted(redis_server.client().keys("*")) == before


def test_doctor_names_the_rights_that_are_missing(shell: Shell, redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-zadd", "-scan")
    try:
        url = shell.url.replace("unix://", "unix://app:pw@").replace("redis://", "redis://app:pw@")
        status, out, _ = Shell(url)("doctor")
    finally:
        client.execute_command("ACL", "DELUSER", "app")

    assert status == 1
    assert "fail rights       ZADD is refused: allow it by ACL SETUSER: +zadd" in out
    assert "warn rights       SCAN is refused" in out


# --- export, import


def a_session_of_all_values(session_id: str) -> WorkflowSession:
    """Make a session that holds every kind of value."""
    run = a_run_of("r", Message(role="user", content="hello"), at=5)
    run.metadata = dict(VALUES)
    return a_session(session_id, [run], user_id="u", workflow_id="w", metadata=dict(VALUES))


@pytest.mark.parametrize("name", ["sessions.jsonl", "sessions.jsonl.gz"])
def test_what_is_exported_and_imported_is_equal(
    shell: Shell, store: SessionCache, tmp_path: Path, name: str
) -> None:
    store.upsert_session(a_session_of_all_values("values"))
    for line in GOLDEN.read_text().splitlines():
        store.upsert_session(WorkflowSession.from_dict(json.loads(line)))
    file = tmp_path / name

    assert shell("export", str(file))[0] == 0
    (report,) = shell.json("--prefix", "copy", "import", str(file))

    before = {each.session_id: each for each in store.iter_sessions()}
    assert report == {"imported": len(before), "already_there": 0, "failed": 0}
    with SessionCache.from_url(shell.url, prefix="copy") as copy:
        assert {each.session_id: each for each in copy.iter_sessions()} == before
        for session_id in before:
            one, other = store.get_session(session_id), copy.get_session(session_id)
            assert one is not None
            assert other is not None
            assert one.to_dict() == other.to_dict()
        assert copy.verify().problems == []
    assert shell.json("--prefix", "copy", "import", str(file))[0]["already_there"] == len(before)


def test_an_export_that_was_cut_off_is_gone_on_with(
    shell: Shell, store: SessionCache, tmp_path: Path
) -> None:
    for suffix in ("jsonl", "jsonl.gz"):
        file = tmp_path / f"e.{suffix}"
        assert shell("export", str(file))[0] == 0
        whole = file.read_bytes()
        file.rename(part := tmp_path / f"e.{suffix}.part")
        part.write_bytes(whole[: len(whole) * 2 // 3])

        assert shell("export", str(file))[0] == 2
        assert shell("export", str(file), "--resume")[0] == 0

        data = gzip.decompress(file.read_bytes()) if suffix.endswith("gz") else file.read_bytes()
        ids = [json.loads(line)["session_id"] for line in data.splitlines()]
        assert sorted(ids) == [f"order-{number}" for number in range(6)]
        assert not part.exists()
        assert shell("export", str(file))[0] == 2  # never over what is there


def test_a_full_disk_leaves_nothing_half_written(shell: Shell) -> None:
    status, _, err = shell("export", "/dev/full")

    assert status == 1
    assert len(err.splitlines()) == 1
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 imported"),
        (b"not json\n", "is no export"),
        (b'{"a": 1}\n', "is no export"),
        (b"\x00\x01\x02\n", "is no export"),
        (b'{"session_id": "s", "runs": []', "is cut off"),
        (b'{"session_id": "s"}\n{"session_id": 5}\n', "f:2: there is no session in it"),
        (b'{"session_id": "s"}\n{"session_id": "t", "metadata": {"$bytes": "%"}}\n', "f:2: "),
    ],
)
def test_an_import_of_something_else_is_told(shell: Shell, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    status, out, err = shell("--prefix", "copy", "import", str(file))

    assert said in out + err
    assert status == (0 if "0 imported" in said else 1)
    assert "Traceback" not in err


def test_a_gzip_that_is_cut_off_is_told(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "f.gz"
    file.write_bytes(gzip.compress(b'{"session_id": "s"}\n' * 1000)[:-20])
    status, _, err = shell("--prefix", "copy", "import", str(file))

    assert (status, "is cut off or no gzip" in err) == (1, True)


@pytest.mark.parametrize("command", ["export - --user ada", "ls --all", "stats", "verify"])
def test_a_server_that_goes_away_is_told_with_its_status(command: str, tmp_path: Path) -> None:
    from support.servers import RedisServer  # noqa: PLC0415 - one of its own

    with RedisServer() as server:
        url = server.url
    status, out, err = Shell(url)(*command.split())

    assert (status, out) == (3, "")
    assert len(err.splitlines()) == 1


# --- delete, touch, rename


def test_delete_asks_shows_and_deletes(shell: Shell, store: SessionCache) -> None:
    status, out, err = shell("delete", "--user", "ada", "--dry-run")
    assert (status, out) == (0, "would delete 3 sessions with 9 runs\n")
    assert "order-5  5 runs" in err
    assert shell("delete", "--user", "ada")[0] == 2
    assert store.get_session("order-1") is not None
    assert shell.json("delete", "--user", "ada", "--yes") == [{"deleted": 3}]
    assert [each.session_id for each in store.iter_sessions()] == ["order-0", "order-2", "order-4"]
    assert shell("delete", "--older-than", "1d", "--yes")[0] == 1  # there is none
    assert shell("delete", "order-0", "nobody", "--yes")[0] == 1
    assert store.get_session("order-0") is not None
    assert shell("delete", "order-0", "--yes")[0] == 0
    assert shell("delete")[0] == 2
    assert shell("delete", "--older-than", "soon")[0] == 2


def test_touch_and_rename(shell: Shell, store: SessionCache) -> None:
    assert shell("touch", "order-1", "--ttl", "2h")[0] == 0
    assert 7000 < (store.get_ttls(["order-1"])[0] or 0) <= 7200
    assert shell("touch", "order-1", "--ttl", "none")[0] == 0
    assert store.get_ttls(["order-1"]) == [float("inf")]
    assert shell("rename", "order-1", "Better")[0] == 0
    assert [row["session_id"] for row in shell.json("ls", "--name", "better")] == ["order-1"]


# --- keys


def test_keys_are_rotated_and_sealed_sessions_are_looked_into(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (f"{name}={base64.b64encode(name.encode() * 8).decode()}" for name in ("old1", "new1"))
    assert shell("rotate-keys")[0] == 2
    monkeypatch.setenv("SESSIONCACHE_KEYS", old)
    assert shell("show", "order-3")[0] == 1
    assert shell.json("rotate-keys", "--accept-plain") == [{"sessions": 6}]
    monkeypatch.setenv("SESSIONCACHE_KEYS", f"{new},{old}")
    assert shell.lines("rotate-keys") == ["6 sessions were sealed anew"]
    monkeypatch.setenv("SESSIONCACHE_KEYS", new)
    assert shell.json("rotate-keys") == [{"sessions": 0}]
    assert shell.json("show", "order-3")[0]["metadata"] == {"channel": "web", "priority": "normal"}
    assert shell.json("verify")[-1]["summary"]["problems"] == 0
    assert shell.json("stats")[0]["formats"] == {"sealed": 5}
    monkeypatch.setenv("SESSIONCACHE_KEYS", "new=short")
    status, _, err = shell("ls")
    assert (status, "short" in err) == (2, False)


# --- usage


@pytest.mark.parametrize(
    "command", ["show", "history", "touch --ttl 1h", "rename x", "watch", "delete --yes"]
)
def test_an_unknown_session_is_one_clear_line(shell: Shell, command: str) -> None:
    name, *options = command.split()
    if name == "rename":
        options = ["New"]
    status, out, err = shell(name, "nobody", *options)

    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "nobody" in err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--url", "nonsense", "ls"], 2),
        (["--url", "redis://localhost:1/0", "ls"], 3),
        (["--prefix", "{", "ls"], 2),
        (["ls", "--limit", "x"], 2),
        (["ls", "--created-after", "tomorrow-ish"], 2),
        (["watch"], 2),
        (["import"], 2),
        (["import", "/nowhere/at/all"], 1),
        (["unknown"], 2),
    ],
)
def test_wrong_usage_has_its_status(shell: Shell, arguments: list[str], status: int) -> None:
    done = process(*arguments, SESSIONCACHE_URL=shell.url)
    _, err = done.communicate(timeout=30)

    assert done.returncode == status
    assert "Traceback" not in err


def test_options_may_stand_behind_the_command(shell: Shell) -> None:
    done = process("ls", "--url", shell.url, "--json", "--limit", "1")

    assert json.loads(done.communicate(timeout=30)[0])["session_id"] == "order-5"


# --- a cluster


@pytest.mark.cluster
def test_every_command_works_on_a_cluster(cluster: RedisCluster, tmp_path: Path) -> None:
    shell = Shell(cluster.url)
    with SessionCache.from_url(cluster.url) as cache:
        for number in range(20):
            cache.upsert_session(make_session(f"s{number}", runs=2, user_id="ada"))
    file = str(tmp_path / "f.jsonl")

    assert len(shell.json("ls", "--all")) == 20
    assert len(shell.json("ls")) == 20
    assert shell.json("show", "s1")[0]["run_count"] == 2
    assert len(shell.lines("history", "s1")) > 4
    assert (shell.json("stats")[0]["sessions"], shell.json("stats")[0]["runs"]) == (20, 40)
    assert shell.json("verify")[-1]["summary"]["problems"] == 0
    assert {each["verdict"] for each in shell.json("doctor")} <= {"ok", "warn"}
    assert shell("export", file)[0] == 0
    assert shell.json("--prefix", "copy", "import", file)[0]["imported"] == 20
    assert shell("touch", "s1", "--ttl", "1h")[0] == shell("rename", "s1", "N")[0] == 0
    assert shell("watch", "s1", "--for", "0.1")[0] == 0
    assert shell.json("delete", "--user", "ada", "--yes") == [{"deleted": 20}]


def test_ten_thousand_sessions_are_exported_in_little_memory(
    store: SessionCache, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Of the sizes that sessions have: most are short."""
    chance = random.Random(5)
    for number in range(10_000):
        runs = [a_run(f"r{each}", at=each + 1, content="x" * 400) for each in range(chance.choice((0, 1, 3)))]
        store.upsert_session(WorkflowSession(f"s{number}", user_id=f"u{number % 50}", runs=runs))
    code = (
        "import sys; from sessioncache.cli.commands import commands\n"
        "try: commands(sys.argv[1:])\n"
        "finally: print(*[line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line])"
    )

    def peak(*arguments: str) -> float:
        command = [sys.executable, "-c", code, "--url", redis_server.url, *arguments]
        return (
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]) / 1024
        )

    started = time.monotonic()
    file = str(tmp_path / "all.jsonl.gz")
    assert peak("export", file) < 200
    assert peak("--prefix", "copy", "import", file) < 200
    assert time.monotonic() - started < 120
    with SessionCache.from_url(redis_server.url, prefix="copy") as copy:
        pairs: Callable[[SessionCache], Any] = lambda cache: sorted(  # noqa: E731
            (each.session_id, each.user_id, each.run_count, each.updated_at) for each in cache.iter_sessions()
        )
        assert pairs(copy) == pairs(store)
