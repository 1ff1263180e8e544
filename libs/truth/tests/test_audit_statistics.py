"""What a sample proves: the interval covers the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cairn_truth.quality.audit_statistics import (
    Stratum,
    StratumFindings,
    Verdict,
    accept,
    acceptance_plan,
    allocate,
    estimate_error,
)

strata = st.lists(
    st.tuples(st.integers(0, 2000), st.floats(0, 1)).map(lambda p: p), min_size=1, max_size=6
).map(lambda rows: [Stratum(str(i), n, e) for i, (n, e) in enumerate(rows)])


@given(strata, st.integers(0, 800), st.integers(0, 10))
def test_an_allocation_spends_what_it_was_given_and_leaves_nobody_out(
    parts: list[Stratum], size: int, least: int
) -> None:
    drawn = allocate(parts, size, min_per_stratum=least)
    assert all(0 <= drawn[p.name] <= p.population for p in parts)
    minimum = sum(min(p.population, least) for p in parts) if size else 0
    total = min(size, sum(p.population for p in parts))
    assert sum(drawn.values()) == max(total, minimum if total else 0)
    if total:
        assert all(drawn[p.name] >= min(p.population, least) for p in parts)


@pytest.mark.parametrize("guess", [(0.05, 0.05, 0.05), (0.01, 0.2, 0.5)], ids=["proportional", "uneven"])
@pytest.mark.parametrize("rates", [(0.01, 0.05, 0.3), (0.002, 0.0, 0.02), (0.3, 0.3, 0.4)])
def test_the_interval_covers_the_truth_at_least_as_often_as_it_says(
    rates: tuple[float, ...], guess: tuple[float, ...]
) -> None:
    sizes, chance = (4000, 1000, 200), np.random.default_rng(0)
    wrong = [round(n * r) for n, r in zip(sizes, rates, strict=True)]
    drawn = allocate([Stratum(str(i), n, g) for i, (n, g) in enumerate(zip(sizes, guess, strict=True))], 300)
    truth = sum(wrong) / sum(sizes)
    covered = 0
    for _ in range(400):
        found = [
            StratumFindings(str(i), n, drawn[str(i)], int(chance.hypergeometric(w, n - w, drawn[str(i)])))
            for i, (n, w) in enumerate(zip(sizes, wrong, strict=True))
        ]
        said = estimate_error(found)
        covered += said.lower <= truth <= said.upper
        assert said.lower <= said.estimate <= said.upper
    assert covered / 400 >= 0.95


def test_one_stratum_is_clopper_pearson() -> None:
    said = estimate_error([StratumFindings("all", 100_000, 200, 7)])
    exact = stats.binomtest(7, 200).proportion_ci(0.95, method="exact")
    assert (said.lower, said.upper) == pytest.approx((exact.low, exact.high))
    assert said.estimate == 7 / 200


def test_what_was_looked_at_whole_is_known_and_what_was_not_looked_at_may_be_anything() -> None:
    whole = estimate_error([StratumFindings("all", 50, 50, 3)])
    assert whole.lower == whole.estimate == whole.upper == 3 / 50
    blind = estimate_error([StratumFindings("seen", 50, 50, 0), StratumFindings("unseen", 50, 0, 0)])
    assert (blind.lower, blind.upper) == (0.0, 0.5)


def test_a_lot_passes_fails_or_needs_more() -> None:
    assert accept([StratumFindings("a", 10_000, 400, 3)], alpha=0.05).verdict is Verdict.PASSED
    assert accept([StratumFindings("a", 10_000, 400, 60)], alpha=0.05).verdict is Verdict.FAILED
    assert accept([StratumFindings("a", 10_000, 40, 1)], alpha=0.05).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(("lot", "alpha", "allowed"), [(1000, 0.05, 0), (100, 0.1, 2), (5000, 0.01, 3)])
def test_a_plan_is_the_smallest_that_keeps_the_consumers_risk(lot: int, alpha: float, allowed: int) -> None:
    plan = acceptance_plan(lot, alpha=alpha, acceptance_number=allowed)
    bad = int(alpha * lot) + 1
    assert plan.consumer_risk == pytest.approx(stats.hypergeom.cdf(allowed, lot, bad, plan.sample_size))
    assert plan.consumer_risk <= 0.05 < stats.hypergeom.cdf(allowed, lot, bad, plan.sample_size - 1)


def test_findings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"errors \(3\) <= sampled \(2\)"):
        StratumFindings("a", 10, 2, 3)
    with pytest.raises(ValueError, match="the population is empty"):
        estimate_error([])
