"""Joined outlines of few items: no larger than what was drawn, on the corners that hands share, exact below a grid step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cairn_truth.shapes.distances import signed_distances
from cairn_truth.shapes.polygons import SIDE, LivePolygons, Polygon, bounds, polygon_iou, rings
from cairn_truth.shapes.raster import Grid, filled, meets_itself
from libs.truth.tests.test_polygons import blob, drawn, flat


def square(corner: float, side: float) -> Polygon:
    x, y = corner, corner + side
    return Polygon("", (x, x, y, x, y, y, x, y))


def jittered(side: float, jitter: float, labelers: int, rng: np.random.Generator) -> list[Polygon]:
    """A square at (0.4, 0.7) as several draw it, whose corners are off by ``jitter`` of its side."""
    corners = side * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]) + (0.4, 0.7)
    return [
        Polygon("", flat(corners + rng.normal(scale=jitter * side, size=(4, 2)))) for _ in range(labelers)
    ]


def joined_by_strangers(outlines: list[Polygon]) -> Polygon:
    """The one object of one item, before any refit."""
    live = LivePolygons()
    for k, one in enumerate(outlines):
        live.add("i", f"w{k}", (one,))
    (joined,) = live.posterior("i").value
    return joined


def pixels(outlines: list[Polygon], number: int = 600) -> tuple[Grid, np.ndarray]:
    """A fine grid over outlines, and which of its points are in each."""
    edges = np.array([bounds(one) for one in outlines])
    grid = Grid.over(np.array([*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0)]), number)
    return grid, np.stack([filled(rings(one), grid) for one in outlines])


def region_iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_shifted_squares_of_strangers_give_the_middle_one() -> None:
    shifted = joined_by_strangers([square(shift, 400.0) for shift in (0.0, 4.0, 8.0)])
    assert np.allclose(np.sort(shifted.outline), [4.0] * 4 + [404.0] * 4)
    assert polygon_iou(shifted, square(4.0, 400.0)) > 0.9999


@pytest.mark.parametrize("side", [0.02, 20.0, 200.0, 2e6])
@pytest.mark.parametrize("labelers", [2, 3, 5])
def test_one_square_of_strangers_is_as_good_as_pixel_majority_and_no_larger(
    side: float, labelers: int
) -> None:
    ours, majority, size = [], [], []
    for seed in range(6):
        outlines = jittered(1.0, 0.005, labelers, np.random.default_rng(seed))
        (truth,) = jittered(1.0, 0.0, 1, np.random.default_rng(0))
        scaled = [Polygon("", tuple(side * v for v in one.outline)) for one in outlines]
        joined = Polygon("", tuple(v / side for v in joined_by_strangers(scaled).outline))
        _, (mine, true, *drawn_) = pixels([joined, truth, *outlines])
        ours.append(region_iou(mine, true))
        majority.append(region_iou(2 * np.sum(drawn_, axis=0) > labelers, true))
        size.append(mine.sum() / true.sum())
        assert len(joined.outline) == 2 * 4
    assert np.mean(ours) > np.mean(majority) - 0.0005
    assert np.mean(ours) > 0.99
    assert np.mean(size) == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("fitted", [False, True])
def test_one_item_before_and_after_a_refit_beats_the_mean_labeler(fitted: bool) -> None:
    gain = []
    for seed in range(6):
        outlines = jittered(200.0, 0.005, 5, np.random.default_rng(seed))
        (truth,) = jittered(200.0, 0.0, 1, np.random.default_rng(0))
        answers = {"i": {f"w{k}": (one,) for k, one in enumerate(outlines)}}
        (joined,) = LivePolygons().fit(answers)["i"].value if fitted else (joined_by_strangers(outlines),)
        gain.append(
            polygon_iou(joined, truth, 800) - np.mean([polygon_iou(one, truth, 800) for one in outlines])
        )
    assert np.mean(gain) > 0.005


def test_corners_stay_where_one_sets_a_point_more_and_one_draws_by_hand() -> None:
    turn = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    round_ = 100.0 + 100.0 * np.stack([np.cos(turn), np.sin(turn)], axis=1) / np.maximum(
        np.abs(np.cos(turn)), np.abs(np.sin(turn))
    )[:, None]  # fmt: skip
    more = Polygon("", (0.0, 0.0, 100.0, 0.0, 200.0, 0.0, 200.0, 200.0, 0.0, 200.0))
    hand = Polygon("", flat(round_ + np.random.default_rng(1).normal(scale=0.5, size=round_.shape)))
    turned = Polygon("", (201.0, 199.0, 201.0, -1.0, 1.0, -1.0, 1.0, 199.0))
    joined = joined_by_strangers([square(0.0, 200.0), more, hand, turned])
    assert len(joined.outline) == 2 * 4
    assert polygon_iou(joined, square(0.0, 200.0), 800) > 0.99


def test_corners_that_are_not_the_same_are_not_averaged() -> None:
    # As many corners each, but those of a bar across are not those of a bar along.
    cross = [
        Polygon("", (0.0, 40.0, 100.0, 40.0, 100.0, 60.0, 0.0, 60.0)),
        Polygon("", (20.0, 0.0, 80.0, 0.0, 80.0, 100.0, 20.0, 100.0)),
        Polygon("", (20.0, 0.0, 80.0, 0.0, 80.0, 100.0, 20.0, 100.0)),
    ]
    assert polygon_iou(joined_by_strangers(cross), cross[1]) > 0.9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.0, 0.3), st.booleans())
def test_it_holds_what_all_drew_and_nothing_that_none_did(
    seed: int, labelers: int, sloppiness: float, cornered: bool
) -> None:
    rng = np.random.default_rng(seed)
    if cornered:
        outlines = jittered(100.0, sloppiness / 3.0, labelers, rng)
    else:
        shape = blob(50.0, 50.0, 30.0, seed=seed)
        outlines = [Polygon("", drawn(shape, rng, sloppiness)) for _ in range(labelers)]
    live = LivePolygons()
    for k, one in enumerate(outlines):
        live.add("i", f"w{k}", (one,))
    for found in (*live.posterior("i").objects, *live.posterior("i").doubtful):
        own = [outlines[int(who[1])] for who in found.labelers]
        grid, (mine, *regions) = pixels([found.object, *own])
        all_drew, none_did = largest_part(np.all(regions, axis=0)), ~np.any(regions, axis=0)
        assert mine[well_within(all_drew, grid, own)].all()
        assert not mine[well_within(none_did, grid, own)].any()


def largest_part(region: np.ndarray) -> np.ndarray:
    """The part of a region that is kept where it falls into several: an object has one outline."""
    part, parts = ndimage.label(region)
    return part == 1 + np.bincount(part.ravel())[1:].argmax() if parts else region


def well_within(region: np.ndarray, grid: Grid, objects: list[Polygon]) -> np.ndarray:
    """The points of a region further from its edge than a step of the grid that objects are joined on."""
    edges = np.array([bounds(one) for one in objects])
    step = float((edges[:, 2:].max(axis=0) - edges[:, :2].min(axis=0)).max()) / SIDE
    return np.asarray(ndimage.distance_transform_edt(region) * grid.step > step + grid.step)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_distances_near_an_outline_are_exact(seed: int, size: float) -> None:
    ring = blob(50.0 * size, 20.0 * size, 20.0 * size, seed=seed)
    grid = Grid.over(np.array([*ring.min(axis=0), *ring.max(axis=0)]), 40, margin=5)
    found = signed_distances([[ring]], grid)[0]
    scaled = (ring - (grid.x, grid.y)) / grid.step
    along = np.roll(scaled, -1, axis=0) - scaled
    row, column = np.indices(found.shape)
    to = np.stack([column, row], axis=-1)[:, :, None] - scaled
    share = np.clip((to * along).sum(axis=-1) / (along**2).sum(axis=-1), 0.0, 1.0)
    exact = np.hypot(*np.moveaxis(to - share[..., None] * along, -1, 0)).min(axis=-1)
    off = np.abs(np.abs(found) - exact)
    assert np.quantile(off[exact < 3.0], 0.99) < 1e-9
    assert off.max() < 1.5
    assert np.array_equal(found > 0.0, filled([ring], grid))


BOW_TIE = (0.0, 0.0, 100.0, 100.0, 100.0, 0.0, 0.0, 100.0)


@pytest.mark.parametrize("off", [0.0, 1.0])
@pytest.mark.parametrize("count", [2, 3])
def test_bow_ties_are_joined_to_an_outline_that_does_not_meet_itself(count: int, off: float) -> None:
    live = LivePolygons()
    for k in range(count):
        outline = tuple(v + off * k for v in BOW_TIE)
        live.add("i", f"w{k}", (Polygon("tie", outline),))
    (joined,) = live.posterior("i").value
    assert joined.class_id == "tie"
    assert not any(meets_itself(ring) for ring in rings(joined))
    assert polygon_iou(joined, Polygon("tie", BOW_TIE)) > 0.45  # its larger part
