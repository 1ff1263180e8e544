"""Whether a schema may change: what labels and annotations use may not vanish, nor its rules get narrower."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.schema import DEFAULT_MAX_TEXT, classes_of
from cairn_annotation_store.domain.violations import Report, shown
from cairn_kit.errors import Violation


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """Something of the schema that some answer names."""

    question: str
    facet: str
    """`value` (any answer), `class`, `attribute` (`class/attribute`), `option` (`class/attribute/option`), `point`."""
    name: str = ""


def uses_of(answers: Iterable[value_pb.Answer]) -> set[Use]:
    """What of the schema these answers name. An abstention names its question alone."""
    return {use for answer in answers for use in _uses(answer)}


def _uses(answer: value_pb.Answer) -> Iterator[Use]:
    question = answer.question
    field = answer.WhichOneof("value")
    if field == "abstention":
        yield Use(question, "abstention")
        return
    yield Use(question, "value")
    value = getattr(answer, field) if field else None
    match field:
        case "choice":
            yield Use(question, "class", answer.choice)
        case "choices":
            for class_id in answer.choices.class_ids:
                yield Use(question, "class", class_id)
        case "tracks":
            for track in answer.tracks.tracks:
                yield from _object_uses(question, track.class_id, track.attributes)
                for keyframe in track.keyframes:
                    yield from _object_uses(question, track.class_id, keyframe.attributes)
                    for point in keyframe.skeleton.keypoints:
                        yield Use(question, "point", point.point)
        case "relations":
            for relation in answer.relations.relations:
                yield Use(question, "class", relation.class_id)
        case "skeletons":
            for skeleton in answer.skeletons.skeletons:
                yield from _object_uses(question, skeleton.class_id, skeleton.attributes)
                for point in skeleton.keypoints:
                    yield Use(question, "point", point.point)
        case (
            "boxes"
            | "rotated_boxes"
            | "ellipses"
            | "polygons"
            | "polylines"
            | "cuboids"
            | "spans"
            | "regions"
            | "segments"
        ):
            for thing in getattr(value, field):
                yield from _object_uses(question, thing.class_id, thing.attributes)


def _object_uses(
    question: str, class_id: str, attributes: Sequence[value_pb.AttributeValue]
) -> Iterator[Use]:
    if class_id:
        yield Use(question, "class", class_id)
    for value in attributes:
        yield Use(question, "attribute", f"{class_id}/{value.attribute}")
        if value.WhichOneof("value") == "option":
            yield Use(question, "option", f"{class_id}/{value.attribute}/{value.option}")


def check_change(
    old: schema_pb.LabelSchema, new: schema_pb.LabelSchema, used: Iterable[Use]
) -> tuple[Violation, ...]:
    """What of the change would make an existing label or annotation invalid. Both schemas are valid in themselves."""
    report = Report()
    places = {question.id: i for i, question in enumerate(new.questions)}
    before = {question.id: question for question in old.questions}
    by_question: dict[str, set[Use]] = {}
    for use in used:
        by_question.setdefault(use.question, set()).add(use)
    for question_id, uses in sorted(by_question.items()):
        if question_id not in before:
            continue
        if question_id not in places:
            report.add("schema.questions", f"question {shown(question_id)} is gone", "it: it has answers")
            continue
        place = places[question_id]
        _check_question(before[question_id], new.questions[place], uses, f"schema.questions[{place}]", report)
    return report.violations()


def _check_question(
    old: schema_pb.Question, new: schema_pb.Question, uses: set[Use], at: str, report: Report
) -> None:
    kind = old.WhichOneof("kind") or ""
    if new.WhichOneof("kind") != kind:
        report.add(at, f"the kind is {new.WhichOneof('kind')}", f"{kind}: the question has answers")
        return
    if new.HasField("condition") and new.condition != old.condition:
        report.add(f"{at}.condition", "the condition is new", "the one there was: the question has answers")
    _check_names(new, uses, f"{at}.{kind}", report)
    if Use(old.id, "value") in uses:
        _check_rules(kind, getattr(old, kind), getattr(new, kind), f"{at}.{kind}", report)
        _check_required_attributes(old, new, uses, f"{at}.{kind}", report)


def _check_names(new: schema_pb.Question, uses: set[Use], at: str, report: Report) -> None:
    rules = getattr(new, new.WhichOneof("kind") or "choice")
    there = {Use(new.id, "class", c.id) for c in classes_of(new)}
    for label_class in classes_of(new):
        for attribute in label_class.attributes:
            name = f"{label_class.id}/{attribute.id}"
            there.add(Use(new.id, "attribute", name))
            there |= {Use(new.id, "option", f"{name}/{option}") for option in attribute.options.values}
    there |= {Use(new.id, "point", point) for point in getattr(rules, "points", ())}
    for use in sorted(uses - there):
        if use.name:
            report.add(at, f"{use.facet} {shown(use.name)} is gone", "it: answers use it")


def _check_required_attributes(
    old: schema_pb.Question, new: schema_pb.Question, uses: set[Use], at: str, report: Report
) -> None:
    before = {(c.id, a.id): a for c in classes_of(old) for a in c.attributes}
    for i, label_class in enumerate(classes_of(new)):
        if Use(new.id, "class", label_class.id) not in uses:
            continue
        for j, attribute in enumerate(label_class.attributes):
            here = f"{at}.classes[{i}].attributes[{j}]"
            known = before.get((label_class.id, attribute.id))
            if attribute.required and not (known is not None and known.required):
                report.add(f"{here}.required", "it is required now", "optional: there are objects without it")
            if known is None or Use(new.id, "attribute", f"{label_class.id}/{attribute.id}") not in uses:
                continue
            kind = known.WhichOneof("kind") or ""
            if attribute.WhichOneof("kind") != kind:
                report.add(here, f"the kind is {attribute.WhichOneof('kind')}", f"{kind}: answers use it")
            else:
                _check_rules(kind, getattr(known, kind), getattr(attribute, kind), f"{here}.{kind}", report)


def _check_rules(kind: str, old: Any, new: Any, at: str, report: Report) -> None:
    """The rules of a question or attribute that has answers: each may get wider only."""
    for field in _COUNTS_FROM.get(kind, ()):
        _not_above(getattr(new, field), getattr(old, field), f"{at}.{field}", report)
    for field, unlimited in _COUNTS_TO.get(kind, {}).items():
        was, now = getattr(old, field) or unlimited, getattr(new, field) or unlimited
        if now < was:
            report.add(f"{at}.{field}", f"the limit is {now}", f"at least {was}, as it was")
    for field in _FREEDOMS.get(kind, ()):
        if getattr(old, field) and not getattr(new, field):
            report.add(f"{at}.{field}", "it is no longer allowed", "true, as it was")
    for field in _DUTIES.get(kind, ()):
        if getattr(new, field) and not getattr(old, field):
            report.add(f"{at}.{field}", "it is asked for now", "false, as it was")
    for field in _FIXED.get(kind, ()):
        if getattr(new, field) != getattr(old, field):
            report.add(
                f"{at}.{field}",
                f"it is {shown(getattr(new, field))}",
                f"{shown(getattr(old, field))}, as it was",
            )
    match kind:
        case "number":
            _check_bounds(old, new, at, report)
        case "rating":
            _not_above(new.minimum, old.minimum, f"{at}.minimum", report)
            if new.maximum < old.maximum:
                report.add(f"{at}.maximum", f"it is {new.maximum}", f"at least {old.maximum}, as it was")
        case "text":
            if new.pattern and new.pattern != old.pattern:
                report.add(f"{at}.pattern", "the pattern is new", "the one there was, or none")
        case "mask":
            order = [c.id for c in old.classes]
            if [c.id for c in new.classes][: len(order)] != order:
                report.add(f"{at}.classes", "the order is new", "the old classes first: masks count them")
        case "regions":
            if new.classes and not old.classes:
                report.add(f"{at}.classes", "regions need a class now", "none: there are regions without")


_SHAPES = ("boxes", "rotated_boxes", "ellipses", "polygons", "polylines", "cuboids")
_COUNTS_FROM: Mapping[str, Sequence[str]] = {
    "choices": ["min_choices"],
    **{k: ["min_shapes"] for k in _SHAPES},
}
_COUNTS_TO: Mapping[str, Mapping[str, float]] = {
    "choices": {"max_choices": float("inf")},
    "text": {"max_length": DEFAULT_MAX_TEXT},
    "keypoints": {"max_skeletons": 10_000},
    **{k: {"max_shapes": 10_000} for k in _SHAPES},
}
_FREEDOMS: Mapping[str, Sequence[str]] = {
    "ranking": ["ties_allowed"],
    "preference": ["ties_allowed"],
    "spans": ["overlaps_allowed"],
    "segments": ["overlaps_allowed"],
}
_DUTIES: Mapping[str, Sequence[str]] = {
    "number": ["whole"],
    "regions": ["text_required"],
    "segments": ["text_required"],
}
_FIXED: Mapping[str, Sequence[str]] = {
    "relations": ["spans_question"],
    "tracks": ["shape"],
    "ranking": ["top"],
}


def _check_bounds(
    old: schema_pb.NumberQuestion, new: schema_pb.NumberQuestion, at: str, report: Report
) -> None:
    if new.HasField("minimum") and not (old.HasField("minimum") and new.minimum <= old.minimum):
        report.add(f"{at}.minimum", f"it is {new.minimum!r}", "none, or one that is not higher than it was")
    if new.HasField("maximum") and not (old.HasField("maximum") and new.maximum >= old.maximum):
        report.add(f"{at}.maximum", f"it is {new.maximum!r}", "none, or one that is not lower than it was")


def _not_above(now: int, was: int, at: str, report: Report) -> None:
    if now > was:
        report.add(at, f"it is {now}", f"at most {was}, as it was")
