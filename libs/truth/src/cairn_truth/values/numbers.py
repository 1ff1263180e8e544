"""Numbers and ratings: labelers differ in level, scale and care, and now and then their pen slips.

`LiveNumbers` keeps the live state; the model and its fit are in `congeneric`. A value is never further from the plain
mean than what answers show of their labelers: where all are alike, it is the plain mean. How far out a value is makes no
slips of answers that corroborate each other; one that is alone is told as it is, and not believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from scipy import special

from ..columns import Floats, checked_name, real_number
from ..live_answers import Answered, Evidence, LiveAnswers
from .congeneric import Estimates, estimate, fit
from .number_crowd import Labelers, Population, Rows

ALGORITHM = "Congeneric"

VERSION = "6"
"""Changes whenever the same answers may give another estimate; it is written into every label's provenance."""

_LARGEST = 1e100
"""No answer is larger, nor an end of the range: squares of larger numbers have no place in a double."""

_NOISE_STRENGTH = 5.0
"""Answers as which the expected spread counts beside that of an item's own, before the first refit."""

_WINSOR = 4.0
"""Usual errors from the median beyond which an answer counts as just that far, before the first refit."""

_TELLING = 3
"""Items that tell labelers apart from them: through two values any level and scale can be laid, even those of a slip."""

_ALIKE = 0.01
"""Share of the crowd's spread below which values do not differ: no answer could show that they do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An estimate of an item, in the question's unit.

    ``sd``: of what an endless crowd of such labelers would say, around ``value``. ``truth_sd``: of the truth, whose level
    and scale may differ from the crowd's as a labeler's do, until known items show them. ``answers``: how many there are.
    ``confidence``: the chance that the truth is within the question's tolerance.
    """

    value: float
    sd: float
    answers: int
    confidence: float
    truth_sd: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelerError:
    """How a labeler errs, over ``votes`` answers: ``bias`` and ``spread`` in the question's unit, at the mean value;
    ``slope``, by how much their answer rises when the crowd's rises by one: 0 for one who does not look.
    """

    labeler: str
    votes: int
    bias: float
    spread: float
    slope: float


