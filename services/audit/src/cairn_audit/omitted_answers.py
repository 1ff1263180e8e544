"""Answers that are too large for an event, read where they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
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
from cairn_kit.events import NotYet, Received

if TYPE_CHECKING:  # the generated code has this class in its types only
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

_AT_ONCE = 8
_LONGEST = 5.0
"""Seconds for the reviews of one batch: its transaction is open meanwhile, though it holds nothing others wait for."""

AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""What a neighbour says that may well answer later."""


class OmittedAnswers:
    """Asks annotation-store for what its events came without."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def on_events(self, tx: Transaction, events: Sequence[Received[Message]]) -> None:
        """Put their answers into the reviews among the events; whoever handles them later finds them whole.

        Raises NotYet with the reviews whose answers cannot be had now.
        """
        without: list[Received[Any]] = [event for event in events if _lacks_answers(event.decoded)]
        gate, end = asyncio.Semaphore(_AT_ONCE), asyncio.get_running_loop().time() + _LONGEST
        whole = await asyncio.gather(*(self._complete(event, gate, end) for event in without))
        missing = [event for event, is_whole in zip(without, whole, strict=True) if not is_whole]
        if missing:
            raise NotYet("annotation-store, which keeps the answers, is away", *missing)

    async def of_label(self, tenant: Tenant, revision: str) -> Answer:
        """The answer of a label's revision (`.../labels/{question}@{revision}`). Raises grpc.aio.AioRpcError."""
        with acting_for(tenant):
            label = await self._annotations.GetLabel(GetLabelRequest(name=revision))
        return label.answer

    async def _complete(
        self, event: Received[AnnotationSubmitted], gate: asyncio.Semaphore, end: float
    ) -> bool:
        """False while the store is away; any other refusal is raised, for waiting would not mend it."""
        submitted = event.message
        request = GetAnnotationRequest(name=submitted.annotation.name)
        try:
            async with asyncio.timeout_at(end), gate:
                with acting_for(event.tenant):
                    annotation = await self._annotations.GetAnnotation(request)
        except TimeoutError:
            return False
        except grpc.aio.AioRpcError as error:
            if error.code() in AWAY:
                return False
            raise
        # Only what was decoded is completed: the ledger keeps the body, which stays as it was sent.
        submitted.annotation.answers.extend(annotation.answers)
        submitted.answers_omitted = False
        return True


def _lacks_answers(message: Message | None) -> bool:
    """Whether it is a review that came without its answers. What labelers answer is no business of audit."""
    return (
        isinstance(message, AnnotationSubmitted)
        and message.answers_omitted
        and message.annotation.kind == ANNOTATION_KIND_REVIEW
    )
