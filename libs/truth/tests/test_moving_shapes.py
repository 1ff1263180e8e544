"""Tracks of every shape: rotated boxes, ellipses, outlines and skeletons are followed as upright boxes are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.ellipses import Ellipse
from cairn_truth.shapes.keypoints import Keypoint, LiveSkeletons, Skeleton, Visibility
from cairn_truth.shapes.moving import MovingSkeletons, moving
from cairn_truth.shapes.polygons import Polygon
from cairn_truth.shapes.rotated_boxes import RotatedBox, rotated_iou
from cairn_truth.shapes.tracks import Keyframe, LiveTracks, Track, shapes_at, tube_iou
from libs.truth.tests.live_contract import check_live_state
from libs.truth.tests.shape_crowds import (
    DRAWINGS,
    TRACKS,
    f1_and_overlap,
    greedy_majority,
    moved,
    shape_crowd,
)

SHAPES: dict[str, Any] = {
    "boxes": Box("", 10.0, 20.0, 40.0, 30.0),
    "rotated boxes": RotatedBox("", 30.0, 35.0, 60.0, 20.0, 80.0),
    "ellipses": Ellipse("", 30.0, 35.0, 30.0, 10.0, 80.0),
    "polygons": Polygon(
        "", (0.0, 0.0, 40.0, 0.0, 40.0, 40.0, 0.0, 40.0), ((10.0, 10.0, 20.0, 10.0, 20.0, 20.0),)
    ),
    "skeletons": Skeleton("", (Keypoint("head", 5.0, 5.0), Keypoint("toe", 10.0, 90.0, Visibility.OCCLUDED))),
}


def key(frame: int, shape: Any) -> Keyframe:
    return Keyframe(frame, shape) if isinstance(shape, Box) else Keyframe(frame, shape=shape)


def track(shape: Any, frames: tuple[int, ...] = (0, 20, 40), way: float = 1.0) -> Track:
    return Track("t", "", tuple(key(f, moved(shape, np.array([way * f, 0.0]))) for f in frames))


@pytest.mark.parametrize("name", TRACKS)
def test_each_is_a_live_state_like_all_others(name: str) -> None:
    crowd = shape_crowd(TRACKS[name], items=2, objects=1.0, each=2, labelers=2, false=0.1, seed=1)
    wrong = (Track("a", "", (key(0, SHAPES["ellipses" if name == "boxes" else "boxes"]),)),)
    check_live_state(TRACKS[name].live, crowd.answers, wrong)


@pytest.mark.parametrize("name", TRACKS)
def test_joined_tracks_are_nearer_to_the_truth_than_those_of_most_labelers(name: str) -> None:
    how = TRACKS[name]
    crowd = shape_crowd(
        how, items=2, labelers=4, objects=1.0, miss=0.02, false=0.01, accuracy=0.98, span=900.0, seed=3
    )
    live = how.live()
    joined = live.fit(crowd.answers)
    ours, theirs = [], []
    for item, truth in crowd.truth.items():
        for true in truth:
            ours.append(max(live._similarity([one], [true])[0] for one in joined[item].value))
            for answer in crowd.answers[item].values():
                theirs.append(max((live._similarity([one], [true])[0] for one in answer), default=0.0))
    assert np.mean(ours) > np.mean(theirs) + 0.03


@pytest.mark.parametrize("name", TRACKS)
def test_one_answer_and_equal_answers_are_the_value_itself(name: str) -> None:
    given = track(SHAPES[name])
    live = TRACKS[name].live()
    assert live.update("i", "a", (given,)).value == (given,)
    assert live.update("i", "b", (given,)).value == (given,)
    assert tube_iou(given, given) == 1.0


@pytest.mark.parametrize("name", TRACKS)
def test_keyframes_at_other_frames_of_the_same_way_are_the_same_track(name: str) -> None:
    live = TRACKS[name].live()
    for who, frames in (("a", (0, 40)), ("b", (0, 10, 40)), ("c", (0, 15, 30, 40))):
        live.add("i", who, (track(SHAPES[name], frames),))
    (joined,) = live.posterior("i").value
    assert [k.frame for k in joined.keyframes] == [0, 40]
    assert live._similarity([joined], [track(SHAPES[name])])[0] > 0.97


@pytest.mark.parametrize("name", TRACKS)
def test_half_way_it_is_half_way(name: str) -> None:
    shape = SHAPES[name]
    how = moving(type(shape))
    (half,) = shapes_at(track(shape, (0, 40)), np.array([20]), how)
    assert how.kind._similarity([half], [moved(shape, np.array([20.0, 0.0]))])[0] == pytest.approx(
        1.0, abs=1e-6
    )


def test_a_box_turns_the_shorter_way_and_goes_on_turning() -> None:
    turned = [replace(SHAPES["rotated boxes"], rotation_degrees=angle) for angle in (80.0, -80.0, -60.0)]
    how = moving(RotatedBox)
    (half,) = how.between(turned[:1], turned[1:2], np.array([0.5]))
    assert rotated_iou([half], [replace(turned[0], rotation_degrees=90.0)])[0] == pytest.approx(1.0)
    assert [one.rotation_degrees for one in how.following(turned)] == pytest.approx([80.0, 100.0, 120.0])
    live = LiveTracks(shape=RotatedBox)
    given = Track("t", "", tuple(Keyframe(10 * k, shape=one) for k, one in enumerate(turned)))
    live.add("i", "a", (given,))
    live.add("i", "b", (Track("t", "", given.keyframes[::2]),))
    (joined,) = live.posterior("i").value
    assert [k.shape.rotation_degrees for k in joined.keyframes] == pytest.approx([80.0, 120.0])  # type: ignore[union-attr]


def test_outlines_of_unlike_points_move_as_they_are_walked_and_are_joined_point_by_point() -> None:
    square = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [0.0, 40.0]])
    finer = np.concatenate(
        [np.stack([a, (a + b) / 2.0]) for a, b in zip(square, np.roll(square, -1, 0), strict=True)]
    )
    backwards = np.roll(finer[::-1], 3, axis=0) + np.array([20.0, 0.0])
    start, end = (Polygon("", tuple(ring.ravel().tolist())) for ring in (square, backwards))
    how = moving(Polygon)
    (half,) = how.between([start], [end], np.array([0.5]))
    middle = Polygon("", tuple((square + np.array([10.0, 0.0])).ravel().tolist()))
    assert how.kind._similarity([half], [middle])[0] > 0.97
    written = how.following([start, end])
    gap = np.diff(how.numbers(written), axis=0).reshape(-1, 2)
    assert gap == pytest.approx(np.tile([20.0, 0.0], (len(gap), 1)), abs=1.0)


def test_a_hole_goes_along_with_its_outline() -> None:
    start = SHAPES["polygons"]
    end = replace(moved(start, np.array([20.0, 0.0])), holes=())
    (half,) = moving(Polygon).between([start], [end], np.array([0.5]))
    assert min(half.holes[0][0::2]) == pytest.approx(20.0)


def test_of_a_skeleton_visibility_holds_and_only_points_of_both_keyframes_move() -> None:
    start = SHAPES["skeletons"]
    end = Skeleton("", (Keypoint("head", 15.0, 5.0), Keypoint("toe", 0.0, 0.0, Visibility.ABSENT)))
    (half,) = moving(Skeleton).between([start], [end], np.array([0.5]))
    assert half.keypoints == (Keypoint("head", 10.0, 5.0), start.keypoints[1])


def test_where_a_point_goes_out_of_sight_is_a_keyframe_by_vote() -> None:
    shown = SHAPES["skeletons"]
    hidden = replace(
        shown, keypoints=(replace(shown.keypoints[0], visibility=Visibility.OCCLUDED), shown.keypoints[1])
    )
    live = LiveTracks(shape=Skeleton)
    for who, at in (("a", 20), ("b", 22), ("c", 24)):
        keys = (key(0, shown), key(at, hidden), key(40, hidden))
        live.add("i", who, (Track("t", "", keys),))
    (joined,) = live.posterior("i").value
    states = {k.frame: k.shape.keypoints[0].visibility for k in joined.keyframes}  # type: ignore[union-attr]
    assert states == {0: Visibility.VISIBLE, 22: Visibility.OCCLUDED, 40: Visibility.OCCLUDED}


def test_facts_of_keyframes_hold_until_stated_anew_and_are_voted_on() -> None:
    box = SHAPES["boxes"]
    live = LiveTracks()
    for who, at in (("a", 10), ("b", 12), ("c", None)):
        keys = [Keyframe(0, box, attributes=(("lights", False), ("parked", True))), Keyframe(40, box)]
        if at is not None:
            keys.insert(1, Keyframe(at, box, attributes=(("lights", True),)))
        live.add("i", who, (Track("t", "", tuple(keys)),))
    (joined,) = live.posterior("i").value
    assert [(k.frame, dict(k.attributes)) for k in joined.keyframes] == [
        (0, {"lights": False, "parked": True}),
        (12, {"lights": True, "parked": True}),
        (40, {"lights": True, "parked": True}),
    ]


def test_skeletons_are_followed_by_their_own_sigmas() -> None:
    close, far = (
        LiveTracks(shape=MovingSkeletons(LiveSkeletons(sigmas={"head": s, "toe": s}))) for s in (0.02, 0.2)
    )
    one, other = (track(moved(SHAPES["skeletons"], np.array([off, 0.0]))) for off in (0.0, 8.0))
    assert close._similarity([one], [other])[0] < far._similarity([one], [other])[0] - 0.1


@pytest.mark.parametrize(
    ("shape", "keyframe", "said"),
    [
        (Ellipse, Keyframe(0, SHAPES["boxes"]), "has a Box; expected a Ellipse"),
        (Ellipse, Keyframe(0), "has no shape and is not outside"),
        (Ellipse, Keyframe(0, shape=replace(SHAPES["ellipses"], radius_x=float("nan"))), "radius_x is nan"),
        (Box, Keyframe(0, SHAPES["boxes"], shape=SHAPES["ellipses"]), "has a box and a shape"),
        (Polygon, Keyframe(0, shape=Polygon("", (0.0, 0.0, 1.0, 1.0))), "the outline is 4 numbers"),
    ],
)
def test_what_is_wrong_with_a_keyframe_is_told(shape: Any, keyframe: Keyframe, said: str) -> None:
    with pytest.raises(ValueError, match=f"object 0: keyframe 0.*{said}"):
        LiveTracks(shape=shape).add("i", "w", (Track("a", "", (keyframe,)),))


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of Box, RotatedBox, Ellipse, Polygon, Skeleton"):
        LiveTracks(shape=int)


@pytest.mark.parametrize("name", DRAWINGS)
def test_in_sloppy_crowds_it_finds_more_than_greedy_matching_and_a_majority(name: str) -> None:
    how = DRAWINGS[name]
    crowd = shape_crowd(how, items=8, twice=0.1, merged=0.1, miss=0.25, false=0.6, spread=0.08, seed=3)
    joined = {item: one.value for item, one in how.live().fit(crowd.answers).items()}
    _, ours = f1_and_overlap(how, joined, crowd.truth)
    _, theirs = f1_and_overlap(how, greedy_majority(how, crowd.answers), crowd.truth)
    assert ours > theirs
