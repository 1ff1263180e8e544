"""Tracks: objects followed through a video, matched over all their frames and joined keyframe by keyframe.

Whose track is whose is decided once for whole tracks, by the overlap of the tubes they make in space and time (their
intersections over their unions, both summed over frames; Yang, Fan & Xu, "Video instance segmentation", ICCV 2019),
so that a slip on some frames does not swap identities. A joined track has a keyframe where any labeler's had one and
it is needed: out of sight by vote, its shape what the shape's own kind makes of those that are in sight there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..columns import Floats, checked_name
from .attributes import Attributes, checked_attributes, joined_attributes
from .boxes import Box, edges
from .ellipses import Ellipse
from .fields import parts, whole
from .joined import JoinedObjects
from .keyframes import needed
from .keypoints import Skeleton
from .moving import Moving, moving
from .objects import LiveObjects
from .polygons import Polygon
from .raster import Bools, Ints
from .rotated_boxes import RotatedBox

VERSION = "3"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "RobustTubeAveraging"

_MOST_FRAMES = 512
"""Frames at which `tube_iou` compares two tracks at most."""

TrackShape = Box | RotatedBox | Ellipse | Polygon | Skeleton
"""What can be followed."""


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Where an object is at a frame, or that it is out of sight from there on until the next keyframe.

    ``box`` is its place where tracks are of upright boxes, ``shape`` where they are of another shape; both may be None
    only where it is ``outside``. ``attributes`` hold from this frame on until they are stated anew.
    """

    frame: int
    box: Box | None = None
    outside: bool = False
    attributes: Attributes = ()
    shape: TrackShape | None = None

    @property
    def place(self) -> TrackShape | None:
        """The box or the other shape."""
        return self.box if self.shape is None else self.shape


@dataclass(frozen=True, slots=True)
class Track:
    """One object over time: ``id`` names it within the answer; keyframes by frame, each frame once.

    Between keyframes in sight its shape is interpolated; after the last keyframe nothing is said of it.
    """

    id: str
    class_id: str
    keyframes: tuple[Keyframe, ...]
    attributes: Attributes = ()


