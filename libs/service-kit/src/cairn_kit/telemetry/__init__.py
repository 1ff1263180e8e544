"""One trace from a call to the last event it causes; numbers for dashboards; logs that name their trace."""

from cairn_kit.telemetry.logs import configure_logging, get_logger
from cairn_kit.telemetry.metrics import Metrics
from cairn_kit.telemetry.tracing import configure_tracing, context_of, current_context, trace_id, traceparent

__all__ = [
    "Metrics",
    "configure_logging",
    "configure_tracing",
    "context_of",
    "current_context",
    "get_logger",
    "trace_id",
    "traceparent",
]
