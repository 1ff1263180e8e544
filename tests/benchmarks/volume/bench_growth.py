"""How a lease's cost grows: with the project, with what a labeler has answered, with wear, and while the queue is moved.

Each project size has a database of its own on one server, with many small projects beside the large one; they are
measured in turns. In process: dispatch's own handlers on PostgreSQL with fsync, without gRPC and bus.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np
import structlog

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.dispatch import (
    Dispatch,
    dispatch_running,
    imported,
    postgres_running,
    reached,
    routed,
)
from tests.benchmarks.volume.load import each
from tests.benchmarks.volume.machine import processor_seconds

_SIZES = (10_000, 100_000, 1_000_000)
_HUGE = 10_000_000
_BESIDE, _BESIDE_TASKS = 100, 50
_MOST_GROWTH = 1.3
_ROUNDS, _CALLS = 5, 60
_CALLERS = 16
_SPREAD = "(n::bigint * 7919 % 1000) / 1000.0"
"""Priorities as a model gives them: all different."""
_SKILLS = 40
_LARGE = "large"


@dataclass(slots=True)
class _Leasing:
    """What calls of LeaseTasks took: seconds of each, and processor seconds of PostgreSQL and of this process."""

    turns: list[float] = field(default_factory=list)
    postgres: float = 0.0
    service: float = 0.0

    def share(self, share: float) -> float:
        """Milliseconds within which this share of the calls was answered."""
        return 1e3 * float(np.quantile(self.turns, share))

    @property
    def cost(self) -> float:
        """Processor milliseconds a call."""
        return 1e3 * (self.postgres + self.service) / len(self.turns)


def rows(full: bool) -> Rows:
    """Yield latencies and costs, each beside what it grew from. ``full``: ten million tasks, ten times the wear."""
    # The service tells of every batch of expired leases; here that would stand between the rows of the table.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for found in each(_measure(full)):
        yield from found


async def _measure(full: bool) -> AsyncGenerator[list[Row], None]:
    sizes = (*_SIZES, _HUGE) if full else _SIZES
    more = 10 if full else 1
    async with postgres_running() as server, AsyncExitStack() as stack:
        grown = {}
        for size in sizes:
            grown[size] = await stack.enter_async_context(dispatch_running(server, f"tasks_{size}"))
            await _fill(grown[size], size)
        yield await _growth(grown)
        middle = grown[_SIZES[1]]
        yield await _pasts(middle, 10_000 * more)
        yield await _shapes(middle)
        yield await _life(middle, 3_000 * more)
        yield await _wear(middle, 6_000 * more)
        yield await _expiry(middle, 10_000 * more)
        yield await _new_priorities(middle, 10_000 * more)


async def _fill(dispatch: Dispatch, size: int) -> None:
    for n in range(_BESIDE):
        await dispatch.project(f"small-{n}", _BESIDE_TASKS)
    await dispatch.project(_LARGE, size, priority=_SPREAD)
    await dispatch.settle_in()


# --- the project


async def _growth(grown: dict[int, Dispatch]) -> list[Row]:
    least, *larger = grown
    found: list[Row] = []
    for callers in (1, _CALLERS):
        measured: dict[int, list[_Leasing]] = {size: [] for size in grown}
        for n in range(_ROUNDS):
            for size, dispatch in grown.items():
                names = [f"fresh-{callers}-{n}-{c}" for c in range(callers)]
                measured[size].append(await _leasing(dispatch, _LARGE, names, max(_CALLS // callers, 8)))
        for size in larger:
            ratios = [
                a.share(0.5) / b.share(0.5) for a, b in zip(measured[size], measured[least], strict=True)
            ]
            what = f"lease, {callers} at once, {size:,} tasks"
            found += _compared(what, measured[size], measured[least], f"{least:,} tasks")
            found.append(
                Row(
                    f"{what}: p50 over that of {least:,}",
                    "x",
                    median(ratios),
                    most=_MOST_GROWTH,
                    spread=_spread(ratios),
                )
            )
    return found


def _compared(what: str, ours: Sequence[_Leasing], theirs: Sequence[_Leasing], peer: str) -> Iterator[Row]:
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        yield Row(
            f"{what}: {name}",
            "ms",
            median(one.share(share) for one in ours),
            median(one.share(share) for one in theirs),
            peer,
        )
    yield Row(
        f"{what}: processor time a call",
        "ms",
        median(one.cost for one in ours),
        median(one.cost for one in theirs),
        peer,
    )


async def _leasing(dispatch: Dispatch, project: str, labelers: Sequence[str], calls: int) -> _Leasing:
    """Let each labeler lease so many single tasks, one after the other, beside the others."""
    measured = _Leasing()
    used, own = processor_seconds([dispatch.server]), process_time()

    async def call(labeler: str) -> None:
        for _ in range(calls):
            began = perf_counter()
            leases = await dispatch.lease(project, labeler)
            measured.turns.append(perf_counter() - began)
            if not leases:
                raise RuntimeError(f"there is nothing left to lease in {project}")

    await asyncio.gather(*(call(labeler) for labeler in labelers))
    measured.postgres = processor_seconds([dispatch.server]) - used
    measured.service = process_time() - own
    return measured


# --- labelers, and the shape of the queue


async def _pasts(dispatch: Dispatch, answered: int) -> list[Row]:
    veterans = [f"veteran-{n}" for n in range(4)]
    await dispatch.project("answered", 2 * answered, priority=_SPREAD, veterans=veterans, answered=answered)
    await dispatch.settle_in()
    pairs = [
        (
            await _leasing(dispatch, "answered", veterans, _CALLS // 4),
            await _leasing(dispatch, _LARGE, [f"novice-{n}-{c}" for c in range(4)], _CALLS // 4),
        )
        for n in range(_ROUNDS)
    ]
    what = f"lease by labelers who have answered the first {answered:,}"
    return list(_compared(what, [a for a, _ in pairs], [b for _, b in pairs], "fresh labelers"))


async def _shapes(dispatch: Dispatch) -> list[Row]:
    found: list[Row] = []
    size = 20_000
    await dispatch.project("skills", size, priority=_SPREAD, skill=f"'skill-' || n % {_SKILLS}")
    await dispatch.project("skewed", size, priority="CASE WHEN n % 100 = 0 THEN random() ELSE 0.5 END")
    specialists = [f"specialist-{n}" for n in range(4)]
    await dispatch.able(specialists, [f"skill-{n}" for n in (3, 17, 31)])
    await dispatch.settle_in()
    for project, what, who in (
        ("skills", f"lease by labelers with 3 of {_SKILLS} skills", specialists),
        ("skewed", "lease where 99 % are of one priority", [f"anybody-{n}" for n in range(4)]),
    ):
        pairs = [
            (
                await _leasing(dispatch, project, who, _CALLS // 4),
                await _leasing(dispatch, _LARGE, [f"{project}-{n}-{c}" for c in range(4)], _CALLS // 4),
            )
            for n in range(_ROUNDS)
        ]
        found += _compared(what, [a for a, _ in pairs], [b for _, b in pairs], "the large project")
    return found


# --- wear


async def _life(dispatch: Dispatch, items: int) -> list[Row]:
    """From import to decision, one answer an item, sixteen labelers: what each label costs and writes."""
    project = "lives"
    await dispatch.project(project, 0, answers=1)
    keys = [f"key-{n:07d}" for n in range(items)]
    before, wal = await dispatch.rows_written(), await dispatch.wal_bytes()
    used, own = processor_seconds([dispatch.server]), process_time()
    for some in _chunks(keys, 500):
        await dispatch.hear(project, imported(project, some))
    for some in _chunks(keys, 500):
        await dispatch.hear(project, routed(project, [(key, _rescored(key)) for key in some]))
    leases: list[pb.Lease] = []

    async def work(labeler: str) -> None:
        while some := await dispatch.lease(project, labeler):
            leases.extend(some)

    await asyncio.gather(*(work(f"worker-{n}") for n in range(_CALLERS)))
    for batch in _chunks(leases, 32):
        await dispatch.answer(project, batch)
        await dispatch.hear(project, *(reached(lease.item) for lease in batch))
    postgres, service = processor_seconds([dispatch.server]) - used, process_time() - own
    written, wal = await dispatch.rows_written() - before, await dispatch.wal_bytes() - wal
    what = "a label's life in dispatch, 16 labelers"
    return [
        Row(f"{what}: processor time of PostgreSQL", "ms", 1e3 * postgres / items),
        Row(f"{what}: processor time of the service", "ms", 1e3 * service / items),
        Row(f"{what}: rows written", "rows", written / items),
        Row(f"{what}: WAL", "bytes", wal / items),
    ]


async def _wear(dispatch: Dispatch, cycles: int) -> list[Row]:
    """Lease and answer for long, ten tasks a call: what a lease costs at the end, beside the beginning."""
    parts, each, tasks = 10, cycles // 10, 10
    costs: list[_Leasing] = []
    for part in range(parts):
        measured = _Leasing()
        used, own = processor_seconds([dispatch.server]), process_time()
        for n in range(each // tasks):
            began = perf_counter()
            leases = await dispatch.lease(_LARGE, f"busy-{part}-{n % _CALLERS}", tasks)
            measured.turns.append(perf_counter() - began)
            await dispatch.answer(_LARGE, leases)
        measured.postgres, measured.service = (
            processor_seconds([dispatch.server]) - used,
            process_time() - own,
        )
        costs.append(measured)
    what = f"lease after {cycles:,} leases and answers"
    return list(_compared(what, costs[-2:], costs[:2], "at the beginning"))


# --- what moves many tasks at once


async def _expiry(dispatch: Dispatch, leases: int) -> list[Row]:
    await dispatch.project("expiring", 2 * leases, answers=1, priority=_SPREAD)
    await dispatch.lease_to("expiring", 200, leases // 200, 0.0)
    await dispatch.settle_in()
    return await _meanwhile(
        dispatch, f"{leases:,} leases expire at once", "expiring", leases, dispatch.expiry.expire
    )


async def _new_priorities(dispatch: Dispatch, items: int) -> list[Row]:
    project = "rescored"
    await dispatch.project(project, items, priority=_SPREAD)
    await dispatch.settle_in()
    keys = [f"item-{n:09d}" for n in range(1, items + 1)]

    async def rescore() -> None:
        for some in _chunks(keys, 500):
            priorities = [(key, _rescored(key)) for key in some]
            await dispatch.hear(project, routed(project, priorities, revision=2))

    return await _meanwhile(dispatch, f"{items:,} tasks get new priorities", project, items, rescore)


async def _meanwhile(
    dispatch: Dispatch, what: str, project: str, count: int, work: Callable[[], Awaitable[None]]
) -> list[Row]:
    """Do something to so many tasks of a project, and lease there meanwhile."""
    quiet = await _leasing(dispatch, project, ["before"], _CALLS)
    wal, used = await dispatch.wal_bytes(), processor_seconds([dispatch.server])
    busy = _Leasing()
    began = perf_counter()
    task = asyncio.ensure_future(work())
    turn = 0
    while not task.done():
        some = await _leasing(dispatch, project, [f"meanwhile-{turn % _CALLERS}"], 1)
        busy.turns += some.turns
        turn += 1
        await asyncio.sleep(0.05)
    await task
    seconds = perf_counter() - began
    postgres, wal = processor_seconds([dispatch.server]) - used, await dispatch.wal_bytes() - wal
    return [
        Row(f"{what}: until all are done", "s", seconds),
        Row(f"{what}: processor time of PostgreSQL each", "ms", 1e3 * postgres / count),
        Row(f"{what}: WAL each", "bytes", wal / count),
        Row(f"{what}: a lease meanwhile, p50", "ms", busy.share(0.5), quiet.share(0.5), "before"),
        Row(f"{what}: a lease meanwhile, p99", "ms", busy.share(0.99), quiet.share(0.99), "before"),
    ]


T = TypeVar("T")


def _chunks(elements: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (elements[i : i + size] for i in range(0, len(elements), size))


def _rescored(key: str) -> float:
    """Another priority than the project was filled with."""
    return int(key.rpartition("-")[2]) * 104_729 % 1000 / 1000


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
