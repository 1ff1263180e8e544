"""Objects followed through a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as pb
from cairn.label.v1.label_schema_pb2 import Attribute
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.kinds import shape_messages as messages
from cairn_consensus.domain.kinds.attributes import read_attributes, written_attributes
from cairn_consensus.domain.kinds.objects import ObjectsState, Said
from cairn_consensus.domain.kinds.question_state import Leading
from cairn_consensus.domain.kinds.shape_messages import Facts, Ring
from cairn_truth.shapes import tracks
from cairn_truth.shapes.attributes import Attributes
from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.ellipses import Ellipse
from cairn_truth.shapes.joined import JoinedObject, JoinedObjects
from cairn_truth.shapes.keypoints import Skeleton, Visibility
from cairn_truth.shapes.polygons import Polygon
from cairn_truth.shapes.rotated_boxes import RotatedBox
from cairn_truth.shapes.tracks import Keyframe, LiveTracks, Track

_LONGEST_ID = 64
"""Characters of a track's name, by the contract."""


@dataclass(frozen=True, slots=True)
class _Followed:
    """A shape that tracks follow: truth's class of it, the field of a keyframe, and how it is read."""

    shape: type[Any]
    field: str
    read: Callable[[Any], Any]


_FOLLOWED: Mapping[int, _Followed] = {
    schema_pb.TRACK_SHAPE_BOX: _Followed(Box, "box", messages.box_of),
    schema_pb.TRACK_SHAPE_ROTATED_BOX: _Followed(RotatedBox, "rotated_box", messages.rotated_box_of),
    schema_pb.TRACK_SHAPE_ELLIPSE: _Followed(Ellipse, "ellipse", messages.ellipse_of),
    schema_pb.TRACK_SHAPE_POLYGON: _Followed(Polygon, "polygon", messages.polygon_of),
    schema_pb.TRACK_SHAPE_SKELETON: _Followed(Skeleton, "skeleton", messages.skeleton_of),
}


class TracksState(ObjectsState[Track]):
    """Tracks of one shape."""

    algorithm = tracks.ALGORITHM
    algorithm_version = tracks.VERSION

    @property
    def _followed(self) -> _Followed:
        return _FOLLOWED[self.rules.shape]

    def _live_state(self, tolerance: float, classes: int) -> LiveTracks:
        return LiveTracks(tolerance, classes, self._followed.shape)

    def _shape(self, given: pb.Track, attributes: Attributes) -> Track:
        return Track(given.id, given.class_id, tuple(map(self._keyframe, given.keyframes)), attributes)

    def _keyframe(self, given: pb.Keyframe) -> Keyframe:
        place = (
            self._followed.read(getattr(given, self._followed.field)) if given.WhichOneof("shape") else None
        )
        if isinstance(place, Skeleton) and all(p.visibility is Visibility.ABSENT for p in place.keypoints):
            place = None  # nothing of it is in the picture
        return Keyframe(
            frame=given.frame,
            box=place if isinstance(place, Box) else None,
            outside=given.outside or place is None,
            attributes=read_attributes(given.attributes),
            shape=None if isinstance(place, Box) else place,
        )

    def attributes_of(self, shape: Track) -> Attributes:
        """What a labeler says of a whole track, at its first keyframe as well."""
        own = {name for name, _ in shape.attributes}
        first = shape.keyframes[0].attributes
        return (*shape.attributes, *(pair for pair in first if pair[0] not in own))

    def rings(self, shape: Track) -> Iterable[Ring]:
        """The outlines and holes at its keyframes."""
        return (
            ring
            for key in shape.keyframes
            if isinstance(key.shape, Polygon)
            for ring in messages.rings_of(key.shape)
        )

    def _facts(self, said: Said[Track], joined: JoinedObject[Track]) -> Facts:
        track = joined.object
        # What holds "from this frame on" at the first keyframe holds for the whole track.
        elsewhere = [name for name, _ in track.keyframes[0].attributes]
        rules = self._attributes.get(track.class_id, {})
        others = said.others(track.class_id) if rules else None
        return written_attributes(track.attributes, rules, others, elsewhere)

    def _message(self, said: Said[Track], joined: JoinedObject[Track], attributes: Facts) -> pb.Track:
        track = joined.object
        rules = _optional(self._attributes.get(track.class_id, {}))
        keyframes = []
        for key in track.keyframes:
            written = pb.Keyframe(
                frame=key.frame,
                outside=key.outside,
                attributes=written_attributes(key.attributes, rules),
            )
            if key.place is not None:
                getattr(written, self._followed.field).CopyFrom(self._place(said, key.place))
            keyframes.append(written)
        return pb.Track(id=track.id, class_id=track.class_id, keyframes=keyframes, attributes=attributes)

    def _place(self, said: Said[Track], place: Any) -> Any:
        """The message of a keyframe's shape."""
        match place:
            case Box():
                return messages.box_message(place)
            case RotatedBox():
                return messages.rotated_box_message(place)
            case Ellipse():
                return messages.ellipse_message(place)
            case Polygon():
                return messages.polygon_message(place, said.bounds)
            case _:
                return messages.skeleton_message(place, self.rules.points)

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


def _optional(rules: Mapping[str, Attribute]) -> Mapping[str, Attribute]:
    """The rules of a keyframe's attributes: none of them is required there."""
    found = {}
    for name, rule in rules.items():
        found[name] = Attribute()
        found[name].CopyFrom(rule)
        found[name].required = False
    return found
