"""Where an item goes: to a model alone, or to people, and how soon.

The bound is `cairn_truth.routing.thresholds`'; here it is decided when to spend on it and what follows.

    OFF       the project has no question that can be routed, or does not want it
    LEARNING  --a validation round passes--> AUTO
    AUTO      --another version is promoted--> LEARNING
    AUTO      --drift, a failed audit, by hand--> STOPPED
    STOPPED   --resumed, or after drift on more evidence, and then a round passes--> AUTO
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from cairn_truth.routing.drift import embedding_drift, score_drift
from cairn_truth.routing.thresholds import LetThrough, ThresholdDecision, choose_threshold, spend
from cairn_truth.routing.wager import fewest_items

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

_DOUBT_SHARE = 0.1
"""Of alpha. People's doubt in the sample counts as error of the model: it may take a tenth, the model needs the rest."""

RANDOM_SHARE = 0.1
"""Items asked in random order whatever the model thinks: it cannot talk itself out of a blind spot."""

_FRESH_SHARE = 1.25
"""A round after the first needs a quarter more evidence, or another version: looking twice costs delta."""

_SIGNIFICANCE = 0.0005
"""Of each of the two tests of drift: a false alarm in a thousand, for both are repeated through a project's life."""

DRIFT_SCORES = 20_000
"""The most new items whose scores are compared with the sample's: of more, a smaller shift would be found than matters."""

DRIFT_FEATURES = 500
"""Of each side, the most items whose features are compared."""


