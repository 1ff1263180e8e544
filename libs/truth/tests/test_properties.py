"""What must hold of any aggregation, whatever the data: names mean nothing, and more evidence never means less.

Sums go in the order of names. Other names are another order, so that results agree but for rounding: to a millionth,
where the same names in another order of arrival agree to the bit (`test_aggregation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth import (
    BWA,
    EBCC,
    GLAD,
    IBCC,
    MACE,
    BlockDawidSkene,
    DawidSkene,
    HierarchicalDawidSkene,
    LiveChoices,
    LiveClasses,
    LiveNumbers,
    LiveTexts,
    MajorityVote,
    NamedVotes,
    OneCoinDawidSkene,
    Votes,
    Wawa,
    ZeroBasedSkill,
)
from cairn_truth.stretches.segments import LiveSegments, Segment
from cairn_truth.stretches.spans import LiveSpans, Span
from cairn_truth.values.ordinals import LiveRatings
from libs.truth.tests.conftest import make_crowd

METHODS: list[Any] = [
    *(MajorityVote(), Wawa(), ZeroBasedSkill(), DawidSkene(), OneCoinDawidSkene(), IBCC(), GLAD(), MACE()),
    *(EBCC(), BWA(), HierarchicalDawidSkene(), BlockDawidSkene()),
]
DEFAULTS = [HierarchicalDawidSkene(), BlockDawidSkene()]


def name(method: Any) -> str:
    return type(method).__name__


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_what_are_no_votes_is_told(method: Any) -> None:
    with pytest.raises(
        ValueError, match=r"votes is NamedVotes; expected Votes \(of NamedVotes, its .votes\)"
    ):
        method.fit(NamedVotes.of(["a", "b"], ["x", "x"], ["yes", "no"]))


every_method = pytest.mark.parametrize("method", METHODS, ids=name)
both_defaults = pytest.mark.parametrize("method", DEFAULTS, ids=name)
crowds = st.builds(
    make_crowd,
    items=st.just(40),
    labelers=st.integers(6, 12),
    classes=st.just(2),
    each=st.just(
        5
    ),  # an odd number of votes on two classes: nothing is tied, and a tie goes to the lower class
    low=st.just(0.6),
    seed=st.integers(0, 10**6),
)
few = settings(max_examples=5, derandomize=True)


def close(method: Any) -> float:
    """Return how far posteriors may be apart: an optimiser stops where it is near enough, by its own measure."""
    return 0.02 if isinstance(method, GLAD | EBCC) else 1e-6


def renamed(votes: Votes, *, item: Any = None, labeler: Any = None, choice: Any = None) -> Votes:
    """Return the votes with ids, by the old ones, replaced."""
    columns = (votes.item, votes.labeler, votes.choice)
    fresh = [
        old if new is None else np.asarray(new)[old]
        for old, new in zip(columns, (item, labeler, choice), strict=True)
    ]
    return Votes.of(*fresh, classes=votes.classes, items=votes.items, labelers=votes.labelers)


# Names mean nothing


@every_method
@given(crowd=crowds)
@few
def test_other_names_of_classes_permute_posteriors_and_nothing_else(method: Any, crowd: Any) -> None:
    one, other = (method.fit(votes) for votes in (crowd.votes, renamed(crowd.votes, choice=[1, 0])))
    assert other.posterior[:, ::-1] == pytest.approx(one.posterior, abs=close(method))
    assert other.reliability == pytest.approx(one.reliability, abs=close(method))


@both_defaults
@given(seed=st.integers(0, 10**6), order=st.permutations(range(4)))
@few
def test_so_it_is_with_more_classes_where_votes_may_tie(method: Any, seed: int, order: list[int]) -> None:
    votes = make_crowd(items=60, labelers=12, classes=4, each=4, seed=seed).votes
    one, other = (method.fit(each).posterior for each in (votes, renamed(votes, choice=order)))
    assert other[:, order] == pytest.approx(one, abs=1e-6)


@every_method
@given(crowd=crowds, chance=st.integers(0, 10**6))
@few
def test_other_names_of_items_and_labelers_permute_results(method: Any, crowd: Any, chance: int) -> None:
    votes, rng = crowd.votes, np.random.default_rng(chance)
    item, labeler = rng.permutation(votes.items), rng.permutation(votes.labelers)
    one, other = (method.fit(each) for each in (votes, renamed(votes, item=item, labeler=labeler)))
    assert other.posterior[item] == pytest.approx(one.posterior, abs=close(method))
    assert other.reliability[labeler] == pytest.approx(one.reliability, abs=close(method))


@every_method
@given(crowd=crowds)
@few
def test_a_second_copy_with_other_labelers_says_the_same_as_the_first(method: Any, crowd: Any) -> None:
    """Twice the data leave what a method without priors says; priors then weigh half, so that it dares a little more."""
    votes = crowd.votes
    both = Votes.of(
        np.concatenate([votes.item, votes.item + votes.items]),
        np.concatenate([votes.labeler, votes.labeler + votes.labelers]),
        np.concatenate([votes.choice, votes.choice]),
        classes=votes.classes,
    )
    one, two = method.fit(votes).posterior, method.fit(both).posterior
    assert two[votes.items :] == pytest.approx(two[: votes.items], abs=close(method))
    if isinstance(method, MajorityVote | Wawa | ZeroBasedSkill | OneCoinDawidSkene):
        assert two[: votes.items] == pytest.approx(one, abs=1e-5)
    if isinstance(method, BlockDawidSkene):
        assert two.max(axis=1).mean() >= one.max(axis=1).mean() - 0.02


# What says nothing changes little


@every_method
@pytest.mark.parametrize("kind", ["random", "constant"])
def test_a_labeler_who_knows_nothing_is_told_and_does_little_harm(method: Any, kind: str) -> None:
    lost, told = [], []
    for seed in range(4):
        crowd = make_crowd(items=150, labelers=10, classes=3, each=5, low=0.65, seed=seed)
        votes, chance = crowd.votes, np.random.default_rng(seed)
        said = chance.integers(0, 3, votes.items) if kind == "random" else np.zeros(votes.items, dtype=int)
        more = Votes.of(
            np.concatenate([votes.item, np.arange(votes.items)]),
            np.concatenate([votes.labeler, np.full(votes.items, votes.labelers)]),
            np.concatenate([votes.choice, said]),
            classes=3,
        )
        before, after = method.fit(votes), method.fit(more)
        lost.append(np.mean(_right(before, crowd)) - np.mean(_right(after, crowd)))
        right = after.posterior[more.item, more.choice]
        each = np.bincount(more.labeler, right) / np.bincount(more.labeler)
        told.append(each[:-1].min() - each[-1])
    assert np.mean(lost) < (0.08 if isinstance(method, MajorityVote | BWA) else 0.02)
    assert np.mean(told) > 0.05


def _right(fit: Any, crowd: Any) -> Any:
    return fit.posterior.argmax(axis=1) == crowd.truth


@every_method
@given(seed=st.integers(0, 10**6))
@few
def test_a_class_that_nobody_uses_is_nobodys_truth(method: Any, seed: int) -> None:
    votes = make_crowd(items=80, labelers=10, classes=3, each=5, low=0.7, seed=seed).votes
    more = Votes.of(votes.item, votes.labeler, votes.choice, classes=4)
    one, other = method.fit(votes).posterior, method.fit(more).posterior
    assert other[:, 3].max() < 0.1
    assert (one.argmax(axis=1) == other.argmax(axis=1)).mean() > 0.9


# What any votes give


@every_method
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 2)), max_size=25),
    classes=st.integers(3, 5),
    gold=st.lists(st.integers(-1, 2), min_size=9, max_size=9),
)
@settings(max_examples=8, derandomize=True)
def test_any_votes_give_probabilities_and_gold_is_certain(
    method: Any, rows: list[tuple[int, int, int]], classes: int, gold: list[int]
) -> None:
    """Answers given twice, silent items and labelers, gold where nobody voted: all of it happens."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    fit = method.fit(Votes.of(*columns, classes=classes, items=9, labelers=6), gold=gold)
    assert np.isfinite(fit.posterior).all()
    assert ((fit.posterior >= 0.0) & (fit.posterior <= 1.0 + 1e-12)).all()
    assert fit.posterior.sum(axis=1) == pytest.approx(1.0)
    known = np.flatnonzero(np.array(gold) >= 0)
    assert fit.posterior[known, np.array(gold)[known]] == pytest.approx(1.0)


