"""Answers that are too large for an event, read where they are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from cairn.annotation.v1.annotation_store_pb2 import Annotation, GetAnnotationRequest
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.events.v1.audit_events_pb2 import LabelCorrected
from cairn.label.v1.label_value_pb2 import Answer
from cairn_kit.events import Received
from cairn_kit.events.asking import ask

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

_KEEPER = "annotation-store, which keeps the answers,"


class OmittedAnswers:
    """Asks annotation-store for the answers that an event came without."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def of_annotations(
        self, events: Sequence[Received[AnnotationSubmitted]]
    ) -> dict[UUID, Sequence[Answer]]:
        """The answers of those annotations that came without, by the event's id.

        Raises NotYet with the events whose answers cannot be had now.
        """
        without = [event for event in events if event.message.answers_omitted]
        whole = await ask(_KEEPER, [(e, self._get(e.message.annotation.name)) for e in without])
        return {e.id: annotation.answers for e, annotation in zip(without, whole, strict=True)}

    async def of_corrections(self, events: Sequence[Received[LabelCorrected]]) -> dict[UUID, Answer]:
        """The answers of those corrections that came without, by the event's id; they stand in the review.

        Raises NotYet as above.
        """
        without = [event for event in events if event.message.answer_omitted]
        reviews = await ask(_KEEPER, [(e, self._get(e.message.annotation)) for e in without])
        return {
            event.id: answer
            for event, review in zip(without, reviews, strict=True)
            for answer in review.answers
            if answer.question == event.message.question
        }

    def _get(self, name: str) -> Callable[[], Awaitable[Annotation]]:
        return partial(self._annotations.GetAnnotation, GetAnnotationRequest(name=name))
