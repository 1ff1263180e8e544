"""Outlines of lung nodules: three readers' consensus against the fourth, every reader left out once."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cairn_truth.measured.score_masks import Answer, grid_around, live_masks, overlap, read, region
from cairn_truth.shapes.masks import LiveMasks, mean_iou
from cairn_truth.shapes.polygons import LivePolygons
from cairn_truth.shapes.raster import Bools, encoded
from libs.truth.tests.test_masks import crowd as mask_crowd
from tests.benchmarks.rows import Row, Rows, folder, seconds
from tests.benchmarks.truth.bench_boxes import shapes_against_majority

_READERS = 4


def rows(data: Path) -> Rows:
    """Yield what simulated crowds show, and the mean IoU with the reader left out beside pixel majority's."""
    yield from shapes_against_majority("polygons", "polylines")
    yield from _several_classes()
    items = _outlines(folder(data, "lidc_nodule_polygons") / "polygons.csv")
    found: dict[str, list[float]] = {"polygons": [], "masks": [], "majority": [], "reader": [], "medoid": []}
    confidence: list[float] = []
    for left_out in range(_READERS):
        three = {
            item: {who: outline for k, (who, outline) in enumerate(sorted(votes.items())) if k != left_out}
            for item, votes in items.items()
        }
        other = {item: sorted(votes.items())[left_out][1] for item, votes in items.items()}
        live = LivePolygons()
        joined = live.fit(three)
        masks = live_masks(three)
        confidence += [joined[item].confidence for item in items]
        for item, votes in three.items():
            found["polygons"].append(overlap(joined[item].value, other[item]))
            found["masks"].append(overlap(masks[item], other[item]))
            for name, iou in _simple(list(votes.values()), other[item]).items():
                found[name].append(iou)
    mean = {name: float(np.mean(ious)) for name, ious in found.items()}
    best = mean["majority"]
    yield Row(
        "outlines, three readers against the fourth", "IoU", mean["polygons"], best, "majority", least=0.805
    )
    yield Row("the same as masks", "IoU", mean["masks"], best, "majority")
    yield Row("the same, by the medoid", "IoU", mean["medoid"], best, "majority")
    yield Row("the same, one reader against another", "IoU", mean["reader"], best, "majority")
    within = float(np.mean(np.array(found["polygons"]) >= 0.5))
    yield Row(
        "outlines' confidence, over share within IoU .5", "", float(np.mean(confidence)), within, "right"
    )
    yield from _speed(items)


def _several_classes() -> Rows:
    """Yield what masks of several classes say of themselves, over hands that are more or less sloppy."""
    for classes in (1, 2, 3, 5):
        said, was = [], []
        for blurs in ((0.7, 1.0, 1.0), (0.5, 1.0, 1.5, 1.5), (1.0, 2.0, 2.0), (1.0, 2.0, 2.0, 3.0, 3.0, 3.0)):
            answers, truth = mask_crowd(seed=9, items=20, blurs=blurs, classes=classes)
            for item, joined in LiveMasks(classes).fit(answers).items():
                said.append(joined.confidence)
                was.append(0.0 if joined.value is None else mean_iou(joined.value, encoded(truth[item])))
        yield Row(
            f"masks of {classes} classes, simulated: confidence",
            "IoU",
            float(np.mean(said)),
            float(np.mean(was)),
            "IoU",
        )


def _simple(three: Sequence[Answer], other: Answer) -> Mapping[str, float]:
    grid = grid_around([one for answer in (*three, other) for one in answer])
    masks, truth = [region(answer, grid) for answer in three], region(other, grid)
    alike = [sum(_iou(one, mask) for mask in masks) for one in masks]
    return {
        "majority": _iou(np.sum(masks, axis=0) >= 2, truth),
        "medoid": _iou(masks[int(np.argmax(alike))], truth),
        "reader": float(np.mean([_iou(mask, truth) for mask in masks])),
    }


def _iou(one: Bools, other: Bools) -> float:
    return float((one & other).sum() / (one | other).sum())


def _speed(items: Mapping[str, Mapping[str, Answer]]) -> Rows:
    live = LivePolygons()
    some = list(items)[:50]
    for item in some:
        for who, outline in items[item].items():
            live.add(item, who, outline)
    taken = seconds(lambda: [live._join(live.votes_on(item)) for item in some], runs=3)
    yield Row("one posterior of outlines, four answers", "ms", 1000.0 * taken[1] / len(some), spread=0.0)


def _outlines(path: Path) -> Mapping[str, Mapping[str, Answer]]:
    items: dict[str, dict[str, Answer]] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            items.setdefault(line["item"], {})[line["annotator"]] = read(line["polygon"])
    return {item: votes for item, votes in sorted(items.items()) if len(votes) == _READERS}
