"""When a model may answer alone: thresholds on its score with a bound on the error they let through.

The promise is about every item ever labeled by a model in a project: its error rate is at most ``alpha`` with
confidence ``1 - delta``. Three things keep it:

* thresholds are tried in an order fixed without looking at the truth, safest first, until one fails
  (fixed-sequence testing, Maurer, Hothorn & Lehmacher 1995), so trying many costs no confidence;
* round ``k`` of a project may only fail with probability ``delta_k = 6 delta / (pi^2 k^2)``, which sums to
  ``delta`` over all rounds;
* the truth of a validation item is a posterior, not a fact. Each answer adds its probability of being wrong
  to the error count, which is then rounded up. Under the hypothesis tested the sum has the mean of the
  binomial count and less spread (it is the count's conditional expectation), so the exact binomial test stays
  valid; with certain truth it is the Clopper-Pearson bound to the last digit.

How uncertain truth counts is the caller's choice. Given only the probability, by people's votes, that each
answer is wrong, the worst is assumed: the model's agreement with people proves nothing, so each agreement
still counts as that much of an error. Given also the class prior behind those posteriors (`prior_error`), the
model and people are taken to err independently given the truth; a hypothesised error rate then says, by
Bayes' rule, how likely each answer is wrong *if the model errs at that rate*, and an item nobody looked at
says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEVER = math.inf
"""The threshold that no score reaches: the model may not answer at all."""

_GRID_GROWTH = 1.05
"""Each tested threshold selects 5 % more items than the one before: finer steps gain nothing measurable."""

_FIRST_TEST = 20.0
"""Fewer items pass at no alpha below 0.13 even without an error (delta = 0.05)."""

_SEQUENCES = 2
"""One sequence trusts the model's view of its own errors; a second one hedges. Simulated: more cost power."""


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """Return the exact upper confidence bound of a binomial proportion (Clopper & Pearson 1934).

    ``errors`` of ``n`` trials were seen; the true rate exceeds the returned value with probability at most
    ``delta``. Nothing seen (``n == 0``) bounds nothing: 1.0.
    """
    _check_counts(errors, n)
    _check_probability("delta", delta)
    if errors >= n:
        return 1.0
    return float(special.betaincinv(errors + 1, n - errors, 1.0 - delta))


def clopper_pearson_lower(errors: int, n: int, delta: float) -> float:
    """Return the exact lower confidence bound of a binomial proportion: below it with probability <=
    delta."""
    _check_counts(errors, n)
    _check_probability("delta", delta)
    if errors == 0:
        return 0.0
    return float(special.betaincinv(errors, n - errors + 1, delta))


def spend(delta: float, round_number: int) -> float:
    """Return round ``k``'s share of the error budget, ``6 delta / (pi^2 k^2)``; rounds count from 1.

    The shares of all rounds that will ever be held sum to ``delta``, however many there are.
    """
    _check_probability("delta", delta)
    if round_number < 1:
        raise ValueError(f"round_number is {round_number}; rounds count from 1")
    return 6.0 * delta / (math.pi**2 * round_number**2)