class LiveTracks(LiveObjects[Track]):
    """Live state of a question answered with tracks of one shape; likeness is the overlap of their tubes.

    ``shape``: the class of the shapes (`Box`, `RotatedBox`, `Ellipse`, `Polygon`, `Skeleton`), or how they move
    (`moving.Moving`) where the shape's own state is not the usual one, such as skeletons with other sigmas.
    """

    drawn = Track

    def __init__(
        self, tolerance: float = 0.5, classes: int = 0, shape: type[Any] | Moving[Any] = Box
    ) -> None:
        super().__init__(tolerance, classes)
        self._moving: Moving[Any] = shape if isinstance(shape, Moving) else moving(shape)
        self.dimensions = self._moving.kind.dimensions
        self.first_spread = self._moving.kind.first_spread

    def _settings(self) -> str:
        return f"{super()._settings()}, {type(self._moving).__name__} of {self._moving.kind._kind()}"

    def _checked(self, answer: Sequence[Track]) -> tuple[Track, ...]:
        kept = super()._checked(answer)
        seen: dict[str, int] = {}
        for number, track in enumerate(kept):
            if track.id in seen:
                raise ValueError(
                    f"object {number}: its id {track.id!r} is that of object {seen[track.id]}; expected another"
                )
            seen[track.id] = number
        return kept

    def _checked_object(self, given: Track) -> Track:
        checked_name("id", given.id)
        if not parts("keyframes", given.keyframes, Keyframe):
            raise ValueError("the track has no keyframes; expected one or more")
        kept: list[Keyframe] = []
        for number, key in enumerate(given.keyframes):
            frame = whole(f"the frame of keyframe {number}", key.frame)
            if kept and frame <= kept[-1].frame:
                raise ValueError(
                    f"keyframe {number} has frame {frame} after {kept[-1].frame}; expected rising frames"
                )
            try:
                kept.append(replace(self._checked_keyframe(key), frame=frame))
            except ValueError as wrong:
                raise ValueError(f"keyframe {number} {wrong}") from None
        if all(key.outside for key in kept):
            raise ValueError(
                "the track is never in sight; expected a keyframe with a shape that is not outside"
            )
        return replace(given, keyframes=tuple(kept))

    def _checked_keyframe(self, key: Keyframe) -> Keyframe:
        if not isinstance(key.outside, bool | np.bool_):
            raise ValueError(f"has outside {key.outside!r:.100}; expected true or false")
        kept = replace(key, attributes=checked_attributes(key.attributes), outside=bool(key.outside))
        wanted = self._moving.shape
        name = "box" if wanted is Box else "shape"
        if key.place is None:
            if not key.outside:
                raise ValueError(f"has no {name} and is not outside; expected one of them")
            return kept
        if key.box is not None and key.shape is not None:
            raise ValueError("has a box and a shape; expected one of them")
        if not isinstance(key.place, wanted):
            raise ValueError(f"has a {type(key.place).__name__}; expected a {wanted.__name__}")
        try:
            place = self._moving.kind._checked_one(key.place)
        except ValueError as wrong:
            if wanted is Box:
                raise ValueError(f"has {key.box}; expected a finite box of some extent: {wrong}") from None
            raise
        return _keyframe(kept.frame, place, kept.attributes, outside=kept.outside)

    def _join(self, votes: Sequence[tuple[str, tuple[Track, ...]]]) -> JoinedObjects[Track]:
        joined = super()._join(votes)
        names = _each_its_own([track.id for track in joined.value])
        value = tuple(
            _of_its_class(replace(one.object, id=name))
            if len(one.labelers) > 1
            else replace(one.object, id=name)
            for one, name in zip(joined.objects, names, strict=True)
        )
        objects = tuple(replace(one, object=track) for one, track in zip(joined.objects, value, strict=True))
        return replace(joined, value=value, objects=objects)

    def _bounds(self, objects: Sequence[Track]) -> Floats:
        shapes = [[key.place for key in one.keyframes if key.place is not None] for one in objects]
        if not shapes:
            return np.zeros((0, 4))
        around = self._moving.kind._bounds([shape for of_track in shapes for shape in of_track])
        first = np.cumsum([0, *(len(of_track) for of_track in shapes[:-1])])
        low = np.minimum.reduceat(around[:, :2], first)
        return np.concatenate([low, np.maximum.reduceat(around[:, 2:], first)], axis=1)

    def _similarity(self, left: Sequence[Track], right: Sequence[Track]) -> Floats:
        return _tube_overlap(left, right, self._moving, self._moving.frames)

    def _squared_distance(self, likeness: Floats) -> Floats:
        return self._moving.kind._squared_distance(likeness)

    def _place(
        self, objects: Sequence[Track], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Track, Floats]:
        share = precision / precision.sum()
        like = objects[int(share.argmax())]
        if all(one.keyframes == like.keyframes for one in objects):
            return like, share
        frames = np.unique(np.concatenate([_turning_frames(one) for one in objects]))
        shown = [shapes_at(one, frames, self._moving) for one in objects]
        seen = np.array([[shape is not None for shape in of_one] for of_one in shown]).T
        visible = seen @ share >= 0.5 * (1.0 - 1e-9)
        if not visible.any():  # all saw it, but never two at once
            return like, share
        places, of_shape = self._joined_shapes(shown, seen, visible, precision)
        if any(key.place.class_id for one in objects for key in one.keyframes if key.place is not None):
            places = {f: replace(shape, class_id=like.class_id) for f, shape in places.items()}
        facts = _facts_at(objects, frames, seen, share)
        return replace(like, keyframes=self._keyframes(frames, places, visible, facts, objects)), of_shape

    def _joined_shapes(
        self, shown: Sequence[Sequence[Any]], seen: Bools, visible: Bools, precision: Floats
    ) -> tuple[Mapping[int, Any], Floats]:
        """Return the joined shape at each frame in sight, by place in ``visible``, and each labeler's mean share."""
        at = np.flatnonzero(visible).tolist()
        who = {f: np.flatnonzero(seen[f]) for f in at}
        several = [f for f in at if who[f].size > 1]
        placed = self._moving.kind._places(
            [[shown[k][f] for k in who[f].tolist()] for f in several],
            [precision[who[f]] for f in several],
            {},
        )
        places = {f: shown[int(who[f][0])][f] for f in at}
        share = np.zeros(precision.size)
        for f in at:
            if who[f].size == 1:
                share[who[f]] += 1.0
        for f, (shape, of_shape) in zip(several, placed, strict=True):
            places[f] = shape
            share[who[f]] += of_shape
        return {f: _bare(places[f]) for f in at}, share / len(at)

    def _keyframes(
        self,
        frames: Ints,
        places: Mapping[int, Any],
        visible: Bools,
        facts: Sequence[Attributes],
        objects: Sequence[Track],
    ) -> tuple[Keyframe, ...]:
        """Return the keyframes that are needed: where it comes into sight and leaves, and to bend in between."""
        starts = np.flatnonzero(np.diff(visible.astype(np.int64), prepend=0) == 1)
        stops = np.flatnonzero(np.diff(visible.astype(np.int64), append=0) == -1) + 1
        given = {key.frame for track in objects for key in track.keyframes}
        keys: list[Keyframe] = []
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            run = self._moving.following([places[f] for f in range(start, stop)])
            held = [(facts[start + k], self._moving.held(shape)) for k, shape in enumerate(run)]
            size = np.sqrt(self._moving.areas(run))
            for k in needed(frames[start:stop], self._moving.numbers(run), size, held).tolist():
                keys.append(_keyframe(int(frames[start + k]), run[k], facts[start + k]))
            # In sight until the frame before the vote turns: said by a keyframe that is outside. At the very end
            # nothing need be said, and the frame after the last may be one that the video has not.
            if stop <= starts[-1] or (stop < frames.size and int(frames[stop]) in given):
                keys.append(Keyframe(int(frames[stop]), None, outside=True))
        return tuple(keys)


