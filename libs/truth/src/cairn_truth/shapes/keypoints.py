"""Skeletons of named points; likeness is COCO's object keypoint similarity (OKS)."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..columns import Floats, check_instance, checked_name
from .attributes import Attributes
from .fields import extent, parts, pixels
from .joined import JoinedObject
from .objects import LiveObjects
from .robust import student_mean

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "LeanCrowdsourcingSkeletons"

SIGMA = 0.067
"""A point's usual error in sizes of its object, where none is given: the mean of COCO's seventeen."""

_LEAST_SIZE = 32.0
"""Pixels; a smaller skeleton, down to a single point, errs as one of this size. COCO's bound of small objects."""

_CHUNK = 4096


class Visibility(enum.IntEnum):
    """Whether a point can be seen; as in COCO, but for the numbers."""

    VISIBLE = 1
    OCCLUDED = 2
    ABSENT = 3


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A named point in pixels; where it is `Visibility.ABSENT`, x and y mean nothing."""

    point: str
    x: float
    y: float
    visibility: Visibility = Visibility.VISIBLE


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One object's named points, each name at most once; a point left out is absent."""

    class_id: str
    keypoints: tuple[Keypoint, ...]
    attributes: Attributes = ()


class LiveSkeletons(LiveObjects[Skeleton]):
    """Live state of a question answered with skeletons.

    ``sigmas``: usual error of each point by name in sizes of the object, `SIGMA` for others; ``least_size``: pixels,
    for questions of single points the size of the things they are on. A point is there if half of those who marked
    its object say so, visible if half of these do; it is where they robustly put it.
    """

    drawn = Skeleton
    dimensions: float = 8.0  # some dozen points, whose errors hang together
    first_spread: float = 0.7  # COCO's constants are twice the usual error, in each of two directions

    def __init__(
        self,
        tolerance: float = 0.5,
        classes: int = 0,
        sigmas: Mapping[str, float] | None = None,
        least_size: float = _LEAST_SIZE,
    ) -> None:
        super().__init__(tolerance, classes)
        usual: Mapping[str, float] = {} if sigmas is None else sigmas
        check_instance("sigmas", usual, Mapping, "a mapping of points' names to their usual errors")
        self._sigmas = {
            checked_name("point of sigmas", name): extent(f"sigma of {name}", sigma)
            for name, sigma in usual.items()
        }
        self._least_size = extent("least_size", least_size)

    def point_sd(self, joined: JoinedObject[Skeleton]) -> dict[str, float]:
        """Return how far off each point of a joined skeleton can be expected to be in x, and in y, in pixels."""
        names = [p.point for p in joined.object.keypoints if p.visibility != Visibility.ABSENT]
        unit = joined.distance * float(self._sizes([joined.object])[0]) / np.sqrt(2.0)
        return {name: float(unit * self._falloff([name])[0]) for name in names}

    def _settings(self) -> str:
        sigmas = {name: self._sigmas[name] for name in sorted(self._sigmas)}
        return f"{super()._settings()}, sigmas={sigmas}, least_size={self._least_size}"

    def _checked_object(self, given: Skeleton) -> Skeleton:
        seen: dict[str, Keypoint] = {}
        for one in parts("keypoints", given.keypoints, Keypoint):
            checked_name("point", one.point)
            if one.point in seen:
                raise ValueError(f"point {one.point} is given twice; expected each once")
            visibility = _visibility(one)
            if visibility is Visibility.ABSENT:
                seen[one.point] = Keypoint(one.point, 0.0, 0.0, visibility)
            else:
                at = pixels(f"x of point {one.point}", one.x), pixels(f"y of point {one.point}", one.y)
                seen[one.point] = Keypoint(one.point, *at, visibility)
        if all(one.visibility is Visibility.ABSENT for one in seen.values()):
            raise ValueError("no point of the skeleton is in the image; expected one or more")
        return replace(given, keypoints=tuple(seen[name] for name in sorted(seen)))

    def _bounds(self, objects: Sequence[Skeleton]) -> Floats:
        sigma = max([SIGMA, *self._sigmas.values()])
        reach = 8.0 * sigma * self._sizes(objects)  # beyond, likeness is nothing
        tight = _tight_bounds(objects)
        return np.concatenate([tight[:, :2] - reach[:, None], tight[:, 2:] + reach[:, None]], axis=1)

    def _similarity(self, left: Sequence[Skeleton], right: Sequence[Skeleton]) -> Floats:
        parts = [self._oks(left[k : k + _CHUNK], right[k : k + _CHUNK]) for k in range(0, len(left), _CHUNK)]
        return np.concatenate([np.zeros(0), *parts])

    def _squared_distance(self, likeness: Floats) -> Floats:
        return -2.0 * np.log(np.maximum(likeness, np.finfo(float).tiny))

    def _place(
        self, objects: Sequence[Skeleton], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Skeleton, Floats]:
        return self._places([objects], [precision], corpus)[0]

    def _places(
        self, groups: Sequence[Sequence[Skeleton]], precision: Sequence[Floats], corpus: Mapping[str, Floats]
    ) -> Sequence[tuple[Skeleton, Floats]]:
        alike = defaultdict(list)
        for k, group in enumerate(groups):
            alike[len(group), _names(group)].append(k)
        placed: dict[int, tuple[Skeleton, Floats]] = {}
        for (size, names), members in alike.items():
            flat = [one for k in members for one in groups[k]]
            xy, state = _columns(flat, names)
            scale = np.median(self._sizes(flat).reshape(-1, size), axis=1)
            unit = scale[:, None, None] * self._falloff(names) / np.sqrt(2.0)
            there = (state != Visibility.ABSENT).reshape(-1, size, len(names))
            weight = np.array([precision[k] for k in members])[:, :, None] * there / unit**2
            xy = xy.reshape(-1, size, len(names), 2)
            x, share_x = student_mean(xy[..., 0], weight)
            y, share_y = student_mean(xy[..., 1], weight)
            share = (share_x + share_y).mean(axis=-1) / 2.0
            for g, k in enumerate(members):
                points = _points(names, x[g], y[g], state[g * size : (g + 1) * size], groups[k])
                placed[k] = replace(groups[k][0], keypoints=points), share[g]
        return [placed[k] for k in range(len(groups))]

    def _falloff(self, names: Sequence[str]) -> Floats:
        """Return the distance in sizes ``(names,)`` at which a point's likeness is exp(-1/2): two sigmas, as COCO's."""
        return 2.0 * np.array([self._sigmas.get(name, SIGMA) for name in names])

    def _sizes(self, objects: Sequence[Skeleton]) -> Floats:
        """Return the size of each: the root of half the area around its points, about the area of a body (COCO)."""
        tight = _tight_bounds(objects)
        width, height = tight[:, 2] - tight[:, 0], tight[:, 3] - tight[:, 1]
        return np.maximum(np.sqrt((width**2 + height**2) / 4.0), self._least_size)

    def _oks(self, left: Sequence[Skeleton], right: Sequence[Skeleton]) -> Floats:
        names = _names([*left, *right])
        (one, first), (other, second) = _columns(left, names), _columns(right, names)
        here, there = first != Visibility.ABSENT, second != Visibility.ABSENT
        size = (self._sizes(left) + self._sizes(right))[:, None] / 2.0 * self._falloff(names)
        alike = np.exp(-np.square((one - other) / size[..., None]).sum(axis=2) / 2.0)
        return np.asarray((alike * (here & there)).sum(axis=1) / np.maximum((here | there).sum(axis=1), 1))


