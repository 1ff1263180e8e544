"""Numbers and ratings: every labeler has a bias and a spread, and now and then a slip of the pen.

``y[item, labeler] = x[item] + bias[labeler] + spread[labeler] * t``, t Student with few degrees of freedom, so that a
gross error is outvoted rather than averaged in. Biases are drawn around zero and spreads around the crowd's, both with
strengths in votes; true values are drawn around their mean. Fitted by iterated weighted least squares (the EM of
Lange, Little & Taylor 1989) from item medians, over answers in the order of names: the same answers, the same bits.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..classes.live_classes import Weighed
from ..classes.votes import Floats

VERSION = "2"
"""Changes whenever the same answers may give another estimate; it is written into every label's provenance."""

_FREEDOM = 4.0
"""Degrees of freedom: an answer six spreads away weighs an eighth of a good one."""

_BIAS_STRENGTH = 5.0
_SPREAD_STRENGTH = 5.0
_ROUNDS = 30
_SETTLED = 1e-9
_SMALLEST = 1e-6
"""Spread below which all answers count as equal, in units of the crowd's."""

_GROSS = 1e4
"""An answer so many spreads from all others is moved to there before it is squared: it weighs nothing as it is."""

_LARGEST = 1e100
"""Larger numbers count as this one: their squares have no place in a double."""

_WINSOR = 4.0
"""Spreads beyond which a deviation counts as just that: hardly any of a normal crowd's, all of a slip's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An estimate, its posterior standard deviation, and the number of answers behind it."""

    value: float
    sd: float
    answers: int


@dataclass(frozen=True, slots=True)
class LabelerError:
    """A labeler's bias and spread, both in the question's unit, over ``votes`` answers."""

    labeler: str
    votes: int
    bias: float
    spread: float


@dataclass(frozen=True)
class _Crowd:
    """Fitted state: ``mean`` and ``sd`` of true values, ``noise`` of the crowd, each labeler's bias and spread."""

    mean: float
    sd: float
    noise: float
    labelers: tuple[str, ...]
    bias: Floats
    spread: Floats


