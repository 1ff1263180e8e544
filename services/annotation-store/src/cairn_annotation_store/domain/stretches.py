"""Checks of stretches of text, time and pages, of links between spans, and of tracks through a video."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain import shapes
from cairn_annotation_store.domain.answer_parts import (
    EDGE_TOLERANCE,
    Scene,
    check_attributes,
    check_class,
    check_coordinate,
    check_object,
    check_size,
)
from cairn_annotation_store.domain.violations import shown

_TRACK_FIELDS: Mapping[int, tuple[str, Callable[..., None]]] = {
    schema_pb.TRACK_SHAPE_BOX: ("box", shapes.box_geometry),
    schema_pb.TRACK_SHAPE_ROTATED_BOX: ("rotated_box", shapes.rotated_box_geometry),
    schema_pb.TRACK_SHAPE_ELLIPSE: ("ellipse", shapes.ellipse_geometry),
    schema_pb.TRACK_SHAPE_POLYGON: ("polygon", shapes.polygon_geometry),
    schema_pb.TRACK_SHAPE_SKELETON: ("skeleton", shapes.skeleton_geometry),
}


def check_spans(value: value_pb.Spans, at: str, scene: Scene) -> None:
    """[start, end) in code points of the item's text; ids unique; overlapping only where allowed."""
    if not scene.item.has_text and not scene.item.has_blob:
        scene.report.add(at, "the item has no text", "an item with a text")
    elif (
        scene.item.has_blob
        and scene.item.text_length is None
        and (scene.item.width or scene.item.duration_seconds)
    ):
        scene.report.add(at, "the item is no text", "an item with a text")
    length = scene.item.text_length
    ids: set[str] = set()
    for i, span in enumerate(value.spans):
        here = f"{at}.spans[{i}]"
        if scene.report.full:
            return
        check_object(span.class_id, span.attributes, here, scene)
        if span.end <= span.start:
            scene.report.add(f"{here}.end", f"{span.end} is not after the start", f"above {span.start}")
        if length is not None and span.end > length:
            scene.report.add(
                f"{here}.end", f"{span.end} is past the end of the text", f"at most {length} code points"
            )
        if len(span.id) > 64:
            scene.report.add(f"{here}.id", f"it has {len(span.id)} code points", "at most 64")
        if span.id and span.id in ids:
            scene.report.add(f"{here}.id", f"{shown(span.id)} names an earlier span", "a unique id, or none")
        ids.add(span.id)
    if not scene.question.rules.overlaps_allowed:
        _check_apart([(s.start, s.end) for s in value.spans], f"{at}.spans", "span", scene)


def check_relations(
    value: value_pb.Relations, at: str, scene: Scene, answers: Mapping[str, value_pb.Answer] | None
) -> None:
    """Links between spans that the same annotation has under the spans question. None: its answers are not at hand."""
    rules: schema_pb.RelationsQuestion = scene.question.rules
    spans = answers.get(rules.spans_question) if answers is not None else None
    ids = {span.id for span in spans.spans.spans if span.id} if spans is not None else set()
    for i, relation in enumerate(value.relations):
        here = f"{at}.relations[{i}]"
        if scene.report.full:
            return
        check_class(relation.class_id, f"{here}.class_id", scene)
        if answers is None:
            continue
        for field, span in (("from_span", relation.from_span), ("to_span", relation.to_span)):
            if span not in ids:
                scene.report.add(
                    f"{here}.{field}",
                    f"{shown(span)} is no span of this annotation",
                    f"the id of a span in the answer to {shown(rules.spans_question)}",
                )


def check_regions(value: value_pb.Regions, at: str, scene: Scene) -> None:
    """Boxes on pages, with a class where the question has classes and a text where it wants one."""
    rules: schema_pb.RegionsQuestion = scene.question.rules
    item = scene.item
    for i, region in enumerate(value.regions):
        here = f"{at}.regions[{i}]"
        if scene.report.full:
            return
        if rules.classes or region.class_id:
            check_object(region.class_id, region.attributes, here, scene)
        elif region.attributes:
            scene.report.add(f"{here}.attributes", "attributes belong to a class", "none")
        if region.page < 1 or (item.page_count and region.page > item.page_count):
            last = f" to {item.page_count}" if item.page_count else " or more"
            scene.report.add(f"{here}.page", f"there is no page {region.page}", f"1{last}")
        for start, extent, size, x, width in (
            (region.x, region.width, item.width, "x", "width"),
            (region.y, region.height, item.height, "y", "height"),
        ):
            check_coordinate(start, size, f"{here}.{x}", scene.report)
            sound = check_size(extent, f"{here}.{width}", scene.report)
            if sound and size and start + extent > size + EDGE_TOLERANCE:
                scene.report.add(
                    f"{here}.{width}",
                    f"the region ends at {start + extent!r}, outside the page",
                    f"at most {size}",
                )
        _check_note(region.text, rules.text_required, here, scene)


