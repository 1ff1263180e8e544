"""Boxes to cuboids, skeletons and regions: each kind's fields, and nothing that all shapes share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cairn.label.v1 import label_value_pb2 as pb
from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.domain.kinds.objects import ObjectsState
from cairn_truth.shapes import (
    boxes,
    cuboids,
    ellipses,
    keypoints,
    polygons,
    polylines,
    regions,
    rotated_boxes,
)
from cairn_truth.shapes.attributes import Attributes
from cairn_truth.shapes.boxes import Box, LiveBoxes
from cairn_truth.shapes.cuboids import Cuboid, LiveCuboids
from cairn_truth.shapes.ellipses import Ellipse, LiveEllipses
from cairn_truth.shapes.joined import JoinedObject
from cairn_truth.shapes.keypoints import Keypoint, LiveSkeletons, Skeleton, Visibility
from cairn_truth.shapes.polygons import LivePolygons, Polygon
from cairn_truth.shapes.polylines import LivePolylines, Polyline
from cairn_truth.shapes.regions import LiveRegions, Region
from cairn_truth.shapes.rotated_boxes import LiveRotatedBoxes, RotatedBox

Facts = list[pb.AttributeValue]


class BoxesState(ObjectsState[Box]):
    """Upright rectangles."""

    algorithm = boxes.ALGORITHM
    algorithm_version = boxes.VERSION

    def _kind(self) -> type[LiveBoxes]:
        return LiveBoxes

    def _shape(self, given: pb.Box, attributes: Attributes) -> Box:
        return Box(given.class_id, given.x, given.y, given.width, given.height, attributes)

    def _message(self, item: ItemKey, joined: JoinedObject[Box], attributes: Facts) -> pb.Box:
        b = joined.object
        return pb.Box(
            class_id=b.class_id, x=b.x, y=b.y, width=b.width, height=b.height, attributes=attributes
        )


class RotatedBoxesState(ObjectsState[RotatedBox]):
    """Rectangles with a rotation."""

    algorithm = rotated_boxes.ALGORITHM
    algorithm_version = rotated_boxes.VERSION

    def _kind(self) -> type[LiveRotatedBoxes]:
        return LiveRotatedBoxes

    def _shape(self, given: pb.RotatedBox, attributes: Attributes) -> RotatedBox:
        return RotatedBox(
            given.class_id,
            given.center_x,
            given.center_y,
            given.width,
            given.height,
            given.rotation_degrees,
            attributes,
        )

    def _message(self, item: ItemKey, joined: JoinedObject[RotatedBox], attributes: Facts) -> pb.RotatedBox:
        b = joined.object
        return pb.RotatedBox(
            class_id=b.class_id,
            center_x=b.center_x,
            center_y=b.center_y,
            width=b.width,
            height=b.height,
            rotation_degrees=b.rotation_degrees,
            attributes=attributes,
        )


class EllipsesState(ObjectsState[Ellipse]):
    """Ellipses."""

    algorithm = ellipses.ALGORITHM
    algorithm_version = ellipses.VERSION

    def _kind(self) -> type[LiveEllipses]:
        return LiveEllipses

    def _shape(self, given: pb.Ellipse, attributes: Attributes) -> Ellipse:
        return Ellipse(
            given.class_id,
            given.center_x,
            given.center_y,
            given.radius_x,
            given.radius_y,
            given.rotation_degrees,
            attributes,
        )

    def _message(self, item: ItemKey, joined: JoinedObject[Ellipse], attributes: Facts) -> pb.Ellipse:
        e = joined.object
        return pb.Ellipse(
            class_id=e.class_id,
            center_x=e.center_x,
            center_y=e.center_y,
            radius_x=e.radius_x,
            radius_y=e.radius_y,
            rotation_degrees=e.rotation_degrees,
            attributes=attributes,
        )


class PolygonsState(ObjectsState[Polygon]):
    """Closed outlines, with holes."""

    algorithm = polygons.ALGORITHM
    algorithm_version = polygons.VERSION

    def _kind(self) -> type[LivePolygons]:
        return LivePolygons

    def _shape(self, given: pb.Polygon, attributes: Attributes) -> Polygon:
        holes = tuple(tuple(hole.xy) for hole in given.holes)
        return Polygon(given.class_id, tuple(given.outline.xy), holes, attributes)

    def _message(self, item: ItemKey, joined: JoinedObject[Polygon], attributes: Facts) -> pb.Polygon:
        one = joined.object
        given = [
            ring for _, answer in self._live.votes_on(item) for p in answer for ring in (p.outline, *p.holes)
        ]
        return pb.Polygon(
            class_id=one.class_id,
            outline=pb.Points(xy=_within(one.outline, given)),
            holes=[pb.Points(xy=_within(hole, given)) for hole in one.holes],
            attributes=attributes,
        )


class PolylinesState(ObjectsState[Polyline]):
    """Open lines."""

    algorithm = polylines.ALGORITHM
    algorithm_version = polylines.VERSION

    def _kind(self) -> type[LivePolylines]:
        return LivePolylines

    def _shape(self, given: pb.Polyline, attributes: Attributes) -> Polyline:
        return Polyline(given.class_id, tuple(given.line.xy), attributes)

    def _message(self, item: ItemKey, joined: JoinedObject[Polyline], attributes: Facts) -> pb.Polyline:
        one = joined.object
        given = [line.line for _, answer in self._live.votes_on(item) for line in answer]
        return pb.Polyline(
            class_id=one.class_id, line=pb.Points(xy=_within(one.line, given)), attributes=attributes
        )


class CuboidsState(ObjectsState[Cuboid]):
    """Boxes in space as seen on an image."""

    algorithm = cuboids.ALGORITHM
    algorithm_version = cuboids.VERSION

    def _kind(self) -> type[LiveCuboids]:
        return LiveCuboids

    def _shape(self, given: pb.Cuboid, attributes: Attributes) -> Cuboid:
        return Cuboid(given.class_id, tuple(given.corners.xy), attributes)

    def _message(self, item: ItemKey, joined: JoinedObject[Cuboid], attributes: Facts) -> pb.Cuboid:
        one = joined.object
        return pb.Cuboid(class_id=one.class_id, corners=pb.Points(xy=one.corners), attributes=attributes)


class SkeletonsState(ObjectsState[Skeleton]):
    """Skeletons of named points."""

    algorithm = keypoints.ALGORITHM
    algorithm_version = keypoints.VERSION

    def _kind(self) -> type[LiveSkeletons]:
        return LiveSkeletons

    def _shape(self, given: pb.Skeleton, attributes: Attributes) -> Skeleton:
        return Skeleton(given.class_id, keypoints_of(given), attributes)

    def _message(self, item: ItemKey, joined: JoinedObject[Skeleton], attributes: Facts) -> pb.Skeleton:
        one = joined.object
        place = {name: k for k, name in enumerate(self.rules.points)}
        points = [
            pb.Keypoint(point=p.point, x=p.x, y=p.y, visibility=pb.Visibility.ValueType(int(p.visibility)))
            for p in sorted(one.keypoints, key=lambda p: place.get(p.point, len(place)))
        ]
        return pb.Skeleton(class_id=one.class_id, keypoints=points, attributes=attributes)


class RegionsState(ObjectsState[Region]):
    """Boxes on the pages of a document, with a class, a text, or both."""

    algorithm = regions.ALGORITHM
    algorithm_version = regions.VERSION

    def _kind(self) -> type[LiveRegions]:
        return LiveRegions

    def _shape(self, given: pb.Region, attributes: Attributes) -> Region:
        return Region(
            given.page,
            given.x,
            given.y,
            given.width,
            given.height,
            given.class_id,
            given.text,
            attributes,
        )

    def _message(self, item: ItemKey, joined: JoinedObject[Region], attributes: Facts) -> pb.Region:
        r = joined.object
        return pb.Region(
            page=r.page,
            x=r.x,
            y=r.y,
            width=r.width,
            height=r.height,
            class_id=r.class_id,
            text=r.text,
            attributes=attributes,
        )


def keypoints_of(skeleton: pb.Skeleton) -> tuple[Keypoint, ...]:
    """Its points; a visibility that is not stated is visible."""
    return tuple(
        Keypoint(p.point, p.x, p.y, Visibility(p.visibility or pb.VISIBILITY_VISIBLE))
        for p in skeleton.keypoints
    )


def _within(points: Sequence[float], given: Iterable[Sequence[float]]) -> list[float]:
    """Points kept within the bounds of all that labelers drew: an average of outlines may bulge a little beyond the
    edge of the image, whose size is not known here."""
    drawn = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in given])
    xy = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    kept: list[float] = np.clip(xy, drawn.min(axis=0), drawn.max(axis=0)).ravel().tolist()
    return kept