class LiveNumbers:
    """Live estimates of a question answered with numbers; items and labelers by name.

    ``scale`` is the width of the range of answers (1 where it is not known): before anybody has answered, values
    are taken to spread over a quarter of it and answers to miss by an eighth.
    """

    def __init__(self, scale: float = 1.0, centre: float = 0.0) -> None:
        if not scale > 0.0:
            raise ValueError(f"scale is {scale}; expected above 0")
        self.refits = 0
        self.refit_votes = 0
        self._scale = scale
        self._answers: dict[str, dict[str, float]] = {}
        self._gold: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._adopt(_Crowd(centre, scale / 4.0, scale / 8.0, (), np.zeros(0), np.zeros(0)))

    @property
    def votes(self) -> int:
        """Answers held."""
        return sum(self._counts.values())

    @property
    def value_sd(self) -> float:
        """How much true values differ from item to item, in the question's unit."""
        return self._crowd.sd

    def update(self, item: str, labeler: str, value: float) -> Measured:
        """Add an answer, or replace this labeler's earlier one. Raises ValueError if it is not finite."""
        if not np.isfinite(value):
            raise ValueError(f"value is {value}; expected a finite number")
        answers = self._answers.setdefault(item, {})
        if labeler not in answers:
            self._counts[labeler] = self._counts.get(labeler, 0) + 1
        answers[labeler] = float(min(max(value, -_LARGEST), _LARGEST))
        return self.posterior(item)

    def know(self, item: str, truth: float | None) -> None:
        """Clamp an item to a known value, or free it again with None."""
        if truth is None:
            self._gold.pop(item, None)
        else:
            self._gold[item] = float(truth)

    def posterior(self, item: str) -> Measured:
        """Return the estimate of an item; the mean of all values where nobody has answered."""
        votes = self.votes_on(item)
        if item in self._gold:
            return Measured(self._gold[item], 0.0, len(votes))
        if not votes:
            return Measured(self._crowd.mean, self._crowd.sd, 0)
        value, weight = self._solve(votes)
        precision = 1.0 / self._crowd.sd**2 + float(weight.sum())
        return Measured(value, precision**-0.5, len(votes))

    def votes_on(self, item: str) -> Sequence[tuple[str, float]]:
        """Return ``(labeler, value)`` of each answer on an item, by labeler."""
        answers = self._answers.get(item, {})
        return [(who, answers[who]) for who in sorted(answers)]

    def weigh(self, item: str) -> list[Weighed]:
        """Return each answer's share of the estimate, heaviest first."""
        votes = self.votes_on(item)
        if not votes:
            return []
        _, weight = self._solve(votes)
        share = weight / (weight.sum() + 1.0 / self._crowd.sd**2)
        parts = [Weighed(who, 0, float(s)) for (who, _), s in zip(votes, share, strict=True)]
        return sorted(parts, key=lambda part: (-part.weight, part.labeler))

    def reliability(self, labeler: str) -> LabelerError:
        """Return a labeler's bias and spread; the crowd's for one never fitted."""
        bias, spread = self._of(labeler)
        return LabelerError(labeler, self._counts.get(labeler, 0), bias, spread)

    def labelers(self) -> list[str]:
        """Return the labelers who answered, by name."""
        return sorted(self._counts)

    def items(self) -> Sequence[str]:
        """Return the items that have an answer."""
        return list(self._answers)

    def refit(self) -> None:
        """Fit biases, spreads and true values to all answers; independent of the order they came in."""
        names, labelers = sorted(self._answers), tuple(sorted(self._counts))
        place = {who: i for i, who in enumerate(labelers)}
        rows = [(i, place[who], y) for i, name in enumerate(names) for who, y in self.votes_on(name)]
        self.refits += 1
        self.refit_votes = self.votes
        if not rows:
            return
        item = np.array([r[0] for r in rows])
        labeler = np.array([r[1] for r in rows])
        answer = np.array([r[2] for r in rows])
        known = np.array([self._gold.get(name, np.nan) for name in names])
        self._adopt(_fit(item, labeler, answer, known, labelers, self._scale))

    def save(self) -> bytes:
        """Return the fitted state as bytes (NumPy .npz, no pickle)."""
        crowd, buffer = self._crowd, io.BytesIO()
        np.savez(
            buffer,
            crowd=np.array([crowd.mean, crowd.sd, crowd.noise]),
            labelers=np.array(crowd.labelers, dtype=np.str_),
            bias=crowd.bias,
            spread=crowd.spread,
            refits=np.array([self.refits, self.refit_votes], dtype=np.int64),
        )
        return buffer.getvalue()

    def restore(self, saved: bytes) -> None:
        """Adopt a saved fit; the answers are added by `update` as ever."""
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            mean, sd, noise = (float(v) for v in arrays["crowd"])
            labelers = tuple(str(name) for name in arrays["labelers"])
            self.refits, self.refit_votes = (int(n) for n in arrays["refits"])
            self._adopt(_Crowd(mean, sd, noise, labelers, arrays["bias"], arrays["spread"]))

    def digest(self) -> bytes:
        """Return the SHA-256 of the fitted state."""
        crowd = self._crowd
        sha = hashlib.sha256("\n".join(crowd.labelers).encode())
        for array in (np.array([crowd.mean, crowd.sd, crowd.noise]), crowd.bias, crowd.spread):
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.digest()

    def _adopt(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._rows = {who: i for i, who in enumerate(crowd.labelers)}

    def _of(self, labeler: str) -> tuple[float, float]:
        row = self._rows.get(labeler)
        if row is None:
            return 0.0, self._crowd.noise
        return float(self._crowd.bias[row]), float(self._crowd.spread[row])

    def _solve(self, votes: Sequence[tuple[str, float]]) -> tuple[float, Floats]:
        """Return the estimate from these answers and the precision each brought."""
        errors = [self._of(who) for who, _ in votes]
        shifted = np.array([y - bias for (_, y), (bias, _) in zip(votes, errors, strict=True)])
        precision = np.array([1.0 / spread**2 for _, spread in errors])
        value = float(np.median(shifted))
        weight = precision
        for _ in range(10):
            weight = precision * (_FREEDOM + 1.0) / (_FREEDOM + (shifted - value) ** 2 * precision)
            total = float(weight.sum()) + 1.0 / self._crowd.sd**2
            value = (float(weight @ shifted) + self._crowd.mean / self._crowd.sd**2) / total
        return value, weight


def probability_within(measured: Measured, tolerance: float) -> float:
    """Return the chance that the truth lies within ``tolerance`` of the estimate (normal posterior)."""
    if measured.sd == 0.0:
        return 1.0
    return float(special.erf(tolerance / measured.sd / np.sqrt(2.0)))


def probability_of_step(measured: Measured, step: int) -> float:
    """Return the chance that the truth rounds to ``step``, for answers on an ordered scale of whole numbers."""
    if measured.sd == 0.0:
        return 1.0
    high, low = (step + 0.5 - measured.value) / measured.sd, (step - 0.5 - measured.value) / measured.sd
    return float(special.ndtr(high) - special.ndtr(low))


def _fit(
    item: NDArray[np.int64],
    labeler: NDArray[np.int64],
    answer: Floats,
    known: Floats,
    labelers: tuple[str, ...],
    scale: float,
) -> _Crowd:
    items, people = known.size, len(labelers)
    per_item = np.bincount(item, minlength=items)
    ends = np.cumsum(per_item)
    value = np.array(
        [np.median(answer[e - n : e]) if n else 0.0 for e, n in zip(ends, per_item, strict=True)]
    )
    value = np.where(np.isnan(known), value, known)
    given = np.bincount(labeler, minlength=people)
    middle = float(np.median(answer))
    width = _typical(answer - middle, scale)
    answer = np.clip(answer, middle - _GROSS * width, middle + _GROSS * width)
    floor = max(width, 1e-12) * _SMALLEST
    noise = max(float(np.sqrt(np.mean(_winsorised(answer - value[item], scale) ** 2))), floor)
    mean, sd = _mean_and_sd(value, scale)
    sd = max(sd, floor)
    bias, spread = np.zeros(people), np.full(people, noise)
    for _ in range(_ROUNDS):
        residual = answer - value[item] - bias[labeler]
        robust = (_FREEDOM + 1.0) / (_FREEDOM + (residual / spread[labeler]) ** 2)
        precision = robust / spread[labeler] ** 2
        total = np.bincount(item, weights=precision, minlength=items) + 1.0 / sd**2
        said = np.bincount(item, weights=precision * (answer - bias[labeler]), minlength=items)
        fresh = np.where(np.isnan(known), (said + mean / sd**2) / total, known)
        off = np.bincount(labeler, weights=robust * (answer - fresh[item]), minlength=people)
        bias = off / (np.bincount(labeler, weights=robust, minlength=people) + _BIAS_STRENGTH)
        # What the estimate itself may be wrong by belongs to no labeler, and is added back to the residual.
        doubt = np.where(np.isnan(known), 1.0 / total, 0.0)[item]
        square = robust * (answer - fresh[item] - bias[labeler]) ** 2 + doubt
        spread = np.sqrt(
            (np.bincount(labeler, weights=square, minlength=people) + _SPREAD_STRENGTH * noise**2)
            / (given + _SPREAD_STRENGTH)
        )
        spread = np.maximum(spread, floor)
        noise = max(float(np.sqrt(square.mean())), floor)
        mean, sd = _mean_and_sd(fresh, scale)
        sd = max(float(np.sqrt(sd**2 + np.mean(1.0 / total))), floor)
        moved = float(np.abs(fresh - value).max())
        value = fresh
        if moved < _SETTLED * max(sd, floor):
            break
    return _Crowd(mean, sd, noise, labelers, bias, spread)


def _typical(deviation: Floats, scale: float) -> float:
    """Return the size of a usual deviation, whatever the size of up to a tenth of them.

    Where nine of ten are 0 it is the least of the others, but at most ``scale``; 0 if there is none.
    """
    size = np.abs(deviation)
    usual = max(1.4826 * float(np.median(size)), float(np.quantile(size, 0.9)) / 1.645)
    return usual or (float(np.min(size[size > 0.0], initial=scale)) if size.any() else 0.0)


def _winsorised(deviation: Floats, scale: float) -> Floats:
    most = _WINSOR * _typical(deviation, scale)
    return np.clip(deviation, -most, most)


def _mean_and_sd(values: Floats, scale: float) -> tuple[float, float]:
    middle = float(np.median(values))
    near = middle + _winsorised(values - middle, scale)
    return float(near.mean()), float(near.std())