def uniform(key: bytes, *parts: str) -> float:
    """A number in [0, 1) that is fixed by the parts, and unpredictable without the key.

    Whether an item is of the validation sample is settled by it before anyone has looked at the item.
    """
    digest = blake2b("\x1f".join(parts).encode(), key=key[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def sampling_odds(share: float) -> float:
    """How many items are drawn into the validation sample for each that is left to the model."""
    return share / (1.0 - share)


def lot(chance: float, share: float) -> float:
    """What an item draws when it comes: it is of the validation sample below the odds of the share in force.

    ``chance`` is `uniform`, ``share`` the one in force. Those alone judge a model whose lot is below the odds of the
    smallest share ever in force: of a share ``s`` that is ``(1 - s)`` of the items times a constant, and ``(1 - s)`` is
    what is left to the model. So whatever shares there were, those that judge are like those that are judged.
    """
    return chance / (1.0 - share)


def first_priority(hint: float, chance: float) -> float:
    """Priority of an item that no model has seen: the importer's hint, and chance among equals; 0 to 0.9."""
    return _HIGHEST * (0.99 * min(max(hint, 0.0), 1.0) + 0.01 * chance)


def margin_priority(margins: Floats, chance: Floats) -> Floats:
    """Priorities ``(n,)``: the smaller the lead of the best class over the second ``(n,)``, the sooner.

    Margin sampling (Scheffer et al., IDA 2001) with a random share; ``chance`` ``(n,)`` is `uniform`.
    """
    at_random = chance < RANDOM_SHARE
    return np.asarray(_HIGHEST * np.where(at_random, chance / RANDOM_SHARE, 1.0 - margins))


def certainty_wanted(alpha: float) -> float:
    """How sure people should be of the validation sample, of which a bound of `alpha` is to be shown."""
    return 1.0 - _DOUBT_SHARE * alpha


@dataclass(frozen=True, slots=True)
class Evidence:
    """The validation items that a round may use, as the serving version and people see them.

    The serving version's scores of its answers ``(n,)``, the answers as class indices ``(n,)``, people's posteriors ``(n,
    classes)``, and whether an item has been let through before ``(n,)``. `earlier_errors` ``(m,)`` are people's doubts
    in the answers with which the ``m`` items that were let through before went: often another version's.
    """

    scores: Floats
    predicted: Ints
    posteriors: Floats
    through: NDArray[np.bool_]
    earlier_errors: Floats

    @property
    def errors(self) -> Floats:
        """The probability ``(n,)`` that each answer is wrong, by people alone; 0 or 1 where a reviewer has judged."""
        mine = self.posteriors[np.arange(self.predicted.size), self.predicted]
        return np.asarray(np.clip(1.0 - mine, 0.0, 1.0))

    def foreseen_errors(self) -> Floats:
        """What `errors` will probably be ``(n,)``, told from scores and people's certainty alone.

        The model says what people say, unless it errs by its own account; then an answer is right with the chance of
        people's second best. That people err, too, is in their doubt already.
        """
        first, second = np.sort(self.posteriors, axis=1)[:, :-3:-1].T
        right = self.scores * first + (1.0 - self.scores) * second
        return np.asarray(np.clip(1.0 - right, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Promise:
    """What a round tests: error at most `alpha` in a pool that has `pool_items` beside the sample, with the share of
    `delta` that falls to the round."""

    alpha: float
    delta: float
    round_number: int
    pool_items: int

    @property
    def round_delta(self) -> float:
        """The chance of being wrong that this round may take."""
        return spend(self.delta, self.round_number)


def round_is_due(items: int, promise: Promise, *, same_version: bool, evidence_before: int) -> bool:
    """Whether `items` validation items that people have settled are worth a look for a round.

    ``same_version`` says that the last round judged the same version, on ``evidence_before`` items.
    """
    if same_version and items < _FRESH_SHARE * evidence_before:
        return False
    return items >= fewest_items(promise.alpha, promise.round_delta)


def is_worth_holding(evidence: Evidence, promise: Promise, *, coverage_now: float) -> bool:
    """Whether a round would probably pass and gain: each round that fails has spent its share of delta.

    Foreseen from the scores and from how unsure people are, never from whether they agree with what is judged; what was
    let through before has been paid for by the rounds that did. ``coverage_now`` is the share at or above the
    threshold in force, 0 when there is none.
    """
    foreseen = _decide(evidence, evidence.foreseen_errors(), promise)
    return covered(evidence, foreseen.threshold) > 1.1 * coverage_now


def hold_round(evidence: Evidence, promise: Promise) -> ThresholdDecision:
    """Choose the threshold of a round. People's doubt in an answer counts as that much of an error, whatever mistakes
    they share with the model."""
    return _decide(evidence, evidence.errors, promise)


def covered(evidence: Evidence, threshold: float) -> float:
    """The share of the sample at or above a threshold."""
    return float((evidence.scores >= threshold).mean()) if evidence.scores.size else 0.0


def _decide(evidence: Evidence, errors: Floats, promise: Promise) -> ThresholdDecision:
    """The lowest threshold at which two wagers are won: on this version alone, and on all that was ever let through.

    The first is about what is still to come, which is like the whole sample. The second keeps the promise over versions:
    it goes on from what earlier ones let through, with the items that they left. Both have the round's share of delta.
    """
    pool_items = max(promise.pool_items, 1)
    alone = choose_threshold(
        evidence.scores, errors, alpha=promise.alpha, delta=promise.round_delta, pool_items=pool_items
    )
    if not (alone.allows_any and evidence.earlier_errors.size):
        return alone
    waits = ~evidence.through
    return choose_threshold(
        evidence.scores[waits],
        errors[waits],
        alpha=promise.alpha,
        delta=promise.delta,
        earlier=LetThrough(evidence.earlier_errors, rounds=promise.round_number - 1),
        among=alone.passing,
        pool_items=pool_items,
    )


def drift_is_due(new_items: int, tested_before: int) -> bool:
    """Whether enough items came since drift was last tested: 50, and half as many again each time."""
    return new_items >= max(50, 1.5 * tested_before)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model sees of items: its scores ``(n,)``, and the features ``(m, dim)`` of a random part of them."""

    scores: Floats
    features: NDArray[np.float32]


def drifted(validation: Seen, new: Seen) -> str:
    """Why new items no longer look like the validation sample, in words; empty when they do.

    Scores tell what matters to the threshold; features tell of items of which the model is as sure, and wrong.
    """
    test = score_drift(validation.scores, new.scores, significance=_SIGNIFICANCE)
    if test.drifted:
        return (
            f"The scores of {new.scores.size} new items are not distributed like those of the "
            f"{validation.scores.size} validation items (Kolmogorov-Smirnov distance {test.statistic:.3f}, "
            f"p = {test.p_value:.2g})."
        )
    # The seed is fixed, so that the same items give the same answer.
    chance = np.random.default_rng(0)
    test = embedding_drift(validation.features, new.features, chance, significance=_SIGNIFICANCE)
    if test.drifted:
        return (
            f"The features of {len(new.features)} new items are not distributed like those of "
            f"{len(validation.features)} validation items (energy distance {test.statistic:.3f} of the spread, "
            f"p = {test.p_value:.2g})."
        )
    return ""


def goes_auto(scores: Floats, threshold: float | None) -> NDArray[np.bool_]:
    """Which answers ``(n,)`` may stand alone: those at or above the threshold in force, none when there is none."""
    if threshold is None:
        return np.zeros(scores.shape, dtype=np.bool_)
    return np.asarray(scores >= threshold)  # an item without a score is NaN, and never reaches it
