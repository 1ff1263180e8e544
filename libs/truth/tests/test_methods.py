"""The published methods do what their papers' equations say, and what is promised of all of them."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logsumexp, softmax

from cairn_truth import (
    BWA,
    EBCC,
    GLAD,
    IBCC,
    MACE,
    BlockDawidSkene,
    DawidSkene,
    HierarchicalDawidSkene,
    MajorityVote,
    OneCoinDawidSkene,
    Votes,
    Wawa,
    ZeroBasedSkill,
)
from cairn_truth.__main__ import read_folder
from cairn_truth.classes.class_fit import mass, moved, normalise

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))

METHODS: list[Any] = [
    MajorityVote(),
    Wawa(),
    ZeroBasedSkill(),
    DawidSkene(),
    OneCoinDawidSkene(),
    IBCC(),
    GLAD(),
    MACE(),
    EBCC(),
    BWA(),
    HierarchicalDawidSkene(),
    BlockDawidSkene(),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)

TWO_AGREE_ONE_DOES_NOT = Votes.of([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 1, 1], classes=2)
ONE_VOTE = Votes.of([0], [0], [0], classes=2)


def accuracy(posterior: Any, truth: Any) -> float:
    return float((posterior.argmax(axis=1) == truth).mean())


# By hand


def test_wawa_weighs_by_agreement_with_the_majority() -> None:
    fit = Wawa().fit(TWO_AGREE_ONE_DOES_NOT)
    assert fit.skill.tolist() == [1.0, 1.0, 0.5]
    assert fit.posterior.ravel() == pytest.approx([2 / 2.5, 0.5 / 2.5, 0.0, 1.0])


def test_zero_based_skill_comes_to_rest_at_agreement_with_itself() -> None:
    fit = ZeroBasedSkill().fit(TWO_AGREE_ONE_DOES_NOT)
    assert fit.skill == pytest.approx([1.0, 1.0, 0.5])
    assert fit.posterior.ravel() == pytest.approx([2 / 2.5, 0.5 / 2.5, 0.0, 1.0])
    assert fit.iterations < 5


def test_one_round_of_dawid_skene_by_hand() -> None:
    """Item 0 starts at (2/3, 1/3), item 1 at (0, 1); labelers 0 and 1 said (0, 1), labeler 2 said (1, 1)."""
    fit = DawidSkene(iterations=1).fit(TWO_AGREE_ONE_DOES_NOT)
    assert fit.prior == pytest.approx([1 / 3, 2 / 3])
    assert fit.confusion[0].ravel() == pytest.approx([1.0, 0.0, 1 / 4, 3 / 4], abs=1e-9)
    assert fit.confusion[2].ravel() == pytest.approx([0.0, 1.0, 0.0, 1.0], abs=1e-9)
    odds = (1 / 3 * 1.0 * 1.0 * 1.0) / (2 / 3 * 1 / 4 * 1 / 4 * 1.0)
    assert fit.posterior[0, 0] == pytest.approx(odds / (1 + odds))
    assert fit.log_likelihood == pytest.approx(np.log(1 / 3 + 2 / 3 / 16) + np.log(2 / 3 * 9 / 16))


def test_dawid_skene_gives_no_chance_to_what_a_labeler_never_said_and_any_to_one_who_never_spoke() -> None:
    fit = DawidSkene().fit(Votes.of([0, 0, 1], [0, 2, 0], [0, 0, 2], classes=3, labelers=3))
    assert (fit.confusion[0, :, 1] == 0.0).all()
    assert fit.confusion[1] == pytest.approx(np.full((3, 3), 1 / 3))
    assert fit.confusion.sum(axis=2) == pytest.approx(np.ones((3, 3)))


def test_one_coin_skill_is_the_expected_share_of_right_votes(crowd: Any) -> None:
    fit = OneCoinDawidSkene(iterations=1000, tolerance=1e-14).fit(crowd.votes)
    assert fit.skill == pytest.approx(fit.reliability, abs=1e-5)
    assert fit.skill == pytest.approx(crowd.confusion[:, 0, 0], abs=0.13)


def test_one_round_of_ibcc_by_hand() -> None:
    """Digammas of whole numbers differ by sums of reciprocals: psi(5) - psi(1) = 25/12, psi(6) - psi(5) = 1/5."""
    odds = 1.0 - 1 / 5 + 25 / 12
    assert IBCC(iterations=1).fit(ONE_VOTE).posterior[0, 0] == pytest.approx(expit(odds))


def test_ebcc_with_one_subtype_is_ibcc(crowd: Any) -> None:
    one, plain = EBCC(subtypes=1).fit(crowd.votes), IBCC().fit(crowd.votes)
    assert one.posterior == pytest.approx(plain.posterior, abs=1e-9)
    assert one.confusion == pytest.approx(plain.confusion, abs=1e-9)
    assert one.log_likelihood == pytest.approx(plain.log_likelihood)


def test_glad_finds_the_divided_item_harder_and_the_odd_one_out_less_able() -> None:
    fit = GLAD().fit(TWO_AGREE_ONE_DOES_NOT)
    assert fit.easiness[0] < fit.easiness[1]
    assert fit.skill[2] < fit.skill[0] == pytest.approx(fit.skill[1])
    alone = GLAD().fit(ONE_VOTE)
    assert alone.posterior[0, 0] == pytest.approx(expit(alone.skill[0] * alone.easiness[0]))


def test_mace_starts_from_half_knowing_and_half_guessing() -> None:
    fit = MACE(iterations=0).fit(ONE_VOTE)
    assert fit.posterior.ravel() == pytest.approx([0.5 + 0.5 * 0.5, 0.5 * 0.5])


def test_mace_tells_who_knows_from_who_presses_one_key() -> None:
    chance = np.random.default_rng(1)
    truth = chance.integers(0, 3, 300)
    columns = [np.where(chance.random(300) < 0.9, truth, chance.integers(0, 3, 300)) for _ in range(3)]
    choice = np.stack([*columns, np.full(300, 2)], axis=1).ravel()
    fit = MACE().fit(Votes.of(np.repeat(np.arange(300), 4), np.tile(np.arange(4), 300), choice, classes=3))
    assert fit.skill[:3] == pytest.approx(0.9, abs=0.07)
    assert fit.skill[3] < 0.1
    assert fit.strategy[3, 2] > 0.9


def test_one_round_of_bwa_by_hand() -> None:
    """b = 15 * 1/8 * 2; everybody misses 1/4; v = 17 / 4; mu = 3/4 for class 0."""
    votes = Votes.of([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 0], classes=2)
    fit = BWA(iterations=1).fit(votes)
    assert fit.skill == pytest.approx([4.25, 4.25])
    assert fit.posterior.ravel() == pytest.approx([5 / 9.5, 4.5 / 9.5, 9.25 / 9.5, 0.25 / 9.5])


# What the methods share


@given(seed=st.integers(0, 99), items=st.sampled_from([0, 1, 7, 20_000]), classes=st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_posteriors_are_normalised_however_many_there_are(seed: int, items: int, classes: int) -> None:
    chance = np.random.default_rng(seed)
    logits, log_prior = chance.normal(0.0, 300.0, (items, classes)), chance.normal(size=classes)
    known = chance.integers(-1, classes, items)
    posterior, log_sum = normalise(logits, known, log_prior=log_prior)
    joint, told = logits + log_prior, known >= 0
    assert posterior[~told] == pytest.approx(softmax(joint[~told], axis=1))
    assert (posterior[told].argmax(axis=1) == known[told]).all()
    assert (posterior[told].max(axis=1) == 1.0).all()
    assert log_sum[~told] == pytest.approx(logsumexp(joint[~told], axis=1))
    assert log_sum[told] == pytest.approx(joint[told, known[told]])
    within, _ = normalise(logits, known, log_prior=log_prior, out=logits)
    assert within is logits
    assert within.tobytes() == posterior.tobytes()


def test_mass_is_of_the_counted_items_and_the_largest_move_has_no_sign() -> None:
    posterior = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    assert mass(posterior, np.array([True, False, True])).tolist() == [0.75, 1.25]
    for step in (0.125, -0.125):
        change = np.array([[0.0, 0.0625], [0.0, step], [0.0, 0.0]])
        assert moved(posterior.copy(), posterior + change) == 0.125
    assert moved(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


# Settings


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        *(
            (
                lambda kind=kind, wrong=wrong: kind(iterations=wrong),
                f"iterations is {wrong!r}; expected a whole number",
            )
            for kind in (*map(type, METHODS[2:]),)
            for wrong in (-1, 2.5, True, "3")
        ),
        *(
            (lambda kind=kind: kind(tolerance=float("nan")), "tolerance is nan; expected a finite number")
            for kind in (*map(type, METHODS[3:]),)
        ),
        (lambda: EBCC(iterations=0), "iterations is 0; expected a whole number, at least 1"),
        (lambda: BlockDawidSkene(iterations=0), "iterations is 0"),
        (lambda: HierarchicalDawidSkene(iterations=0), "iterations is 0"),
        (lambda: ZeroBasedSkill(halve_every=0), "halve_every is 0"),
        (lambda: ZeroBasedSkill(rate=-1.0), "rate is -1.0; expected a finite number, above 0"),
        (lambda: EBCC(subtypes=0), "subtypes is 0"),
        (lambda: EBCC(restarts=0), "restarts is 0"),
        (lambda: EBCC(subtype_votes=0.0), "subtype_votes is 0.0"),
        (lambda: MACE(restarts=0), "restarts is 0"),
        (lambda: MACE(competence_votes=0), "competence_votes is 0; expected a finite number, above 0"),
        (lambda: IBCC(right_votes=-4), "right_votes is -4"),
        (lambda: BWA(shrinkage=0), "shrinkage is 0"),
        (lambda: BWA(precision_votes=float("inf")), "precision_votes is inf"),
        (lambda: GLAD(ascent=0), "ascent is 0"),
        (lambda: GLAD(mean=float("nan")), "mean is nan; expected a finite number$"),
        (lambda: BlockDawidSkene(correlation=-0.5), "correlation is -0.5; .*, at least 0 and at most 1"),
        (lambda: BlockDawidSkene(shared_mistakes=50), "shared_mistakes is 50"),
        (lambda: BlockDawidSkene(confusion_strength=0.0), "confusion_strength is 0.0"),
        (lambda: HierarchicalDawidSkene(population_accuracy=2), "population_accuracy is 2"),
        (lambda: HierarchicalDawidSkene(skill_strength="80"), "skill_strength is '80'"),
    ],
)
def test_a_setting_of_no_sense_is_refused_by_name(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_settings_of_any_kind_of_number_are_taken() -> None:
    votes = small_crowd(seed=0)[0]
    assert DawidSkene(iterations=np.int64(3), tolerance=np.float32(0)).fit(votes).iterations == 3
    assert BlockDawidSkene(correlation=0, model_weight=1).fit(votes).posterior.shape == (200, 2)


# What is maximised


@pytest.mark.parametrize("kind", [OneCoinDawidSkene, IBCC, EBCC, MACE, GLAD, BWA, DawidSkene])
def test_no_round_lowers_what_is_maximised(kind: Any) -> None:
    """Only true of the right bound for the right updates: a check of both at once."""
    votes = small_crowd(seed=1)[0]
    reached = [kind(iterations=n, tolerance=0).fit(votes).log_likelihood for n in range(1, 5)]
    assert np.diff(reached).min() > -1e-6 * abs(reached[0])
    assert reached[-1] > reached[0]


@pytest.mark.parametrize("kind", [EBCC, MACE])
def test_restarts_want_a_generator_and_never_lower_the_bound(kind: Any) -> None:
    votes = small_crowd(seed=2)[0]
    with pytest.raises(ValueError, match="restarts is 3 but rng is None"):
        kind(restarts=3).fit(votes)
    fits = [kind(restarts=3).fit(votes, rng=np.random.default_rng(7)) for _ in range(2)]
    assert fits[0].posterior.tobytes() == fits[1].posterior.tobytes()
    assert fits[0].log_likelihood >= kind().fit(votes).log_likelihood


# Promised of every method


@every_method
def test_a_crowd_is_understood_at_least_as_well_as_by_majority(method: Any, crowd: Any) -> None:
    majority = accuracy(MajorityVote().fit(crowd.votes).posterior, crowd.truth)
    fit = method.fit(crowd.votes)
    # The default, kept near the majority, has less to gain where everybody errs alone.
    margin = {"MajorityVote": 0.0, "BlockDawidSkene": 0.003}.get(type(method).__name__, 0.005)
    assert accuracy(fit.posterior, crowd.truth) >= majority + margin
    assert fit.posterior.sum(axis=1) == pytest.approx(1.0)
    assert fit.prior.sum() == pytest.approx(1.0)
    assert np.corrcoef(fit.reliability, crowd.confusion[:, 0, 0])[0, 1] > 0.8


@every_method
def test_every_fit_tells_the_same_of_itself(method: Any) -> None:
    votes = small_crowd(seed=0)[0]
    fit = method.fit(votes)
    assert fit.posterior.shape == (votes.items, votes.classes)
    assert fit.reliability.shape == (votes.labelers,)
    assert fit.prior.shape == (votes.classes,)
    assert fit.iterations >= 1
    without_model = isinstance(method, MajorityVote | Wawa | ZeroBasedSkill)
    assert np.isnan(fit.log_likelihood) if without_model else fit.log_likelihood < 0.0
    # Arrays have no one truth value: fits and votes are compared by identity, and may be keys.
    assert fit != method.fit(votes)
    assert {fit: 1, votes: 2}[votes] == 2


@every_method
def test_what_is_masked_of_gold_is_unknown(method: Any) -> None:
    votes = small_crowd(seed=0)[0]
    masked = np.ma.masked_array(np.zeros(votes.items, dtype=int), mask=np.arange(votes.items) > 0)
    one, other = (method.fit(votes, gold=gold).posterior for gold in (masked, [0] + [-1] * (votes.items - 1)))
    assert one.tobytes() == other.tobytes()


@every_method
def test_gold_is_kept(method: Any, crowd: Any) -> None:
    gold = np.where(np.arange(crowd.truth.size) % 3 == 0, crowd.truth, -1)
    posterior = method.fit(crowd.votes, gold=gold).posterior
    assert posterior[gold >= 0, gold[gold >= 0]] == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"gold\[1\] is 9; expected a class in"):
        method.fit(crowd.votes, gold=[-1, 9, *gold[2:]])


@pytest.mark.parametrize("method", [m for m in METHODS if not isinstance(m, MajorityVote)], ids=repr)
def test_gold_teaches_who_is_reliable(method: Any) -> None:
    """Three who are always wrong outvote one who never is; gold on half the items turns the other half."""
    truth = np.arange(80) % 2
    item, labeler = np.repeat(np.arange(80), 4), np.tile(np.arange(4), 80)
    votes = Votes.of(item, labeler, np.where(labeler == 0, truth[item], 1 - truth[item]), classes=2)
    gold = np.where(np.arange(80) < 60, truth, -1)
    fit = method.fit(votes, gold=gold)
    assert fit.reliability[0] > fit.reliability[1:].max()
    if not isinstance(method, Wawa):  # its majority is counted before gold speaks
        assert accuracy(fit.posterior, truth) == 1.0


@pytest.mark.parametrize("method", [m for m in METHODS if not isinstance(m, EBCC)], ids=repr)
def test_one_answer_an_item_is_believed(method: Any) -> None:
    # Not by EBCC: it may take two classes nobody was seen to confuse for subtypes of one, as the authors' code does.
    choice = np.array([0, 1, 2, 2, 1, 0, 0, 2, 1] * 10)
    fit = method.fit(Votes.of(np.arange(90), np.arange(90) % 3, choice, classes=3))
    assert fit.posterior.argmax(axis=1).tolist() == choice.tolist()
    assert np.isfinite(fit.posterior).all()


@every_method
def test_one_labeler_is_believed(method: Any) -> None:
    choice = np.array([0, 1, 1, 0, 1, 0])
    fit = method.fit(Votes.of(np.arange(6), np.zeros(6, int), choice, classes=2))
    assert fit.posterior.argmax(axis=1).tolist() == choice.tolist()
    assert fit.reliability[0] > 0.5


@every_method
def test_one_class_is_certain(method: Any) -> None:
    fit = method.fit(Votes.of([0, 0, 1], [0, 1, 0], [0, 0, 0], classes=1))
    assert fit.posterior.tolist() == [[1.0], [1.0]]
    assert fit.reliability.tolist() == [1.0, 1.0]


@every_method
def test_no_votes_and_silent_items_and_labelers_are_no_trouble(method: Any) -> None:
    none = method.fit(Votes.of([], [], [], classes=3, items=2, labelers=2))
    assert none.posterior == pytest.approx(np.full((2, 3), 1 / 3))
    assert np.isnan(none.reliability).all()
    some = method.fit(Votes.of([0, 0, 2], [0, 2, 2], [1, 1, 0], classes=2, items=4, labelers=4))
    assert some.posterior.sum(axis=1) == pytest.approx(1.0)
    assert np.isnan(some.reliability).tolist() == [False, True, False, True]


@every_method
def test_a_labeler_who_is_always_wrong_is_told(method: Any) -> None:
    votes, truth = small_crowd(accuracies=(0.9, 0.9, 0.9, 0.0), seed=0)
    fit = method.fit(votes)
    assert fit.reliability.argmin() == 3
    assert fit.reliability[3] < 0.5
    majority = accuracy(MajorityVote().fit(votes).posterior, truth)
    if not isinstance(method, MajorityVote):
        assert accuracy(fit.posterior, truth) > majority


rows = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[:2],
)


@every_method
@given(votes=rows, chance=st.randoms())
@settings(max_examples=6)
def test_the_same_votes_in_any_order_are_the_same_bits(method: Any, votes: Any, chance: Any) -> None:
    shuffled = chance.sample(votes, len(votes))
    one, other = (method.fit(Votes.of(*zip(*v, strict=True), classes=3)) for v in (votes, shuffled))
    assert one.posterior.tobytes() == other.posterior.tobytes()
    assert one.reliability.tobytes() == other.reliability.tobytes()


def small_crowd(
    accuracies: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9), *, items: int = 200, seed: int
) -> tuple[Votes, Any]:
    """Everybody answers every item, of two classes."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 2, items)
    item, labeler = np.repeat(np.arange(items), len(accuracies)), np.tile(np.arange(len(accuracies)), items)
    right = chance.random(item.size) < np.array(accuracies)[labeler]
    return Votes.of(item, labeler, np.where(right, truth[item], 1 - truth[item]), classes=2), truth


