"""`doctor`: whether Redis is as this library wants it, and what to do if not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import isfinite
from typing import Final, NamedTuple
from uuid import uuid4

import typer

from sessioncache import SessionCache, SessionCacheError, WorkflowRunOutput, WorkflowSession
from sessioncache.operations.diagnosis import OPTIONAL, ServerInfo, diagnose

from .access import WRONG, AsJson, Prefix, Url, opened, telling
from .output import Output

OLDEST: Final = (6, 2)
SKEW_SECONDS: Final = 1.0
SLOW_SECONDS: Final = 0.005


class Finding(NamedTuple):
    """A line of the doctor: `ok`, `warn` or `fail`, what it is about, and what to do."""

    verdict: str
    about: str
    text: str


@telling
def doctor(url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """Check the server, its settings, this user's rights, and a session of its own; a line each."""
    output = Output(as_json=as_json)
    worst = "ok"
    with opened(url, prefix) as cache:
        for finding in _findings(cache):
            if as_json:
                output.item(finding._asdict())
            else:
                style = {"ok": "green", "warn": "yellow", "fail": "bold red"}[finding.verdict]
                output.finding(finding.verdict, style, f"{finding.about:<12} {finding.text}")
            worst = "fail" if "fail" in (worst, finding.verdict) else worst
    if worst == "fail":
        raise typer.Exit(WRONG)


def _findings(cache: SessionCache) -> Iterator[Finding]:
    taken = min(cache.ping() for _ in range(5))
    slow = " (a lookup takes as long: is it far away?)" if taken > SLOW_SECONDS else ""
    yield Finding("warn" if slow else "ok", "round trip", f"{taken * 1000:.2f} ms{slow}")
    for server in cache._run(diagnose):  # noqa: SLF001 - no call of the public API
        yield from _of_server(server)
    yield _own_session(cache)


def _of_server(server: ServerInfo) -> Iterator[Finding]:
    yield _version(server)
    yield _role(server)
    yield _eviction(server)
    yield _persistence(server)
    yield from _replicas(server)
    skew = f"{server.skew * 1000:+.0f} ms to this machine"
    late = abs(server.skew) > SKEW_SECONDS
    advice = ": times of sessions are the server's; run NTP on both" if late else ""
    yield Finding("warn" if late else "ok", "clock", skew + advice)
    yield from _rights(server)


def _version(server: ServerInfo) -> Finding:
    info = server.info
    name = "valkey" if "valkey_version" in info else "redis"
    version = info.get("valkey_version") or info.get("redis_version")
    if version is None:
        return Finding(
            "warn", "server", f"{server.name}: it does not say what it is (INFO: allow it by +info)"
        )
    mode = info.get("redis_mode") or info.get("server_mode") or "standalone"
    text = f"{name} {version}, {mode}, at {server.name}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "redis" and numbers < OLDEST:
        return Finding("fail", "server", f"{text}: 6.2 is the oldest that works; upgrade it")
    return Finding("ok", "server", text)


def _role(server: ServerInfo) -> Finding:
    role = server.info.get("role", "master")
    if role != "master":
        return Finding("fail", "writable", f"no: it is a {role}; connect to the master, or through Sentinel")
    return Finding("ok", "writable", "yes, it is a master")


def _eviction(server: ServerInfo) -> Finding:
    policy = server.info.get("maxmemory_policy") or server.config.get("maxmemory-policy")
    limit = server.info.get("maxmemory_human", "unknown")
    if policy is None:
        return Finding("warn", "eviction", "unknown: INFO and CONFIG are not permitted")
    text = f"{policy}, maxmemory {'none' if limit == '0B' else limit}"
    if policy.startswith("allkeys"):
        return Finding("warn", "eviction", f"{text}: sessions may vanish; set maxmemory-policy noeviction")
    return Finding("ok", "eviction", text)


def _persistence(server: ServerInfo) -> Finding:
    has_log = server.info.get("aof_enabled") == "1" or server.config.get("appendonly") == "yes"
    save = server.config.get("save")
    if has_log:
        return Finding("ok", "persistence", "append-only file")
    if save is None:
        return Finding("warn", "persistence", "no append-only file; whether it saves is not known (CONFIG)")
    if save:
        return Finding("ok", "persistence", f"snapshots ({save}); the last minutes are lost in a crash")
    return Finding("warn", "persistence", "none: all is lost in a restart; set appendonly yes")


def _replicas(server: ServerInfo) -> Iterator[Finding]:
    replicas = server.info.get("connected_slaves", "0")
    least = server.config.get("min-replicas-to-write")
    if replicas == "0":
        yield Finding("ok", "replicas", "none")
    elif least in (None, "0"):
        advice = "writes may be lost in a failover; set min-replicas-to-write"
        yield Finding("warn", "replicas", f"{replicas}, min-replicas-to-write {least or 'unknown'}: {advice}")
    else:
        yield Finding("ok", "replicas", f"{replicas}, min-replicas-to-write {least}")


def _rights(server: ServerInfo) -> Iterator[Finding]:
    for name in server.refused:
        right = f"+{name.lower()}"
        if name in OPTIONAL:
            yield Finding(
                "warn", "rights", f"{name} is refused: {OPTIONAL[name]} need it (ACL SETUSER: {right})"
            )
        else:
            yield Finding("fail", "rights", f"{name} is refused: allow it by ACL SETUSER: {right}")
    if not server.refused:
        yield Finding("ok", "rights", "all commands that are needed are permitted")


def _own_session(cache: SessionCache) -> Finding:
    """Write, read and delete a session of its own."""
    session_id = f"doctor-{uuid4().hex}"
    started = time.perf_counter()
    try:
        cache.upsert_session(WorkflowSession(session_id))
        cache.touch_session(session_id, 60)
        cache.upsert_run(session_id, WorkflowRunOutput(run_id="r", input="?", content="!"))
        session = cache.get_session(session_id)
        is_right = session is not None and [run.content for run in session.runs or []] == ["!"]
        cache.delete_session(session_id)
        cache.list_sessions()  # takes it off the index
    except SessionCacheError as exc:
        return Finding("fail", "a session", f"{type(exc).__name__}: {exc}")
    taken = time.perf_counter() - started
    if not is_right or not isfinite(taken):
        return Finding("fail", "a session", "what was read is not what was written")
    return Finding("ok", "a session", f"written, read and deleted in {taken * 1000:.1f} ms")
