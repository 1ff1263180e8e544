"""Checks of shapes on a picture: boxes to cuboids, skeletons and masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.answer_parts import (
    EDGE_TOLERANCE,
    Scene,
    check_count,
    check_object,
    check_picture,
    check_point,
    check_points,
    check_size,
)
from cairn_annotation_store.domain.violations import listed, shown


def check_boxes(value: value_pb.Boxes, at: str, scene: Scene) -> None:
    """Upright rectangles inside the image."""
    _check_shapes(value.boxes, f"{at}.boxes", "boxes", box_geometry, scene)


def check_rotated_boxes(value: value_pb.RotatedBoxes, at: str, scene: Scene) -> None:
    """Turned rectangles with their centre inside the image."""
    _check_shapes(value.rotated_boxes, f"{at}.rotated_boxes", "boxes", rotated_box_geometry, scene)


def check_ellipses(value: value_pb.Ellipses, at: str, scene: Scene) -> None:
    """Ellipses with their centre inside the image."""
    _check_shapes(value.ellipses, f"{at}.ellipses", "ellipses", ellipse_geometry, scene)


def check_polygons(value: value_pb.Polygons, at: str, scene: Scene) -> None:
    """Closed outlines, with holes, inside the image."""
    _check_shapes(value.polygons, f"{at}.polygons", "polygons", polygon_geometry, scene)


def check_polylines(value: value_pb.Polylines, at: str, scene: Scene) -> None:
    """Open lines inside the image."""
    _check_shapes(value.polylines, f"{at}.polylines", "lines", _polyline_geometry, scene)


def check_cuboids(value: value_pb.Cuboids, at: str, scene: Scene) -> None:
    """Eight corners each, which may lie outside the image."""
    _check_shapes(value.cuboids, f"{at}.cuboids", "cuboids", _cuboid_geometry, scene)


def check_skeletons(value: value_pb.Skeletons, at: str, scene: Scene) -> None:
    """Named points, each name at most once."""
    rules: schema_pb.KeypointsQuestion = scene.question.rules
    here = f"{at}.skeletons"
    check_picture(at, scene)
    check_count(len(value.skeletons), 0, rules.max_skeletons, "skeletons", here, scene.report)
    for i, skeleton in enumerate(value.skeletons):
        if scene.report.full:
            return
        check_object(skeleton.class_id, skeleton.attributes, f"{here}[{i}]", scene)
        skeleton_geometry(skeleton, f"{here}[{i}]", scene)


def _check_shapes(
    shapes: Sequence[object], at: str, noun: str, geometry: Callable[..., None], scene: Scene
) -> None:
    rules: schema_pb.ShapesQuestion = scene.question.rules
    check_picture(at.rpartition(".")[0], scene)
    check_count(len(shapes), rules.min_shapes, rules.max_shapes, noun, at, scene.report)
    for i, shape in enumerate(shapes):
        if scene.report.full:
            return
        check_object(shape.class_id, shape.attributes, f"{at}[{i}]", scene)  # type: ignore[attr-defined]
        geometry(shape, f"{at}[{i}]", scene)


def box_geometry(box: value_pb.Box, at: str, scene: Scene) -> None:
    """Inside the image, with an area."""
    check_point(box.x, box.y, f"{at}.x", f"{at}.y", scene)
    for start, extent, size, field in (
        (box.x, box.width, scene.item.width, "width"),
        (box.y, box.height, scene.item.height, "height"),
    ):
        if (
            check_size(extent, f"{at}.{field}", scene.report)
            and size
            and start + extent > size + EDGE_TOLERANCE
        ):
            scene.report.add(
                f"{at}.{field}", f"the box ends at {start + extent!r}, outside the image", f"at most {size}"
            )


def rotated_box_geometry(box: value_pb.RotatedBox, at: str, scene: Scene) -> None:
    """Centre inside the image, extents above 0, a finite angle."""
    check_point(box.center_x, box.center_y, f"{at}.center_x", f"{at}.center_y", scene)
    check_size(box.width, f"{at}.width", scene.report)
    check_size(box.height, f"{at}.height", scene.report)
    _check_angle(box.rotation_degrees, at, scene)


def ellipse_geometry(ellipse: value_pb.Ellipse, at: str, scene: Scene) -> None:
    """Centre inside the image, radii above 0, a finite angle."""
    check_point(ellipse.center_x, ellipse.center_y, f"{at}.center_x", f"{at}.center_y", scene)
    check_size(ellipse.radius_x, f"{at}.radius_x", scene.report)
    check_size(ellipse.radius_y, f"{at}.radius_y", scene.report)
    _check_angle(ellipse.rotation_degrees, at, scene)


def polygon_geometry(polygon: value_pb.Polygon, at: str, scene: Scene) -> None:
    """Outline and holes of three points or more inside the image."""
    check_points(polygon.outline.xy, 3, f"{at}.outline", scene)
    for i, hole in enumerate(polygon.holes):
        check_points(hole.xy, 3, f"{at}.holes[{i}]", scene)


def skeleton_geometry(skeleton: value_pb.Skeleton, at: str, scene: Scene) -> None:
    """Known names, each once, inside the image unless absent."""
    names = scene.question.rules.points
    seen: set[str] = set()
    if not skeleton.keypoints:
        scene.report.add(f"{at}.keypoints", "there are no points", "at least one")
    for i, keypoint in enumerate(skeleton.keypoints):
        here = f"{at}.keypoints[{i}]"
        if keypoint.point not in names:
            scene.report.add(
                f"{here}.point", f"{shown(keypoint.point)} is no point", f"one of {listed(names)}"
            )
        elif keypoint.point in seen:
            scene.report.add(f"{here}.point", f"{shown(keypoint.point)} is given twice", "each point once")
        seen.add(keypoint.point)
        if keypoint.visibility not in value_pb.Visibility.values():
            scene.report.add(f"{here}.visibility", f"{keypoint.visibility} is unknown", "one of Visibility")
        if keypoint.visibility != value_pb.VISIBILITY_ABSENT:
            check_point(keypoint.x, keypoint.y, f"{here}.x", f"{here}.y", scene)
        elif not (math.isfinite(keypoint.x) and math.isfinite(keypoint.y)):
            scene.report.add(here, "a coordinate is not finite", "finite numbers, or none")


def _polyline_geometry(line: value_pb.Polyline, at: str, scene: Scene) -> None:
    check_points(line.line.xy, 2, f"{at}.line", scene)


def _cuboid_geometry(cuboid: value_pb.Cuboid, at: str, scene: Scene) -> None:
    check_points(cuboid.corners.xy, 8, f"{at}.corners", scene, inside=False, exactly=True)


def _check_angle(degrees: float, at: str, scene: Scene) -> None:
    if not math.isfinite(degrees):
        scene.report.add(f"{at}.rotation_degrees", f"the angle is {degrees}", "a finite number of degrees")


def check_mask(value: value_pb.Mask, at: str, scene: Scene) -> None:
    """The item's size; runs that fill it exactly with known class indices. A blob is checked by the caller."""
    check_picture(at, scene)
    for given, size, field in (
        (value.width, scene.item.width, "width"),
        (value.height, scene.item.height, "height"),
    ):
        if given == 0 or given > 65_535:
            scene.report.add(f"{at}.{field}", f"the {field} is {given}", "1 to 65535")
        elif size and given != size:
            scene.report.add(f"{at}.{field}", f"the {field} is {given}", f"{size}, as the item's")
    match value.WhichOneof("raster"):
        case None:
            scene.report.add(at, "there is no raster", "runs or a blob")
        case "runs":
            _check_runs(value, f"{at}.runs", scene)


def _check_runs(mask: value_pb.Mask, at: str, scene: Scene) -> None:
    indices, lengths = mask.runs.class_indices, mask.runs.lengths
    if len(indices) != len(lengths):
        scene.report.add(
            f"{at}.lengths",
            f"there are {len(lengths)} lengths for {len(indices)} class indices",
            "one for each class index",
        )
        return
    pixels, filled = mask.width * mask.height, sum(lengths)
    if filled != pixels:
        scene.report.add(
            f"{at}.lengths", f"the runs add up to {filled} pixels", f"{pixels}: width times height"
        )
    most = len(scene.question.classes)
    if indices and max(indices) > most:
        i = next(i for i, index in enumerate(indices) if index > most)
        scene.report.add(f"{at}.class_indices[{i}]", f"{indices[i]} is no class", f"0 (no class) to {most}")
    if 0 in lengths:
        scene.report.add(f"{at}.lengths[{list(lengths).index(0)}]", "the run is empty", "at least 1 pixel")
