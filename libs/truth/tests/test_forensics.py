"""Who does not do the work is named, with the items that show it; who does is left in peace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cairn_truth import BlockDawidSkene, HierarchicalDawidSkene, Votes
from cairn_truth.__main__ import read_folder
from cairn_truth.measured.replay import Recorded
from cairn_truth.quality.colluders import copied_shares
from cairn_truth.quality.findings import GRID, adjusted, discoveries, given_population, population
from cairn_truth.quality.forensics import (
    AnswerTimes,
    Misconduct,
    find_bots,
    find_colluders,
    find_spammers,
    investigate,
    names_of,
)
from cairn_truth.quality.spammers import attention
from libs.truth.tests.conftest import make_crowd

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))
Ints = NDArray[np.int64]


def joined(votes: Votes, *others: tuple[Ints, Ints]) -> Votes:
    """The votes, and one more labeler for each ``(items, choices)``."""
    item = np.concatenate([votes.item, *(items for items, _ in others)])
    labeler = [np.full(items.size, votes.labelers + i) for i, (items, _) in enumerate(others)]
    choice = np.concatenate([votes.choice, *(choices for _, choices in others)])
    return Votes.of(
        item,
        np.concatenate([votes.labeler, *labeler]),
        choice,
        classes=votes.classes,
        items=votes.items,
        labelers=votes.labelers + len(others),
    )


def spammer(crowd: Any, how: str, answers: int, seed: int) -> tuple[Ints, Ints]:
    chance, classes = np.random.default_rng(seed), crowd.votes.classes
    items = chance.choice(crowd.votes.items, answers, replace=False)
    prior = np.bincount(crowd.votes.choice, minlength=classes) / len(crowd.votes)
    draw: dict[str, Callable[[], Ints]] = {
        "random": lambda: chance.integers(0, classes, answers),
        "prior": lambda: chance.choice(classes, answers, p=prior),
        "constant": lambda: np.full(answers, chance.integers(classes)),
        "contrary": lambda: (crowd.truth[items] + 1) % classes,
    }
    return items, draw[how]()


def colluders(
    crowd: Any, size: int, answers: int, seed: int, accuracy: float = 0.75
) -> list[tuple[Ints, Ints]]:
    """A source and copiers of it, 85 % of whose answers are the source's, the rest their own."""
    chance, classes = np.random.default_rng(seed), crowd.votes.classes
    items = chance.choice(crowd.votes.items, answers, replace=False)

    def answer() -> Ints:
        other = (crowd.truth[items] + chance.integers(1, classes, answers)) % classes
        return np.where(chance.random(answers) < accuracy, crowd.truth[items], other)

    source = answer()
    copies = [np.where(chance.random(answers) < 0.15, answer(), source) for _ in range(size - 1)]
    return [(items, each) for each in (source, *copies)]


def test_spammers_of_every_kind_are_named_and_nobody_else(crowd: Any) -> None:
    kinds = ["random", "prior", "constant", "contrary"]
    votes = joined(crowd.votes, *(spammer(crowd, how, 90, i) for i, how in enumerate(kinds)))
    found = find_spammers(votes, HierarchicalDawidSkene().fit(votes))
    assert names_of(found) == {30, 31, 32, 33}
    kind = {f.labelers[0]: f.kind for f in found}
    assert [kind[30 + i] for i in range(4)] == [
        Misconduct.RANDOM,
        Misconduct.RANDOM,
        Misconduct.CONSTANT,
        Misconduct.CONTRARY,
    ]
    for one in found:
        assert 0.0 <= one.low <= one.statistic <= one.high <= 1.0
        assert one.probability > 0.9
        assert one.p_value < 0.01
        assert one.answers == 90


def test_the_items_of_a_finding_are_those_where_the_others_surely_said_otherwise(crowd: Any) -> None:
    votes = joined(crowd.votes, spammer(crowd, "random", 90, 0))
    fit = HierarchicalDawidSkene().fit(votes)
    (found,) = find_spammers(votes, fit)
    own = {int(i): int(c) for i, c, w in zip(votes.item, votes.choice, votes.labeler, strict=True) if w == 30}
    assert found.items
    assert all(fit.posterior[item, own[item]] < 0.5 for item in found.items)


