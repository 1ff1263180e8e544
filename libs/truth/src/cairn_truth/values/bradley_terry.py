"""Paired comparisons by labelers of uneven care: Bradley-Terry with ties, and all that recurs as a random effect.

A labeler ``w`` compares pair ``i`` of a left and a right candidate and says left, right or neither, with log-odds

    left: (a[w] u[i] + b[w]) / 2    right: -(a[w] u[i] + b[w]) / 2    neither: a[w] t[i] + c[w]

which is Davidson's model (J. Am. Stat. Assoc. 65, 1970) with three habits of a labeler: discrimination ``a`` (the crowd's
average is 1; 0 is who answers without looking, below 0 who has it backwards), leaning to the left ``b``, and to
neither ``c``. The pair's lead is ``u[i] = s[left] - s[right] + r[i]``: candidates have strengths, and ``r`` is what the
strengths do not say of this very pair. ``t[i]`` is how alike the two are beyond that. Strengths belong to a candidate
within a group, around the candidate's strength in all groups.

Everything is normal around its mean, with variances learnt from the answers (empirical Bayes), so a labeler or a
candidate rarely seen leans on the others, and with votes on one pair alone the model is a vote count weighted by
discrimination. Fitted by expectation maximisation: each pair's posterior is normal at its mode (Laplace), strengths
are joined across pairs by messages (Laplace propagation; Smola, Vishwanathan & Eskin, NIPS 2003), labelers by Newton
steps on the expected log-likelihood. Reliability and bias as such: Chen et al., WSDM 2013; Bugakova et al., 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from scipy import special

from ..columns import Floats
from .comparisons import LEFT, NEITHER, RIGHT, Comparisons, Rows
from .strengths import GUESS, Leads, NamedStrengths, Network, Strengths, Variances, summed

_STRENGTH = 4.0
"""Weight of the guess at a variance, in labelers: it fades where there are more."""

_HABIT_VARIANCES = np.array([0.1, 0.25, 0.5])
"""Of care, lean and neither before any answer: most labelers have a third of average care and more, and lean slightly."""

_LARGEST = 25.0
"""Squared log-odds no variance exceeds, for where nobody ever says neither there is no limit to how seldom."""

_CENTRED = np.array([1.0, 4.0, 1.0])
"""Labelers without habits that are added to the crowd: where one candidate is always at the left, it is rather better
than everybody leaning."""

_LEAST_CARE = 0.5
"""Average care in a round, below which it is not made the unit: a crowd that only guesses has none."""

_ROUNDS = 100
_SETTLED = 1e-3
"""Log-odds by which leads move no more (root mean square); far below what an answer is worth."""

_LONGEST_STEP = 2.0
"""Newton steps are cut at so many log-odds: far out the curvature says nothing."""

_MODE_STEPS = 2
"""Newton steps of a pair in a round: the next round goes on from there."""

_AT_MODE = 1e-6
"""A Newton step so short leaves an error of its square."""

_NODES, _MASSES = np.polynomial.hermite_e.hermegauss(5)
_MASSES = _MASSES / _MASSES.sum()
_QUANTILES = special.ndtri((np.arange(64) + 0.5) / 64)


@dataclass(frozen=True)
class Habits:
    """What is known of labelers: ``care``, ``lean``, ``neither`` in ``mean`` (labelers, 3), ``covariance`` (labelers, 3, 3).

    ``crowd`` (3,) is the mean and ``variance`` (3,) the variance of the population they are drawn from.
    """

    mean: Floats
    covariance: Floats
    crowd: Floats
    variance: Floats

    def of(self, labeler: Rows) -> tuple[Floats, Floats]:
        """Return mean ``(n, 3)`` and covariance ``(n, 3, 3)`` by row; -1 is a stranger: the population."""
        covariance = np.concatenate([self.covariance, np.diag(self.variance)[None]])
        return self.means(labeler), covariance[labeler]

    def means(self, labeler: Rows) -> Floats:
        """Return means ``(n, 3)`` by row; -1 is a stranger."""
        # The crowd is the last row, which is what -1 means.
        return np.concatenate([self.mean, self.crowd[None]])[labeler]

    def crowd_of(self, labelers: int) -> Habits:
        """Return so many labelers of whom nothing is known but that they are of this crowd."""
        mean, covariance = self.of(np.full(labelers, -1, dtype=np.int64))
        return Habits(mean, covariance, self.crowd, self.variance)


def chances(half: Floats, neither: Floats, ties: bool) -> tuple[Floats, Floats, Floats]:
    """Return the probabilities of left, right and neither at log-odds ``half``, ``-half`` and ``neither``."""
    if not ties:
        left = special.expit(2.0 * half)
        return left, 1.0 - left, np.zeros_like(left)
    top = np.maximum(np.abs(half), neither)
    left, right, tie = np.exp(half - top), np.exp(-half - top), np.exp(neither - top)
    total = left + right + tie
    return left / total, right / total, tie / total


def right_outcome(leads: Leads, habits: Habits, ties: bool) -> Floats:
    """Return the probability ``(pairs, 3)`` of each outcome to be right: what a labeler of average care and no leaning
    says of the pair most often.

    Neither is right where ``|u| / 2 < t + c``. How different two must be to differ is a convention, and on it labelers
    differ as much as the variance of their ``c``: what that leaves open is open, however many answer.
    """
    lead, alike = leads.mean[:, 0], leads.mean[:, 1] + habits.crowd[2]
    variance = leads.covariance + np.diag([0.0, habits.variance[2]])
    if not ties:
        left = special.ndtr(lead / np.sqrt(variance[:, 0, 0]))
        return np.stack([left, 1.0 - left, np.zeros_like(left)], axis=1)
    spread = np.sqrt(variance[:, 1, 1])
    off = spread[:, None] * _QUANTILES
    slope = variance[:, 0, 1] / variance[:, 1, 1]
    rest = np.sqrt(np.maximum(variance[:, 0, 0] - slope * variance[:, 0, 1], 1e-12))[:, None]
    middle = lead[:, None] + slope[:, None] * off
    band = np.maximum(2.0 * (alike[:, None] + off), 0.0)
    left = special.ndtr((middle - band) / rest).mean(axis=1)
    right = special.ndtr((-middle - band) / rest).mean(axis=1)
    return np.stack([left, right, np.maximum(1.0 - left - right, 0.0)], axis=1)


def predicted(leads: Leads, habits: tuple[Floats, Floats], placed: Floats, ties: bool) -> Floats:
    """Return the probability ``(n, 3)`` that a labeler says left, right or neither of a pair, row by row.

    What is not known of the pair and of the labeler is integrated out (five by five Gauss-Hermite nodes on the two
    log-odds, taken as normal with their exact means and variances).
    """
    mean, covariance = habits
    care, care_variance = mean[:, 0], covariance[:, 0, 0]
    u, t = leads.mean[:, 0], leads.mean[:, 1]
    both = leads.covariance
    known = care**2 + care_variance
    x, y = care * u + placed * mean[:, 1], care * t + mean[:, 2]
    xx = known * both[:, 0, 0] + u**2 * care_variance + placed**2 * covariance[:, 1, 1]
    xx += 2.0 * placed * u * covariance[:, 0, 1]
    yy = known * both[:, 1, 1] + t**2 * care_variance + covariance[:, 2, 2] + 2.0 * t * covariance[:, 0, 2]
    xy = known * both[:, 0, 1] + u * t * care_variance + u * covariance[:, 0, 2]
    xy += placed * (t * covariance[:, 0, 1] + covariance[:, 1, 2])
    first = np.sqrt(np.maximum(xx, 1e-12))
    second = np.sqrt(np.maximum(yy - (xy / first) ** 2, 1e-12))
    at_x = x[:, None, None] + first[:, None, None] * _NODES[:, None]
    at_y = y[:, None, None] + (xy / first)[:, None, None] * _NODES[:, None] + second[:, None, None] * _NODES
    chance = chances(np.broadcast_to(at_x / 2.0, at_y.shape), at_y, ties)
    return np.stack([np.einsum("nij,i,j->n", part, _MASSES, _MASSES) for part in chance], axis=1)


def find_leads(
    comparisons: Comparisons,
    habits: Habits,
    prior_mean: Floats,
    prior_variance: Floats,
    alike_variance: float,
    start: Floats,
    steps: int,
) -> Leads:
    """Return each pair's posterior, normal at its mode, by Newton steps from ``start`` (pairs, 2)."""
    pairs, pair = prior_mean.size, comparisons.pair
    care, lean, neither = habits.means(comparisons.labeler).T
    lean, scale = comparisons.placed * lean, comparisons.weight * care
    said, said_neither = _indicators(comparisons.outcome)
    u, t = start.T.copy()
    # One sum for all five columns: of a few pairs, sums cost more to call than to do.
    cell = (np.arange(5)[:, None] * pairs + pair).ravel()
    for step in range(steps + 1):
        chance = chances((care * u[pair] + lean) / 2.0, care * t[pair] + neither, comparisons.ties)
        first, second, a, b, c = _moments(*chance)
        columns = np.concatenate([said - first, said_neither - second, care * a, care * b, care * c])
        sums = np.bincount(cell, (columns.reshape(5, -1) * scale).ravel(), 5 * pairs).reshape(5, pairs)
        pull_u, pull_t = sums[0] - (u - prior_mean) / prior_variance, sums[1] - t / alike_variance
        uu, ut, tt = sums[2] + 1.0 / prior_variance, sums[3], sums[4] + 1.0 / alike_variance
        determinant = uu * tt - ut**2
        if step == steps:
            break
        move = np.stack([tt * pull_u - ut * pull_t, uu * pull_t - ut * pull_u]) / determinant
        u, t = np.stack([u, t]) + np.clip(move, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(move).max(initial=0.0) < _AT_MODE:
            break
    covariance = np.stack([tt, -ut, -ut, uu], axis=1).reshape(-1, 2, 2) / determinant[:, None, None]
    return Leads(np.stack([u, t], axis=1), covariance)


def find_lead(
    votes: Sequence[tuple[float, float, float, int]],
    prior: tuple[float, float],
    alike_variance: float,
    ties: bool,
    steps: int,
) -> Leads:
    """Return what `find_leads` does, for a single pair: plain numbers, for arrays of ten cost more than their sums.

    ``votes`` are care, lean as placed, neither, and the outcome of each; ``prior`` is the lead's mean and variance.
    """
    u, t = prior[0], 0.0
    for step in range(steps + 1):
        pull_u, pull_t = (prior[0] - u) / prior[1], -t / alike_variance
        uu, ut, tt = 1.0 / prior[1], 0.0, 1.0 / alike_variance
        for care, lean, neither, outcome in votes:
            half, tie = (care * u + lean) / 2.0, care * t + neither
            top = max(abs(half), tie) if ties else abs(half)
            a, b, c = exp(half - top), exp(-half - top), exp(tie - top) if ties else 0.0
            total = a + b + c
            first, second = (a - b) / total / 2.0, c / total
            pull_u += care * ((0.5 if outcome == LEFT else -0.5 if outcome == RIGHT else 0.0) - first)
            pull_t += care * ((1.0 if outcome == NEITHER else 0.0) - second)
            uu += care**2 * ((1.0 - second) / 4.0 - first**2)
            ut -= care**2 * first * second
            tt += care**2 * second * (1.0 - second)
        determinant = uu * tt - ut**2
        move_u, move_t = (tt * pull_u - ut * pull_t) / determinant, (uu * pull_t - ut * pull_u) / determinant
        if step == steps or max(abs(move_u), abs(move_t)) < _AT_MODE:
            break
        u += min(max(move_u, -_LONGEST_STEP), _LONGEST_STEP)
        t += min(max(move_t, -_LONGEST_STEP), _LONGEST_STEP)
    covariance = np.array([[[tt, -ut], [-ut, uu]]]) / determinant
    return Leads(np.array([[u, t]]), covariance)


def _indicators(outcome: Rows) -> tuple[Floats, Floats]:
    """Return each outcome's two statistics: half for left and minus half for right; one for neither."""
    return np.array([0.5, -0.5, 0.0])[outcome], np.array([0.0, 0.0, 1.0])[outcome]


def _moments(left: Floats, right: Floats, neither: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return the two statistics' means, and their variances and covariance (first, both, second)."""
    first = (left - right) / 2.0
    return first, neither, (1.0 - neither) / 4.0 - first**2, -first * neither, neither * (1.0 - neither)


@dataclass(frozen=True)
class BradleyTerryFit:
    """A fit to `Comparisons`: habits of labelers, strengths of candidates, leads of pairs, in so many ``rounds``."""

    comparisons: Comparisons
    habits: Habits
    leads: Leads
    strengths: Strengths
    variances: Variances
    rounds: int

    def right(self) -> Floats:
        """Return the probability ``(pairs, 3)`` of each outcome to be right, in the order of ``comparisons.pairs``."""
        return right_outcome(self.leads, self.habits, self.comparisons.ties)

    def strengths_by_name(self) -> NamedStrengths:
        """Return what is known of every candidate."""
        known = self.strengths
        return NamedStrengths(
            {name: row for row, name in enumerate(self.comparisons.candidates)},
            {name: row for row, name in enumerate(self.comparisons.everywhere)},
            np.stack([known.mean, known.variance], axis=1),
            np.stack([known.across_mean, known.across_variance], axis=1),
            self.variances,
        )

    def predict(
        self,
        left: Sequence[Any],
        right: Sequence[Any],
        labeler: Sequence[Any],
        group: Sequence[Any] | None = None,
        pair: Sequence[Any] | None = None,
    ) -> Floats:
        """Return the probability ``(n, 3)`` that each labeler says left, right or neither of each pair.

        Columns are those of `Comparisons.of`, left at the left; labelers, candidates and pairs may be new. Raises
        ValueError if they differ in length.
        """
        groups = [""] * len(left) if group is None else group
        for name, column in (("right", right), ("labeler", labeler), ("group", groups), ("pair", pair)):
            if column is not None and len(column) != len(left):
                raise ValueError(f"{name} has {len(column)} rows; expected {len(left)}, as left has")
        swap = [b < a for a, b in zip(left, right, strict=True)]
        compared = [
            (g, b, a) if s else (g, a, b) for g, a, b, s in zip(groups, left, right, swap, strict=True)
        ]
        leads = self._leads_of(compared, compared if pair is None else pair)
        people = {name: row for row, name in enumerate(self.comparisons.labelers)}
        row = np.array([people.get(who, -1) for who in labeler], dtype=np.int64)
        placed = np.where(swap, -1.0, 1.0)
        chance = predicted(leads, self.habits.of(row), placed, self.comparisons.ties)
        return np.where(np.array(swap, dtype=bool)[:, None], chance[:, [RIGHT, LEFT, NEITHER]], chance)

    def _leads_of(self, compared: Sequence[tuple[Any, Any, Any]], pair: Sequence[Any]) -> Leads:
        known = {name: row for row, name in enumerate(self.comparisons.pairs)}
        rows = np.array([known.get(name, -1) for name in pair], dtype=np.int64)
        mean, covariance = np.zeros((rows.size, 2)), np.zeros((rows.size, 2, 2))
        mean[rows >= 0] = self.leads.mean[rows[rows >= 0]]
        covariance[rows >= 0] = self.leads.covariance[rows[rows >= 0]]
        strengths = self.strengths_by_name()
        for new in np.flatnonzero(rows < 0).tolist():
            mean[new, 0], covariance[new, 0, 0] = strengths.lead(*compared[new])
            covariance[new, 1, 1] = self.variances.alike
        return Leads(mean, covariance)


class HierarchicalBradleyTerry:
    """Fits the model above."""

    def fit(self, comparisons: Comparisons) -> BradleyTerryFit:
        """Fit to all judgements at once; a round costs time linear in them, and some twenty to a hundred are needed."""
        network = Network(comparisons)
        variances, habits = GUESS, strangers().crowd_of(len(comparisons.labelers))
        strengths = network.settle(None, None, variances)
        leads = Leads(np.zeros((comparisons.left.size, 2)), np.zeros((comparisons.left.size, 2, 2)))
        rounds = 0
        while rounds < _ROUNDS:
            before = leads.mean
            prior = strengths.prior_mean, strengths.prior_variance
            leads = find_leads(comparisons, habits, *prior, variances.alike, before, _MODE_STEPS)
            habits = _learn_habits(comparisons, leads, habits)
            strengths = network.settle(leads, strengths, variances)
            variances = network.learn(leads, strengths, variances)
            rounds += 1
            if np.sum((leads.mean - before) ** 2) <= _SETTLED**2 * before.size:
                break
        return BradleyTerryFit(comparisons, habits, leads, strengths, variances, rounds)


def strangers() -> Habits:
    """Return what is believed of labelers before any answer; none of them is known."""
    return Habits(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.array([1.0, 0.0, 0.0]), _HABIT_VARIANCES)


def _learn_habits(comparisons: Comparisons, leads: Leads, habits: Habits) -> Habits:
    """Return habits after one Newton step on the log-likelihood expected under the leads (four points a pair)."""
    learnt = np.flatnonzero(comparisons.labeler >= 0)
    labeler, people = comparisons.labeler[learnt], len(comparisons.labelers)
    u, t = _points(leads)[:, comparisons.pair[learnt]]
    habit, placed = habits.mean[labeler], comparisons.placed[learnt]
    half = (habit[:, 0] * u.T + placed * habit[:, 1]) / 2.0
    chance = chances(half.T, (habit[:, 0] * t.T + habit[:, 2]).T, comparisons.ties)
    first, second, *spread = _moments(*chance)
    said = _indicators(comparisons.outcome[learnt])
    own, alike = said[0][:, None] - first, said[1][:, None] - second
    a, b, c = spread
    gradient = [own * u + alike * t, own, alike]
    curve = [a * u**2 + 2.0 * b * u * t + c * t**2, a * u + b * t, b * u + c * t, a, b, c]
    weight = comparisons.weight[learnt] / 4.0
    leant = weight * placed
    seen = [weight, leant, weight, leant * placed, leant, weight]
    slope = summed(labeler, [w * g.sum(axis=1) for w, g in zip(seen, gradient, strict=False)], people)
    bend = summed(labeler, [w * part.sum(axis=1) for w, part in zip(seen, curve, strict=True)], people)
    square = bend[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    covariance = np.asarray(np.linalg.inv(square + np.diag(1.0 / habits.variance)), dtype=np.float64)
    step = np.einsum("lij,lj->li", covariance, slope - (habits.mean - habits.crowd) / habits.variance)
    return _learn_crowd(habits.mean + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), covariance)


def _points(leads: Leads) -> Floats:
    """Return four equally likely points ``(2, pairs, 4)`` with the mean and covariance of each pair's posterior."""
    at = np.sqrt(2.0) * np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    spread = np.linalg.cholesky(leads.covariance) @ at
    return np.asarray((leads.mean[:, :, None] + spread).transpose(1, 0, 2))


def _learn_crowd(mean: Floats, covariance: Floats) -> Habits:
    """Return habits with the population that fits them.

    Log-odds are measured in the care of the crowd's average, which is therefore kept at 1; what labelers are divided
    by here, leads and strengths regain in the next round.
    """
    people = mean.shape[0]
    average = (1.0 + mean[:, 0].sum()) / (1.0 + people)
    unit = np.array([1.0 / max(average, _LEAST_CARE), 1.0, 1.0])
    mean, covariance = mean * unit, covariance * unit[:, None] * unit
    crowd = mean.sum(axis=0) / (people + _CENTRED)
    crowd[0] = 1.0
    off = (mean - crowd) ** 2 + np.diagonal(covariance, axis1=1, axis2=2)
    variance = (_STRENGTH * _HABIT_VARIANCES + off.sum(axis=0)) / (_STRENGTH + people)
    return Habits(mean, covariance, crowd, np.minimum(variance, _LARGEST))
