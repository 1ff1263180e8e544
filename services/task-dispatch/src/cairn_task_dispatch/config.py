"""Settings of task-dispatch."""

from __future__ import annotations

from pydantic import Field

from cairn_kit.database import PlanCacheMode
from cairn_kit.settings import ChassisSettings

_STORE_COMMITS_WITHIN = 10.0
"""Seconds that annotation-store gives a submission from its first statement to its commit."""
PLAN_CACHE_MODE: PlanCacheMode = "force_generic_plan"
"""Statements are planned once, for a project as they are on average.

Planned for the project at hand, one that is too new for the planner's statistics is taken for a single row, which may be
found by any index: each lease then reads the whole project. And planning a lease takes longer than finding it."""


class DispatchSettings(ChassisSettings):
    """What task-dispatch may be told from outside, besides what every service is told."""

    service_name: str = "task-dispatch"
    plan_cache_mode: PlanCacheMode = PLAN_CACHE_MODE
    consumer_batch: int = Field(default=2000, ge=1, le=5000)
    """Events in one transaction. A batch is two dozen statements one after the other, however large it is: on
    a busy machine most of its time is their waiting for a processor. So who is behind takes in more at a time."""

    expiry_grace: float = Field(default=20.0, gt=_STORE_COMMITS_WITHIN)
    """Seconds after a lease's end before annotation-store is asked about it.

    The store judges by the INSERT of an answer whether it is in time, and shows the answer to the question once that
    transaction has committed: within ten seconds, or not at all. The other ten are for the COMMIT itself, which no
    time-out of PostgreSQL ends, and for the difference of the two databases' clocks. An answer that took longer would
    be in time while its slot is somebody else's already (P2)."""
    expiry_every: float = Field(default=1.0, gt=0)
    """Seconds between looks for leases that are over."""
    stream_look_every: float = Field(default=1.0, gt=0)
    """Seconds until a stream of leases without work looks by itself: what other replicas opened wakes nobody here."""
    expiry_retry: float = Field(default=5.0, gt=0)
    """Seconds until a lease is asked about again when annotation-store was out of reach."""
    expiry_batch: int = Field(default=500, ge=1, le=10000)
    """The most leases asked about in one call; the API allows 10,000."""
