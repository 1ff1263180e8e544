"""Ratings: steps of an ordered scale, each with its probability.

A step is a class: the posterior over steps is that of `HierarchicalDawidSkene`, whose labelers have a confusion each,
leaning on the crowd's. It knows the ends of the scale by itself, and what a bias, a slope or a favourite step does to
answers there. (A latent normal cut at thresholds, with bias, slope and spread for each labeler, was tried beside it:
real scales are not that regular.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..classes.dawid_skene import softmax
from ..classes.hierarchical import HierarchicalDawidSkene
from ..classes.votes import Votes
from ..columns import Floats, checked_name
from ..live_answers import Answered, Evidence, LabelerAccuracy, LiveAnswers, given_or, heaviest_first

ALGORITHM = "HierarchicalDawidSkene on steps"

VERSION = "3"
"""Changes whenever the same answers may give another rating; it is written into every label's provenance."""

_MODEL = HierarchicalDawidSkene(confusion_strength=4.0)
"""With two votes behind each row of a confusion, as for classes, the few that a labeler gave a step explain themselves:
of steps named at random, every second item was called sure. With four, one in twelve is, and recorded and made scales
alike are told better; with six, those of the recorded who have a habit of their own are seen through less well."""

MOST_STEPS = 1000
"""Of a longer scale, `LiveNumbers` knows that its steps are near each other; here each would be a class by itself."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating: ``value`` is the most probable step, of probability ``confidence``.

    ``expected`` and ``sd`` of the step; ``probabilities`` of each, from the lowest; ``answers``: how many there are.
    """

    value: int
    confidence: float
    expected: float
    sd: float
    probabilities: tuple[float, ...]
    answers: int
    evidence: tuple[Evidence, ...] = ()


class LiveRatings(LiveAnswers[int, Rated, LabelerAccuracy]):
    """Live ratings of a question whose steps are ``low`` to ``high``, both of them steps; items and labelers by name.

    For scales of few steps, each answered often: on long ones (`LiveNumbers`) a step is too rare to have a confusion.
    Raises ValueError for ends that are no whole numbers, and for more than `MOST_STEPS`.
    """

    def __init__(self, low: int, high: int, model: HierarchicalDawidSkene | None = None) -> None:
        ends: dict[str, object] = {"low": low, "high": high}
        for name, end in ends.items():
            if isinstance(end, bool) or not isinstance(end, int | np.integer):
                raise ValueError(f"{name} is {end!r}; expected a whole number")
        low, high = int(low), int(high)  # in NumPy's short types their difference would overflow
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}; expected low below high")
        if high - low >= MOST_STEPS:
            raise ValueError(f"{low} to {high} are {high - low + 1} steps; expected at most {MOST_STEPS}")
        self.low, self.high = low, high
        self._model = given_or("model", model, _MODEL)
        super().__init__()
        self._adopt((), {})

    @property
    def steps(self) -> int:
        """How many steps the scale has."""
        return self.high - self.low + 1

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return a labeler's chance to name the very step; the crowd's for one never fitted."""
        row = self._rows.get(checked_name("labeler", labeler), len(self._rows))
        accuracy = float(self._prior @ np.diagonal(self._confusion[row]))
        return self._accuracy(labeler, accuracy, float(self._seen[row]) + self._model.skill_strength)

    def _settings(self) -> str:
        model = "" if self._model == _MODEL else f", model={self._model}"
        return f"low={self.low}, high={self.high}{model}"

    def _checked(self, answer: int) -> int:
        said: object = answer
        number = isinstance(said, int | float | np.number) and not isinstance(said, bool)
        if not number or answer != np.floor(answer) or not self.low <= answer <= self.high:
            raise ValueError(f"step is {answer!r}; expected a whole number in {self.low}..{self.high}")
        return int(answer)

    def _join(self, votes: Sequence[tuple[str, int]]) -> Rated:
        if not votes:
            return self._rated(self._prior, (), np.zeros(0), sure=0.0)
        rows = [self._rows.get(who, len(self._rows)) for who, _ in votes]
        spoken = self._log_confusion[rows, :, [step - self.low for _, step in votes]]
        spoken = spoken / self._model.design_effect(np.array(len(votes)))
        posterior = softmax(np.log(self._prior) + np.add.reduce(spoken, axis=0))
        lead = int(posterior.argmax())
        rest = np.delete(posterior, lead)
        rest = rest / rest.sum() if rest.sum() > 0.0 else np.full(rest.size, 1.0 / rest.size)
        told = np.abs(spoken[:, lead] - np.delete(spoken, lead, axis=1) @ rest)
        return self._rated(posterior, votes, told / max(float(told.sum()), 1e-300))

    def _known(self, truth: int, votes: Sequence[tuple[str, int]]) -> Rated:
        certain = np.zeros(self.steps)
        certain[truth - self.low] = 1.0
        return self._rated(certain, votes, np.zeros(len(votes)), sure=1.0)

    def _rated(
        self,
        posterior: Floats,
        votes: Sequence[tuple[str, int]],
        weight: Floats,
        sure: float | None = None,
    ) -> Rated:
        at = np.arange(self.low, self.high + 1, dtype=np.float64)
        lead, expected = int(posterior.argmax()), float(posterior @ at)
        parts = [
            Evidence(who, 1.0 - abs(step - self.low - lead) / (self.steps - 1.0), float(share))
            for (who, step), share in zip(votes, weight, strict=True)
        ]
        return Rated(
            self.low + lead,
            min(float(posterior[lead]), 1.0) if sure is None else sure,
            expected,
            float(np.sqrt(posterior @ (at - expected) ** 2)),
            tuple(posterior.tolist()),
            len(votes),
            heaviest_first(parts),
        )

    def _learn(self, answered: Sequence[Answered[int]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        if not labelers:
            return {}
        place = {who: row for row, who in enumerate(labelers)}
        votes = Votes.of(
            np.repeat(np.arange(len(answered)), [len(one.votes) for one in answered]),
            [place[who] for one in answered for who, _ in one.votes],
            [step - self.low for one in answered for _, step in one.votes],
            classes=self.steps,
            items=len(answered),
            labelers=len(labelers),
        )
        gold = np.array([-1 if one.truth is None else one.truth - self.low for one in answered])
        fit = self._model.fit(votes, gold=gold)
        return {"confusion": fit.confusion, "stranger": fit.stranger, "seen": fit.seen, "prior": fit.prior}

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        none = np.zeros((0, self.steps, self.steps))
        known = fitted or {
            "confusion": none,
            "stranger": self._model.stranger(none),
            "seen": np.zeros(0),
            "prior": np.full(self.steps, 1.0 / self.steps),
        }
        # A stranger follows the labelers: whoever is not known speaks as one.
        self._confusion = np.concatenate([known["confusion"], known["stranger"][None]])
        self._log_confusion = np.log(self._confusion)
        self._seen = np.append(known["seen"], 0.0)
        self._prior = known["prior"]
        super()._adopt(labelers, fitted)
