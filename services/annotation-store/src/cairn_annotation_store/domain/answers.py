"""Whether the answers of one annotation fit the schema and the item. Every violation names its exact path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cairn.label.v1 import label_schema_pb2 as schema_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain import shapes, stretches
from cairn_annotation_store.domain.answer_parts import ItemFacts, Scene, check_class, check_number, check_text
from cairn_annotation_store.domain.schema import QuestionRules, SchemaRules
from cairn_annotation_store.domain.violations import Report, listed, shown
from cairn_kit.errors import InvalidArgument

KIND_MISMATCH = "ANSWER_KIND_MISMATCH"
"""Reason when a value is of another kind than its question asks."""

DOES_NOT_FIT = "ANSWER_INVALID"
"""Reason when values are of the right kind and wrong in themselves."""

MAX_ANSWERS_BYTES = 2 << 20
"""Bytes of one annotation's answers. Rasters beyond this belong into blobs, and texts of 1,000,000 code points fit."""

_VALUE_OF_KIND = {"keypoints": "skeletons"}
"""The answer's field is named as the question's kind, but for these."""


def check_answers(
    answers: Sequence[value_pb.Answer],
    schema: SchemaRules,
    item: ItemFacts,
    path: str = "answers",
    *,
    complete: bool = True,
) -> InvalidArgument | None:
    """The error that these answers deserve, or None when all fit and, if `complete`, none required is missing."""
    report = Report()
    by_question: dict[str, value_pb.Answer] = {}
    mismatch = False
    for i, answer in enumerate(answers):
        if answer.question not in schema.questions:
            report.add(
                f"{path}[{i}].question",
                f"there is no question {shown(answer.question)}",
                f"one of {listed(schema.questions)}",
            )
        elif answer.question in by_question:
            report.add(
                f"{path}[{i}].question",
                f"{shown(answer.question)} is answered twice",
                "one answer a question",
            )
        else:
            by_question[answer.question] = answer
    for i, answer in enumerate(answers):
        question = schema.questions.get(answer.question)
        if question is None or by_question.get(answer.question) is not answer:
            continue
        if not is_asked(question.question, by_question):
            report.add(
                f"{path}[{i}].question",
                f"{shown(question.id)} is not asked after the answer to "
                f"{shown(question.question.condition.question)}",
                "no answer",
            )
            continue
        mismatch |= not _check_answer(
            answer, f"{path}[{i}]", Scene(schema, question, item, report), by_question
        )
    for question in schema.questions.values() if complete else ():
        if (
            question.question.required
            and question.id not in by_question
            and is_asked(question.question, by_question)
        ):
            report.add(path, f"question {shown(question.id)} has no answer", "an answer: it is required")
    return _error(report, mismatch=mismatch)


def check_label(answer: value_pb.Answer, schema: SchemaRules, item: ItemFacts) -> InvalidArgument | None:
    """The error that an answer deserves which is to be a label, or None. It is looked at by itself.

    The label on which its question hangs, or whose spans it links, may come later, or change.
    """
    report = Report()
    question = schema.questions.get(answer.question)
    if question is None:
        report.add(
            "answer.question",
            f"there is no question {shown(answer.question)}",
            f"one of {listed(schema.questions)}",
        )
        return _error(report)
    fits = _check_answer(answer, "answer", Scene(schema, question, item, report), None)
    return _error(report, mismatch=not fits)


def _error(report: Report, *, mismatch: bool = False) -> InvalidArgument | None:
    if not report:
        return None
    violations = report.violations()
    first = violations[0]
    return InvalidArgument(
        KIND_MISMATCH if mismatch else DOES_NOT_FIT,
        f"The answers do not fit the schema: {first.field}: {first.description}",
        violations=violations,
    )


def is_asked(question: schema_pb.Question, answers: Mapping[str, value_pb.Answer]) -> bool:
    """Whether the question's condition holds under these answers, by question id."""
    if not question.HasField("condition"):
        return True
    answer = answers.get(question.condition.question)
    if answer is None:
        return False
    match answer.WhichOneof("value"):
        case "choice":
            return answer.choice in question.condition.any_of
        case "choices":
            return not set(answer.choices.class_ids).isdisjoint(question.condition.any_of)
        case _:
            return False


def value_field(question: QuestionRules) -> str:
    """The field of `Answer.value` that this question's answers use."""
    return _VALUE_OF_KIND.get(question.kind, question.kind)


def _check_answer(
    answer: value_pb.Answer, at: str, scene: Scene, answers: Mapping[str, value_pb.Answer] | None
) -> bool:
    """Report what is wrong with one answer; False when it is of another kind than its question."""
    given, wanted = answer.WhichOneof("value"), value_field(scene.question)
    if given == "abstention":
        _check_abstention(answer.abstention, f"{at}.abstention", scene.report)
        return True
    if given != wanted:
        scene.report.add(
            at if given is None else f"{at}.{given}", f"the value is {given or 'absent'}", wanted
        )
        return False
    value = getattr(answer, wanted)
    if wanted == "relations":
        stretches.check_relations(value, f"{at}.relations", scene, answers)
    else:
        _CHECKS[wanted](value, f"{at}.{wanted}", scene)
    return True


