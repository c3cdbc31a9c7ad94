"""Rows of telemetry: what it adds to a call, in parts of what it may add."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmark.comparison import Row, Target
from benchmark.fixture import Fixture
from benchmark.systems import LAST
from benchmark.timing import Candidate, Pair, Sample, measure_all
from sessioncache import SessionCache

RUNS: Final = 100

ALLOWED_SECONDS: Final = 15e-6


async def _added(
    instrumented: Callable[[SessionCache], SessionCache], fixture: Fixture, seconds: float
) -> Pair:
    """Time a call with telemetry and without, in turn; return what is added, and what may be."""
    session_id = fixture.session(RUNS)
    cache = instrumented(SessionCache.from_url(fixture.url("cache")))
    with_it = Candidate(lambda _: cache.get_session(session_id, last_n_runs=LAST))
    without = Candidate(lambda _: fixture.cache.get_session(session_id, last_n_runs=LAST))
    ours, plain = await measure_all([with_it, without], seconds)
    added = [each - other for each, other in zip(ours.values, plain.values, strict=True)]
    return Pair(Sample(added), Sample([ALLOWED_SECONDS] * len(added)))


def _on_call(cache: SessionCache) -> SessionCache:
    return SessionCache(cache.transport, on_call=lambda _: None)


def _without_sdk(cache: SessionCache) -> SessionCache:
    from sessioncache.telemetry import instrument  # noqa: PLC0415 - slow to import, may be left out

    return instrument(cache)


def _with_sdk(cache: SessionCache) -> SessionCache:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from sessioncache.telemetry import instrument  # noqa: PLC0415

    return instrument(cache, TracerProvider(), MeterProvider())


_CALL: Final = f"get_session, last {LAST}, added by"

ROWS: Final = (
    Row(f"{_CALL} on_call", "15 µs", "", Target(1.0), partial(_added, _on_call)),
    Row(f"{_CALL} instrument, no SDK", "15 µs", "", Target(1.0), partial(_added, _without_sdk)),
    Row(f"{_CALL} instrument, SDK: spans, metrics", "15 µs", "", Target(1.0), partial(_added, _with_sdk)),
)
