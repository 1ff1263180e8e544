"""A project from its import to its export by 64 machine labelers: memory, lag, and every promise checked by what they saw.

`CAIRN_MARATHON_ITEMS=1000000 make bench ARGS="--only marathon"` takes as many items as one likes, three answers each.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cairn_client import AsyncCairn
from cairn_stack import PrivateStack
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.crowd import Run, Watch, begin, export, tasks_are_there, work_through
from tests.benchmarks.volume.history import broken_promises, exported

_ITEMS, _MORE_ITEMS = 3_000, 30_000
_LABELERS, _ANSWERS = 64, 3
_FEWEST_TASKS, _MOST_TASKS = 20, 50
_LEASE_SECONDS = 120.0
_PATIENCE = 24 * 3600.0
_MOST_GROWTH = 1.2
_BARS = "▁▂▃▄▅▆▇█"


def rows(full: bool) -> Rows:
    """Yield rates, memory, lag and broken promises. ``full``: ten times as many items."""
    items = int(os.environ.get("CAIRN_MARATHON_ITEMS", _MORE_ITEMS if full else _ITEMS))
    yield from asyncio.run(_measure(items))


async def _measure(items: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with PrivateStack(folder, trace_ratio=0.0) as stack, AsyncCairn(home=stack.home) as client:
            watch = Watch(stack)
            async with watch.watching():
                run = await begin(client, f"marathon-{uuid.uuid4().hex[:8]}", items, _ANSWERS, _LEASE_SECONDS)
                await tasks_are_there(client, run)
                before = {name: len(lags) for name, lags in watch.lag.items()}
                # A machine takes as many tasks at a time as leave something for the others.
                tasks = min(max(items // (16 * _LABELERS), _FEWEST_TASKS), _MOST_TASKS)
                await work_through(client, run, _LABELERS, tasks, _LEASE_SECONDS, _PATIENCE)
                lag = {name: lags[before.get(name, 0) :] for name, lags in watch.lag.items()}
                file = await export(client, run, folder)
            with file.open("rb") as lines:
                broken = broken_promises(run.history, exported(lines), _ANSWERS)
    for told in broken[:20]:
        print(f"        {told}")
    return [*_rates(run, len(broken)), *_lag(lag), *_memory(watch)]


def _rates(run: Run, broken: int) -> list[Row]:
    what = f"marathon, {run.items:,} items of {run.answers} answers by {_LABELERS} machine labelers"
    return [
        Row(f"{what}: items imported", "/s", run.items / run.import_seconds),
        Row(f"{what}: from the import's end until every item has its task", "s", run.task_seconds),
        Row(f"{what}: labels", "/s", run.items / run.seconds),
        Row(f"{what}: labels exported", "/s", run.items / run.export_seconds),
        Row(f"{what}: answers kept", "", len(run.history.kept), least=float(run.items * run.answers)),
        Row(f"{what}: broken promises", "", broken, most=0.0),
    ]


def _lag(lag: Mapping[str, Sequence[float]]) -> list[Row]:
    """How far each service was behind its events while labels were made."""
    return [
        Row(f"marathon: lag of {name}, p99", "s", float(np.quantile(lags, 0.99)), most=1.0)
        for name, lags in sorted(lag.items())
        if lags
    ]


def _memory(watch: Watch) -> list[Row]:
    """Memory at the end over memory after a third of the run, import and export included; what a process reads in at
    first is not counted."""
    return [
        Row(
            f"marathon: memory of {name} {_shape(held)}, {held[-1]:.0f} MB, over that after a third",
            "x",
            _late(held) / _early(held),
            most=_MOST_GROWTH,
        )
        for name, held in sorted(watch.memory.items())
        if len(held) >= len(_BARS)
    ]


def _early(held: Sequence[float]) -> float:
    third = len(held) // 3
    return float(np.median(held[third : third + max(third // 3, 1)]))


def _late(held: Sequence[float]) -> float:
    return float(np.median(held[-max(len(held) // 9, 1) :]))


def _shape(held: Sequence[float]) -> str:
    """The course of it, from nothing to the most, in thirty bars."""
    means = [float(np.mean(part)) for part in np.array_split(held, min(30, len(held)))]
    return "".join(_BARS[min(int(mean / max(means) * len(_BARS)), len(_BARS) - 1)] for mean in means)
