"""Group commit: calls that arrive together are answered together, each with its own answer or error.

A single call waits for nobody: while nothing runs it goes at once. While a flush runs, calls gather for the next one, so
that the busier the service is the fuller its statements are; a flush that takes long, for it waits for a lock, say, does
not hold up those behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context as VarContext
from copy import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

from opentelemetry.context import Context, attach, get_current

from cairn_kit.auth.caller import Caller, caller
from cairn_kit.database.pool import is_outage
from cairn_kit.errors import CairnError, Unauthenticated, Unavailable

_SLOW = 3.0  # times what a flush takes, from which on one is waited for no longer
_NEWEST = 0.1  # the share of the last flush in what a flush is taken to take

Q = TypeVar("Q")
R = TypeVar("R")


def _one(_: object) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Submitted(Generic[Q]):
    """One call's request with whose it is and the trace that it belongs to (for `announce(cause=...)`)."""

    request: Q
    caller: Caller | None
    cause: Context


class Coalescer(Generic[Q, R]):
    """Gathers concurrent calls of one kind into batches.

    `flush(batch)` returns one result or exception for each request, in order, and has had no effect if it raises. Then the
    calls are flushed one by one, for one of them may have been what none could stand; but where the database is away, or
    the error is stated as everybody's (CairnError), each call of the batch gets that. Each takes at most `max_batch`
    calls; or calls that together weigh as much, where `weigh` tells how much each one asks for, and one that weighs more
    goes alone. Another begins beside those that run, `parallel` in all, when as many calls have gathered, or the last one
    has run for `patience` seconds and three times as long as they do: on a machine that is busy, or slow, calls gather for
    longer.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Submitted[Q]]], Awaitable[Sequence[R | Exception]]],
        *,
        max_batch: int = 64,
        parallel: int = 2,
        patience: float = 0.02,
        weigh: Callable[[Q], int] = _one,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._parallel = parallel
        self._patience = patience
        self._weigh = weigh
        self._weight = 0
        """Of all that wait."""
        self._began = 0.0
        self._typical = 0.0
        self._waiting: dict[asyncio.Future[R], Submitted[Q]] = {}
        """In the order in which they came."""
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, request: Q) -> R:
        """The answer to this request. A caller that goes away does not undo what its batch has begun."""
        try:
            who = caller()
        except Unauthenticated:
            who = None
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._weight += self._weigh(request)
        self._waiting[future] = Submitted(request, who, get_current())
        self._consider()
        try:
            return await future
        finally:
            self._withdraw(future)

    async def drain(self) -> None:
        """Wait until everything submitted is answered."""
        while self._running or self._waiting:
            self._go()
            if self._running:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    def _consider(self) -> None:
        if not self._waiting or len(self._running) >= self._parallel:
            return  # a flush that ends will take what has gathered
        loop = asyncio.get_running_loop()
        if self._weight >= self._max_batch:
            self._go()
        elif self._timer is None:
            # Calls that came in the same turn of the loop go together.
            patience = max(self._patience, _SLOW * self._typical)
            when = self._began + patience if self._running else loop.time()
            self._timer = loop.call_at(when, self._go)

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and len(self._running) < self._parallel:
            batch = self._take()
            loop = asyncio.get_running_loop()
            self._began = loop.time()
            task = loop.create_task(self._run(batch), context=_nobody())
            self._running.add(task)
            task.add_done_callback(self._ended)
            self._consider()

    def _take(self) -> list[tuple[Submitted[Q], asyncio.Future[R]]]:
        """The first of those that wait, as many as one flush takes."""
        batch: list[tuple[Submitted[Q], asyncio.Future[R]]] = []
        weight = 0
        for future, submitted in self._waiting.items():
            weight += self._weigh(submitted.request)
            if batch and weight > self._max_batch:
                break
            batch.append((submitted, future))
        for _, future in batch:
            self._withdraw(future)
        return batch

    def _withdraw(self, future: asyncio.Future[R]) -> None:
        """Let a call wait no longer: it is flushed, or its caller has gone, and what it asked for is not to be kept."""
        submitted = self._waiting.pop(future, None)
        if submitted is not None:
            self._weight -= self._weigh(submitted.request)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._go()

    async def _run(self, batch: Sequence[tuple[Submitted[Q], asyncio.Future[R]]]) -> None:
        live = [(submitted, future) for submitted, future in batch if not future.done()]
        if not live:
            return
        attach(live[0][0].cause)  # the task's own context ends with it
        began = asyncio.get_running_loop().time()
        try:
            results = await self._flush([submitted for submitted, _ in live])
        except BaseException as error:
            if len(live) > 1 and _may_be_of_one(error):
                await self._run_each(live)
                return
            _fail(live, error)
            if not isinstance(error, Exception):
                raise
            return
        self._typical += _NEWEST * (asyncio.get_running_loop().time() - began - self._typical)
        for (_, future), result in zip(live, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _run_each(self, batch: Sequence[tuple[Submitted[Q], asyncio.Future[R]]]) -> None:
        try:
            for one in batch:
                await self._run([one])
        except BaseException as error:
            _fail(batch, error)
            raise


def _fail(batch: Sequence[tuple[Submitted[Q], asyncio.Future[R]]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(_copy(error))


def _nobody() -> VarContext:
    """A batch belongs to no single caller: it runs in a context that has none, in the trace of its first call."""
    return VarContext()


def _may_be_of_one(error: BaseException) -> bool:
    return isinstance(error, Exception) and not (isinstance(error, CairnError) or is_outage(error))


def _copy(error: BaseException) -> BaseException:
    # One exception object raised in many tasks would gather all their tracebacks.
    if isinstance(error, asyncio.CancelledError):
        # It is the batch that was cancelled, by a time limit or the end of the service; its callers cancelled nothing.
        return Unavailable("BROKEN_OFF", "The call was broken off; send it again.")
    if isinstance(error, CairnError) or not isinstance(error, Exception):
        return error
    # Of an outage the kind is kept: it is the database that is away, and no defect.
    copied = (
        copy(error) if is_outage(error) else RuntimeError(f"the batch failed: {error!r}")
    ).with_traceback(None)
    copied.__cause__ = error
    return copied
