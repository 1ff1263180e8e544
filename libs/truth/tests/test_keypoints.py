"""Skeletons of a crowd joined: points by vote, places robustly, likeness as COCO has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cairn_truth.shapes.keypoints import SIGMA, Keypoint, LiveSkeletons, Skeleton, Visibility
from libs.truth.tests.live_contract import check_live_state

BODY = {"head": (50.0, 0.0), "hand": (0.0, 60.0), "foot": (60.0, 200.0), "knee": (45.0, 150.0)}


def _skeleton(chance: np.random.Generator, spread: float = 2.0, at: float = 0.0) -> Skeleton:
    points = tuple(
        Keypoint(name, x + at + float(chance.normal(0.0, spread)), y + float(chance.normal(0.0, spread)))
        for name, (x, y) in BODY.items()
    )
    return Skeleton("person", points)


def _with(skeleton: Skeleton, name: str, visibility: Visibility) -> Skeleton:
    points = tuple(replace(p, visibility=visibility) if p.point == name else p for p in skeleton.keypoints)
    return replace(skeleton, keypoints=points)


def test_it_keeps_the_contract_of_live_states() -> None:
    chance = np.random.default_rng(1)
    answers = {
        f"i{k}": {who: tuple(_skeleton(chance, at=300.0 * j) for j in range(1 + k % 2)) for who in "abcd"}
        for k in range(6)
    }
    check_live_state(LiveSkeletons, answers, (Skeleton("person", ()),))


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ((), "no point"),
        ((Keypoint("a", 0, 0, Visibility.ABSENT),), "no point"),
        ((Keypoint("a", 0, 0), Keypoint("a", 1, 1)), "point a is given twice"),
        ((Keypoint("a", float("nan"), 0),), "x of point a is nan"),
        ((Keypoint("a", 0, 0, 7),), "7"),  # type: ignore[arg-type]
        ((Keypoint(3, 0, 0), Keypoint("n", 0, 0)), "point is 3"),  # type: ignore[arg-type]
        ((Keypoint("a", "0", 0),), "x of point a is '0'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_named(points: tuple[Keypoint, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LiveSkeletons().add("item", "ann", (Skeleton("person", points),))
    with pytest.raises(ValueError):
        LiveSkeletons(sigmas={"a": 0.0})
    for size in (0.0, 1e-300, float("inf"), "9"):
        with pytest.raises(ValueError, match="least_size is"):
            LiveSkeletons(least_size=size)  # type: ignore[arg-type]


def test_likeness_is_object_keypoint_similarity() -> None:
    state = LiveSkeletons()
    one = Skeleton("", (Keypoint("a", 0.0, 0.0), Keypoint("b", 100.0, 100.0)))
    off = Skeleton("", (Keypoint("a", 5.0, 0.0), Keypoint("b", 100.0, 100.0)))
    size = np.sqrt((100.0**2 + 100.0**2) / 4.0)  # of the first; the other is 95 wide
    size = (size + np.sqrt((95.0**2 + 100.0**2) / 4.0)) / 2.0
    expected = (np.exp(-(5.0**2) / (2.0 * size**2 * (2.0 * SIGMA) ** 2)) + 1.0) / 2.0
    assert state._similarity([one], [off])[0] == pytest.approx(expected)
    half = Skeleton("", (Keypoint("a", 0.0, 0.0),))
    assert state._similarity([one], [half])[0] == pytest.approx(0.5)
    assert state._similarity([one], [one])[0] == 1.0


def test_points_stand_where_most_put_them() -> None:
    chance, state = np.random.default_rng(0), LiveSkeletons()
    for who in "abcde":
        state.add("item", who, (_skeleton(chance),))
    odd = _skeleton(chance)
    state.add("item", "odd", (replace(odd, keypoints=(Keypoint("head", 50.0, 80.0), *odd.keypoints[1:])),))
    joined = state.posterior("item")
    found = {p.point: (p.x, p.y) for p in joined.value[0].keypoints}
    assert all(np.hypot(found[n][0] - x, found[n][1] - y) < 4.0 for n, (x, y) in BODY.items())
    assert set(state.point_sd(joined.objects[0])) == set(BODY)


def test_visibility_is_voted_on() -> None:
    chance, state = np.random.default_rng(0), LiveSkeletons()
    said = (
        (Visibility.OCCLUDED, Visibility.ABSENT),
        (Visibility.OCCLUDED, Visibility.ABSENT),
        (Visibility.VISIBLE, Visibility.VISIBLE),
    )
    for who, (hand, foot) in zip("abc", said, strict=True):
        state.add("item", who, (_with(_with(_skeleton(chance), "hand", hand), "foot", foot),))
    points = {p.point: p.visibility for p in state.posterior("item").value[0].keypoints}
    assert points == {
        "foot": Visibility.ABSENT,
        "hand": Visibility.OCCLUDED,
        "head": Visibility.VISIBLE,
        "knee": Visibility.VISIBLE,
    }


def test_two_people_close_together_are_told_apart() -> None:
    chance, state = np.random.default_rng(3), LiveSkeletons()
    for who in "abcd":
        both = [_skeleton(chance), _skeleton(chance, at=45.0)]
        state.add("item", who, tuple(both if who in "ac" else both[::-1]))
    value = state.posterior("item").value
    heads = sorted(p.x for one in value for p in one.keypoints if p.point == "head")
    assert heads == pytest.approx([50.0, 95.0], abs=4.0)


def test_a_trembling_hand_is_learnt_and_weighs_less() -> None:
    chance, state = np.random.default_rng(4), LiveSkeletons()
    spreads = {"a": 2.0, "b": 2.0, "c": 2.0, "shaky": 9.0}
    joined = state.fit(
        {f"i{k}": {who: (_skeleton(chance, s),) for who, s in spreads.items()} for k in range(40)}
    )
    assert state.reliability("shaky").spread > 2.0 * state.reliability("a").spread
    assert all(one.evidence[-1].labeler == "shaky" for one in joined.values())


def test_questions_of_single_points_take_their_size_from_outside() -> None:
    near = [Skeleton("", (Keypoint("nose", x, 0.0),)) for x in (0.0, 6.0)]
    small, large = LiveSkeletons(), LiveSkeletons(least_size=200.0)
    assert small._similarity(near[:1], near[1:])[0] < 0.5 < large._similarity(near[:1], near[1:])[0]
