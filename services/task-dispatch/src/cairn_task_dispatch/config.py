"""Settings of task-dispatch."""

from __future__ import annotations

from pydantic import Field

from cairn_kit.settings import ChassisSettings


class DispatchSettings(ChassisSettings):
    """What task-dispatch may be told from outside, besides what every service is told."""

    service_name: str = "task-dispatch"

    expiry_grace: float = Field(default=10.0, ge=0)
    """Seconds after a lease's end before annotation-store is asked about it: an answer that began in time may still be
    on its way into the store's tables. Above the leeway and the statement time-out that the store gives answers."""
    expiry_every: float = Field(default=1.0, gt=0)
    """Seconds between looks for leases that are over."""
    expiry_retry: float = Field(default=5.0, gt=0)
    """Seconds until a lease is asked about again when annotation-store was out of reach."""
    expiry_batch: int = Field(default=500, ge=1, le=10000)
    """The most leases asked about in one call; the API allows 10,000."""
