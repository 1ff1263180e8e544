"""Boxes to cuboids, skeletons and regions: each kind's messages, and nothing that all shapes share."""

from __future__ import annotations

from collections.abc import Iterable

from cairn.label.v1 import label_value_pb2 as pb
from cairn_consensus.domain.kinds import shape_messages as messages
from cairn_consensus.domain.kinds.objects import ObjectsState, Said
from cairn_consensus.domain.kinds.shape_messages import Facts, Ring
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
from cairn_truth.shapes.keypoints import LiveSkeletons, Skeleton
from cairn_truth.shapes.polygons import LivePolygons, Polygon
from cairn_truth.shapes.polylines import LivePolylines, Polyline
from cairn_truth.shapes.regions import LiveRegions, Region
from cairn_truth.shapes.rotated_boxes import LiveRotatedBoxes, RotatedBox


class BoxesState(ObjectsState[Box]):
    """Upright rectangles."""

    algorithm = boxes.ALGORITHM
    algorithm_version = boxes.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveBoxes:
        return LiveBoxes(tolerance, classes)

    def _shape(self, given: pb.Box, attributes: Attributes) -> Box:
        return messages.box_of(given, attributes)

    def _message(self, said: Said[Box], joined: JoinedObject[Box], attributes: Facts) -> pb.Box:
        return messages.box_message(joined.object, attributes)


class RotatedBoxesState(ObjectsState[RotatedBox]):
    """Rectangles with a rotation."""

    algorithm = rotated_boxes.ALGORITHM
    algorithm_version = rotated_boxes.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveRotatedBoxes:
        return LiveRotatedBoxes(tolerance, classes)

    def _shape(self, given: pb.RotatedBox, attributes: Attributes) -> RotatedBox:
        return messages.rotated_box_of(given, attributes)

    def _message(
        self, said: Said[RotatedBox], joined: JoinedObject[RotatedBox], attributes: Facts
    ) -> pb.RotatedBox:
        return messages.rotated_box_message(joined.object, attributes)


class EllipsesState(ObjectsState[Ellipse]):
    """Ellipses."""

    algorithm = ellipses.ALGORITHM
    algorithm_version = ellipses.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveEllipses:
        return LiveEllipses(tolerance, classes)

    def _shape(self, given: pb.Ellipse, attributes: Attributes) -> Ellipse:
        return messages.ellipse_of(given, attributes)

    def _message(self, said: Said[Ellipse], joined: JoinedObject[Ellipse], attributes: Facts) -> pb.Ellipse:
        return messages.ellipse_message(joined.object, attributes)


class PolygonsState(ObjectsState[Polygon]):
    """Closed outlines, with holes."""

    algorithm = polygons.ALGORITHM
    algorithm_version = polygons.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LivePolygons:
        return LivePolygons(tolerance, classes)

    def _shape(self, given: pb.Polygon, attributes: Attributes) -> Polygon:
        return messages.polygon_of(given, attributes)

    def _message(self, said: Said[Polygon], joined: JoinedObject[Polygon], attributes: Facts) -> pb.Polygon:
        return messages.polygon_message(joined.object, said.bounds, attributes)

    def rings(self, shape: Polygon) -> Iterable[Ring]:
        """Its outline and holes."""
        return messages.rings_of(shape)


class PolylinesState(ObjectsState[Polyline]):
    """Open lines."""

    algorithm = polylines.ALGORITHM
    algorithm_version = polylines.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LivePolylines:
        return LivePolylines(tolerance, classes)

    def _shape(self, given: pb.Polyline, attributes: Attributes) -> Polyline:
        return Polyline(given.class_id, tuple(given.line.xy), attributes)

    def _message(
        self, said: Said[Polyline], joined: JoinedObject[Polyline], attributes: Facts
    ) -> pb.Polyline:
        one = joined.object
        line = pb.Points(xy=messages.within(one.line, said.bounds))
        return pb.Polyline(class_id=one.class_id, line=line, attributes=attributes)

    def rings(self, shape: Polyline) -> Iterable[Ring]:
        """The line."""
        return (shape.line,)


class CuboidsState(ObjectsState[Cuboid]):
    """Boxes in space as seen on an image."""

    algorithm = cuboids.ALGORITHM
    algorithm_version = cuboids.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveCuboids:
        return LiveCuboids(tolerance, classes)

    def _shape(self, given: pb.Cuboid, attributes: Attributes) -> Cuboid:
        return Cuboid(given.class_id, tuple(given.corners.xy), attributes)

    def _message(self, said: Said[Cuboid], joined: JoinedObject[Cuboid], attributes: Facts) -> pb.Cuboid:
        one = joined.object
        return pb.Cuboid(class_id=one.class_id, corners=pb.Points(xy=one.corners), attributes=attributes)


class SkeletonsState(ObjectsState[Skeleton]):
    """Skeletons of named points."""

    algorithm = keypoints.ALGORITHM
    algorithm_version = keypoints.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveSkeletons:
        return LiveSkeletons(tolerance, classes)

    def _shape(self, given: pb.Skeleton, attributes: Attributes) -> Skeleton:
        return messages.skeleton_of(given, attributes)

    def _message(
        self, said: Said[Skeleton], joined: JoinedObject[Skeleton], attributes: Facts
    ) -> pb.Skeleton:
        return messages.skeleton_message(joined.object, self.rules.points, attributes)


class RegionsState(ObjectsState[Region]):
    """Boxes on the pages of a document, with a class, a text, or both."""

    algorithm = regions.ALGORITHM
    algorithm_version = regions.VERSION

    def _live_state(self, tolerance: float, classes: int) -> LiveRegions:
        return LiveRegions(tolerance, classes)

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

    def _message(self, said: Said[Region], joined: JoinedObject[Region], attributes: Facts) -> pb.Region:
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
