"""What cannot be is refused by the name of its column and the place in it, before any work: never cast, never nan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth import (
    BlockDawidSkene,
    DawidSkene,
    LiveChoices,
    LiveClasses,
    LiveNumbers,
    LiveTexts,
    StopPolicy,
    Votes,
    expected_calibration_error,
)
from cairn_truth.columns import numbers, shares, whole_numbers
from cairn_truth.quality.acceptance import SinglePlan
from cairn_truth.quality.agreement import (
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    raw_agreement,
    scott_pi,
)
from cairn_truth.quality.answer_times import AnswerTimes
from cairn_truth.quality.audit_statistics import strata_by_error
from cairn_truth.quality.bots import find_bots
from cairn_truth.quality.pairwise_agreement import pairwise_agreement
from cairn_truth.quality.suspicion import confident_joint, label_errors, suspicion, tempered
from cairn_truth.quality.unequal_sampling import estimate_unequal, inclusion_chances
from cairn_truth.routing.calibration import (
    IsotonicCalibration,
    IsotonicClasses,
    TemperatureScaling,
    reliability_diagram,
)
from cairn_truth.routing.drift import embedding_drift, score_drift
from cairn_truth.routing.item_choice import Strategy, answer_prices, choose, margins
from cairn_truth.routing.stop_rule import decide, expected_gain
from cairn_truth.routing.thresholds import (
    choose_threshold,
    choose_thresholds_per_class,
    model_errors,
    upper_bound,
)
from cairn_truth.stretches.relations import LiveRelations, Relation
from cairn_truth.stretches.segments import LiveSegments, Segment
from cairn_truth.stretches.spans import LiveSpans, Span
from cairn_truth.values.ordinals import LiveRatings
from cairn_truth.values.rankings import LiveRankings

pytestmark = pytest.mark.filterwarnings("error")

ITEM, LABELER = np.repeat(np.arange(10), 3), np.tile(np.arange(3), 10)
CHOICE = (ITEM + LABELER) % 2
VOTES = Votes.of(ITEM, LABELER, CHOICE, classes=2)
TABLE, CLASS = np.full((10, 2), 0.5), np.arange(10) % 2
SHARE, RIGHT = np.linspace(0.0, 1.0, 10), np.arange(10) % 2
SECONDS = np.linspace(1.0, 2.0, 30)
LIMITS = choose_thresholds_per_class(SHARE, CLASS, RIGHT, classes=2, alpha=0.1, delta=0.1)

# Columns


class Column(NamedTuple):
    """A column that an entry takes: what is good, and what its elements may be."""

    good: Any
    whole: bool = False
    names: bool = False
    bounded: bool = False
    unknown: bool = False


class_column, share_column = Column(CLASS, whole=True), Column(SHARE, bounded=True)
table_column = Column(TABLE, bounded=True)
time_column = Column(SECONDS, bounded=True, unknown=True)
ANSWERS = {"item": Column(ITEM, names=True), "labeler": Column(LABELER, names=True)}
NAMED = {**ANSWERS, "value": Column(CHOICE, names=True)}
TWO = {name: column._replace(good=column.good[LABELER < 2]) for name, column in NAMED.items()}

ENTRIES: Mapping[str, tuple[Callable[..., Any], Mapping[str, Column]]] = {
    "Votes.of": (
        lambda **columns: Votes.of(**columns, classes=2),
        {
            "item": Column(ITEM, whole=True),
            "labeler": Column(LABELER, whole=True),
            "choice": Column(CHOICE, whole=True),
        },
    ),
    "BlockDawidSkene.fit": (
        lambda population: BlockDawidSkene().fit(VOTES, population=population),
        {"population": Column(np.array([0, 0, 1]), whole=True)},
    ),
    "DawidSkene.fit": (
        lambda gold: DawidSkene().fit(VOTES, gold=gold),
        {"gold": Column(np.full(VOTES.items, 0), whole=True)},
    ),
    **{
        statistic.__name__: (statistic, NAMED)
        for statistic in (krippendorff_alpha, fleiss_kappa, gwet_ac, raw_agreement, pairwise_agreement)
    },
    **{statistic.__name__: (statistic, TWO) for statistic in (cohen_kappa, scott_pi)},
    "krippendorff_alpha, interval": (
        lambda item, labeler, value: krippendorff_alpha(item, labeler, value, "interval"),
        {**ANSWERS, "value": Column(CHOICE)},
    ),
    "suspicion": (
        lambda label, posterior, predicted, seconds: suspicion(
            label,
            posterior=posterior,
            predicted=predicted,
            times=AnswerTimes(ITEM, LABELER, seconds),
            votes=VOTES,
        ),
        {
            "label": class_column,
            "posterior": table_column,
            "predicted": table_column,
            "seconds": time_column,
        },
    ),
    **{
        part.__name__: (part, {"label": class_column, "predicted": table_column})
        for part in (tempered, confident_joint, label_errors)
    },
    "strata_by_error": (strata_by_error, {"expected_error": share_column}),
    "inclusion_chances": (
        lambda expected_error: inclusion_chances(expected_error, 3),
        {"expected_error": share_column},
    ),
    "estimate_unequal": (
        lambda wrong, chance: estimate_unequal(wrong, chance, 20, least_chance=0.1),
        {"wrong": Column(RIGHT, bounded=True), "chance": Column(np.full(10, 0.5), bounded=True)},
    ),
    "find_bots": (
        lambda item, labeler, seconds, moment: find_bots(item, labeler, seconds, moment=moment),
        {
            "item": Column(ITEM, whole=True),
            "labeler": Column(LABELER, whole=True),
            "seconds": time_column,
            "moment": time_column,
        },
    ),
    "SinglePlan.acceptance": (SinglePlan(100, 10, 1).acceptance, {"error": share_column}),
    "expected_calibration_error": (
        expected_calibration_error,
        {"confidence": share_column, "right": Column(RIGHT, bounded=True)},
    ),
    "reliability_diagram": (
        reliability_diagram,
        {"confidence": share_column, "right": Column(RIGHT, bounded=True)},
    ),
    "TemperatureScaling.fit": (
        TemperatureScaling.fit,
        {"probabilities": Column(TABLE), "truth": class_column},
    ),
    "TemperatureScaling.fit, unsure": (
        TemperatureScaling.fit,
        {"probabilities": Column(TABLE), "truth": table_column},
    ),
    "TemperatureScaling.apply": (TemperatureScaling(2.0).apply, {"probabilities": Column(TABLE)}),
    "IsotonicCalibration.fit": (
        IsotonicCalibration.fit,
        {"scores": Column(SHARE), "right": Column(RIGHT, bounded=True)},
    ),
    "IsotonicCalibration.apply": (
        IsotonicCalibration.fit(SHARE, RIGHT).apply,
        {"scores": Column(SHARE)},
    ),
    "IsotonicClasses.fit": (IsotonicClasses.fit, {"probabilities": Column(TABLE), "truth": class_column}),
    "model_errors": (model_errors, {"posterior": table_column, "predicted": class_column}),
    "upper_bound": (
        lambda error_probability, prior_error: upper_bound(error_probability, 0.1, prior_error=prior_error),
        {"error_probability": share_column, "prior_error": share_column},
    ),
    "choose_threshold": (
        lambda **columns: choose_threshold(**columns, alpha=0.1, delta=0.1),
        {"scores": Column(SHARE), "error_probability": share_column, "prior_error": share_column},
    ),
    "choose_thresholds_per_class": (
        lambda **columns: choose_thresholds_per_class(**columns, classes=2, alpha=0.1, delta=0.1),
        {
            "scores": Column(SHARE),
            "predicted": class_column,
            "error_probability": share_column,
            "prior_error": share_column,
        },
    ),
    "ClassThresholds.selects": (LIMITS.selects, {"scores": Column(SHARE), "predicted": class_column}),
    "score_drift": (score_drift, {"validation_scores": Column(SECONDS), "new_scores": Column(SECONDS)}),
    "embedding_drift": (
        lambda **columns: embedding_drift(**columns, rng=np.random.default_rng(0), permutations=999),
        {"validation_embeddings": Column(TABLE), "new_embeddings": Column(TABLE)},
    ),
    "margins": (margins, {"probabilities": table_column}),
    "answer_prices": (
        lambda posteriors, probabilities, answers: answer_prices(
            posteriors, probabilities, answers=answers, labeler_accuracy=0.8, model_accuracy=0.8
        ),
        {"posteriors": table_column, "probabilities": table_column, "answers": Column(CLASS, whole=True)},
    ),
    "choose": (
        lambda **columns: choose(
            Strategy.CLUSTER_MARGIN, 3, np.random.default_rng(0), labeled=CLASS > 0, **columns
        ),
        {"probabilities": table_column, "embeddings": Column(TABLE)},
    ),
    "decide": (
        lambda posterior: decide(posterior, 3, StopPolicy(), correlation=0.1),
        {"posterior": Column(np.array([0.4, 0.6]), bounded=True)},
    ),
}
CASES = [(entry, name) for entry, (_, columns) in ENTRIES.items() for name in columns]
every_column = pytest.mark.parametrize(("entry", "name"), CASES)


def refused(entry: str, name: str, bad: Any) -> str:
    """Return what is said of one bad column among good ones."""
    call, columns = ENTRIES[entry]
    given = {each: bad if each == name else column.good for each, column in columns.items()}
    with pytest.raises(ValueError) as told:
        call(**given)
    return str(told.value)


def with_one(good: Any, value: Any) -> Any:
    """Return the column with the first element of its second row replaced."""
    column = np.array(good, dtype=np.float64 if isinstance(value, float) else np.object_)
    column.flat[column[0].size if column.ndim > 1 else 1] = value
    return column


@every_column
def test_what_is_good_is_taken_as_lists_too(entry: str, name: str) -> None:
    call, columns = ENTRIES[entry]
    call(**{each: np.asarray(column.good).tolist() for each, column in columns.items()})


@every_column
def test_an_element_that_is_no_number_is_named_with_its_column(entry: str, name: str) -> None:
    column = ENTRIES[entry][1][name]
    for value in (math.nan, math.inf, -math.inf, None, "seven", 1j, Decimal(1)):
        if column.unknown and (value is None or value != value):
            continue
        told = refused(entry, name, with_one(column.good, value))
        assert name in told
        if entry != "Votes.of" or isinstance(value, float):  # which tells of a column of objects as a whole
            assert "1" in told


@every_column
def test_words_bare_numbers_and_ragged_rows_are_no_columns(entry: str, name: str) -> None:
    column = ENTRIES[entry][1][name]
    assert refused(entry, name, [[1, 2], [3]])
    assert refused(entry, name, np.asarray(column.good).astype(complex))
    if not column.names:
        assert name in refused(entry, name, np.asarray(column.good).astype(str))
    if entry != "SinglePlan.acceptance":  # of one share or of many
        assert refused(entry, name, 1)


@every_column
def test_a_column_shorter_than_the_others_is_refused(entry: str, name: str) -> None:
    columns = ENTRIES[entry][1]
    if (len(columns) == 1 and "population" not in columns) or "drift" in entry:
        return
    for short in (columns[name].good[:-1], columns[name].good[:0]):
        assert refused(entry, name, short)


@pytest.mark.parametrize(("entry", "name"), [case for case in CASES if ENTRIES[case[0]][1][case[1]].whole])
def test_what_counts_or_numbers_is_whole_and_in_range(entry: str, name: str) -> None:
    good = np.asarray(ENTRIES[entry][1][name].good).tolist()
    for value in (-7, 1.5, 10**30, -(10**30), 2**62):
        assert name in refused(entry, name, [good[0], value, *good[2:]])
    if name not in ("item", "labeler", "answers"):
        assert name in refused(entry, name, [good[0], 2, *good[2:]])
    assert name in refused(entry, name, np.array(good) > 0)


@pytest.mark.parametrize(("entry", "name"), [case for case in CASES if ENTRIES[case[0]][1][case[1]].bounded])
def test_shares_and_times_are_not_below_zero(entry: str, name: str) -> None:
    assert name in refused(entry, name, with_one(ENTRIES[entry][1][name].good, -0.5))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_agreement_is_the_same_in_any_unit(scale: float) -> None:
    value = np.random.default_rng(0).normal(size=30)
    one, other = (krippendorff_alpha(ITEM, LABELER, value * unit, "interval") for unit in (1.0, scale))
    assert other.value == pytest.approx(one.value)
    assert (other.low, other.high) == pytest.approx((one.low, one.high))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_embeddings_drift_and_are_chosen_alike_in_any_unit(scale: float) -> None:
    points = np.random.default_rng(0).normal(size=(60, 3))
    tests = [
        embedding_drift(points * s, points * s + s, np.random.default_rng(1), permutations=999)
        for s in (1.0, scale)
    ]
    assert tests[0].p_value == tests[1].p_value
    assert tests[0].statistic == pytest.approx(tests[1].statistic)
    if 1e-38 < scale < 1e38:  # embeddings are float32
        power = 2.0 ** round(math.log2(scale))
        for strategy in (Strategy.TYPICLUST, Strategy.CORESET):
            chosen = [
                choose(
                    strategy, 9, np.random.default_rng(2), labeled=np.arange(60) < 5, embeddings=points * s
                ).tolist()
                for s in (1.0, power)
            ]
            assert chosen[0] == chosen[1]


# What stands behind them


@given(
    st.lists(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2), st.binary(max_size=2)
        ),
        max_size=6,
    )
)
@settings(max_examples=60)
def test_whatever_is_given_becomes_numbers_or_is_refused(values: list[Any]) -> None:
    for read in (numbers, whole_numbers, shares):
        try:
            held = read("column", values)
        except ValueError:
            continue
        assert held.shape == (len(values),)
        assert not any(isinstance(value, str | bytes) for value in values)
        assert read is numbers or np.isfinite(held).all()


def test_a_share_summed_in_short_floats_is_put_back_into_its_range() -> None:
    assert shares("share", [1.0 + 1e-7, -1e-9]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"share\[0, 1\] is 1.1; it must be between 0 and 1"):
        shares("share", [[0.5, 1.1]])


# Numbers by themselves


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: decide(np.array([0.5, 0.5]), 3, StopPolicy(), correlation=bad),
        lambda bad: expected_gain([0.5], 3, correlation=0.1, information=bad),
        lambda bad: StopPolicy(target_confidence=bad),
        lambda bad: StopPolicy(answer_cost=bad),
        lambda bad: choose_threshold([0.5], [0.0], alpha=bad, delta=0.1),
        lambda bad: choose_threshold([0.5], [0.0], alpha=0.1, delta=bad),
        lambda bad: inclusion_chances([0.5], 1, even=bad),
        lambda bad: estimate_unequal([1], [0.5], 2, least_chance=bad),
        lambda bad: LiveNumbers(low=bad, high=-1.0),
        lambda bad: LiveNumbers(tolerance=bad),
        LiveClasses,
    ],
)
@pytest.mark.parametrize("bad", [math.nan, -1.0])
def test_a_number_of_no_sense_is_refused(call: Callable[[float], Any], bad: float) -> None:
    with pytest.raises(ValueError):
        call(bad)


# Live states

LIVE: Mapping[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "LiveNumbers": (LiveNumbers, (math.nan, math.inf, "seven", [1.0], 10**400)),
    "LiveRatings": (lambda: LiveRatings(1, 5), (0, 6, 2.5, math.nan, "3", 10**30)),
    "LiveTexts": (LiveTexts, (3, ["text"], b"text")),
    "LiveRankings": (LiveRankings, ("ab", [], [["a"], ["a"]], [[1]], 3)),
    "LiveSpans": (
        lambda: LiveSpans(2),
        tuple(
            (Span(*s),)
            for s in ((3, 3, 0), (-1, 3, 0), (0, math.inf, 0), (0, 3, 2), (0, 3, 0.5), ("a", 3, 0))
        ),
    ),
    "LiveSegments": (
        lambda: LiveSegments(2),
        tuple((Segment(*s),) for s in ((3.0, 3.0, 0), (0.0, math.nan, 0), (0.0, 3.0, 0.5), (0.0, 3.0, "x"))),
    ),
    "LiveRelations": (
        lambda: LiveRelations(2),
        (
            (Relation(Span(0, 3, 0), Span(4, 5, 0), 0.5),),  # type: ignore[arg-type]
            (Relation(Span(0.5, 3, 0), Span(4, 5, 0), 0),),  # type: ignore[arg-type]
            (Relation(Span(0, 3, 0), Span(4, 5, 0), 2),),
        ),
    ),
    "LiveClasses": (lambda: LiveClasses(2), (-1, 2, 0.0, True, "0", math.nan, 10**30)),
    "LiveChoices": (LiveChoices, ("ab", b"ab", 3, [1], [""], ["a\x1fb"])),
}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(kind, wrong) for kind, (_, all_wrong) in LIVE.items() for wrong in (None, object(), *all_wrong)],
)
def test_an_answer_of_no_sense_is_refused_and_leaves_no_trace(kind: str, wrong: Any) -> None:
    live = LIVE[kind][0]()
    with pytest.raises(ValueError):
        live.update("item", "labeler", wrong)
    if wrong is not None:  # which frees an item
        with pytest.raises(ValueError):
            live.know("item", wrong)
    assert (live.votes, list(live.items()), live.labelers()) == (0, [], [])


@pytest.mark.parametrize("kind", LIVE)
@pytest.mark.parametrize("torn", [b"", b"PK", b"not a state", "cut"], ids=repr)
def test_a_torn_state_is_refused_and_changes_nothing(kind: str, torn: Any) -> None:
    live = LIVE[kind][0]()
    before = live.digest()
    with pytest.raises(ValueError):
        live.restore(live.save()[:-30] if torn == "cut" else torn)
    assert (live.digest(), live.refits) == (before, 0)
