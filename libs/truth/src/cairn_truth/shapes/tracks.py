"""Tracks: objects followed through a video, matched over all their frames and joined keyframe by keyframe.

Whose track is whose is decided once for whole tracks, by the overlap of the tubes they make in space and time (their
intersections over their unions, both summed over frames; Yang, Fan & Xu, "Video instance segmentation", ICCV 2019),
so that a slip on some frames does not swap identities. A joined track has a keyframe where any labeler's had one and
it is needed: out of sight by vote, its box the robust centre of the boxes that those who see it have there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..classes.votes import Floats
from .attributes import Attributes, checked_attributes
from .boxes import LARGEST, Box
from .joined import JoinedObjects
from .objects import LiveObjects
from .raster import Bools, Ints
from .robust import student_mean

VERSION = "1"
"""Changes whenever the same answers may give another value."""

ALGORITHM = "RobustTubeAveraging"

_MOST_FRAMES = 512
"""Frames at which two tracks are compared at most, evenly over the time of both."""

_FINE = 0.01
"""How far a box may be from a keyframe left out, in sizes of the box: less than a hand sees."""


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Where an object is at a frame, or that it is out of sight from there on until the next keyframe.

    ``box`` may be None only where it is ``outside``.
    """

    frame: int
    box: Box | None = None
    outside: bool = False
    attributes: Attributes = ()


@dataclass(frozen=True, slots=True)
class Track:
    """One object over time: ``id`` names it within the answer; keyframes by frame, each frame once.

    Between keyframes in sight its box is interpolated; after the last keyframe nothing is said of it.
    """

    id: str
    class_id: str
    keyframes: tuple[Keyframe, ...]
    attributes: Attributes = ()


class LiveTracks(LiveObjects[Track]):
    """Live state of a question answered with tracks of upright boxes; likeness is the overlap of their tubes."""

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
        if not given.keyframes:
            raise ValueError("the track has no keyframes; expected one or more")
        kept = []
        for number, (key, before) in enumerate(
            zip(given.keyframes, (None, *given.keyframes[:-1]), strict=True)
        ):
            if key.frame < (0 if before is None else before.frame + 1):
                raise ValueError(
                    f"keyframe {number} has frame {key.frame}; expected frames from 0 on, rising"
                )
            if key.box is None and not key.outside:
                raise ValueError(f"keyframe {number} has no box and is not outside; expected one of them")
            if key.box is not None and not _is_box(key.box):
                raise ValueError(f"keyframe {number} has {key.box}; expected a finite box of some extent")
            try:
                kept.append(replace(key, attributes=checked_attributes(key.attributes)))
            except ValueError as wrong:
                raise ValueError(f"keyframe {number}: {wrong}") from None
        if all(key.outside for key in kept):
            raise ValueError(
                "the track is never in sight; expected a keyframe with a box that is not outside"
            )
        return replace(given, keyframes=tuple(kept))

    def _join(self, votes: Sequence[tuple[str, tuple[Track, ...]]]) -> JoinedObjects[Track]:
        joined = super()._join(votes)
        names = _each_its_own([track.id for track in joined.value])
        value = tuple(replace(track, id=name) for track, name in zip(joined.value, names, strict=True))
        objects = tuple(replace(one, object=track) for one, track in zip(joined.objects, value, strict=True))
        return replace(joined, value=value, objects=objects)

    def _bounds(self, objects: Sequence[Track]) -> Floats:
        return np.array([_bounds(one) for one in objects], dtype=np.float64).reshape(-1, 4)

    def _similarity(self, left: Sequence[Track], right: Sequence[Track]) -> Floats:
        return np.array([tube_iou(a, b) for a, b in zip(left, right, strict=True)], dtype=np.float64)

    def _place(
        self, objects: Sequence[Track], precision: Floats, corpus: Mapping[str, Floats]
    ) -> tuple[Track, Floats]:
        share = precision / precision.sum()
        like = objects[int(share.argmax())]
        if all(one.keyframes == like.keyframes for one in objects):
            return like, share
        frames = np.unique(np.concatenate([_turning_frames(one) for one in objects]))
        edges = np.stack([edges_at(one, frames) for one in objects], axis=1)
        seen = ~np.isnan(edges[..., 0])
        visible = seen @ share >= 0.5 * (1.0 - 1e-9)
        if not visible.any():  # all saw it, but never two at once
            return like, share
        centre = np.zeros((frames.size, 4))
        centre[visible], of_box = _boxes(edges[visible], seen[visible], precision)
        return replace(like, keyframes=_keyframes(frames, centre, visible, objects, share)), of_box


def edges_at(track: Track, frames: Ints) -> Floats:
    """Return left, top, right and bottom edge ``(frames, 4)`` of a track at frames; nan where it is not in sight."""
    at = np.array([key.frame for key in track.keyframes])
    out = np.array([key.outside for key in track.keyframes])
    edges = np.full((at.size, 4), np.nan)
    for k, key in enumerate(track.keyframes):
        if key.box is not None:
            edges[k] = (key.box.x, key.box.y, key.box.x + key.box.width, key.box.y + key.box.height)
    before = np.searchsorted(at, frames, side="right") - 1
    after = np.minimum(before + 1, at.size - 1)
    span = np.maximum(at[after] - at[before], 1)
    share = ((frames - at[before]) / span)[:, None]
    # On the way out of sight, to no box, it stays where it was last.
    target = np.where(np.isnan(edges[after]), edges[before], edges[after])
    found = edges[before] + share * (target - edges[before])
    return np.asarray(np.where(((before < 0) | out[before] | (frames > at[-1]))[:, None], np.nan, found))


