"""Running models: few sessions, each with as many threads as the container has, and small requests together.

Requests that arrive within a millisecond or two share one run (dynamic batching). The queue is bounded: beyond
it the caller hears `RESOURCE_EXHAUSTED` at once, and nobody waits for an answer that comes too late.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cairn_kit.errors import FailedPrecondition, ResourceExhausted

Floats = NDArray[np.float32]

_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Batches are padded up to one of these: each new shape would grow the runtime's arena."""

MAX_BATCH = _BUCKETS[-1]
_MAX_DELAY = 0.0015
_MAX_WAITING_ROWS = 8 * MAX_BATCH
_MAX_SESSIONS = 16

_LONGEST_RUN = 10.0
"""Seconds of one run. A model that was let in in time may still loop on other inputs."""


def cpu_limit() -> int:
    """Processors this process may use: the control group's quota, where there is one, else the affinity mask."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group of version 2, or no quota ("max")
        return available


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: the default pool is as wide as the host, not as the container."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _bucket(rows: int) -> int:
    return next(size for size in _BUCKETS if size >= rows)


class LoadedModel:
    """One model in memory. `run` is thread-safe and blocks: call it in a thread."""

    def __init__(self, data: bytes, threads: int) -> None:
        self._session = onnxruntime.InferenceSession(
            data, session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def run(self, features: Floats) -> Floats:
        """Probabilities ``(n, classes)`` of features ``(n, dim)``, in runs of at most MAX_BATCH rows.

        Raises FailedPrecondition MODEL_TOO_SLOW.
        """
        parts = []
        for start in range(0, max(len(features), 1), MAX_BATCH):
            rows = features[start : start + MAX_BATCH]
            padded = np.zeros((_bucket(max(len(rows), 1)), features.shape[1]), dtype=np.float32)
            padded[: len(rows)] = rows
            parts.append(self._run(padded)[: len(rows)])
        return np.concatenate(parts)

    def _run(self, rows: Floats) -> Floats:
        options = onnxruntime.RunOptions()
        timer = threading.Timer(_LONGEST_RUN, setattr, (options, "terminate", True))
        timer.start()
        try:
            return np.asarray(self._session.run(None, {self._input: rows}, options)[0])
        except Exception as error:
            if not options.terminate:
                raise
            raise FailedPrecondition(
                "MODEL_TOO_SLOW", f"The model took more than {_LONGEST_RUN:.0f} s and was stopped."
            ) from error
        finally:
            timer.cancel()


@dataclass(slots=True)
class _Waiting:
    features: Floats
    future: asyncio.Future[Floats]


class Batcher:
    """Gathers small requests for one model and runs them together."""

    def __init__(self, run: Callable[[Floats], Floats]) -> None:
        self._run = run
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self._worker: asyncio.Task[None] | None = None

    async def score(self, features: Floats) -> Floats:
        """Probabilities of a few rows. Raises ResourceExhausted when too many are waiting."""
        if self._rows + len(features) > _MAX_WAITING_ROWS:
            raise ResourceExhausted(
                "MODEL_BUSY", f"{self._rows} inputs are waiting for this model.", retry_after=0.1
            )
        waiting = _Waiting(features, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._rows += len(features)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await waiting.future

    async def _work(self) -> None:
        while self._waiting:
            if self._rows < MAX_BATCH:
                await asyncio.sleep(_MAX_DELAY)
            batch = self._take()
            try:
                answers = await asyncio.to_thread(self._run, np.concatenate([w.features for w in batch]))
            except Exception as error:  # every caller of the batch hears of it; the worker goes on
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)
                continue
            start = 0
            for waiting in batch:
                end = start + len(waiting.features)
                if not waiting.future.done():  # its caller may have gone away
                    waiting.future.set_result(answers[start:end])
                start = end
        self._worker = None

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting and (not batch or rows + len(self._waiting[0].features) <= MAX_BATCH):
            batch.append(self._waiting.pop(0))
            rows += len(batch[-1].features)
        self._rows -= rows
        return batch


class Scorer:
    """The models in memory, each by tenant, project and the SHA-256 of its file; the least recently used make way."""

    def __init__(self, read: Callable[[str, str, str], Awaitable[bytes]], threads: int) -> None:
        self._read = read
        self._threads = threads
        self._loaded: OrderedDict[tuple[str, str, str], tuple[LoadedModel, Batcher]] = OrderedDict()
        self._loading = asyncio.Lock()

    async def score(self, tenant: str, project: str, sha256: str, features: Floats) -> Floats:
        """Probabilities of a few rows, together with whatever else is asked of this model just now."""
        _, batcher = await self._get((tenant, project, sha256))
        return await batcher.score(features)

    async def score_many(self, tenant: str, project: str, sha256: str, features: Floats) -> Floats:
        """Probabilities of many rows, in a thread."""
        model, _ = await self._get((tenant, project, sha256))
        return await asyncio.to_thread(model.run, features)

    async def _get(self, key: tuple[str, str, str]) -> tuple[LoadedModel, Batcher]:
        async with self._loading:
            found = self._loaded.get(key)
            if found is None:
                model = await asyncio.to_thread(LoadedModel, await self._read(*key), self._threads)
                found = self._loaded[key] = (model, Batcher(model.run))
                while len(self._loaded) > _MAX_SESSIONS:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return found
