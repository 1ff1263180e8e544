"""From items to feature vectors, off the event loop; images come from annotation-store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from numpy.typing import NDArray

from cairn.annotation.v1.annotation_store_pb2 import DownloadBlobRequest
from cairn_inference import image_decoder
from cairn_inference.batching import Batcher
from cairn_inference.domain.features import IMAGE_SPEC, TEXT_SPEC, Content, pack
from cairn_inference.image_decoder import MAX_BYTES, NotAnImage
from cairn_inference.loaded_model import MAX_BATCH
from cairn_inference.records import ItemRef, Unfeatured
from cairn_inference.store import InferenceStore
from cairn_inference.text_encoder import TextEncoder
from cairn_kit.auth.caller import acting_for
from cairn_kit.database import Database
from cairn_kit.telemetry.logs import get_logger

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceAsyncStub

_log = get_logger(__name__)
Floats = NDArray[np.float32]

BATCH = 256
_DOWNLOADS = 8
_GONE = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT}
_MOST_TRIES = 10


class NoFeatures(Exception):
    """There will be no features of this item; the message says why."""


class Extractors:
    """The feature extractions, loaded at first use; each call runs in a thread."""

    def __init__(self, cache: Path, threads: int) -> None:
        self._cache = cache
        self._threads = threads
        self._encoder: tuple[TextEncoder, Batcher[Sequence[str], Floats]] | None = None
        self._loading = asyncio.Lock()

    async def texts(self, texts: Sequence[str]) -> Floats:
        """Feature vectors of many texts."""
        encoder, _ = await self._text_encoder()
        return await asyncio.to_thread(encoder.features, texts)

    async def texts_together(self, texts: Sequence[str]) -> Floats:
        """The same, together with whatever else is asked just now. Raises ResourceExhausted."""
        _, together = await self._text_encoder()
        return await together.ask(texts)

    async def _text_encoder(self) -> tuple[TextEncoder, Batcher[Sequence[str], Floats]]:
        if self._encoder is None:
            async with self._loading:
                if self._encoder is None:
                    encoder = await asyncio.to_thread(TextEncoder, self._cache, self._threads)
                    self._encoder = encoder, Batcher(encoder.features_together, MAX_BATCH)
        return self._encoder

    async def image(self, data: bytes) -> Floats:
        """Feature vector ``(1, dim)`` of one image. Raises NotAnImage."""
        return await asyncio.to_thread(lambda: image_decoder.features([image_decoder.decode(data)]))


@dataclass(slots=True)
class _Outcome:
    made: list[tuple[ItemRef, str, bytes]]
    impossible: list[tuple[ItemRef, str]]
    later: list[ItemRef]


class Featuriser:
    """Works off the items whose features are wanted."""

    def __init__(
        self,
        database: Database,
        store: InferenceStore,
        extractors: Extractors,
        annotations: AnnotationStoreServiceAsyncStub,
    ) -> None:
        self._database = database
        self._store = store
        self._extractors = extractors
        self._annotations = annotations

    async def step(self) -> int:
        """Take features of a batch of items; how many were taken up."""
        items = await self._store.items_to_featurise(self._database, BATCH)
        if not items:
            return 0
        outcome = _Outcome([], [], [])
        await self._featurise_texts([item for item in items if item.content is Content.TEXT], outcome)
        await self._featurise_images([item for item in items if item.content is Content.IMAGE], outcome)
        async with self._database.transaction() as tx:
            # As those do who write labels: they have the project before its items, or both might wait for each other.
            await self._store.lock_projects(tx, {(item.ref.tenant, item.ref.project) for item in items})
            await self._store.keep_features(tx, outcome.made)
            await self._store.give_up_features(tx, outcome.impossible)
            await self._store.postpone_features(tx, outcome.later)
        return len(items)

    async def _featurise_texts(self, items: Sequence[Unfeatured], outcome: _Outcome) -> None:
        if not items:
            return
        try:
            vectors = await self._extractors.texts([item.body or "" for item in items])
        except OSError:  # the embedding cannot be written or read: no text's fault
            raise
        except Exception as error:
            if len(items) == 1:
                _log.error("text.unreadable", item=items[0].ref.key, exc_info=error)
                outcome.impossible.append((items[0].ref, "The text cannot be read."))
                return
            for item in items:  # one text that trips the tokenizer must not hold up the others
                await self._featurise_texts([item], outcome)
            return
        outcome.made += await asyncio.to_thread(
            lambda: [(item.ref, TEXT_SPEC.name, pack(row)) for item, row in zip(items, vectors, strict=True)]
        )

    async def _featurise_images(self, items: Sequence[Unfeatured], outcome: _Outcome) -> None:
        if not items:
            return
        gate = asyncio.Semaphore(_DOWNLOADS)
        found = await asyncio.gather(*(self._fetch(item, gate) for item in items))
        good = []
        for item, result in zip(items, found, strict=True):
            if isinstance(result, NoFeatures):
                outcome.impossible.append((item.ref, str(result)))
            elif result is None:
                outcome.later.append(item.ref)
            else:
                good.append((item, result))
        if good:
            vectors = await asyncio.to_thread(image_decoder.features, [image for _, image in good])
            outcome.made += [
                (item.ref, IMAGE_SPEC.name, pack(row)) for (item, _), row in zip(good, vectors, strict=True)
            ]

    async def _fetch(
        self, item: Unfeatured, gate: asyncio.Semaphore
    ) -> NDArray[np.uint8] | NoFeatures | None:
        """The decoded image; why there will be none; or None to try again later."""
        async with gate:
            try:
                data = await self._download(item.ref, item.blob or "")
                return await asyncio.to_thread(image_decoder.decode, data)
            except NotAnImage as error:
                return NoFeatures(str(error))
            except grpc.aio.AioRpcError as error:
                if error.code() in _GONE and item.tries >= _MOST_TRIES:
                    return NoFeatures(f"The image cannot be had: {error.details()}")
                _log.warning("image.unavailable", item=item.ref.key, code=error.code().name)
                return None

    async def _download(self, ref: ItemRef, sha256: str) -> bytes:
        request = DownloadBlobRequest(name=f"projects/{ref.project}/blobs/{sha256}")
        parts: list[bytes] = []
        size = 0
        with acting_for(ref.tenant):
            call = self._annotations.DownloadBlob(request, timeout=30.0)
        async for response in call:
            parts.append(response.chunk)
            size += len(response.chunk)
            if size > MAX_BYTES:
                call.cancel()
                raise NotAnImage(f"The image has more than {MAX_BYTES} bytes.")
        return b"".join(parts)
