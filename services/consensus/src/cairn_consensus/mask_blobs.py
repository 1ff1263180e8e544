"""Masks that are kept as blobs, read where they are kept: nobody can join what they cannot see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cairn.annotation.v1.annotation_store_pb2 import DownloadBlobRequest
from cairn.label.v1.label_value_pb2 import Answer, Mask, Runs
from cairn_consensus.domain.rasters import NotReadable, runs_of
from cairn_kit.events import Received
from cairn_kit.events.asking import ask

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

_KEEPER = "annotation-store, which keeps the masks,"

_LARGEST = 32 << 20
"""Bytes of a PNG that is read: rasters of as many pixels as can be joined are far smaller."""


class MaskBlobs:
    """Asks annotation-store for the rasters that answers only point at."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def seen(self, said: Sequence[tuple[Received[Any], Sequence[Answer]]]) -> dict[UUID, list[Answer]]:
        """What each event says, by its id, with masks as runs where their raster could be read.

        Raises NotYet with the events whose masks cannot be had now.
        """
        found = {event.id: list(answers) for event, answers in said}
        blobs = [
            (event, place, answer.mask)
            for event, answers in said
            for place, answer in enumerate(answers)
            if answer.mask.HasField("blob") and answer.mask.blob.size_bytes <= _LARGEST
        ]
        rasters = await ask(_KEEPER, [(e, partial(self._read, e.project, mask)) for e, _, mask in blobs])
        for (event, place, mask), runs in zip(blobs, rasters, strict=True):
            if runs.lengths:
                seen = Answer(question=found[event.id][place].question)
                seen.mask.CopyFrom(Mask(width=mask.width, height=mask.height, runs=runs))
                found[event.id][place] = seen
        return found

    async def _read(self, project: str, mask: Mask) -> Runs:
        """The mask's runs; none where it is a raster that cannot be read here."""
        request = DownloadBlobRequest(name=f"projects/{project}/blobs/{mask.blob.sha256}")
        chunks = [part.chunk async for part in self._annotations.DownloadBlob(request)]
        try:
            return await asyncio.to_thread(runs_of, b"".join(chunks), mask.width, mask.height)
        except NotReadable:
            return Runs()
