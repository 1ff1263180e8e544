"""Boxes of a crowd joined: which are there, of which class, where, and how surely."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn_truth.measured.score_boxes import METHODS, greedy_majority, judge, mean_iou, object_f1, read
from cairn_truth.shapes.boxes import Box, LiveBoxes, edges, iou
from cairn_truth.shapes.regions import Region
from libs.truth.tests.box_crowds import BoxCrowd, box_crowd
from libs.truth.tests.live_contract import check_live_state

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def _box(x: float, y: float, width: float = 20.0, height: float = 20.0, class_id: str = "a") -> Box:
    return Box(class_id, x, y, width, height)


@pytest.fixture(scope="module")
def crowd() -> BoxCrowd:
    return box_crowd(items=120, labelers=8, false=0.8, seed=3)


@pytest.fixture(scope="module")
def fitted(crowd: BoxCrowd) -> LiveBoxes:
    state = LiveBoxes(classes=5)
    state.fit(crowd.answers)
    return state


def test_it_keeps_the_contract_of_live_states() -> None:
    small = box_crowd(items=12, labelers=5, each=3, seed=1)
    check_live_state(LiveBoxes, small.answers, (Box("a", 0.0, 0.0, float("nan"), 1.0),))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_box(float("inf"), 0.0), "object 1: x is inf"),
        (_box(0.0, 0.0, width=0.0), "object 1: the box"),
        (_box(0.0, 0.0, height=-1.0), "object 1: the box"),
        (_box(1e300, 0.0), "object 1: x is"),
        (replace(_box(0, 0), attributes=(("a", float("nan")),)), "object 1: attribute a is nan"),
        (replace(_box(0, 0), attributes=(("a", True), ("a", True))), "object 1: attribute a is given twice"),
        (None, "object 1:"),
        (_box(0.0, 0.0, width=1e-200), "object 1: the box"),
        (_box("1", 0.0), "object 1: x is '1'"),  # type: ignore[arg-type]
        (_box(True, 0.0), "object 1: x is True"),
        (_box(np.array([1.0]), 0.0), "object 1: x is array"),  # type: ignore[arg-type]
        (_box(10**400, 0.0), "object 1: x is 1000"),
        (replace(_box(0, 0), class_id=7), "object 1: class_id is 7"),  # type: ignore[arg-type]
        (replace(_box(0, 0), class_id=None), "object 1: class_id is None"),  # type: ignore[arg-type]
        (Region(1, 0.0, 0.0, 9.0, 9.0), "object 1: it is Region.*expected a Box"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_named(wrong: Box, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LiveBoxes().add("item", "ann", (_box(0.0, 0.0), wrong))


def test_a_state_of_no_sense_is_refused() -> None:
    for arguments in (
        {"tolerance": 1.0},
        {"tolerance": float("nan")},
        {"tolerance": "a"},
        {"classes": -1},
        {"classes": 1.5},
        {"classes": float("nan")},
        {"classes": True},
    ):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            LiveBoxes(**arguments)  # type: ignore[arg-type]


def test_the_smallest_boxes_there_can_be_are_joined() -> None:
    least = _box(0.0, 0.0, 1e-12, 1e-12)
    joined = LiveBoxes().fit({"i": {"a": (least,), "b": (least,)}, "j": {"a": (_box(0, 0),)}})
    assert joined["i"].value == (least,)
    assert 0.5 < joined["i"].confidence < 1.0


def test_ten_thousand_answers_on_one_item_are_no_trouble() -> None:
    state = LiveBoxes()
    for k in range(10_000):
        state.add("i", f"w{k}", (_box(0.0, 0.0),) if k < 3 else ())
    joined = state.posterior("i")
    assert joined.value == ()
    assert joined.confidence == pytest.approx(1.0, abs=1e-6)


def test_what_most_mark_is_there_and_what_one_of_many_marks_is_doubtful() -> None:
    state = LiveBoxes()
    for who in "abcd":
        state.add("item", who, (_box(0.0, 0.0),))
    state.add("item", "e", (_box(1.0, 0.0), _box(100.0, 0.0)))
    joined = state.posterior("item")
    assert [round(box.x) for box in joined.value] == [0]
    assert joined.objects[0].exists > 0.99
    assert joined.objects[0].labelers == ("a", "b", "c", "d", "e")
    assert [box.object.x for box in joined.doubtful] == [100.0]
    assert joined.doubtful[0].exists < 0.05


def test_nothing_marked_by_all_is_nothing_there() -> None:
    state = LiveBoxes()
    once, twice = state.update("item", "a", ()), state.update("item", "b", ())
    assert once.value == twice.value == ()
    assert once.confidence < twice.confidence
    assert sum(part.weight for part in twice.evidence) == pytest.approx(1.0)


def test_one_answer_is_the_value_but_no_certainty() -> None:
    joined = LiveBoxes(classes=3).update("item", "a", (_box(3.0, 4.0),))
    assert joined.value == (_box(3.0, 4.0),)
    assert 0.4 < joined.confidence < 0.9


def test_a_gross_box_hardly_moves_the_others() -> None:
    state = LiveBoxes()
    for who, x in zip("abcde", (0.1, 0.2, 0.3, 0.2, 8.0), strict=True):
        state.add("item", who, (_box(x, 0.1),))
    joined = state.posterior("item")
    assert joined.value[0].x == pytest.approx(0.3, abs=0.3)
    assert min(joined.evidence, key=lambda part: part.weight).labeler == "e"


def test_edges_in_whole_pixels_stay_so_and_others_do_not_become_so() -> None:
    state = LiveBoxes()
    for who, x in zip("abc", (0.0, 1.0, 1.0), strict=True):
        state.add("whole", who, (_box(x, 0.0),))
        state.add("part", who, (_box(x + 0.25, 0.0),))
    assert state.posterior("whole").value[0].x == 1.0
    assert 0.25 < state.posterior("part").value[0].x % 1.0 + 0.25 < 1.25
    assert state.posterior("part").value[0].x != round(state.posterior("part").value[0].x)


def test_classes_and_attributes_are_voted_on_and_numbers_are_medians() -> None:
    state = LiveBoxes(classes=3)
    for who, named, turned, size in (("a", "x", True, 1.0), ("b", "y", True, 5.0), ("c", "x", False, 2.0)):
        attributes = (("size", size), ("turned", turned)) + ((("rare", "z"),) if who == "a" else ())
        state.add("item", who, (replace(_box(0.0, 0.0, class_id=named), attributes=attributes),))
    joined = state.posterior("item")
    assert joined.value[0].class_id == "x"
    assert joined.value[0].attributes == (("size", 2.0), ("turned", True))
    assert joined.objects[0].class_right < 0.99


def test_a_box_drawn_twice_is_one_object() -> None:
    state = LiveBoxes()
    for who in "abcd":
        state.add("item", who, (_box(0.0, 0.0), _box(1.0, 1.0)) if who == "a" else (_box(0.0, 0.0),))
    assert len(state.posterior("item").value) == 1


def test_what_half_draw_twice_is_one_object_and_what_most_draw_twice_is_two() -> None:
    for twice, expected in (("ab", 1), ("abc", 2)):
        state = LiveBoxes()
        for who in "abcd":
            both = (_box(0.0, 0.0), _box(4.0, 0.0))
            state.add("item", who, both if who in twice else both[:1])
        assert len(state.posterior("item").value) == expected


def test_who_misses_invents_confuses_and_trembles_is_learnt(crowd: BoxCrowd, fitted: LiveBoxes) -> None:
    found = [fitted.reliability(who) for who in fitted.labelers()]
    assert np.abs([f.recall for f in found] - crowd.recall).max() < 0.12
    assert np.abs([f.false_alarms for f in found] - crowd.false_alarms).max() < 0.3
    assert np.abs([f.class_accuracy for f in found] - (crowd.accuracy * 0.8 + 0.2)).max() < 0.12
    assert fitted.reliability("nobody").recall == pytest.approx(np.mean([f.recall for f in found]), abs=0.1)


def test_it_finds_more_than_greedy_matching_and_majority(crowd: BoxCrowd, fitted: LiveBoxes) -> None:
    ours = judge({item: fitted.posterior(item).value for item in crowd.answers}, crowd.truth)
    greedy = judge(greedy_majority(crowd.answers), crowd.truth)
    assert ours["f1"] >= greedy["f1"]
    assert ours["iou"] >= greedy["iou"]


@pytest.mark.parametrize("oddity", [{"twice": 0.1, "merged": 0.1}, {"shared_false": 2.0}, {"span": 250.0}])
def test_boxes_drawn_twice_as_one_or_in_common_error_do_not_upset_it(oddity: dict[str, float]) -> None:
    crowd = box_crowd(items=60, seed=5, **oddity)  # type: ignore[arg-type]
    ours = {item: joined.value for item, joined in LiveBoxes(classes=5).fit(crowd.answers).items()}
    greedy = greedy_majority(crowd.answers)
    assert judge(ours, crowd.truth)["f1"] >= judge(greedy, crowd.truth)["f1"] - 0.005


def test_confidence_is_the_f1_that_comes_true(crowd: BoxCrowd, fitted: LiveBoxes) -> None:
    joined = {item: fitted.posterior(item) for item in crowd.answers}
    said = np.array([joined[item].confidence for item in crowd.answers])
    was = np.array([object_f1(joined[item].value, crowd.truth[item]) for item in crowd.answers])
    assert said.mean() == pytest.approx(was.mean(), abs=0.02)
    sure = said >= 0.95
    assert sure.mean() > 0.4
    assert was[sure].mean() >= 0.95


def test_each_chance_of_an_object_comes_true(crowd: BoxCrowd, fitted: LiveBoxes) -> None:
    pairs = [(one, crowd.truth[item]) for item in crowd.answers for one in fitted.posterior(item).objects]
    near = np.array(
        [max([0.0, *(iou(edges([o.object]), edges([t]))[0] for t in truth)]) for o, truth in pairs]
    )
    said = np.array([o.exists * o.place_right for o, _ in pairs])
    assert said.mean() == pytest.approx((near >= 0.5).mean(), abs=0.02)


def test_coordinates_are_off_by_what_is_said(crowd: BoxCrowd, fitted: LiveBoxes) -> None:
    off, said = [], []
    for item, truth in crowd.truth.items():
        for one in fitted.posterior(item).objects:
            alike = [iou(edges([one.object]), edges([box]))[0] for box in truth]
            if alike and max(alike) > 0.5:
                error = edges([one.object])[0] - edges([truth[int(np.argmax(alike))]])[0]
                off += list(error)
                said += list(fitted.coordinate_sd(one))
    assert np.median(np.abs(off)) == pytest.approx(0.67 * np.median(said), rel=0.5)


def test_known_truths_teach_who_is_right() -> None:
    here, there = _box(0.0, 0.0), _box(100.0, 0.0)
    state, taught = LiveBoxes(), LiveBoxes()
    answers = {f"i{k:02d}": {"careful": (here,), "wild": (here, there)} for k in range(20)}
    state.fit(answers)
    taught.fit(answers, {f"i{k:02d}": (here,) for k in range(15)})
    assert taught.posterior("i00").value == (here,)
    assert taught.posterior("i19").value == (here,)
    assert taught.reliability("wild").false_alarms > 5.0 * taught.reliability("careful").false_alarms
    assert taught.posterior("i19").confidence > state.posterior("i19").confidence


@given(st.permutations(range(5)), st.floats(-1e4, 1e4), st.floats(0.01, 100.0))
@settings(max_examples=25, deadline=None)
def test_names_and_where_the_origin_lies_and_how_large_a_pixel_is_make_no_difference(
    names: list[int], shift: float, scale: float
) -> None:
    crowd = box_crowd(items=1, labelers=5, each=5, seed=9)
    votes = crowd.answers["i0000"]

    def moved(box: Box) -> Box:
        at = (box.x * scale + shift, box.y * scale + shift)
        return Box(box.class_id, *at, box.width * scale, box.height * scale)

    plain, other = LiveBoxes(), LiveBoxes()
    for k, who in enumerate(sorted(votes)):
        plain.add("item", who, votes[who])
        other.add("item", f"n{names[k]}", tuple(moved(box) for box in votes[who]))
    here, there = plain.posterior("item"), other.posterior("item")
    assert there.confidence == pytest.approx(here.confidence, abs=1e-6)
    expected = edges([moved(box) for box in here.value])
    assert edges(there.value) == pytest.approx(expected, rel=1e-6, abs=1e-4 * scale)


def test_two_hundred_boxes_of_ten_labelers_are_joined() -> None:
    crowd = box_crowd(items=1, labelers=10, each=10, objects=200.0, span=3000.0, seed=1)
    state = LiveBoxes(classes=5)
    for who, answer in crowd.answers["i0000"].items():
        state.add("item", who, answer)
    assert object_f1(state.posterior("item").value, crowd.truth["i0000"]) > 0.95


def test_degenerate_crowds_are_no_trouble() -> None:
    one = LiveBoxes()
    one.fit({f"i{k}": {"only": (_box(0.0, 0.0),) * k} for k in range(4)})
    assert len(one.posterior("i1").value) == 1
    nothing = LiveBoxes()
    nothing.fit({f"i{k}": {"a": (), "b": ()} for k in range(4)})
    assert nothing.posterior("i0").confidence > 0.9
    tiny = LiveBoxes()
    tiny.fit({"i": {"a": (_box(0.0, 0.0, 1e-9, 1e9),), "b": (_box(0.0, 0.0, 1e-9, 1e9),)}})
    assert tiny.posterior("i").value == (_box(0.0, 0.0, 1e-9, 1e9),)


def test_a_cell_is_read_and_what_is_none_is_told() -> None:
    assert read("[1, 2, 4, 6]") == (Box("", 1.0, 2.0, 3.0, 4.0),)
    assert read('[[1, 2, 4, 6], [0, 0, 1, 1, "cat"]]')[1] == Box("cat", 0.0, 0.0, 1.0, 1.0)
    assert read("[]") == ()
    for wrong in ("x", "[1, 2, 3]", "[[1, 2, 1, 6]]", '{"a": 1}', "[[1, 2, null, 6]]", "[[NaN, 2, 3, 6]]"):
        with pytest.raises(ValueError):
            read(wrong)


def test_every_method_can_be_scored() -> None:
    crowd = box_crowd(items=20, seed=4)
    scores = {name: judge(method(crowd.answers), crowd.truth) for name, method in METHODS.items()}
    assert next(iter(scores)) == "LiveBoxes"
    assert scores["LiveBoxes"]["iou"] >= max(scores["MedoidAnswer"]["iou"], scores["FirstAnswer"]["iou"])
    assert mean_iou((), ()) == object_f1((), ()) == 1.0
    assert mean_iou((_box(0, 0),), ()) == object_f1((), (_box(0, 0),)) == 0.0
    assert judge({}, {}) == {"iou": 0.0, "f1": 0.0}


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_three_radiologists_foretell_the_fourth_better_than_the_median_does() -> None:
    readers: dict[str, list[Box]] = {}
    with (DATA / "lidc_nodule_polygons" / "polygons.csv").open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            x0, y0, x1, y1 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
            readers.setdefault(row["item"], []).append(Box("", x0, y0, x1 + 1.0 - x0, y1 + 1.0 - y0))
    four = {item: boxes for item, boxes in sorted(readers.items()) if len(boxes) == 4}
    answers = {item: {f"r{k}": (boxes[k],) for k in range(3)} for item, boxes in four.items()}
    truth = {item: (boxes[3],) for item, boxes in four.items()}
    ours = judge(METHODS["LiveBoxes"](answers), truth)["iou"]
    assert ours > judge(METHODS["MedianBox"](answers), truth)["iou"]
    assert ours > 0.80
