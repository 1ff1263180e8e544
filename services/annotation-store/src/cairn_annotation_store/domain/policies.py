"""Whether a project makes sense: its schema, and its policies against the schema."""

from __future__ import annotations

import math

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn_annotation_store.domain.schema import check_schema
from cairn_annotation_store.domain.violations import Report, shown
from cairn_kit.errors import Violation

MAX_PROJECT_BYTES = 240 * 1024
"""A project travels whole in one event, and an event is at most 256 KiB."""

DEFAULT_MIN_ANSWERS = 2


def settled(project: pb.Project) -> pb.Project:
    """What of a project its owner decides: name and output-only fields are left out."""
    kept = pb.Project(display_name=project.display_name, schema=project.schema)
    if project.HasField("quality"):
        kept.quality.CopyFrom(project.quality)
    if project.HasField("routing"):
        kept.routing.CopyFrom(project.routing)
    kept.DiscardUnknownFields()
    return kept


def check_project(project: pb.Project) -> tuple[Violation, ...]:
    """What is wrong with a settled project; paths begin with `project.`."""
    report = Report()
    size = project.ByteSize()
    if size > MAX_PROJECT_BYTES:
        report.add(
            "project", f"it has {size} bytes", f"at most {MAX_PROJECT_BYTES}: shorten the instructions"
        )
    if len(project.display_name) > 200:
        report.add("project.display_name", f"it has {len(project.display_name)} code points", "at most 200")
    _check_quality(project.quality, report)
    _check_routing(project, report)
    return (*check_schema(project.schema, "project.schema"), *report.violations())


def _check_quality(quality: pb.QualityPolicy, report: Report) -> None:
    least = quality.min_answers or DEFAULT_MIN_ANSWERS
    if quality.max_answers and quality.max_answers < least:
        report.add(
            "project.quality.max_answers", f"it is {quality.max_answers}", f"at least min_answers, {least}"
        )
    for field, value, most in (
        ("target_confidence", quality.target_confidence, 1.0),
        ("gold_share", quality.gold_share, 0.5),
    ):
        if not (math.isfinite(value) and 0 <= value <= most):
            report.add(f"project.quality.{field}", f"it is {value}", f"0 to {most}")


def _check_routing(project: pb.Project, report: Report) -> None:
    routing = project.routing
    for field, value in (
        ("alpha", routing.alpha),
        ("delta", routing.delta),
        ("validation_share", routing.validation_share),
    ):
        if not (math.isfinite(value) and 0 <= value <= 0.5):
            report.add(f"project.routing.{field}", f"it is {value}", "0 to 0.5")
    if not routing.enabled and not routing.question:
        return
    routable = [q.id for q in project.schema.questions if q.WhichOneof("kind") == "choice" and q.required]
    if routing.question and routing.question not in routable:
        report.add(
            "project.routing.question",
            f"{shown(routing.question)} is no required choice question",
            f"one of {', '.join(routable) or 'none: the schema has no such question'}",
        )
    elif not routable:
        report.add(
            "project.routing.enabled", "there is nothing to route", "a required choice question in the schema"
        )


def may_change_completeness(old: schema_pb.LabelSchema, new: schema_pb.LabelSchema) -> bool:
    """Whether an item that was complete under the old schema may not be so under the new one, or the reverse."""

    def needs(schema: schema_pb.LabelSchema) -> dict[str, bytes]:
        return {q.id: q.condition.SerializeToString() for q in schema.questions if q.required}

    return needs(old) != needs(new)
