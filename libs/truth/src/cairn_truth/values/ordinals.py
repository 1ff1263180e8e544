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
from ..classes.hierarchical import HierarchicalDawidSkene, Reliabilities
from ..classes.votes import Votes
from ..columns import Floats
from ..live_answers import Answered, Evidence, LabelerAccuracy, LiveAnswers

ALGORITHM = "HierarchicalDawidSkene on steps"

VERSION = "1"
"""Changes whenever the same answers may give another rating; it is written into every label's provenance."""


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

    def at_most(self, step: int, low: int) -> float:
        """Return the chance that the truth is at ``step`` or below, on a scale that begins at ``low``."""
        return min(sum(self.probabilities[: max(step - low + 1, 0)]), 1.0)


class LiveRatings(LiveAnswers[int, Rated, LabelerAccuracy]):
    """Live ratings of a question whose steps are ``low`` to ``high``, both of them steps; items and labelers by name.

    For scales of few steps, each answered often: on long ones (`LiveNumbers`) a step is too rare to have a confusion.
    """

    def __init__(self, low: int, high: int, model: HierarchicalDawidSkene | None = None) -> None:
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}; expected low below high")
        self.low, self.high = low, high
        self._model = model or HierarchicalDawidSkene()
        super().__init__()
        self._adopt((), {})

    @property
    def steps(self) -> int:
        """How many steps the scale has."""
        return self.high - self.low + 1

    def reliability(self, labeler: str) -> LabelerAccuracy:
        """Return a labeler's chance to name the very step; the crowd's for one never fitted."""
        row = self._rows.get(labeler)
        likelihood = self._known_of.population[0] if row is None else self._known_of.likelihood[row]
        seen = 0.0 if row is None else float(self._known_of.counts[row].sum())
        accuracy = float(self._known_of.prior @ np.diagonal(likelihood))
        return self._accuracy(labeler, accuracy, seen + self._model.skill_strength)

    def _checked(self, answer: int) -> int:
        if not np.isfinite(answer) or int(answer) != answer or not self.low <= answer <= self.high:
            raise ValueError(f"step is {answer}; expected a whole number in {self.low}..{self.high}")
        return int(answer)

    def _join(self, votes: Sequence[tuple[str, int]]) -> Rated:
        if not votes:
            return self._rated(self._known_of.prior, (), np.zeros(0), sure=0.0)
        rows = [self._rows.get(who, len(self._rows)) for who, _ in votes]
        spoken = self._log_likelihood[rows, [step - self.low for _, step in votes]]
        spoken = spoken / self._model.design_effect(np.array(len(votes)))
        posterior = softmax(np.log(self._known_of.prior) + np.add.reduce(spoken, axis=0))
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
            tuple(sorted(parts, key=lambda part: (-part.weight, part.labeler))),
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
        known = self._model.fit(votes, gold=gold).reliabilities
        return {
            "likelihood": known.likelihood,
            "counts": known.counts,
            "population": known.population,
            "prior": known.prior,
        }

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        known = self._model.cold(self.steps)
        if fitted:
            if "prior" not in fitted or fitted["prior"].shape != (self.steps,):
                raise ValueError(
                    f"the saved state is not of ratings in {self.steps} steps; expected one that is"
                )
            parts = ("likelihood", "counts", "population", "prior")
            known = Reliabilities(*(fitted[name] for name in parts))
        super()._adopt(labelers, fitted)
        self._known_of = known
        # The population follows the labelers: whoever is not known speaks as one of it.
        self._log_likelihood = np.log(np.concatenate([known.likelihood, known.population]))
