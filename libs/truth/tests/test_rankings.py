"""Rankings: places shared and left out, labelers of uneven care, and the ranking most pairs agree with."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.values.ranked_pairs import best_tiers, outcomes, pairs_of, places, worth
from cairn_truth.values.rankings import LiveRankings, Tiers
from libs.truth.tests.live_contract import check_live_state


def test_it_keeps_the_promises_of_all_live_states() -> None:
    answers = {
        "x": {"ann": (("a",), ("b", "c")), "bob": (("b",), ("a",), ("c",)), "cat": (("a", "b"),)},
        "y": {"ann": (("a",), ("d",)), "bob": (("d",),)},
        "z": {"cat": (("p",), ("q",), ("r",), ("s",))},
    }
    check_live_state(LiveRankings, answers, wrong=(("a",), ("a",)))


# --- drawn crowds


def drawn(
    seed: int = 0, items: int = 40, size: int = 5, each: int = 4, left_out: float = 0.0
) -> tuple[dict[str, dict[str, Tiers]], dict[str, Tiers]]:
    """Return rankings by twelve labelers, four of whom guess, and the true ones."""
    chance = np.random.default_rng(seed)
    answers: dict[str, dict[str, Tiers]] = {}
    truths = {}
    for item in (f"i{i}" for i in range(items)):
        names, strength = [f"{item}-{j}" for j in range(size)], chance.normal(0.0, 1.5, size)
        truths[item] = tuple((names[j],) for j in np.argsort(-strength))
        answers[item] = {}
        for who in chance.choice(12, each, replace=False):
            seen = strength * (who >= 4) + chance.gumbel(0.0, 1.0, size)
            kept = [j for j in np.argsort(-seen) if chance.random() >= left_out]
            answers[item][f"w{who:02}"] = tuple((names[j],) for j in kept or [0])
    return answers, truths


def agreement(one: Tiers, other: Tiers) -> float:
    candidates = sorted(c for tier in other for c in tier)
    first, second = pairs_of(len(candidates))
    said = [outcomes(places(ranking, candidates, False), first, second) for ranking in (one, other)]
    return float(np.mean(said[0] == said[1]))


def borda(votes: dict[str, Tiers]) -> Tiers:
    place: dict[str, int] = {}
    for ranking in votes.values():
        for i, (name,) in enumerate(ranking):
            place[name] = place.get(name, 0) + i
    return tuple((name,) for name in sorted(place, key=lambda name: (place[name], name)))


def test_labelers_who_guess_are_found_out_and_outvoted() -> None:
    answers, truths = drawn(items=80)
    live = LiveRankings(ties=False)
    joined = live.fit(answers)
    ours = np.mean([agreement(joined[item].value, truth) for item, truth in truths.items()])
    assert ours > np.mean([agreement(borda(answers[item]), truth) for item, truth in truths.items()]) + 0.02
    guess = [live.reliability(f"w{who:02}") for who in range(4)]
    look = [live.reliability(f"w{who:02}") for who in range(4, 12)]
    assert max(known.care for known in guess) < min(known.care for known in look)
    assert max(known.accuracy for known in guess) < min(known.accuracy for known in look)


def test_confidence_is_the_share_of_pairs_that_are_right_and_does_not_boast() -> None:
    answers, truths = drawn(seed=1, items=80)
    joined = LiveRankings(ties=False).fit(answers)
    right = np.array([agreement(joined[item].value, truth) for item, truth in truths.items()])
    sure = np.array([joined[item].confidence for item in truths])
    assert sure.mean() <= right.mean() + 0.02
    assert sure.mean() >= right.mean() - 0.1
    surest = sure > np.median(sure)
    assert right[surest].mean() > right[~surest].mean() + 0.03


def test_what_labelers_left_out_is_joined_all_the_same() -> None:
    answers, truths = drawn(seed=2, items=60, each=6, left_out=0.4)
    joined = LiveRankings(ties=False).fit(answers)
    scored = [item for item in truths if len(joined[item].candidates) == 5]
    assert len(scored) > 50
    assert np.mean([agreement(joined[item].value, truths[item]) for item in scored]) > 0.75


def test_rankings_that_share_no_pair_join_through_a_common_candidate() -> None:
    live = LiveRankings()
    for who in range(4):
        live.add("item", f"u{who}", (("a",), ("b",)))
        live.add("item", f"v{who}", (("b",), ("c",)))
    found = live.posterior("item")
    assert found.value == (("a",), ("b",), ("c",))
    a, c = found.candidates.index("a"), found.candidates.index("c")
    assert found.better[a, c] > 0.6


def test_all_who_tie_get_a_tie() -> None:
    live = LiveRankings()
    for item in range(10):
        for who in range(5):
            live.add(f"i{item}", f"w{who}", ((f"{item}a", f"{item}b"), (f"{item}c",)))
    live.refit()
    found = live.posterior("i0")
    assert found.value == (("0a", "0b"), ("0c",))
    assert found.confidence > 0.7


def test_where_ties_are_not_allowed_there_are_none() -> None:
    live = LiveRankings(ties=False)
    found = live.update("item", "ann", (("a",), ("b",), ("c",)))
    found = live.update("item", "bob", (("c",), ("b",), ("a",)))
    assert [len(tier) for tier in found.value] == [1, 1, 1]
    assert found.better + found.better.T + np.eye(3) == pytest.approx(np.ones((3, 3)))
    with pytest.raises(ValueError, match="ties are not allowed"):
        live.add("item", "cat", (("a", "b"),))


def test_who_is_not_among_the_best_is_below_them_where_only_the_best_are_asked_for() -> None:
    for top, lowest in ((True, True), (False, False)):
        live = LiveRankings(ties=False, top=top)
        live.present("item", ["a", "b", "c", "d"])
        for who in range(6):
            found = live.update("item", f"w{who}", (("c",), ("b",)))
        assert found.value[0] == ("c",)
        assert ({tier[0] for tier in found.value[2:]} == {"a", "d"}) is lowest


def test_candidates_that_recur_lean_on_the_other_items() -> None:
    live = LiveRankings(ties=False)
    for item in range(20):
        for who in range(3):
            live.add(f"i{item}", f"w{who}", (("good",), ("fair",), ("poor",)))
    live.refit()
    found = live.update("new", "w0", (("poor",), ("good",)))
    named = found.candidates
    assert found.better[named.index("good"), named.index("poor")] > 0.5


def test_more_of_one_mind_are_surer() -> None:
    sure = []
    for voters in (1, 3, 9):
        live = LiveRankings()
        for who in range(voters):
            found = live.update("item", f"w{who}", (("b",), ("a",), ("c",)))
        assert found.value == (("b",), ("a",), ("c",))
        assert np.all(np.diff(found.strength[[1, 0, 2]]) < 0)
        sure.append(found.confidence)
    assert sure == sorted(sure)


def test_evidence_says_who_agreed_and_who_counted() -> None:
    answers, _ = drawn(items=60)
    live = LiveRankings(ties=False)
    live.fit(answers)
    live.add("new", "w00", (("b",), ("a",)))  # guesses
    found = live.update("new", "w11", (("a",), ("b",)))
    assert found.value == (("a",), ("b",))
    assert [(part.labeler, part.agreement) for part in found.evidence] == [("w11", 1.0), ("w00", 0.0)]
    assert found.evidence[0].weight > 5.0 * found.evidence[1].weight


def test_a_known_ranking_teaches_who_is_right() -> None:
    live = LiveRankings(ties=False)
    for item in (f"i{i}" for i in range(20)):
        right = ((f"{item}a",), (f"{item}b",), (f"{item}c",))
        for who in ("ann", "bob"):
            live.add(item, who, right)
        for who in ("cat", "dan", "eve"):
            live.add(item, who, right[::-1])
        if item != "i0":
            live.know(item, right)
    live.refit()
    assert live.posterior("i0").value == (("i0a",), ("i0b",), ("i0c",))
    known = live.posterior("i1")
    assert known.better[0, 1] == known.better[1, 2] == 1.0


def test_one_candidate_is_in_order_by_itself() -> None:
    live = LiveRankings()
    found = live.update("item", "ann", (("a",),))
    assert (found.value, found.confidence) == ((("a",),), 1.0)
    live.refit()
    assert live.reliability("ann").votes == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((), "at least one"),
        ("ab", "expected tiers"),
        ((("a",), ()), "tier 1"),
        ((("a",), "b"), "tier 1"),
        ((("a",), ("b", "a")), "tier 1 of the ranking holds 'a'"),
        ((("",),), "tier 0"),
        (((1,),), "tier 0"),
    ],
)
def test_what_is_no_ranking_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        LiveRankings().add("item", "ann", answer)
    assert message in str(refused.value)


def test_candidates_are_those_presented() -> None:
    live = LiveRankings()
    live.present("item", ["a", "b"])
    with pytest.raises(ValueError, match=r"answered with \['c'\]; expected of \['a', 'b'\]"):
        live.add("item", "ann", (("a",), ("c",)))
    live.add("item", "ann", (("a",), ("b",)))
    with pytest.raises(ValueError, match="is answered with"):
        live.present("item", ["a", "c"])
    with pytest.raises(ValueError, match="another id"):
        live.present("item", ["a", "a"])


# --- rankings and pairs


def test_a_ranking_of_two_is_a_comparison_and_of_many_much_less_than_its_pairs() -> None:
    assert worth(2, 2) == pytest.approx(1.0)
    assert worth(3, 3) == pytest.approx(7 / 9)
    assert worth(50, 50) < 0.1
    assert worth(1, 2) == pytest.approx(1.0)  # the best of two
    assert worth(1, 1) == worth(0, 4) == 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5))
def test_no_tier_moved_or_joined_to_the_next_agrees_with_more(seed: int, size: int) -> None:
    chance = np.random.default_rng(seed)
    shares = chance.dirichlet([1.0, 1.0, 1.0], (size, size))
    better = np.triu(shares[..., 0], 1) + np.triu(shares[..., 1], 1).T
    names = [f"c{i}" for i in range(size)]
    tiers, expected = best_tiers(better, chance.normal(size=size), names)

    def score(ranking: Tiers) -> float:
        first, second = pairs_of(size)
        said = outcomes(places(ranking, names, False), first, second)
        p, q = better[first, second], better[second, first]
        return float(np.mean(np.choose(said, [p, q, 1.0 - p - q]))) if first.size else 1.0

    assert score(tiers) == pytest.approx(expected)
    for cuts in range(2 ** (len(tiers) - 1)):
        other = [list(tiers[0])]
        for i, tier in enumerate(tiers[1:]):
            if cuts >> i & 1:
                other[-1] += tier
            else:
                other.append(list(tier))
        assert score(tuple(map(tuple, other))) <= expected + 1e-9
    assert score((tuple(names),)) <= expected + 1e-9
    for name in names:
        rest = [[n for n in tier if n != name] for tier in tiers]
        for place in range(len(rest) + 1):
            moved = [*rest[:place], [name], *rest[place:]]
            if all(len(tier) < 2 for tier in tiers):
                assert score(tuple(tuple(tier) for tier in moved if tier)) <= expected + 1e-9


def test_a_cycle_is_cut_at_its_weakest() -> None:
    # a over b and b over c surely, c over a just so.
    better = np.array([[0.0, 0.9, 0.4], [0.1, 0.0, 0.9], [0.6, 0.1, 0.0]])
    found, _ = best_tiers(better, np.array([0.0, 0.2, 0.1]), ["a", "b", "c"])
    best = max(
        permutations(range(3)),
        key=lambda o: sum(better[o[i], o[j]] for i in range(3) for j in range(i + 1, 3)),
    )
    assert found == tuple(("abc"[i],) for i in best)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_other_names_in_the_same_order_change_nothing(seed: int) -> None:
    answers, _ = drawn(seed=seed, items=4, size=3)
    renamed = {
        f"x{item}": {f"y{who}": tuple((f"z{c}",) for (c,) in ranking) for who, ranking in votes.items()}
        for item, votes in answers.items()
    }
    one, other = LiveRankings().fit(answers), LiveRankings().fit(renamed)
    for item, found in one.items():
        assert other[f"x{item}"].confidence == found.confidence
        assert np.array_equal(other[f"x{item}"].better, found.better)


@pytest.mark.parametrize(
    ("item", "candidates", "told"),
    [
        (5, ["a", "b"], "item is 5; expected its name"),
        ("i", 3, "candidates of item 'i' is 3; expected their ids"),
        ("i", "ab", "candidates of item 'i' is 'ab'; expected their ids"),
        ("i", ["a", 1], "candidate of item 'i' is 1; expected its name"),
        ("i", ["a", "a"], "holds 'a'; expected another id"),
    ],
)
def test_what_is_presented_by_no_name_is_refused(item: Any, candidates: Any, told: str) -> None:
    live = LiveRankings()
    with pytest.raises(ValueError, match=told):
        live.present(item, candidates)
    assert live.update("i", "ann", [["x"], ["y"]]).candidates == ("x", "y")
