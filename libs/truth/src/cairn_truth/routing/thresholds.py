"""When a model may answer alone: thresholds on its score with a bound on the error they let through.

The promise is about every item ever labeled by a model in a project: its error rate is at most ``alpha`` with
confidence ``1 - delta``. It is kept by a wager against the hypothesis "more than ``alpha`` of them are wrong"
(testing by betting: Shafer 2021; Waudby-Smith & Ramdas 2024). Validation items are looked at in the order of their
scores, highest first. Each pays ``(1 - r) / (1 - alpha)`` if the model was right and ``r / alpha`` if it was wrong, for
a rate ``r`` below ``alpha`` that is bet on. An item that is wrong with probability ``alpha + x`` pays ``1 - k x`` on
average, ``k = (alpha - r) / (alpha (1 - alpha))``, which is at most ``exp(-k x)``. So the wealth times ``exp(k X)``, ``X``
being the sum of all ``x`` so far, never grows on average, however easy and hard items follow each other; it ever reaches
``1 / delta`` with probability at most ``delta`` (Ville 1939), and where the mean error rate of the items seen is above
``alpha``, ``X`` is positive and the wealth below it. A threshold passes if the wealth there is ``1 / delta``.

What follows:

* all thresholds may be tried, not only those down to the first failure: trying many of one sample costs nothing;
* how much a score exaggerates is of no weight, only the order it gives;
* uncertain truth is paid by its likelihood ratio: people's errors cost power, not validity.

Another look costs. Another version, or the same on a sample that has grown, is another wager with luck of its own, and
who looks until one is won wins too often. So rounds share delta (`spend`). The next round goes on from the validation
items let through before (`LetThrough`), for the promise is about all of them; what they won is staked again: a round
that passes hands its own share of delta on to the rounds after it, and one that fails has lost it. Every version's
walk then starts at a wealth that its stake bought, and the chance that any of them ends above alpha is delta in all.
That is exact where a round ends at the first failure after having passed, and counts it; to keep the last threshold
that passed is to look ahead a little, and the promise over rounds, unlike that of one, is then an argument and not a
proof. It is measured with versions that err anew on the items that wait, the worst there are: see the benchmark.

How uncertain truth counts is the caller's choice. Given only the probability, by people's votes, that each answer is
wrong, the worst is assumed: the model's agreement with people proves nothing, so each agreement still counts as that
much of an error. This holds whatever mistakes model and people share, and lets nothing through unless alpha is above
people's own doubt: validation items are worth more answers than others. Given also the error before anybody answered
(`prior_error`), the model and people are taken to err independently given the truth; by Bayes' rule an answer then pays
what people's votes say of it, and an item nobody looked at pays 1. That is for validators whose errors have nothing to do
with the model's. Of a crowd of laymen it is not true: what is hard for the model is hard for them, too (on
sentiment_text the bound was then broken in four runs of ten, see the benchmark).

What it leans on: the validation sample is a uniform one of the pool, never trained on; and when a retrained model is
judged on items seen before, those seen without being let through speak, if anything, against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import NoneType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import check_instance, check_probability, real_number, shares, whole_number, whole_numbers
from .wager import (
    Evidence,
    Wager,
    check_distributions,
    finite,
    log_wealth,
    probabilities,
    refuted_rate,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEVER = math.inf
"""The threshold that no score reaches: the model may not answer at all."""

_STEPS = 1.05
"""The evidence of a decision is told at selections that grow by 5 %: every one is tried, but not every one listed."""


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """Return the exact upper confidence bound of a binomial proportion (Clopper & Pearson 1934).

    ``errors`` of ``n`` trials were seen; the true rate exceeds the returned value with probability at most
    ``delta``. Nothing seen (``n == 0``) bounds nothing: 1.0.
    """
    _check_counts(errors, n)
    check_probability("delta", delta)
    if errors >= n:
        return 1.0
    return float(special.betaincinv(errors + 1, n - errors, 1.0 - delta))


def clopper_pearson_lower(errors: int, n: int, delta: float) -> float:
    """Return the exact lower confidence bound of a binomial proportion: below it with probability <=
    delta."""
    _check_counts(errors, n)
    check_probability("delta", delta)
    if errors == 0:
        return 0.0
    return float(special.betaincinv(errors, n - errors + 1, delta))


def spend(delta: float, round_number: int) -> float:
    """Return round ``k``'s share of an error budget, ``6 delta / (pi^2 k^2)``; rounds count from 1.

    The shares of all rounds that will ever be held sum to ``delta``, however many there are. `choose_threshold` takes
    its share itself where `LetThrough` is given.
    """
    check_probability("delta", delta)
    return 6.0 * delta / (math.pi**2 * float(whole_number("round_number", round_number, 1)) ** 2)


def model_errors(posterior: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Return ``(error_probability, prior_error)``, each ``(n,)``, of a model's answers on the validation
    sample.

    ``posterior`` ``(n, classes)`` is the truth by people's votes alone, ``predicted`` ``(n,)`` the model's class. The prior
    of a class is its mean posterior over the sample, which is a random one. ``prior_error`` is such that both together
    give the likelihood ratio wrong : right of people's votes; where nobody answered it equals ``error_probability``.

    Between two classes that ratio is known. Among more it depends on which class is the truth where the model errs, and
    people may mistake just the classes that the model mistakes: so it is that of the likeliest other class. But
    over all that people may say of a right answer the ratio is 1 on average, so that what they say with
    probability ``e`` speaks at most ``1 / e`` for an error: for ``e`` stands the doubt that is left in the posterior.
    """
    truth, answer = shares("posterior", posterior), whole_numbers("predicted", predicted)
    if truth.ndim != 2 or answer.shape != truth.shape[:1]:
        raise ValueError(
            f"posterior has shape {truth.shape} and predicted {answer.shape}; expected (n, c), (n,)"
        )
    if answer.size == 0:
        return np.zeros(0), np.zeros(0)
    _check_classes(answer, truth.shape[1])
    check_distributions("posterior", truth)
    rows = np.arange(answer.size)
    prior = np.clip(truth.mean(axis=0), 1e-6, 1.0 - 1e-6)
    mine = np.maximum(truth[rows, answer], 1e-12)
    rivals = truth / prior
    rivals[rows, answer] = 0.0
    likeliest = rivals.max(axis=1) * prior[answer] / mine
    on_average = (1.0 - mine) / mine * prior[answer] / (1.0 - prior[answer])
    most = np.maximum(on_average, 1.0 / np.maximum(1.0 - truth.max(axis=1), 1e-12))
    odds = np.minimum(likeliest, most)
    error = np.clip(1.0 - truth[rows, answer], 0.0, 1.0)
    sure = np.clip(error, 1e-12, 1.0 - 1e-12)
    return error, 1.0 / (1.0 + odds * (1.0 - sure) / sure)