def test_an_item_without_votes_has_the_prior() -> None:
    votes = make_crowd(items=100, labelers=8).votes
    more = Votes.of(votes.item, votes.labeler, votes.choice, classes=3, items=101)
    fit = BlockDawidSkene().fit(more)
    assert fit.posterior[100] == pytest.approx(fit.prior)
    assert fit.prior.sum() == pytest.approx(1.0)


# More evidence never means less


@given(
    said=st.lists(st.integers(0, 2), max_size=6),
    seed=st.integers(0, 5),
    classes=st.sampled_from([3, 70]),
)
@settings(max_examples=20, derandomize=True)
def test_one_more_vote_of_a_good_labeler_for_the_leading_class_never_lowers_it(
    said: list[int], seed: int, classes: int
) -> None:
    live = _fitted(seed, classes)
    for who, choice in enumerate(said):
        live.update("new", f"l{who}", choice)
    before = live.posterior("new")
    lead = int(before.argmax())
    after = live.update("new", "l9", lead)  # the best of them
    assert after[lead] >= before[lead] - 1e-12


_FITTED: dict[tuple[int, int], bytes] = {}


def _fitted(seed: int, classes: int) -> LiveClasses:
    """Return a live state whose crowd is known: its ten labelers are right 60 % to 95 % of the time."""
    if (seed, classes) not in _FITTED:
        votes = make_crowd(items=120, labelers=10, classes=classes, each=5, low=0.6, seed=seed).votes
        live = LiveClasses(classes)
        for item, labeler, choice in zip(votes.item, votes.labeler, votes.choice, strict=True):
            live.update(f"i{item}", f"l{labeler}", int(choice))
        live.refit()
        _FITTED[seed, classes] = live.save()
    live = LiveClasses(classes)
    live.restore(_FITTED[seed, classes])
    return live


