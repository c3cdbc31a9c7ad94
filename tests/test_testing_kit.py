"""The pytest plugin, as a user's project uses it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sessioncache import SessionCache
from sessioncache.testing import make_session

if TYPE_CHECKING:
    from support.servers import RedisServer

PROJECT = """
import asyncio
import pytest
from sessioncache import OutcomeUnknownError, SessionCache, UnavailableError, WorkflowRunOutput

def test_stores(session_cache, make_session):
    session_cache.upsert_session(make_session("s", runs=3))
    assert len(session_cache.get_session("s").runs) == 3

def test_is_empty_again(session_cache):
    assert session_cache.list_sessions().total == 0

@pytest.mark.session_cache(max_runs=2)
def test_takes_options(session_cache, make_session):
    session_cache.upsert_session(make_session("s", runs=3))
    assert len(session_cache.get_session("s").runs) == 2

def test_async_is_on_the_same_sessions(session_cache, async_session_cache, make_session):
    session_cache.upsert_session(make_session("s"))
    found = asyncio.run(async_session_cache.get_session("s"))
    assert found.session_id == "s"

def test_down(session_cache, session_cache_faults, async_session_cache):
    with session_cache_faults.down():
        with pytest.raises(UnavailableError):
            session_cache.get_session("s")
        with pytest.raises(UnavailableError):
            asyncio.run(async_session_cache.get_session("s"))
    assert session_cache.get_session("s") is None

def test_lost_reply(session_cache, session_cache_faults, make_session):
    with session_cache_faults.lost_reply():
        with pytest.raises(OutcomeUnknownError):
            session_cache.upsert_session(make_session("s"))
        session_cache.upsert_session(make_session("t"))
    assert session_cache.get_session("s") is not None

def test_slow(session_cache, session_cache_faults):
    import time
    started = time.monotonic()
    with session_cache_faults.slow(0.05):
        session_cache.get_session("s")
    assert time.monotonic() - started >= 0.05

@pytest.mark.session_cache(timeout=0.1)
def test_too_slow(session_cache, session_cache_faults):
    with session_cache_faults.slow(5), pytest.raises(UnavailableError):
        session_cache.get_session("s")

def test_full(session_cache, session_cache_faults, make_session):
    session_cache.upsert_session(make_session("s"))
    with session_cache_faults.full():
        with pytest.raises(UnavailableError):
            session_cache.upsert_run("s", WorkflowRunOutput(run_id="r"))
        assert session_cache.get_session("s") is not None

def test_damaged(session_cache, session_cache_faults, make_session):
    session_cache.upsert_session(make_session("s"))
    with session_cache_faults.damaged("s"):
        assert session_cache.get_session("s") is None
    assert session_cache.get_session("s") is not None

def test_counted(session_cache, session_cache_faults, make_session):
    session_cache.upsert_session(make_session("s"))
    with session_cache_faults.counted() as trips:
        session_cache.get_session("s")
        assert trips == 1
        session_cache.get_runs("s")
    assert trips == 2
    assert trips < 3

def test_faults_reach_caches_that_the_application_makes(session_cache_faults):
    own = SessionCache.from_url("memory://app")
    with session_cache_faults.down(), pytest.raises(UnavailableError):
        own.ping()
"""
PASSED = PROJECT.count("def test_")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(PROJECT)
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the tests of a project in a process of its own."""
    return project.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", *options)


def test_a_project_uses_it(project: pytest.Pytester) -> None:
    run(project).assert_outcomes(passed=PASSED)


def test_so_it_does_in_parallel(project: pytest.Pytester) -> None:
    run(project, "-n", "2").assert_outcomes(passed=PASSED)


def test_on_a_real_server_nothing_is_left(project: pytest.Pytester, redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.flushall()
    client.set("mine", 1)

    run(project, f"--session-cache-url={redis_server.url}").assert_outcomes(passed=PASSED)

    assert client.keys("*") == [b"mine"]


def test_nothing_is_imported_until_a_fixture_is_used() -> None:
    names = "sessioncache redis fakeredis"
    code = f"import pytest_sessioncache, sys; print([n for n in {names.split()} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_samples_are_realistic_and_the_same_each_time() -> None:
    one, other = (make_session("s", runs=4, user_id="u") for _ in range(2))

    assert one.to_dict() == other.to_dict()
    assert [len(run.step_executor_runs[0].messages) for run in one.runs or []] == [5] * 4  # type: ignore[index]
    assert make_session().session_id != make_session().session_id


def test_a_fault_of_a_session_that_is_not_there_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(session_cache_faults):
            with session_cache_faults.damaged("nobody"):
                pass
        """
    )
    result = run(pytester)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*session_cache has no session 'nobody'*"])


def test_the_session_cache_class_is_as_it_was_afterwards() -> None:
    assert SessionCache._transport_class._perform.__module__ == "sessioncache.transport.blocking"