def upper_bound(error_probability: ArrayLike, delta: float, *, prior_error: ArrayLike | None = None) -> float:
    """Return the upper bound on the error rate of a population of which these items are a random sample.

    Without ``prior_error`` the uncertain errors are added and rounded up: with probabilities of 0 and 1 only it equals
    `clopper_pearson_upper`. With it, it is the least rate against which the wager is won (see the module).
    """
    check_probability("delta", delta)
    error = probabilities("error_probability", error_probability)
    if prior_error is not None:
        return refuted_rate(Evidence.of(error, prior_error), Wager(0.5, delta, error.size))
    count = math.ceil(float(error.sum()) - 1e-6)  # A sum of certainties must not gain an error from rounding.
    return clopper_pearson_upper(min(count, error.size), error.size, delta)


@dataclass(frozen=True, slots=True)
class LetThrough:
    """The validation items that would be labeled by now, had they not been taken for validation.

    A validation item goes the way of any other: when its score reaches the threshold in force, the answer of that
    version is the one it is judged by ever after. ``error_probability`` ``(m,)`` and ``prior_error`` ``(m,)`` speak
    of these answers, as for `choose_threshold`.

    ``share`` is what part of the project's delta the last round had that let anything through (1: none has yet), and
    ``rounds`` how many were held since, in vain: the next one takes the next of that part's shares (`spend`). A decision
    holds both ready for the next round (`ThresholdDecision.let_through`). For the first of several rounds: ``LetThrough()``.
    """

    error_probability: ArrayLike = field(default_factory=lambda: np.zeros(0))
    prior_error: ArrayLike | None = None
    share: float = 1.0
    rounds: int = 0

    def __post_init__(self) -> None:
        real_number("share", self.share, least=0.0, most=1.0)
        whole_number("rounds", self.rounds)

    def round_delta(self, delta: float) -> float:
        """Return the part of the project's ``delta`` that the next round has. Raises ValueError if nothing is left."""
        check_probability("delta", delta)
        if self.share == 0.0:
            raise ValueError(
                "a round without `earlier` took all of delta, and failed; expected no further one"
            )
        return spend(delta * self.share, self.rounds + 1)


@dataclass(frozen=True, slots=True)
class TestedThreshold:
    """A threshold that was tried: how many further items it selected, and what could be said of all then let through.

    ``expected_errors`` are those people's votes speak of; ``p_value`` is of the hypothesis "error > alpha", the
    inverse of the wealth.
    """

    threshold: float
    selected: int
    expected_errors: float
    p_value: float
    passed: bool


