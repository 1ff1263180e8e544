"""Protobuf to values and back, for calls and events alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from cairn.annotation.v1.annotation_store_pb2 import (
    PROJECT_STATE_ARCHIVED,
    PROMOTION_POLICY_MANUAL,
    Item,
)
from cairn.annotation.v1.annotation_store_pb2 import Project as ProjectMessage
from cairn.events.v1.inference_events_pb2 import (
    ROUTE_AUTO,
    ROUTE_HUMAN,
    ItemRoute,
    ItemScore,
    ItemsRouted,
    ItemsScored,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.label.v1.label_schema_pb2 import LabelSchema, Question
from cairn.label.v1.label_value_pb2 import Answer
from cairn_inference.domain.features import Content
from cairn_inference.domain.names import item_name, project_name, run_name, version_name
from cairn_inference.domain.routing import Route, Stop
from cairn_inference.records import ItemCounts, Policy, Project, Run, RunState, Threshold, Version
from cairn_kit.errors import CairnError, to_status
from cairn_kit.times import timestamp

T = TypeVar("T")

_EVENT_BYTES = 200_000
"""What goes into one event: below the bus's 256 KiB with room for the envelope."""

_IMAGES = frozenset({"image/png", "image/jpeg"})


# --- projects


def policy_of(message: ProjectMessage) -> Policy:
    """A project's policy, with the documented defaults for what is 0."""
    routing, quality = message.routing, message.quality
    question, unroutable = _routed_question(message)
    return Policy(
        question=question.id if question else "",
        unroutable=unroutable,
        class_ids=tuple(label_class.id for label_class in question.choice.classes) if question else (),
        alpha=routing.alpha or 0.05,
        delta=routing.delta or 0.1,
        validation_share=routing.validation_share or 0.1,
        min_answers=quality.min_answers or 2,
        max_answers=max(quality.min_answers or 2, quality.max_answers or 10),
        automatic=routing.promotion != PROMOTION_POLICY_MANUAL,
    )


def _routed_question(message: ProjectMessage) -> tuple[Question | None, str]:
    """The question a model may answer, or why there is none."""
    if message.state == PROJECT_STATE_ARCHIVED:
        return None, "The project is archived."
    if not message.routing.enabled:
        return None, "The project's routing policy is not enabled."
    wanted = message.routing.question
    question = _find(message.schema, wanted)
    if question is None:
        return None, (
            f"The question {wanted!r} is not a required choice question."
            if wanted
            else "The schema has no required choice question."
        )
    others = [q.id for q in message.schema.questions if q.required and q.id != question.id]
    if others:
        # An automatic label ends an item's task: nobody would answer the others.
        return None, f"People must answer {', '.join(others)} anyway, so no item can go without them."
    return question, ""


def _find(schema: LabelSchema, wanted: str) -> Question | None:
    for question in schema.questions:
        routable = question.required and question.HasField("choice") and not question.HasField("condition")
        if routable and question.id == (wanted or question.id) and len(question.choice.classes) >= 2:
            return question
    return None


# --- items


def content_of(item: Item) -> tuple[Content, str | None, str | None, str]:
    """What features can be taken from: kind, text, blob digest; or why nothing can."""
    match item.WhichOneof("content"):
        case "text" if item.text.strip():
            return Content.TEXT, item.text.replace("\0", " "), None, ""  # PostgreSQL keeps no NUL
        case "blob" if item.blob.media_type in _IMAGES:
            return Content.IMAGE, None, item.blob.sha256, ""
        case "blob":
            kind = item.blob.media_type or "of no stated media type"
            return (
                Content.NONE,
                None,
                None,
                f"The item is {kind}; features are taken from text, PNG and JPEG.",
            )
        case "text":
            return Content.NONE, None, None, "The item's text is empty."
    return Content.NONE, None, None, "The item has neither text nor an image of its own."


def class_of(answers: Iterable[Answer], question: str) -> str | None:
    """The class that answers the question, if one does."""
    for answer in answers:
        if answer.question == question and answer.WhichOneof("value") == "choice":
            return answer.choice
    return None


# --- routes and scores


def human_route(project: str, key: str, priority: float, revision: int) -> ItemRoute:
    """An item that no model has seen, to people."""
    return ItemRoute(item=item_name(project, key), route=ROUTE_HUMAN, priority=priority, revision=revision)


def scored_route(
    project: Project,
    key: str,
    route: Route,
    priority: float,
    revision: int,
    predicted: str | None,
    score: float,
) -> ItemRoute:
    """An item that the serving version has looked at, where it goes."""
    message = ItemRoute(
        item=item_name(project.id, key), priority=priority, revision=revision, score=score, route=ROUTE_HUMAN
    )
    if predicted is not None:
        message.model_version = project.serving
    if route is Route.AUTO and predicted is not None:
        message.route = ROUTE_AUTO
        message.priority = 0.0
        message.answer.CopyFrom(Answer(question=project.policy.question, choice=predicted))
        message.threshold_version = project.threshold or 0
        message.threshold = project.threshold_score or 0.0
        message.alpha, message.delta = project.policy.alpha, project.policy.delta
    return message