# What was taken back was never there


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sets(st.sampled_from("xyz")), st.booleans()),
        min_size=1,
        max_size=10,
    )
)
@settings(max_examples=8, derandomize=True)
def test_answers_replaced_or_withdrawn_leave_the_state_to_the_bit_as_without_them(
    steps: list[tuple[int, int, set[str], bool]],
) -> None:
    classes, choices, standing = LiveClasses(8), LiveChoices(), {}
    code = {"x": 1, "y": 2, "z": 4}
    for item, labeler, said, stays in steps:
        place = (f"i{item}", f"l{labeler}")
        classes.update(*place, sum(code[c] for c in said))
        choices.update(*place, said)
        standing[place] = said
        if not stays:
            classes.withdraw(*place)
            choices.withdraw(*place)
            del standing[place]
    straight, sets = LiveClasses(8), LiveChoices()
    for place, said in standing.items():
        straight.update(*place, sum(code[c] for c in said))
        sets.update(*place, said)
    for live in (classes, choices, straight, sets):
        live.refit()
    assert classes.digest() == straight.digest()
    assert choices.digest() == sets.digest()
    assert sorted(choices.items()) == sorted({item for item, _ in standing})
    assert all(choices.posterior(item) == sets.posterior(item) for item in sets.items())


def test_gold_of_a_set_stands_and_leaves_no_trace_when_freed() -> None:
    live, straight = LiveChoices(), LiveChoices()
    for state in (live, straight):
        for who in ("ann", "bob", "cid"):
            state.update("a", who, ["x"] if who == "ann" else ["x", "y"])
    live.know("a", ["z"])
    live.refit()
    assert live.posterior("a").classes == ("z",)
    live.know("a", None)
    live.restore(straight.save())
    assert live.posterior("a") == straight.posterior("a")


# Other kinds of answers


class Kind(NamedTuple):
    """A kind of answer: its live state, answers from whole numbers ``(level, width)``, and what its values are."""

    new: Callable[[], Any]
    answer: Callable[[int, int], Any]
    value: Callable[[Any], Any]


KINDS: Mapping[str, Kind] = {
    "numbers": Kind(LiveNumbers, lambda at, _: float(at), lambda joined: joined.value),
    "ratings": Kind(lambda: LiveRatings(0, 4), lambda at, _: at % 5, lambda joined: joined.value),
    "texts": Kind(LiveTexts, lambda at, _: f"word {at % 4}", lambda joined: joined.text),
    "spans": Kind(
        lambda: LiveSpans(1),
        lambda at, wide: (Span(at, at + wide, 0),),
        lambda joined: [(s.start, s.end) for s in joined.value],
    ),
    "segments": Kind(
        lambda: LiveSegments(1),
        lambda at, wide: (Segment(float(at), float(at + wide), 0),),
        lambda joined: [(s.start_seconds, s.end_seconds) for s in joined.value],
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
told = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 12), st.integers(2, 9)),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[:2],
)


def joined(kind: Kind, rows: Any, *, labeler: str = "l{}", item: str = "i{}") -> dict[str, Any]:
    """Return what a fit makes of the answers, by item."""
    live = kind.new()
    answers: dict[str, dict[str, Any]] = {}
    for i, who, at, wide in rows:
        answers.setdefault(item.format(i), {})[labeler.format(who)] = kind.answer(at, wide)
    return dict(live.fit(answers))


@every_kind
@given(rows=told)
@settings(max_examples=6, derandomize=True)
def test_other_names_in_the_same_order_give_the_same_bits(kind: str, rows: Any) -> None:
    one, other = (joined(KINDS[kind], rows, labeler=who) for who in ("l{}", "zoe {}"))
    assert {i: repr(KINDS[kind].value(j)) for i, j in one.items()} == {
        i: repr(KINDS[kind].value(j)) for i, j in other.items()
    }
    assert [j.confidence for j in one.values()] == [j.confidence for j in other.values()]


@every_kind
@given(rows=told)
@settings(max_examples=6, derandomize=True)
def test_a_second_copy_of_items_and_labelers_is_joined_as_the_first(kind: str, rows: Any) -> None:
    copy = [(i + 10, who + 10, at, wide) for i, who, at, wide in rows]
    found = joined(KINDS[kind], [*rows, *copy])
    for i, *_ in rows:
        one, two = found[f"i{i}"], found[f"i{i + 10}"]
        if kind == "numbers":
            assert two.value == pytest.approx(one.value, abs=1e-6)
        else:
            assert KINDS[kind].value(two) == KINDS[kind].value(one)
        assert two.confidence == pytest.approx(one.confidence, abs=1e-6)
