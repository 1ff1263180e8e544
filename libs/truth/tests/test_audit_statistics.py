"""What a sample proves: the interval covers the truth as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
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
    hypergeometric_bounds,
    strata_by_error,
)
from cairn_truth.quality.unequal_sampling import estimate_unequal, inclusion_chances

strata = st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda rows: [Stratum(str(i), n, e) for i, (n, e) in enumerate(rows)]
)


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
    covered = above = below = 0
    for _ in range(200):
        found = [
            StratumFindings(str(i), n, drawn[str(i)], int(chance.hypergeometric(w, n - w, drawn[str(i)])))
            for i, (n, w) in enumerate(zip(sizes, wrong, strict=True))
        ]
        said = estimate_error(found)
        above += said.lower > truth
        below += said.upper < truth
        covered += said.lower <= truth <= said.upper
        assert said.lower <= said.estimate <= said.upper
    assert covered >= stats.binom.ppf(0.01, 200, 0.95)  # 95 %, but for luck
    assert max(above, below) <= stats.binom.ppf(0.995, 200, 0.025)


@pytest.mark.parametrize("drawn", [1, 5, 20, 50])
def test_each_end_misses_no_more_often_than_it_says_whatever_the_error_of_a_heavy_stratum(drawn: int) -> None:
    """Exact, over all that may be found: one stratum of 10,000 seldom looked at, one of 1,000 half seen without error."""
    for rate in np.linspace(0.02, 0.98, 25):
        wrong = round(10_000 * rate)
        seen = np.arange(drawn + 1)
        chance = stats.hypergeom.pmf(seen, 10_000, wrong, drawn)
        miss = np.zeros(2)
        for errors in seen[chance > 1e-9].tolist():
            said = estimate_error([
                StratumFindings("heavy", 10_000, drawn, errors), StratumFindings("light", 1_000, 500, 0)
            ])  # fmt: skip
            miss += chance[errors] * np.array([said.lower > wrong / 11_000, said.upper < wrong / 11_000])
        assert miss.max() <= 0.025, rate


def test_one_stratum_of_a_large_population_is_clopper_pearson() -> None:
    said = estimate_error([StratumFindings("all", 10_000_000, 200, 7)])
    exact = stats.binomtest(7, 200).proportion_ci(0.95, method="exact")
    assert (said.lower, said.upper) == pytest.approx((exact.low, exact.high), rel=1e-3)
    assert said.estimate == 7 / 200


@given(st.integers(1, 120), st.data())
@settings(max_examples=60, deadline=None)
def test_one_stratum_of_a_small_population_excludes_just_what_its_law_does(
    population: int, data: st.DataObject
) -> None:
    sampled = data.draw(st.integers(1, population))
    errors = data.draw(st.integers(0, sampled))
    low, high = hypergeometric_bounds(population, sampled, errors, 0.025)
    possible = np.arange(errors, population - (sampled - errors) + 1)
    more = stats.hypergeom.sf(errors - 1, population, possible, sampled) > 0.025 + 1e-12
    fewer = stats.hypergeom.cdf(errors, population, possible, sampled) > 0.025 + 1e-12
    assert (low, high) == (possible[more][0], possible[fewer][-1])


@pytest.mark.parametrize("seed", range(3))
def test_strata_by_confidence_need_fewer_checks_for_the_same_width_and_cover(seed: int) -> None:
    chance = np.random.default_rng(seed)
    expected = np.clip(chance.beta(0.15, 4, 4000), 1e-4, 0.7)
    wrong = chance.random(4000) < expected
    part = strata_by_error(expected)
    size, bad = np.bincount(part), np.bincount(part, wrong).astype(int)
    guess = np.bincount(part, expected) / size
    drawn = allocate(
        [Stratum(str(h), int(n), e) for h, (n, e) in enumerate(zip(size, guess, strict=True))], 300
    )
    width, covered = [], 0
    for _ in range(100):
        found = [
            StratumFindings(
                str(h), int(n), drawn[str(h)], int(chance.hypergeometric(bad[h], n - bad[h], drawn[str(h)]))
            )
            for h, n in enumerate(size)
        ]
        said = estimate_error(found)
        width.append(said.upper - said.lower)
        covered += said.lower <= wrong.mean() <= said.upper
    simple = estimate_error([StratumFindings("all", 4000, 300, round(300 * wrong.mean()))])
    assert np.mean(width) < 0.9 * (simple.upper - simple.lower)
    assert covered >= stats.binom.ppf(0.01, 100, 0.95)  # 95 %, but for luck


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(1, 7))
def test_strata_by_error_go_from_worst_to_best(errors: list[float], strata: int) -> None:
    part = strata_by_error(errors, strata)
    assert part.size == len(errors)
    assert set(part.tolist()) == set(range(int(part.max(initial=-1)) + 1))
    assert part.max(initial=0) < strata
    order = np.argsort(errors, kind="stable")[::-1]
    assert (np.diff(part[order]) >= 0).all()
    with pytest.raises(ValueError, match="item 1"):
        strata_by_error([0.1, 1.5])


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


@pytest.mark.parametrize(
    ("lot", "alpha", "allowed"), [(10, 0.3, 8), (10, 0.3, 20), (10, 0.3, 4), (100, 0.0, 1)]
)
def test_a_plan_that_would_show_nothing_is_refused(lot: int, alpha: float, allowed: int) -> None:
    """A lot of 10 with error .3 has 3 wrong labels: who finds a fourth and accepts has shown nothing."""
    with pytest.raises(ValueError, match=f"acceptance_number is {allowed}; expected at most"):
        acceptance_plan(lot, alpha=alpha, acceptance_number=allowed)


def test_a_share_of_a_lot_that_is_a_whole_number_but_for_rounding_is_that_number() -> None:
    assert 0.29 * 100 < 29
    plan = acceptance_plan(100, alpha=0.29)
    assert plan.consumer_risk == pytest.approx(stats.hypergeom.cdf(0, 100, 30, plan.sample_size))


def test_findings_that_cannot_be_are_refused() -> None:
    for bad in (-0.5, 1.0, float("nan")):
        with pytest.raises(ValueError, match="alpha is"):
            acceptance_plan(100, alpha=bad)
    with pytest.raises(ValueError, match="errors is -1; expected a whole number, at least 0"):
        hypergeometric_bounds(100, 10, -1, 0.025)
    for found in ((100, 10, 20), (5, 10, 1)):
        with pytest.raises(ValueError, match=r"expected 0 <= errors"):
            hypergeometric_bounds(*found, 0.025)
    with pytest.raises(ValueError, match=r"errors of stratum 'a' is 1\.5"):
        StratumFindings("a", 10, 2, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="population of stratum 'a' is nan"):
        Stratum("a", float("nan"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"errors \(3\) <= sampled \(2\)"):
        StratumFindings("a", 10, 2, 3)
    with pytest.raises(ValueError, match="the population is empty"):
        estimate_error([])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 70))
@settings(deadline=None)
def test_chances_of_being_drawn_sum_to_the_sample(errors: list[float], size: int) -> None:
    chance = inclusion_chances(errors, size)
    assert chance.sum() == pytest.approx(min(size, len(errors)))
    assert ((chance >= 0) & (chance <= 1)).all()


def test_drawn_by_chances_of_their_own_the_interval_covers_and_the_estimate_is_unbiased() -> None:
    chance = np.random.default_rng(7)
    expected = np.clip(chance.beta(0.2, 4, 3000), 1e-4, 0.7)
    wrong = chance.random(3000) < expected
    pi = inclusion_chances(expected, 300)
    said = []
    for _ in range(600):
        drawn = chance.random(3000) < pi
        said.append(estimate_unequal(wrong[drawn], pi[drawn], 3000, least_chance=float(pi.min())))
    truth = wrong.mean()
    assert np.mean([s.horvitz_thompson for s in said]) == pytest.approx(truth, rel=0.03)
    assert np.mean([s.lower <= truth <= s.upper for s in said]) >= 0.95
    assert max(np.mean([s.lower > truth for s in said]), np.mean([s.upper < truth for s in said])) <= 0.04
    assert np.mean([s.hajek for s in said]) == pytest.approx(truth, rel=0.1)  # biased, but little
    assert all(s.lower <= s.horvitz_thompson <= s.upper for s in said)
    ours, simple = (
        np.mean([s.upper - s.lower for s in said]),
        estimate_error([StratumFindings("all", 3000, 300, round(300 * truth))]),
    )
    assert ours < simple.upper - simple.lower


def test_unequal_chances_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match=r"element 1: wrong 0\.5"):
        estimate_unequal([1, 0.5], [0.5, 0.5], 10, least_chance=0.1)
    with pytest.raises(ValueError, match=r"element 0: .*chance 0\.05"):
        estimate_unequal([1], [0.05], 10, least_chance=0.1)
    with pytest.raises(ValueError, match="population"):
        estimate_unequal([1, 1], [0.5, 0.5], 1, least_chance=0.1)
    nan: int = float("nan")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="population is nan"):
        estimate_unequal([1, 1], [0.5, 0.5], nan, least_chance=0.1)
    with pytest.raises(ValueError, match="sample_size is nan"):
        inclusion_chances([0.1, 0.2], nan)
    everything = estimate_unequal([1, 0, 0, 1], [1, 1, 1, 1], 4, least_chance=1.0)
    assert (everything.lower, everything.horvitz_thompson, everything.upper) == (0.5, 0.5, 0.5)
    nothing = estimate_unequal([], [], 100, least_chance=0.5)
    assert (nothing.lower, nothing.horvitz_thompson) == (0.0, 0.0)
