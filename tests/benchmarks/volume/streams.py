"""Machines that lease ahead and submit behind over two streams each, with no time between an item and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.dispatch.v1 import task_dispatch_pb2 as dispatch
from tests.benchmarks.volume.load import Measured
from tests.benchmarks.volume.targets import CairnProject, CairnStack, answers_to


class Machine:
    """One labeler over two streams: `ahead` leases held at most, asked for and answered `batch` at a time."""

    def __init__(
        self, cairn: CairnStack, project: CairnProject, labeler: str, batch: int, ahead: int
    ) -> None:
        self._cairn = cairn
        self._header = dispatch.LeaseStreamHeader(parent=project.name, labeler=labeler)
        self._batch = batch
        self._ahead = ahead
        self._finished = asyncio.Queue[int]()
        self._leased = asyncio.Queue[list[str] | None]()

    async def work(self, seconds: float) -> int:
        """Lease and answer for so long, and answer what is held then; return how many were answered."""
        auth, end = self._cairn.auth, perf_counter() + seconds
        submitting = asyncio.create_task(self._submit())
        leases = self._cairn.dispatch.StreamLeases(self._asking(end), metadata=auth)
        async for message in leases:
            if not message.leases:
                raise RuntimeError("there are no tasks left: the measurement was given too few")
            self._leased.put_nowait([lease.token for lease in message.leases])
        self._leased.put_nowait(None)
        return await submitting

    async def _asking(self, end: float) -> AsyncIterator[dispatch.StreamLeasesRequest]:
        yield dispatch.StreamLeasesRequest(header=self._header)
        yield dispatch.StreamLeasesRequest(credit=self._ahead)
        owed = 0
        while perf_counter() < end:
            owed += await self._finished.get()
            if owed >= self._batch:
                yield dispatch.StreamLeasesRequest(credit=owed)
                owed = 0

    async def _submit(self) -> int:
        done = 0
        async for message in self._cairn.store.StreamAnnotations(self._answers(), metadata=self._cairn.auth):
            for one in message.finished.acknowledgements:
                if not all(result.HasField("annotation") for result in one.results):
                    raise RuntimeError(f"an answer was refused: {one.results}")
                done += len(one.results)
                self._finished.put_nowait(len(one.results))
        return done

    async def _answers(self) -> AsyncIterator[store.StreamAnnotationsRequest]:
        sequence = 0
        while (tokens := await self._leased.get()) is not None:
            for start in range(0, len(tokens), self._batch):
                sequence += 1
                some = answers_to(tokens[start : start + self._batch])
                yield store.StreamAnnotationsRequest(sequence=sequence, requests=some)


async def drive_streams(
    cairn: CairnStack, project: CairnProject, machines: int, batch: int, ahead: int, seconds: float
) -> Measured:
    """Let machines work for so long; the turns of single callers are not measured."""
    began = perf_counter()
    done = await asyncio.gather(
        *(Machine(cairn, project, f"labelers/m{n}", batch, ahead).work(seconds) for n in range(machines))
    )
    return Measured(sum(done), perf_counter() - began, ())
