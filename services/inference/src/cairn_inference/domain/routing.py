"""Where an item goes: to a model alone, or to people, and how soon.

The bound is `cairn_truth.routing.thresholds`'; here it is decided when to spend on it and what follows.

    OFF       the project has no question that can be routed, or does not want it
    LEARNING  --a validation round passes--> AUTO
    AUTO      --another version is promoted--> LEARNING
    AUTO      --drift, a failed audit, by hand--> STOPPED
    STOPPED   --resumed, or after drift on more evidence, and then a round passes--> AUTO
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from cairn_truth.routing.drift import score_drift
from cairn_truth.routing.thresholds import (
    ThresholdDecision,
    choose_threshold,
    model_errors,
    spend,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Route(IntEnum):
    """Where an item was sent; PENDING only while a threshold is in force and its score is on its way."""

    PENDING = 0
    AUTO = 1
    HUMAN = 2


class Stop(IntEnum):
    """Why automatic labeling is stopped. Drift may be outlived by evidence alone; the others need a person."""

    NONE = 0
    DRIFT = 1
    AUDIT = 2
    HAND = 3


VALIDATION_PRIORITY = 1.0
"""The bound waits for the validation sample, so people are given it first."""

_HIGHEST = 0.9
"""Everything else stays below the validation sample."""

RANDOM_SHARE = 0.1
"""Items asked in random order whatever the model thinks: it cannot talk itself out of a blind spot."""

_FRESH_SHARE = 1.25
"""A round after the first needs a quarter more evidence, or another version: looking twice costs delta."""


def uniform(key: bytes, *parts: str) -> float:
    """A number in [0, 1) that is fixed by the parts, and unpredictable without the key.

    Whether an item is of the validation sample is settled by it before anyone has looked at the item.
    """
    digest = blake2b("\x1f".join(parts).encode(), key=key[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def first_priority(hint: float, chance: float) -> float:
    """Priority of an item that no model has seen: the importer's hint, and chance among equals; 0 to 0.9."""
    return _HIGHEST * (0.99 * min(max(hint, 0.0), 1.0) + 0.01 * chance)


def margin_priority(margins: Floats, chance: Floats) -> Floats:
    """Priorities ``(n,)``: the smaller the lead of the best class over the second ``(n,)``, the sooner.

    Margin sampling (Scheffer et al., IDA 2001) with a random share; ``chance`` ``(n,)`` is `uniform`.
    """
    at_random = chance < RANDOM_SHARE
    return np.asarray(_HIGHEST * np.where(at_random, chance / RANDOM_SHARE, 1.0 - margins))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The validation items that a round may use: the serving version's scores of its answers ``(n,)``, the answers
    as class indices ``(n,)``, and people's posteriors ``(n, classes)``."""

    scores: Floats
    predicted: Ints
    posteriors: Floats


def fewest_items(alpha: float, delta: float) -> int:
    """The least number of validation items that can pass even without a single error."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def round_is_due(
    items: int,
    *,
    alpha: float,
    delta: float,
    round_number: int,
    same_version: bool,
    evidence_before: int,
) -> bool:
    """Whether ``items`` validation items that people have settled are worth a look for round `round_number`.

    ``same_version`` says that the last round judged the same version, on ``evidence_before`` items.
    """
    if same_version and items < _FRESH_SHARE * evidence_before:
        return False
    return items >= fewest_items(alpha, spend(delta, round_number))


def is_worth_holding(
    evidence: Evidence, *, alpha: float, delta: float, round_number: int, coverage_now: float
) -> bool:
    """Whether a round would probably pass and gain: each round that fails has spent its share of delta.

    Foreseen from the scores and from how unsure people are, never from whether they agree with the model.
    ``coverage_now`` is the share above the threshold in force, 0 when there is none.
    """
    foreseen = choose_threshold(
        evidence.scores, _foreseen_errors(evidence, alpha), alpha=alpha, delta=spend(delta, round_number)
    )
    return foreseen.coverage > 1.1 * coverage_now


def _foreseen_errors(evidence: Evidence, rate: float) -> Floats:
    """What each item will probably add to the round's count of errors ``(n,)``, counted as the round counts.

    The model and people differ where either errs; then an answer counts by how sure people are of theirs.
    """
    if not evidence.scores.size:
        return np.zeros(0)
    best = np.argsort(evidence.posteriors, axis=1)
    agree = _counted(*model_errors(evidence.posteriors, best[:, -1]), rate)
    differ = _counted(*model_errors(evidence.posteriors, best[:, -2]), rate)
    certainty = evidence.posteriors.max(axis=1)
    same = np.clip(evidence.scores * certainty, 0.0, 1.0)
    return np.asarray(same * agree + (1.0 - same) * differ)


def _counted(error: Floats, prior: Floats, rate: float) -> Floats:
    """How probably an answer is wrong if the model errs at ``rate``, by Bayes' rule (see cairn_truth.routing.thresholds)."""
    error, prior = np.clip(error, 1e-12, 1.0 - 1e-12), np.clip(prior, 1e-9, 1.0 - 1e-9)
    odds = error / (1.0 - error) * (1.0 - prior) / prior
    return np.asarray(rate * odds / (rate * odds + 1.0 - rate))


def hold_round(evidence: Evidence, *, alpha: float, delta: float, round_number: int) -> ThresholdDecision:
    """Choose the threshold of a round; people's uncertainty counts, model and people err independently given
    the truth."""
    error, prior = model_errors(evidence.posteriors, evidence.predicted)
    return choose_threshold(
        evidence.scores, error, alpha=alpha, delta=spend(delta, round_number), prior_error=prior
    )


def drift_is_due(new_items: int, tested_before: int) -> bool:
    """Whether enough items came since drift was last tested: 50, and half as many again each time."""
    return new_items >= max(50, 1.5 * tested_before)


def drifted(validation_scores: Floats, new_scores: Floats) -> str:
    """Why new items no longer look like the validation sample, in words; empty when they do."""
    test = score_drift(validation_scores, new_scores)
    if not test.drifted:
        return ""
    return (
        f"The scores of {new_scores.size} new items are not distributed like those of the "
        f"{validation_scores.size} validation items (Kolmogorov-Smirnov distance {test.statistic:.3f}, "
        f"p = {test.p_value:.2g})."
    )


def goes_auto(scores: Floats, threshold: float | None) -> NDArray[np.bool_]:
    """Which answers ``(n,)`` may stand alone: those at or above the threshold in force, none when there is none."""
    if threshold is None:
        return np.zeros(scores.shape, dtype=np.bool_)
    return np.asarray(scores >= threshold)  # an item without a score is NaN, and never reaches it