def _visibility(one: Keypoint) -> Visibility:
    try:
        return Visibility(one.visibility)
    except ValueError:
        names = ", ".join(f"{state.value} ({state.name})" for state in Visibility)
        raise ValueError(
            f"visibility of point {one.point} is {one.visibility!r:.100}; expected one of {names}"
        ) from None


def _names(objects: Sequence[Skeleton]) -> tuple[str, ...]:
    return tuple(sorted({p.point for one in objects for p in one.keypoints}))


def _columns(
    objects: Sequence[Skeleton], names: Sequence[str]
) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Return positions ``(n, names, 2)`` and visibilities ``(n, names)``; what is left out is absent."""
    place = {name: k for k, name in enumerate(names)}
    xy = np.zeros((len(objects), len(names), 2))
    state = np.full((len(objects), len(names)), int(Visibility.ABSENT), dtype=np.int64)
    for row, one in enumerate(objects):
        for p in one.keypoints:
            xy[row, place[p.point]] = p.x, p.y
            state[row, place[p.point]] = p.visibility
    return xy, state


def _tight_bounds(objects: Sequence[Skeleton]) -> Floats:
    bounds = np.zeros((len(objects), 4))
    for row, one in enumerate(objects):
        there = [p for p in one.keypoints if p.visibility != Visibility.ABSENT]
        x, y = [p.x for p in there], [p.y for p in there]
        bounds[row] = min(x), min(y), max(x), max(y)
    return bounds


def _points(
    names: Sequence[str],
    x: Floats,
    y: Floats,
    state: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    objects: Sequence[Skeleton],
) -> tuple[Keypoint, ...]:
    """Return the points by vote; the most often marked one stands even if half of all leave it out."""
    marked = (state != Visibility.ABSENT).sum(axis=0)
    needed = min(len(objects) / 2.0, float(marked.max()))
    said = {p.point for one in objects for p in one.keypoints if p.visibility == Visibility.ABSENT}
    points = []
    for k, name in enumerate(names):
        if marked[k] >= needed:
            seen = int((state[:, k] == Visibility.VISIBLE).sum())
            visibility = Visibility.VISIBLE if 2 * seen >= marked[k] else Visibility.OCCLUDED
            points.append(Keypoint(name, float(x[k]), float(y[k]), visibility))
        elif name in said:
            points.append(Keypoint(name, 0.0, 0.0, Visibility.ABSENT))
    return tuple(points)
