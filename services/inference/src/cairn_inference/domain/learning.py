"""When to train, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_LABELS = 50
FEWEST_PER_CLASS = 10
"""Below this a head reads noise; its calibration would be guesswork."""

MOST_WANTED = 1000
"""With hundreds of classes some never come: this many labels start a model whatever the classes."""

FEWEST_CLASSES = 2
MOST_CLASSES = 1000
FEWEST_IN_CLASS = 3
"""A class with fewer labels cannot be in every fold's training part."""


@dataclass(frozen=True, slots=True)
class TrainingNeed:
    """Whether a model can be trained; ``lacking`` says in words what is in the way, and is empty when nothing is."""

    labels: int
    lacking: str
    reason: str = "TOO_FEW_LABELS"
    """The same as the API names it."""


def assess(counts: Sequence[int]) -> TrainingNeed:
    """Judge the finished labels of each class ``(classes,)`` that may be trained on."""
    labels = sum(counts)
    wanted = labels_wanted(len(counts))
    learnable = sum(1 for count in counts if count >= FEWEST_IN_CLASS)
    if len(counts) > MOST_CLASSES:
        return TrainingNeed(
            labels,
            f"There are {len(counts)} classes; a head is trained for {MOST_CLASSES} at most.",
            "TOO_MANY_CLASSES",
        )
    if labels < wanted:
        return TrainingNeed(labels, f"There are {labels} finished labels to train on; {wanted} are needed.")
    if learnable < FEWEST_CLASSES:
        return TrainingNeed(
            labels,
            f"Only {learnable} class has {FEWEST_IN_CLASS} labels or more; {FEWEST_CLASSES} classes are needed.",
        )
    return TrainingNeed(labels, "")


def labels_wanted(classes: int) -> int:
    """Labels that a first model needs: 50, and 10 for each class, but never more than 1,000."""
    return min(max(FEWEST_LABELS, FEWEST_PER_CLASS * classes), MOST_WANTED)


def is_due(need: TrainingNeed, labels_before: int, growth: float) -> bool:
    """Whether to train now: labels enough, and `growth` times as many as the last run had."""
    return not need.lacking and need.labels >= growth * labels_before