def check_segments(value: value_pb.Segments, at: str, scene: Scene) -> None:
    """[start, end) in seconds; overlapping only where allowed."""
    rules: schema_pb.SegmentsQuestion = scene.question.rules
    length = scene.item.duration_seconds
    if scene.item.has_text and not scene.item.has_blob:
        scene.report.add(at, "the item is a text and has no time", "an item with audio or video")
    for i, segment in enumerate(value.segments):
        here = f"{at}.segments[{i}]"
        if scene.report.full:
            return
        check_object(segment.class_id, segment.attributes, here, scene)
        start, end = segment.start_seconds, segment.end_seconds
        if not (math.isfinite(start) and start >= 0):
            scene.report.add(f"{here}.start_seconds", f"the start is {start!r}", "at least 0 seconds")
        elif not (math.isfinite(end) and end > start):
            scene.report.add(f"{here}.end_seconds", f"the end is {end!r}", f"after the start, {start!r}")
        elif length and end > length + EDGE_TOLERANCE:
            scene.report.add(
                f"{here}.end_seconds",
                f"{end!r} is past the end",
                f"at most {length!r} seconds, as the item's",
            )
        _check_note(segment.text, rules.text_required, here, scene)
    if not rules.overlaps_allowed:
        stretches = [(s.start_seconds, s.end_seconds) for s in value.segments]
        _check_apart(stretches, f"{at}.segments", "segment", scene)


def check_tracks(value: value_pb.Tracks, at: str, scene: Scene) -> None:
    """Objects through frames: unique ids; keyframes in rising order, each of the question's shape."""
    ids: set[str] = set()
    if scene.item.has_text and not scene.item.has_blob:
        scene.report.add(at, "the item is a text and has no frames", "an item with a video")
    for i, track in enumerate(value.tracks):
        here = f"{at}.tracks[{i}]"
        if scene.report.full:
            return
        if not track.id or track.id in ids:
            wrong = f"{shown(track.id)} names an earlier track" if track.id else "the track has no id"
            scene.report.add(f"{here}.id", wrong, "a unique id")
        elif len(track.id) > 64:
            scene.report.add(f"{here}.id", f"it has {len(track.id)} code points", "at most 64")
        ids.add(track.id)
        check_class(track.class_id, f"{here}.class_id", scene)
        class_rules = scene.question.classes.get(track.class_id)
        if class_rules is not None:
            first = [value for keyframe in track.keyframes[:1] for value in keyframe.attributes]
            # What holds "from this frame on" at the first keyframe holds for the whole track.
            own = {value.attribute for value in track.attributes}
            together = [*track.attributes, *(v for v in first if v.attribute not in own)]
            check_attributes(together, class_rules.attributes, here, scene)
        _check_keyframes(track, here, scene)


def _check_keyframes(track: value_pb.Track, at: str, scene: Scene) -> None:
    field, geometry = _TRACK_FIELDS[scene.question.rules.shape]
    class_rules = scene.question.classes.get(track.class_id)
    if not track.keyframes:
        scene.report.add(f"{at}.keyframes", "there are no keyframes", "at least one")
    before = -1
    for i, keyframe in enumerate(track.keyframes):
        here = f"{at}.keyframes[{i}]"
        if scene.report.full:
            return
        if keyframe.frame <= before:
            scene.report.add(
                f"{here}.frame", f"frame {keyframe.frame} does not follow {before}", "rising frames"
            )
        before = keyframe.frame
        if scene.item.frame_count and keyframe.frame >= scene.item.frame_count:
            scene.report.add(
                f"{here}.frame", f"there is no frame {keyframe.frame}", f"0 to {scene.item.frame_count - 1}"
            )
        given = keyframe.WhichOneof("shape")
        if given is None and not keyframe.outside:
            scene.report.add(here, "there is no shape", f"{field}, or `outside`")
        elif given is not None and given != field:
            scene.report.add(f"{here}.{given}", f"the shape is {given}", field)
        elif given is not None:
            shape = getattr(keyframe, given)
            if shape.class_id or shape.attributes:
                scene.report.add(
                    f"{here}.{given}",
                    "it has a class or attributes of its own",
                    "those of the track and keyframe",
                )
            geometry(shape, f"{here}.{given}", scene)
        if class_rules is not None and i > 0:
            check_attributes(keyframe.attributes, class_rules.attributes, here, scene, required=False)


def _check_note(text: str, required: bool, at: str, scene: Scene) -> None:
    if required and not text:
        scene.report.add(f"{at}.text", "there is no text", "the text, as the question asks")
    elif len(text) > 100_000:
        scene.report.add(f"{at}.text", f"the text has {len(text)} code points", "at most 100000")


def _check_apart(stretches: Sequence[tuple[float, float]], at: str, noun: str, scene: Scene) -> None:
    order = sorted(range(len(stretches)), key=lambda i: (stretches[i], i))
    for before, after in pairwise(order):
        if stretches[after][0] < stretches[before][1]:
            scene.report.add(f"{at}[{after}]", f"it overlaps {noun} {before}", f"{noun}s that do not overlap")
