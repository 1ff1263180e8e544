"""Polygons: which objects there are and their outlines, from outlines that never share their points."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cairn_truth.measured import score_masks
from cairn_truth.shapes.polygons import LivePolygons, Polygon, polygon_iou, rings
from cairn_truth.shapes.raster import Grid, area, filled, meets_itself, overlaps, simplified
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))
Crowd = dict[str, dict[str, tuple[Polygon, ...]]]


def flat(points: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(points).ravel())


def blob(x: float, y: float, size: float, *, seed: int = 0, points: int = 40) -> np.ndarray:
    """A smooth closed outline; the same seed is the same shape, on however many points."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0.0, 2.0 * np.pi, points, endpoint=False)
    radius = 1.0 + sum(
        rng.normal(scale=0.12 / k) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in range(2, 6)
    )
    return np.stack([x + size * radius * np.cos(turn), y + size * radius * np.sin(turn)], axis=1)


def drawn(outline: np.ndarray, rng: np.random.Generator, sloppiness: float) -> tuple[float, ...]:
    """The outline as a hand draws it: on some of the points, all a bit off together and each on its own."""
    points = outline[np.sort(rng.choice(len(outline), size=rng.integers(24, 36), replace=False))]
    size = np.sqrt(abs(area(outline)) / np.pi)
    swell = 1.0 + rng.normal(scale=sloppiness)
    centre = points.mean(axis=0)
    shifted = centre + (points - centre) * swell + rng.normal(scale=sloppiness * size, size=2) / 2.0
    return flat(shifted + rng.normal(scale=sloppiness * size / 3.0, size=points.shape))


def crowd(
    seed: int = 0,
    items: int = 8,
    sloppiness: tuple[float, ...] = (0.05, 0.08, 0.08, 0.2),
    missed: float = 0.1,
    invented: float = 0.1,
) -> tuple[Crowd, dict[str, tuple[Polygon, ...]]]:
    rng = np.random.default_rng(seed)
    answers: Crowd = {}
    truth = {}
    for k in range(items):
        shapes = [
            blob(100.0 * (i + 1) + rng.uniform(-10, 10), 100.0, rng.uniform(15, 35), seed=1000 * k + i)
            for i in range(3)
        ]
        truth[f"i{k}"] = tuple(Polygon("car", flat(shape)) for shape in shapes)
        answers[f"i{k}"] = {}
        for w, sloppy in enumerate(sloppiness):
            marks = [Polygon("car", drawn(s, rng, sloppy)) for s in shapes if rng.random() > missed]
            if rng.random() < invented:
                marks.append(Polygon("car", flat(blob(rng.uniform(60, 340), 300.0, 20.0, seed=9))))
            answers[f"i{k}"][f"w{w}"] = tuple(marks)
    return answers, truth


def overlap(found: tuple[Polygon, ...], truth: tuple[Polygon, ...]) -> float:
    """Mean over true objects of the best IoU any found one has."""
    return float(np.mean([max((polygon_iou(f, t) for f in found), default=0.0) for t in truth]))


def test_it_is_a_live_state_like_all_others() -> None:
    answers, _ = crowd(items=3)
    check_live_state(LivePolygons, answers, (Polygon("car", (0.0, 0.0, 1.0, float("nan"), 1.0, 1.0)),))


def test_one_answer_is_the_value_itself() -> None:
    holed = Polygon("lake", (0, 0, 9, 0, 9, 9, 0, 9), ((2, 2, 4, 2, 4, 4),), (("deep", True),))
    assert LivePolygons().update("i", "w", (holed,)).value == (holed,)


def test_answers_that_agree_are_the_value_itself() -> None:
    live = LivePolygons()
    shape = Polygon("car", flat(blob(50, 50, 20)))
    for who in ("a", "b", "c"):
        live.add("i", who, (shape,))
    assert live.posterior("i").value == (shape,)


def test_joined_outlines_are_nearer_to_the_truth_than_any_labelers() -> None:
    answers, truth = crowd(items=6)
    joined = LivePolygons().fit(answers)
    ours = np.mean([overlap(joined[item].value, truth[item]) for item in truth])
    labelers = [np.mean([overlap(answers[item][f"w{w}"], truth[item]) for item in truth]) for w in range(4)]
    assert ours > max(labelers) + 0.01
    assert ours > 0.85
    assert all(len(joined[item].value) == 3 for item in truth)


