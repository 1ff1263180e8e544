"""Masks that are kept as blobs, read where they are kept: nobody can join what they cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cairn.annotation.v1.annotation_store_pb2 import DownloadBlobRequest
from cairn.label.v1.label_value_pb2 import Answer, BlobRef, Mask
from cairn_consensus.domain.rasters import NotReadable, runs_of
from cairn_kit.events import Received
from cairn_kit.events.asking import ask

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

_KEEPER = "annotation-store, which keeps the masks,"

_LARGEST = 32 << 20
"""Bytes of a PNG that is read: rasters of as many pixels as can be joined are far smaller."""


Said = Sequence[tuple[Received[Any], Sequence[Answer]]]
"""Events, each with the answers it tells of."""

Kept = dict[tuple[UUID, int], bytes]
"""Bytes of masks, by the event's id and the answer's place in it."""


class MaskBlobs:
    """Asks annotation-store for the rasters that answers only point at."""

    def __init__(self, annotations: AnnotationStoreServiceAsyncStub) -> None:
        self._annotations = annotations

    async def of(self, said: Said) -> Kept:
        """The bytes of the masks that are kept as blobs.

        Raises NotYet with the events whose masks cannot be had now.
        """
        wanted = [
            (event, place, answer.mask)
            for event, answers in said
            for place, answer in enumerate(answers)
            if answer.mask.HasField("blob") and answer.mask.blob.size_bytes <= _LARGEST
        ]
        found = await ask(_KEEPER, [(e, partial(self._get, e.project, mask.blob)) for e, _, mask in wanted])
        return {(event.id, place): data for (event, place, _), data in zip(wanted, found, strict=True)}

    async def _get(self, project: str, blob: BlobRef) -> bytes:
        request = DownloadBlobRequest(name=f"projects/{project}/blobs/{blob.sha256}")
        return b"".join([part.chunk async for part in self._annotations.DownloadBlob(request)])


def seen(said: Said, kept: Kept) -> dict[UUID, list[Answer]]:
    """What each event says, by its id, with masks as runs where their bytes are a raster."""
    return {
        event.id: [_seen(answer, kept.get((event.id, place))) for place, answer in enumerate(answers)]
        for event, answers in said
    }


def _seen(answer: Answer, data: bytes | None) -> Answer:
    if data is None:
        return answer
    width, height = answer.mask.width, answer.mask.height
    try:
        runs = runs_of(data, width, height)
    except NotReadable:
        return answer  # a reviewer can look at it
    return Answer(question=answer.question, mask=Mask(width=width, height=height, runs=runs))
