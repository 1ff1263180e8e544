"""Crowds that draw shapes of any kind: they miss some, invent some, draw some twice and some two as one, each sloppily.

Beside them what most pipelines do with their answers: greedy matching, and a majority of coordinates or pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.cuboids import Cuboid, LiveCuboids
from cairn_truth.shapes.ellipses import Ellipse, LiveEllipses
from cairn_truth.shapes.keypoints import Keypoint, LiveSkeletons, Skeleton
from cairn_truth.shapes.matching import assigned
from cairn_truth.shapes.objects import LiveObjects
from cairn_truth.shapes.polygons import LivePolygons, Polygon, rings, traced
from cairn_truth.shapes.polylines import LivePolylines, Polyline, points_of, walk
from cairn_truth.shapes.raster import Grid, filled
from cairn_truth.shapes.rotated_boxes import LiveRotatedBoxes, RotatedBox
from cairn_truth.shapes.tracks import Keyframe, LiveTracks, Track, edges_at

Chance = np.random.Generator
Answers = Mapping[str, Mapping[str, tuple[Any, ...]]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]

SIZE = 80.0
"""Pixels along a shape, more or less."""

LAST = 60
"""The last frame of a track."""


@dataclass(frozen=True)
class Drawing:
    """How one kind of shape is made about a place, drawn by a hand of some spread (in sizes), and taken two for one.

    ``majority`` joins several by their coordinates or pixels, one as good as the other.
    """

    live: Callable[[], LiveObjects[Any]]
    made: Callable[[Chance, Numbers], Any]
    drawn: Callable[[Chance, Any, float], Any]
    as_one: Callable[[Any, Any], Any]
    majority: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class ShapeCrowd:
    """Item to labeler to shapes, with the true shapes."""

    answers: dict[str, dict[str, tuple[Any, ...]]]
    truth: dict[str, tuple[Any, ...]]


def shape_crowd(
    how: Drawing,
    *,
    items: int = 30,
    labelers: int = 8,
    each: int = 4,
    objects: float = 3.0,
    span: float = 500.0,
    miss: float = 0.15,
    false: float = 0.3,
    spread: float = 0.05,
    accuracy: float = 0.9,
    twice: float = 0.0,
    merged: float = 0.0,
    seed: int = 0,
) -> ShapeCrowd:
    """Draw a crowd; rates are the crowd's means, and labelers differ widely."""
    chance = np.random.default_rng(seed)
    recall = chance.beta(6.0 * (1.0 - miss), 6.0 * miss, labelers)
    alarms = chance.gamma(1.0, false, labelers)
    right = chance.beta(6.0 * accuracy, 6.0 * (1.0 - accuracy), labelers)
    hand = spread * np.exp(chance.normal(0.0, 0.5, labelers))
    answers: dict[str, dict[str, tuple[Any, ...]]] = {}
    truth: dict[str, tuple[Any, ...]] = {}

    def made() -> Any:
        shape = how.made(chance, chance.uniform(SIZE, span, 2))
        return replace(shape, class_id="abc"[chance.integers(3)])

    def drawn(shape: Any, k: int) -> Any:
        named = shape.class_id if chance.random() < right[k] else "abc"[chance.integers(3)]
        return replace(how.drawn(chance, shape, hand[k]), class_id=named)

    for number in range(items):
        item = f"i{number:03d}"
        truth[item] = tuple(made() for _ in range(chance.poisson(objects)))
        answers[item] = {}
        for k in chance.choice(labelers, each, replace=False).tolist():
            seen = [one for one in truth[item] if chance.random() < recall[k]]
            given = [drawn(one, k) for one in seen]
            given += [drawn(one, k) for one in seen if chance.random() < twice]
            given += [made() for _ in range(chance.poisson(alarms[k]))]
            if len(given) > 1 and chance.random() < merged:
                given = [replace(how.as_one(given[0], given[1]), class_id=given[0].class_id), *given[2:]]
            answers[item][f"w{k}"] = tuple(_named(given))
    return ShapeCrowd(answers, {item: tuple(_named(shapes)) for item, shapes in truth.items()})


def _named(shapes: Sequence[Any]) -> Sequence[Any]:
    return [replace(one, id=f"t{k}") if isinstance(one, Track) else one for k, one in enumerate(shapes)]


