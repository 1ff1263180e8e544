"""Answers that are too large for an event, read where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import grpc

from cairn.annotation.v1.annotation_store_pb2 import GetAnnotationRequest
from cairn.events.v1.annotation_store_events_pb2 import AnnotationSubmitted
from cairn.label.v1.label_value_pb2 import Answer
from cairn_kit.auth import acting_for
from cairn_kit.events import NotYet, Received

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

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
    """Asks annotation-store for the answers that `AnnotationSubmitted` came without."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def of(self, events: Sequence[Received[AnnotationSubmitted]]) -> dict[UUID, Sequence[Answer]]:
        """The answers of those events that came without, by the event's id.

        Raises NotYet with the events whose answers cannot be had now.
        """
        without = [event for event in events if event.message.answers_omitted]
        gate = asyncio.Semaphore(_AT_ONCE)
        read = await asyncio.gather(*(self._read(event, gate) for event in without))
        missing = [event for event, answers in zip(without, read, strict=True) if answers is None]
        if missing:
            raise NotYet("annotation-store, which keeps the answers, is away", *missing)
        return {
            event.id: answers for event, answers in zip(without, read, strict=True) if answers is not None
        }

    async def _read(
        self, event: Received[AnnotationSubmitted], gate: asyncio.Semaphore
    ) -> Sequence[Answer] | None:
        """None while the store is away; any other refusal is raised, for waiting would not mend it."""
        request = GetAnnotationRequest(name=event.message.annotation.name)
        async with gate:
            try:
                with acting_for(event.tenant):
                    annotation = await self._annotations.GetAnnotation(request, timeout=_LONGEST)
            except grpc.aio.AioRpcError as error:
                if error.code() in _AWAY:
                    return None
                raise
        return annotation.answers
