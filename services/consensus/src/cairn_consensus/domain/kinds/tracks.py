"""Objects followed through a video.

Truth joins tracks of upright boxes. Tracks of other shapes are matched and judged by the boxes around their shapes; each
joined track is then the one of its labelers' whose boxes are most like the joined ones, with its own shapes.
"""

# ruff: noqa: D102 - ObjectsState says what each method is for
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import Attribute, Question
from cairn_consensus.domain.ids import ItemKey, LabelerName
from cairn_consensus.domain.kinds.attributes import read_attributes, written_attributes
from cairn_consensus.domain.kinds.objects import ObjectsState
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_truth.shapes import tracks
from cairn_truth.shapes.attributes import Attributes
from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.joined import JoinedObject, JoinedObjects
from cairn_truth.shapes.tracks import Keyframe, LiveTracks, Track, tube_iou

Edges = tuple[float, float, float, float]
"""Left, top, right and bottom."""

Facts = list[pb.AttributeValue]

_LONGEST_ID = 64
"""Characters of a track's name, by the contract."""

_LEAST_SIZE = 32.0
"""Pixels: a skeleton may be a single point, which says where something is that has a size (COCO's small objects)."""


class TracksState(ObjectsState[Track]):
    """Tracks of upright boxes."""

    algorithm = tracks.ALGORITHM
    algorithm_version = tracks.VERSION

    def _kind(self) -> type[LiveTracks]:
        return LiveTracks

    def _shape(self, given: pb.Track, attributes: Attributes) -> Track:
        return Track(given.id, given.class_id, tuple(map(_keyframe, given.keyframes)), attributes)

    def _facts(self, item: ItemKey, joined: JoinedObject[Track]) -> Facts:
        track = joined.object
        others = [
            (*one.attributes, *(pair for pair in one.keyframes[0].attributes if pair not in one.attributes))
            for _, answer in self._live.votes_on(item)
            for one in answer
            if one.class_id == track.class_id
        ]
        # What holds "from this frame on" at the first keyframe holds for the whole track.
        elsewhere = [name for name, _ in track.keyframes[0].attributes]
        rules = self._attributes.get(track.class_id, {})
        return written_attributes(track.attributes, rules, others, elsewhere)

    def _message(self, item: ItemKey, joined: JoinedObject[Track], attributes: Facts) -> pb.Track:
        track, rules = joined.object, _optional(self._attributes.get(joined.object.class_id, {}))
        return pb.Track(
            id=track.id,
            class_id=track.class_id,
            keyframes=[
                pb.Keyframe(
                    frame=key.frame,
                    outside=key.outside,
                    box=None if key.box is None else _box_message(key.box),
                    attributes=written_attributes(key.attributes, rules),
                )
                for key in track.keyframes
            ],
            attributes=attributes,
        )

    def _written(self, item: ItemKey, joined: JoinedObjects[Track]) -> Leading:
        leading = super()._written(item, joined)
        taken: set[str] = set()
        for track in leading.answer.tracks.tracks:
            # Truth tells equal names apart by a number, which may make one too long.
            own, number = track.id[:_LONGEST_ID], 2
            while own in taken:
                end = f"-{number}"
                own, number = track.id[: _LONGEST_ID - len(end)] + end, number + 1
            taken.add(own)
            track.id = own
        return leading


