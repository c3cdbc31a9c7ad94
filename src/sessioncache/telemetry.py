"""Traces and metrics of a cache by OpenTelemetry (extra `otel`).

    instrument(cache)

Names follow the stable semantic conventions of database clients. Each call is a span of kind CLIENT, named as
its method; what goes over the wire in it, and what came of it, are attributes that begin with `sessioncache`.
No id and no payload is recorded, unless ids are asked for.

Metrics:

    db.client.operation.duration      histogram, s        of each call
    sessioncache.conflicts            counter             writes refused, for the session or run changed
    sessioncache.damaged_sessions     observable counter  damaged sessions met by this process
    sessioncache.healed_index_entries observable counter  wrong entries of indexes corrected by this process
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer_provider

from sessioncache.operations.context import TALLY
from sessioncache.operations.observed import CallRecord

Instrumented = TypeVar("Instrumented", bound=Any)

NAME: Final = "sessioncache"

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
"""Bounds of the histogram, in seconds: from the time of a lookup to that of a timeout."""

CONFLICTS: Final = frozenset({"SessionConflictError", "StaleRunError"})


def instrument(
    cache: Instrumented,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    *,
    record_ids: bool = False,
) -> Instrumented:
    """Record a span and metrics of each call of a cache from now on; once is enough.

    Args:
        cache: A SessionCache, an AsyncSessionCache, or one of agno's Dbs of this library.
        tracer_provider: Where spans go; the global one if it is not given.
        meter_provider: Where metrics go; the global one if it is not given.
        record_ids: Whether spans, never metrics, have the id of the session as `sessioncache.session_id`.

    Returns:
        The cache.
    """
    if not any(isinstance(observer, OpenTelemetryObserver) for observer in cache.observers):
        observer = OpenTelemetryObserver(
            tracer_provider or get_tracer_provider(),
            meter_provider or get_meter_provider(),
            record_ids=record_ids,
        )
        cache.observers = (*cache.observers, observer)
    return cache


def uninstrument(cache: Instrumented) -> Instrumented:
    """Record nothing of a cache from now on; return the cache."""
    cache.observers = tuple(
        observer for observer in cache.observers if not isinstance(observer, OpenTelemetryObserver)
    )
    return cache


class OpenTelemetryObserver:
    """Makes a span and measurements of each call."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, *, record_ids: bool) -> None:
        self._tracer = tracers.get_tracer(NAME)
        self._record_ids = record_ids
        meter = meters.get_meter(NAME)
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._conflicts = meter.create_counter("sessioncache.conflicts", "{conflict}", "Writes refused.")
        for name, unit in (("damaged_sessions", "{session}"), ("healed_index_entries", "{entry}")):
            meter.create_observable_counter(f"sessioncache.{name}", [_observing(name)], unit)

    def started(self, name: str, subject: Any) -> Span:
        """Begin a span."""
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT)
        if self._record_ids and span.is_recording():
            session_id = subject if isinstance(subject, str) else getattr(subject, "session_id", None)
            if isinstance(session_id, str):
                span.set_attribute("sessioncache.session_id", session_id)
        return span

    def ended(self, token: Any, record: CallRecord) -> None:
        """End the span, and measure."""
        common = _common(record)
        self._duration.record(record.seconds, common)
        if record.error in CONFLICTS:
            self._conflicts.add(1, common)
        if isinstance(token, Span):
            if token.is_recording():
                token.set_attributes(common | _details(record))
                if record.error is not None:
                    token.set_status(Status(StatusCode.ERROR))
            token.end()


def _common(record: CallRecord) -> dict[str, str | int]:
    """Return the attributes of spans and metrics: few values each."""
    attributes: dict[str, str | int] = {
        "db.system.name": "redis",
        "db.operation.name": record.name,
        "db.namespace": str(record.db),
        "server.address": record.server,
        "server.port": record.port,
    }
    if not record.port:
        del attributes["server.port"]
    if not record.server:
        del attributes["server.address"]
    if record.error is not None:
        attributes["error.type"] = record.error
    return attributes


def _details(record: CallRecord) -> dict[str, str | int]:
    details: dict[str, str | int] = {
        "db.collection.name": record.prefix,
        "sessioncache.round_trips": record.round_trips,
        "sessioncache.bytes_sent": record.bytes_sent,
        "sessioncache.bytes_received": record.bytes_received,
        "sessioncache.retries": record.retries,
    }
    if record.runs is not None:
        details["sessioncache.runs_returned"] = record.runs
    if record.near_cache is not None:
        details["sessioncache.near_cache"] = record.near_cache
    return details


def _observing(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(TALLY.count(name))]
