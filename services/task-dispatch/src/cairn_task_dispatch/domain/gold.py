"""Where gold is placed among the tasks handed out: by chance, so that no labeler can tell it by its position."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

CIRCLE = 2**62
"""Gold tasks lie at random places in [0, CIRCLE); a request looks from a place of its own onwards, and around."""


@dataclass(frozen=True, slots=True)
class GoldDraw:
    """For each task of a request, in order, whether it is to be gold; and where to begin looking for gold."""

    is_gold: list[bool]
    start: int


def draw_gold(share: float, tasks: int, *entropy: str) -> GoldDraw:
    """Draw each task of a request as gold with probability `share`, the same way for the same entropy.

    `entropy` is what names the request: tenant, project, labeler, and its id. Whoever knows the seed but not the
    gold set learns nothing: that a task was drawn does not say which.
    """
    seed = hashlib.sha256("\0".join(entropy).encode()).digest()
    chance = random.Random(seed)
    return GoldDraw([chance.random() < share for _ in range(tasks)], chance.randrange(CIRCLE))
