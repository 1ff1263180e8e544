"""Small requests that arrive together share one run in a thread (dynamic batching).

The queue is bounded: beyond it the caller hears `RESOURCE_EXHAUSTED` at once, and nobody waits for an answer that comes
too late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sized
from typing import Generic, TypeVar

from cairn_kit.errors import ResourceExhausted

Q = TypeVar("Q", bound=Sized)
R = TypeVar("R")

_FEW = 64
"""Rows of a run that is hardly dearer than a run of one: while fewer are waiting, more may gather."""

_REST, _LONGEST_REST = 8.0, 0.01
"""How many times as long as it took the next run is waited for, in all 10 ms: the busier the machine is, or the slower, the
more requests share a run. Whoever is alone comes later than that, and waits for nobody."""


class Batcher(Generic[Q, R]):
    """Gathers requests, each of some rows (its length), and runs them together.

    ``run`` answers several requests, in order; it is called in a thread, once at a time, with at most ``most`` rows or
    with one request.
    """

    def __init__(self, run: Callable[[list[Q]], list[R]], most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: deque[tuple[Q, asyncio.Future[R]]] = deque()
        self._rows = 0
        self._worker: asyncio.Task[None] | None = None
        self._rests_until = 0.0

    async def ask(self, request: Q) -> R:
        """The answer to this request. Raises ResourceExhausted when eight times as many rows as a run takes are waiting."""
        if self._rows + len(request) > 8 * self._most:
            raise ResourceExhausted("MODEL_BUSY", f"{self._rows} inputs are waiting.", retry_after=0.1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((request, future))
        self._rows += len(request)
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._waiting:
            rest = self._rests_until - clock()
            if rest > 0.0 and self._rows < _FEW:
                await asyncio.sleep(rest)
            batch, began = self._take(), clock()
            try:
                answers = await asyncio.to_thread(self._run, [request for request, _ in batch])
            except Exception as error:  # every caller of the batch hears of it; the worker goes on
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():  # its caller may have gone away
                        future.set_result(answer)
            self._rests_until = clock() + min(_REST * (clock() - began), _LONGEST_REST)
        self._worker = None

    def _take(self) -> list[tuple[Q, asyncio.Future[R]]]:
        batch: list[tuple[Q, asyncio.Future[R]]] = []
        rows = 0
        while self._waiting and (not batch or rows + len(self._waiting[0][0]) <= self._most):
            batch.append(self._waiting.popleft())
            rows += len(batch[-1][0])
        self._rows -= rows
        return batch
