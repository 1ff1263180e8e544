"""The numbers that every service shows on /metrics, in Prometheus' words and units."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

__all__ = ["GaugeMetricFamily", "Metrics"]


class Metrics:
    """One registry a service, so that several services can live in one process. Add your own to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.rpcs = Counter("cairn_rpc", "Calls answered.", ["method", "code"], registry=own)
        self.rpc_seconds = Histogram(
            "cairn_rpc_seconds", "Time to answer a call.", ["method"], buckets=_FAST, registry=own
        )
        self.rpcs_in_flight = Gauge("cairn_rpcs_in_flight", "Calls being answered.", registry=own)
        self.rpcs_limit = Gauge(
            "cairn_rpcs_limit", "Calls, streams aside, that may be answered at once.", registry=own
        )
        self.published = Counter("cairn_events_published", "Events acknowledged by the bus.", registry=own)
        self.outbox_waiting = Gauge("cairn_outbox_waiting", "Events not yet published.", registry=own)
        self.outbox_lag = Gauge(
            "cairn_outbox_lag_seconds", "Age of the oldest event not yet published.", registry=own
        )
        self.consumer_waiting = Gauge(
            "cairn_consumer_waiting", "Messages on the bus not yet handled.", registry=own
        )
        self.consumer_lag = Gauge(
            "cairn_consumer_lag_seconds",
            "Age of the oldest event of the batch handled last; 0 when nothing waits.",
            registry=own,
        )
        self.consumed = Counter("cairn_events_consumed", "Events handled, once each.", ["type"], registry=own)
        self.duplicates = Counter("cairn_events_duplicate", "Deliveries the inbox ignored.", registry=own)
        self.handler_seconds = Histogram(
            "cairn_handler_seconds", "Time of one batch, commit included.", buckets=_FAST, registry=own
        )
        self.event_lag = Histogram(
            "cairn_event_lag_seconds",
            "From an event's commit to the commit of its effect.",
            buckets=(*_FAST, 30.0, 60.0, 300.0),
            registry=own,
        )
        self.handler_failures = Counter(
            "cairn_handler_failures", "Events whose handler raised, alone.", ["type"], registry=own
        )
        self.not_yet = Counter("cairn_events_not_yet", "Events put off by NotYet.", ["type"], registry=own)
        self.dead_letters = Counter(
            "cairn_dead_letters", "Events given up, by reason.", ["reason"], registry=own
        )
        self.shares_kept = Gauge(
            "cairn_shares_kept",
            "Of the sixteen shares of all projects, those that this replica keeps; where projects are shared out.",
            registry=own,
        )
        self.background_failures = Counter(
            "cairn_background_failures", "Background jobs that raised.", ["job"], registry=own
        )

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
