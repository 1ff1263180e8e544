"""Rotated boxes, ellipses, cuboids and regions: alike as they are, joined whatever way they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.shapes import regions
from cairn_truth.shapes.boxes import Box, edges, iou
from cairn_truth.shapes.convex import polygon_area, shared_polygon_area
from cairn_truth.shapes.cuboids import Cuboid, LiveCuboids
from cairn_truth.shapes.ellipses import Ellipse, LiveEllipses, ellipse_iou
from cairn_truth.shapes.regions import LiveRegions, Region, joined_text
from cairn_truth.shapes.rotated_boxes import LiveRotatedBoxes, RotatedBox, rotated_iou
from libs.truth.tests.live_contract import check_live_state

sizes, places, angles = st.floats(1.0, 50.0), st.floats(-30.0, 30.0), st.floats(-720.0, 720.0)
rotated = st.builds(RotatedBox, st.just("a"), places, places, sizes, sizes, angles)
ellipses = st.builds(Ellipse, st.just("a"), places, places, sizes, sizes, angles)
CUBE = Cuboid("a", (0, 0, 100, 0, 100, 100, 0, 100, 30, -30, 130, -30, 130, 70, 30, 70))


STEPS = (np.arange(400) + 0.5) / 200.0 - 1.0
ALONG, DOWN = (axis.ravel() for axis in np.meshgrid(STEPS, STEPS))
"""Points of the square from -1 to 1, which each shape's own axes stretch over the shape."""


def _counted_iou(one: Any, other: Any, halves: Any, inside: Any) -> float:
    """Return the IoU by counting the points of one shape that are in the other; ``halves`` gives half the sizes."""
    (width, height), angle = halves(one), np.radians(one.rotation_degrees)
    kept = inside(ALONG, DOWN)
    along, down = ALONG[kept] * width, DOWN[kept] * height
    dx = one.center_x + np.cos(angle) * along - np.sin(angle) * down - other.center_x
    dy = one.center_y + np.sin(angle) * along + np.cos(angle) * down - other.center_y
    (other_width, other_height), turned = halves(other), np.radians(other.rotation_degrees)
    there = inside(
        (np.cos(turned) * dx + np.sin(turned) * dy) / other_width,
        (np.cos(turned) * dy - np.sin(turned) * dx) / other_height,
    )
    shared = there.mean() * width * height
    return float(shared / (width * height + other_width * other_height - shared))


@given(rotated, rotated)
@settings(max_examples=40, deadline=None)
def test_the_likeness_of_rotated_boxes_is_what_counting_points_gives(
    one: RotatedBox, other: RotatedBox
) -> None:
    counted = _counted_iou(
        one,
        other,
        halves=lambda box: (box.width / 2, box.height / 2),
        inside=lambda x, y: (np.abs(x) <= 1.0) & (np.abs(y) <= 1.0),
    )
    assert rotated_iou([one], [other])[0] == pytest.approx(counted, abs=0.02)


@given(ellipses, ellipses)
@settings(max_examples=40, deadline=None)
def test_the_likeness_of_ellipses_is_what_counting_points_gives(one: Ellipse, other: Ellipse) -> None:
    counted = _counted_iou(
        one,
        other,
        halves=lambda shape: (shape.radius_x, shape.radius_y),
        inside=lambda x, y: x**2 + y**2 <= 1.0,
    )
    assert ellipse_iou([one], [other])[0] == pytest.approx(counted, abs=0.02)


@given(rotated, rotated)
@settings(max_examples=60, deadline=None)
def test_likeness_is_even_handed_and_whole_with_itself_however_written(
    one: RotatedBox, other: RotatedBox
) -> None:
    assert rotated_iou([one], [other])[0] == pytest.approx(rotated_iou([other], [one])[0], abs=1e-9)
    swapped = replace(one, width=one.height, height=one.width, rotation_degrees=one.rotation_degrees + 90.0)
    assert rotated_iou([one, one], [one, swapped]) == pytest.approx([1.0, 1.0], abs=1e-9)