# As the reference implementations on real crowds

PEERS = {
    (row["dataset"], row["method"]): float(row["accuracy"])
    for row in (csv.DictReader((DATA / "peers.csv").open()) if (DATA / "peers.csv").is_file() else ())
    if row["accuracy"]
}

SETS = (
    *("d_possent", "dog", "labelme", "music_genre", "rte"),
    *("s_rel", "sentiment_text", "snow_temp", "web", "zencrowd_us"),
)

TIES = "Crowd-Kit breaks ties in another order (on rte: the higher class), we take the lowest"
STARTS = "found from another start: the authors draw theirs"
DIFFERENT = {
    **{("MajorityVote", data): TIES for data in ("dog", "labelme", "rte", "sentiment_text", "web")},
    **{("Wawa", data): TIES for data in ("labelme", "web")},
    ("OneCoinDawidSkene", "web"): "Crowd-Kit stops after two rounds, while the likelihood still grows",
    ("DawidSkene", "zencrowd_us"): "Crowd-Kit stops sooner",
    ("BWA", "zencrowd_us"): "labelers who answered an item twice: the authors count both, as one vote",
    **{
        ("MACE", data): "Crowd-Kit pairs strategies with other labelers"
        for data in ("labelme", "web", "zencrowd_us")
    },
    ("GLAD", "music_genre"): "another optimiser ends at another local maximum",
    **{("EBCC", data): STARTS for data in ("labelme", "s_rel", "sentiment_text", "web")},
}
"""Where accuracy differs by more than half a point, and why."""

SLOW = {
    *(("GLAD", data) for data in ("d_possent", "rte", "s_rel", "sentiment_text", "web")),
    *(("EBCC", data) for data in ("labelme", "s_rel")),
    ("IBCC", "s_rel"),
}
"""Left to `python -m cairn_truth score`."""


@pytest.mark.data
@pytest.mark.skipif(not PEERS, reason="needs recorded real answers (CAIRN_DATA) and peers.csv")
@pytest.mark.parametrize("data", SETS)
def test_real_crowds_are_understood_as_by_the_reference_implementations(data: str) -> None:
    recorded = read_folder(DATA / data)
    judged = recorded.truth >= 0
    for method in METHODS:
        name = type(method).__name__
        peer = PEERS.get(("sp" if data == "sentiment_text" else data, name))
        if peer is None or (name, data) in SLOW or (name, data) in DIFFERENT:
            continue
        posterior = method.fit(recorded.votes).posterior
        assert accuracy(posterior[judged], recorded.truth[judged]) == pytest.approx(peer, abs=0.005), name