@dataclass(frozen=True, slots=True)
class ThresholdDecision:
    """The lowest threshold that passed, with its evidence; ``threshold`` is ``inf`` when none did.

    ``selected`` validation items are let through by it, beside those let through before; ``coverage`` is the share of
    all of them together, ``expected_errors`` theirs, and ``upper_bound`` the bound on their error rate at confidence
    ``1 - delta`` (1.0 where there are none), with the ``delta`` of this round. ``passing`` are all thresholds that passed,
    lowest first, and ``let_through`` is what the next round takes as `earlier`.
    """

    threshold: float
    coverage: float
    upper_bound: float
    selected: int
    expected_errors: float
    alpha: float
    delta: float
    tested: tuple[TestedThreshold, ...]
    passing: Floats = field(repr=False, compare=False)
    let_through: LetThrough = field(repr=False, compare=False)

    @property
    def allows_any(self) -> bool:
        """Whether the model may answer some items alone."""
        return self.threshold < _NEVER


def choose_threshold(
    scores: ArrayLike,
    error_probability: ArrayLike,
    *,
    alpha: float,
    delta: float,
    prior_error: ArrayLike | None = None,
    earlier: LetThrough | None = None,
    among: ArrayLike | None = None,
    pool_items: int | None = None,
) -> ThresholdDecision:
    """Find the lowest score at which the model may answer alone, for one round.

    ``scores`` ``(n,)`` are the model's scores of its own answers on a uniform random sample of the pool,
    truth unseen; ``error_probability`` ``(n,)`` is the probability, by people's answers alone, that each is
    wrong (0 or 1 when the truth is known); ``prior_error`` ``(n,)`` the same before anybody answered, from
    `model_errors` (None: assume the worst, see the module).

    ``delta`` is the whole project's. Without ``earlier`` this is its only round, and has all of it. With ``earlier`` it is
    one of several and takes its share. ``earlier`` holds the validation items let through by the rounds before, which
    are not among the ``n``: the bound is on all of them together. Whoever looks again, with another version or on a
    grown sample, holds another round.

    ``among`` ``(m,)`` are the thresholds to choose from (None: the scores); one above all scores lets nothing more through.

    ``pool_items`` is how many items outside the sample there are (None: a stream without end). From a small pool the
    sample takes much of what there is: few errors in it leave more in the rest. The difference of the two rates has
    ``1 + n / pool_items`` times the variance of the sample's, and the wager must be won by that power.

    Raises ValueError for other shapes, non-finite scores or probabilities outside [0, 1]. Cost: n log n.
    """
    score, error = finite("scores", scores), probabilities("error_probability", error_probability)
    if score.shape != error.shape:
        raise ValueError(f"scores has shape {score.shape} but error_probability has {error.shape}")
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    check_instance("earlier", earlier, (LetThrough, NoneType), "LetThrough, or None")
    history = earlier or LetThrough(share=0.0)
    mine = delta if earlier is None else earlier.round_delta(delta)
    before = Evidence.of(history.error_probability, history.prior_error)
    prior = None if prior_error is None else probabilities("prior_error", prior_error)
    if before.size and error.size and (prior is None) != (history.prior_error is None):
        raise ValueError(
            "prior_error is given for some of the answers; expected it for all, `earlier` too, or none"
        )
    # Ties are taken or left together, and ordered by their error only to make the sum reproducible.
    order = np.lexsort((error, -score))
    evidence = Evidence.of(error, prior).taken(order)
    items = evidence.size + before.size
    wager = Wager(alpha, mine, items, _power(items, pool_items))
    thresholds = np.unique(score if among is None else finite("among", among))[::-1]
    counts = score.size - np.searchsorted(score[order][::-1], thresholds)
    paid = np.concatenate([wager.paid(before).sum(axis=0)[None], wager.paid(evidence)]).cumsum(axis=0)
    wealth = log_wealth(paid[counts])
    expected = before.error.sum() + np.append(0.0, np.cumsum(evidence.error))
    passed = wealth >= wager.needed
    best = int(np.flatnonzero(passed)[-1]) if passed.any() else -1
    selected = int(counts[best]) if best >= 0 else 0
    through = before.followed_by(evidence.taken(np.arange(selected)))
    bound = refuted_rate(through, wager)
    return ThresholdDecision(
        threshold=float(thresholds[best]) if best >= 0 else _NEVER,
        coverage=through.size / max(items, 1),
        upper_bound=min(bound, alpha) if best >= 0 else bound,
        selected=selected,
        expected_errors=float(through.error.sum()),
        alpha=alpha,
        delta=mine,
        tested=tuple(
            TestedThreshold(
                threshold=float(thresholds[at]),
                selected=int(counts[at]),
                expected_errors=float(expected[counts[at]]),
                p_value=math.exp(min(0.0, -float(wealth[at]))),
                passed=bool(passed[at]),
            )
            for at in _listed(counts, best)
        ),
        passing=thresholds[passed][::-1],
        let_through=LetThrough(
            through.error,
            _joined(history.prior_error, None if prior is None else prior[order[:selected]]),
            share=mine / delta if best >= 0 else history.share,
            rounds=0 if best >= 0 else history.rounds + 1,
        ),
    )


