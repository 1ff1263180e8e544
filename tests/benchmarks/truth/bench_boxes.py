"""Boxes: three radiologists against the fourth, and simulated crowds that miss, invent, and draw twice or two as one."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from time import process_time

import numpy as np

from cairn_truth.measured.score_boxes import METHODS, Answer, Answers, greedy_majority, judge, object_f1
from cairn_truth.shapes.boxes import Box, LiveBoxes, edges
from libs.truth.tests.box_crowds import box_crowd
from libs.truth.tests.shape_crowds import DRAWINGS, f1_and_overlap, shape_crowd
from libs.truth.tests.shape_crowds import greedy_majority as greedy_shapes
from tests.benchmarks.rows import Row, Rows, folder, seconds

_SEEDS = range(3)

_CROWDS: Mapping[str, Mapping[str, float]] = {
    "plain": {},
    "two answers an item": {"each": 2, "items": 150},
    "much missed and invented": {"edge": 0.1, "miss": 0.3, "false": 1.0},
    "drawn twice, two as one": {"twice": 0.1, "merged": 0.1},
    "distractors for all": {"shared_false": 2.0},
    "crowded": {"span": 250.0, "objects": 6.0},
    "few objects": {"objects": 0.5, "false": 0.3},
    "spammers": {"false": 2.0, "miss": 0.3, "labelers": 20},
    "twenty items": {"items": 20},
}


def rows(data: Path) -> Rows:
    """Yield the rows of boxes."""
    yield from _simulated()
    yield from shapes_against_majority("rotated boxes", "ellipses", "cuboids", "skeletons", "tracks")
    yield from _speed()
    yield from _radiologists(folder(data, "lidc_nodule_polygons"))


def _radiologists(folder: Path) -> Rows:
    """Yield how like the fourth reader's box the box of the other three is, each reader of a nodule being it once.

    Outlines run through the middles of pixels, and a box reaches to their far sides: one is added to x2 and y2.
    """
    readers: dict[str, list[Box]] = defaultdict(list)
    with (folder / "polygons.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            x0, y0, x1, y1 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
            readers[row["item"]].append(Box("", x0, y0, x1 + 1.0 - x0, y1 + 1.0 - y0))
    four = {item: boxes for item, boxes in sorted(readers.items()) if len(boxes) == 4}
    reached: dict[str, list[float]] = defaultdict(list)
    sure: list[tuple[float, float]] = []
    for last in range(4):
        truth: dict[str, Answer] = {item: (boxes[last],) for item, boxes in four.items()}
        answers: Answers = {
            item: {f"r{k}": (boxes[k],) for k in range(4) if k != last} for item, boxes in four.items()
        }
        for name in ("LiveBoxes", "MedianBox", "MedoidAnswer", "FirstAnswer"):
            reached[name].append(judge(METHODS[name](answers), truth)["iou"])
        reached["mean"].append(judge(_mean_box(answers), truth)["iou"])
        joined = LiveBoxes().fit(answers)
        sure += [(one.confidence, object_f1(one.value, truth[item])) for item, one in joined.items()]
    ours = float(np.mean(reached["LiveBoxes"]))
    what = "lidc_nodule_polygons: box of three readers against the fourth, mean IoU"
    for name in ("MedianBox", "mean", "MedoidAnswer", "FirstAnswer"):
        least = 0.812 if name == "MedianBox" else None
        yield Row(what, "IoU", ours, float(np.mean(reached[name])), name, least=least)
    said, was = np.mean(sure, axis=0)
    yield Row(
        "lidc_nodule_polygons: confidence, against hits of the fourth at IoU .5", "F1", said, was, "hits"
    )


def _mean_box(answers: Answers) -> dict[str, Answer]:
    value: dict[str, Answer] = {}
    for item, votes in answers.items():
        x0, y0, x1, y1 = np.mean([edges(answer)[0] for answer in votes.values()], axis=0).tolist()
        value[item] = (Box("", x0, y0, x1 - x0, y1 - y0),)
    return value


def _simulated() -> Rows:
    for name, made in _CROWDS.items():
        f1, greedy, said, stopped = [], [], [], []
        for seed in _SEEDS:
            crowd = box_crowd(seed=seed, **made)  # type: ignore[arg-type]
            joined = LiveBoxes(classes=5).fit(crowd.answers)
            was = [object_f1(one.value, crowd.truth[item]) for item, one in joined.items()]
            confidence = [one.confidence for one in joined.values()]
            f1.append(float(np.mean(was)))
            greedy.append(judge(greedy_majority(crowd.answers), crowd.truth)["f1"])
            said.append(float(np.mean(confidence)))
            stopped += [w for w, c in zip(was, confidence, strict=True) if c >= 0.95]
        what, rival = f"boxes, simulated, {name}", float(np.mean(greedy))
        spread = max(f1) - min(f1)
        yield Row(
            f"{what}: object F1", "F1", float(np.mean(f1)), rival, "greedy majority", rival, spread=spread
        )
        yield Row(f"{what}: confidence", "F1", float(np.mean(said)), float(np.mean(f1)), "F1 reached")
        if stopped:
            yield Row(f"{what}: F1 where confidence is .95", "F1", float(np.mean(stopped)), least=0.95)


_MESSY: Mapping[str, float] = {"twice": 0.1, "merged": 0.1, "miss": 0.25, "false": 0.6, "spread": 0.08}
"""Sloppy hands that miss a quarter, invent, draw some twice and some two as one."""


def shapes_against_majority(*kinds: str) -> Rows:
    """Yield F1 and summed likeness of shapes beside greedy matching with a majority of coordinates or pixels."""
    for kind in kinds:
        how = DRAWINGS[kind]
        found: dict[str, list[float]] = {"f1": [], "soft": [], "said": [], "greedy f1": [], "greedy soft": []}
        spent, objects = 0.0, 0
        for seed in _SEEDS:
            crowd = shape_crowd(how, items=15, seed=seed, **_MESSY)  # type: ignore[arg-type]
            began = process_time()
            joined = how.live().fit(crowd.answers)
            spent, objects = (
                spent + process_time() - began,
                objects + sum(len(one.value) for one in joined.values()),
            )
            ours = f1_and_overlap(how, {item: one.value for item, one in joined.items()}, crowd.truth)
            theirs = f1_and_overlap(how, greedy_shapes(how, crowd.answers), crowd.truth)
            for name, value in zip(("f1", "soft", "greedy f1", "greedy soft"), (*ours, *theirs), strict=True):
                found[name].append(value)
            found["said"].append(float(np.mean([one.confidence for one in joined.values()])))
        mean = {name: float(np.mean(values)) for name, values in found.items()}
        what, spread = f"{kind}, simulated, sloppy", max(found["f1"]) - min(found["f1"])
        yield Row(
            f"{what}: object F1",
            "F1",
            mean["f1"],
            mean["greedy f1"],
            "greedy majority",
            mean["greedy f1"],
            spread=spread,
        )
        yield Row(
            f"{what}: likenesses as F1",
            "F1",
            mean["soft"],
            mean["greedy soft"],
            "greedy majority",
            mean["greedy soft"],
        )
        yield Row(f"{what}: confidence", "F1", mean["said"], mean["f1"], "F1 reached")
        yield Row(
            f"{what}: fit and posteriors, processor time an object", "ms", 1e3 * spent / max(objects, 1)
        )


def _speed() -> Rows:
    crowd = box_crowd(items=1, labelers=10, each=10, objects=10.0, span=1500.0, seed=0)
    state = LiveBoxes(classes=5)
    state.fit(crowd.answers)

    who, answer = next(iter(crowd.answers["i0000"].items()))
    taken = seconds(lambda: state.update("i0000", who, answer), 30)
    yield Row(
        "boxes: update of an item of ten answers of ten boxes, least of 30", "ms", taken[0] * 1e3, most=10.0
    )
    for items in (250, 500):
        many = box_crowd(items=items, seed=1)
        state = LiveBoxes(classes=5)
        for item, votes in many.answers.items():
            for who, answer in votes.items():
                state.add(item, who, answer)
        taken = seconds(state.refit, 3)
        yield Row(f"boxes: refit of {4 * items} answers of four boxes", "s", taken[1])
