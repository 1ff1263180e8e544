"""What is no column is refused by its name, too: numbers by themselves, generators, policies, lists of findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from cairn_truth import EBCC, MACE, DawidSkene, NamedVotes, StopPolicy, Votes
from cairn_truth.classes.hierarchical import HierarchicalDawidSkene
from cairn_truth.columns import real_number, whole_number
from cairn_truth.quality.acceptance import DoublePlan, SinglePlan, double_plan, single_plan
from cairn_truth.quality.agreement import Interval, krippendorff_alpha
from cairn_truth.quality.audit_statistics import (
    Stratum,
    StratumFindings,
    accept,
    acceptance_plan,
    allocate,
    estimate_error,
    hypergeometric_bounds,
    strata_by_error,
)
from cairn_truth.quality.bots import find_bots
from cairn_truth.quality.forensics import investigate
from cairn_truth.quality.suspicion import suspicion
from cairn_truth.quality.unequal_sampling import estimate_unequal, inclusion_chances
from cairn_truth.routing.calibration import TemperatureScaling, reliability_diagram
from cairn_truth.routing.drift import embedding_drift, score_drift
from cairn_truth.routing.item_choice import answer_prices, choose, margins
from cairn_truth.routing.stop_rule import decide, expected_gain
from cairn_truth.routing.thresholds import (
    LetThrough,
    choose_threshold,
    choose_thresholds_per_class,
    clopper_pearson_lower,
    clopper_pearson_upper,
    spend,
)
from cairn_truth.routing.wager import fewest_items
from cairn_truth.stretches.relations import LiveRelations
from cairn_truth.stretches.segments import LiveSegments
from cairn_truth.stretches.spans import LiveSpans

pytestmark = pytest.mark.filterwarnings("error")

ITEM, LABELER = np.repeat(np.arange(10), 3), np.tile(np.arange(3), 10)
CHOICE = (ITEM + LABELER) % 2
VOTES = Votes.of(ITEM, LABELER, CHOICE, classes=2)
TABLE, CLASS = np.full((10, 2), 0.5), np.arange(10) % 2
SHARE, RIGHT, SECONDS = np.linspace(0.0, 1.0, 10), np.arange(10) % 2, np.linspace(1.0, 2.0, 30)
STRATUM, FOUND = Stratum("a", 100), StratumFindings("a", 100, 20, 1)
HALF, DRAWN = np.full((60, 2), 0.5), np.random.default_rng(0)
NAMES = NamedVotes.of(["a", "b"], ["x", "y"], ["c", "d"])
COUNTED, SHARED = (None, "seven", [], [1.0], math.nan, -1, 1.5), (None, "seven", [], math.nan, -0.5, 1.5)
OPEN = (*SHARED, 0.0, 1.0)

ARGUMENTS: Mapping[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "delta of clopper_pearson_upper": (lambda bad: clopper_pearson_upper(1, 9, bad), OPEN),
    "delta of clopper_pearson_lower": (lambda bad: clopper_pearson_lower(1, 9, bad), OPEN),
    "errors of clopper_pearson_upper": (lambda bad: clopper_pearson_upper(bad, 9, 0.1), COUNTED),
    "n of clopper_pearson_lower": (lambda bad: clopper_pearson_lower(0, bad, 0.1), COUNTED),
    "round_number of spend": (lambda bad: spend(0.1, bad), (*COUNTED, 0, math.inf)),
    "share of LetThrough": (lambda bad: LetThrough(share=bad), SHARED),
    "rounds of LetThrough": (lambda bad: LetThrough(rounds=bad), COUNTED),
    "alpha of choose_threshold": (lambda bad: choose_threshold(SHARE, RIGHT, alpha=bad, delta=0.1), OPEN),
    "earlier of choose_threshold": (
        lambda bad: choose_threshold(SHARE, RIGHT, alpha=0.1, delta=0.1, earlier=bad),
        (1, "seven", {"share": 1.0}),
    ),
    "pool_items of choose_threshold": (
        lambda bad: choose_threshold(SHARE, RIGHT, alpha=0.1, delta=0.1, pool_items=bad),
        (*COUNTED[1:], 0),
    ),
    "delta of choose_thresholds_per_class": (
        lambda bad: choose_thresholds_per_class(SHARE, CLASS, RIGHT, classes=2, alpha=0.1, delta=bad),
        (*OPEN, 1.7),  # of two tests each would have had less than 1
    ),
    "min_items of choose_thresholds_per_class": (
        lambda bad: choose_thresholds_per_class(
            SHARE, CLASS, RIGHT, classes=2, alpha=0.1, delta=0.1, min_items=bad
        ),
        (*COUNTED, [1], -5),
    ),
    "classes of choose_thresholds_per_class": (
        lambda bad: choose_thresholds_per_class(SHARE, CLASS, RIGHT, classes=bad, alpha=0.1, delta=0.1),
        (*COUNTED, 0),
    ),
    "alpha of fewest_items": (lambda bad: fewest_items(bad, 0.1), (*OPEN, 1e-300, 5e-324)),
    "level of reliability_diagram": (lambda bad: reliability_diagram(SHARE, RIGHT, level=bad), OPEN),
    "bins of reliability_diagram": (lambda bad: reliability_diagram(SHARE, RIGHT, bins=bad), (*COUNTED, 0)),
    "temperature of TemperatureScaling": (TemperatureScaling, (None, "seven", [], math.nan, 0.0, math.inf)),
    "significance of score_drift": (lambda bad: score_drift(SECONDS, SECONDS, significance=bad), OPEN),
    "min_items of score_drift": (lambda bad: score_drift(SECONDS, SECONDS, min_items=bad), (*COUNTED, 0)),
    "rng of embedding_drift": (lambda bad: embedding_drift(HALF, HALF, bad), (None, 0, np.random)),
    "permutations of embedding_drift": (
        lambda bad: embedding_drift(HALF, HALF, DRAWN, permutations=bad),
        (*COUNTED, 0),
    ),
    "batch of choose": (lambda bad: choose("random", bad, DRAWN, labeled=CLASS > 0), COUNTED),
    "random_share of choose": (
        lambda bad: choose("random", 3, DRAWN, labeled=CLASS > 0, random_share=bad),
        SHARED,
    ),
    "labeler_accuracy of answer_prices": (
        lambda bad: answer_prices(TABLE, TABLE, answers=CLASS, labeler_accuracy=bad, model_accuracy=0.8),
        OPEN,
    ),
    "model_confidence of answer_prices": (
        lambda bad: answer_prices(
            TABLE, TABLE, answers=CLASS, labeler_accuracy=0.8, model_accuracy=0.8, model_confidence=bad
        ),
        (*SHARED[1:], 0.0),
    ),
    "correlation of decide": (lambda bad: decide([0.4, 0.6], 3, StopPolicy(), correlation=bad), SHARED),
    "answers of decide": (lambda bad: decide([0.4, 0.6], bad, StopPolicy(), correlation=0.1), COUNTED),
    "policy of decide": (lambda bad: decide([0.4, 0.6], 3, bad, correlation=0.1), (None, 3, {"fixed": True})),
    "information of expected_gain": (
        lambda bad: expected_gain([0.4, 0.6], 3, correlation=0.1, information=bad),
        (None, "seven", [], math.nan, -1.0, math.inf),
    ),
    "target_confidence of StopPolicy": (lambda bad: StopPolicy(target_confidence=bad), OPEN),
    "min_answers of StopPolicy": (lambda bad: StopPolicy(min_answers=bad), (*COUNTED, 0, 11)),
    "answer_cost of StopPolicy": (
        lambda bad: StopPolicy(answer_cost=bad),
        (None, "seven", [], -1.0, math.inf),
    ),
    "fixed of StopPolicy": (lambda bad: StopPolicy(fixed=bad), (None, "x", 1, [])),
    "name of Stratum": (lambda bad: Stratum(bad, 1), (None, [1], 1.5)),
    "population of Stratum": (lambda bad: Stratum("a", bad), (*COUNTED, 10**15, 10**30)),
    "expected_error of Stratum": (lambda bad: Stratum("a", 1, bad), SHARED),
    "sampled of StratumFindings": (lambda bad: StratumFindings("a", 100, bad, 0), COUNTED),
    "population of StratumFindings": (
        lambda bad: StratumFindings("a", bad, 1000, 5),
        (*COUNTED, 10**15, 10**30),
    ),
    "strata of allocate": (
        lambda bad: allocate(bad, 10),
        (None, 3, STRATUM, [("a", 100)], [STRATUM, FOUND], [STRATUM, STRATUM]),
    ),
    "sample_size of allocate": (lambda bad: allocate([STRATUM], bad), COUNTED),
    "min_per_stratum of allocate": (lambda bad: allocate([STRATUM], 10, min_per_stratum=bad), COUNTED),
    "findings of estimate_error": (
        estimate_error,
        (None, 3, FOUND, [("a", 100, 20, 1)], [FOUND, STRATUM], [FOUND, FOUND]),
    ),
    "findings of accept": (
        lambda bad: accept(bad, alpha=0.1),
        (None, FOUND, [("a", 100, 20, 1)], [FOUND, FOUND]),
    ),
    "alpha of accept": (lambda bad: accept([FOUND], alpha=bad), OPEN),
    "confidence of accept": (lambda bad: accept([FOUND], alpha=0.1, confidence=bad), OPEN),
    "confidence of estimate_error": (lambda bad: estimate_error([FOUND], confidence=bad), OPEN),
    "strata of strata_by_error": (lambda bad: strata_by_error(SHARE, bad), (*COUNTED, 0)),
    "lot_size of acceptance_plan": (lambda bad: acceptance_plan(bad, alpha=0.1), (*COUNTED, 0, 10**30)),
    "alpha of acceptance_plan": (lambda bad: acceptance_plan(100, alpha=bad), SHARED),
    "tail of hypergeometric_bounds": (lambda bad: hypergeometric_bounds(9, 3, 1, bad), (*SHARED, 1.0)),
    "population of hypergeometric_bounds": (
        lambda bad: hypergeometric_bounds(bad, 3, 1, 0.1),
        (*COUNTED, 10**10),
    ),
    "lot of SinglePlan": (lambda bad: SinglePlan(bad, 0, 0), (*COUNTED, 0, 10**30)),
    "second of DoublePlan": (lambda bad: DoublePlan(100, 10, 0, 2, bad, 1), (*COUNTED, 0)),
    "lot of single_plan": (lambda bad: single_plan(bad, aql=0.01, limit=0.1), (*COUNTED, 0, 10**30)),
    "aql of single_plan": (lambda bad: single_plan(100, aql=bad, limit=0.1), SHARED),
    "limit of double_plan": (lambda bad: double_plan(100, aql=0.01, limit=bad), SHARED),
    "consumer_risk of double_plan": (
        lambda bad: double_plan(100, aql=0.01, limit=0.1, consumer_risk=bad),
        OPEN,
    ),
    "even of inclusion_chances": (lambda bad: inclusion_chances(SHARE, 3, even=bad), (*SHARED, 0.0)),
    "sample_size of inclusion_chances": (lambda bad: inclusion_chances(SHARE, bad), COUNTED),
    "least_chance of estimate_unequal": (
        lambda bad: estimate_unequal([1], [0.5], 2, least_chance=bad),
        (*SHARED, 0.0),
    ),
    "confidence of estimate_unequal": (
        lambda bad: estimate_unequal([1], [0.5], 2, least_chance=0.1, confidence=bad),
        OPEN,
    ),
    "population of estimate_unequal": (
        lambda bad: estimate_unequal([1], [0.5], bad, least_chance=0.1),
        COUNTED,
    ),
    "false_rate of find_bots": (lambda bad: find_bots(ITEM, LABELER, SECONDS, false_rate=bad), OPEN),
    "votes of investigate": (investigate, (None, 1, ITEM)),
    "votes of investigate, by a fit": (
        lambda bad: investigate(bad, HierarchicalDawidSkene().fit(VOTES)),
        (None, 1, ITEM),
    ),
    "times of investigate": (lambda bad: investigate(VOTES, times=bad), (1, SECONDS)),
    "votes of suspicion": (lambda bad: suspicion(CLASS, posterior=TABLE, votes=bad), (1, ITEM)),
    "times of suspicion": (lambda bad: suspicion(CLASS, votes=VOTES, times=bad), (1, SECONDS)),
    "level of Interval": (lambda bad: Interval(level=bad), OPEN),
    "rng of Interval": (lambda bad: Interval(rng=bad), (0, "seven", np.random)),
    "resamples of Interval": (lambda bad: Interval(resamples=bad), (*COUNTED, 0)),
    "interval of krippendorff_alpha": (
        lambda bad: krippendorff_alpha(ITEM, LABELER, CHOICE, interval=bad),
        (None, 0.95, "seven"),
    ),
    "categories of krippendorff_alpha": (
        lambda bad: krippendorff_alpha(ITEM, LABELER, CHOICE, categories=bad),
        (3, "01", {0, 1}, [0, [1]], TABLE),
    ),
    "rng of MACE.fit": (lambda bad: MACE(restarts=2).fit(VOTES, rng=bad), (None, 0, np.random)),
    "rng of EBCC.fit": (lambda bad: EBCC(restarts=2).fit(VOTES, rng=bad), (None, 0, np.random)),
    "rng of MACE.fit, of no use": (lambda bad: MACE().fit(VOTES, rng=bad), (0, np.random)),
    "item of NamedVotes.of": (
        lambda bad: NamedVotes.of(bad, ["x", "y"], ["c", "d"]),
        (None, 3, {"b", "a"}, np.array("a"), np.array([["a"], ["b"]])),
    ),
    "gold of NamedVotes.gold": (NAMES.gold, (None, [("a", "c")], {"a": ["c"]})),
    "posterior of NamedVotes.labels": (NAMES.labels, ([[5, -4], [0.1, 0.9]], [[math.nan, 1.0], [0.1, 0.9]])),
    "item of Votes": (lambda bad: Votes(bad, CHOICE, CHOICE, 1, 1, 1), (None, [0], 0, np.array(0))),
    "value of krippendorff_alpha": (
        lambda bad: krippendorff_alpha([0, 0], [0, 1], [bad, bad]),
        ({}, object(), [[1], [1, 2]]),
    ),
    "items of a fit": (
        lambda bad: DawidSkene().fit(Votes.of([0, bad], [0, 1], [0, 1], classes=2)),
        (2**31 - 2,),
    ),
    "labelers of a fit": (
        lambda bad: DawidSkene().fit(Votes.of([0, 1], [0, bad], [0, 1], classes=2)),
        (2**31 - 2,),
    ),
    "probabilities of margins": (margins, (np.ma.masked_array(HALF, mask=HALF > 0.0),)),
    "classes of LiveSpans": (LiveSpans, (*COUNTED, 0, 10**7)),
    "classes of LiveSegments": (LiveSegments, (*COUNTED, 0, 10**7)),
    "classes of LiveRelations": (LiveRelations, (*COUNTED, 0, 10**7)),
}


@pytest.mark.parametrize(
    ("argument", "bad"), [(argument, bad) for argument, (_, all_bad) in ARGUMENTS.items() for bad in all_bad]
)
def test_an_argument_of_no_sense_is_named(argument: str, bad: Any) -> None:
    with pytest.raises(ValueError) as told:
        ARGUMENTS[argument][0](bad)
    assert argument.split(maxsplit=1)[0] in str(told.value)
    assert len(str(told.value)) < 300
    assert "expected" in str(told.value) or "it must be" in str(told.value)


def test_numbers_of_numpy_and_whole_floats_are_numbers() -> None:
    assert whole_number("n", np.int8(3)) == whole_number("n", 3.0) == whole_number("n", np.array(3)) == 3
    assert real_number("x", np.float32(0.5)) == real_number("x", np.array(0.5)) == 0.5
    for bad in (
        True,
        np.True_,
        1j,
        "3",
        b"3",
        Decimal(3),
        [3],
        np.array([3]),
        np.timedelta64(3, "s"),
        np.ma.masked,
    ):
        with pytest.raises(ValueError, match="n is"):
            whole_number("n", bad)
        with pytest.raises(ValueError, match="n is"):
            real_number("n", bad)
    assert allocate([STRATUM], 10.0, min_per_stratum=np.int64(2)) == {"a": 10}  # type: ignore[arg-type]
