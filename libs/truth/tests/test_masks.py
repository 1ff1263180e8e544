"""Masks: a class for each pixel from everybody's rasters, and how much of it is likely right."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cairn_truth.shapes import staple
from cairn_truth.shapes.masks import JoinedMask, LiveMasks, best_overlap, expected_iou, mean_iou
from cairn_truth.shapes.raster import Grid, Mask, area, checked_mask, decoded, encoded, filled, outlines
from libs.truth.tests.live_contract import check_live_state

SIDE = 40
Crowd = dict[str, dict[str, Mask]]


def discs(rng: np.random.Generator, classes: int = 1) -> np.ndarray:
    """A raster with a disc of each class, later ones on top."""
    y, x = np.mgrid[:SIDE, :SIDE]
    raster = np.zeros((SIDE, SIDE), dtype=np.int64)
    for kind in range(1, classes + 1):
        cx, cy, r = rng.uniform(12, 28), rng.uniform(12, 28), rng.uniform(6, 10)
        raster[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = kind
    return raster


def sloppy(raster: np.ndarray, rng: np.random.Generator, blur: float) -> np.ndarray:
    """The raster with its edges moved to and fro, in patches as a hand does."""
    coarse = rng.normal(scale=blur, size=(2, SIDE // 5 + 2, SIDE // 5 + 2))
    shift = np.round(coarse.repeat(5, axis=1).repeat(5, axis=2)[:, :SIDE, :SIDE]).astype(int)
    y, x = np.mgrid[:SIDE, :SIDE]
    return raster[np.clip(y + shift[0], 0, SIDE - 1), np.clip(x + shift[1], 0, SIDE - 1)]


def crowd(
    seed: int = 0, items: int = 20, blurs: tuple[float, ...] = (0.5, 1.0, 1.0, 3.0), classes: int = 1
) -> tuple[Crowd, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = {f"i{k}": discs(rng, classes) for k in range(items)}
    return {
        item: {f"w{k}": encoded(sloppy(raster, rng, blur)) for k, blur in enumerate(blurs)}
        for item, raster in truth.items()
    }, truth


def test_it_is_a_live_state_like_all_others() -> None:
    answers, _ = crowd(items=5, classes=2)
    check_live_state(lambda: LiveMasks(2), answers, Mask(4, 4, [3], [16]))


def test_one_answer_is_the_value_itself() -> None:
    answers, _ = crowd(items=3)
    for item, votes in answers.items():
        joined = LiveMasks(1).update(item, "w0", votes["w0"])
        assert joined.value == votes["w0"]
        assert 0.6 < joined.confidence < 0.95


def test_the_careful_outvote_more_of_the_sloppy_than_they_are() -> None:
    answers, truth = crowd(items=30, blurs=(0.5, 0.5, 4.0, 4.0, 4.0))
    ours = LiveMasks(1).fit(answers)
    majority = {
        item: encoded(np.sum([decoded(m) for m in votes.values()], axis=0) >= 3)
        for item, votes in answers.items()
    }
    true = {item: encoded(raster) for item, raster in truth.items()}
    mine = np.mean([mean_iou(ours[item].value, true[item]) for item in truth])  # type: ignore[arg-type]
    theirs = np.mean([mean_iou(majority[item], true[item]) for item in truth])
    assert mine > theirs + 0.02


def test_confidence_is_the_overlap_with_the_truth() -> None:
    for blurs in ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0, 2.0), (0.5, 1.0, 3.0)):
        answers, truth = crowd(items=40, blurs=blurs)
        joined = LiveMasks(1).fit(answers)
        got = [mean_iou(joined[item].value, encoded(truth[item])) for item in truth]  # type: ignore[arg-type]
        said = [joined[item].confidence for item in truth]
        assert np.mean(said) == pytest.approx(np.mean(got), abs=0.06)


def test_of_several_classes_each_has_its_own_overlap() -> None:
    answers, truth = crowd(items=40, blurs=(1.0, 2.0), classes=2)
    joined = LiveMasks(2).fit(answers)
    got = [mean_iou(joined[item].value, encoded(truth[item])) for item in truth]  # type: ignore[arg-type]
    assert np.mean([joined[item].confidence for item in truth]) == pytest.approx(np.mean(got), abs=0.08)
    assert all({kind for kind, _ in found.iou} <= {1, 2} for found in joined.values())


def test_masks_of_three_classes_are_not_oversure() -> None:
    said, got = [], []
    for blurs in ((0.7, 1.0, 1.0), (0.5, 1.0, 1.5, 1.5), (1.0, 2.0, 2.0, 3.0, 3.0, 3.0)):
        answers, truth = crowd(seed=9, items=20, blurs=blurs, classes=3)
        for item, found in LiveMasks(3).fit(answers).items():
            said.append(found.confidence)
            got.append(mean_iou(found.value, encoded(truth[item])))  # type: ignore[arg-type]
    assert np.mean(said) == pytest.approx(np.mean(got), abs=0.06)


def test_a_class_that_some_saw_and_the_value_has_lost_lowers_the_confidence() -> None:
    big = np.zeros((SIDE, SIDE), dtype=np.int64)
    big[5:30, 5:30] = 1
    with_speck = big.copy()
    with_speck[35:37, 35:37] = 2
    sure, doubtful = LiveMasks(2), LiveMasks(2)
    for k in range(4):
        sure.add("i", f"w{k}", encoded(big))
        doubtful.add("i", f"w{k}", encoded(with_speck if k == 0 else big))
    assert doubtful.posterior("i").value == encoded(big)
    assert doubtful.posterior("i").confidence == pytest.approx(
        sure.posterior("i").confidence / 1.25, abs=0.03
    )


def small_object(side: int = 30, size: int = 1000, at: int = 100) -> tuple[Mask, Mask]:
    """A small object in a wide picture, and the picture without it."""
    empty = np.zeros((size, size), dtype=np.int64)
    marked = empty.copy()
    marked[at : at + side, at : at + side] = 1
    return encoded(marked), encoded(empty)


def test_an_object_that_half_drew_is_no_certain_nothing() -> None:
    marked, empty = small_object()
    live = LiveMasks(1)
    live.add("i", "a", marked)
    assert 0.3 < live.update("i", "b", empty).confidence <= 0.6
    for k in range(8):
        live.add("i", f"c{k}", empty)
    joined = live.posterior("i")
    assert joined.value == empty
    assert joined.confidence == pytest.approx(0.9, abs=0.02)  # one of ten saw something


def test_two_who_saw_it_in_two_places_agree_that_it_is_there() -> None:
    live = LiveMasks(1)
    live.add("i", "a", small_object(at=100)[0])
    joined = live.update("i", "b", small_object(at=400)[0])
    assert joined.value is not None
    assert np.any(joined.value.class_indices)
    assert joined.confidence <= 0.6


@pytest.mark.parametrize(("drew", "left_out"), [(2, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("size", [100, 1000])
def test_an_object_that_most_drew_alike_is_there(drew: int, left_out: int, size: int) -> None:
    marked, empty = small_object(size=size, at=50)
    live = LiveMasks(1)
    for k in range(drew):
        live.add("i", f"a{k}", marked)
    for k in range(left_out):
        live.add("i", f"b{k}", empty)
    joined = live.posterior("i")
    assert joined.value == marked
    assert 0.5 < joined.confidence < 0.95


@pytest.mark.parametrize("answers", [3, 5])
def test_hands_that_miss_whole_objects_are_joined_no_worse_than_by_majority(answers: int) -> None:
    rng = np.random.default_rng(2)
    truth = [discs(rng) for _ in range(40)]
    drawn = [[sloppy(raster, rng, 0.7) * (rng.random() >= 0.15) for _ in range(answers)] for raster in truth]
    live = LiveMasks(1)
    for item, rasters in enumerate(drawn):
        for k, raster in enumerate(rasters):
            live.add(f"i{item}", f"w{k}", encoded(raster))
    majority = np.mean(
        [
            mean_iou(encoded((np.sum(rasters, axis=0) > answers / 2).astype(int)), encoded(raster))
            for rasters, raster in zip(drawn, truth, strict=True)
        ]
    )
    for fitted in (False, True):
        if fitted:
            live.refit()
        joined = [live.posterior(f"i{item}") for item in range(len(truth))]
        got = np.mean([mean_iou(j.value, encoded(r)) for j, r in zip(joined, truth, strict=True)])  # type: ignore[arg-type]
        assert got > majority - 0.01
        said = np.mean([j.confidence for j in joined])
        assert got - 0.12 < said < got + 0.02


def test_single_answers_teach_nothing() -> None:
    answers, truth = crowd(items=25, blurs=(1.0,), classes=2)
    live = LiveMasks(2)
    joined = live.fit(answers)
    got = [mean_iou(joined[item].value, encoded(truth[item])) for item in truth]  # type: ignore[arg-type]
    assert np.mean([j.confidence for j in joined.values()]) < np.mean(got) + 0.06
    assert np.allclose(live.confusion("w0"), LiveMasks(2).confusion("w0"), atol=1e-3)
    assert max(LiveMasks(c).update("i", "a", answers["i0"]["w0"]).confidence for c in (2, 3, 5)) < 0.9


def test_more_answers_that_agree_make_it_surer() -> None:
    mask = encoded(discs(np.random.default_rng(1)))
    live, said = LiveMasks(1), []
    for k in range(5):
        said.append(live.update("i", f"w{k}", mask).confidence)
    assert said == sorted(said)
    assert said[-1] > 0.97


def test_a_careful_labeler_weighs_more_and_is_known_to_be_reliable() -> None:
    answers, _ = crowd(items=30)
    live = LiveMasks(1)
    joined = live.fit(answers)
    assert live.reliability("w0").accuracy > live.reliability("w3").accuracy + 0.02
    for found in joined.values():
        weight = {part.labeler: part.weight for part in found.evidence}
        assert weight["w0"] > weight["w3"]
        assert sum(weight.values()) == pytest.approx(1.0)
    assert live.confusion("w0").sum(axis=1) == pytest.approx(1.0)


def test_who_marks_nothing_or_everything_is_found_out() -> None:
    answers, truth = crowd(items=30, blurs=(1.0, 1.0, 1.0))
    nothing, everything = (encoded(np.full((SIDE, SIDE), k)) for k in (0, 1))
    for votes in answers.values():
        votes["nothing"], votes["everything"] = nothing, everything
    live = LiveMasks(1)
    joined = live.fit(answers)
    got = [mean_iou(joined[item].value, encoded(truth[item])) for item in truth]  # type: ignore[arg-type]
    assert np.mean(got) > 0.85
    assert max(live.reliability(who).accuracy for who in ("nothing", "everything")) < min(
        live.reliability(f"w{k}").accuracy for k in range(3)
    )


def test_known_truths_teach_who_is_right_against_a_majority() -> None:
    rng = np.random.default_rng(4)
    answers: Crowd = {}
    gold = {}
    for k in range(12):
        raster = discs(rng)
        wrong = encoded(np.roll(raster, 6, axis=1))
        answers[f"i{k}"] = {"alone": encoded(raster), "two": wrong, "three": wrong}
        gold[f"i{k}"] = encoded(raster)
    free = gold.pop("i11")
    joined = LiveMasks(1).fit(answers, gold)
    assert mean_iou(joined["i11"].value, free) > 0.95  # type: ignore[arg-type]


def test_names_do_not_matter_but_for_ties() -> None:
    answers, _ = crowd(items=8)
    renamed = {
        item: {f"z{9 - int(who[1])}": m for who, m in votes.items()} for item, votes in answers.items()
    }
    one, other = LiveMasks(1).fit(answers), LiveMasks(1).fit(renamed)
    for item in answers:
        assert one[item].value == other[item].value
        assert one[item].confidence == pytest.approx(other[item].confidence, abs=1e-9)


def test_classes_may_be_exchanged() -> None:
    answers, _ = crowd(items=8, classes=2)
    swap = np.array([0, 2, 1])
    swapped = {
        item: {who: encoded(swap[decoded(m)]) for who, m in votes.items()} for item, votes in answers.items()
    }
    one, other = LiveMasks(2).fit(answers), LiveMasks(2).fit(swapped)
    for item in answers:
        assert np.mean(swap[decoded(one[item].value)] == decoded(other[item].value)) > 0.999  # type: ignore[arg-type]


def test_a_mask_of_another_size_has_no_say() -> None:
    answers, _ = crowd(items=1)
    live = LiveMasks(1)
    for who, mask in answers["i0"].items():
        live.add("i0", who, mask)
    before = live.posterior("i0")
    after = live.update("i0", "stray", encoded(np.ones((3, 3), dtype=int)))
    assert after.value == before.value
    part = next(p for p in after.evidence if p.labeler == "stray")
    assert (part.agreement, part.weight) == (0.0, 0.0)
    live.refit()


def test_huge_masks_cost_their_runs() -> None:
    side = 65535
    row = [0, 1, 0]
    live = LiveMasks(1)
    began = perf_counter()
    for k in range(5):
        left = 1000 + k
        kinds = row * 2000
        lengths = [left, 30000, side - 30000 - left] * 2000
        live.add("i", f"w{k}", Mask(side, side, [*kinds, 0], [*lengths, side * (side - 2000)]))
    joined = live.posterior("i")
    live.refit()
    assert joined.value is not None
    assert sum(joined.value.lengths) == side * side
    assert perf_counter() - began < 5.0


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Mask(0, 4, [0], [4]), "width is 0"),
        (Mask(4, 70000, [0], [4]), "height is 70000"),
        (Mask(2, 2, [0, 1], [4]), "2 class_indices and 1 lengths"),
        (Mask(2, 2, [0, 9], [2, 2]), r"class_indices\[1\] is 9"),
        (Mask(2, 2, [0, 1], [4, 0]), r"lengths\[1\] is 0"),
        (Mask(2, 2, [0, 1], [2, 1]), "add up to 3; expected 4"),
        (Mask(2, 2, [], []), "add up to 0"),
        (Mask(2, 2, [0.5], [4]), "class_indices is float64"),  # type: ignore[list-item]
        (Mask(2.5, 2, [1], [5]), "width is 2.5"),  # type: ignore[arg-type]
        (Mask(2, "2", [1], [4]), "height is '2'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_with_a_mask_is_told(mask: Mask, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked_mask(mask, 1)


@pytest.mark.parametrize(
    ("raster", "said"),
    [
        (np.array([[-1, 0, 2]]), "has -1 in row 0, column 0"),
        (np.array([[0.7, 1.9]]), "is float64 of shape"),
        (np.zeros((0, 3), dtype=int), "is 3 x 0"),
        (np.zeros(4, dtype=int), "of shape"),
    ],
)
def test_a_raster_that_is_none_is_refused(raster: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encoded(raster)


@pytest.mark.parametrize("classes", [0, 1.5, float("nan"), "2", True])
def test_a_number_of_classes_of_no_sense_is_refused(classes: object) -> None:
    with pytest.raises(ValueError, match="classes is"):
        LiveMasks(classes)  # type: ignore[arg-type]


def test_equal_neighbours_are_one_run() -> None:
    assert checked_mask(Mask(4, 1, [0, 1, 1, 0], [1, 1, 1, 1]), 1) == Mask(4, 1, [0, 1, 0], [1, 2, 1])


def test_a_state_of_other_classes_is_refused() -> None:
    answers, _ = crowd(items=2)
    live = LiveMasks(1)
    live.fit(answers)
    with pytest.raises(ValueError, match=r"classes=1\); expected one of LiveMasks\(classes=3"):
        LiveMasks(3).restore(live.save())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_the_value_has_the_largest_expected_overlap_of_all_levels(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    chance = rng.dirichlet(np.full(classes + 1, 0.7), size=12)
    pixels = rng.integers(1, 50, size=12).astype(float)
    kind, overlap = best_overlap(chance, pixels)
    likeliest = chance.argmax(axis=1)
    taken = np.unique(likeliest[likeliest > 0])
    assert overlap[taken].sum() >= expected_iou(chance, pixels, likeliest)[taken].sum() - 1e-9
    if classes == 1 and taken.size:
        levels = [
            expected_iou(chance, pixels, (chance[:, 1] >= level).astype(np.int64))[1]
            for level in chance[:, 1]
        ]
        assert overlap[1] == pytest.approx(max(levels), abs=1e-9)
    assert kind.shape == (12,)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_a_raster_survives_its_run_lengths(raster: np.ndarray) -> None:
    mask = encoded(raster)
    assert np.array_equal(decoded(mask), raster)
    assert mask == checked_mask(mask, 3)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_cells_hold_every_pixel_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rasters = [rng.integers(0, 3, size=(6, 7)) for _ in range(4)]
    cells = staple.Cells.of([encoded(r) for r in rasters])
    spread = np.repeat(cells.cell, cells.length)
    for k, raster in enumerate(rasters):
        assert np.array_equal(cells.votes[spread, k], raster.ravel())
    assert cells.pixels.sum() == 42
    assert len(np.unique(cells.votes, axis=0)) == len(cells.votes)
    assert cells.weight.sum() == pytest.approx(1.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_outlines_filled_are_what_they_were_drawn_around(seed: int) -> None:
    field = np.random.default_rng(seed).normal(size=(9, 11))
    grid = Grid(3.0, -2.0, 0.5, 9, 11)
    rings = outlines(field, 0.0, grid)
    assert np.array_equal(filled(rings, grid), field > 0.0)
    assert sum(area(ring) for ring in rings) > 0.0


def test_a_hole_turns_the_other_way() -> None:
    grid = Grid.over(np.array([0.0, 0.0, 10.0, 10.0]), 50)
    square, hole = (
        np.array([[low, low], [high, low], [high, high], [low, high]])
        for low, high in ((0.0, 10.0), (4.0, 6.0))
    )
    rings = outlines(filled([square, hole], grid).astype(float), 0.5, grid)
    assert sorted(area(ring) for ring in rings) == pytest.approx([-4.0, 100.0], abs=0.1)


def uniform(kind: int, side: int = 20) -> Mask:
    return Mask(side, side, [kind], [side * side])


def posterior(masks: list[Mask], *, refit: bool = False) -> JoinedMask:
    live = LiveMasks(1)
    for k, mask in enumerate(masks):
        live.add("i", f"w{k}", mask)
    if refit:
        live.refit()
    return live.posterior("i")


@pytest.mark.parametrize("pairs", [1, 2, 3])
@pytest.mark.parametrize("marked", [20, 200, 360, 400])
def test_of_strangers_half_of_whom_name_nothing_nothing_is_the_value(pairs: int, marked: int) -> None:
    """Nothing is expected to overlap the truth by a half, anything marked by less."""
    some = Mask(20, 20, [1, 0], [marked, 400 - marked]) if marked < 400 else uniform(1)
    joined = posterior([uniform(0), some] * pairs)
    assert joined.value == uniform(0)
    assert joined.confidence <= 0.5


def test_of_labelers_known_those_believed_decide_between_nothing_and_something() -> None:
    answers, truth = crowd(items=12, blurs=(0.5, 1.0))
    live = LiveMasks(1)
    for item, votes in answers.items():
        for who, mask in votes.items():
            live.add(item, who, mask)
        live.add(item, "idle", uniform(0, SIDE))
        live.know(item, encoded(truth[item]))
    live.refit()
    marked = next(iter(answers.values()))["w0"]
    live.add("new", "w0", marked)
    assert live.update("new", "idle", uniform(0, SIDE)).value == marked


@pytest.mark.parametrize("mask", [uniform(0), uniform(1), Mask(20, 20, [1, 0], [399, 1])])
def test_a_lone_answer_is_no_surer_than_its_labeler_is_right(mask: Mask) -> None:
    live = LiveMasks(1)
    joined = live.update("i", "a", mask)
    assert joined.confidence == pytest.approx(live.reliability("a").accuracy)
    assert joined.confidence < 0.9


@pytest.mark.parametrize("kind", [0, 1])
def test_more_who_call_one_class_all_over_make_it_surer_and_never_certain(kind: int) -> None:
    said = [posterior([uniform(kind)] * n).confidence for n in range(1, 6)]
    assert said == sorted(set(said))
    assert 0.97 < said[1] < said[-1] < 1.0


def test_masks_that_differ_in_size_leave_it_open_which_is_of_the_item() -> None:
    tie = posterior([uniform(1, 20), uniform(1, 10)])
    most = posterior([uniform(1, 20), uniform(1, 20), uniform(1, 10)])
    assert tie.confidence < 0.5 < most.confidence < posterior([uniform(1, 20)] * 2).confidence
    stray = posterior([uniform(1, 20)] * 5 + [uniform(1, 10)])
    assert stray.confidence > 0.99