def model_errors(posterior: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Return ``(error_probability, prior_error)``, each ``(n,)``, of a model's answers on the validation
    sample.

    ``posterior`` ``(n, classes)`` is the truth by people's votes alone, ``predicted`` ``(n,)`` the model's
    class. The prior of a class is its mean posterior over the sample, which is a random one.
    """
    truth = np.asarray(posterior, dtype=np.float64)
    answer = np.asarray(predicted, dtype=np.int64)
    if truth.ndim != 2 or answer.shape != truth.shape[:1]:
        raise ValueError(
            f"posterior has shape {truth.shape} and predicted {answer.shape}; expected (n, c), (n,)"
        )
    if answer.size == 0:
        return np.zeros(0), np.zeros(0)
    if answer.min() < 0 or answer.max() >= truth.shape[1]:
        raise ValueError(f"predicted holds classes outside 0..{truth.shape[1] - 1}")
    rows = np.arange(answer.size)
    prior = np.clip(truth.mean(axis=0), 1e-6, 1.0 - 1e-6)
    return np.clip(1.0 - truth[rows, answer], 0.0, 1.0), 1.0 - prior[answer]


def upper_bound(error_probability: ArrayLike, delta: float, *, prior_error: ArrayLike | None = None) -> float:
    """Return the upper bound on the error rate of a population of which these items are a random sample.

    It is the rate ``r`` at which ``P(Binomial(n, r) <= K) = delta``, ``K`` being the uncertain error count.
    With probabilities of 0 and 1 only it equals `clopper_pearson_upper`.
    """
    _check_probability("delta", delta)
    error = _probabilities("error_probability", error_probability)
    return _upper_bound(error, _evidence(error, prior_error), delta)


def _upper_bound(error: Floats, odds: Floats | None, delta: float) -> float:
    def excess(rate: float) -> float:
        return _p_value(float(_error_if(rate, error, odds).sum()), error.size, rate) - delta

    if odds is None:  # The count does not depend on the rate: no search.
        return clopper_pearson_upper(min(_round_up(float(error.sum())), error.size), error.size, delta)
    # The count, rounded up, jumps with the rate: bisect for the smallest rate from which every larger is
    # refuted.
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class TestedThreshold:
    """One step of the fixed sequence: what ``score >= threshold`` selected and what could be said of it.

    ``expected_errors`` are those people's votes speak of; ``p_value`` is of the hypothesis "error > alpha".
    """

    threshold: float
    selected: int
    expected_errors: float
    p_value: float
    passed: bool


@dataclass(frozen=True, slots=True)
class ThresholdDecision:
    """The lowest threshold that passed, with its evidence; ``threshold`` is ``inf`` when none did.

    ``coverage`` is the share of the validation items it selects, ``upper_bound`` the bound on its error rate
    at confidence ``1 - delta`` (1.0 when nothing passed).
    """

    threshold: float
    coverage: float
    upper_bound: float
    selected: int
    expected_errors: float
    alpha: float
    delta: float
    tested: tuple[TestedThreshold, ...]

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
) -> ThresholdDecision:
    """Find the lowest score at which the model may answer alone, for one round.

    ``scores`` ``(n,)`` are the model's scores of its own answers on a uniform random sample of the pool,
    truth unseen; ``error_probability`` ``(n,)`` is the probability, by people's answers alone, that each is
    wrong (0 or 1 when the truth is known); ``prior_error`` ``(n,)`` the same before anybody answered, from
    `model_errors` (None: assume the worst, see the module). ``delta`` is this round's share, from `spend`.

    Raises ValueError for other shapes, non-finite scores or probabilities outside [0, 1].
    """
    score = _finite("scores", scores)
    error = _probabilities("error_probability", error_probability)
    if score.shape != error.shape:
        raise ValueError(f"scores has shape {score.shape} but error_probability has {error.shape}")
    _check_probability("alpha", alpha)
    _check_probability("delta", delta)
    odds = _evidence(error, prior_error)
    # Ties are taken or left together, and ordered by their error only to make the sum reproducible.
    order = np.lexsort((error, -score))
    score, error = score[order], error[order]
    odds = None if odds is None else odds[order]
    sizes = _grid(score)
    starts = _starts(sizes, score, error, odds, alpha)
    wrong = np.cumsum(_error_if(alpha, error, odds))
    tested: list[TestedThreshold] = []
    for start in starts:
        for at in range(start, len(sizes)):
            size = sizes[at]
            p_value = _p_value(float(wrong[size - 1]), size, alpha)
            passed = p_value <= delta / len(starts)
            expected = float(error[:size].sum())
            tested.append(TestedThreshold(float(score[size - 1]), size, expected, p_value, passed))
            if not passed:
                break
    winners = [t for t in tested if t.passed]
    if not winners:
        return ThresholdDecision(_NEVER, 0.0, 1.0, 0, 0.0, alpha, delta, tuple(tested))
    best = max(winners, key=lambda t: t.selected)
    kept = slice(0, best.selected)
    bound = _upper_bound(error[kept], None if odds is None else odds[kept], delta / len(starts))
    return ThresholdDecision(
        threshold=best.threshold,
        coverage=best.selected / score.size,
        upper_bound=min(bound, alpha),
        selected=best.selected,
        expected_errors=best.expected_errors,
        alpha=alpha,
        delta=delta,
        tested=tuple(tested),
    )


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """A threshold for each predicted class; classes too rare for a test of their own share one.

    ``thresholds`` ``(classes,)``; ``decisions`` pairs each tested group of classes with its decision.
    """

    thresholds: tuple[float, ...]
    decisions: tuple[tuple[tuple[int, ...], ThresholdDecision], ...]

    def selects(self, scores: ArrayLike, predicted: ArrayLike) -> NDArray[np.bool_]:
        """Return which answers may stand alone, ``(n,)``."""
        limit = np.asarray(self.thresholds)[np.asarray(predicted, dtype=np.int64)]
        return np.asarray(np.asarray(scores, dtype=np.float64) >= limit)


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
    delta.
    """
    score = _finite("scores", scores)
    error = _probabilities("error_probability", error_probability)
    answer = np.asarray(predicted, dtype=np.int64)
    if answer.shape != score.shape or error.shape != score.shape:
        raise ValueError("scores, predicted and error_probability must have one length")
    if answer.size and (answer.min() < 0 or answer.max() >= classes):
        raise ValueError(f"predicted holds classes outside 0..{classes - 1}")
    counts = np.bincount(answer, minlength=classes)
    alone = [(c,) for c in range(classes) if counts[c] >= min_items]
    rest = tuple(c for c in range(classes) if counts[c] < min_items)
    groups: list[tuple[int, ...]] = [*alone, *([rest] if rest else [])]
    prior = None if prior_error is None else np.asarray(prior_error, dtype=np.float64)
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


@dataclass(frozen=True, slots=True)
class DriftTest:
    """Whether new scores still look like the validation's: the largest gap of their distribution
    functions."""

    statistic: float
    p_value: float
    drifted: bool


def score_drift(
    validation_scores: ArrayLike, new_scores: ArrayLike, *, significance: float = 0.001, min_items: int = 50
) -> DriftTest:
    """Compare two samples of scores by the two-sample Kolmogorov-Smirnov test.

    The default significance is small because the test is repeated through a project's life, and a false alarm
    costs a validation round. Fewer than ``min_items`` on either side say nothing: no drift, p = 1.
    """
    old, new = _finite("validation_scores", validation_scores), _finite("new_scores", new_scores)
    if min(old.size, new.size) < min_items:
        return DriftTest(0.0, 1.0, False)
    both = np.sort(np.concatenate([old, new]))
    below_old = np.searchsorted(np.sort(old), both, side="right") / old.size
    below_new = np.searchsorted(np.sort(new), both, side="right") / new.size
    gap = float(np.abs(below_old - below_new).max())
    effective = old.size * new.size / (old.size + new.size)
    p_value = float(special.kolmogorov(math.sqrt(effective) * gap))
    return DriftTest(gap, p_value, p_value < significance)


def _grid(descending: Floats) -> list[int]:
    """Return the sizes of the selections that may be tested; equal scores are never parted."""
    n = descending.size
    if n == 0:
        return []
    ends = np.append(np.flatnonzero(np.diff(descending) < 0) + 1, n)
    sizes: list[int] = []
    wanted = _FIRST_TEST
    while wanted < n:
        at = int(ends[np.searchsorted(ends, math.ceil(wanted))])
        if not sizes or at > sizes[-1]:
            sizes.append(at)
        wanted *= _GRID_GROWTH
    if not sizes or sizes[-1] < n:
        sizes.append(n)
    return sizes


def _starts(
    sizes: Sequence[int], score: Floats, error: Floats, odds: Floats | None, alpha: float
) -> list[int]:
    """Return where in the grid the sequences start; errors are foreseen by score, truth is not looked at.

    The safest selection is the one whose foreseen errors stay most standard deviations below alpha: smaller
    ones prove too little, larger ones hold doubtful items. How unsure people are of each item is used, for
    that does not say whether they agree with the model. Scores may be wrong about themselves, so further
    sequences, each with its share of delta, start at smaller selections.
    """
    if not sizes:
        return []
    doubt = np.minimum(error, 1.0 - error)
    agree = _error_if(alpha, doubt, None if odds is None else np.minimum(odds, 1.0 / odds))
    differ = _error_if(alpha, 1.0 - doubt, None if odds is None else np.maximum(odds, 1.0 / odds))
    miss = np.clip(1.0 - score, 0.0, 1.0)
    mean = (1.0 - miss) * agree + miss * differ
    spread = mean * (1.0 - mean)
    index = np.asarray(sizes) - 1
    n = np.asarray(sizes, dtype=np.float64)
    margin = (alpha * n - np.cumsum(mean)[index]) / np.sqrt(
        alpha * (1.0 - alpha) * n + np.cumsum(spread)[index]
    )
    safest = int(np.argmax(margin))
    wanted = [sizes[safest] / 2**halvings for halvings in range(_SEQUENCES)]
    return sorted({int(np.searchsorted(sizes, w)) for w in wanted if w >= sizes[0]})


def _evidence(error: Floats, prior_error: ArrayLike | None) -> Floats | None:
    """Return the likelihood ratio wrong : right that people's votes give each answer, or None if unknown."""
    if prior_error is None:
        return None
    prior = _probabilities("prior_error", prior_error)
    if prior.shape != error.shape:
        raise ValueError(f"prior_error has shape {prior.shape} but error_probability has {error.shape}")
    prior = np.clip(prior, 1e-9, 1.0 - 1e-9)
    sure = np.clip(error, 1e-12, 1.0 - 1e-12)
    return np.asarray(sure / (1.0 - sure) * (1.0 - prior) / prior)


def _error_if(rate: float, error: Floats, odds: Floats | None) -> Floats:
    """Return the probability that each answer is wrong if answers are wrong at ``rate``."""
    if odds is None:
        return error
    return np.asarray(rate * odds / (rate * odds + (1.0 - rate)))


def _p_value(errors: float, n: int, rate: float) -> float:
    """Return ``P(Binomial(n, rate) <= errors)``, the errors rounded up."""
    count = _round_up(errors)
    return 1.0 if count >= n else float(special.bdtr(count, n, rate))


def _round_up(errors: float) -> int:
    return math.ceil(errors - 1e-6)  # A sum of certainties must not gain an error from rounding.


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, not of shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}; it must be finite")
    return array


def _probabilities(name: str, values: ArrayLike) -> Floats:
    array = _finite(name, values)
    bad = np.flatnonzero((array < 0.0) | (array > 1.0))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {array[bad[0]]}; it must be between 0 and 1")
    return array


def _check_counts(errors: int, n: int) -> None:
    if not 0 <= errors <= n:
        raise ValueError(f"errors is {errors} of n = {n}; expected 0 <= errors <= n")


def _check_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} is {value}; it must lie strictly between 0 and 1")
