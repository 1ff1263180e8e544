"""Lease and submit by streams, beside the same by calls on the same stack, and beside the straight line.

Sixteen labelers lease and answer ten tasks at a time, in turns: over two streams each, by batch calls, and of the straight
line by batch calls. A turn of Cairn ends when every answer of it has become a label.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.load import Measured, drive, until
from tests.benchmarks.volume.machine import processor_seconds, resident_mb
from tests.benchmarks.volume.streams import drive_streams
from tests.benchmarks.volume.targets import CairnProject, CairnStack, cairn_running, straight_line_running

_CALLERS, _TASKS = 16, 10
_AHEAD = 4 * _TASKS  # held by each: what is judged, what waits, what is on its way in and out
_ROUNDS = 5
_ITEMS, _LINE_ITEMS = 150_000, 400_000
_WARM = 3.0
_PATIENCE = 120.0
_LEAST_OF_STRAIGHT = 0.6  # what is wanted of batch calls, too
_SERVED = ("task-dispatch", "annotation-store")


@dataclass(frozen=True, slots=True)
class _Turn:
    """What was done, the processor seconds of it, and seconds from the last answer until every label stood."""

    measured: Measured
    processor: float
    behind: float

    @property
    def labels(self) -> float:
        """Labels a second, counted until the last one stood."""
        return self.measured.tasks / (self.measured.seconds + self.behind)


def rows(full: bool) -> Rows:
    """Yield rates and processor time. ``full``: turns of twenty seconds instead of five."""
    yield from asyncio.run(_measure(20.0 if full else 5.0, 4 if full else 1))


async def _measure(seconds: float, size: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            cairn_running(Path(folder)) as cairn,
            straight_line_running(cairn, size * _LINE_ITEMS) as line,
        ):
            project = await cairn.project(size * _ITEMS)
            by_stream = partial(drive_streams, cairn, project, _CALLERS, _TASKS, _AHEAD)
            by_call = partial(drive, project, _CALLERS, _TASKS)
            straight = partial(drive, line, _CALLERS, _TASKS)
            for way in (by_stream, by_call):
                await _turn(cairn, project, partial(way, _WARM))
            await straight(_WARM)
            before = _memory(cairn)
            rounds = [
                (
                    await _turn(cairn, project, partial(by_stream, seconds)),
                    await _turn(cairn, project, partial(by_call, seconds)),
                    await straight(seconds),
                )
                for _ in range(_ROUNDS)
            ]
            return [*_compared(rounds), *_grown(before, _memory(cairn))]


async def _turn(cairn: CairnStack, project: CairnProject, work: Callable[[], Awaitable[Measured]]) -> _Turn:
    labeled, used = await project.labeled(), processor_seconds(cairn.pids)
    measured = await work()
    ended = perf_counter()
    await until(project.labeled, labeled + measured.tasks, every=0.05, patience=_PATIENCE)
    return _Turn(measured, processor_seconds(cairn.pids) - used, perf_counter() - ended)


def _compared(rounds: Sequence[tuple[_Turn, _Turn, Measured]]) -> Iterator[Row]:
    name = f"lease and submit by streams, {_CALLERS} callers"
    streams, calls, straight = zip(*rounds, strict=True)
    rate = median(turn.measured.rate for turn in streams)
    yield Row(
        name, "tasks/s", rate, median(one.rate for one in straight), f"straight line, {_TASKS} tasks a call"
    )
    ratios = [turn.measured.rate / one.rate for turn, one in zip(streams, straight, strict=True)]
    yield Row(
        f"{name}: of the straight line's rate",
        "x",
        median(ratios),
        least=_LEAST_OF_STRAIGHT,
        spread=max(ratios) - min(ratios),
    )
    yield Row(
        name, "tasks/s", rate, median(turn.measured.rate for turn in calls), f"Cairn, {_TASKS} tasks a call"
    )
    ratios = [a.measured.rate / b.measured.rate for a, b in zip(streams, calls, strict=True)]
    yield Row(f"{name}: of the rate by batch calls", "x", median(ratios), spread=max(ratios) - min(ratios))
    yield Row(
        f"{name}: labels, until the last one stands",
        "labels/s",
        median(turn.labels for turn in streams),
        median(turn.labels for turn in calls),
        "by batch calls",
    )
    yield Row(
        f"{name}: processor time a label",
        "ms",
        1e3 * median(turn.processor / turn.measured.tasks for turn in streams),
        1e3 * median(turn.processor / turn.measured.tasks for turn in calls),
        "by batch calls",
    )
    yield Row(
        f"{name}: from the last answer until every label stands",
        "s",
        median(turn.behind for turn in streams),
        median(turn.behind for turn in calls),
        "by batch calls",
    )


def _memory(cairn: CairnStack) -> dict[str, float]:
    return {name: resident_mb(pid) for name in _SERVED if (pid := cairn.stack.pid(name)) is not None}


def _grown(before: dict[str, float], after: dict[str, float]) -> Iterator[Row]:
    for name, at_first in before.items():
        what = f"streams: memory of {name} after all turns"
        yield Row(what, "MB", after[name], at_first, "before them")
