"""Checks that several kinds of answer share: classes, attributes, numbers, texts, points on the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.schema import DEFAULT_MAX_TEXT, QuestionRules, SchemaRules
from cairn_annotation_store.domain.violations import Report, listed, shown

EDGE_TOLERANCE = 1e-6
"""Pixels by which a shape may pass the edge: `x + width` of a box that ends at the edge is off by rounding."""


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What of an item decides whether an answer fits it. None and 0 mean: not known, so not checked."""

    has_text: bool
    has_blob: bool
    text_length: int | None = None
    """Unicode code points of the item's text."""
    candidates: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    duration_seconds: float = 0.0
    frame_count: int = 0
    page_count: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """What every check of one answer needs: the schema, the question, the item, and where to report."""

    schema: SchemaRules
    question: QuestionRules
    item: ItemFacts
    report: Report


def check_class(class_id: str, at: str, scene: Scene) -> None:
    """The class is one of the question's."""
    if class_id not in scene.question.classes:
        scene.report.add(
            at,
            f"{shown(class_id)} is no class of question {shown(scene.question.id)}",
            f"one of {listed(scene.question.classes)}",
        )


def check_object(class_id: str, attributes: Sequence[value_pb.AttributeValue], at: str, scene: Scene) -> None:
    """The class of an object at `at`, and the attributes that class has."""
    check_class(class_id, f"{at}.class_id", scene)
    rules = scene.question.classes.get(class_id)
    if rules is not None:
        check_attributes(attributes, rules.attributes, at, scene)


def check_attributes(
    values: Sequence[value_pb.AttributeValue],
    rules: Mapping[str, schema_pb.Attribute],
    at: str,
    scene: Scene,
    *,
    required: bool = True,
) -> None:
    """Each attribute known, given once and of its kind; with `required`, none missing that must be there."""
    seen: set[str] = set()
    for i, value in enumerate(values):
        here = f"{at}.attributes[{i}]"
        attribute = rules.get(value.attribute)
        if attribute is None:
            scene.report.add(
                f"{here}.attribute",
                f"{shown(value.attribute)} is no attribute of the class",
                f"one of {listed(rules)}" if rules else "no attributes",
            )
            continue
        if value.attribute in seen:
            scene.report.add(f"{here}.attribute", f"{shown(value.attribute)} is given twice", "once")
        seen.add(value.attribute)
        _check_attribute(value, attribute, here, scene)
    if required:
        for attribute in rules.values():
            if attribute.required and attribute.id not in seen:
                scene.report.add(
                    f"{at}.attributes", f"{shown(attribute.id)} is missing", "every required attribute"
                )


def _check_attribute(
    value: value_pb.AttributeValue, attribute: schema_pb.Attribute, at: str, scene: Scene
) -> None:
    wanted = {"options": "option"}.get(kind := attribute.WhichOneof("kind") or "", kind)
    given = value.WhichOneof("value")
    if given != wanted:
        scene.report.add(at, f"the value is {given or 'absent'}", f"{wanted}, as the attribute asks")
    elif wanted == "option" and value.option not in attribute.options.values:
        scene.report.add(
            f"{at}.option",
            f"{shown(value.option)} is no option",
            f"one of {listed(attribute.options.values)}",
        )
    elif wanted == "number":
        check_number(value.number, attribute.number, f"{at}.number", scene.report)
    elif wanted == "text":
        pattern = scene.schema.attribute_pattern(attribute.text.pattern) if attribute.text.pattern else None
        check_text(value.text, attribute.text, pattern, f"{at}.text", scene.report)


def check_number(value: float, rules: schema_pb.NumberQuestion, at: str, report: Report) -> None:
    """Finite, whole where it must be, and in range."""
    if not math.isfinite(value):
        report.add(at, f"the value is {value}", "a finite number")
        return
    if rules.whole and value != math.floor(value):
        report.add(at, f"the value is {value!r}", "a whole number")
    if rules.HasField("minimum") and value < rules.minimum:
        report.add(at, f"the value is {value!r}", f"at least {rules.minimum!r}{_unit(rules)}")
    if rules.HasField("maximum") and value > rules.maximum:
        report.add(at, f"the value is {value!r}", f"at most {rules.maximum!r}{_unit(rules)}")


def check_text(
    value: str, rules: schema_pb.TextQuestion, pattern: object | None, at: str, report: Report
) -> None:
    """Not too long, and matched whole by the pattern."""
    most = rules.max_length or DEFAULT_MAX_TEXT
    if len(value) > most:
        report.add(at, f"the text has {len(value)} code points", f"at most {most}")
    elif pattern is not None and pattern.fullmatch(value) is None:  # type: ignore[attr-defined]
        report.add(
            at,
            f"{shown(value)} does not match the pattern",
            f"a text that {shown(rules.pattern)} matches whole",
        )


def check_picture(at: str, scene: Scene) -> None:
    """The item has pixels at all."""
    if scene.item.has_text and not scene.item.has_blob:
        scene.report.add(at, "the item is a text and has no pixels", "an item with an image")


def check_point(x: float, y: float, at_x: str, at_y: str, scene: Scene) -> None:
    """A finite point inside the picture; edges belong to it."""
    check_coordinate(x, scene.item.width, at_x, scene.report)
    check_coordinate(y, scene.item.height, at_y, scene.report)


def check_coordinate(value: float, size: int, at: str, report: Report) -> None:
    """A finite pixel coordinate from 0 to `size` (0: not known)."""
    if not math.isfinite(value):
        report.add(at, f"the coordinate is {value}", "a finite number of pixels")
    elif value < -EDGE_TOLERANCE:
        report.add(at, f"{value!r} is outside the image", "at least 0")
    elif size and value > size + EDGE_TOLERANCE:
        report.add(at, f"{value!r} is outside the image", f"at most {size}")


def check_size(value: float, at: str, report: Report) -> bool:
    """A finite extent above 0."""
    if math.isfinite(value) and value > 0:
        return True
    report.add(at, f"the size is {value!r}", "a finite number above 0")
    return False


def check_points(
    xy: Sequence[float], least: int, at: str, scene: Scene, *, inside: bool = True, exactly: bool = False
) -> None:
    """Points as x0, y0, x1, y1, ...: `least` of them or more (or `exactly` so many), in the picture if `inside`."""
    count = len(xy) // 2
    if len(xy) % 2:
        scene.report.add(f"{at}.xy", f"there are {len(xy)} coordinates", "an even count: x0, y0, x1, y1, ...")
        return
    if count < least or (exactly and count != least):
        scene.report.add(
            f"{at}.xy", f"there are {count} points", f"{'exactly' if exactly else 'at least'} {least}"
        )
    if not inside:
        for i, value in enumerate(xy):
            if not math.isfinite(value):
                scene.report.add(f"{at}.xy[{i}]", f"the coordinate is {value}", "a finite number of pixels")
        return
    for i, value in enumerate(xy):
        size = scene.item.height if i % 2 else scene.item.width
        if not 0 <= value <= (size or math.inf) or value == math.inf:  # the rare case is looked at closely
            check_coordinate(value, size, f"{at}.xy[{i}]", scene.report)


def check_count(count: int, least: int, most: int, noun: str, at: str, report: Report) -> None:
    """How many objects an answer holds; `most` 0 means 10,000."""
    limit = most or 10_000
    if count < least:
        report.add(at, f"there are {count} {noun}", f"at least {least}")
    elif count > limit:
        report.add(at, f"there are {count} {noun}", f"at most {limit}")


def _unit(rules: schema_pb.NumberQuestion) -> str:
    return f" {rules.unit}" if rules.unit else ""