class LiveNumbers(LiveAnswers[float, Measured, LabelerError]):
    """Live estimates of a question answered with numbers; items and labelers by name.

    ``low`` and ``high`` are the ends of the range, where there are ends: answers are within, and so are values.
    ``tolerance``: how far from the truth still counts as right; by default half of `value_sd`, of what usually tells one
    item from another. Before the first refit, and while there are but one or two items, a value is the mean (of which
    what is far from the median has no larger part than others), and answers are taken to miss by an eighth of the range
    (of 1, where it is not known), unless those on the item show another spread. Items that all have the same value show
    no unit to measure in either: errors and the tolerance are then as before the first refit.
    """

    def __init__(
        self, low: float | None = None, high: float | None = None, tolerance: float | None = None
    ) -> None:
        self._low = -_LARGEST if low is None else _end("low", low)
        self._high = _LARGEST if high is None else _end("high", high)
        if not self._low < self._high:
            raise ValueError(f"low is {low} and high is {high}; expected low below high, within {_LARGEST:g}")
        self._tolerance = None if tolerance is None else real_number("tolerance", tolerance, least=0.0)
        both = low is not None and high is not None
        self._scale = self._high - self._low if both else 1.0
        self._centre = self._low + self._scale / 2.0 if both else min(max(0.0, self._low), self._high)
        self._crowd: Population | None = None
        super().__init__()

    @property
    def value_sd(self) -> float:
        """How much true values usually differ from item to item, in the question's unit; a few far out are no matter."""
        return self._scale / 4.0 if self._crowd is None or self._alike else self._crowd.usual

    @property
    def _alike(self) -> bool:
        """Return whether the values of all items are one, as far as answers tell."""
        return self._crowd is not None and self._crowd.usual < _ALIKE * self._crowd.noise

    @property
    def tolerance(self) -> float:
        """How far from the truth counts as right, in the question's unit."""
        return self.value_sd / 2.0 if self._tolerance is None else self._tolerance

    def reliability(self, labeler: str) -> LabelerError:
        """Return how a labeler errs, as the crowd does where never fitted.

        The bias is against the truth where truths are known, and else against the crowd's mean.
        """
        votes = self._counts.get(checked_name("labeler", labeler), 0)
        if self._crowd is None:
            return LabelerError(labeler, votes, 0.0, self._scale / 8.0, 1.0)
        own = self._own.take(self._rows_of([labeler]))
        level = float(self._crowd.truth.bias[0]) if self._crowd.gold else 0.0
        return LabelerError(
            labeler, votes, float(own.bias[0]) - level, float(own.spread[0]), float(own.slope[0])
        )

    def _settings(self) -> str:
        return f"low={self._low}, high={self._high}, tolerance={self._tolerance}"

    def _checked(self, answer: float) -> float:
        value = _as_double(answer)
        if not abs(value) <= _LARGEST:
            raise ValueError(f"value is {answer!r}; expected a finite number, at most {_LARGEST:g} in size")
        if not self._low <= value <= self._high:
            raise ValueError(f"value is {answer}; expected a number in {self._low:g}..{self._high:g}")
        return value

    def _join(self, votes: Sequence[tuple[str, float]]) -> Measured:
        if not votes:
            mean = self._centre if self._crowd is None else self._crowd.mean
            return Measured(self._inside(mean), self.value_sd, 0, 0.0, self.value_sd)
        answers = np.array([value for _, value in votes])
        if self._crowd is None:
            told = self._cold(answers)
        else:
            own = self._own.take(self._rows_of([who for who, _ in votes]))
            told = estimate(np.zeros(len(votes), dtype=np.int64), answers, own, 1, self._crowd)
            if self._alike:
                told = _at_least(told, self._cold(answers))
        value, truth_sd = self._inside(float(told.value[0])), float(told.truth_variance[0]) ** 0.5
        return Measured(
            value,
            float(told.variance[0]) ** 0.5,
            len(votes),
            _chance_within(truth_sd, self.tolerance),
            truth_sd,
            self._evidence(votes, value, told.weight),
        )

    def _cold(self, answers: Floats) -> Estimates:
        """Return the winsorised mean (Tukey 1962), before anything is known of anybody."""
        expected = _NOISE_STRENGTH * (self._scale / 8.0) ** 2
        away = answers - np.median(answers)
        most = _WINSOR * max(1.4826 * float(np.median(np.abs(away))), self._scale / 8.0)
        part = most / np.maximum(np.abs(away), most)
        near = np.where(part < 1.0, np.median(answers) + part * away, answers)
        mean = float(np.sum(near / answers.size))
        seen = float(np.sum((near - mean) ** 2))
        noise = (expected + seen) / (_NOISE_STRENGTH + answers.size - 1)
        variance = np.array([noise / answers.size])
        return Estimates(np.array([mean]), variance, variance, part / answers.size)

    def _known(self, truth: float, votes: Sequence[tuple[str, float]]) -> Measured:
        return Measured(truth, 0.0, len(votes), 1.0, 0.0, self._evidence(votes, truth, np.zeros(len(votes))))

    def _learn(self, answered: Sequence[Answered[float]], labelers: tuple[str, ...]) -> Mapping[str, Floats]:
        if not labelers or (len(answered) < _TELLING and any(one.truth is None for one in answered)):
            return {}
        place = {who: row for row, who in enumerate(labelers)}
        item = np.repeat(np.arange(len(answered)), [len(one.votes) for one in answered])
        labeler = np.array([place[who] for one in answered for who, _ in one.votes], dtype=np.int64)
        answer = np.array([value for one in answered for _, value in one.votes])
        known = np.array([np.nan if one.truth is None else one.truth for one in answered])
        crowd, own = fit(item, labeler, answer, known, len(labelers), self._scale)
        return {"crowd": crowd.as_array(), **own.as_arrays()}

    def _adopt(self, labelers: tuple[str, ...], fitted: Mapping[str, Floats]) -> None:
        crowd = Population.of_array(fitted["crowd"]) if fitted else None
        own = Labelers.of_arrays(fitted) if fitted else None
        super()._adopt(labelers, fitted)
        self._crowd = crowd
        if crowd is not None and own is not None:
            self._own = own.beside(crowd.stranger())

    def _rows_of(self, labelers: Sequence[str]) -> Rows:
        """Return rows of ``self._own``; the last one, the stranger's, for those never fitted."""
        return np.array([self._rows.get(who, len(self._rows)) for who in labelers], dtype=np.int64)

    def _inside(self, value: float) -> float:
        return min(max(value, self._low), self._high)

    def _evidence(
        self, votes: Sequence[tuple[str, float]], value: float, weight: Floats
    ) -> tuple[Evidence, ...]:
        """Agreement is one at the value, a half at the tolerance from it, and falls on with the distance."""
        near = self.tolerance
        parts = [
            Evidence(who, 1.0 if said == value else near / (near + abs(said - value)), float(share))
            for (who, said), share in zip(votes, weight, strict=True)
        ]
        return tuple(sorted(parts, key=lambda part: (-part.weight, part.labeler)))


def _at_least(told: Estimates, least: Estimates) -> Estimates:
    """Return the same estimates, no surer than others."""
    return replace(
        told,
        variance=np.maximum(told.variance, least.variance),
        truth_variance=np.maximum(told.truth_variance, least.truth_variance),
    )


def _as_double(said: object) -> float:
    """Return it as a double: nan where it is no number, infinite where a double cannot hold it."""
    try:
        return np.nan if isinstance(said, bool) or not isinstance(said, Real) else float(said)
    except OverflowError:
        return np.inf


def _end(name: str, end: float) -> float:
    """Return an end of the range as it is kept. Raises ValueError naming it where it is no finite number."""
    return min(max(real_number(name, end), -_LARGEST), _LARGEST)


def probability_within(measured: Measured, tolerance: float) -> float:
    """Return the chance that the truth lies within ``tolerance`` of the estimate (normal posterior)."""
    return _chance_within(measured.truth_sd, tolerance)


def probability_of_step(
    measured: Measured, step: int, low: int | None = None, high: int | None = None
) -> float:
    """Return the chance that the truth is at ``step`` of an ordered scale of whole numbers, from ``low`` to ``high``.

    The truth's normal posterior is cut half way between steps (the cumulative model of McCullagh 1980); the steps at the
    ends hold all that is beyond. Raises ValueError for a step that is not on the scale.
    """
    if (low is not None and step < low) or (high is not None and step > high):
        raise ValueError(f"step is {step}; expected a step in {low}..{high}")
    below = 0.0 if step == low else _chance_below(measured, step - 0.5)
    upto = 1.0 if step == high else _chance_below(measured, step + 0.5)
    return max(upto - below, 0.0)


def _chance_below(measured: Measured, limit: float) -> float:
    if measured.truth_sd == 0.0:
        return float(limit > measured.value)
    return float(special.ndtr((limit - measured.value) / measured.truth_sd))


def _chance_within(sd: float, tolerance: float) -> float:
    return 1.0 if sd == 0.0 else float(special.erf(tolerance / sd / np.sqrt(2.0)))