def greedy_majority(how: Drawing, answers: Answers) -> dict[str, tuple[Any, ...]]:
    """Return the shapes that half of an item's labelers marked: each joins the first cluster that it is like."""
    live = how.live()
    joined = {}
    for item, votes in answers.items():
        clusters: list[list[Any]] = []
        for who in sorted(votes):
            taken: set[int] = set()
            for shape in votes[who]:
                open_ = [k for k in range(len(clusters)) if k not in taken]
                first = [clusters[k][0] for k in open_]
                alike = live._similarity([shape] * len(first), first) if first else np.zeros(0)
                near = [k for k, a in zip(open_, alike.tolist(), strict=True) if a > 0.5]
                taken.add(near[0] if near else len(clusters))
                if near:
                    clusters[near[0]].append(shape)
                else:
                    clusters.append([shape])
        kept = [cluster for cluster in clusters if 2 * len(cluster) >= len(votes)]
        shapes = []
        for cluster in kept:
            named = [one.class_id for one in cluster]
            most = min(named, key=lambda name: (-named.count(name), name))
            shapes.append(replace(how.majority(cluster), class_id=most))
        joined[item] = tuple(_named(shapes))
    return joined


def f1_and_overlap(
    how: Drawing, values: Mapping[str, Sequence[Any]], truth: Mapping[str, Sequence[Any]]
) -> tuple[float, float]:
    """Return mean F1 of shapes found in the right class at likeness .5, and with likenesses summed whatever the class."""
    live = how.live()
    f1, soft = [], []
    for item, true in truth.items():
        value = values[item]
        if not value or not true:
            f1.append(float(not value and not true))
            soft.append(f1[-1])
            continue
        ones = [a for a in value for _ in true]
        others = [b for _ in value for b in true]
        table = live._similarity(ones, others).reshape(len(value), len(true))
        same = np.array([[a.class_id == b.class_id for b in true] for a in value])
        both = 0.5 * (len(value) + len(true))
        f1.append(assigned(((table >= 0.5) & same) * 1.0, 0.5)[0].size / both)
        soft.append(float(table[assigned(table, 0.0)].sum()) / both)
    return float(np.mean(f1)), float(np.mean(soft))


# --- polygons


def _wave(chance: Chance, at: Numbers, waves: int = 5) -> Numbers:
    """A smooth wave around a circle at angles, of deviation one."""
    phase, size = chance.uniform(0.0, 2.0 * np.pi, waves), chance.normal(size=waves)
    order = np.arange(1, waves + 1)
    return np.asarray(np.cos(order * at[:, None] + phase) @ size / np.sqrt(waves / 2.0))