def shapes_at(track: Track, frames: Ints, how: Moving[Any]) -> Sequence[Any]:
    """Return a track's shape at each of ``frames (n,)``, rising; None where it is not in sight."""
    keys = track.keyframes
    at = np.array([key.frame for key in keys])
    before = np.searchsorted(at, frames, side="right") - 1
    after = np.minimum(before + 1, at.size - 1)
    share = (frames - at[before]) / np.maximum(at[after] - at[before], 1)
    places = [None if key.outside else key.place for key in keys]
    targets = [key.place for key in keys]
    shown: list[Any] = [None] * frames.size
    moved: list[int] = []
    ends: list[Any] = []
    inside = np.flatnonzero((before >= 0) & (frames <= at[-1])).tolist()
    goes = (share > 0.0).tolist()
    for k, b, a in zip(inside, before[inside].tolist(), after[inside].tolist(), strict=True):
        shown[k] = places[b]
        # On the way out of sight, to no shape, it stays where it was last.
        if goes[k] and places[b] is not None and targets[a] is not None:
            moved.append(k)
            ends.append(targets[a])
    if moved:
        between = how.between([shown[k] for k in moved], ends, share[moved])
        for k, shape in zip(moved, between, strict=True):
            shown[k] = shape
    return shown


def edges_at(track: Track, frames: Ints) -> Floats:
    """Return left, top, right and bottom edge ``(frames, 4)`` of a track of boxes; nan where it is not in sight."""
    shown = shapes_at(track, frames, moving(Box))
    found = np.full((len(shown), 4), np.nan)
    seen = [k for k, box in enumerate(shown) if box is not None]
    found[seen] = edges([shown[k] for k in seen])
    return found


def tube_iou(one: Track, other: Track) -> float:
    """Return the intersection over union of two tracks of one shape, each summed over all frames."""
    shape = next((type(key.place) for key in one.keyframes if key.place is not None), Box)
    return float(_tube_overlap([one], [other], moving(shape), _MOST_FRAMES)[0])


