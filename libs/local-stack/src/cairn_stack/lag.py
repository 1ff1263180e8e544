"""How far behind its events a service is, by its own metrics."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

_GAUGES = {
    "cairn_outbox_waiting": "unpublished",
    "cairn_outbox_lag_seconds": "unpublished_seconds",
    "cairn_consumer_waiting": "unhandled",
    "cairn_consumer_lag_seconds": "unhandled_seconds",
}
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Lag:
    """What a service has announced and not yet published, and what is published and not yet handled by it.

    `unpublished` counts events, `unhandled` messages, which hold one event or many; the seconds are the age of the oldest
    event that waits for the bus, and of the oldest in the batch that was handled last.
    """

    unpublished: int = 0
    unpublished_seconds: float = 0.0
    unhandled: int = 0
    unhandled_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds by which it is behind, on either side."""
        return max(self.unpublished_seconds, self.unhandled_seconds)


def lag_at(http: str) -> Lag | None:
    """The lag that `host:port` tells of on /metrics; None when it tells nothing."""
    try:
        with urllib.request.urlopen(f"http://{http}/metrics", timeout=_PATIENCE) as response:
            text: str = response.read().decode()
    except OSError:
        return None
    samples = (line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    found = {sample[0]: float(sample[1]) for sample in samples if sample[0] in _GAUGES}
    if not found:
        return None
    values = {field: found.get(name, 0.0) for name, field in _GAUGES.items()}
    return Lag(
        unpublished=int(values["unpublished"]),
        unpublished_seconds=values["unpublished_seconds"],
        unhandled=int(values["unhandled"]),
        unhandled_seconds=values["unhandled_seconds"],
    )
