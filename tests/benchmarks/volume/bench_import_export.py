"""Import and export: Cairn's streams beside what PostgreSQL itself does with the same rows.

The references, raw COPY in and out, leave out what makes an import or an export one: checks, digests, events, lines.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import asyncpg

from cairn.annotation.v1 import annotation_store_pb2 as store
from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.machine import resident_mb
from tests.benchmarks.volume.raw_copy import copied_in, copied_out, store_database
from tests.benchmarks.volume.targets import CairnStack, cairn_running, parts_of_an_import

_ROUNDS = 5
_ITEMS, _LABELS = 20_000, 4_000
_LEAST = 0.2
_PATIENCE = 600.0
_LARGE = 1_000_000
_LEAST_LATER, _MOST_MEMORY = 0.7, 1.3
_LOOK = 0.2


def rows(full: bool) -> Rows:
    """Yield rates. ``full``: ten times as many items and labels, and a million items into a store by itself."""
    yield from asyncio.run(_measure(10 if full else 1))
    if full:
        yield from asyncio.run(_grown(_LARGE))


async def _measure(size: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder)) as cairn, store_database(cairn) as database:
            imports = await _imports(cairn, database, size * _ITEMS)
            exports = await _exports(cairn, database, size * _LABELS)
    return [
        *_rows("import of items", size * _ITEMS, imports),
        *_rows("export of labels", size * _LABELS, exports),
    ]


def _rows(what: str, count: int, pairs: Sequence[tuple[float, float]]) -> list[Row]:
    ratios = [raw / ours for ours, raw in pairs]
    return [
        Row(
            f"{what}, {count:,}",
            "/s",
            count / median(ours for ours, _ in pairs),
            count / median(raw for _, raw in pairs),
            "raw COPY",
        ),
        Row(
            f"{what}: of raw COPY's rate",
            "x",
            median(ratios),
            least=_LEAST,
            spread=max(ratios) - min(ratios),
        ),
    ]


# --- import


async def _imports(cairn: CairnStack, database: asyncpg.Connection, items: int) -> list[tuple[float, float]]:
    pairs = []
    for _ in range(_ROUNDS):
        project = await cairn.empty_project()
        began = perf_counter()
        await cairn.store.ImportItems(parts_of_an_import(project, items), metadata=cairn.auth)
        ours = perf_counter() - began
        pairs.append((ours, await copied_in(database, project)))
        await cairn.routed(project, items)  # so that what follows an import does not run beside the next one
    return pairs


# --- a large import


async def _grown(items: int) -> list[Row]:
    """Import so many items into annotation-store by itself; tell how its pace and its memory grow on the way."""
    with tempfile.TemporaryDirectory() as folder:
        async with cairn_running(Path(folder), ["annotation-store"]) as cairn:
            project = await cairn.empty_project()
            importing = asyncio.ensure_future(
                cairn.store.ImportItems(parts_of_an_import(project, items), metadata=cairn.auth)
            )
            reached = [(0, perf_counter(), _memory(cairn))]
            while not importing.done():
                await asyncio.wait([importing], timeout=_LOOK)
                reached.append((await _next_offset(cairn, project), perf_counter(), _memory(cairn)))
            assert importing.result().created_items == items, "every item was written"
    tenths = [
        [
            (offset, at, memory)
            for offset, at, memory in reached
            if n * items <= 10 * offset <= (n + 1) * items
        ]
        for n in range(10)
    ]
    early, late = (max(memory for _, _, memory in tenth) for tenth in (tenths[0], tenths[-1]))
    return [
        Row(
            f"import of items, {items:,}, the store by itself", "/s", items / (reached[-1][1] - reached[0][1])
        ),
        Row(
            "  rate of the last tenth by that of the first",
            "x",
            _pace(tenths[-1]) / _pace(tenths[0]),
            least=_LEAST_LATER,
        ),
        Row(
            "  memory in the last tenth by that in the first",
            "x",
            late / early,
            late,
            "MB at last",
            most=_MOST_MEMORY,
        ),
    ]


def _pace(reached: Sequence[tuple[int, float, float]]) -> float:
    """Items a second between the first look and the last."""
    (offset, at, _), (later_offset, later, _) = reached[0], reached[-1]
    return (later_offset - offset) / (later - at)


def _memory(cairn: CairnStack) -> float:
    pid = cairn.stack.pid("annotation-store")
    assert pid is not None, "the store runs"
    return resident_mb(pid)


async def _next_offset(cairn: CairnStack, project: str) -> int:
    """Return how many items were taken in: none while not even the header has come."""
    imports = await cairn.store.ListImports(store.ListImportsRequest(parent=project), metadata=cairn.auth)
    return sum(int(one.next_offset) for one in imports.imports)


# --- export


async def _exports(cairn: CairnStack, database: asyncpg.Connection, labels: int) -> list[tuple[float, float]]:
    project = await cairn.labeled_project(labels)
    pairs = []
    for _ in range(_ROUNDS):
        began = perf_counter()
        size = await project.exported()
        ours = perf_counter() - began
        assert size, "an export of labels has bytes"
        pairs.append((ours, await copied_out(database, project.name)))
    return pairs
