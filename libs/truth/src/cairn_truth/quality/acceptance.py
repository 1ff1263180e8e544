"""May this lot be delivered? Acceptance sampling by attributes, in the manner of ISO 2859-1, exact for finite lots.

A lot of ``N`` labels is accepted with at most ``c`` wrong ones among ``n`` drawn without replacement. Of the four numbers
that fix a plan two belong to the producer (a lot no worse than the acceptable quality ``aql`` is refused with chance at
most ``producer_risk``) and two to the consumer (a lot no better than the limiting quality ``limit`` is accepted with
chance at most ``consumer_risk``). The tables of ISO 2859-1 fix the first two and leave the others to the code letter;
here all four are kept, by the smallest sample that can (Guenther 1969), with the hypergeometric law in place of its
limits. A second sample where the first leaves doubt (Dodge & Romig 1941) keeps both risks with fewer checks on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..columns import Floats, check_probability, numbers, real_number, whole_number
from .hypergeometric import MOST_LABELS, at_most, exactly, smallest_sample

Ints = NDArray[np.int64]

_FIRST_SHARES = (0.4, 0.5, 0.6, 0.67, 0.75)
"""First samples tried, as shares of the single plan's: outside these double plans do not gain."""


@dataclass(frozen=True, slots=True)
class SinglePlan:
    """Draw ``sample`` of ``lot`` labels; accept with at most ``accept`` wrong ones among them."""

    lot: int
    sample: int
    accept: int

    def __post_init__(self) -> None:
        for name, least in (("lot", 1), ("sample", 0), ("accept", 0)):
            whole_number(name, getattr(self, name), least, MOST_LABELS)
        if not self.accept <= self.sample <= self.lot:
            raise ValueError(
                f"expected 0 <= accept ({self.accept}) <= sample ({self.sample}) <= lot ({self.lot}), lot >= 1"
            )

    def acceptance(self, error: ArrayLike) -> Floats:
        """Return the chance that a lot of this share of wrong labels is accepted: the operating characteristic.

        ``error`` any shape, 0..1; the lot holds the nearest whole number of wrong labels. Raises ValueError outside.
        """
        return at_most(self.accept, self.lot, _wrong(error, self.lot), self.sample)

    def checks(self, error: ArrayLike) -> Floats:
        """Return the expected number of labels looked at: the sample."""
        return np.full(np.shape(np.asarray(error)), float(self.sample))

    def average_outgoing_error(self, error: ArrayLike) -> Floats:
        """Return the error delivered on average: what is found is put right, and refused lots are looked at whole."""
        wrong = _wrong(error, self.lot)
        return _delivered(self.accept, self.lot, wrong, self.sample) / self.lot

    def outgoing_limit(self) -> tuple[float, float]:
        """Return the largest average outgoing error (AOQL) and the incoming error that it comes of."""
        return _limit(self)