class ShapedTracksState(TracksState):
    """Tracks of other shapes than upright boxes."""

    algorithm = f"{tracks.ALGORITHM} of bounds"
    algorithm_version = f"{tracks.VERSION}.1"
    """The second number is of what is made here of the joined bounds."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._drawn: dict[ItemKey, dict[LabelerName, Mapping[str, pb.Track]]] = {}

    def vote(self, item: ItemKey, labeler: LabelerName, answer: pb.Answer) -> None:
        super().vote(item, labeler, answer)
        if answer.WhichOneof("value") == self.field:
            self._drawn.setdefault(item, {})[labeler] = {one.id: one for one in answer.tracks.tracks}

    def _message(self, item: ItemKey, joined: JoinedObject[Track], attributes: Facts) -> pb.Track:
        joined_track = joined.object
        said = dict(self._live.votes_on(item))
        alike = [
            (tube_iou(one, joined_track), -k, labeler, one.id)
            for k, labeler in enumerate(sorted(joined.labelers))
            for one in said[labeler]
        ]
        _, _, labeler, name = max(alike)
        drawn = self._drawn[item][LabelerName(labeler)][name]
        rules = _optional(self._attributes.get(joined_track.class_id, {}))
        keyframes = []
        for key in drawn.keyframes:
            own = pb.Keyframe()
            own.CopyFrom(key)
            del own.attributes[:]
            own.attributes.extend(written_attributes(read_attributes(key.attributes), rules))
            keyframes.append(own)
        return pb.Track(
            id=joined_track.id,
            class_id=joined_track.class_id,
            keyframes=keyframes,
            attributes=attributes,
        )


def tracks_state(question: Question) -> TracksState:
    """A state for tracks, by their shape."""
    if question.tracks.shape == schema_pb.TRACK_SHAPE_BOX:
        return TracksState(question)
    return ShapedTracksState(question)


def _keyframe(given: pb.Keyframe) -> Keyframe:
    shape = given.WhichOneof("shape")
    edges = _EDGES[shape](getattr(given, shape)) if shape else None
    return Keyframe(
        frame=given.frame,
        box=None if edges is None else Box("", edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]),
        outside=given.outside or edges is None,
        attributes=read_attributes(given.attributes),
    )


def _box_message(box: Box) -> pb.Box:
    return pb.Box(x=box.x, y=box.y, width=box.width, height=box.height)


def _optional(rules: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    """The rules of a keyframe's attributes: none of them is required there."""
    found = {}
    for name, rule in rules.items():
        found[name] = Attribute()
        found[name].CopyFrom(rule)
        found[name].required = False
    return found


# --- the bounds of each shape


def _box_edges(box: pb.Box) -> Edges:
    return box.x, box.y, box.x + box.width, box.y + box.height


def _turned_edges(x: float, y: float, half: tuple[float, float], degrees: float, *, round_: bool) -> Edges:
    """The bounds of a rectangle, or of an ellipse, of these half extents about a centre."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    join: Callable[[float, float], float] = math.hypot if round_ else _sum_of_sizes
    across, down = join(half[0] * cosine, half[1] * sine), join(half[0] * sine, half[1] * cosine)
    return x - across, y - down, x + across, y + down


def _sum_of_sizes(a: float, b: float) -> float:
    return abs(a) + abs(b)


def _rotated_edges(box: pb.RotatedBox) -> Edges:
    half = box.width / 2.0, box.height / 2.0
    return _turned_edges(box.center_x, box.center_y, half, box.rotation_degrees, round_=False)


def _ellipse_edges(one: pb.Ellipse) -> Edges:
    half = one.radius_x, one.radius_y
    return _turned_edges(one.center_x, one.center_y, half, one.rotation_degrees, round_=True)


def _polygon_edges(polygon: pb.Polygon) -> Edges:
    return _around(polygon.outline.xy[0::2], polygon.outline.xy[1::2])


def _skeleton_edges(skeleton: pb.Skeleton) -> Edges | None:
    there = [p for p in skeleton.keypoints if p.visibility != pb.VISIBILITY_ABSENT]
    if not there:
        return None
    left, top, right, bottom = _around([p.x for p in there], [p.y for p in there])
    wide, high = max(_LEAST_SIZE - (right - left), 0.0), max(_LEAST_SIZE - (bottom - top), 0.0)
    return left - wide / 2.0, top - high / 2.0, right + wide / 2.0, bottom + high / 2.0


def _around(x: Sequence[float], y: Sequence[float]) -> Edges:
    return min(x), min(y), max(x), max(y)


_EDGES: Mapping[str, Callable[[Any], Edges | None]] = {
    "box": _box_edges,
    "rotated_box": _rotated_edges,
    "ellipse": _ellipse_edges,
    "polygon": _polygon_edges,
    "skeleton": _skeleton_edges,
}
