"""Answers that are too large for an event, read where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from cairn.annotation.v1.annotation_store_pb2 import (
    ANNOTATION_KIND_REVIEW,
    GetAnnotationRequest,
    GetLabelRequest,
)
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.label.v1.label_value_pb2 import Answer
from cairn_audit.domain.names import Tenant
from cairn_kit.auth import acting_for
from cairn_kit.database import Transaction
from cairn_kit.events import Received
from cairn_kit.events.asking import ask

if TYPE_CHECKING:  # the generated code has this class in its types only
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub


class OmittedAnswers:
    """Asks annotation-store for what its events came without."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def on_events(self, tx: Transaction, events: Sequence[Received[Message]]) -> None:
        """Put their answers into the reviews among the events; whoever handles them later finds them whole.

        Raises NotYet with the reviews whose answers cannot be had now.
        """
        without: list[Received[Any]] = [
            event for event in events if _lacks_answers(event.decoded) and not event.too_late
        ]
        whole = await ask(
            "annotation-store, which keeps the answers,",
            [
                (
                    event,
                    partial(
                        self._annotations.GetAnnotation,
                        GetAnnotationRequest(name=event.message.annotation.name),
                    ),
                )
                for event in without
            ],
        )
        for event, annotation in zip(without, whole, strict=True):
            # Only what was decoded is completed: the ledger keeps the body, which stays as it was sent.
            event.message.annotation.answers.extend(annotation.answers)
            event.message.answers_omitted = False

    async def of_label(self, tenant: Tenant, revision: str) -> Answer:
        """The answer of a label's revision (`.../labels/{question}@{revision}`). Raises grpc.aio.AioRpcError."""
        with acting_for(tenant):
            label = await self._annotations.GetLabel(GetLabelRequest(name=revision))
        return label.answer


def _lacks_answers(message: Message | None) -> bool:
    """Whether it is a review that came without its answers. What labelers answer is no business of audit."""
    return (
        isinstance(message, AnnotationSubmitted)
        and message.answers_omitted
        and message.annotation.kind == ANNOTATION_KIND_REVIEW
    )
