"""StreamAnnotations: submissions of a machine that goes on answering, acknowledged as they are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, get_current_span

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.handlers.submissions import SubmissionHandlers
from cairn_annotation_store.wire import submission_result
from cairn_kit.auth import Caller
from cairn_kit.errors import CairnError, InvalidArgument

Send = Callable[[pb.StreamAnnotationsResponse], Awaitable[None]]
"""Sends a message to the caller; returns when there is room for another."""

LIMITS = pb.AnnotationStreamLimits(submissions=1_000, bytes=4 * 1024 * 1024)
"""What one stream may have unfinished: a second's work, so that no stream waits long behind another, and memory for
hundreds of streams."""
_SPAN = "AnnotationStoreService/StreamAnnotations message"


@dataclass(frozen=True, slots=True)
class Numbered:
    """A message of a stream; ``bad`` are the submissions known to be malformed, by index."""

    message: pb.StreamAnnotationsRequest
    bad: Mapping[int, InvalidArgument]


class _Room:
    """How much of one stream is unfinished, and who waits for there to be less."""

    def __init__(self) -> None:
        self._submissions = self._bytes = 0
        self._freed = asyncio.Condition()

    async def enter(self, message: pb.StreamAnnotationsRequest) -> None:
        """Take a message in when there is room for it, or nothing else."""
        submissions, size = len(message.requests), message.ByteSize()
        async with self._freed:
            await self._freed.wait_for(lambda: self._fits(submissions, size))
            self._submissions += submissions
            self._bytes += size

    def _fits(self, submissions: int, size: int) -> bool:
        return not self._submissions or (
            self._submissions + submissions <= LIMITS.submissions and self._bytes + size <= LIMITS.bytes
        )

    async def leave(self, messages: Sequence[pb.StreamAnnotationsRequest]) -> None:
        """They are acknowledged."""
        async with self._freed:
            self._submissions -= sum(len(message.requests) for message in messages)
            self._bytes -= sum(message.ByteSize() for message in messages)
            self._freed.notify_all()


_Finished = tuple[pb.StreamAnnotationsRequest, pb.AnnotationAcknowledgement]


class AnnotationStreams:
    """Serves streams of submissions; those of all streams are committed together."""

    def __init__(self, submissions: SubmissionHandlers, tracer: Tracer) -> None:
        self._submissions = submissions
        self._tracer = tracer

    async def take_in(self, who: Caller, messages: AsyncIterator[Numbered], send: Send) -> None:
        """A whole stream: returns when the caller has closed its side and all is acknowledged.

        No more is read while the limits are reached. A caller that does not read what acknowledges its messages is
        read no further, either.
        """
        room, finished = _Room(), asyncio.Queue[_Finished]()
        await send(pb.StreamAnnotationsResponse(limits=LIMITS))
        try:
            async with asyncio.TaskGroup() as serving:
                acknowledging = serving.create_task(_acknowledge(finished, room, send))
                async with asyncio.TaskGroup() as keeping:
                    async for numbered in messages:
                        await room.enter(numbered.message)
                        keeping.create_task(self._keep(who, numbered, finished))
                await finished.join()
                acknowledging.cancel()
        except BaseExceptionGroup as failed:
            raise _first(failed) from None

    async def _keep(self, who: Caller, numbered: Numbered, finished: asyncio.Queue[_Finished]) -> None:
        # A trace for each message, as for each call: a stream may go on for days.
        stream = Link(get_current_span().get_span_context())
        with self._tracer.start_as_current_span(_SPAN, Context(), SpanKind.SERVER, links=[stream]):
            acknowledgement = await self._kept(who, numbered)
        finished.put_nowait((numbered.message, acknowledgement))

    async def _kept(self, who: Caller, numbered: Numbered) -> pb.AnnotationAcknowledgement:
        message = numbered.message
        results: Sequence[pb.Annotation | CairnError]
        try:
            results = await self._submissions.submit_many(who, message.requests, numbered.bad)
        except CairnError as error:  # nothing could be kept: that is said of each, and the stream goes on
            results = [numbered.bad.get(i, error) for i in range(len(message.requests))]
        return pb.AnnotationAcknowledgement(
            sequence=message.sequence, results=[_without_answers(result) for result in results]
        )


async def _acknowledge(finished: asyncio.Queue[_Finished], room: _Room, send: Send) -> None:
    """Send what is finished, all that there is in one message, for ever."""
    while True:
        done = [await finished.get()]
        while not finished.empty():
            done.append(finished.get_nowait())
        acknowledgements = pb.AnnotationAcknowledgements(acknowledgements=[one for _, one in done])
        await send(pb.StreamAnnotationsResponse(finished=acknowledgements))
        await room.leave([message for message, _ in done])
        for _ in done:
            finished.task_done()


def _without_answers(result: pb.Annotation | CairnError) -> pb.SubmitAnnotationResult:
    if isinstance(result, pb.Annotation):
        result.ClearField("answers")
    return submission_result(result)


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first: tasks that were ended because of it say nothing of their own."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