def _power(items: int, pool_items: int | None) -> float:
    """Return by what power a wager must be won when the pool is not endless."""
    if pool_items is None:
        return 1.0
    return 1.0 + items / whole_number("pool_items", pool_items, 1)


def _joined(before: ArrayLike | None, added: Floats | None) -> Floats | None:
    """Return the prior errors of those let through before and now; None where none are known."""
    if before is None and added is None:
        return None
    return np.concatenate([np.zeros(0) if part is None else np.asarray(part) for part in (before, added)])


def _listed(counts: Ints, best: int) -> list[int]:
    """Return which of the tried thresholds to tell of: selections growing by `_STEPS`, and the one chosen."""
    if not counts.size:
        return []
    sizes = np.unique(np.ceil(_STEPS ** np.arange(math.log(max(counts[-1], 1)) / math.log(_STEPS) + 1.0)))
    places = np.minimum(np.searchsorted(counts, sizes), counts.size - 1)
    return sorted({int(p) for p in places} | ({best} if best >= 0 else set()))


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """A threshold for each predicted class; classes too rare for a test of their own share one.

    ``thresholds`` ``(classes,)``; ``decisions`` pairs each tested group of classes with its decision.
    """

    thresholds: tuple[float, ...]
    decisions: tuple[tuple[tuple[int, ...], ThresholdDecision], ...]

    def selects(self, scores: ArrayLike, predicted: ArrayLike) -> NDArray[np.bool_]:
        """Return which answers may stand alone, ``(n,)``."""
        score, answer = finite("scores", scores), whole_numbers("predicted", predicted)
        if answer.shape != score.shape:
            raise ValueError(f"scores has shape {score.shape} but predicted has {answer.shape}")
        _check_classes(answer, len(self.thresholds))
        return np.asarray(score >= np.asarray(self.thresholds)[answer])


def choose_thresholds_per_class(
    scores: ArrayLike,
    predicted: ArrayLike,
    error_probability: ArrayLike,
    *,
    classes: int,
    alpha: float,
    delta: float,
    prior_error: ArrayLike | None = None,
    min_items: int = 150,
) -> ClassThresholds:
    """Find one threshold per predicted class, each with error at most ``alpha``; delta is split between
    tests.

    Every group's error is bounded, hence so is their mixture's. Classes predicted for fewer than
    ``min_items`` validation items are tested together: alone, they could not pass at any usual alpha and
    delta. For one round: the groups may be others in the next.
    """
    check_probability("alpha", alpha)
    check_probability("delta", delta)
    classes, min_items = whole_number("classes", classes, 1), whole_number("min_items", min_items)
    score = finite("scores", scores)
    error = probabilities("error_probability", error_probability)
    answer = whole_numbers("predicted", predicted)
    prior = None if prior_error is None else probabilities("prior_error", prior_error)
    for name, column in (("predicted", answer), ("error_probability", error), ("prior_error", prior)):
        if column is not None and column.shape != score.shape:
            raise ValueError(f"scores has shape {score.shape} but {name} has {column.shape}")
    _check_classes(answer, classes)
    counts = np.bincount(answer, minlength=classes)
    alone = [(c,) for c in range(classes) if counts[c] >= min_items]
    rest = tuple(c for c in range(classes) if counts[c] < min_items)
    groups: list[tuple[int, ...]] = [*alone, *([rest] if rest else [])]
    limits = np.full(classes, _NEVER)
    decisions = []
    for group in groups:
        mine = np.isin(answer, group)
        decision = choose_threshold(
            score[mine],
            error[mine],
            alpha=alpha,
            delta=delta / len(groups),
            prior_error=None if prior is None else prior[mine],
        )
        limits[list(group)] = decision.threshold
        decisions.append((group, decision))
    return ClassThresholds(tuple(limits.tolist()), tuple(decisions))


def _check_classes(predicted: Ints, classes: int) -> None:
    bad = np.flatnonzero(predicted >= classes)
    if bad.size:
        raise ValueError(f"predicted[{bad[0]}] is {predicted[bad[0]]}, outside 0..{classes - 1}")


def _check_counts(errors: int, n: int) -> None:
    if whole_number("errors", errors) > whole_number("n", n):
        raise ValueError(f"errors is {errors} of n = {n}; expected 0 <= errors <= n")