def routed_events(project: str, routes: Sequence[ItemRoute]) -> Iterator[ItemsRouted]:
    """Routes in as many events as they need."""
    for part in _split(routes, [route.ByteSize() + 8 for route in routes]):
        yield ItemsRouted(project=project_name(project), routes=part)


def scored_events(project: Project, version: Version, scores: Sequence[ItemScore]) -> Iterator[ItemsScored]:
    """Scores in as many events as they need."""
    for part in _split(scores, [score.ByteSize() + 8 for score in scores]):
        yield ItemsScored(
            project=project_name(project.id),
            question=project.policy.question,
            model_version=version.name,
            class_ids=version.made.class_ids,
            scores=part,
            revision=project.score_round,
        )


def _split(values: Sequence[T], sizes: Sequence[int]) -> Iterator[Sequence[T]]:
    start, total = 0, 0
    for at, size in enumerate(sizes):
        if total + size > _EVENT_BYTES and at > start:
            yield values[start:at]
            start, total = at, 0
        total += size
    if start < len(values):
        yield values[start:]


# --- predictions


def predict_response(
    version: Version, results: Sequence[NDArray[np.float32] | CairnError]
) -> api.PredictResponse:
    """What a version says of each input: probabilities ``(classes,)``, or why there are none."""
    response = api.PredictResponse(model_version=version.name)
    for result in results:
        if isinstance(result, CairnError):
            response.results.add(error=to_status(result))
            continue
        probabilities: list[float] = result.tolist()
        score = max(probabilities)
        class_id = version.made.class_ids[probabilities.index(score)]
        response.results.add(
            prediction=api.Prediction(class_id=class_id, score=score, probabilities=probabilities)
        )
    return response


# --- resources


def version_message(version: Version) -> api.ModelVersion:
    """A model version as others see it."""
    made = version.made
    message = api.ModelVersion(
        name=version.name,
        state=api.ModelVersionState.ValueType(int(version.state)),
        sha256=made.sha256,
        features=made.features,
        class_ids=made.class_ids,
        training_labels=made.training_labels,
        create_time=timestamp(version.created_at),
    )
    if made.training_run:
        message.training_run = run_name(version.project, made.training_run)
    if made.evaluation is not None:
        message.evaluation.CopyFrom(
            api.Evaluation(
                accuracy=made.evaluation.accuracy,
                log_loss=made.evaluation.log_loss,
                calibration_error=made.evaluation.calibration_error,
                labels=made.evaluation.labels,
                temperature=made.evaluation.temperature,
            )
        )
    return message


def run_message(run: Run) -> api.TrainingRun:
    """A training run as others see it."""
    message = api.TrainingRun(
        name=run_name(run.project, run.id),
        state=api.TrainingRunState.ValueType(int(run.state)),
        labels=run.labels,
        create_time=timestamp(run.created_at),
    )
    if run.model is not None and run.version is not None:
        message.model_version = version_name(run.project, run.model, run.version)
    if run.state is RunState.FAILED:
        status = status_pb2.Status(code=run.error_code, message=run.error_message)
        info = error_details_pb2.ErrorInfo(reason=run.error_reason, domain="cairn")
        status.details.add().Pack(info)
        message.error.CopyFrom(status)
    if run.ended_at is not None:
        message.end_time.CopyFrom(timestamp(run.ended_at))
    return message


def threshold_message(project: str, threshold: Threshold) -> api.Threshold:
    """A threshold as others see it."""
    found = threshold.found
    return api.Threshold(
        version=threshold.number,
        score=found.score,
        alpha=found.alpha,
        delta=found.delta,
        round=found.round,
        round_delta=found.round_delta,
        validation_items=found.validation_items,
        validation_errors=found.validation_errors,
        error_upper_bound=found.error_upper_bound,
        coverage=found.coverage,
        model_version=version_name(project, found.model, found.model_version),
        create_time=timestamp(threshold.created_at),
    )


def routing_message(project: Project, threshold: Threshold | None, counts: ItemCounts) -> api.Routing:
    """How a project's items are routed now."""
    message = api.Routing(
        project=project_name(project.id),
        state=_routing_state(project),
        model_version=project.serving,
        auto_items=counts.auto,
        validation_items=counts.validation,
        stop_reason=project.stop_reason or project.policy.unroutable,
    )
    if threshold is not None:
        message.threshold.CopyFrom(threshold_message(project.id, threshold))
    return message


def _routing_state(project: Project) -> api.RoutingState.ValueType:
    if not project.policy.question:
        return api.ROUTING_STATE_OFF
    if project.stop is not Stop.NONE:
        return api.ROUTING_STATE_STOPPED
    return api.ROUTING_STATE_LEARNING if project.threshold is None else api.ROUTING_STATE_AUTO
