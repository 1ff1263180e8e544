"""The decisions of routing and learning, without any server."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn_inference.domain.learning import assess, is_due, labels_wanted
from cairn_inference.domain.names import item_key, item_name, version_name, version_of
from cairn_inference.domain.routing import (
    Evidence,
    Promise,
    Seen,
    drift_is_due,
    drifted,
    first_priority,
    goes_auto,
    hold_round,
    is_worth_holding,
    margin_priority,
    round_is_due,
    uniform,
)
from cairn_truth.routing.thresholds import choose_threshold, spend, upper_bound
from cairn_truth.routing.wager import fewest_items

Floats = NDArray[np.float64]


def test_the_validation_sample_is_a_fixed_uniform_share() -> None:
    drawn = np.array([uniform(b"key", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    again = np.array([uniform(b"key", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    assert (drawn == again).all()
    assert abs((drawn < 0.1).mean() - 0.1) < 0.015
    other = np.array([uniform(b"other", "validation", "acme", "birds", f"item-{i}") for i in range(5000)])
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.05, "without the key nobody can tell who is of the sample"


def test_items_whose_names_run_together_are_told_apart() -> None:
    assert uniform(b"", "a", "bc") != uniform(b"", "ab", "c")


def test_people_are_asked_where_the_model_doubts_and_now_and_then_anywhere() -> None:
    priorities = margin_priority(np.array([0.02, 0.9, 0.9]), np.array([0.5, 0.5, 0.05]))
    assert priorities[0] > priorities[1]
    assert priorities[2] == pytest.approx(0.45), "of the random share: by chance, not by margin"
    assert (priorities <= 0.9).all(), "the validation sample comes first"


def test_the_importers_hint_counts_until_a_model_has_a_view() -> None:
    assert first_priority(0.8, 0.0) > first_priority(0.2, 0.999)
    assert 0.0 <= first_priority(0.0, 0.5) < first_priority(1.0, 1.0) <= 0.9


def test_only_scores_at_or_above_the_threshold_go_alone() -> None:
    scores = np.array([0.95, 0.9, 0.89, np.nan])
    assert goes_auto(scores, 0.9).tolist() == [True, True, False, False]
    assert not goes_auto(scores, None).any()


def promise(round_number: int = 1, alpha: float = 0.05, pool_items: int = 100_000) -> Promise:
    return Promise(alpha, 0.1, round_number, pool_items)


def due(items: int, round_number: int = 1, *, same_version: bool = False, evidence_before: int = 0) -> bool:
    return round_is_due(
        items, promise(round_number), same_version=same_version, evidence_before=evidence_before
    )


def test_a_round_waits_for_evidence_that_could_pass() -> None:
    fewest = fewest_items(0.05, promise().round_delta)
    assert not due(fewest - 5), "too few items can pass at no error"
    assert due(fewest + 5)
    assert not due(fewest + 5, round_number=10), "later rounds have less delta to spend"


def test_a_second_look_at_the_same_version_needs_fresh_evidence() -> None:
    assert not due(200, same_version=True, evidence_before=190)
    assert due(200, same_version=True, evidence_before=150)


def seen(
    scores: Sequence[float] | Floats,
    wrong: Sequence[bool] | NDArray[np.bool_],
    certainty: float = 1.0,
    through: Sequence[bool] | NDArray[np.bool_] | None = None,
    earlier: Sequence[float] = (),
) -> Evidence:
    """Two classes; people are that certain of the truth, and the model is wrong where it says so."""
    score, says = np.asarray(scores, dtype=float), np.arange(len(scores)) % 2
    truth = np.where(wrong, 1 - says, says)
    return Evidence(
        scores=score,
        predicted=says,
        posteriors=np.where(truth[:, None] == np.arange(2), certainty, 1.0 - certainty),
        through=np.zeros(score.size, dtype=bool) if through is None else np.asarray(through),
        earlier_errors=np.asarray(earlier, dtype=float),
    )


def worth(score: float, certainty: float, coverage_now: float = 0.0) -> bool:
    evidence = seen([score] * 300, [False] * 300, certainty)
    return is_worth_holding(evidence, promise(), coverage_now=coverage_now)


def test_delta_is_not_spent_where_failure_is_foreseen() -> None:
    assert worth(0.99, 0.999)
    assert not worth(0.7, 0.999), "the model itself foresees 30 % error"
    assert not worth(0.99, 0.9), "people are too unsure to prove anything"
    assert not worth(0.99, 0.999, coverage_now=1.0), "nothing is to be gained"


@given(st.lists(st.booleans(), min_size=60, max_size=60), st.floats(0.6, 1.0))
@settings(max_examples=30, deadline=None)
def test_whether_a_round_is_held_does_not_depend_on_who_is_right(wrong: list[bool], certainty: float) -> None:
    scores = np.linspace(0.9, 1.0, 60)
    right = seen(scores, [False] * 60, certainty)
    assert seen(scores, wrong, certainty).foreseen_errors() == pytest.approx(right.foreseen_errors())


def test_a_good_model_passes_and_a_bad_one_does_not() -> None:
    generator = np.random.default_rng(0)
    scores = 1.0 - 0.4 * generator.random(400) ** 6  # mostly sure, as a good model is
    good = hold_round(seen(scores, np.zeros(400, dtype=bool), 0.99), promise())
    assert good.allows_any
    assert good.upper_bound <= 0.05
    assert not hold_round(seen(scores, generator.random(400) < 0.2, 0.99), promise()).allows_any


def test_agreement_with_people_who_doubt_proves_nothing() -> None:
    """Model and people may share their mistakes: where people are right in 93 of 100, so much stays in doubt."""
    assert hold_round(seen([0.99] * 2000, [False] * 2000, 0.97), promise()).allows_any
    assert not hold_round(seen([0.99] * 2000, [False] * 2000, 0.93), promise()).allows_any


def test_a_small_pool_wants_more_evidence() -> None:
    evidence = seen([0.99] * 90, [False] * 90)
    assert hold_round(evidence, promise()).allows_any
    assert not hold_round(evidence, promise(pool_items=30)).allows_any


def test_later_rounds_must_be_surer() -> None:
    evidence = seen([0.99] * 90, [False] * 90)
    assert hold_round(evidence, promise()).allows_any
    assert not hold_round(evidence, promise(round_number=9)).allows_any


@pytest.mark.parametrize(
    ("delta_of_look", "breaks"), [(lambda k: 0.1, True), (lambda k: spend(0.1, k), False)]
)
def test_looking_again_and_again_breaks_no_promise(
    delta_of_look: Callable[[int], float], breaks: bool
) -> None:
    """A model that errs just too often, whatever its score, is looked at whenever the sample has grown by a quarter."""
    passed = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        scores, wrong = generator.random(305), (generator.random(305) < 0.101).astype(float)
        passed += any(
            choose_threshold(scores[:size], wrong[:size], alpha=0.1, delta=delta_of_look(look)).allows_any
            for look, size in enumerate((64, 80, 100, 125, 156, 195, 244, 305), 1)
        )
    assert (passed > 15) is breaks, "the whole of delta for each look is too much"
    assert breaks or passed <= 10
    assert promise(round_number=3).round_delta == spend(0.1, 3)


def test_what_earlier_versions_let_through_counts_with_their_answers() -> None:
    """The new version is right everywhere; what the old one let through is wrong once in ten times."""
    scores = np.linspace(0.9, 0.99, 300)
    through = np.arange(300) >= 150
    fine = hold_round(seen(scores, [False] * 300, through=through, earlier=[0.0] * 150), promise())
    assert fine.threshold == pytest.approx(0.9)
    amiss = [float(at % 10 == 0) for at in range(150)]
    assert not hold_round(seen(scores, [False] * 300, through=through, earlier=amiss), promise()).allows_any


def test_a_version_must_also_pass_by_itself() -> None:
    """Earlier versions let through all that is easy, rightly. Of the like, new items are still to come, and on them
    the new version errs; of the hard ones that wait it happens to be right."""
    scores = np.linspace(0.99, 0.9, 300)
    easy = np.arange(300) < 250
    evidence = seen(scores, easy & (np.arange(300) % 4 == 0), through=easy, earlier=[0.0] * 250)
    assert not hold_round(evidence, promise()).allows_any


def test_what_waits_at_the_top_does_not_pass_on_the_merits_of_what_went_before() -> None:
    """The 100 items of which a new version is surest had waited, and a fifth of its answers to them is wrong; what the
    version before let through were 2,400 others, all rightly."""
    scores = np.concatenate([np.linspace(1.0, 0.9, 100), np.linspace(0.89, 0.1, 2400)])
    wrong = (np.arange(2500) < 100) & (np.arange(2500) % 5 == 0)
    found = hold_round(seen(scores, wrong, through=scores < 0.9, earlier=[0.0] * 2400), promise())
    assert found.threshold == pytest.approx(0.1), (
        "where the version passes by itself: of all, 0.8 % are wrong"
    )


@given(st.integers(0, 10_000), st.floats(0.0, 0.1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_version_passes_by_itself_wherever_it_passes(
    seed: int, easy_error: float, round_number: int
) -> None:
    generator = np.random.default_rng(seed)
    through, scores = generator.random(800) < 0.5, generator.random(800)
    wrong = generator.random(800) < np.where(through, easy_error, 0.15) * (1.5 - scores)
    evidence = seen(scores, wrong, through=through, earlier=[0.0] * int(through.sum()))
    tested = promise(round_number)
    found = hold_round(evidence, tested)
    assert found.delta == pytest.approx(tested.round_delta), "no round spends twice"
    if found.allows_any:
        alone = scores >= found.threshold
        refuted = upper_bound(wrong[alone].astype(float), tested.round_delta)
        assert refuted <= 1.2 * tested.alpha, "by another bound, which is not quite the wager's"


@pytest.mark.parametrize("pool_items", [0, 1])
def test_a_pool_of_none_is_no_reason_to_fail(pool_items: int) -> None:
    assert not hold_round(seen([0.99] * 400, [False] * 400), promise(pool_items=pool_items)).allows_any


def test_when_nothing_waits_the_threshold_is_the_versions_own() -> None:
    """After a stop, say: all of the sample went before, and new items come."""
    evidence = seen([0.95] * 200, [False] * 200, through=[True] * 200, earlier=[0.0] * 200)
    assert hold_round(evidence, promise()).threshold == 0.95


def test_where_those_that_wait_are_hopeless_none_like_them_is_let_through() -> None:
    scores = np.concatenate([np.full(300, 0.99), np.full(20, 0.95)])
    waits = scores < 0.97
    evidence = seen(scores, waits, through=~waits, earlier=[0.0] * 300)
    found = hold_round(evidence, promise(alpha=0.1))
    assert found.allows_any
    assert 0.95 < found.threshold <= 0.99


def sight(generator: np.random.Generator, items: int = 300, shift: float = 0.0, sure: float = 8.0) -> Seen:
    features = generator.normal(size=(items, 5)) + shift
    return Seen(generator.beta(sure, 10.0 - sure, items), features.astype(np.float32))


def test_drift_is_noticed_and_told_in_words() -> None:
    generator = np.random.default_rng(0)
    sample = sight(generator)
    assert drifted(sample, sight(generator)) == ""
    assert "Kolmogorov-Smirnov" in drifted(sample, sight(generator, sure=5.0))
    assert "features" in drifted(sample, sight(generator, shift=1.0)), "the scores are as they were"
    assert not drift_is_due(49, 0)
    assert drift_is_due(50, 0)
    assert not drift_is_due(70, 50)


def test_training_waits_for_labels_enough() -> None:
    assert labels_wanted(2) == 50
    assert labels_wanted(10) == 100
    assert labels_wanted(500) == 1000
    assert "50 are needed" in assess([20, 20]).lacking
    assert "Only 1 class" in assess([100, 2]).lacking
    assert assess([100, 2]).reason == "TOO_FEW_LABELS"
    assert assess([1] * 1001).reason == "TOO_MANY_CLASSES"
    enough = assess([40, 40])
    assert not enough.lacking
    assert is_due(enough, 0, 1.5)
    assert not is_due(enough, 60, 1.5)


def test_names_are_read_as_they_are_written() -> None:
    assert version_of(version_name("birds", "trained", 12)) == ("birds", "trained", 12)
    assert item_key(item_name("birds", "a%20b")) == "a%20b"
    for bad in ("projects/birds/models/m/versions/x", "projects/birds/models/m/versions/", "x"):
        with pytest.raises(ValueError, match="versions"):
            version_of(bad)
