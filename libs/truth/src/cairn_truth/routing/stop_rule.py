"""When to stop asking: after each answer, is one more worth its cost?"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ..columns import Floats, check_instance, check_probability, real_number, shares, whole_number
from .wager import ROUNDING

_LOOK_AHEAD = (1, 2, 3, 5, 8)
"""Answers ahead at which a gain is looked for: one alone often cannot turn a decision, a few can."""

_TYPICAL_INFORMATION = 1.3
"""What an answer tells when nothing is known of who will give it: the variance of its log-likelihood ratio.

It is that of a labeler right 77 % of the time between two classes.
"""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Verdict(enum.Enum):
    """What to do with an item now."""

    DONE = "DONE"
    ASK = "ASK"
    DISPUTED = "DISPUTED"


class StopReason(enum.Enum):
    """Why asking stopped."""

    TARGET_REACHED = "TARGET_REACHED"
    NOT_WORTH_ASKING = "NOT_WORTH_ASKING"
    ALL_ANSWERS_IN = "ALL_ANSWERS_IN"
    CAP_REACHED = "CAP_REACHED"


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """What a project wants: a floor and a cap of answers, a target, and what an answer is worth.

    ``answer_cost`` is the share of a wrong label that one answer may cost. The gain is estimated with caution (a
    typical labeler, ever less to learn), hence the low price: at 0.0001 replayed crowds already lose labels that
    further answers put right. ``fixed`` asks for exactly ``max_answers``.
    """

    target_confidence: float = 0.95
    min_answers: int = 2
    max_answers: int = 10
    answer_cost: float = 0.00002
    fixed: bool = False

    def __post_init__(self) -> None:
        check_probability("target_confidence", self.target_confidence)
        check_instance("fixed", self.fixed, (bool, np.bool_), "True or False")
        real_number("answer_cost", self.answer_cost, least=0.0)
        least, most = (
            whole_number("min_answers", self.min_answers),
            whole_number("max_answers", self.max_answers),
        )
        if not 1 <= least <= most:
            raise ValueError(
                f"min_answers is {self.min_answers} and max_answers {self.max_answers}; expected 1 <= min <= max"
            )

    @property
    def asked_in_any_case(self) -> int:
        """The answers that are asked for whatever they say."""
        return self.max_answers if self.fixed else self.min_answers


@dataclass(frozen=True, slots=True)
class StopDecision:
    """``answers_wanted`` counts all answers of people, those given included; it is never below those given."""

    verdict: Verdict
    answers_wanted: int
    reason: StopReason | None
    confidence: float
    expected_gain: float


def decide(
    posterior: ArrayLike,
    answers: int,
    policy: StopPolicy,
    *,
    correlation: float,
    information: float = _TYPICAL_INFORMATION,
) -> StopDecision:
    """Decide after an answer. ``posterior`` ``(classes,)``; ``answers`` given by people, models not counted.

    One number ``(1,)`` is the confidence in an answer whose rivals are not told. ``correlation`` is the model's, by which
    later answers tell less; ``information`` is what the next answer is expected to tell. Raises ValueError for a
    posterior that is none and for numbers of no sense.
    """
    chances = _posterior(posterior)
    given = whole_number("answers", answers)
    check_instance("policy", policy, StopPolicy, "a StopPolicy")
    _check_outlook(correlation, information)
    return decide_unchecked(chances, given, policy, correlation=correlation, information=information)


def decide_unchecked(
    chances: Floats,
    given: int,
    policy: StopPolicy,
    *,
    correlation: float,
    information: float = _TYPICAL_INFORMATION,
) -> StopDecision:
    """Decide as `decide` does, for a caller who has made the posterior itself: to check it takes as long as to decide."""
    confidence = float(chances.max())
    if given < policy.asked_in_any_case:
        return StopDecision(Verdict.ASK, policy.asked_in_any_case, None, confidence, 0.0)
    if policy.fixed:
        return StopDecision(Verdict.DONE, given, StopReason.ALL_ANSWERS_IN, confidence, 0.0)
    if confidence >= policy.target_confidence:
        return StopDecision(Verdict.DONE, given, StopReason.TARGET_REACHED, confidence, 0.0)
    if given >= policy.max_answers:
        return StopDecision(Verdict.DISPUTED, given, StopReason.CAP_REACHED, confidence, 0.0)
    gain = _gain(chances, given, correlation, information)
    if gain < policy.answer_cost:
        return StopDecision(Verdict.DONE, given, StopReason.NOT_WORTH_ASKING, confidence, gain)
    return StopDecision(Verdict.ASK, given + 1, None, confidence, gain)


def expected_gain(
    posterior: ArrayLike, answers: int, *, correlation: float, information: float = _TYPICAL_INFORMATION
) -> float:
    """Return the best expected gain in P(label is right) per further answer, looking a few answers ahead.

    ``posterior`` ``(classes,)``, or the confidence alone ``(1,)``: then its rival has the rest, one half at most. Of the
    two most probable classes, the log-odds move as a Gaussian whose mean is half its variance under the truth; the variance
    is the information added by ``m`` answers, which correlation makes less with every answer given. That a third class
    may yet win is left out. Without information nothing is gained. Raises ValueError for a posterior that is none, for
    a correlation outside 0..1, and for information that is none.
    """
    chances = _posterior(posterior)
    given = whole_number("answers", answers)
    _check_outlook(correlation, information)
    return _gain(chances, given, correlation, information)


def _gain(posterior: Floats, answers: int, correlation: float, information: float) -> float:
    first, second = _leaders(posterior)
    p = min(first / (first + second), 1.0 - 1e-9)
    odds = math.log(p / (1.0 - p))
    half, spread = _moves(answers, correlation, information)
    if_right, if_wrong = _leads(odds + half + spread), _leads(odds - half + spread)
    gain = (first + second) * ((p * if_right + (1.0 - p) * if_wrong) @ _WEIGHTS - p)
    return float(max(0.0, (gain / _LOOK_AHEAD).max()))


@lru_cache(maxsize=4096)
def _moves(answers: int, correlation: float, information: float) -> tuple[Floats, Floats]:
    """Return how log-odds move with the answers ahead: half the variance ``(ahead, 1)``, the spread ``(ahead, nodes)``."""
    ahead = np.array([_information(answers + m, correlation, information) for m in _LOOK_AHEAD])
    added = (ahead - _information(answers, correlation, information))[:, None]
    return added / 2.0, np.sqrt(added) * _NODES


def _leaders(posterior: Floats) -> tuple[float, float]:
    """Return the probabilities of the best class and of its rival: with one number, the likeliest that may be."""
    if posterior.size == 1:
        first = max(float(posterior[0]), 0.5)
        return first, 1.0 - first
    second, first = np.partition(posterior, -2)[-2:].tolist()
    return first, second


def _posterior(values: ArrayLike) -> Floats:
    chances = shares("posterior", values)
    if chances.ndim != 1 or not chances.size:
        raise ValueError(f"posterior has shape {chances.shape}; expected (classes,), one or more")
    total = float(chances.sum())
    if chances.size > 1 and abs(total - 1.0) > ROUNDING:
        raise ValueError(f"posterior sums to {total:g}; expected 1")
    return chances


def _check_outlook(correlation: float, information: float) -> None:
    real_number("correlation", correlation, least=0.0, most=1.0)
    real_number("information", information, least=0.0)


def _information(answers: int, correlation: float, each: float) -> float:
    return answers * each / (1.0 + correlation * max(answers - 1, 0))


def _leads(odds: Floats) -> Floats:
    """Return the probability of whichever class leads at these log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.abs(odds))))