def test_attention_is_the_share_of_answers_that_look_at_the_item(crowd: Any) -> None:
    chance = np.random.default_rng(3)
    items = chance.choice(600, 500, replace=False)
    other = (crowd.truth[items] + chance.integers(1, 3, 500)) % 3
    honest = np.where(chance.random(500) < 0.75, crowd.truth[items], other)
    half = np.where(chance.random(500) < 0.5, honest, chance.integers(0, 3, 500))
    votes = joined(crowd.votes, (items, half), (items, honest))
    known = attention(votes, HierarchicalDawidSkene().fit(votes), gold=crowd.truth)
    # On the scale of those in the crowd who look always: the best.
    assert known.share[30] == pytest.approx(known.share[31] / 2, abs=0.12)
    assert known.low[30] <= known.share[30] <= known.high[30] < known.low[31]


def test_with_few_answers_nobody_can_be_named(crowd: Any) -> None:
    votes = joined(crowd.votes, *(spammer(crowd, "random", 5, i) for i in range(6)))
    assert not find_spammers(votes, HierarchicalDawidSkene().fit(votes))


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_group_that_copies_is_named_whole(size: int) -> None:
    crowd = make_crowd(seed=size)
    votes = joined(crowd.votes, *colluders(crowd, size, 120, seed=size))
    (found,) = find_colluders(votes)
    assert found.labelers == tuple(range(30, 30 + size))
    assert found.kind is Misconduct.COLLUSION
    assert 0.5 < found.statistic < 1.0
    items, source = colluders(crowd, size, 120, seed=size)[0]
    wrong = set(items[source != crowd.truth[items]].tolist())
    assert len(wrong & set(found.items)) >= 0.8 * len(found.items)


@pytest.mark.parametrize("seed", range(4))
def test_an_honest_crowd_has_no_spammers_and_no_colluders(seed: int) -> None:
    crowd = make_crowd(seed=seed, classes=2 + seed, low=0.65)
    assert not investigate(crowd.votes)


def test_honest_labelers_who_share_mistakes_do_not_collude() -> None:
    crowd, chance = make_crowd(seed=9, classes=2, each=7), np.random.default_rng(9)
    trap = chance.random(600) < 0.15
    misled = trap[crowd.votes.item] & (chance.random(len(crowd.votes)) < 0.8)
    choice = np.where(misled, 1 - crowd.truth[crowd.votes.item], crowd.votes.choice)
    votes = Votes.of(crowd.votes.item, crowd.votes.labeler, choice, classes=2)
    assert not find_colluders(votes)


def test_experts_who_agree_because_they_are_right_do_not_collude(crowd: Any) -> None:
    chance, items = np.random.default_rng(1), np.arange(300)
    expert = [
        np.where(chance.random(300) < 0.03, chance.integers(0, 3, 300), crowd.truth[:300]) for _ in range(3)
    ]
    assert not find_colluders(joined(crowd.votes, *((items, said) for said in expert)))


