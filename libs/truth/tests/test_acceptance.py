"""A plan keeps what it promises to who delivers and to who receives, with no check too many."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cairn_truth.quality.acceptance import DoublePlan, SinglePlan, double_plan, single_plan

RISKS = {"producer_risk": 0.05, "consumer_risk": 0.10}


@pytest.mark.parametrize(
    ("lot", "aql", "limit"), [(1000, 0.01, 0.06), (200, 0.02, 0.1), (20_000, 0.005, 0.02), (60, 0.0, 0.1)]
)
def test_the_smallest_sample_that_keeps_both_risks(lot: int, aql: float, limit: float) -> None:
    plan = single_plan(lot, aql=aql, limit=limit, **RISKS)
    good, bad = int(aql * lot), int(np.ceil(limit * lot))
    assert stats.hypergeom.cdf(plan.accept, lot, good, plan.sample) >= 0.95
    assert stats.hypergeom.cdf(plan.accept, lot, bad, plan.sample) <= 0.10
    for fewer in range(max(plan.sample - 30, 1), plan.sample):
        allowed = np.arange(good + 1)
        kept = (stats.hypergeom.cdf(allowed, lot, good, fewer) >= 0.95) & (
            stats.hypergeom.cdf(allowed, lot, bad, fewer) <= 0.10
        )
        assert not kept.any()


def test_a_textbook_plan_is_found_where_the_lot_is_large() -> None:
    # Montgomery, Introduction to Statistical Quality Control: p1 = .01, p2 = .06, risks .05 and .10: n = 89, c = 2.
    plan = single_plan(1_000_000, aql=0.01, limit=0.06, **RISKS)
    assert plan.accept in {2, 3}
    assert float(plan.acceptance(0.01)) >= 0.95
    assert float(plan.acceptance(0.06)) <= 0.10
    assert abs(float(SinglePlan(1_000_000, 89, 2).acceptance(0.01)) - 0.9397) < 1e-3


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_the_operating_characteristic_is_the_hypergeometric_law_and_falls(
    lot: int, data: st.DataObject
) -> None:
    sample = data.draw(st.integers(1, lot))
    plan = SinglePlan(lot, sample, data.draw(st.integers(0, sample)))
    wrong = np.arange(lot + 1)
    chance = plan.acceptance(wrong / lot)
    np.testing.assert_allclose(chance, stats.hypergeom.cdf(plan.accept, lot, wrong, sample), atol=1e-9)
    assert (np.diff(chance) <= 1e-9).all()


def test_what_is_delivered_is_what_simulated_lots_deliver() -> None:
    plan, chance = SinglePlan(500, 60, 1), np.random.default_rng(0)
    double = DoublePlan(500, 40, 0, 2, 40, 1)
    found = chance.hypergeometric(20, 480, 60, 200_000)
    left = np.where(found <= 1, 20 - found, 0).mean() / 500
    assert float(plan.average_outgoing_error(0.04)) == pytest.approx(left, rel=0.02)
    first = chance.hypergeometric(20, 480, 40, 200_000)
    second = chance.hypergeometric(20 - first, 460 - (20 - first), 40)
    accepted = (first == 0) | ((first == 1) & (first + second <= 1))
    fixed = np.where(first == 0, 20, 20 - first - second)
    assert float(double.acceptance(0.04)) == pytest.approx(accepted.mean(), rel=0.02)
    assert float(double.average_outgoing_error(0.04)) == pytest.approx(
        (accepted * fixed).mean() / 500, rel=0.02
    )
    assert float(double.checks(0.04)) == pytest.approx((40 + 40 * (first == 1)).mean(), rel=0.01)


def test_the_outgoing_limit_is_never_passed() -> None:
    plan = single_plan(2000, aql=0.01, limit=0.05)
    worst, where = plan.outgoing_limit()
    assert (plan.average_outgoing_error(np.linspace(0, 1, 333)) <= worst + 1e-4).all()
    assert float(plan.average_outgoing_error(where)) == worst


@pytest.mark.parametrize(("lot", "aql", "limit"), [(2000, 0.01, 0.05), (500, 0.02, 0.08)])
def test_a_second_sample_keeps_both_risks_with_fewer_checks(lot: int, aql: float, limit: float) -> None:
    single, double = single_plan(lot, aql=aql, limit=limit), double_plan(lot, aql=aql, limit=limit)
    assert isinstance(double, DoublePlan)
    assert float(double.acceptance(aql)) >= 0.95 - 1e-9
    assert float(double.acceptance(limit)) <= 0.10 + 1e-9
    assert float(double.checks(aql)) < single.sample


def test_plans_of_close_qualities_are_found_at_once() -> None:
    started = perf_counter()
    single = single_plan(10_000, aql=0.05, limit=0.06)
    double = double_plan(10_000, aql=0.05, limit=0.06)
    assert (single.sample, single.accept) == (3076, 170)
    assert float(double.checks(0.05)) < single.sample
    assert perf_counter() - started < 20.0  # a busy machine; term by term it took two minutes


def test_a_lot_too_small_to_sample_is_looked_at_whole() -> None:
    plan = single_plan(10, aql=0.1, limit=0.2)
    assert (plan.sample, plan.accept) == (10, 1)
    assert plan.acceptance([0.1, 0.2]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lot": 0, "aql": 0.0, "limit": 0.1}, "lot is 0"),
        ({"lot": float("nan"), "aql": 0.0, "limit": 0.1}, "lot is nan"),
        ({"lot": 100.5, "aql": 0.0, "limit": 0.1}, "lot is 100.5"),
        ({"lot": 10, "aql": 0.2, "limit": 0.1}, r"aql \(0.2\) < limit \(0.1\)"),
        ({"lot": 10, "aql": 0.1, "limit": 0.1 + 1e-12}, "both 1 of 10 labels"),
        ({"lot": 10, "aql": 0.0, "limit": 0.1, "producer_risk": 1.0}, "producer_risk is 1.0"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        single_plan(**arguments)  # type: ignore[arg-type]


def test_an_error_that_is_no_share_is_named() -> None:
    with pytest.raises(ValueError, match="element 1: nan"):
        SinglePlan(10, 5, 1).acceptance([0.1, float("nan")])
    with pytest.raises(ValueError, match="accept"):
        SinglePlan(10, 5, 6)
    with pytest.raises(ValueError, match="together <= lot"):
        DoublePlan(10, 6, 0, 2, 6, 1)