def tube_iou(one: Track, other: Track) -> float:
    """Return the intersection over union of two tracks, each summed over all frames."""
    first = min(one.keyframes[0].frame, other.keyframes[0].frame)
    last = max(one.keyframes[-1].frame, other.keyframes[-1].frame)
    if last - first < _MOST_FRAMES:
        frames = np.arange(first, last + 1)
    else:
        frames = np.unique(np.linspace(first, last, _MOST_FRAMES).astype(np.int64))
    a, b = edges_at(one, frames), edges_at(other, frames)
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = float(np.nansum(np.prod(np.maximum(high - low, 0.0), axis=1)))
    sizes = sum(float(np.nansum(np.prod(e[:, 2:] - e[:, :2], axis=1))) for e in (a, b))
    return shared / (sizes - shared) if sizes > shared else float(one.keyframes == other.keyframes)


def _turning_frames(track: Track) -> Ints:
    """Return the frames at which a track may turn, its end among them."""
    return np.array([*(key.frame for key in track.keyframes), track.keyframes[-1].frame + 1])


def _boxes(edges: Floats, seen: Bools, precision: Floats) -> tuple[Floats, Floats]:
    """Return robust edges ``(frames, 4)`` of those ``(frames, n, 4)`` in sight, and each labeler's share ``(n,)``."""
    size = np.maximum(edges[..., 2:] - edges[..., :2], 1e-9)
    unit = np.nanmedian(np.concatenate([size, size], axis=2), axis=1, keepdims=True)
    # An edge that is off by a share of the box takes about that share from the overlap.
    scale = np.where(seen[..., None], precision[None, :, None] / unit**2, 0.0)
    filled = np.where(seen[..., None], edges, 0.0)
    centre, share = student_mean(filled, scale)
    turned = centre[:, :2] >= centre[:, 2:]
    if turned.any():  # boxes apart, their edges crossed over: the heaviest one's
        frame = np.flatnonzero(turned.any(axis=1))
        heaviest = scale[frame, :, 0].argmax(axis=1)
        centre[frame] = filled[frame, heaviest]
    return centre, np.asarray(share.mean(axis=(0, 2)), dtype=np.float64)


def _keyframes(
    frames: Ints, edges: Floats, visible: Bools, objects: Sequence[Track], share: Floats
) -> tuple[Keyframe, ...]:
    """Return the keyframes that are needed: where it comes into sight and leaves, and to bend in between."""
    starts = np.flatnonzero(np.diff(visible.astype(np.int64), prepend=0) == 1)
    stops = np.flatnonzero(np.diff(visible.astype(np.int64), append=0) == -1) + 1
    given = {key.frame for track in objects for key in track.keyframes}
    keys: list[Keyframe] = []
    for start, stop in zip(starts, stops, strict=True):
        for k in bends(frames[start:stop], edges[start:stop]) + start:
            keys.append(Keyframe(int(frames[k]), _box(edges[k])))
        # In sight until the frame before the vote turns: said by a keyframe that is outside. At the very end nothing
        # need be said, and the frame after the last may be one that the video has not.
        if stop < starts[-1] or (stop < frames.size and frames[stop] in given):
            keys.append(Keyframe(int(frames[stop]), None, outside=True))
    return tuple(_with_attributes(keys, objects, share))


def bends(frames: Ints, edges: Floats) -> Ints:
    """Return which keyframes ``(kept,)`` show a run of boxes ``(n, 4)``, interpolated, to within a share of their size.

    Ramer (1972) with distances at equal times.
    """
    tolerance = _FINE * np.sqrt(np.maximum(np.prod(edges[:, 2:] - edges[:, :2], axis=1), 0.0))
    kept = {0, frames.size - 1}
    pending = [(0, frames.size - 1)]
    while pending:
        low, high = pending.pop()
        if high - low < 2:
            continue
        inner = slice(low + 1, high)
        share = ((frames[inner] - frames[low]) / (frames[high] - frames[low]))[:, None]
        off = np.abs(edges[inner] - (edges[low] + share * (edges[high] - edges[low]))).max(axis=1)
        excess = off - tolerance[inner]
        worst = int(excess.argmax())
        if excess[worst] > 0.0:
            at = low + 1 + worst
            kept.add(at)
            pending += [(low, at), (at, high)]
    return np.array(sorted(kept), dtype=np.int64)


def _with_attributes(keys: list[Keyframe], objects: Sequence[Track], share: Floats) -> list[Keyframe]:
    """Return keyframes with the facts that the heaviest who states any at that frame or before states there."""
    order = np.argsort(-share, kind="stable")
    stating = [objects[int(k)] for k in order if any(key.attributes for key in objects[int(k)].keyframes)]
    if not stating:
        return keys
    chosen = stating[0].keyframes
    at = np.array([key.frame for key in chosen])
    found = np.searchsorted(at, [key.frame for key in keys], side="right") - 1
    return [
        replace(key, attributes=chosen[int(k)].attributes) if k >= 0 else key
        for key, k in zip(keys, found, strict=True)
    ]


def _box(edges: Floats) -> Box:
    x0, y0, x1, y1 = (float(v) for v in edges)
    return Box("", x0, y0, x1 - x0, y1 - y0)


def _is_box(box: Box) -> bool:
    numbers = np.array([box.x, box.y, box.width, box.height], dtype=np.float64)
    return bool((np.abs(numbers) <= LARGEST).all() and box.width > 0.0 and box.height > 0.0)


def _bounds(track: Track) -> tuple[float, float, float, float]:
    boxes = [key.box for key in track.keyframes if key.box is not None]
    return (
        min(box.x for box in boxes),
        min(box.y for box in boxes),
        max(box.x + box.width for box in boxes),
        max(box.y + box.height for box in boxes),
    )


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
