"""Live states of whatever kind: a saved fit is taken up by one with the same settings, and by no other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cairn_truth import (
    Box,
    Cuboid,
    Ellipse,
    Keypoint,
    LiveBoxes,
    LiveChoices,
    LiveCuboids,
    LiveMasks,
    LiveNumbers,
    LivePolygons,
    LiveRankings,
    LiveRatings,
    LiveSkeletons,
    LiveSpans,
    LiveTexts,
    LiveTracks,
    LiveTranscripts,
    Polygon,
    Skeleton,
    Track,
)
from cairn_truth.classes.hierarchical import HierarchicalDawidSkene
from cairn_truth.shapes.moving import MovingSkeletons

APART: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "the range": (lambda: LiveNumbers(0, 10), lambda: LiveNumbers(0, 1000)),
    "a range": (LiveNumbers, lambda: LiveNumbers(0, 10)),
    "the tolerance of numbers": (lambda: LiveNumbers(tolerance=1), lambda: LiveNumbers(tolerance=2)),
    "the model of ratings": (
        lambda: LiveRatings(1, 5),
        lambda: LiveRatings(1, 5, HierarchicalDawidSkene(correlation=0.0)),
    ),
    "folding": (LiveTexts, lambda: LiveTexts(fold_case_and_space=False)),
    "whole answers": (LiveTranscripts, lambda: LiveTranscripts(whole=True)),
    "tops": (LiveRankings, lambda: LiveRankings(top=True)),
    "overlap": (lambda: LiveSpans(2), lambda: LiveSpans(2, overlap=False)),
    "the tolerance of shapes": (lambda: LiveBoxes(0.5), lambda: LiveBoxes(0.9)),
    "classes of shapes": (lambda: LiveBoxes(classes=2), lambda: LivePolygons(classes=9)),
    "sigmas": (LiveSkeletons, lambda: LiveSkeletons(sigmas={"nose": 0.1})),
    "the least size": (LiveSkeletons, lambda: LiveSkeletons(least_size=9.0)),
    "the shape of tracks": (LiveTracks, lambda: LiveTracks(shape=Ellipse)),
    "the sigmas of tracks": (
        lambda: LiveTracks(shape=Skeleton),
        lambda: LiveTracks(shape=MovingSkeletons(LiveSkeletons(sigmas={"nose": 0.1}))),
    ),
}


@pytest.mark.parametrize("what", APART)
def test_a_fit_with_other_settings_is_refused(what: str) -> None:
    one, other = APART[what]
    for new, another in ((one, other), (other, one)):
        with pytest.raises(ValueError, match=r"the saved state is of Live.*expected one of Live"):
            new().restore(another().save())
        new().restore(new().save())


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (lambda: LiveNumbers(0, 10, 1), lambda: LiveNumbers(0.0, 10.0, 1.0)),
        (
            lambda: LiveSkeletons(sigmas={"nose": 1, "ear": 0.5}),
            lambda: LiveSkeletons(sigmas={"ear": 0.5, "nose": 1.0}),
        ),
        (LiveTracks, lambda: LiveTracks(shape=Box)),
    ],
    ids=["numbers", "skeletons", "tracks"],
)
def test_the_same_settings_in_other_words_are_the_same(
    one: Callable[[], Any], same: Callable[[], Any]
) -> None:
    one().restore(same().save())


@pytest.mark.parametrize("none", [[], (), frozenset()], ids=repr)
def test_a_question_of_no_class_is_refused(none: Any) -> None:
    with pytest.raises(ValueError, match="expected one class or more, or None"):
        LiveChoices(none)


@pytest.mark.parametrize("wrong", [1, ["nose"], {"nose": 0.0}, {1: 0.1}], ids=repr)
def test_sigmas_are_errors_by_names_of_points(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"sigma.*expected"):
        LiveSkeletons(sigmas=wrong)


SQUARE = Polygon("a", (0.0, 0.0, 9.0, 0.0, 9.0, 9.0))


@pytest.mark.parametrize(
    ("live", "answer", "told"),
    [
        (LiveBoxes, Box("a", 0, 0, 9, 9), "answer is Box.*; expected a tuple of Box"),
        (LiveBoxes, 7, "answer is 7; expected a tuple of Box"),
        (LiveBoxes, (Box("a", 0, 0, 9, 9, (1,)),), "object 0: attribute is 1; expected a name and a value"),
        (
            LiveBoxes,
            (Box("a", 0, 0, 9, 9, 1),),
            "object 0: attributes is 1; expected a name and a value of each",
        ),
        (
            LiveBoxes,
            (Box("a", 0, 0, 9, 9, (("n", 10**400),)),),
            "object 0: attribute n is 1000.*; expected a finite number",
        ),
        (LiveMasks, 7, "answer is 7; expected a Mask"),
        (LiveSkeletons, (Skeleton("a", (1, 2)),), r"object 0: keypoints\[0\] is 1; expected a Keypoint"),
        (LiveSkeletons, (Skeleton("a", 1),), "object 0: keypoints is 1; expected a tuple of Keypoint"),
        (
            LiveSkeletons,
            (Skeleton("a", (Keypoint("n", 1, 2, 5),)),),
            r"object 0: visibility of point n is 5; expected one of 1 \(VISIBLE\)",
        ),
        (
            LivePolygons,
            (Polygon("a", ((0, 0), (1, 0), (1, 1))),),
            r"outline has \(0, 0\) at point 0; expected a finite",
        ),
        (LivePolygons, (Polygon("a", 7),), "the outline is 7; expected x and y of 3 points or more"),
        (LivePolygons, (replace(SQUARE, holes=7),), "object 0: holes is 7; expected a tuple of outlines"),
        (LiveCuboids, (Cuboid("a", None),), "the cuboid is None; expected x and y of 8 points"),
        (LiveCuboids, (Cuboid("a", (1.0,) * 18),), "corners are 18 numbers; expected 16"),
        (LiveTracks, (Track("t", "a", 7),), "keyframes is 7; expected a tuple of Keyframe"),
        (LiveTracks, (Track("t", "a", (7,)),), r"keyframes\[0\] is 7; expected a Keyframe"),
    ],
    ids=str,
)
def test_what_is_no_shape_is_told_of_in_the_words_of_shapes(live: Any, answer: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        live().update("item", "labeler", answer)
    assert "object has no" not in str(refused.value)


@pytest.mark.parametrize("short", [np.float16, np.float32, np.int8, np.longdouble])
def test_numbers_of_numpys_short_types_are_taken_as_they_are(short: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = LiveNumbers(low=short(0), high=short(10), tolerance=short(1))
        numbers.restore(LiveNumbers(0, 10, 1).save())
        assert numbers.update("item", "ann", short(7)).value == 7.0
        found = LiveBoxes(classes=short(2)).update("item", "ann", (Box("a", *map(short, (1, 2, 3, 4))),))
        assert found.value == (Box("a", 1.0, 2.0, 3.0, 4.0),)
