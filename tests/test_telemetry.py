"""Traces and metrics of calls, through both clients; and records for those without OpenTelemetry."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from sessioncache import CallRecord, InvalidArgumentError, SessionCache, SessionConflictError
from sessioncache.telemetry import instrument, uninstrument
from support.facade import BlockingFacade
from support.samples import a_run, a_session


def bare(cache: Any) -> Any:
    """Return the cache itself."""
    return cache.wrapped if isinstance(cache, BlockingFacade) else cache


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def instrumented(cache: Any, spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> Any:
    """A cache whose calls are recorded, with session `s` of two runs, before anything is recorded."""
    cache.upsert_session(a_session("s", runs=2, user_id="u"))
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    instrument(bare(cache), tracers, MeterProvider([reader]))
    return cache


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the data points of each metric."""
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def test_a_call_is_a_span_by_the_conventions(instrumented: Any, spans: InMemorySpanExporter) -> None:
    instrumented.get_session("s", last_n_runs=1)

    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == (
        "get_session",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert attributes[db_attributes.DB_SYSTEM_NAME] == "redis"
    assert attributes[db_attributes.DB_OPERATION_NAME] == "get_session"
    assert attributes[db_attributes.DB_NAMESPACE].isdigit()
    assert attributes[server_attributes.SERVER_ADDRESS]
    assert attributes["sessioncache.round_trips"] == 1
    assert attributes["sessioncache.runs_returned"] == 1
    assert attributes["sessioncache.retries"] == 0
    assert attributes["sessioncache.bytes_received"] > attributes["sessioncache.bytes_sent"] > 0
    assert error_attributes.ERROR_TYPE not in attributes


def test_nothing_of_a_user_is_recorded(instrumented: Any, spans: InMemorySpanExporter) -> None:
    instrumented.upsert_run("s", a_run("secret", input="secret", user_id="u"))
    instrumented.get_run("s", "secret")

    texts = [str(span.to_json()) for span in spans.get_finished_spans()]
    assert len(texts) == 2
    assert not any("secret" in text for text in texts)


def test_ids_are_recorded_if_asked_for(cache: Any, spans: InMemorySpanExporter) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    instrument(bare(cache), tracers, MeterProvider(), record_ids=True)
    cache.upsert_session(a_session("s"))
    cache.get_session("s")

    ids = [(span.attributes or {})["sessioncache.session_id"] for span in spans.get_finished_spans()]
    assert ids == ["s", "s"]


def test_an_error_is_named_and_counted(
    instrumented: Any, spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    with pytest.raises(SessionConflictError):
        instrumented.upsert_session(a_session("s", user_id="u"), expect_rev=7)

    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[error_attributes.ERROR_TYPE] == "SessionConflictError"
    found = points(reader)
    assert [point.value for point in found["sessioncache.conflicts"]] == [1]
    (duration,) = found["db.client.operation.duration"]
    assert duration.count == 1
    assert 0 < duration.sum < 60
    assert duration.attributes[error_attributes.ERROR_TYPE] == "SessionConflictError"


def test_what_was_damaged_is_counted(
    instrumented: Any, reader: InMemoryMetricReader, admin: Any, caches: Any
) -> None:
    before = points(reader)["sessioncache.damaged_sessions"][0].value
    admin.hset(f"{caches.prefix}:{{s}}:meta", "count", "many")
    assert instrumented.get_session("s") is None

    assert points(reader)["sessioncache.damaged_sessions"][0].value == before + 1


def test_instrumented_twice_is_once_and_undone_is_none(
    instrumented: Any, spans: InMemorySpanExporter
) -> None:
    instrument(bare(instrumented))
    instrumented.ping()
    uninstrument(bare(instrumented))
    instrumented.ping()

    assert [span.name for span in spans.get_finished_spans()] == ["ping"]


def test_the_console_exporters_print_a_real_run(cache: Any) -> None:
    out = io.StringIO()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out)))
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=out), 3_600_000)
    meters = MeterProvider([reader])
    instrument(bare(cache), tracers, meters)
    cache.upsert_session(a_session("s", runs=2))
    cache.get_session("s")
    meters.shutdown()

    for expected in (
        '"name": "get_session"',
        '"sessioncache.runs_returned": 2',
        "db.client.operation.duration",
    ):
        assert expected in out.getvalue()


@pytest.mark.parametrize("near", [None, 2**20])
def test_a_record_tells_what_a_call_was(make_cache: Any, near: int | None) -> None:
    records: list[CallRecord] = []
    cache = make_cache(on_call=records.append, near_cache=near)
    cache.upsert_session(a_session("s", runs=3))
    for _ in range(2):
        cache.get_session("s")
    list(cache.iter_runs("s", page_size=2))

    assert [record.name for record in records[:3]] == ["upsert_session", "get_session", "get_session"]
    assert {record.name for record in records[3:]} == {"iter_runs"}
    assert [record.runs for record in records[1:3]] == [3, 3]
    outcomes = [record.near_cache for record in records[1:3]]
    assert outcomes == ([None, None] if near is None else ["misses", "validated_hits"])
    assert all(record.error is None and record.seconds > 0 for record in records)


def test_an_observer_that_fails_fails_no_call(make_cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "sessioncache")

    def fail(_: CallRecord) -> None:
        raise ZeroDivisionError

    assert make_cache(on_call=fail).ping() > 0
    assert "an observer of calls failed" in caplog.text


def test_on_call_must_be_callable() -> None:
    with pytest.raises(InvalidArgumentError, match="on_call"):
        SessionCache.from_url("memory://", on_call=1)  # type: ignore[arg-type]
