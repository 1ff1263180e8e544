"""Five times the load that Cairn can carry: what is admitted is answered in bearable time, the rest refused at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

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
_REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn that was offered: whether it was done or refused, how long that took, and what else came of it."""

    seconds: float
    done: bool
    refused: bool = False
    failure: str = ""


def rows(full: bool) -> Rows:
    """Yield latencies and rates. ``full``: a minute of overload instead of fifteen seconds."""
    yield from asyncio.run(_measure(60.0 if full else 15.0))


async def _measure(seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder)) as cairn:
            project = await cairn.project(_ITEMS)
            await drive(project, _CALLERS, 1, _WARM)
            calm = [await _take(project, 0) for _ in range(_CALM)]
            peak = (await drive(project, _CALLERS, 1, _PEAK_SECONDS)).rate
            turns = await _offer(project, _TIMES * peak, seconds)
            recovered = await _recovery(project, 2.0 * max(turn.seconds for turn in calm))
    done = [turn.seconds for turn in turns if turn.done]
    refused = [turn.seconds for turn in turns if turn.refused]
    failures = [turn.failure for turn in turns if turn.failure]
    for failure in sorted(set(failures)):
        print(f"        {failures.count(failure)} times: {failure}")
    what = f"five times the peak of {peak:.0f} turns a second"
    return [
        # A turn is two calls, and each may wait as long as a service lets it.
        Row(f"{what}: turns done, p99", "s", _quantile(done, 0.99), most=2 * 1.25 * _LONGEST_WAIT),
        Row(f"{what}: calls refused, p99", "s", _quantile(refused, 0.99), most=0.5),
        Row(f"{what}: turns done", "/s", len(done) / seconds, peak, "peak", least=0.7 * peak),
        Row(f"{what}: neither done nor refused", "", len(failures), most=0.0),
        Row(f"{what}: from its end until calls are as fast as before", "s", recovered, most=5.0),
    ]


async def _offer(project: CairnProject, rate: float, seconds: float) -> list[_Turn]:
    """Offer turns at random moments, so many a second, whether the last ones are done or not."""
    moments = np.cumsum(np.random.default_rng(1).exponential(1.0 / rate, int(rate * seconds)))
    began = perf_counter()
    turns = []
    for number, moment in enumerate(moments):
        early = began + moment - perf_counter()
        if early > 0.002:  # a shorter sleep is not kept anyhow
            await asyncio.sleep(early)
        turns.append(asyncio.create_task(_take(project, number)))
    return await asyncio.gather(*turns)


async def _take(project: CairnProject, number: int) -> _Turn:
    began = perf_counter()
    try:
        await project.cycle(number % 1000, 1)
    except grpc.aio.AioRpcError as error:
        refused = error.code() in _REFUSED
        failure = "" if refused else f"{error.code().name} {error.details()}"
        return _Turn(perf_counter() - began, done=False, refused=refused, failure=failure)
    return _Turn(perf_counter() - began, done=True)


async def _recovery(project: CairnProject, fast: float) -> float:
    """Seconds until ten turns in a row, one after the other, are done as fast as that."""
    began = perf_counter()
    in_a_row = 0
    while in_a_row < _CALM:
        turn = await _take(project, in_a_row)
        in_a_row = in_a_row + 1 if turn.done and turn.seconds <= fast else 0
    return perf_counter() - began


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else 0.0
