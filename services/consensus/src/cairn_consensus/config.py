"""What consensus may be told from outside."""

from __future__ import annotations

from pydantic import Field

from cairn_kit.database.pool import PlanCacheMode
from cairn_kit.settings import ChassisSettings
from cairn_truth.measured.replay import FIRST_REFIT, REFIT_GROWTH


class ConsensusSettings(ChassisSettings):
    """Settings of consensus; every field is CAIRN_<FIELD> in the environment."""

    service_name: str = "consensus"

    plan_cache_mode: PlanCacheMode = "force_custom_plan"
    """A plan made while a project was small, and kept, reads all of its votes where a few items are asked for."""

    room_for_items: int = Field(default=96 << 20, ge=0)
    """Bytes of memory, about, for the items that are worked on: when they take more, those of the projects that were not
    used for longest are read again when they are needed."""

    refit_growth: float = Field(default=REFIT_GROWTH, gt=0)
    """Labelers' reliabilities are fitted again when a project's votes have grown by this share."""

    refit_min_votes: int = Field(default=FIRST_REFIT, ge=1)
    """The first refit waits for so many votes: fewer say nothing of any labeler."""