@given(st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_labelers_items_and_classes_by_other_numbers_give_the_same_findings(seed: int) -> None:
    crowd, chance = make_crowd(seed=1), np.random.default_rng(seed)
    votes = joined(crowd.votes, spammer(crowd, "random", 90, 0), *colluders(crowd, 3, 120, 3))
    people, items, classes = chance.permutation(34), chance.permutation(600), chance.permutation(3)
    order = chance.permutation(len(votes))
    other = Votes.of(
        items[votes.item][order], people[votes.labeler][order], classes[votes.choice][order], classes=3
    )
    here = {tuple(sorted(people[list(f.labelers)])): f for f in investigate(votes)}
    there = {f.labelers: f for f in investigate(other)}
    assert here.keys() == there.keys()
    for who, finding in here.items():
        assert there[who].kind is finding.kind
        assert there[who].probability == pytest.approx(finding.probability, abs=0.02)


def test_the_same_votes_give_the_same_bits(crowd: Any) -> None:
    votes = joined(crowd.votes, spammer(crowd, "random", 90, 0), *colluders(crowd, 3, 120, 3))
    order = np.random.default_rng(0).permutation(len(votes))
    again = Votes.of(votes.item[order], votes.labeler[order], votes.choice[order], classes=3)
    assert repr(investigate(votes)) == repr(investigate(again))


def test_bots_are_too_fast_or_too_regular() -> None:
    chance = np.random.default_rng(4)
    labeler = np.repeat(np.arange(12), 40)
    pace = np.concatenate([chance.normal(2.5, 0.4, 10), [-0.5, 2.5]])
    scatter = np.concatenate([np.full(10, 0.6), [0.5, 0.01]])
    seconds = np.exp(pace[labeler] + scatter[labeler] * chance.normal(size=480))
    found = find_bots(np.arange(480), labeler, seconds)
    assert names_of(found) == {10, 11}
    assert all(f.kind is Misconduct.BOT and f.p_value < 0.01 for f in found)
    fast = next(f for f in found if f.labelers == (10,))
    assert fast.low <= fast.statistic <= fast.high
    assert fast.statistic == pytest.approx(np.exp(-0.5), rel=0.3)
    quickest = np.argsort(seconds[400:440])[:3] + 400
    assert fast.items[:3] == tuple(quickest.tolist())


def test_a_clock_is_seen_in_the_pauses_between_answers() -> None:
    chance = np.random.default_rng(5)
    labeler = np.repeat(np.arange(8), 50)
    pause = chance.lognormal(3, 0.7, 400)
    pause[labeler == 3] = 30.0 + chance.normal(0, 0.05, 50)
    found = find_bots(np.arange(400), labeler, np.full(400, np.nan), moment=pause.cumsum())
    assert names_of(found) == {3}


def _paced(chance: np.random.Generator, people: int, answers: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Honest people, each with a pace and a scatter of their own."""
    labeler = np.repeat(np.arange(people), answers)
    pace, scatter = chance.normal(1.8, 0.6, people), chance.uniform(0.3, 0.9, people)
    seconds = np.exp(pace[labeler] + scatter[labeler] * chance.normal(size=labeler.size))
    return np.tile(np.arange(answers), people), labeler, seconds


@pytest.mark.parametrize("clock", ["exact", "whole seconds", "pages of ten"])
def test_in_a_crowd_of_people_seldom_anybody_is_called_a_bot(clock: str) -> None:
    """Of a hundred honest crowds at most so many with anybody accused as the rate of .05 allows, and luck (99.5 %)."""
    chance, accused = np.random.default_rng(6), 0
    for _ in range(100):
        item, labeler, seconds = _paced(chance, 30, 40)
        moment = None
        if clock == "whole seconds":
            seconds = np.rint(seconds)
        if clock == "pages of ten":
            moment = seconds.reshape(30, 4, 10).sum(axis=2).cumsum(axis=1).repeat(10, axis=1).ravel()
        accused += bool(find_bots(item, labeler, seconds, moment=moment))
    assert accused <= 11


def test_a_bot_that_is_twenty_times_as_fast_as_people_is_seldom_missed() -> None:
    chance, missed = np.random.default_rng(11), 0
    for _ in range(40):
        item, labeler, seconds = _paced(chance, 30, 40)
        seconds[labeler == 5] = chance.lognormal(1.8 - np.log(20.0), 0.35, 40)
        missed += 5 not in names_of(find_bots(item, labeler, seconds))
    assert missed <= 4


def test_a_clock_that_ticks_in_seconds_is_a_bots_where_people_take_half_a_minute() -> None:
    chance = np.random.default_rng(8)
    item, labeler, seconds = _paced(chance, 30, 40)
    seconds = np.rint(5.0 * seconds)
    seconds[labeler == 7] = 30.0
    assert names_of(find_bots(item, labeler, seconds)) == {7}


def test_names_of_labelers_may_be_as_large_as_numbers_go() -> None:
    item, labeler, seconds = _paced(np.random.default_rng(9), 12, 40)
    seconds[labeler == 3] = 0.01
    huge = labeler + 2**31 - 13
    (found,) = find_bots(item, huge, seconds)
    assert found.labelers == (3 + 2**31 - 13,)


def test_times_need_not_lie_as_the_votes_do(crowd: Any) -> None:
    votes, chance = crowd.votes, np.random.default_rng(10)
    seconds = np.where(votes.labeler == 4, 0.02, 1.0) * chance.lognormal(2, 0.5, len(votes))
    order = chance.permutation(len(votes))
    times = AnswerTimes(votes.item[order], votes.labeler[order], seconds[order])
    assert names_of(investigate(votes, times=times)) == {4}


def test_the_spread_over_the_crowd_is_found_again() -> None:
    chance = np.random.default_rng(7)
    share = np.where(chance.random(400) < 0.2, 0.1, 0.9)
    seen = chance.binomial(30, share)
    log = seen[:, None] * np.log(np.maximum(GRID, 1e-9)) + (30 - seen)[:, None] * np.log(
        np.maximum(1 - GRID, 1e-9)
    )
    weight = population(log)
    assert weight[GRID < 0.5].sum() == pytest.approx((share < 0.5).mean(), abs=0.02)
    low = given_population(log, weight)[:, GRID < 0.5].sum(axis=1)
    named = discoveries(low, 0.05)
    assert (share[named] < 0.5).mean() >= 0.95
    assert named.size >= 0.95 * (share < 0.5).sum()


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg() -> None:
    np.testing.assert_allclose(
        adjusted(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5]
    )
    assert not adjusted(np.zeros(0)).size
    assert not discoveries(np.zeros(0), 0.1).size


def test_degenerate_crowds_are_no_trouble() -> None:
    nobody = Votes.of([], [], [], classes=2)
    one = Votes.of([0], [0], [1], classes=2)
    alone = Votes.of(np.arange(50), np.zeros(50, int), np.arange(50) % 2, classes=2)
    same = Votes.of(np.repeat(np.arange(20), 2), np.tile([0, 1], 20), np.zeros(40, int), classes=1)
    twice = Votes.of([0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0], classes=2)
    unanimous = Votes.of(
        np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40), np.zeros(160, int), classes=2
    )
    for votes in (nobody, one, alone, same, twice, unanimous):
        assert not investigate(votes)
        assert copied_shares(votes).share.size <= 6
    assert not find_bots([], [], [])


def test_what_cannot_be_is_named(crowd: Any) -> None:
    fit = HierarchicalDawidSkene().fit(Votes.of([0], [0], [0], classes=2))
    with pytest.raises(ValueError, match="fit these votes"):
        find_spammers(crowd.votes, fit)
    other: Any = BlockDawidSkene().fit(crowd.votes)
    for find in (find_spammers, investigate):
        with pytest.raises(ValueError, match="the fit is BlockFit; expected HierarchicalFit"):
            find(crowd.votes, other)
    with pytest.raises(ValueError, match="false_rate is 1"):
        find_colluders(crowd.votes, false_rate=1.0)
    with pytest.raises(ValueError, match="seconds, row 1: -2"):
        find_bots([0, 1], [0, 0], [1.0, -2.0])
    with pytest.raises(ValueError, match="labeler, row 0"):
        find_bots([0], [-1], [1.0])
    with pytest.raises(ValueError, match="differ in length"):
        find_bots([0, 1], [0], [1.0])


def clean(recorded: Recorded) -> NDArray[np.bool_]:
    """Who is no spammer by the truth: kappa with it above .2 ("slight", Landis & Koch 1977), or unknown (< 20 judged)."""
    votes, truth = recorded.votes, recorded.truth[recorded.votes.item]
    fine = np.ones(votes.labelers, dtype=np.bool_)
    for who in range(votes.labelers):
        own = (votes.labeler == who) & (truth >= 0)
        said, right = votes.choice[own], truth[own]
        if said.size >= 20:
            chance = np.bincount(said, minlength=votes.classes) @ np.bincount(right, minlength=votes.classes)
            by_chance = chance / said.size**2
            fine[who] = (said == right).mean() - by_chance > 0.2 * (1.0 - by_chance)
    return fine


@pytest.mark.data
@pytest.mark.parametrize("folder", ["dog", "labelme", "music_genre", "rte", "snow_temp", "web"])
def test_hardly_anybody_whom_the_truth_clears_is_accused(folder: str) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no recorded answers in {DATA / folder}")
    recorded = read_folder(DATA / folder)
    fine = clean(recorded)
    accused = names_of(investigate(recorded.votes))
    assert sum(bool(fine[who]) for who in accused) <= 0.02 * recorded.votes.labelers + 1