def test_a_sloppy_labeler_is_known_by_the_spread_and_weighs_less() -> None:
    answers, _ = crowd(items=6)
    live = LivePolygons()
    joined = live.fit(answers)
    assert live.reliability("w3").spread > 1.3 * live.reliability("w0").spread
    weights = [{part.labeler: part.weight for part in found.evidence} for found in joined.values()]
    assert np.mean([w["w0"] for w in weights]) > 1.3 * np.mean([w["w3"] for w in weights])


def test_one_gross_outline_is_outvoted() -> None:
    rng = np.random.default_rng(2)
    shape = blob(50, 50, 20)
    live = LivePolygons()
    for who in ("a", "b", "c", "d"):
        live.add("i", who, (Polygon("car", drawn(shape, rng, 0.04)),))
    huge = (Polygon("car", flat(np.array([[20.0, 20], [95, 20], [95, 75], [20, 75]]))),)
    joined = live.update("i", "e", huge)
    assert polygon_iou(joined.value[0], Polygon("car", flat(shape))) > 0.88


def test_two_objects_that_one_labeler_drew_as_one_stay_two() -> None:
    rng = np.random.default_rng(3)
    left, right = blob(40, 50, 18, seed=1), blob(85, 50, 18, seed=2)
    live = LivePolygons()
    for who in ("a", "b", "c"):
        live.add("i", who, tuple(Polygon("car", drawn(s, rng, 0.05)) for s in (left, right)))
    both = Polygon("car", (20.0, 30.0, 105.0, 30.0, 105.0, 70.0, 20.0, 70.0))
    joined = live.update("i", "merger", (both,))
    assert len(joined.value) == 2
    assert overlap(joined.value, tuple(Polygon("car", flat(s)) for s in (left, right))) > 0.85


def test_facts_of_outlines_are_voted_on() -> None:
    live = LivePolygons()
    for k, (who, hurt) in enumerate((("a", True), ("b", True), ("c", False))):
        outline = flat(blob(50.0, 50.0, 20.0) + 0.2 * k)
        live.add("i", who, (Polygon("", outline, (), (("hurt", hurt), ("length", 3.0 + k))),))
    (joined,) = live.posterior("i").value
    assert joined.attributes == (("hurt", True), ("length", 4.0))


def test_of_an_object_in_two_parts_the_larger_is_kept() -> None:
    live = LivePolygons()
    for who, y in (("a", 14.0), ("b", 50.0), ("c", 86.0)):
        # A large square and a small one, joined by a neck that each puts somewhere else.
        there = (0.0, 0.0, 40.0, 0.0, 40.0, y - 4.0, 60.0, y - 4.0, 60.0, 0.0, 80.0, 0.0)
        back = (80.0, 100.0, 60.0, 100.0, 60.0, y + 4.0, 40.0, y + 4.0, 40.0, 100.0, 0.0, 100.0)
        live.add("i", who, (Polygon("", (*there, *back)),))
    (joined,) = live.posterior("i").value
    assert max(joined.outline[0::2]) < 50.0


