"""Answers that are too large for an event, read where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import grpc

from cairn.annotation.v1.annotation_store_pb2 import Annotation, GetAnnotationRequest
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.events.v1.audit_events_pb2 import LabelCorrected
from cairn.label.v1.label_value_pb2 import Answer
from cairn_kit.auth import acting_for
from cairn_kit.events import NotYet, Received

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

M = TypeVar("M", AnnotationSubmitted, LabelCorrected)

_AT_ONCE = 8
_LONGEST = 5.0
"""Seconds for one annotation: a transaction is open meanwhile, though it holds nothing that others wait for."""

_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


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
        read = await self._read([(e, e.message.annotation.name) for e in events if e.message.answers_omitted])
        return {event.id: annotation.answers for event, annotation in read}

    async def of_corrections(self, events: Sequence[Received[LabelCorrected]]) -> dict[UUID, Answer]:
        """The answers of those corrections that came without, by the event's id; they stand in the review.

        Raises NotYet as above.
        """
        read = await self._read([(e, e.message.annotation) for e in events if e.message.answer_omitted])
        return {
            event.id: answer
            for event, review in read
            for answer in review.answers
            if answer.question == event.message.question
        }

    async def _read(self, named: Sequence[tuple[Received[M], str]]) -> list[tuple[Received[M], Annotation]]:
        gate = asyncio.Semaphore(_AT_ONCE)
        found = await asyncio.gather(*(self._read_one(event.tenant, name, gate) for event, name in named))
        read = [(event, annotation) for (event, _), annotation in zip(named, found, strict=True)]
        missing = [event for event, annotation in read if annotation is None]
        if missing:
            raise NotYet("annotation-store, which keeps the answers, is away", *missing)
        return [(event, annotation) for event, annotation in read if annotation is not None]

    async def _read_one(self, tenant: str, name: str, gate: asyncio.Semaphore) -> Annotation | None:
        """None while the store is away; any other refusal is raised, for waiting would not mend it."""
        async with gate:
            try:
                with acting_for(tenant):
                    return await self._annotations.GetAnnotation(
                        GetAnnotationRequest(name=name), timeout=_LONGEST
                    )
            except grpc.aio.AioRpcError as error:
                if error.code() in _AWAY:
                    return None
                raise
