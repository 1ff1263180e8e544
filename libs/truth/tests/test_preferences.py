"""Preferences: candidates with strengths, labelers with habits, and what is right between two."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.measured import score_pairs
from cairn_truth.values.bradley_terry import HierarchicalBradleyTerry, find_lead, find_leads, strangers
from cairn_truth.values.comparisons import LEFT, NEITHER, RIGHT, Comparisons
from cairn_truth.values.davidson import Davidson, NoisyBradleyTerry
from cairn_truth.values.preferences import LivePreferences
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))
MUSIC = DATA / "music_similarity_pairs"


def test_it_keeps_the_promises_of_all_live_states() -> None:
    answers = {
        "x": {"ann": "a", "bob": "b", "cat": "a"},
        "y": {"ann": "", "bob": "c"},
        "z": {"cat": "d"},
        "w": {"bob": ""},
    }
    check_live_state(LivePreferences, answers, wrong=7)


# --- a crowd that does what the model says


def drawn(seed: int = 0, candidates: int = 12, pairs: int = 150, each: int = 5, ties: bool = True) -> Any:
    """Return columns, and what they were drawn from: strengths, care and lean of ten labelers."""
    chance = np.random.default_rng(seed)
    strength = chance.normal(0.0, 1.5, candidates)
    care = np.array([0.0, 0.0, 0.7, 0.7, 1.0, 1.0, 1.3, 1.3, 1.6, 1.6])
    lean = np.array([0.0, 2.0, 0.0, 2.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0])
    left = np.empty(pairs, dtype=np.int64)
    right = np.empty(pairs, dtype=np.int64)
    for i in range(pairs):
        left[i], right[i] = chance.choice(candidates, 2, replace=False)
    pair = np.repeat(np.arange(pairs), each)
    labeler = np.concatenate([chance.choice(10, each, replace=False) for _ in range(pairs)])
    half = (care[labeler] * (strength[left] - strength[right])[pair] + lean[labeler]) / 2.0
    odds = np.exp(np.stack([half, -half, np.full(half.size, 0.0 if ties else -np.inf)], axis=1))
    limits = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
    outcome = (chance.random(pair.size)[:, None] > limits).sum(axis=1).clip(0, 2 if ties else 1)
    return (left[pair], right[pair], labeler, outcome), strength, care, lean


def test_strengths_and_habits_are_found_again() -> None:
    columns, strength, care, lean = drawn(pairs=400)
    fit = HierarchicalBradleyTerry().fit(Comparisons.of(*columns))
    assert np.corrcoef(fit.strengths.mean, strength)[0, 1] > 0.97
    assert np.corrcoef(fit.habits.mean[:, 0], care)[0, 1] > 0.9
    assert np.corrcoef(fit.habits.mean[:, 1], lean)[0, 1] > 0.9
    assert np.abs(fit.habits.mean[:2, 0]).max() < 0.35  # who does not look is seen not to


def test_what_is_foretold_of_others_is_calibrated_and_better_than_without_labelers() -> None:
    columns, *_ = drawn(seed=1, pairs=400)
    held = np.random.default_rng(0).random(columns[0].size) < 0.2
    known = [column[~held] for column in columns]
    asked = [column[held] for column in columns]
    chance = HierarchicalBradleyTerry().fit(Comparisons.of(*known)).predict(*asked[:3])
    assert chance.sum(axis=1) == pytest.approx(1.0)
    for outcome in (LEFT, RIGHT, NEITHER):
        assert chance[:, outcome].mean() == pytest.approx(np.mean(asked[3] == outcome), abs=0.06)
    alike = Comparisons.of(*known[:2], np.zeros_like(known[2]), known[3])
    without = HierarchicalBradleyTerry().fit(alike).predict(*asked[:2], np.zeros_like(asked[2]))
    picked = np.arange(asked[3].size), asked[3]
    assert np.log(chance[picked]).mean() > np.log(without[picked]).mean() + 0.05


def test_the_side_shown_is_told_from_the_side_preferred() -> None:
    # Everybody prefers x, and ann whatever is at the left; the pair is shown either way round.
    left, right = ["x", "y"] * 20, ["y", "x"] * 20
    outcome = [LEFT, RIGHT] * 20
    columns = [left + left, right + right, ["bob"] * 40 + ["ann"] * 40, outcome + [LEFT] * 40]
    fit = HierarchicalBradleyTerry().fit(Comparisons.of(*columns))
    x, y = fit.strengths.mean
    assert x > y + 0.5
    ann, bob = fit.habits.mean[:, 1]
    assert ann > bob + 1.0
    swapped = fit.predict(["x", "y"], ["y", "x"], ["bob", "bob"])
    assert swapped[0, LEFT] > 0.7
    assert swapped[1, RIGHT] > 0.7


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_judgements_does_not_matter_to_a_bit(seed: int) -> None:
    columns, *_ = drawn(seed=seed, pairs=12)
    order = np.random.default_rng(seed).permutation(columns[0].size)
    one = HierarchicalBradleyTerry().fit(Comparisons.of(*columns))
    other = HierarchicalBradleyTerry().fit(Comparisons.of(*(column[order] for column in columns)))
    assert np.array_equal(one.leads.mean, other.leads.mean)
    assert np.array_equal(one.habits.mean, other.habits.mean)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_mirrored_candidates_get_mirrored_leads(seed: int) -> None:
    (left, right, labeler, outcome), *_ = drawn(seed=seed, pairs=12)
    one = HierarchicalBradleyTerry().fit(Comparisons.of(left, right, labeler, outcome))
    # -c in the place of c: every pair is the other way round in order, and every strength the same.
    other = HierarchicalBradleyTerry().fit(Comparisons.of(-left, -right, labeler, outcome))
    assert other.strengths.mean[::-1] == pytest.approx(one.strengths.mean, abs=1e-6)


def test_a_pairs_own_votes_count_beyond_the_strengths_of_its_candidates() -> None:
    # a beats c and c beats b, but between a and b everybody prefers b.
    left = ["a"] * 10 + ["c"] * 10 + ["a"] * 10
    right = ["c"] * 10 + ["b"] * 10 + ["b"] * 10
    fit = HierarchicalBradleyTerry().fit(Comparisons.of(left, right, [*range(10)] * 3, [0] * 20 + [1] * 10))
    assert fit.right()[fit.comparisons.pairs.index(("", "a", "b")), RIGHT] > 0.5


def test_a_candidate_known_from_other_groups_is_foretold_in_a_new_one() -> None:
    groups = [g for g in range(12) for _ in range(6)]
    fit = HierarchicalBradleyTerry().fit(
        Comparisons.of(["good"] * 72, ["bad"] * 72, [*range(6)] * 12, [0, 0, 0, 0, 0, 1] * 12, groups)
    )
    chance = fit.predict(["good", "good"], ["bad", "unheard of"], [0, 0], [99, 99])
    assert chance[0, LEFT] > 0.65
    assert chance[0, LEFT] > chance[1, LEFT] > chance[1, RIGHT]


def test_two_candidates_compared_a_thousand_times_stay_finite() -> None:
    chance = np.random.default_rng(0)
    items = [f"i{i}" for i in range(300) for _ in range(4)]
    said = (chance.random(1200) < 0.3).astype(int)
    fit = HierarchicalBradleyTerry().fit(
        Comparisons.of(["a"] * 1200, ["b"] * 1200, chance.integers(0, 30, 1200), said, pair=items)
    )
    a, b = fit.strengths.mean
    assert 0.3 < a - b < 2.0
    assert fit.variances.pair < 0.5


@pytest.mark.parametrize("outcome", [LEFT, RIGHT, NEITHER])
def test_where_all_say_the_same_nothing_runs_away(outcome: int) -> None:
    fit = HierarchicalBradleyTerry().fit(
        Comparisons.of([0, 1, 2] * 50, [1, 2, 0] * 50, [*range(50)] * 3, [outcome] * 150)
    )
    assert np.isfinite(fit.leads.mean).all()
    assert fit.right()[:, outcome].min() > 0.0
    assert np.abs(fit.leads.mean).max() < 30.0


def test_a_single_labeler_of_single_answers_teaches_no_variance() -> None:
    chance = np.random.default_rng(0)
    left = chance.integers(0, 10, 500)
    right = (left + chance.integers(1, 10, 500)) % 10
    columns = Comparisons.of(
        left, right, np.zeros(500, dtype=int), (left > right).astype(int), pair=list(range(500))
    )
    fit = HierarchicalBradleyTerry().fit(columns)
    assert (fit.variances.pair, fit.variances.alike) == (0.5, 0.5)  # the guess
    assert list(np.argsort(-fit.strengths.mean)) == list(range(10))


@settings(max_examples=30, deadline=None)
@given(
    votes=st.lists(
        st.tuples(st.floats(-2, 4), st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 2)), max_size=30
    ),
    mean=st.floats(-6, 6),
    variance=st.floats(0.01, 25),
)
def test_one_pair_alone_is_judged_as_among_many(votes: Any, mean: float, variance: float) -> None:
    alone = find_lead(votes, (mean, variance), 0.5, True, 40)
    habits = strangers().crowd_of(len(votes))
    for row, (care, lean, neither, _) in enumerate(votes):
        habits.mean[row] = care, lean, neither
    rows = np.arange(len(votes))
    columns = Comparisons.of([0] * len(votes), [1] * len(votes), rows, [vote[3] for vote in votes])
    if not votes:
        assert alone.mean.tolist() == [[mean, 0.0]]
        return
    many = find_leads(
        columns, habits, np.array([mean]), np.array([variance]), 0.5, np.array([[mean, 0.0]]), 40
    )
    assert alone.mean == pytest.approx(many.mean, abs=1e-6)
    assert alone.covariance == pytest.approx(many.covariance, abs=1e-6)


# --- columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": [0, 3]}, "outcome of row 1 is"),
        ({"outcome": [0, float("nan")]}, "outcome of row 1 is"),
        ({"outcome": [0]}, "outcome has shape"),
        ({"outcome": ["x", "y"]}, "outcome holds <U1; expected numbers"),
        ({"right": ["b", "a"]}, "right of row 1 is 'a'"),
        ({"left": ["a", 1]}, "left holds both text and whole numbers"),
        ({"left": ["a", None]}, "left of row 1 is None"),
        ({"group": ["g"]}, "group has shape"),
        ({"left": ["a", "a"], "right": [1, 2]}, "left and right together holds both"),
        ({"left": [True, False]}, "left of row 0 is True"),
        ({"pair": [1, "p"]}, "pair holds both text"),
        ({"labelers": [1, 1, 2]}, "labelers names 1 twice"),
        ({"labelers": [1, 3]}, "labeler of row 1 is 2"),
        ({"weight": [1, 0]}, "weight of row 1 is"),
        ({"weight": [1, 1e300]}, "weight of row 1 is"),
        ({"placed": [1, 2]}, "placed of row 1 is"),
        ({"pair": ["p", "p"]}, "row 0: pair 'p'"),
        ({"outcome": [0, 2], "ties": False}, "outcome of row 1 is"),
    ],
)
def test_a_wrong_column_is_named(change: dict[str, Any], message: str) -> None:
    columns: dict[str, Any] = {"left": ["a", "a"], "right": ["b", "c"], "labeler": [1, 2], "outcome": [0, 1]}
    with pytest.raises(ValueError, match="expected") as refused:
        Comparisons.of(**{**columns, **change})
    assert message in str(refused.value)


def test_who_stands_for_the_crowd_is_heard_and_not_learnt() -> None:
    columns = (["a"] * 4, ["b"] * 4, ["w", "v", None, None], [0, 0, 0, 0])
    with_crowd = NoisyBradleyTerry().fit(Comparisons.of(*columns))
    without = NoisyBradleyTerry().fit(Comparisons.of(*(column[:2] for column in columns)))
    assert with_crowd.chance[0, LEFT] > without.chance[0, LEFT] > 0.5
    alone = NoisyBradleyTerry().fit(Comparisons.of(["a"], ["b"], [None], [0]))
    assert alone.chance[0, LEFT] > 0.5


def test_gold_can_be_corrected() -> None:
    live = LivePreferences()
    live.add("item", "ann", "a")
    live.know("item", "b")
    live.know("item", "c")
    assert live.posterior("item").value == "c"
    with pytest.raises(ValueError, match="expected one of"):
        live.add("item", "bob", "b")


def test_a_column_to_foretell_that_is_too_short_is_named() -> None:
    fit = HierarchicalBradleyTerry().fit(Comparisons.of([1], [2], [3], [0]))
    with pytest.raises(ValueError, match="labeler has 1 rows; expected 2"):
        fit.predict([1, 1], [2, 2], [3])


def test_no_judgement_is_a_crowd_of_nobody() -> None:
    fit = HierarchicalBradleyTerry().fit(Comparisons.of([], [], [], []))
    assert fit.right().shape == (0, 3)
    assert fit.predict(["a"], ["b"], ["ann"])[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.1)


# --- live


def test_votes_of_one_mind_are_surer_the_more_they_are() -> None:
    sure = []
    for voters in (1, 2, 5, 20):
        live = LivePreferences(ties=False)
        live.present("item", "a", "b")
        for voter in range(voters):
            found = live.update("item", f"v{voter}", "b")
        sure.append(found.confidence)
        assert found.value == "b"
    assert sure == sorted(sure)
    assert sure[0] < 0.8
    assert sure[-1] > 0.95


def test_a_candidate_nobody_named_keeps_its_share() -> None:
    live = LivePreferences()
    found = live.update("item", "ann", "a")
    assert (found.value, found.candidates) == ("a", ("a",))
    assert set(found.probabilities) == {"a", ""}
    assert sum(found.probabilities.values()) < 0.95
    found = live.update("item", "bob", "b")
    assert found.candidates == ("a", "b")
    assert sum(found.probabilities.values()) == pytest.approx(1.0)


def test_a_third_candidate_is_refused() -> None:
    live = LivePreferences()
    live.update("item", "ann", "a")
    live.update("item", "bob", "b")
    with pytest.raises(ValueError, match="answer to 'item' is 'c'; expected one of"):
        live.add("item", "cat", "c")
    with pytest.raises(ValueError, match="answer to 'item' is 'c'"):
        live.know("item", "c")
    with pytest.raises(ValueError, match="was answered 'a'"):
        live.present("item", "b", "c")
    live.add("item", "bob", "c")  # in place of b
    assert live.posterior("item").candidates == ("a", "c")


@pytest.mark.parametrize(("left", "right"), [("a", "a"), ("", "b"), ("a", "")])
def test_candidates_are_two(left: str, right: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        LivePreferences().present("item", left, right)


def test_where_ties_are_not_allowed_neither_is_no_answer_and_has_no_chance() -> None:
    live = LivePreferences(ties=False)
    with pytest.raises(ValueError, match="ties are not allowed"):
        live.add("item", "ann", "")
    live.update("item", "ann", "a")
    live.refit()
    assert live.posterior("item").probabilities[""] == 0.0


def _recorded(live: LivePreferences, columns: Any) -> None:
    for i, (left, right, who, said) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        item = f"item-{i // 5}"
        live.present(item, f"c{left}", f"c{right}")
        live.add(item, f"w{who}", (f"c{left}", f"c{right}", "")[said])
    live.refit()


def test_live_and_at_once_are_one() -> None:
    columns, *_ = drawn()
    live = LivePreferences()
    _recorded(live, columns)
    items = [f"item-{i // 5}" for i in range(columns[0].size)]
    left, right, who = ([f"{kind}{n}" for n in c] for kind, c in zip("ccw", columns[:3], strict=True))
    fit = HierarchicalBradleyTerry().fit(Comparisons.of(left, right, who, columns[3], pair=items))
    lead = dict(zip(fit.comparisons.pairs, fit.leads.mean[:, 0], strict=True))
    for item in set(items):
        assert live.posterior(item).lead == pytest.approx(lead[item], abs=0.02)


def test_what_is_foretold_of_a_labeler_knows_their_habits() -> None:
    columns, *_ = drawn(pairs=300)
    live = LivePreferences()
    _recorded(live, columns)
    live.present("new", "c0", "c1")
    left, right = live.foretell("new", "w1")["c0"], live.foretell("new", "w5")["c0"]
    assert left > right + 0.3  # w1 leans to the left, w5 to the right
    assert sum(live.foretell("new", "nobody").values()) == pytest.approx(1.0)
    assert live.posterior("new").confidence == 0.0  # nobody answered, whatever is foretold


def test_who_does_not_look_weighs_nothing_and_is_seen_to_be_seldom_right() -> None:
    columns, *_ = drawn(pairs=300)
    live = LivePreferences()
    _recorded(live, columns)
    careful, careless = live.reliability("w8"), live.reliability("w0")
    assert careful.accuracy > careless.accuracy + 0.15
    assert careful.low < careful.accuracy < careful.high
    assert careful.care > 1.0 > 0.4 > careless.care
    live.present("new", "p", "q")
    live.add("new", "w8", "p")
    found = live.update("new", "w0", "q")
    weight = {part.labeler: part.weight for part in found.evidence}
    assert found.probabilities["p"] > found.probabilities["q"]
    assert weight["w8"] > 5.0 * weight["w0"]
    assert live.reliability("nobody").care == 1.0


def test_known_truths_teach_who_is_right() -> None:
    items = [f"i{i}" for i in range(30)]
    live = LivePreferences(ties=False)
    for item in items:
        live.present(item, f"{item}a", f"{item}b")
        for who in ("ann", "bob", "cat"):
            live.add(item, who, f"{item}b")  # all three alike,
        for who in ("dan", "eve"):
            live.add(item, who, f"{item}a")  # and two others, who are right
        if item != "i0":
            live.know(item, f"{item}a")
    live.refit()
    assert live.posterior("i0").value == "i0a"
    assert live.posterior("i1").confidence == 1.0


def test_an_item_named_anew_after_the_fit_is_judged_by_its_candidates() -> None:
    columns, strength, *_ = drawn(pairs=300)
    live = LivePreferences()
    _recorded(live, columns)
    best, worst = (f"c{int(c)}" for c in (strength.argmax(), strength.argmin()))
    live.present("new", worst, best)
    forward = live.posterior("new")
    live.present("new", best, worst)
    assert forward.probabilities[best] == pytest.approx(live.posterior("new").probabilities[best])
    assert forward.probabilities[best] > 0.6


# --- yardsticks and scores


def test_the_published_models_find_strengths_too() -> None:
    columns, strength, *_ = drawn(pairs=400)
    for method in (Davidson(), NoisyBradleyTerry()):
        found = method.fit(Comparisons.of(*columns))
        assert np.corrcoef(found.strength, strength)[0, 1] > 0.9
        assert found.chance.sum(axis=1) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="expected above 0"):
        Davidson(prior_variance=0.0)
    with pytest.raises(ValueError, match="expected above 0"):
        NoisyBradleyTerry(prior_variance=float("nan"))


def test_scores_read_what_items_and_labels_say() -> None:
    assert score_pairs.candidates_of("q|x|y") == ("q", "x", "y")
    assert score_pairs.candidates_of("x|y") == ("", "x", "y")
    assert score_pairs.candidates_of("7") == ("", "7|a", "7|b")
    labels = ["x", "y", "a", "right", "Tie", ""]
    assert [score_pairs.outcome_of("q|x|y", label) for label in labels] == [0, 1, 0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"label of 'q\|x\|y' is '7'; expected"):
        score_pairs.outcome_of("q|x|y", "7")


def test_every_method_is_scored_on_the_side_it_was_shown() -> None:
    crowd = {"q|z|a": {"u": "a", "v": "a", "w": "s"}, "q|b|y": {"u": "b", "v": "b", "w": "b"}}
    for name, method in score_pairs.METHODS.items():
        values = method(crowd)
        assert values["q|z|a"][1] > values["q|z|a"][0], name
        scores = score_pairs.judge(values, {"q|z|a": "a", "q|b|y": "b", "not answered": "a"})
        assert scores["side_accuracy"] == 1.0, name
    assert next(iter(score_pairs.METHODS)) == score_pairs.DEFAULT
    assert np.isnan(score_pairs.judge({}, {})["accuracy"])


@pytest.mark.data
@pytest.mark.skipif(not MUSIC.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_judgements_of_real_people_held_out_are_foretold() -> None:
    with (MUSIC / "answers.csv").open(encoding="utf-8", newline="") as lines:
        rows = [(r["item"], r["annotator"], r["label"]) for r in csv.DictReader(lines)]
    named = [score_pairs.candidates_of(item) for item, _, _ in rows]
    group, left, right = (np.array([name[part] for name in named]) for part in range(3))
    who = np.array([labeler for _, labeler, _ in rows])
    said = np.array([score_pairs.outcome_of(item, label) for item, _, label in rows])
    held = np.random.default_rng(0).permutation(said.size) % 5 == 0
    fit = HierarchicalBradleyTerry().fit(
        Comparisons.of(left[~held], right[~held], who[~held], said[~held], group[~held])
    )
    chance = fit.predict(*(column[held].tolist() for column in (left, right, who, group)))
    picked = chance[np.arange(chance.shape[0]), said[held]]
    sided = said[held] != NEITHER
    among = picked[sided] / chance[sided, :2].sum(axis=1)
    assert -np.log(picked).mean() < 0.74  # Crowd-Kit's NoisyBradleyTerry: 0.79
    assert -np.log(among).mean() < 0.51  # 0.55


@pytest.mark.parametrize(
    ("scene", "told"),
    [
        (([1], "a", "b"), r"item is \[1\]; expected its name"),
        (("i", "a", "b", None), "group of item 'i' is None; expected its name"),
        (("i", "a", "b", np.int8(3)), "group of item 'i' is .*3"),
        (("i", "a", "b", [1]), r"group of item 'i' is \[1\]"),
        (("i", 1, "b"), "candidate of item 'i' is 1; expected its name"),
        (("i", "a\ud800", "b"), "candidate of item 'i' is .*, with half a surrogate pair"),
    ],
    ids=str,
)
def test_what_is_presented_by_no_name_is_refused_before_a_refit_meets_it(scene: Any, told: str) -> None:
    live = LivePreferences()
    with pytest.raises(ValueError, match=told):
        live.present(*scene)
    live.add("i", "ann", "a")
    live.refit()
    assert live.posterior("i").candidates == ("a",)


def test_what_is_no_name_foretells_nothing() -> None:
    for item, labeler in (([1], "ann"), ("i", [1])):
        with pytest.raises(ValueError, match=r"is \[1\]; expected its name"):
            LivePreferences().foretell(item, labeler)  # type: ignore[arg-type]