@dataclass(frozen=True, slots=True)
class DoublePlan:
    """Draw ``first``: at most ``accept_first`` wrong accept, ``refuse_first`` or more refuse the lot; else draw ``second``
    more: at most ``accept_total`` wrong ones in both accept.
    """

    lot: int
    first: int
    accept_first: int
    refuse_first: int
    second: int
    accept_total: int

    def __post_init__(self) -> None:
        for name in ("lot", "first", "accept_first", "refuse_first", "second", "accept_total"):
            whole_number(name, getattr(self, name), int(name in {"lot", "first", "second"}), MOST_LABELS)
        in_order = self.accept_first < self.refuse_first <= self.accept_total + 1
        if not in_order or self.first + self.second > self.lot:
            raise ValueError(
                f"expected 0 <= accept_first ({self.accept_first}) < refuse_first ({self.refuse_first}) <= accept_total "
                f"({self.accept_total}) + 1, first ({self.first}) and second ({self.second}) >= 1, "
                f"together <= lot ({self.lot})"
            )

    def acceptance(self, error: ArrayLike) -> Floats:
        """Return the chance that a lot of this share of wrong labels is accepted. Raises ValueError outside 0..1."""
        wrong = _wrong(error, self.lot)
        chance = at_most(self.accept_first, self.lot, wrong, self.first)
        for seen in range(self.accept_first + 1, self.refuse_first):
            left = np.maximum(wrong - seen, 0)
            rest = at_most(self.accept_total - seen, self.lot - self.first, left, self.second)
            chance = chance + exactly(seen, self.lot, wrong, self.first) * rest
        return np.minimum(chance, 1.0)

    def checks(self, error: ArrayLike) -> Floats:
        """Return the expected number of labels looked at, both samples whole."""
        wrong = _wrong(error, self.lot)
        again = np.zeros(wrong.shape)
        for seen in range(self.accept_first + 1, self.refuse_first):
            again = again + exactly(seen, self.lot, wrong, self.first)
        return np.asarray(self.first + self.second * again)

    def average_outgoing_error(self, error: ArrayLike) -> Floats:
        """Return the error delivered on average: what is found is put right, and refused lots are looked at whole."""
        wrong = _wrong(error, self.lot)
        delivered = _delivered(self.accept_first, self.lot, wrong, self.first)
        for seen in range(self.accept_first + 1, self.refuse_first):
            left = np.maximum(wrong - seen, 0)
            rest = _delivered(self.accept_total - seen, self.lot - self.first, left, self.second)
            delivered = delivered + exactly(seen, self.lot, wrong, self.first) * rest
        return np.asarray(delivered / self.lot)

    def outgoing_limit(self) -> tuple[float, float]:
        """Return the largest average outgoing error (AOQL) and the incoming error that it comes of."""
        return _limit(self)


def single_plan(
    lot: int, *, aql: float, limit: float, producer_risk: float = 0.05, consumer_risk: float = 0.1
) -> SinglePlan:
    """Return the plan with the smallest sample that keeps both risks; the whole lot where nothing less does.

    ``aql`` and ``limit`` (LTPD, RQL) are shares of wrong labels, ``0 <= aql < limit <= 1``; a lot holds whole labels:
    ``floor(aql * lot)`` wrong ones must pass, ``ceil(limit * lot)`` must not. Raises ValueError where these are one
    number, so that no plan can tell them apart. Cost: ``c log(lot)`` hypergeometric sums.
    """
    lot, good, bad = _qualities(lot, aql, limit, producer_risk, consumer_risk)
    sample = 1
    for accept in range(good + 1):
        # Who accepts more must look at more.
        sample = smallest_sample(lot, bad, accept, consumer_risk, sample)
        if float(at_most(accept, lot, good, sample)) >= 1.0 - producer_risk:
            return SinglePlan(lot, sample, accept)
    return SinglePlan(lot, lot, good)


def double_plan(
    lot: int, *, aql: float, limit: float, producer_risk: float = 0.05, consumer_risk: float = 0.1
) -> DoublePlan | SinglePlan:
    """Return the double plan, second sample as large as the first or twice it, that looks at fewest labels at ``aql``.

    Arguments and errors as for `single_plan`, whose plan is returned where no double plan of these looks at fewer.
    """
    lot, good, bad = _qualities(lot, aql, limit, producer_risk, consumer_risk)
    single = single_plan(lot, aql=aql, limit=limit, producer_risk=producer_risk, consumer_risk=consumer_risk)
    best: DoublePlan | SinglePlan = single
    fewest = float(single.sample)
    for share in _FIRST_SHARES:
        first = math.ceil(single.sample * share)
        for times in (1, 2):
            plan = _cheapest(
                lot, first, first * times, single.accept, (good, bad), (producer_risk, consumer_risk)
            )
            if plan is not None and float(plan.checks(good / lot)) < fewest:
                best, fewest = plan, float(plan.checks(good / lot))
    return best


