"""Who answers faster, or more regularly, than people do?

People's times are about log-normal, each with a usual pace and a scatter around it. Both differ between people, and
how much is learnt from the crowd, by medians, so that bots among it do not set the measure:

* *too fast*: a usual pace so far below the crowd's that no person of this crowd would have it;
* *too regular*: a scatter far below anybody's, as of a clock; of times taken, or of the pauses between answers.

A time is known to its column's unit only: three seconds by a clock of whole seconds are anything from two and a half to
three and a half, and so much scatter, as of all of these alike, is added to everybody's. Answers of one moment came as
one page, and between them there is no pause to judge. The p-values of all labelers and both tests are taken together by
Benjamini & Hochberg (1995).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import Floats
from .answer_times import AnswerTimes
from .findings import Finding, Misconduct, adjusted, checked_rate, top

ALGORITHM = "PaceAndScatter"
VERSION = "2"
"""Changes whenever the same times may give another finding."""

LEAST_TIMES = 10
"""Answers that must be timed before a pace is usual."""

_LEAST_SPREAD = 0.35
"""People's usual paces differ by a third at least: a crowd that seems more alike is small, or one script."""

_REGULAR = 3.0
"""Whoever scatters no less than a third of the typical labeler is a person with habits."""

_LEAST_SECONDS = 1e-3

_UNITS = (60.0, 30.0, 15.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.01, 0.001)
"""What clocks count in, seconds."""

_NEARLY_ALL = 0.95
"""So many times that are whole numbers of a unit were taken by it."""

_MEDIAN = 0.37
"""A median deviation tells as much as so large a share of its values would by their squares."""

_SIGMA = 1.4826
"""Standard deviations in a median deviation of normal values."""

_CUT, _CUT_SIGMA = 2.5, 0.9546
"""Where the crowd is cut, in standard deviations, and the standard deviation of a normal law that is."""

Ints = NDArray[np.int64]


def find_bots(
    item: ArrayLike,
    labeler: ArrayLike,
    seconds: ArrayLike,
    *,
    moment: ArrayLike | None = None,
    false_rate: float = 0.05,
) -> list[Finding]:
    """Name labelers whose answers came too fast or too regularly, surest first.

    Columns of one length: ``item``, ``labeler`` (whole numbers from 0), ``seconds`` each answer took, and the ``moment``
    (seconds since any) when it came; nan where unknown. In a crowd without bots, somebody is named with chance at most
    ``false_rate``. ``statistic`` is the usual time in seconds with its 95 % interval, ``items`` those answered fastest,
    ``probability`` one minus the false-discovery rate (`Finding`). Raises ValueError naming a column.
    """
    rate = checked_rate(false_rate)
    times = AnswerTimes(item, labeler, seconds, moment)
    what, names = times.rows()
    people, who = np.unique(names, return_inverse=True)
    columns = [(times.taken(), _unit(times.taken()) / 2.0)]
    if moment is not None:
        # A pause lies between two moments, and each may be off by half a unit.
        columns.append((_pauses(who, times.came()), _unit(times.came())))
    paces = [_pace(who, column, off, people.size) for column, off in columns]
    usual, scatter, count = paces[0]
    tests = [_too_fast(usual, count, columns[0][1]), *(_too_regular(each, n) for _, each, n in paces)]
    p_value = np.min(tests, axis=0) * len(tests)
    q_value = adjusted(np.where(np.max([n for *_, n in paces], axis=0) >= LEAST_TIMES, p_value, 1.0))
    named = [w for w in np.argsort(q_value, kind="stable") if q_value[w] <= rate]
    taken = columns[0][0]
    findings = []
    for w in named:
        own = np.flatnonzero((who == w) & np.isfinite(taken))
        margin = 1.96 * scatter[w] / np.sqrt(max(_MEDIAN * count[w], 1.0))
        middle = float(np.exp(usual[w]))
        findings.append(
            Finding(
                Misconduct.BOT,
                (int(people[w]),),
                statistic=middle,
                low=middle * float(np.exp(-margin)),
                high=middle * float(np.exp(margin)),
                probability=1.0 - float(q_value[w]),
                p_value=float(min(p_value[w], 1.0)),
                answers=int(count[w]),
                items=top(what[own], 1.0 / np.maximum(taken[own], _LEAST_SECONDS)),
            )
        )
    return findings