def _blob(chance: Chance, middle: Numbers) -> Polygon:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    away = SIZE / 2.0 * (1.0 + 0.2 * _wave(chance, angle, 3).clip(-2.0, 2.0))
    return _polygon(middle + away[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _outlined(chance: Chance, shape: Polygon, spread: float) -> Polygon:
    return _point_by_point(chance, _begun_anywhere(chance, shape), spread)


def _begun_anywhere(chance: Chance, shape: Polygon) -> Polygon:
    """The same outline from another point on, either way round."""
    ring = rings(shape)[0]
    return _polygon(np.roll(ring, chance.integers(len(ring)), axis=0)[:: chance.choice([-1, 1])])


def _point_by_point(chance: Chance, shape: Polygon, spread: float) -> Polygon:
    ring = rings(shape)[0]
    middle = ring.mean(axis=0)
    off = ring - middle
    angle = np.arctan2(off[:, 1], off[:, 0])
    drawn = middle + off * (1.0 + 2.0 * spread * _wave(chance, angle))[:, None]
    return _polygon(drawn + chance.normal(0.0, spread * SIZE / 2.0, 2))


def _polygon(ring: Numbers) -> Polygon:
    return Polygon("", tuple(ring.ravel().tolist()))


def _around(one: Polygon, other: Polygon) -> Polygon:
    points = np.concatenate([rings(one)[0], rings(other)[0]])
    off = points - points.mean(axis=0)
    return _polygon(points[np.argsort(np.arctan2(off[:, 1], off[:, 0]), kind="stable")])


def _most_pixels(shapes: Sequence[Polygon]) -> Polygon:
    points = np.concatenate([rings(one)[0] for one in shapes])
    grid = Grid.over(np.concatenate([points.min(axis=0), points.max(axis=0)]), 64)
    votes = np.mean([filled(rings(one), grid) for one in shapes], axis=0)
    return traced(votes - 0.5 + 1e-6, grid) or shapes[0]


# --- polylines


def _lane(chance: Chance, middle: Numbers) -> Polyline:
    t = np.linspace(-1.0, 1.0, 30)
    turn = chance.uniform(0.0, np.pi)
    along = np.stack([np.cos(turn) * t, np.sin(turn) * t], axis=1) * 1.5 * SIZE
    bend = 0.3 * SIZE * _wave(chance, t * np.pi / 2.0, 2)
    return _line(middle + along + bend[:, None] * np.array([-np.sin(turn), np.cos(turn)]))


def _line(points: Numbers) -> Polyline:
    return Polyline("", tuple(points.ravel().tolist()))


def _lined(chance: Chance, shape: Polyline, spread: float) -> Polyline:
    line = points_of(shape)
    t = np.linspace(-1.0, 1.0, len(line)) * np.pi / 2.0
    off = np.stack([_wave(chance, t, 3), _wave(chance, t, 3)], axis=1)
    kept = np.sort(chance.choice(np.arange(1, len(line) - 1), 12, replace=False))
    drawn = (line + 2.0 * spread * SIZE * off)[[0, *kept, len(line) - 1]]
    return _line(drawn[:: chance.choice([-1, 1])])


def _mean_line(shapes: Sequence[Polyline]) -> Polyline:
    walked = [walk(points_of(one), 64) for one in shapes]
    first = walked[0]
    turned = [
        w if np.square(w - first).sum() <= np.square(w[::-1] - first).sum() else w[::-1] for w in walked
    ]
    return _line(np.median(turned, axis=0))


# --- turned shapes, cuboids, skeletons


def _turned(chance: Chance, middle: Numbers) -> RotatedBox:
    width, height = SIZE * np.exp(chance.normal(0.0, 0.4, 2))
    return RotatedBox("", *middle.tolist(), float(width), float(height), float(chance.uniform(0.0, 180.0)))


def _turned_by_hand(chance: Chance, shape: RotatedBox, spread: float) -> RotatedBox:
    noise = spread * chance.standard_t(4.0, 5)
    return RotatedBox(
        "",
        shape.center_x + noise[0] * SIZE,
        shape.center_y + noise[1] * SIZE,
        shape.width * float(np.exp(noise[2])),
        shape.height * float(np.exp(noise[3])),
        (shape.rotation_degrees + 60.0 * noise[4]) % 180.0,
    )


def _turned_around(one: RotatedBox, other: RotatedBox) -> RotatedBox:
    x, y = (one.center_x + other.center_x) / 2.0, (one.center_y + other.center_y) / 2.0
    wide = abs(one.center_x - other.center_x) + one.width
    return RotatedBox("", x, y, wide, abs(one.center_y - other.center_y) + one.height, 0.0)


def _median_turned(shapes: Sequence[RotatedBox]) -> RotatedBox:
    numbers = [(b.center_x, b.center_y, b.width, b.height, b.rotation_degrees % 180.0) for b in shapes]
    return RotatedBox("", *np.median(numbers, axis=0).tolist())


def _ellipse(box: RotatedBox) -> Ellipse:
    return Ellipse("", box.center_x, box.center_y, box.width / 2.0, box.height / 2.0, box.rotation_degrees)


def _box_around(one: Ellipse) -> RotatedBox:
    return RotatedBox(
        "", one.center_x, one.center_y, 2.0 * one.radius_x, 2.0 * one.radius_y, one.rotation_degrees
    )


def _cuboid(chance: Chance, middle: Numbers) -> Cuboid:
    width, height = SIZE * np.exp(chance.normal(0.0, 0.3, 2))
    front = middle + np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    back = front + SIZE * chance.uniform(-0.5, 0.5, 2)
    return Cuboid("", tuple(np.concatenate([front, back]).ravel().tolist()))


def _corners_by_hand(chance: Chance, shape: Cuboid, spread: float) -> Cuboid:
    at = np.array(shape.corners) + spread * SIZE * chance.standard_t(3.0, 16)
    return Cuboid("", tuple(at.tolist()))


def _skeleton(chance: Chance, middle: Numbers) -> Skeleton:
    points = middle + SIZE * chance.normal(0.0, 0.5, (12, 2))
    return Skeleton("", tuple(Keypoint(f"p{k:02d}", x, y) for k, (x, y) in enumerate(points.tolist())))


def _points_by_hand(chance: Chance, shape: Skeleton, spread: float) -> Skeleton:
    """Some points are left out, and some put somewhere else altogether."""
    points = []
    for p in shape.keypoints:
        if chance.random() < 0.9:
            x, y = spread * SIZE * chance.normal(size=2) * (8.0 if chance.random() < 0.05 else 1.0)
            points.append(Keypoint(p.point, p.x + float(x), p.y + float(y)))
    return Skeleton("", tuple(points) or shape.keypoints)


def _half_and_half(one: Skeleton, other: Skeleton) -> Skeleton:
    upper = [p for p in one.keypoints if p.point < "p06"]
    lower = [p for p in other.keypoints if p.point >= "p06"]
    return Skeleton("", (*upper, *lower) or one.keypoints)


def _median_points(shapes: Sequence[Skeleton]) -> Skeleton:
    at: dict[str, list[tuple[float, float]]] = {}
    for one in shapes:
        for p in one.keypoints:
            at.setdefault(p.point, []).append((p.x, p.y))
    most = {name: xy for name, xy in sorted(at.items()) if 2 * len(xy) >= len(shapes)}
    return Skeleton("", tuple(Keypoint(n, *np.median(xy, axis=0).tolist()) for n, xy in most.items()))


# --- tracks


def _walking(at: Callable[[Chance, Numbers], Any], key: Callable[[int, Any], Keyframe]) -> Any:
    """Return how a shape is made that walks, shapes at later frames being the first one drawn elsewhere."""

    def made(chance: Chance, middle: Numbers) -> Track:
        shape, way = at(chance, middle), chance.uniform(-2.5, 2.5, 2)
        bend = 20.0 * chance.normal(size=2)
        keys = []
        for frame in range(0, LAST + 1, 5):
            off = way * frame + bend * np.sin(frame / 10.0)
            keys.append(key(frame, moved(shape, off)))
        return Track("t", "", tuple(keys))

    return made


def moved(shape: Any, off: Numbers) -> Any:
    """Return a shape put elsewhere."""
    x, y = off.tolist()
    if isinstance(shape, Box):
        return replace(shape, x=shape.x + x, y=shape.y + y)
    if isinstance(shape, Polygon):
        return replace(shape, outline=tuple((np.array(shape.outline).reshape(-1, 2) + off).ravel().tolist()))
    if isinstance(shape, Skeleton):
        return replace(shape, keypoints=tuple(replace(p, x=p.x + x, y=p.y + y) for p in shape.keypoints))
    return replace(shape, center_x=shape.center_x + x, center_y=shape.center_y + y)


def _followed(
    by_hand: Callable[[Chance, Any, float], Any], key: Callable[[int, Any], Keyframe]
) -> Callable[[Chance, Track, float], Track]:
    """Return how a track is drawn: some of its keyframes, each by hand; its first or last may be late or early."""

    def drawn(chance: Chance, track: Track, spread: float) -> Track:
        late, early = (chance.integers(0, 2) for _ in range(2))
        whole = track.keyframes[late : len(track.keyframes) - early]
        inner = np.sort(chance.choice(np.arange(1, len(whole) - 1), (len(whole) - 2) // 2, replace=False))
        chosen = [whole[0], *(whole[k] for k in inner.tolist()), whole[-1]]
        return Track("t", "", tuple(key(k.frame, by_hand(chance, k.place, spread)) for k in chosen))

    return drawn


def _first_then_other(one: Track, other: Track) -> Track:
    """Identities swapped half way."""
    return Track(
        "t",
        "",
        (
            *(k for k in one.keyframes if k.frame <= LAST // 2),
            *(k for k in other.keyframes if k.frame > LAST // 2),
        ),
    )


def _median_track(shapes: Sequence[Track]) -> Track:
    frames = sorted({key.frame for one in shapes for key in one.keyframes})
    found = np.stack([edges_at(one, np.array(frames)) for one in shapes])
    keys = []
    for k, frame in enumerate(frames):
        seen = found[~np.isnan(found[:, k, 0]), k]
        if 2 * len(seen) >= len(shapes):
            x0, y0, x1, y1 = np.median(seen, axis=0).tolist()
            keys.append(_box_key(frame, Box("", x0, y0, max(x1 - x0, 1.0), max(y1 - y0, 1.0))))
    return Track("t", "", tuple(keys)) if keys else shapes[0]


def _box(chance: Chance, middle: Numbers) -> Box:
    width, height = SIZE * np.exp(chance.normal(0.0, 0.4, 2))
    return Box("", *middle.tolist(), float(width), float(height))


def _box_by_hand(chance: Chance, box: Box, spread: float) -> Box:
    noise = spread * SIZE * chance.standard_t(4.0, 4)
    width, height = max(box.width + noise[2], 2.0), max(box.height + noise[3], 2.0)
    return Box("", box.x + noise[0], box.y + noise[1], width, height)


def _box_key(frame: int, box: Box) -> Keyframe:
    return Keyframe(frame, box)


def _shape_key(frame: int, shape: Any) -> Keyframe:
    return Keyframe(frame, shape=shape)


def _tracks(
    shape: type[Any],
    at: Callable[[Chance, Numbers], Any],
    by_hand: Callable[[Chance, Any, float], Any],
    key: Callable[[int, Any], Keyframe] = _shape_key,
    majority: Callable[[Sequence[Any]], Any] = lambda shapes: shapes[0],
) -> Drawing:
    return Drawing(
        lambda: LiveTracks(shape=shape),
        _walking(at, key),
        _followed(by_hand, key),
        _first_then_other,
        majority,
    )


def _outlined_all_along(chance: Chance, track: Track, spread: float) -> Track:
    """A track of outlines begun anywhere, but alike at all its keyframes: they move point by point."""
    start = chance.integers(2**32)
    begun = [_begun_anywhere(np.random.default_rng(start), key.place) for key in track.keyframes]
    keys = tuple(_shape_key(key.frame, outline) for key, outline in zip(track.keyframes, begun, strict=True))
    return _followed(_point_by_point, _shape_key)(chance, replace(track, keyframes=keys), spread)


def _ellipse_by_hand(chance: Chance, shape: Ellipse, spread: float) -> Ellipse:
    return _ellipse(_turned_by_hand(chance, _box_around(shape), spread))


DRAWINGS: Mapping[str, Drawing] = {
    "polygons": Drawing(LivePolygons, _blob, _outlined, _around, _most_pixels),
    "polylines": Drawing(
        LivePolylines,
        _lane,
        _lined,
        lambda a, b: Polyline("", (*a.line, *b.line)),
        _mean_line,
    ),
    "rotated boxes": Drawing(LiveRotatedBoxes, _turned, _turned_by_hand, _turned_around, _median_turned),
    "ellipses": Drawing(
        LiveEllipses,
        lambda chance, middle: _ellipse(_turned(chance, middle)),
        _ellipse_by_hand,
        lambda a, b: _ellipse(_turned_around(_box_around(a), _box_around(b))),
        lambda shapes: _ellipse(_median_turned([_box_around(one) for one in shapes])),
    ),
    "cuboids": Drawing(
        LiveCuboids,
        _cuboid,
        _corners_by_hand,
        lambda a, b: Cuboid("", (*a.corners[:8], *b.corners[8:])),
        lambda shapes: Cuboid("", tuple(np.median([one.corners for one in shapes], axis=0).tolist())),
    ),
    "skeletons": Drawing(
        LiveSkeletons,
        _skeleton,
        _points_by_hand,
        _half_and_half,
        _median_points,
    ),
    "tracks": _tracks(Box, _box, _box_by_hand, _box_key, _median_track),
}
"""Shapes for which there is a majority of coordinates or pixels."""

TRACKS: Mapping[str, Drawing] = {
    "boxes": DRAWINGS["tracks"],
    "rotated boxes": _tracks(RotatedBox, _turned, _turned_by_hand),
    "ellipses": _tracks(Ellipse, lambda c, m: _ellipse(_turned(c, m)), _ellipse_by_hand),
    "polygons": replace(_tracks(Polygon, _blob, _point_by_point), drawn=_outlined_all_along),
    "skeletons": _tracks(Skeleton, _skeleton, _points_by_hand),
}
"""Tracks of every shape."""
