"""Lease and submit: Cairn with all its services running and keeping up, beside the straight line.

Both are driven in turns by the same callers of this process, on the same database and bus. A turn of Cairn ends when
every answer of it has become a label, so that what the services do behind the calls counts to its processor time.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import Measured, drive, each, until
from tests.benchmarks.volume.machine import processor_seconds
from tests.benchmarks.volume.targets import (
    CairnProject,
    CairnStack,
    StraightLine,
    cairn_running,
    straight_line_running,
)

_ROUNDS = 5
_ITEMS, _TASKS = 150_000, 500_000
_WARM = 3.0
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class _Way:
    """So many callers, so many tasks a call; the share of the straight line's rate that is wanted."""

    callers: int
    tasks: int
    least: float

    @property
    def name(self) -> str:
        """What the table calls it."""
        each = "single calls" if self.tasks == 1 else f"{self.tasks} tasks a call"
        return f"lease and submit, {each}, {self.callers} callers"


_WAYS = (_Way(16, 1, 0.9), _Way(64, 1, 1.5), _Way(16, 10, 0.6))
_MOST_PROCESSOR_TIME = 2.5
_MOST_P99 = 1.5


@dataclass(frozen=True, slots=True)
class _Turn:
    """What callers did, the processor seconds it cost, and how long the last label took to stand after the last call."""

    measured: Measured
    processor: float
    behind: float

    @property
    def each(self) -> float:
        """Processor seconds a task."""
        return self.processor / self.measured.tasks


def rows(full: bool) -> Rows:
    """Yield rates, latencies and processor time. ``full``: turns of twenty seconds instead of five."""
    seconds = 20.0 if full else 5.0
    for found in each(_measure(seconds, (4 if full else 1))):
        yield from found


async def _measure(seconds: float, size: int) -> AsyncGenerator[list[Row], None]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            cairn_running(Path(folder)) as cairn,
            straight_line_running(cairn, size * _TASKS) as line,
        ):
            project = await cairn.project(size * _ITEMS)
            await _cairn_turn(cairn, project, 16, 1, _WARM)
            await _line_turn(line, 16, 1, _WARM)
            rates: list[tuple[float, float]] = []
            for way in _WAYS:
                pairs = [
                    (
                        await _cairn_turn(cairn, project, way.callers, way.tasks, seconds),
                        await _line_turn(line, way.callers, way.tasks, seconds),
                    )
                    for _ in range(_ROUNDS)
                ]
                rates.append(
                    (median(a.measured.rate for a, _ in pairs), median(b.measured.rate for _, b in pairs))
                )
                yield list(_compared(way, pairs))
            half = [rate / 2.0 for rate in rates[0]]
            paced = [
                (
                    await _cairn_turn(cairn, project, 16, 1, seconds, half[0]),
                    await _line_turn(line, 16, 1, seconds, half[1]),
                )
                for _ in range(_ROUNDS)
            ]
            yield list(_latency(paced))


async def _cairn_turn(
    cairn: CairnStack, project: CairnProject, callers: int, tasks: int, seconds: float, rate: float = 0.0
) -> _Turn:
    labeled, used = await project.labeled(), processor_seconds(cairn.pids)
    measured = await drive(project, callers, tasks, seconds, rate)
    ended = perf_counter()
    await until(project.labeled, labeled + measured.tasks, every=0.05, patience=_PATIENCE)
    return _Turn(measured, processor_seconds(cairn.pids) - used, perf_counter() - ended)


async def _line_turn(
    line: StraightLine, callers: int, tasks: int, seconds: float, rate: float = 0.0
) -> _Turn:
    used = processor_seconds(line.pids)
    measured = await drive(line, callers, tasks, seconds, rate)
    return _Turn(measured, processor_seconds(line.pids) - used, 0.0)


def _compared(way: _Way, pairs: Sequence[tuple[_Turn, _Turn]]) -> Iterator[Row]:
    rate = [ours.measured.rate / theirs.measured.rate for ours, theirs in pairs]
    cost = [ours.each / theirs.each for ours, theirs in pairs]
    yield Row(
        way.name,
        "tasks/s",
        median(ours.measured.rate for ours, _ in pairs),
        median(theirs.measured.rate for _, theirs in pairs),
        "straight line",
    )
    yield Row(
        f"{way.name}: of the straight line's rate", "x", median(rate), least=way.least, spread=_spread(rate)
    )
    yield Row(
        f"{way.name}: processor time a label",
        "ms",
        1e3 * median(ours.each for ours, _ in pairs),
        1e3 * median(theirs.each for _, theirs in pairs),
        "straight line, a task",
    )
    yield Row(
        f"{way.name}: times the straight line's processor time",
        "x",
        median(cost),
        most=_MOST_PROCESSOR_TIME,
        spread=_spread(cost),
    )
    yield Row(
        f"{way.name}: from the last answer until every label stands",
        "s",
        median(ours.behind for ours, _ in pairs),
        spread=_spread([ours.behind for ours, _ in pairs]),
    )


def _latency(pairs: Sequence[tuple[_Turn, _Turn]]) -> Iterator[Row]:
    what = "lease and submit, single calls, 16 callers at half of the peak"
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        ours = [a.measured.percentile(share) for a, _ in pairs]
        theirs = [b.measured.percentile(share) for _, b in pairs]
        yield Row(f"{what}: {name}", "ms", 1e3 * median(ours), 1e3 * median(theirs), "straight line")
        if name == "p99":
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            yield Row(
                f"{what}: times the straight line's p99",
                "x",
                median(ratios),
                most=_MOST_P99,
                spread=_spread(ratios),
            )


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