def _unit(times: Floats) -> float:
    """Return the largest unit that nearly all of the times are whole numbers of; 0 for none, seconds."""
    known = times[np.isfinite(times) & (times > 0.0)]
    for unit in _UNITS:
        counted = known / unit
        # Moments since 1970 are told apart to about a microsecond.
        if known.size and (np.abs(counted - np.rint(counted)) * unit < 1e-6).mean() >= _NEARLY_ALL:
            return unit
    return 0.0


def _pace(who: Ints, seconds: Floats, off: float, people: int) -> tuple[Floats, Floats, Ints]:
    """Return each labeler's median log-time, the scatter of log-times and the number of times.

    Scatter is 1.4826 median deviations, and that of times ``off`` by anything up to so many seconds.
    """
    known = np.isfinite(seconds)
    log = np.log(np.maximum(np.where(known, seconds, 1.0), max(off, _LEAST_SECONDS)))
    usual, count = _medians(who[known], log[known], people)
    deviation, _ = _medians(who[known], np.abs(log[known] - usual[who[known]]), people)
    return usual, np.hypot(_SIGMA * deviation, _hidden(off, usual)), count


def _hidden(off: float, usual: Floats) -> Floats:
    """Return the standard deviation of log-times that are off by anything up to so many seconds."""
    return np.asarray(off / 3.0**0.5 / np.exp(usual))


def _medians(who: Ints, value: Floats, people: int) -> tuple[Floats, Ints]:
    """Return each labeler's median, 0 without values, and how many values there are."""
    order = np.lexsort((value, who))
    count = np.bincount(who, minlength=people)
    start = np.cumsum(count) - count
    held = np.flatnonzero(count)
    median = np.zeros(people)
    inner = value[order]
    low, high = start[held] + (count[held] - 1) // 2, start[held] + count[held] // 2
    median[held] = 0.5 * (inner[low] + inner[high])
    return median, count


def _too_fast(usual: Floats, count: Ints, off: float) -> Floats:
    """Return the chance of so fast a usual pace in a person of this crowd, by Student's law of one value more.

    The pace itself is ``off`` by anything up to so many seconds.
    """
    judged = count >= LEAST_TIMES
    if judged.sum() < 3:
        return np.ones(usual.size)
    centre, spread, people = _crowd(usual[judged])
    spread = max(spread, _LEAST_SPREAD) * (1.0 + np.pi / 2.0 / people) ** 0.5
    away = (usual - centre) / np.hypot(spread, _hidden(off, usual))
    return np.asarray(np.where(judged, special.stdtr(max(people - 1.0, 1.0), away), 1.0))


def _crowd(usual: Floats) -> tuple[float, float, int]:
    """Return the median of paces, their standard deviation, and of how many people that was learnt.

    Of those within 2.5 deviations, by medians, as of a normal law cut there: bots do not widen it, and it tells more than
    medians do.
    """
    centre = float(np.median(usual))
    away = usual - centre
    inner = away[np.abs(away) <= _CUT * _SIGMA * float(np.median(np.abs(away)))]
    return centre, float(np.sqrt(np.mean(inner**2))) / _CUT_SIGMA, inner.size


def _too_regular(scatter: Floats, count: Ints) -> Floats:
    """Return the chance of so little scatter in a person who scatters a third as much as the typical one.

    ``(n - 1) s^2 / sigma^2`` is about chi-square, of as many answers as a median deviation is worth.
    """
    judged = count >= LEAST_TIMES
    if judged.sum() < 3:
        return np.ones(scatter.size)
    least = float(np.median(scatter[judged])) / _REGULAR
    if least == 0.0:
        return np.ones(scatter.size)
    freedom = np.maximum(_MEDIAN * count - 1.0, 1.0)
    return np.asarray(
        np.where(judged, special.gammainc(freedom / 2.0, freedom * (scatter / least) ** 2 / 2.0), 1.0)
    )


def _pauses(who: Ints, moment: Floats) -> Floats:
    """Return how long before each answer the same labeler's last one came; nan for the first, and within a moment."""
    order = np.lexsort((moment, who))
    pause = np.full(who.size, np.nan)
    same = (who[order[1:]] == who[order[:-1]]) & (np.diff(moment[order]) > 0.0)
    pause[order[1:][same]] = np.diff(moment[order])[same]
    return pause
