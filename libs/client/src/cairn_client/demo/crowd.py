"""A simulated crowd whose error model is simple enough to be said on screen."""

from __future__ import annotations

import random
from dataclasses import dataclass

DIGITS = tuple("0123456789")
LOOKALIKES = {
    "0": "6", "1": "7", "2": "7", "3": "8", "4": "9", "5": "6", "6": "5", "7": "1", "8": "3", "9": "4",
}  # fmt: skip
LEAST_CARE, MOST_CARE = 0.80, 0.98
LOOKALIKE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class SimulatedLabeler:
    """Right with probability `care`; else the look-alike digit or any other. A spammer answers at random."""

    name: str
    care: float
    spammer: bool
    seed: int

    def answer(self, item: str, truth: str) -> str:
        """What this labeler says of an item: the same whenever they are asked."""
        chance = random.Random(f"{self.seed}/{self.name}/{item}")
        if self.spammer:
            return chance.choice(DIGITS)
        if chance.random() < self.care:
            return truth
        if chance.random() < LOOKALIKE_SHARE:
            return LOOKALIKES[truth]
        return chance.choice([digit for digit in DIGITS if digit != truth])


def crowd(labelers: int, spammers: int, seed: int) -> list[SimulatedLabeler]:
    """A crowd of `labelers`, of whom `spammers` do not look at the items."""
    chance = random.Random(seed)
    return [
        SimulatedLabeler(
            name=f"{'spammer' if place < spammers else 'labeler'}-{place:02d}",
            care=chance.uniform(LEAST_CARE, MOST_CARE),
            spammer=place < spammers,
            seed=seed,
        )
        for place in range(labelers)
    ]


def error_model(labelers: int, spammers: int) -> str:
    """The model in words."""
    return (
        f"The crowd is simulated: {labelers - spammers} labelers, each right with a probability of their own between"
        f" {LEAST_CARE:.0%} and {MOST_CARE:.0%}; a wrong answer is the look-alike digit (1 and 7, 3 and 8, 4 and 9,"
        f" ...) in {LOOKALIKE_SHARE:.0%} of cases, else any other digit; and {spammers} spammers who answer at"
        " random. The same labeler always gives the same answer to the same item."
    )
