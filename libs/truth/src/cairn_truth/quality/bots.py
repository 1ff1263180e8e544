"""Who answers faster, or more regularly, than people do?

People's times are about log-normal, each with a usual pace and a scatter around it. Both differ between people, and
how much is learnt from the crowd, by medians, so that bots among it do not set the measure:

* *too fast*: a usual pace so far below the crowd's that no person of this crowd would have it;
* *too regular*: a scatter far below anybody's, as of a clock; of times taken, or of the pauses between answers.

The p-values of all labelers and both tests are taken together by Benjamini & Hochberg (1995).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from ..columns import Floats, as_array, numbers
from .findings import Finding, Misconduct, adjusted, checked_rate, top

ALGORITHM = "PaceAndScatter"
VERSION = "1"
"""Changes whenever the same times may give another finding."""

LEAST_TIMES = 10
"""Answers that must be timed before a pace is usual."""

_LEAST_SPREAD = 0.35
"""People's usual paces differ by a third at least: a crowd that seems more alike is small, or one script."""

_REGULAR = 3.0
"""Whoever scatters no less than a third of the typical labeler is a person with habits."""

_LEAST_SECONDS = 1e-3

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
    (seconds since any) when it came; nan where unknown. ``statistic`` is the usual time in seconds with its 95 % interval,
    ``items`` those answered fastest, ``probability`` one minus the adjusted p-value. Raises ValueError naming a column.
    """
    rate = checked_rate(false_rate)
    who, what = _whole("labeler", labeler), _whole("item", item)
    columns = [_times("seconds", seconds, who.size)]
    if moment is not None:
        columns.append(_pauses(who, _times("moment", moment, who.size)))
    if what.size != who.size:
        raise ValueError(f"the columns differ in length: item {what.size}, labeler {who.size}")
    people = int(who.max(initial=-1)) + 1
    paces = [_pace(who, column, people) for column in columns]
    usual, scatter, count = paces[0]
    tests = [_too_fast(usual, count), *(_too_regular(each, n) for _, each, n in paces)]
    p_value = np.min(tests, axis=0) * len(tests)
    q_value = adjusted(np.where(np.max([n for *_, n in paces], axis=0) >= LEAST_TIMES, p_value, 1.0))
    named = [w for w in np.argsort(q_value, kind="stable") if q_value[w] <= rate]
    findings = []
    for w in named:
        own = np.flatnonzero((who == w) & np.isfinite(columns[0]))
        margin = 1.96 * scatter[w] / np.sqrt(max(count[w], 1))
        middle = float(np.exp(usual[w]))
        findings.append(
            Finding(
                Misconduct.BOT,
                (int(w),),
                statistic=middle,
                low=middle * float(np.exp(-margin)),
                high=middle * float(np.exp(margin)),
                probability=1.0 - float(q_value[w]),
                p_value=float(min(p_value[w], 1.0)),
                answers=int(count[w]),
                items=top(what[own], 1.0 / np.maximum(columns[0][own], _LEAST_SECONDS)),
            )
        )
    return findings


def _pace(who: Ints, seconds: Floats, people: int) -> tuple[Floats, Floats, Ints]:
    """Return each labeler's median log-time, scatter of log-times (1.4826 median deviations) and number of times."""
    known = np.isfinite(seconds)
    log = np.log(np.maximum(np.where(known, seconds, 1.0), _LEAST_SECONDS))
    usual, count = _medians(who[known], log[known], people)
    deviation, _ = _medians(who[known], np.abs(log[known] - usual[who[known]]), people)
    return usual, 1.4826 * deviation, count


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


def _too_fast(usual: Floats, count: Ints) -> Floats:
    """Return the chance of so fast a usual pace in a person of this crowd."""
    judged = count >= LEAST_TIMES
    if judged.sum() < 3:
        return np.ones(usual.size)
    centre = float(np.median(usual[judged]))
    spread = max(1.4826 * float(np.median(np.abs(usual[judged] - centre))), _LEAST_SPREAD)
    return np.asarray(np.where(judged, special.ndtr((usual - centre) / spread), 1.0))


def _too_regular(scatter: Floats, count: Ints) -> Floats:
    """Return the chance of so little scatter in a person who scatters a third as much as the typical one.

    ``(n - 1) s^2 / sigma^2`` is about chi-square; a median deviation is as good as 0.37 n answers (its efficiency).
    """
    judged = count >= LEAST_TIMES
    if judged.sum() < 3:
        return np.ones(scatter.size)
    least = float(np.median(scatter[judged])) / _REGULAR
    if least == 0.0:
        return np.ones(scatter.size)
    freedom = np.maximum(0.37 * count - 1.0, 1.0)
    return np.asarray(
        np.where(judged, special.gammainc(freedom / 2.0, freedom * (scatter / least) ** 2 / 2.0), 1.0)
    )


def _pauses(who: Ints, moment: Floats) -> Floats:
    """Return how long before each answer the same labeler's last one came; nan for the first."""
    order = np.lexsort((moment, who))
    pause = np.full(who.size, np.nan)
    same = who[order[1:]] == who[order[:-1]]
    pause[order[1:][same]] = np.diff(moment[order])[same]
    return pause


def _whole(name: str, values: ArrayLike) -> Ints:
    column = as_array(name, values)
    if column.dtype.kind == "b":
        raise ValueError(f"column {name} holds {column.dtype}; expected whole numbers")
    if column.ndim != 1:
        raise ValueError(f"column {name} has shape {column.shape}; expected one dimension")
    if not column.size:
        return np.zeros(0, np.int64)
    number = numbers(f"column {name}", column)
    bad = np.flatnonzero(~((number >= 0) & (number == np.floor(number)) & (number < 2**31)))
    if bad.size:
        raise ValueError(f"column {name}, row {bad[0]}: {column[bad[0]]} is not a whole number from 0 on")
    return number.astype(np.int64)


def _times(name: str, values: ArrayLike, length: int) -> Floats:
    column = numbers(f"column {name}", values)
    if column.shape != (length,):
        raise ValueError(f"column {name} has shape {column.shape}; expected ({length},)")
    bad = np.flatnonzero(~(np.isnan(column) | ((column >= 0.0) & np.isfinite(column))))
    if bad.size:
        raise ValueError(
            f"column {name}, row {bad[0]}: {column[bad[0]]} is no time; expected at least 0, or nan"
        )
    return column
