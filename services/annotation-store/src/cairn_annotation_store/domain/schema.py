"""Label schemas: whether one makes sense, and the same made ready for checking answers quickly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn_annotation_store.domain.violations import Report, listed, shown
from cairn_kit.errors import Violation

DEFAULT_MAX_TEXT = 10_000
"""Code points of a text answer when the question sets no limit."""

_PATTERN_MEMORY = 1 << 20
"""Bytes RE2 may use for one pattern: enough for any sane rule, too little to hurt the server."""


@dataclass(frozen=True, slots=True)
class LabelClassRules:
    """One class: its place among the classes (masks count from 1) and its attributes by id."""

    index: int
    attributes: Mapping[str, schema_pb.Attribute]


@dataclass(frozen=True, slots=True)
class QuestionRules:
    """One question with what is looked up often already looked up."""

    question: schema_pb.Question
    kind: str
    """The name of the `kind` field that is set: `choice`, `boxes`, ..."""
    rules: Any
    """The message in that field."""
    classes: Mapping[str, LabelClassRules]
    pattern: Any | None
    """The compiled RE2 pattern of a text question."""

    @property
    def id(self) -> str:
        """The question's id."""
        return self.question.id


class SchemaRules:
    """A valid schema, ready for checking answers. Immutable; share it between requests."""

    def __init__(self, schema: schema_pb.LabelSchema) -> None:
        self.schema = schema
        self.questions: Mapping[str, QuestionRules] = {q.id: _rules(q) for q in schema.questions}
        self._patterns: dict[str, Any] = {}

    def attribute_pattern(self, pattern: str) -> Any:
        """The compiled pattern of a text attribute."""
        if pattern not in self._patterns:
            self._patterns[pattern] = compile_pattern(pattern)
        return self._patterns[pattern]


def compile_pattern(pattern: str) -> Any:
    """A compiled RE2 pattern: linear time whatever the text. Raises `re2.error`."""
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    return re2.compile(pattern, options)


def classes_of(question: schema_pb.Question) -> Sequence[schema_pb.LabelClass]:
    """The classes that answers to this question may name; empty for kinds without classes."""
    rules = getattr(question, question.WhichOneof("kind") or "choice")
    return rules.classes if "classes" in rules.DESCRIPTOR.fields_by_name else ()


def check_schema(schema: schema_pb.LabelSchema, path: str = "schema") -> tuple[Violation, ...]:
    """What is wrong with a schema in itself; empty when it makes sense."""
    report = Report()
    if not schema.questions:
        report.add(f"{path}.questions", "there are no questions", "at least one")
    earlier: dict[str, schema_pb.Question] = {}
    for i, question in enumerate(schema.questions):
        at = f"{path}.questions[{i}]"
        if question.id in earlier:
            report.add(f"{at}.id", f"{shown(question.id)} is the id of an earlier question", "a unique id")
        _check_condition(question, earlier, at, report)
        _check_kind(question, earlier, at, report)
        earlier.setdefault(question.id, question)
    return report.violations()


def _rules(question: schema_pb.Question) -> QuestionRules:
    kind = question.WhichOneof("kind") or ""
    rules = getattr(question, kind)
    classes = {
        c.id: LabelClassRules(index, {a.id: a for a in c.attributes})
        for index, c in enumerate(classes_of(question), start=1)
    }
    pattern = compile_pattern(rules.pattern) if kind == "text" and rules.pattern else None
    return QuestionRules(question, kind, rules, classes, pattern)


def _check_condition(
    question: schema_pb.Question, earlier: Mapping[str, schema_pb.Question], at: str, report: Report
) -> None:
    if not question.HasField("condition"):
        return
    condition = question.condition
    other = earlier.get(condition.question)
    if other is None:
        report.add(
            f"{at}.condition.question",
            f"{shown(condition.question)} is no earlier question",
            "the id of a choice or choices question that comes before this one",
        )
        return
    if other.WhichOneof("kind") not in ("choice", "choices"):
        report.add(
            f"{at}.condition.question",
            f"{shown(other.id)} asks for {other.WhichOneof('kind')}",
            "a choice or choices question",
        )
        return
    known = {c.id for c in classes_of(other)}
    for i, class_id in enumerate(condition.any_of):
        if class_id not in known:
            report.add(
                f"{at}.condition.any_of[{i}]",
                f"{shown(class_id)} is no class of question {shown(other.id)}",
                f"one of {listed(known)}",
            )
    if not condition.any_of:
        report.add(f"{at}.condition.any_of", "no class is named", "at least one")


def _check_kind(
    question: schema_pb.Question, earlier: Mapping[str, schema_pb.Question], at: str, report: Report
) -> None:
    kind = question.WhichOneof("kind")
    if kind is None:
        report.add(at, "the question has no kind", "one of choice, choices, number, ...")
        return
    rules = getattr(question, kind)
    here = f"{at}.{kind}"
    _check_classes(classes_of(question), f"{here}.classes", report)
    match kind:
        case "choices":
            _check_range(rules.min_choices, rules.max_choices, "choices", here, report)
            if rules.min_choices > len(rules.classes):
                report.add(
                    f"{here}.min_choices",
                    f"{rules.min_choices} is more than there are classes",
                    f"at most {len(rules.classes)}",
                )
        case "number":
            _check_number(rules, here, report)
        case "rating":
            _check_rating(rules, here, report)
        case "text":
            _check_pattern(rules, here, report)
        case "relations":
            target = earlier.get(rules.spans_question)
            if target is None or target.WhichOneof("kind") != "spans":
                report.add(
                    f"{here}.spans_question",
                    f"{shown(rules.spans_question)} is no earlier spans question",
                    "the id of a spans question that comes before this one",
                )
        case "keypoints":
            _check_skeleton(rules, here, report)
        case "tracks":
            _check_tracks(rules, here, report)
        case "regions":
            if not rules.classes and not rules.text_required:
                report.add(here, "a region would hold neither class nor text", "classes, or text_required")
        case "boxes" | "rotated_boxes" | "ellipses" | "polygons" | "polylines" | "cuboids":
            _check_range(rules.min_shapes, rules.max_shapes, "shapes", here, report)


