"""Callers that lease and submit, as many as wanted, at once or at a pace; what they did and how long each turn took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Target(Protocol):
    """Something that hands out tasks and takes answers."""

    async def cycle(self, caller: int, tasks: int) -> int:
        """Lease so many tasks as this caller, answer them, and return how many there were."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What callers did in ``seconds``: ``tasks`` leased and answered; ``turns`` (n,), the seconds of each turn."""

    tasks: int
    seconds: float
    turns: Sequence[float]

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the turns ended."""
        return float(np.quantile(self.turns, share))


async def drive(target: Target, callers: int, tasks: int, seconds: float, rate: float = 0.0) -> Measured:
    """Let callers take turns of so many tasks for so long: as fast as they can, or ``rate`` tasks a second in all.

    At a rate, a turn is measured from when it was due, so that a turn that was kept waiting by the one before it counts
    what it waited.
    """
    began = perf_counter()
    end = began + seconds
    done = 0
    turns: list[float] = []

    async def call(caller: int) -> None:
        nonlocal done
        apart = callers * tasks / rate if rate else 0.0
        due = began + apart * caller / callers
        while True:
            if rate:
                await asyncio.sleep(max(due - perf_counter(), 0.0))
            else:
                due = perf_counter()
            if due >= end:
                return
            answered = await target.cycle(caller, tasks)
            done += answered
            turns.append(perf_counter() - due)
            due += apart

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    return Measured(done, perf_counter() - began, turns)


def each(found: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yield what is found as it comes, on a loop that lives as long."""
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(anext(found))
            except StopAsyncIteration:
                return


async def until(look: Callable[[], Awaitable[int]], expected: int, every: float, patience: float) -> None:
    """Look ``every`` so many seconds until the answer is what is expected. Raises TimeoutError out of patience."""
    async with asyncio.timeout(patience):
        for _ in count():
            if await look() == expected:
                return
            await asyncio.sleep(every)
