"""Truth and reliabilities are found again in crowds that we made, whatever the order of the votes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth import (
    BlockDawidSkene,
    DawidSkene,
    HierarchicalDawidSkene,
    LiveClasses,
    MajorityVote,
    Votes,
    expected_calibration_error,
)
from cairn_truth.classes.reliabilities import PEOPLE, Coins
from cairn_truth.labeler_accuracy import credible_interval
from libs.truth.tests.conftest import make_crowd
from libs.truth.tests.live_contract import (
    a_damaged_state_is_refused,
    it_counts_as_it_is_told,
    what_is_no_name_is_refused,
)


def accuracy(posterior: Any, truth: Any) -> float:
    return float((posterior.argmax(axis=1) == truth).mean())


def test_dawid_skene_finds_truth_and_confusions(crowd: Any) -> None:
    fit = DawidSkene().fit(crowd.votes)
    assert (
        accuracy(fit.posterior, crowd.truth)
        > accuracy(MajorityVote().fit(crowd.votes).posterior, crowd.truth) + 0.005
    )
    assert np.abs(fit.confusion - crowd.confusion).mean() < 0.06
    assert fit.posterior.sum(axis=1) == pytest.approx(1.0)
    assert fit.confusion.sum(axis=2) == pytest.approx(1.0)


def test_dawid_skene_is_a_maximum_of_the_likelihood(crowd: Any) -> None:
    """No published numbers needed: at its end, neither step of EM moves it any more."""
    votes, fit = crowd.votes, DawidSkene(iterations=500, tolerance=1e-10).fit(crowd.votes)
    log = np.log(fit.prior) + np.zeros((votes.items, votes.classes))
    np.add.at(log, votes.item, np.log(fit.confusion)[votes.labeler, :, votes.choice])
    again = np.exp(log - log.max(axis=1, keepdims=True))
    again /= again.sum(axis=1, keepdims=True)
    assert np.abs(again - fit.posterior).max() < 1e-6


def test_the_default_is_as_good_where_data_are_rich() -> None:
    made = [make_crowd(seed=seed) for seed in range(4)]
    default, plain = (
        np.mean([accuracy(model.fit(one.votes).posterior, one.truth) for one in made])
        for model in (BlockDawidSkene(), DawidSkene())
    )
    assert default >= plain - 0.005


def test_the_default_does_not_fall_below_majority_where_plain_dawid_skene_does(sparse_crowd: Any) -> None:
    majority = accuracy(MajorityVote().fit(sparse_crowd.votes).posterior, sparse_crowd.truth)
    plain = accuracy(DawidSkene().fit(sparse_crowd.votes).posterior, sparse_crowd.truth)
    default = accuracy(BlockDawidSkene().fit(sparse_crowd.votes).posterior, sparse_crowd.truth)
    assert plain < majority
    assert default >= majority - 0.005


def test_posteriors_mean_what_they_say_when_answers_are_independent(crowd: Any) -> None:
    fit = HierarchicalDawidSkene(correlation=0.0).fit(crowd.votes)
    right = fit.posterior.argmax(axis=1) == crowd.truth
    assert expected_calibration_error(fit.posterior.max(axis=1), right) < 0.05


def test_the_default_is_modest_where_answers_are_independent_for_seldom_they_are(crowd: Any) -> None:
    fit = BlockDawidSkene().fit(crowd.votes)
    right = float((fit.posterior.argmax(axis=1) == crowd.truth).mean())
    assert right - 0.1 < fit.posterior.max(axis=1).mean() < right


@pytest.mark.parametrize(
    ("classes", "each", "low", "high"),
    [
        (2, 3, 0.9, 0.99),
        (2, 7, 0.45, 0.8),
        (4, 5, 0.1, 0.95),
        (30, 4, 0.5, 0.9),
        (200, 4, 0.5, 0.9),
        (1000, 3, 0.4, 0.9),
    ],
)
def test_the_default_is_not_below_majority_from_two_classes_to_a_thousand(
    classes: int, each: int, low: float, high: float
) -> None:
    made = make_crowd(items=600, labelers=40, classes=classes, each=each, low=low, high=high, seed=1)
    fit = BlockDawidSkene().fit(made.votes)
    majority = accuracy(MajorityVote().fit(made.votes).posterior, made.truth)
    assert accuracy(fit.posterior, made.truth) >= majority - 0.005
    assert fit.posterior.sum(axis=1) == pytest.approx(1.0)
    assert fit.posterior.max(axis=1).mean() == pytest.approx(accuracy(fit.posterior, made.truth), abs=0.12)


def test_one_answer_an_item_is_as_sure_as_its_labelers_are_assumed_to_be() -> None:
    made = make_crowd(items=300, labelers=30, classes=4, each=1)
    posterior = BlockDawidSkene().fit(made.votes).posterior
    assert (posterior.argmax(axis=1) == MajorityVote().fit(made.votes).posterior.argmax(axis=1)).mean() > 0.97
    assert 0.6 < posterior.max(axis=1).mean() < 0.8


def test_hard_items_do_not_gather_in_one_class() -> None:
    """Of one class half the items are hard: plain Dawid-Skene takes all that waver for the other class."""
    chance = np.random.default_rng(3)
    items, each, labelers = 800, 6, 40
    truth = (chance.random(items) < 0.2).astype(int)
    hard = chance.random(items) < 0.4
    item = np.repeat(np.arange(items), each)
    labeler = np.concatenate([chance.choice(labelers, each, replace=False) for _ in range(items)])
    right = chance.random(item.size) < np.where(hard[item], 0.58, 0.95)
    votes = Votes.of(item, labeler, np.where(right, truth[item], 1 - truth[item]), classes=2)
    plain, default = (model.fit(votes).posterior for model in (DawidSkene(), BlockDawidSkene()))
    assert accuracy(default, truth) > accuracy(plain, truth) + 0.03


def test_gold_is_believed_and_teaches_who_is_reliable(crowd: Any) -> None:
    gold = np.where(np.arange(crowd.truth.size) % 3 == 0, crowd.truth, -1)
    for model in (DawidSkene(), HierarchicalDawidSkene(), BlockDawidSkene()):
        posterior = model.fit(crowd.votes, gold=gold).posterior
        assert (posterior[gold >= 0, gold[gold >= 0]] == 1.0).all()
    with pytest.raises(ValueError, match=r"gold\[2\] is 7; expected a class in 0..2, or -1"):
        DawidSkene().fit(crowd.votes, gold=[*gold[:2], 7, *gold[3:]])


def test_a_labeler_without_votes_is_the_population(crowd: Any) -> None:
    votes = crowd.votes
    more = Votes.of(
        votes.item, votes.labeler, votes.choice, classes=3, items=votes.items, labelers=votes.labelers + 1
    )
    known = BlockDawidSkene().fit(more).reliabilities
    assert known.errors.labelers == votes.labelers + 1
    stranger = known.confusion(known.stranger(PEOPLE))
    assert known.confusion(votes.labelers) == pytest.approx(stranger, abs=1e-9)
    assert known.right[votes.labelers] == known.right[known.stranger(PEOPLE)]


def test_labelers_without_votes_move_nothing(crowd: Any) -> None:
    votes = crowd.votes
    more = Votes.of(votes.item, votes.labeler, votes.choice, classes=3, labelers=votes.labelers + 500)
    one, other = (BlockDawidSkene().fit(each).posterior for each in (votes, more))
    assert other == pytest.approx(one, abs=1e-9)


@pytest.mark.parametrize(("guessers", "least"), [(5, 0.97), (20, 0.95), (40, 0.94)])
def test_guessers_do_not_drown_those_who_know(guessers: int, least: float) -> None:
    """Three are right nine times of ten; where they agree, 729 of 730 times they are right, whoever else votes."""
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 2, 400)
    known = np.where(chance.random((400, 3)) < 0.9, truth[:, None], 1 - truth[:, None])
    said = np.hstack([known, chance.integers(0, 2, (400, guessers))])
    item, labeler = np.divmod(np.arange(said.size), said.shape[1])
    posterior = BlockDawidSkene().fit(Votes.of(item, labeler, said.ravel(), classes=2)).posterior
    unanimous = (known == known[:, :1]).all(axis=1)
    assert posterior.max(axis=1)[unanimous].mean() > least
    assert accuracy(posterior, truth) > 0.95


def test_a_vote_that_weighs_next_to_nothing_thins_next_to_nothing() -> None:
    model = BlockDawidSkene(correlation=0.1)
    weights = np.array([[0.4, 0.4, 0.4, 0.0], [0.4, 0.4, 0.4, 0.04], [0.4, 0.4, 0.4, 0.4], [0.0] * 4])
    found = model.design_effect(weights.sum(axis=1), (weights**2).sum(axis=1))
    assert found[[0, 2, 3]] == pytest.approx([1.2, 1.3, 1.0])
    assert 1.2 < found[1] < 1.225


def test_it_says_whether_it_came_to_rest(crowd: Any) -> None:
    short, long = (BlockDawidSkene(iterations=n).fit(crowd.votes) for n in (2, 5000))
    assert (short.settled, short.iterations) == (False, 2)
    assert long.settled
    assert long.iterations < 5000


def test_many_labelers_and_classes_take_no_table_far_larger_than_the_votes() -> None:
    """500 labelers of 64 classes would have confusions of 4 million numbers, for 6,000 votes."""
    made = make_crowd(items=2000, labelers=500, classes=64, each=3, seed=1)
    tracemalloc.start()
    fit = BlockDawidSkene(iterations=5).fit(made.votes)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 30e6
    assert isinstance(fit.reliabilities.errors, Coins)
    majority = accuracy(MajorityVote().fit(made.votes).posterior, made.truth)
    assert accuracy(BlockDawidSkene().fit(made.votes).posterior, made.truth) > majority


def test_an_adversary_is_worth_as_much_as_a_friend() -> None:
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 2, 400)
    item = np.repeat(np.arange(400), 4)
    labeler = np.tile(np.arange(4), 400)
    right = chance.random(item.size) < np.array([0.85, 0.85, 0.85, 0.05])[labeler]
    votes = Votes.of(item, labeler, np.where(right, truth[item], 1 - truth[item]), classes=2)
    assert accuracy(BlockDawidSkene().fit(votes).posterior, truth) > 0.95


rows = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 6), st.integers(0, 2)),
    min_size=1,
    max_size=60,
    unique_by=lambda row: row[:2],
)


@given(rows, st.randoms())
@settings(max_examples=40)
def test_the_same_votes_in_any_order_are_the_same_bits(
    votes: list[tuple[int, int, int]], chance: Any
) -> None:
    shuffled = chance.sample(votes, len(votes))
    for model in (DawidSkene(), HierarchicalDawidSkene(), BlockDawidSkene()):
        one, other = (
            model.fit(Votes.of(*zip(*v, strict=True), classes=3)).posterior for v in (votes, shuffled)
        )
        assert one.tobytes() == other.tobytes()
    lives = []
    for order in (votes, shuffled):
        live = LiveClasses(3)
        for item, labeler, choice in order:
            live.update(f"i{item}", f"l{labeler}", choice)
        live.refit()
        lives.append(live)
    assert lives[0].digest() == lives[1].digest()
    assert all(lives[0].posterior(i).tobytes() == lives[1].posterior(i).tobytes() for i in lives[0].items())


@given(rows)
@settings(max_examples=40)
def test_vote_by_vote_comes_to_the_same_as_all_at_once(votes: list[tuple[int, int, int]]) -> None:
    live = LiveClasses(3)
    for item, labeler, choice in votes:
        posterior = live.update(f"i{item}", f"l{labeler}", choice)
        assert posterior.sum() == pytest.approx(1.0)
        assert (posterior > 0).all()
    live.refit()
    fit = BlockDawidSkene().fit(Votes.of(*zip(*votes, strict=True), classes=3, items=10, labelers=7))
    # One fit saw items and labelers without votes, the other did not: they differ by rounding alone.
    for item in {row[0] for row in votes}:
        assert live.posterior(f"i{item}") == pytest.approx(fit.posterior[item], abs=1e-6)


def test_a_fit_is_to_the_votes_of_when_it_was_begun(crowd: Any) -> None:
    votes = crowd.votes
    triples = [
        (f"i{i}", f"l{who}", int(c))
        for i, who, c in zip(votes.item, votes.labeler, votes.choice, strict=True)
    ]
    half = len(triples) // 2
    live, expected = LiveClasses(3), LiveClasses(3)
    for triple in triples[:half]:
        live.add(*triple)
        expected.add(*triple)
    expected.refit()
    fitting = live.fitting()
    for triple in triples[half:]:
        live.add(*triple)
    live.know("i0", 2)
    live.withdraw(*triples[0][:2])
    learnt = fitting()
    assert live.digest() == LiveClasses(3).digest()
    live.adopt(learnt)
    assert (live.refits, live.refit_votes, live.digest()) == (1, half, expected.digest())
    assert live.posteriors(sorted(live.items())).sum() == pytest.approx(len(live.items()))


def test_a_saved_state_weighs_every_vote_as_before(crowd: Any) -> None:
    live, votes = LiveClasses(3), crowd.votes
    triples = [
        (f"i{i}", f"l{who}", int(c))
        for i, who, c in zip(votes.item, votes.labeler, votes.choice, strict=True)
    ]
    for triple in triples:
        live.update(*triple)
    live.know("i0", 2)
    live.refit()

    copy = LiveClasses(3)
    copy.restore(live.save())
    for triple in reversed(triples):
        copy.update(*triple)
    copy.know("i0", 2)

    assert copy.digest() == live.digest()
    assert (copy.refits, copy.refit_votes, copy.votes) == (1, len(votes), len(votes))
    assert all(copy.posterior(i).tobytes() == live.posterior(i).tobytes() for i in live.items())
    assert copy.posterior("i0").tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match=r"of LiveClasses\(3\); expected one of LiveClasses\(2\)"):
        LiveClasses(2).restore(live.save())


def test_a_second_vote_replaces_the_first_and_a_withdrawn_one_is_gone() -> None:
    live = LiveClasses(2)
    blank = live.posterior("a").tolist()
    live.update("a", "ann", 0)
    live.update("a", "ann", 1)
    assert live.votes_on("a") == [("ann", 1)]
    assert live.votes == 1
    live.withdraw("a", "ann")
    assert live.posterior("a").tolist() == blank
    assert live.votes == 0
    with pytest.raises(ValueError, match="choice is 2"):
        live.update("a", "ann", 2)


@pytest.mark.parametrize("each", [3, 10, 40])
def test_a_labelers_interval_holds_their_accuracy(each: int) -> None:
    chance = np.random.default_rng(each)
    accuracy = chance.uniform(0.5, 0.95, 60)
    live = LiveClasses(3)
    for item in range(240):
        truth = int(chance.integers(3))
        live.know(f"i{item}", truth)
        for who in chance.choice(60, max(1, each * 60 // 240), replace=False):
            wrong = (truth + int(chance.integers(1, 3))) % 3
            live.add(f"i{item}", f"l{who}", truth if chance.random() < accuracy[who] else wrong)
    live.refit()
    known = [live.reliability(f"l{who}") for who in range(60)]
    held = [one.low <= right <= one.high for one, right in zip(known, accuracy, strict=True)]
    assert np.mean(held) >= 0.9
    assert all(0.0 < one.low < one.accuracy < one.high < 1.0 for one in known)
    stranger = live.reliability("nobody")
    assert stranger.votes == 0
    assert np.mean((accuracy >= stranger.low) & (accuracy <= stranger.high)) >= 0.9


def test_names_and_saved_states_are_looked_at_as_by_all_live_states() -> None:
    live = LiveClasses(2)
    for labeler, choice in (("ann", 0), ("bob", 0), ("cid", 1)):
        live.update("a", labeler, choice)
    live.refit()
    what_is_no_name_is_refused(live)
    a_damaged_state_is_refused(LiveClasses(2), live.save())
    it_counts_as_it_is_told(live, LiveClasses(2), {"a": {"ann": 0, "bob": 0, "cid": 1}})
    with pytest.raises(ValueError, match="item is 1; expected its name"):
        live.weigh(1)  # type: ignore[arg-type]
    for items, told in (
        (1, "items is 1"),
        ("a", "items is 'a'"),
        ([1], "item is 1"),
        ([[1]], r"item is \[1\]"),
    ):
        with pytest.raises(ValueError, match=told):
            live.posteriors(items)  # type: ignore[arg-type]


def test_what_is_no_model_and_no_test_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="model is 1; expected a BlockDawidSkene"):
        LiveClasses(2, model=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is_model is None; expected a function"):
        LiveClasses(2, is_model=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected one of LiveClasses\(2, model=BlockDawidSkene\("):
        LiveClasses(2, BlockDawidSkene(correlation=0.0)).restore(LiveClasses(2).save())

    def unsure(labeler: str) -> bool:
        raise OSError(labeler)

    live = LiveClasses(2, is_model=unsure)
    with pytest.raises(OSError, match="ann"):
        live.add("a", "ann", 0)
    assert (live.votes, list(live.items()), live.labelers()) == (0, [], [])


@pytest.mark.parametrize("refit", [False, True])
def test_of_one_class_everybody_is_sure_to_be_right(refit: bool) -> None:
    live = LiveClasses(1)
    for labeler in "ab":
        live.update("item", labeler, 0)
    if refit:
        live.refit()
    known = live.reliability("a")
    assert (known.accuracy, known.low, known.high) == (1.0, 1.0, 1.0)
    assert credible_interval(0.0, 3.0) == (0.0, 0.0)


def test_names_are_kept_to_the_letter() -> None:
    live = LiveClasses(2)
    for who, choice in (("a", 0), ("a\0", 1), ("b", 0)):
        live.add("item", who, choice)
    live.refit()
    copy = LiveClasses(2)
    copy.restore(live.save())
    assert copy.digest() == live.digest()
    assert copy.reliability("a\0").accuracy == live.reliability("a\0").accuracy
    for item, who in ((None, "a"), ("item", None), ("item", 7), ("\ud800", "a")):
        with pytest.raises(ValueError, match="expected"):
            live.add(item, who, 0)  # type: ignore[arg-type]
    assert live.votes == 3


def test_weights_explain_the_posterior() -> None:
    live = LiveClasses(2)
    for labeler, choice in (("ann", 0), ("bob", 0), ("cid", 1)):
        live.update("a", labeler, choice)
    weights = {part.labeler: part.weight for part in live.weigh("a")}
    assert weights["ann"] == weights["bob"] > 0 > weights["cid"]
    odds = np.log(live.posterior("a")[0] / live.posterior("a")[1])
    live.withdraw("a", "cid")
    assert np.log(live.posterior("a")[0] / live.posterior("a")[1]) == pytest.approx(odds - weights["cid"])


def test_many_items_at_once_are_as_one_by_one() -> None:
    live = LiveClasses(3, is_model=lambda who: who.startswith("models/"))
    for item, who, choice in (
        ("a", "ann", 0),
        ("a", "bob", 1),
        ("b", "models/m", 2),
        ("c", "ann", 1),
        ("c", "models/m", 1),
    ):
        live.update(item, who, choice)
    live.know("d", 2)
    live.refit()
    asked = ["c", "nobody voted", "a", "d", "b"]
    one_by_one = np.array([live.posterior(item) for item in asked])
    assert np.array_equal(live.posteriors(asked), one_by_one), "to the bit: beside whatever others"
    assert live.posteriors([]).shape == (0, 3)
    assert live.weigh_each(asked) == [live.weigh(item) for item in asked]
    assert live.weigh_each([]) == []


def test_a_model_whose_votes_were_counted_elsewhere_is_one_all_the_same() -> None:
    votes = {item: {"ann": 0, "bob": n % 2, "models/a": 1} for n, item in enumerate("abcdef")}
    whole = LiveClasses(2, is_model=lambda who: who.startswith("models/"))
    for item, said in votes.items():
        for who, choice in said.items():
            whole.add(item, who, choice)
    whole.refit()
    part = LiveClasses(2, is_model=lambda who: who.startswith("models/"))
    part.count_as(whole.counts())
    it_counts_as_it_is_told(whole, part, votes)


def test_models_are_a_population_of_their_own() -> None:
    live = LiveClasses(2, is_model=lambda who: who.startswith("models/"))
    for i in range(200):
        for who in ("ann", "bob", "cid"):
            live.update(f"i{i}", who, i % 2)
        live.update(f"i{i}", "models/m#4", (i + (i % 5 == 0)) % 2)
    live.refit()
    assert live.reliability("models/m#4").accuracy == pytest.approx(0.8, abs=0.03)
    assert live.reliability("dan").accuracy > 0.9  # the crowd did not learn the model's errors
    ann = live.reliability("ann")
    assert 0.9 < ann.low < ann.accuracy <= 1.0
