"""OpenTelemetry traces, to a JSON-lines file, to an OTLP collector, to both or to neither."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from random import getrandbits
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, NoOpTracer, Span, SpanContext, TraceFlags, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT = "traceparent"
# W3C Trace Context: version, trace, span, flags. A caller chose it, so no more is carried on than that.
_FORM = re.compile("[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_NOT_SAMPLED = frozenset("02468ace")
"""What flags of which the first bit, sampled, is not set end with. Others may be: OpenTelemetry sets the second (random)."""
_SPANS_IN_HAND = 50_000  # two seconds of the busiest service; the SDK's 2,048 lose spans in a burst


class SilentTracer(NoOpTracer):
    """Makes spans that nobody records, with ids that travel: errors, logs and events still name their trace.

    The SDK takes 30 us to decide that a span is not recorded; this takes three.
    """

    def start_span(self, name: str, context: Context | None = None, *_: Any, **__: Any) -> Span:
        """A span with a new id, in the trace of its parent or in a new one."""
        parent = trace.get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else getrandbits(128) | 1
        flags = parent.trace_flags if parent.is_valid else TraceFlags.get_default()
        return NonRecordingSpan(SpanContext(trace_id, getrandbits(64) | 1, False, flags))


class SilentProvider:
    """What stands for a TracerProvider when spans go nowhere."""

    def get_tracer(self, _: str) -> Tracer:
        """The one tracer."""
        return SilentTracer()

    def shutdown(self) -> None:
        """Nothing to flush."""


def configure_tracing(
    service: str, *, spans_file: Path | None = None, otlp_endpoint: str | None = None, ratio: float = 1.0
) -> TracerProvider | SilentProvider:
    """A provider for one service; with no file and no endpoint spans carry ids and go nowhere.

    It is handed around, not installed globally, so that two services can live in one process (tests do that).
    """
    if spans_file is None and otlp_endpoint is None:
        return SilentProvider()
    # The SDK takes 0.2 s to import: only who records spans waits for it.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from cairn_kit.telemetry.spans_file import JsonLinesExporter

    provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        shutdown_on_exit=False,
    )
    if spans_file is not None:
        provider.add_span_processor(
            BatchSpanProcessor(
                JsonLinesExporter(spans_file), max_queue_size=_SPANS_IN_HAND, schedule_delay_millis=500
            )
        )
    if otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=otlp_endpoint, insecure=True))
        )
    return provider


def current_context() -> Context:
    """The context to hand to `announce(cause=...)` when the work goes on in another task."""
    return otel_context.get_current()


def trace_id(context: Context | None = None) -> str:
    """The trace id, 32 hex digits, or an empty string outside any trace."""
    span = trace.get_current_span(context).get_span_context()
    return format(span.trace_id, "032x") if span.is_valid else ""


def traceparent(context: Context | None = None) -> str:
    """The W3C traceparent of a context, or an empty string outside any trace."""
    span = trace.get_current_span(context).get_span_context()
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


def is_dropped(carried: str) -> bool:
    """Whether a W3C traceparent is of a trace that is not kept: a span for it would be made for nothing."""
    return carried[-1:] in _NOT_SAMPLED and carried[-3:-2] == "-"


def well_formed(carried: str) -> str:
    """A W3C traceparent as it was carried, or an empty string for what is none."""
    return carried if _FORM.fullmatch(carried) else ""


def context_of(carried: str | Mapping[str, str] | None) -> Context:
    """The context that a W3C traceparent (or headers with one) names; an empty context if it names none."""
    text = carried.get(TRACEPARENT) if isinstance(carried, Mapping) else carried
    found = _FORM.fullmatch(text or "")
    if found is None:
        return Context()
    of_trace, of_span, flags = (int(digits, 16) for digits in found.groups())
    remote = SpanContext(of_trace, of_span, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