@given(st.lists(st.builds(Box, st.just("a"), places, places, sizes, sizes), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_without_rotation_it_is_the_likeness_of_upright_boxes(boxes: list[Box]) -> None:
    turned = [RotatedBox("a", b.x + b.width / 2, b.y + b.height / 2, b.width, b.height, 0.0) for b in boxes]
    upright = iou(edges(boxes[:1]), edges(boxes[1:]))[0]
    assert rotated_iou(turned[:1], turned[1:])[0] == pytest.approx(upright, abs=1e-9)


def test_edges_on_one_line_share_what_lies_between() -> None:
    one, other = RotatedBox("a", 0, 0, 2, 1, 1), RotatedBox("a", 0, 0, 2, 15, 1)
    assert rotated_iou([one, other], [other, one]) == pytest.approx([1 / 15, 1 / 15])


def test_a_square_and_a_diamond_share_an_octagon() -> None:
    square = np.array([[[-1, -1], [1, -1], [1, 1], [-1, 1]]], dtype=float)
    diamond = np.array([[[0, -1.5], [1.5, 0], [0, 1.5], [-1.5, 0]]])
    assert shared_polygon_area(square, diamond)[0] == pytest.approx(4.0 - 4 * 0.125)
    assert polygon_area(diamond)[0] == pytest.approx(4.5)
    assert shared_polygon_area(square, diamond + 9.0)[0] == 0.0
    assert shared_polygon_area(square[:0], diamond[:0]).size == 0


@pytest.mark.parametrize(
    ("new", "shape", "wrong"),
    [
        (LiveRotatedBoxes, RotatedBox("a", 50, 50, 40, 10, 20), RotatedBox("a", 0, 0, 0, 1, 0)),
        (LiveEllipses, Ellipse("a", 50, 50, 20, 10, 20), Ellipse("a", 0, 0, 1, 1, float("nan"))),
        (LiveCuboids, CUBE, Cuboid("a", (1.0,) * 16)),
        (LiveRegions, Region(1, 5, 5, 40, 10, "a", "word"), Region(0, 5, 5, 40, 10)),
    ],
)
def test_each_kind_keeps_the_contract_of_live_states(new: Any, shape: Any, wrong: Any) -> None:
    chance = np.random.default_rng(0)
    answers = {
        f"i{k}": {who: tuple(_shifted(shape, chance) for _ in range(1 + k % 2)) for who in "abcd"}
        for k in range(6)
    }
    check_live_state(new, answers, (wrong,))
    with pytest.raises(ValueError, match="object 0"):
        new().add("i", "a", (wrong,))
    with pytest.raises(ValueError, match="object 1"):
        new().add("i", "a", (shape, "no shape"))


@pytest.mark.parametrize(
    ("new", "wrong", "told"),
    [
        (LiveRotatedBoxes, RotatedBox("a", 0, 0, 1e-13, 1, 0), "width is 1e-13; expected above 0"),
        (LiveEllipses, Ellipse("a", 0, 0, 1, True, 0), "radius_y is True"),
        (LiveEllipses, Ellipse("a", 0, 0, 1, 1, "9"), "rotation_degrees is '9'"),  # type: ignore[arg-type]
        (LiveCuboids, Cuboid("a", (0.0,) * 15 + (1e-170,)), "all corners are one point"),
        (LiveCuboids, Cuboid("a", ("0",) + (1.0,) * 15), "has '0' at point 0"),  # type: ignore[arg-type]
        (LiveRegions, Region(10**400, 0, 0, 1, 1), "page is 1000"),
        (LiveRegions, Region(1.5, 0, 0, 1, 1), "page is 1.5"),  # type: ignore[arg-type]
        (LiveRegions, Region("1", 0, 0, 1, 1), "page is '1'; expected a whole number from 1"),  # type: ignore[arg-type]
        (LiveRegions, Region(1, 0, 0, 1e-200, 1), "the box at"),
        (LiveRegions, Region(1, 0, 0, 1, 1, "a", 7), "text is 7"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_with_a_field_is_told(new: Any, wrong: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"object 0: .*{told}"):
        new().add("i", "a", (wrong,))


@pytest.mark.parametrize("slim", [1.5, 5.0, 30.0, 1e3])
@pytest.mark.parametrize("turn", [1.0, 20.0, 45.0, 90.0])
def test_slim_ellipses_are_measured_as_finely_as_round_ones(slim: float, turn: float) -> None:
    one, crossing = Ellipse("", 5.0, -3.0, slim, 1.0, 37.0), Ellipse("", 5.0, -3.0, slim, 1.0, 37.0 + turn)
    # Where the one is stretched to the unit circle, the other of as large an area has the radii long and 1 / long.
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    long = np.linalg.norm([[c, -s / slim], [slim * s, c]], ord=2)
    # They share the circle's sectors up to where the two meet, and from there on the ellipse's.
    meet = np.arctan(1.0 / long)
    shared = 2.0 * meet + 2.0 * (np.pi / 2.0 - np.arctan(long**2 * np.tan(meet)))
    true = shared / (2.0 * np.pi - shared)
    assert ellipse_iou([one], [crossing])[0] == pytest.approx(true, rel=3e-4)
    assert ellipse_iou([crossing], [one])[0] == pytest.approx(true, rel=3e-4)


def _shifted(shape: Any, chance: np.random.Generator) -> Any:
    x, y = (float(v) for v in chance.normal(0.0, 1.0, 2))
    if isinstance(shape, Cuboid):
        return replace(shape, corners=tuple(v + (y if k % 2 else x) for k, v in enumerate(shape.corners)))
    if isinstance(shape, Region):
        return replace(shape, x=shape.x + x, y=shape.y + y)
    return replace(shape, center_x=shape.center_x + x, center_y=shape.center_y + y)


def test_a_box_written_in_four_ways_is_joined_as_one() -> None:
    state = LiveRotatedBoxes()
    ways = [(40.0, 10.0, 20.0), (10.0, 40.0, 110.0), (40.0, 10.0, 200.0), (10.0, 40.0, -70.0)]
    for who, (width, height, angle) in zip("abcd", ways, strict=True):
        state.add("item", who, (RotatedBox("a", 50.0, 50.0, width, height, angle),))
    joined = state.posterior("item")
    assert len(joined.value) == 1
    assert rotated_iou(joined.value, [RotatedBox("a", 50.0, 50.0, 40.0, 10.0, 20.0)])[0] == pytest.approx(1.0)
    assert -90.0 <= joined.value[0].rotation_degrees < 90.0


@pytest.mark.parametrize("ring", [[89.0, -89.0, 90.0], [179.0, 1.0, 180.0], [359.0, 1.0, 0.0]])
def test_rotations_meet_across_the_end_of_the_scale(ring: list[float]) -> None:
    state = LiveEllipses()
    for who, angle in zip("abc", ring, strict=True):
        state.add("item", who, (Ellipse("a", 0.0, 0.0, 30.0, 10.0, angle),))
    angle = state.posterior("item").value[0].rotation_degrees
    assert abs((angle - ring[2] + 90.0) % 180.0 - 90.0) < 0.5


def test_the_rotation_of_a_circle_is_nobodys_mistake() -> None:
    state = LiveEllipses()
    for who, angle in zip("abc", (0.0, 45.0, 80.0), strict=True):
        state.add("item", who, (Ellipse("a", 0.0, 0.0, 20.0, 20.0, angle),))
    joined = state.posterior("item")
    assert all(part.agreement > 0.999 for part in joined.evidence)


def test_corners_of_cuboids_are_joined_robustly() -> None:
    state = LiveCuboids()
    for who, off in zip("abcd", (0.0, 1.0, -1.0, 12.0), strict=True):
        state.add("item", who, (replace(CUBE, corners=tuple(v + off for v in CUBE.corners)),))
    joined = state.posterior("item")
    assert len(joined.value) == 1
    assert np.abs(np.array(joined.value[0].corners) - CUBE.corners).max() < 2.5
    assert state.coordinate_sd(joined.objects[0]).shape == (16,)


def test_regions_on_different_pages_are_different_and_texts_are_voted_on() -> None:
    state = LiveRegions()
    for who, text in (("a", "total"), ("b", "total"), ("c", "tota1")):
        state.add("item", who, (Region(1, 5, 5, 40, 10, "a", text), Region(2, 5, 5, 40, 10, "a", "other")))
    joined = state.posterior("item")
    assert [(one.page, one.text) for one in joined.value] == [(1, "total"), (2, "other")]
    assert joined.value[0].x == 5.0


def test_texts_are_compared_where_regions_are_joined_and_not_at_a_refit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    monkeypatch.setattr(regions, "joined_text", lambda texts, weight: compared.append(len(texts)) or texts[0])
    state = LiveRegions()
    for who in "abc":
        state.add("i", who, (Region(1, 0.0, 0.0, 50.0, 10.0, "", f"text of {who}"),))
    state.refit()
    assert not compared
    state.posterior("i")
    assert compared == [3]


def test_where_no_text_has_a_majority_the_one_most_like_the_others_stands() -> None:
    texts = ["the quick fox", "the quick fix", "the quack fix", "zzz"]
    assert joined_text(texts, np.full(4, 0.25)) == "the quick fix"
    assert joined_text(["b", "a"], np.full(2, 0.5)) == "a"
