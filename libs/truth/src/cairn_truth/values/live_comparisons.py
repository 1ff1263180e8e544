"""What live preferences and live rankings share: habits of labelers and strengths of candidates, kept by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from ..columns import Floats, checked_name
from ..live_answers import A, Answered, J, LiveAnswers, packed, unpacked
from .bradley_terry import BradleyTerryFit, Habits, HierarchicalBradleyTerry, strangers
from .comparisons import Comparisons, Rows
from .strengths import GUESS, NamedStrengths, Variances

TRUTH_WEIGHT = 20.0
"""A known truth speaks like so many average labelers who all agree: as good as certain, and the model stays concave."""

_ACCURACY_STRENGTH = 5.0
"""Judgements that the crowd's accuracy counts for in a labeler's own."""

_STRANGER = 0.5
"""Accuracy of a labeler before anything was fitted, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class LabelerHabits:
    """A labeler over ``votes`` answers: chance that a judgement is right with its 95 % credible interval, and why.

    ``care``: discrimination, 1 for the crowd's average, 0 for one who does not look; ``lean``: log-odds for what is
    at the left; ``neither``: log-odds of neither against either of two equals.
    """

    labeler: str
    votes: int
    accuracy: float
    low: float
    high: float
    care: float
    lean: float
    neither: float


class LiveComparisons(LiveAnswers[A, J, LabelerHabits], Generic[A, J]):
    """Live state whose answers are, or imply, comparisons of two candidates."""

    def __init__(self, ties: bool) -> None:
        super().__init__()
        self.ties = ties
        self._adopt((), {})

    def _settings(self) -> str:
        return f"ties={self.ties}"

    @abstractmethod
    def _compared(self, answered: Sequence[Answered[A]], labelers: tuple[str, ...]) -> Comparisons:
        """Return all comparisons that the answers and known truths are or imply."""

    @abstractmethod
    def _told(self, fit: BradleyTerryFit) -> Mapping[str, Floats]:
        """Return what a fit says of items, as arrays by name: what the other items' answers tell each."""

    def reliability(self, labeler: str) -> LabelerHabits:
        """Return what is known of a labeler; the crowd's average for one never fitted."""
        seen = self._of(checked_name("labeler", labeler), "judged", 0.0) + _ACCURACY_STRENGTH
        crowd = float(self._fitted["accuracy_of_all"][0]) if self._fitted else _STRANGER
        known = self._accuracy(labeler, self._of(labeler, "accuracy", crowd), seen)
        habit = self._habit(labeler)
        return LabelerHabits(labeler, known.votes, known.accuracy, known.low, known.high, *habit)

    def _learn(self, answered: Sequence[Answered[A]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        fit = HierarchicalBradleyTerry().fit(self._compared(answered, labelers))
        known, habits = fit.strengths_by_name(), fit.habits
        variances = fit.variances
        return {
            "habits": habits.mean,
            "habits_covariance": habits.covariance,
            "crowd": habits.crowd,
            "crowd_variance": habits.variance,
            "variances": np.array([variances.strength, variances.across, variances.pair, variances.alike]),
            "within": known.within,
            "across": known.across,
            "candidates": packed(fit.comparisons.candidates),
            "everywhere": packed(fit.comparisons.everywhere),
            **_accuracies(fit),
            **self._told(fit),
        }

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        super()._adopt(labelers, fitted)
        if not fitted:
            self._habits, self._strengths = strangers(), _unknown()
            return
        self._habits = Habits(
            fitted["habits"], fitted["habits_covariance"], fitted["crowd"], fitted["crowd_variance"]
        )
        self._strengths = NamedStrengths(
            {(group, name): row for row, (group, name) in enumerate(unpacked(fitted["candidates"]))},
            {name: row for row, name in enumerate(unpacked(fitted["everywhere"]))},
            fitted["within"],
            fitted["across"],
            Variances(*(float(part) for part in fitted["variances"])),
        )

    def _habit(self, labeler: str) -> list[float]:
        """Return a labeler's care, lean and neither."""
        row = self._rows.get(labeler)
        habit: list[float] = (self._habits.crowd if row is None else self._habits.mean[row]).tolist()
        return habit

    def _seats(self, labelers: Sequence[str]) -> Rows:
        """Return rows of labelers; -1 for one never fitted."""
        return np.array([self._rows.get(who, -1) for who in labelers], dtype=np.int64)


def _unknown() -> NamedStrengths:
    return NamedStrengths({}, {}, np.zeros((0, 2)), np.zeros((0, 2)), GUESS)


def _accuracies(fit: BradleyTerryFit) -> Mapping[str, Floats]:
    """Return the chance of each labeler's judgements to be right, leaning on the crowd's, and how many there were."""
    columns = fit.comparisons
    judged = columns.labeler >= 0
    labeler, weight = columns.labeler[judged], columns.weight[judged]
    right = fit.right()[columns.pair[judged], columns.outcome[judged]]
    people = len(columns.labelers)
    seen = np.bincount(labeler, weights=weight, minlength=people)
    were = np.bincount(labeler, weights=weight * right, minlength=people)
    crowd = (were.sum() + _STRANGER) / (seen.sum() + 1.0)
    accuracy = (were + _ACCURACY_STRENGTH * crowd) / (seen + _ACCURACY_STRENGTH)
    return {"accuracy": np.clip(accuracy, 0.0, 1.0), "judged": seen, "accuracy_of_all": np.array([crowd])}
