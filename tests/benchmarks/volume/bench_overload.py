"""Five times the load that Cairn can carry: what is admitted is answered in bearable time, the rest refused at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import grpc
import numpy as np

from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import drive
from tests.benchmarks.volume.targets import CairnProject, cairn_running

_ITEMS = 20_000
_CALLERS = 64
_TIMES = 5.0
_WARM, _PEAK_SECONDS, _CALM = 4.0, 8.0, 10
_LONGEST_WAIT = 5.0  # what services are set to by default
_LABELERS = 1_000
_SHORTEST_SLEEP = 0.002  # seconds; a shorter one is not kept anyhow
# CANCELLED is what gRPC's core says of calls that wait for a server to take them up; the SDK repeats all three.
_REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: its seconds, whether it was refused, and what else kept it from being done."""

    seconds: float
    refused: bool = False
    failure: str = ""

    @property
    def done(self) -> bool:
        """Whether it was answered."""
        return not (self.refused or self.failure)


def rows(full: bool) -> Rows:
    """Yield latencies and rates. ``full``: a minute of overload instead of fifteen seconds."""
    yield from asyncio.run(_measure(60.0 if full else 15.0))


async def _measure(seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder)) as cairn:
            project = await cairn.project(_ITEMS)
            await drive(project, _CALLERS, 1, _WARM)
            calm = [call for number in range(_CALM) for call in await _turn(project, number)]
            peak = (await drive(project, _CALLERS, 1, _PEAK_SECONDS)).rate
            calls = await _offer(project, _TIMES * peak, seconds)
            recovered = await _recovery(project, 2.0 * max(call.seconds for call in calm))
    done = [call.seconds for call in calls if call.done]
    refused = [call.seconds for call in calls if call.refused]
    failures = Counter(call.failure for call in calls if call.failure)
    for failure, times in failures.most_common():
        print(f"        {times} times: {failure}")
    what = f"five times the peak of {peak:.0f} turns a second"
    return [
        Row(f"{what}: calls answered, p99", "s", _quantile(done, 0.99), most=1.25 * _LONGEST_WAIT),
        Row(
            f"{what}: {len(refused)} of {len(calls)} calls refused, p99",
            "s",
            _quantile(refused, 0.99),
            most=1.0,
        ),
        Row(f"{what}: calls answered", "/s", len(done) / seconds, 2 * peak, "at the peak", least=1.4 * peak),
        Row(f"{what}: calls neither answered nor refused", "", failures.total(), most=0.0),
        Row(f"{what}: from its end until calls are as fast as before", "s", recovered, most=5.0),
    ]


async def _offer(project: CairnProject, rate: float, seconds: float) -> list[_Call]:
    """Offer turns at random moments, so many a second, whether the last ones are done or not; return their calls."""
    moments = np.cumsum(np.random.default_rng(1).exponential(1.0 / rate, int(rate * seconds)))
    began = perf_counter()
    turns = []
    for number, moment in enumerate(moments):
        early = began + moment - perf_counter()
        if early > _SHORTEST_SLEEP:
            await asyncio.sleep(early)
        turns.append(asyncio.create_task(_turn(project, number % _LABELERS)))
    return [call for calls in await asyncio.gather(*turns) for call in calls]


async def _turn(project: CairnProject, labeler: int) -> list[_Call]:
    """Lease a task and answer it; return both calls, or the one that ended it."""
    leasing, tokens = await _timed(project.lease(labeler, 1))
    if not tokens:
        return [leasing]
    return [leasing, (await _timed(project.submit(tokens)))[0]]


async def _timed(work: Awaitable[T]) -> tuple[_Call, T | None]:
    began = perf_counter()
    try:
        found = await work
    except grpc.aio.AioRpcError as error:
        refused = error.code() in _REFUSED
        failure = "" if refused else f"{error.code().name} {error.details()}"
        return _Call(perf_counter() - began, refused, failure), None
    return _Call(perf_counter() - began), found


async def _recovery(project: CairnProject, fast: float) -> float:
    """Seconds until ten turns in a row, one after the other, have calls as fast as that."""
    began = perf_counter()
    in_a_row = 0
    while in_a_row < _CALM:
        calls = await _turn(project, in_a_row)
        in_a_row = in_a_row + 1 if all(call.done and call.seconds <= fast for call in calls) else 0
    return perf_counter() - began


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else 0.0
