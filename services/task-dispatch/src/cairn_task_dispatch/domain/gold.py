"""Where gold is placed among the tasks handed out: by a chance that no labeler can know."""

from __future__ import annotations

import random
from dataclasses import dataclass

CIRCLE = 2**62
"""Gold tasks lie at random places in [0, CIRCLE); a request looks from a place of its own onwards, and around."""


@dataclass(frozen=True, slots=True)
class GoldDraw:
    """Which tasks of a request are to be gold, and where to begin looking for it."""

    nth: list[int]
    """For each task, in order: which gold it is to be, counted from `start` and from 1; 0 for none."""
    start: int


def draw_gold(share: float, tasks: int, entropy: bytes) -> GoldDraw:
    """Draw each task of a request as gold with probability `share`, each for itself.

    Which of them comes first on the circle is drawn too: when there is less gold than was drawn, what there is would
    else stand in the first of these places. `entropy` must be fresh for each draw and unknown to whoever asks: they
    know the share and all that they sent, and could make the draw themselves.
    """
    chance = random.Random(entropy)
    drawn = [place for place in range(tasks) if chance.random() < share]
    chance.shuffle(drawn)
    nth = [0] * tasks
    for number, place in enumerate(drawn, 1):
        nth[place] = number
    return GoldDraw(nth, chance.randrange(CIRCLE))