def _check_abstention(value: value_pb.Abstention, at: str, report: Report) -> None:
    if value.kind not in (value_pb.ABSTENTION_KIND_CANNOT_TELL, value_pb.ABSTENTION_KIND_BROKEN_ITEM):
        report.add(f"{at}.kind", "the reason is not stated", "CANNOT_TELL or BROKEN_ITEM")
    if len(value.reason) > 2000:
        report.add(f"{at}.reason", f"the reason has {len(value.reason)} code points", "at most 2000")


def _check_choices(value: value_pb.Choices, at: str, scene: Scene) -> None:
    rules: schema_pb.ChoicesQuestion = scene.question.rules
    most = rules.max_choices or len(rules.classes)
    if not rules.min_choices <= len(value.class_ids) <= most:
        scene.report.add(
            f"{at}.class_ids", f"{len(value.class_ids)} classes are chosen", f"{rules.min_choices} to {most}"
        )
    seen: set[str] = set()
    for i, class_id in enumerate(value.class_ids):
        check_class(class_id, f"{at}.class_ids[{i}]", scene)
        if class_id in seen:
            scene.report.add(f"{at}.class_ids[{i}]", f"{shown(class_id)} is chosen twice", "each class once")
        seen.add(class_id)


def _check_number(value: float, at: str, scene: Scene) -> None:
    check_number(value, scene.question.rules, at, scene.report)


def _check_rating(value: int, at: str, scene: Scene) -> None:
    rules: schema_pb.RatingQuestion = scene.question.rules
    if not rules.minimum <= value <= rules.maximum:
        scene.report.add(at, f"the rating is {value}", f"{rules.minimum} to {rules.maximum}")


def _check_text(value: str, at: str, scene: Scene) -> None:
    check_text(value, scene.question.rules, scene.question.pattern, at, scene.report)


def _check_ranking(value: value_pb.Ranking, at: str, scene: Scene) -> None:
    rules: schema_pb.RankingQuestion = scene.question.rules
    known = set(scene.item.candidates)
    seen: set[str] = set()
    for i, tier in enumerate(value.tiers):
        here = f"{at}.tiers[{i}].candidate_ids"
        if not tier.candidate_ids:
            scene.report.add(here, "the place is empty", "at least one candidate")
        if len(tier.candidate_ids) > 1 and not rules.ties_allowed:
            scene.report.add(
                here, f"{len(tier.candidate_ids)} candidates share a place", "one: ties are not allowed"
            )
        for j, candidate in enumerate(tier.candidate_ids):
            if candidate not in known:
                scene.report.add(
                    f"{here}[{j}]",
                    f"{shown(candidate)} is no candidate of the item",
                    f"one of {listed(known)}",
                )
            elif candidate in seen:
                scene.report.add(f"{here}[{j}]", f"{shown(candidate)} is placed twice", "each candidate once")
            seen.add(candidate)
    wanted = min(rules.top or len(known), len(known))
    if len(seen & known) < wanted:
        scene.report.add(f"{at}.tiers", f"{len(seen & known)} candidates are placed", f"at least {wanted}")


def _check_preference(value: value_pb.Preference, at: str, scene: Scene) -> None:
    rules: schema_pb.PreferenceQuestion = scene.question.rules
    if not value.candidate_id:
        if not rules.ties_allowed:
            scene.report.add(f"{at}.candidate_id", "neither is better", "a candidate: ties are not allowed")
    elif value.candidate_id not in scene.item.candidates:
        scene.report.add(
            f"{at}.candidate_id",
            f"{shown(value.candidate_id)} is no candidate of the item",
            f"one of {listed(scene.item.candidates)}",
        )


_CHECKS: Mapping[str, Callable[..., None]] = {
    "choice": check_class,
    "choices": _check_choices,
    "number": _check_number,
    "rating": _check_rating,
    "text": _check_text,
    "ranking": _check_ranking,
    "preference": _check_preference,
    "boxes": shapes.check_boxes,
    "rotated_boxes": shapes.check_rotated_boxes,
    "ellipses": shapes.check_ellipses,
    "polygons": shapes.check_polygons,
    "polylines": shapes.check_polylines,
    "skeletons": shapes.check_skeletons,
    "cuboids": shapes.check_cuboids,
    "mask": shapes.check_mask,
    "spans": stretches.check_spans,
    "regions": stretches.check_regions,
    "segments": stretches.check_segments,
    "tracks": stretches.check_tracks,
}