def _cheapest(
    lot: int, first: int, second: int, accept: int, qualities: tuple[int, int], risks: tuple[float, float]
) -> DoublePlan | None:
    """Return the plan of these samples that seldom draws the second; None if none keeps both risks."""
    if first + second > lot:
        return None
    most = accept + 3
    good, bad = (_TwoSamples.of(lot, first, second, wrong, most) for wrong in qualities)
    best: DoublePlan | None = None
    fewest = np.inf
    for total in range(max(accept, 1), most + 1):
        least, refuse = np.indices((total, total + 2))
        kept = (refuse >= least + 2) & (bad.acceptance(total) <= risks[1])
        kept &= good.acceptance(total) >= 1.0 - risks[0]
        again = np.where(kept, good.again(total), np.inf)
        at = int(again.argmin())
        if float(again.flat[at]) < fewest:
            fewest = float(again.flat[at])
            best = DoublePlan(lot, first, int(least.flat[at]), int(refuse.flat[at]), second, total)
    return best


@dataclass(frozen=True, slots=True)
class _TwoSamples:
    """What two samples of one lot may hold: ``first`` ``(found,)`` the chances of the first sample, up to the most asked
    for; ``both`` ``(found, more)`` those that the second holds no more than ``more`` besides.

    The tables below are ``(accept_first, refuse_first)``, as far as ``accept_total`` goes.
    """

    first: Floats
    both: Floats

    @classmethod
    def of(cls, lot: int, first: int, second: int, wrong: int, most: int) -> _TwoSamples:
        found = np.arange(most + 1)
        left = np.maximum(wrong - found, 0)
        more = exactly(found[None, :], lot - first, left[:, None], second)
        return cls(exactly(found, lot, wrong, first), np.minimum(np.cumsum(more, axis=1), 1.0))

    def acceptance(self, total: int) -> Floats:
        """Return the chance that the lot is accepted."""
        found = np.arange(total + 1)
        at_once = np.cumsum(self.first)[:total]
        return at_once[:, None] + _between(self.first[found] * self.both[found, total - found])

    def again(self, total: int) -> Floats:
        """Return the chance that the second sample is drawn."""
        return _between(self.first[: total + 1])


def _between(chance: Floats) -> Floats:
    """Return the sums of ``chance`` ``(total + 1,)`` above each ``accept_first`` and below each ``refuse_first``."""
    upto = np.concatenate([[0.0], np.cumsum(chance)])
    return np.asarray(upto[None, :] - upto[1:-1, None])


def _qualities(
    lot: int, aql: float, limit: float, producer_risk: float, consumer_risk: float
) -> tuple[int, int, int]:
    """Return the lot, how many wrong labels must pass and how many must not. Raises ValueError."""
    lot = whole_number("lot", lot, 1, MOST_LABELS)
    check_probability("producer_risk", producer_risk)
    check_probability("consumer_risk", consumer_risk)
    if not real_number("aql", aql, least=0.0) < real_number("limit", limit, most=1.0):
        raise ValueError(f"expected 0 <= aql ({aql}) < limit ({limit}) <= 1")
    good, bad = math.floor(aql * lot + 1e-9), math.ceil(limit * lot - 1e-9)
    if good >= bad:
        raise ValueError(
            f"aql {aql} and limit {limit} are both {good} of {lot} labels: no sample tells them apart"
        )
    return lot, good, bad


def _wrong(error: ArrayLike, lot: int) -> Ints:
    share = numbers("error", error)
    bad = np.flatnonzero(~((share >= 0.0) & (share <= 1.0)))
    if bad.size:
        raise ValueError(f"error, element {bad[0]}: {share.flat[bad[0]]} is not a share in 0..1")
    return np.asarray(np.rint(share * lot), dtype=np.int64)


def _delivered(errors: int, lot: int, wrong: Ints, sample: int) -> Floats:
    """Return the expected number of wrong labels left in lots accepted with at most so many found."""
    total = np.zeros(wrong.shape)
    for seen in range(min(errors, sample) + 1):
        total = total + exactly(seen, lot, wrong, sample) * np.maximum(wrong - seen, 0)
    return total


def _limit(plan: SinglePlan | DoublePlan) -> tuple[float, float]:
    """Search all numbers of wrong labels, or a thousand of them where there are more."""
    wrong = np.unique(np.linspace(0, plan.lot, min(plan.lot + 1, 1001)).astype(np.int64)) / plan.lot
    outgoing = plan.average_outgoing_error(wrong)
    worst = int(outgoing.argmax())
    return float(outgoing[worst]), float(wrong[worst])