def _tube_overlap(left: Sequence[Track], right: Sequence[Track], how: Moving[Any], most: int) -> Floats:
    """Return the overlap ``(n,)`` of the tubes of tracks beside each other, at ``most`` frames or fewer.

    Frames are multiples of a power of two, so that a track that is one of many pairs is looked at once.
    """
    glimpses: dict[tuple[int, int], tuple[Ints, Sequence[Any], Floats]] = {}

    def glimpse(track: Track, step: int) -> tuple[Ints, Sequence[Any], Floats]:
        key = id(track), step
        if key not in glimpses:
            first, last = track.keyframes[0].frame, track.keyframes[-1].frame
            frames = np.arange(-(-first // step), last // step + 1)
            shown = shapes_at(track, frames * step, how)
            seen = [k for k, shape in enumerate(shown) if shape is not None]
            shapes = [shown[k] for k in seen]
            glimpses[key] = frames[seen], shapes, how.areas(shapes)
        return glimpses[key]

    pair: list[int] = []
    ones: list[Any] = []
    others: list[Any] = []
    both: list[Floats] = [np.zeros(0)]
    total = np.zeros(len(left))
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        span = max(a.keyframes[-1].frame, b.keyframes[-1].frame) - min(
            a.keyframes[0].frame, b.keyframes[0].frame
        )
        step = 1 << int(span // most).bit_length()
        (at_a, shown_a, size_a), (at_b, shown_b, size_b) = glimpse(a, step), glimpse(b, step)
        total[number] = size_a.sum() + size_b.sum()
        _, in_a, in_b = np.intersect1d(at_a, at_b, assume_unique=True, return_indices=True)
        both.append(size_a[in_a] + size_b[in_b])
        ones += [shown_a[k] for k in in_a.tolist()]
        others += [shown_b[k] for k in in_b.tolist()]
        pair += [number] * in_a.size
    alike = how.kind._similarity(ones, others) if ones else np.zeros(0)
    # What two shapes share, from their IoU and their sizes.
    shared = np.bincount(pair, weights=alike / (1.0 + alike) * np.concatenate(both), minlength=len(left))
    same = np.array([a.keyframes == b.keyframes for a, b in zip(left, right, strict=True)], dtype=np.float64)
    return np.where((total > shared) & (same == 0.0), shared / np.maximum(total - shared, 1e-300), same)


def _turning_frames(track: Track) -> Ints:
    """Return the frames at which a track may turn, its end among them.

    On the way to a place out of sight it moves until the frame before, the last at which it is seen.
    """
    left = [
        key.frame - 1
        for before, key in pairwise(track.keyframes)
        if key.outside and key.place is not None and key.frame - 1 > before.frame
    ]
    return np.array([*left, *(key.frame for key in track.keyframes), track.keyframes[-1].frame + 1])


def _facts_at(objects: Sequence[Track], frames: Ints, seen: Bools, share: Floats) -> Sequence[Attributes]:
    """Return the attributes at each frame: what each who sees it last stated of each, by weighted vote."""
    if not any(key.attributes for one in objects for key in one.keyframes):
        return [()] * frames.size
    stated = [_facts_of(one, frames) for one in objects]
    return [
        joined_attributes([stated[k][f] for k in who.tolist()], share[who])
        for f, who in enumerate(np.flatnonzero(row) for row in seen)
    ]


def _facts_of(track: Track, frames: Ints) -> Sequence[Attributes]:
    known: dict[str, Any] = {}
    upto: list[Attributes] = [()]
    for key in track.keyframes:
        known.update(key.attributes)
        upto.append(tuple(sorted(known.items())))
    at = [key.frame for key in track.keyframes]
    return [upto[k] for k in np.searchsorted(at, frames, side="right").tolist()]


def _keyframe(frame: int, place: Any, attributes: Attributes, *, outside: bool = False) -> Keyframe:
    if isinstance(place, Box):
        return Keyframe(frame, place, outside, attributes)
    return Keyframe(frame, None, outside, attributes, place)


def _bare(shape: Any) -> Any:
    """Return a shape without class and attributes, which are the track's and the keyframe's."""
    return replace(shape, class_id="", attributes=()) if shape.class_id or shape.attributes else shape


def _of_its_class(track: Track) -> Track:
    """Return a track whose shapes, where they name a class, name the track's, which its labelers voted for."""

    def named(key: Keyframe) -> Keyframe:
        place = key.place
        if place is None or place.class_id in ("", track.class_id):
            return key
        shape = replace(place, class_id=track.class_id)
        return _keyframe(key.frame, shape, key.attributes, outside=key.outside)

    return replace(track, keyframes=tuple(map(named, track.keyframes)))


def _each_its_own(names: Sequence[str]) -> list[str]:
    """Return the names with a number after those that are another's already."""
    taken: set[str] = set()
    given = []
    for name in names:
        own, number = name, 2
        while own in taken or (own != name and own in names):
            own, number = f"{name}-{number}", number + 1
        taken.add(own)
        given.append(own)
    return given
