"""Settings of task-dispatch."""

from __future__ import annotations

from pydantic import Field, model_validator

from cairn_kit.settings import ChassisSettings


class DispatchSettings(ChassisSettings):
    """What task-dispatch may be told from outside, besides what every service is told."""

    service_name: str = "task-dispatch"

    expiry_grace: float = Field(default=40.0, ge=0)
    """Seconds after a lease's end before annotation-store is asked about it.

    The store judges by the INSERT of an answer whether it is in time, and shows the answer to the question once that
    transaction has committed. The grace must be above the longest time between the two, and the difference of the two
    databases' clocks: an answer that takes longer is in time while its slot is somebody else's already (P2). A single
    statement of the store may wait for `statement_timeout` (30), the least that the time between can be; the other ten
    seconds are for the COMMIT, which no time-out of PostgreSQL ends, and the clocks. That the statements between
    INSERT and COMMIT, and the pauses between them, stay below it together is the store's to see to."""
    expiry_every: float = Field(default=1.0, gt=0)
    """Seconds between looks for leases that are over."""
    expiry_retry: float = Field(default=5.0, gt=0)
    """Seconds until a lease is asked about again when annotation-store was out of reach."""
    expiry_batch: int = Field(default=500, ge=1, le=10000)
    """The most leases asked about in one call; the API allows 10,000."""

    @model_validator(mode="after")
    def _asks_only_when_answers_are_in(self) -> DispatchSettings:
        # The store's own time-out is not to be seen from here; it is a setting of the chassis, the same by default.
        if self.expiry_grace <= self.statement_timeout:
            raise ValueError(
                f"expiry_grace ({self.expiry_grace:g}) must be above statement_timeout ({self.statement_timeout:g}), here"
                " and in annotation-store: an answer in time may take that long to be seen."
            )
        return self
