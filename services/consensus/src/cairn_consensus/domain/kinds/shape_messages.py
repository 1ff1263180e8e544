"""Shapes between the contract's messages and truth's dataclasses: those that tracks follow, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cairn.label.v1 import label_value_pb2 as pb
from cairn_truth.shapes.attributes import Attributes
from cairn_truth.shapes.boxes import Box
from cairn_truth.shapes.ellipses import Ellipse
from cairn_truth.shapes.keypoints import Keypoint, Skeleton, Visibility
from cairn_truth.shapes.polygons import Polygon
from cairn_truth.shapes.rotated_boxes import RotatedBox

Facts = Sequence[pb.AttributeValue]
Ring = Sequence[float]
"""Points x0, y0, x1, y1, ..."""
Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The least and the greatest x and y."""


def box_of(given: pb.Box, attributes: Attributes = ()) -> Box:
    """Truth's box."""
    return Box(given.class_id, given.x, given.y, given.width, given.height, attributes)


def box_message(box: Box, attributes: Facts = ()) -> pb.Box:
    """The contract's box."""
    return pb.Box(
        class_id=box.class_id, x=box.x, y=box.y, width=box.width, height=box.height, attributes=attributes
    )


def rotated_box_of(given: pb.RotatedBox, attributes: Attributes = ()) -> RotatedBox:
    """Truth's rotated box."""
    return RotatedBox(
        given.class_id,
        given.center_x,
        given.center_y,
        given.width,
        given.height,
        given.rotation_degrees,
        attributes,
    )


def rotated_box_message(box: RotatedBox, attributes: Facts = ()) -> pb.RotatedBox:
    """The contract's rotated box."""
    return pb.RotatedBox(
        class_id=box.class_id,
        center_x=box.center_x,
        center_y=box.center_y,
        width=box.width,
        height=box.height,
        rotation_degrees=box.rotation_degrees,
        attributes=attributes,
    )


def ellipse_of(given: pb.Ellipse, attributes: Attributes = ()) -> Ellipse:
    """Truth's ellipse."""
    return Ellipse(
        given.class_id,
        given.center_x,
        given.center_y,
        given.radius_x,
        given.radius_y,
        given.rotation_degrees,
        attributes,
    )


def ellipse_message(ellipse: Ellipse, attributes: Facts = ()) -> pb.Ellipse:
    """The contract's ellipse."""
    return pb.Ellipse(
        class_id=ellipse.class_id,
        center_x=ellipse.center_x,
        center_y=ellipse.center_y,
        radius_x=ellipse.radius_x,
        radius_y=ellipse.radius_y,
        rotation_degrees=ellipse.rotation_degrees,
        attributes=attributes,
    )


def polygon_of(given: pb.Polygon, attributes: Attributes = ()) -> Polygon:
    """Truth's polygon."""
    holes = tuple(tuple(hole.xy) for hole in given.holes)
    return Polygon(given.class_id, tuple(given.outline.xy), holes, attributes)


def polygon_message(polygon: Polygon, drawn: Bounds, attributes: Facts = ()) -> pb.Polygon:
    """The contract's polygon, within the bounds of what labelers drew."""
    return pb.Polygon(
        class_id=polygon.class_id,
        outline=pb.Points(xy=within(polygon.outline, drawn)),
        holes=[pb.Points(xy=within(hole, drawn)) for hole in polygon.holes],
        attributes=attributes,
    )


def rings_of(polygon: Polygon) -> tuple[Ring, ...]:
    """The outline and the holes."""
    return (polygon.outline, *polygon.holes)


def skeleton_of(given: pb.Skeleton, attributes: Attributes = ()) -> Skeleton:
    """Truth's skeleton; a visibility that is not stated is visible."""
    points = tuple(
        Keypoint(p.point, p.x, p.y, Visibility(p.visibility or pb.VISIBILITY_VISIBLE))
        for p in given.keypoints
    )
    return Skeleton(given.class_id, points, attributes)


def skeleton_message(skeleton: Skeleton, order: Sequence[str], attributes: Facts = ()) -> pb.Skeleton:
    """The contract's skeleton, its points in the order of the question's."""
    place = {name: k for k, name in enumerate(order)}
    points = [
        pb.Keypoint(point=p.point, x=p.x, y=p.y, visibility=pb.Visibility.ValueType(int(p.visibility)))
        for p in sorted(skeleton.keypoints, key=lambda p: place.get(p.point, len(place)))
    ]
    return pb.Skeleton(class_id=skeleton.class_id, keypoints=points, attributes=attributes)


def bounds_of(drawn: Iterable[Ring]) -> Bounds:
    """The bounds of all that was drawn, which is something."""
    corners = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in drawn])
    return corners.min(axis=0), corners.max(axis=0)


def within(points: Ring, drawn: Bounds) -> list[float]:
    """Points kept within the bounds of all that labelers drew.

    An average of outlines may bulge a little beyond the edge of the image, whose size is not known here.
    """
    xy = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    kept: list[float] = np.clip(xy, *drawn).ravel().tolist()
    return kept