def test_a_hole_that_most_cut_stays() -> None:
    rng = np.random.default_rng(4)
    outer, inner = blob(50, 50, 30), blob(50, 50, 12, seed=5)
    live = LivePolygons()
    for who in ("a", "b", "c"):
        live.add("i", who, (Polygon("ring", drawn(outer, rng, 0.03), (drawn(inner, rng, 0.05),)),))
    live.add("i", "d", (Polygon("ring", drawn(outer, rng, 0.03)),))
    joined = live.posterior("i").value
    assert len(joined) == 1
    assert len(joined[0].holes) == 1
    assert polygon_iou(joined[0], Polygon("ring", flat(outer), (flat(inner),))) > 0.85


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.4), st.floats(1e-3, 1e6))
def test_a_joined_outline_never_meets_itself(seed: int, sloppiness: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    shape = blob(50.0 * scale, 50.0 * scale, 20.0 * scale, seed=seed)
    live = LivePolygons()
    for who in ("a", "b", "c"):
        live.add("i", who, (Polygon("car", drawn(shape, rng, sloppiness)),))
    for one in live.posterior("i").objects:
        if len(one.labelers) > 1:
            assert not any(meets_itself(ring) for ring in rings(one.object))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_names_of_labelers_do_not_matter(seed: int) -> None:
    answers, _ = crowd(seed=seed, items=1)
    renamed = {i: {f"z{9 - int(who[1])}": a for who, a in votes.items()} for i, votes in answers.items()}
    one, other = LivePolygons(), LivePolygons()
    for item, votes in answers.items():
        for who, answer in votes.items():
            one.add(item, who, answer)
        for who, answer in renamed[item].items():
            other.add(item, who, answer)
        mine, theirs = one.posterior(item), other.posterior(item)
        assert mine.confidence == pytest.approx(theirs.confidence, abs=0.05)
        assert overlap(mine.value, theirs.value) > 0.95 if theirs.value else not mine.value


def test_likeness_is_the_overlap_of_the_regions() -> None:
    square = Polygon("a", (0, 0, 10, 0, 10, 10, 0, 10))
    assert polygon_iou(square, Polygon("b", (5, 0, 15, 0, 15, 10, 5, 10))) == pytest.approx(1 / 3, abs=0.02)
    assert polygon_iou(square, Polygon("b", (20, 0, 30, 0, 30, 10))) == 0.0
    holed = Polygon("a", square.outline, ((0, 0, 10, 0, 10, 5, 0, 5),))
    assert polygon_iou(square, holed) == pytest.approx(0.5, abs=0.02)
    assert polygon_iou(holed, holed) == 1.0


def test_the_order_and_number_of_points_do_not_matter() -> None:
    shape, finer = blob(50, 50, 20), blob(50, 50, 20, points=400)
    turned = np.roll(shape[::-1], 7, axis=0)
    assert polygon_iou(Polygon("", flat(shape)), Polygon("", flat(turned))) == 1.0
    assert polygon_iou(Polygon("", flat(shape)), Polygon("", flat(finer))) > 0.97


@pytest.mark.parametrize("turn", [0.0, 12.0, 45.0, 90.0])
@pytest.mark.parametrize("width", [40.0, 10.0, 4.0, 1.0, 0.1])
def test_a_long_thin_outline_is_joined_whole(turn: float, width: float) -> None:
    def strip(off: float) -> Polygon:
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        edge = np.array([[0.0, off], [1000.0, off], [1000.0, off + width], [0.0, off + width]])
        return Polygon("", flat(edge @ np.array([[c, s], [-s, c]])))

    live = LivePolygons()
    for who, off in (("a", 0.0), ("b", 0.1), ("c", -0.1)):
        live.add("i", who, (strip(off * width),))
    (joined,) = live.posterior("i").value
    assert polygon_iou(joined, strip(0.0), 4000) > 0.8  # as alike as the labelers' own


def test_slivers_and_specks_do_no_harm() -> None:
    live = LivePolygons()
    live.add("i", "a", (Polygon("x", (0, 0, 1000, 1e-9, 1000, 2e-9)),))
    live.add("i", "b", (Polygon("x", (0, 0, 1000, 2e-9, 1000, 3e-9)),))
    live.add("i", "c", (Polygon("x", (0, 0, 1e-9, 0, 1e-9, 1e-9)),))
    assert 0.0 <= live.posterior("i").confidence <= 1.0
    live.refit()


@pytest.mark.parametrize(
    ("outline", "said"),
    [
        ((0.0, 0.0, 1.0, 1.0), "the outline is 4 numbers"),
        ((0.0, 0.0, 1.0, 1.0, 2.0), "the outline is 5 numbers"),
        ((0.0, 0.0, 1.0, float("inf"), 2.0, 0.0), "the outline has inf at point 1"),
        ((0.0, 0.0, 1.0, 0.0, 2.0, 0.0), "no area"),
        ((0.0, 0.0, 1 / 3, 1 / 7, 2 / 3, 2 / 7, 1e6, 3e6 / 7), "no area"),
        ((5.0, 5.0, 5.0 + 1e-15, 5.0, 5.0, 5.0 + 1e-15), "no area"),
        ((0.0, 0.0, 1.0, "1", 2.0, 0.0), "the outline has '1' at point 1"),
    ],
)
def test_what_is_wrong_with_a_polygon_is_told(outline: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"object 1: .*{said}"):
        LivePolygons().add("i", "w", (Polygon("a", (0, 0, 1, 0, 1, 1)), Polygon("a", outline)))


def test_nothing_is_compared_and_filled_as_nothing() -> None:
    assert not filled([], Grid(0.0, 0.0, 1.0, 3, 3)).any()
    assert overlaps([], [], 10).size == 0
    shape = Polygon("", (0.0, 0.0, 1.0, 0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="side is 0"):
        polygon_iou(shape, shape, side=0)


def test_a_ring_is_told_from_one_that_meets_itself() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    assert not meets_itself(square)
    assert meets_itself(square[[0, 2, 1, 3]])


def test_points_on_a_line_are_left_out() -> None:
    side = np.linspace(0.0, 1.0, 11)
    square = np.concatenate(
        [
            np.stack([side, 0 * side], axis=1)[:-1],
            np.stack([0 * side + 1, side], axis=1)[:-1],
            np.stack([1 - side, 0 * side + 1], axis=1)[:-1],
            np.stack([0 * side, 1 - side], axis=1)[:-1],
        ]
    )
    assert len(simplified(square, 1e-6)) == 4


@pytest.mark.parametrize(
    "cell", ["0,0 4,0 4,4 0,4", "[[0,0],[4,0],[4,4],[0,4]]", "[[[0,0],[4,0],[4,4],[0,4]]]"]
)
def test_a_cell_is_read_in_any_of_its_forms(cell: str) -> None:
    (one,) = score_masks.read(cell)
    assert one.outline == (0, 0, 4, 0, 4, 4, 0, 4)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("0,0 4,0", "polygon 0: .*4 numbers"), ("0,0 4 4,4", "point 1 is '4'"), ("[[0,0],[1]]", "in JSON")],
)
def test_what_is_wrong_with_a_cell_is_told(cell: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score_masks.read(cell)


def test_every_scored_method_joins_a_crowd_and_ours_is_the_best() -> None:
    rng = np.random.default_rng(6)
    shapes = {f"i{k}": blob(60, 60, 25, seed=k) for k in range(8)}
    answers = {
        item: {f"w{k}": (Polygon("", drawn(shape, rng, 0.12)),) for k in range(3)}
        for item, shape in shapes.items()
    }
    truth = {item: (Polygon("", flat(shape)),) for item, shape in shapes.items()}
    got = {name: score_masks.judge(method(answers), truth) for name, method in score_masks.METHODS.items()}
    assert min(of["iou"] for of in got.values()) > 0.6
    assert got[score_masks.DEFAULT]["iou"] > got["PixelMajority"]["iou"] - 0.005
    assert got[score_masks.DEFAULT]["iou"] > got["MedoidAnswer"]["iou"]
    assert got[score_masks.DEFAULT]["f1"] == 1.0


def test_an_outline_through_pixels_takes_them_in() -> None:
    (square,) = score_masks.read("0,0 4,0 4,4 0,4")
    assert score_masks.region((square,), score_masks.grid_around([square])).sum() == 25
    assert score_masks.overlap((square,), ()) == 0.0
    assert score_masks.overlap((), ()) == 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_pixels_survive_being_told_as_outlines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marked = ndimage.binary_closing(rng.random((14, 14)) < 0.4)
    grid = Grid(3.0, 5.0, 1.0, 14, 14)
    assert np.array_equal(score_masks.region(score_masks._outlined(marked, grid), grid), marked)


@pytest.mark.data
def test_consensus_of_readers_is_no_further_from_another_than_majority_is() -> None:
    path = DATA / "lidc_nodule_polygons" / "polygons.csv"
    if not path.exists():
        pytest.skip(f"no {path}; set CAIRN_DATA to where the recorded answers are")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    items: dict[str, dict[str, tuple[Polygon, ...]]] = {}
    for line in lines:
        items.setdefault(line["item"], {})[line["annotator"]] = score_masks.read(line["polygon"])
    four = {item: votes for item, votes in sorted(items.items()) if len(votes) == 4}
    some = {item: four[item] for item in list(four)[::24]}
    three = {item: {who: votes[who] for who in sorted(votes)[:3]} for item, votes in some.items()}
    other = {item: votes[max(votes)] for item, votes in some.items()}
    ours = score_masks.judge(score_masks.live_polygons(three), other)["iou"]
    assert ours > score_masks.judge(score_masks.pixel_majority(three), other)["iou"] - 0.01
    assert ours > score_masks.judge(score_masks.first_answer(three), other)["iou"] + 0.01
