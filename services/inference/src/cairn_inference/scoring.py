"""Running models: few sessions, each with as many threads as the container has, and small requests together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cairn_inference.batching import Batcher
from cairn_inference.loaded_model import MAX_BATCH, Floats, LoadedModel

_MAX_SESSIONS = 16

Key = tuple[str, str, str]
"""Tenant, project and the SHA-256 of the model's file."""


@dataclass(frozen=True, slots=True)
class _InUse:
    model: LoadedModel
    batcher: Batcher[Floats, Floats]


class Scorer:
    """The models in memory; the least recently used make way."""

    def __init__(self, read: Callable[[str, str, str], Awaitable[bytes]], threads: int) -> None:
        self._read = read
        self._threads = threads
        self._loaded: OrderedDict[Key, _InUse] = OrderedDict()
        self._loading = asyncio.Lock()

    async def score(self, tenant: str, project: str, sha256: str, features: Floats) -> Floats:
        """Probabilities of a few rows, together with whatever else is asked of this model just now."""
        found = await self._get((tenant, project, sha256))
        return await found.batcher.ask(features)

    async def score_many(self, tenant: str, project: str, sha256: str, features: Floats) -> Floats:
        """Probabilities of many rows, in a thread."""
        found = await self._get((tenant, project, sha256))
        return await asyncio.to_thread(found.model.run, features)

    async def _get(self, key: Key) -> _InUse:
        found = self._loaded.get(key)
        if found is None:
            async with self._loading:
                found = self._loaded.get(key) or await self._load(key)
        self._loaded.move_to_end(key)
        return found

    async def _load(self, key: Key) -> _InUse:
        model = await asyncio.to_thread(LoadedModel, await self._read(*key), self._threads)
        found = self._loaded[key] = _InUse(model, Batcher(model.run_together, MAX_BATCH))
        while len(self._loaded) > _MAX_SESSIONS:
            self._loaded.popitem(last=False)
        return found