def _check_range(least: int, most: int, noun: str, at: str, report: Report) -> None:
    if most and least > most:
        report.add(f"{at}.min_{noun}", f"{least} is above max_{noun}", f"at most {most}")


def _check_number(rules: schema_pb.NumberQuestion, at: str, report: Report) -> None:
    if rules.HasField("minimum") and rules.HasField("maximum") and rules.minimum > rules.maximum:
        report.add(f"{at}.minimum", f"{rules.minimum} is above the maximum", f"at most {rules.maximum}")


def _check_rating(rules: schema_pb.RatingQuestion, at: str, report: Report) -> None:
    steps = rules.maximum - rules.minimum + 1
    if not 2 <= steps <= 1001:
        report.add(f"{at}.maximum", f"the scale has {steps} steps", "2 to 1001")
    elif rules.step_titles and len(rules.step_titles) != steps:
        report.add(
            f"{at}.step_titles", f"there are {len(rules.step_titles)} titles", f"none, or {steps}: one a step"
        )


def _check_pattern(rules: schema_pb.TextQuestion, at: str, report: Report) -> None:
    if not rules.pattern:
        return
    try:
        compile_pattern(rules.pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else "it does not compile"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        report.add(f"{at}.pattern", f"{shown(rules.pattern)} is refused by RE2 ({text})", "RE2 syntax")


def _check_skeleton(rules: schema_pb.KeypointsQuestion, at: str, report: Report) -> None:
    known = set(rules.points)
    _check_unique(rules.points, f"{at}.points", "point", report)
    for i, edge in enumerate(rules.edges):
        for field, point in (("from_point", edge.from_point), ("to_point", edge.to_point)):
            if point not in known:
                report.add(
                    f"{at}.edges[{i}].{field}", f"{shown(point)} is no point", f"one of {listed(known)}"
                )


def _check_tracks(rules: schema_pb.TracksQuestion, at: str, report: Report) -> None:
    skeletons = rules.shape == schema_pb.TRACK_SHAPE_SKELETON
    if rules.shape == schema_pb.TRACK_SHAPE_UNSPECIFIED:
        report.add(f"{at}.shape", "no shape is named", "one of TrackShape")
    if skeletons and not rules.points:
        report.add(f"{at}.points", "skeleton tracks have no points", "at least one")
    if not skeletons and rules.points:
        report.add(f"{at}.points", "points are given", "none, unless the shape is TRACK_SHAPE_SKELETON")
    _check_unique(rules.points, f"{at}.points", "point", report)


def _check_classes(classes: Sequence[schema_pb.LabelClass], at: str, report: Report) -> None:
    _check_unique([c.id for c in classes], at, "class", report, field=".id")
    parents = {c.id: c.parent for c in classes}
    verdicts: dict[str, bool] = {}
    for i, label_class in enumerate(classes):
        if label_class.parent and label_class.parent not in parents:
            report.add(
                f"{at}[{i}].parent", f"{shown(label_class.parent)} is no class", "the id of another class"
            )
        elif _in_a_cycle(label_class.id, parents, verdicts):
            report.add(f"{at}[{i}].parent", f"going up from {shown(label_class.id)} never ends", "a tree")
        _check_attributes(label_class.attributes, f"{at}[{i}].attributes", report)


def _in_a_cycle(start: str, parents: Mapping[str, str], verdicts: dict[str, bool]) -> bool:
    """Whether going up from `start` never ends. `verdicts` remembers classes already walked (linear in all)."""
    seen: dict[str, None] = {}
    node = start
    while node and node not in verdicts and node not in seen:
        seen[node] = None
        node = parents.get(node, "")
    endless = node in seen or verdicts.get(node, False)
    verdicts.update(dict.fromkeys(seen, endless))
    return endless


def _check_attributes(attributes: Sequence[schema_pb.Attribute], at: str, report: Report) -> None:
    _check_unique([a.id for a in attributes], at, "attribute", report, field=".id")
    for i, attribute in enumerate(attributes):
        match attribute.WhichOneof("kind"):
            case None:
                report.add(f"{at}[{i}]", "the attribute has no kind", "options, number, text or flag")
            case "number":
                _check_number(attribute.number, f"{at}[{i}].number", report)
            case "text":
                _check_pattern(attribute.text, f"{at}[{i}].text", report)


def _check_unique(ids: Iterable[str], at: str, noun: str, report: Report, field: str = "") -> None:
    seen: set[str] = set()
    for i, name in enumerate(ids):
        if name in seen:
            report.add(f"{at}[{i}]{field}", f"{shown(name)} is the id of an earlier {noun}", "a unique id")
        seen.add(name)
