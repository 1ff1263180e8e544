"""The two streams of a machine labeler, each over as many connections as it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from cairn_client.parts import in_parts
from cairn_client.transport import Transport

_MOST_AT_ONCE = 1000
"""Submissions of one message."""


class _Session:
    """One connection. What is written while the service refuses it would hide the service's words: gRPC then tells of an
    internal error instead. So nothing but the header is written before it is `accepted`."""

    def __init__(self) -> None:
        self.accepted = asyncio.Event()


class LeaseStream:
    """Leases that come ahead: at most `capacity` are held at a time, asked for `batch` at a time.

    `took(leases)` is called with the leases of each message that brings some.
    """

    def __init__(
        self,
        transport: Transport,
        header: dispatch.LeaseStreamHeader,
        took: Callable[[Sequence[dispatch.Lease]], None],
        *,
        capacity: int,
        batch: int,
    ) -> None:
        self._transport = transport
        self._header = header
        self._took = took
        self._capacity = capacity
        self._batch = batch
        self._held = 0
        self._granted = 0
        self._room = asyncio.Event()
        self._stopped = False
        self._session_now = _Session()
        self.dry_since: float | None = None
        """Since when (time.monotonic) the service says that there is no work; None while there is, or nobody knows."""

    async def run(self) -> None:
        """Receive until it is stopped. Raises the error of a service that stays away, or refuses."""
        while not self._stopped:
            await self._transport.persisting(self._session)

    def stop(self) -> None:
        """Take no more leases; what is on its way still comes."""
        self._stopped = True
        self._room.set()

    def finished(self, leases: int) -> None:
        """So many are held no more."""
        self._held -= leases
        self._room.set()

    def resumed(self, leases: int) -> None:
        """So many of the finished are held again, beyond the capacity if need be."""
        self._held += leases

    async def _session(self, progressed: Callable[[], None]) -> None:
        self._granted, self._session_now = 0, (session := _Session())
        asking = self._asking(session)
        call = self._transport.dispatch.StreamLeases(asking, metadata=self._transport.metadata())
        try:
            await call.initial_metadata()
            session.accepted.set()
            async for message in call:
                progressed()
                if not message.leases:
                    self.dry_since = time.monotonic()
                    continue
                self.dry_since = None
                self._granted -= len(message.leases)
                self._held += len(message.leases)
                self._took(message.leases)
        finally:
            self.dry_since = None
            call.cancel()

    async def _asking(self, session: _Session) -> AsyncIterator[dispatch.StreamLeasesRequest]:
        yield dispatch.StreamLeasesRequest(header=self._header)
        await session.accepted.wait()
        while not self._stopped and session is self._session_now:  # one that broke is ended a moment later
            room = self._capacity - self._held - self._granted
            if room >= self._batch or (room and not self._held):
                self._granted += room
                yield dispatch.StreamLeasesRequest(credit=room)
            else:
                self._room.clear()
                await self._room.wait()


@dataclass(slots=True)
class _Message:
    """Submissions under one number, and who wants to know what became of them."""

    sequence: int
    requests: Sequence[store.SubmitAnnotationRequest]
    told: Callable[[Sequence[store.SubmitAnnotationResult]], None]
    sent: bool = field(default=False)


class SubmissionStream:
    """Submissions that go behind: whatever was not acknowledged when a connection broke is sent again."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._numbers = count(1)
        self._unfinished: dict[int, _Message] = {}
        self._stirred = asyncio.Event()
        self._closed = False
        self._session_now = _Session()

    def submit(
        self,
        requests: Sequence[store.SubmitAnnotationRequest],
        told: Callable[[Sequence[store.SubmitAnnotationResult]], None],
    ) -> None:
        """Send submissions; `told(results)` is called with one result for each when the store has said."""
        parts = list(in_parts(requests, _MOST_AT_ONCE))
        said: dict[int, Sequence[store.SubmitAnnotationResult]] = {}

        def told_of(place: int, results: Sequence[store.SubmitAnnotationResult]) -> None:
            said[place] = results
            if len(said) == len(parts):
                told([result for place in range(len(parts)) for result in said[place]])

        for place, part in enumerate(parts):
            message = _Message(next(self._numbers), part, partial(told_of, place))
            self._unfinished[message.sequence] = message
        self._stirred.set()

    def close(self) -> None:
        """Nothing more is submitted, but for what `told` submits again."""
        self._closed = True
        self._stirred.set()

    async def run(self) -> None:
        """Send until it is closed and all is acknowledged. Raises the error of a service that stays away."""
        while self._unfinished or not self._closed:
            await self._transport.persisting(self._session)

    async def _session(self, progressed: Callable[[], None]) -> None:
        for message in self._unfinished.values():
            message.sent = False
        self._session_now = session = _Session()
        sending = self._sending(session)
        call = self._transport.store.StreamAnnotations(sending, metadata=self._transport.metadata())
        try:
            await call.initial_metadata()
            session.accepted.set()
            async for response in call:
                progressed()
                for acknowledgement in response.finished.acknowledgements:
                    message = self._unfinished.pop(acknowledgement.sequence)
                    message.told(acknowledgement.results)
        finally:
            call.cancel()

    async def _sending(self, session: _Session) -> AsyncIterator[store.StreamAnnotationsRequest]:
        await session.accepted.wait()
        while session is self._session_now:  # one that broke is ended a moment later
            self._stirred.clear()
            for message in [one for one in self._unfinished.values() if not one.sent]:
                if session is not self._session_now:
                    return
                message.sent = True
                yield store.StreamAnnotationsRequest(sequence=message.sequence, requests=message.requests)
            if self._closed and all(message.sent for message in self._unfinished.values()):
                return
            await self._stirred.wait()
