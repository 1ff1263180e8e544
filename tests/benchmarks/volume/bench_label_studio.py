"""Next to Label Studio, in turns on the same machine: one of the two works while the other is up and idle.

Label Studio runs as its package starts it, with SQLite; Cairn with all its services, PostgreSQL, NATS and fsync. Both
sides get the same texts and the same question, each of the sizes that it can do in bearable time: rates are compared.
Label Studio is found by the environment variable LABEL_STUDIO, and passed over without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.benchmarks.rows import Row, Rows
from tests.benchmarks.volume.label_studio import (
    LabelStudio,
    command,
    label_studio_running,
)
from tests.benchmarks.volume.load import drive, each, until
from tests.benchmarks.volume.raw_copy import copied_in, store_database
from tests.benchmarks.volume.targets import (
    CairnProject,
    CairnStack,
    cairn_running,
    parts_of_an_import,
    straight_line_running,
)

_PEER = "Label Studio"
_ROUNDS = 3
_LABELERS = 16
_WARM = 3.0
_LEAST_TASKS, _LEAST_IMPORT, _LEAST_EXPORT = 60.0, 30.0, 100.0
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How much each side does; turns of labelers take ``seconds``."""

    seconds: float
    tasks: tuple[int, int]
    """Items of the project that is labeled: Cairn's, Label Studio's. Enough for every turn."""
    imported: tuple[int, int]
    exported: tuple[int, int]


_SMALL = _Sizes(8.0, (30_000, 2_000), (20_000, 1_000), (4_000, 500))
_FULL = _Sizes(20.0, (60_000, 10_000), (100_000, 100_000), (100_000, 100_000))


@dataclass(frozen=True, slots=True)
class _Pair:
    """Rates of the two sides in one round, a second."""

    ours: float
    theirs: float


def rows(full: bool) -> Rows:
    """Yield rates and how many times Label Studio's they are. ``full``: imports of 100,000, longer turns."""
    for found in each(_measure(command(), _FULL if full else _SMALL)):
        yield from found


async def _measure(executable: Path, sizes: _Sizes) -> AsyncGenerator[list[Row], None]:
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        async with (
            label_studio_running(executable, Path(theirs), _LABELERS) as studio,
            cairn_running(Path(ours)) as cairn,
        ):
            yield await _labeling(cairn, studio, sizes)
            yield await _importing(cairn, studio, sizes.imported)
            yield await _exporting(cairn, studio, sizes.exported)


async def _labeling(cairn: CairnStack, studio: LabelStudio, sizes: _Sizes) -> list[Row]:
    ours = await cairn.project(sizes.tasks[0])
    theirs = await (await studio.empty_project()).imported(sizes.tasks[1])
    await _label(ours, _LABELERS, _WARM)
    await drive(theirs, _LABELERS, 1, _WARM)
    found: list[Row] = []
    for labelers, least in ((1, None), (_LABELERS, _LEAST_TASKS)):
        pairs = [
            _Pair(
                await _label(ours, labelers, sizes.seconds),
                (await drive(theirs, labelers, 1, sizes.seconds)).rate,
            )
            for _ in range(_ROUNDS)
        ]
        found += _compared(f"next task and submit, single calls, {labelers} at once", "tasks/s", pairs, least)
    if theirs.failures:
        print(f"        turns that Label Studio answered with an error: {theirs.failures}")
    return found


async def _label(project: CairnProject, labelers: int, seconds: float) -> float:
    """Let labelers work; return tasks a second, once every label stands, so that nothing goes on beside the peer."""
    labeled = await project.labeled()
    measured = await drive(project, labelers, 1, seconds)
    await until(project.labeled, labeled + measured.tasks, every=0.1, patience=_PATIENCE)
    return measured.rate


async def _importing(cairn: CairnStack, studio: LabelStudio, sizes: tuple[int, int]) -> list[Row]:
    kept, ready, straight, copied = [], [], [], []
    async with store_database(cairn) as database:
        for _ in range(_ROUNDS):
            project = await cairn.empty_project()
            began = perf_counter()
            await cairn.store.ImportItems(parts_of_an_import(project, sizes[0]), metadata=cairn.auth)
            ours = sizes[0] / (perf_counter() - began)
            await cairn.routed(project, sizes[0])
            routed = sizes[0] / (perf_counter() - began)
            async with straight_line_running(cairn, 0) as line:
                least = await _rate(sizes[0], partial(line.imported, sizes[0]))
            raw = sizes[0] / await copied_in(database, project)
            empty = await studio.empty_project()
            theirs = await _rate(sizes[1], partial(empty.imported, sizes[1]))
            kept.append(_Pair(ours, theirs))
            ready.append(_Pair(routed, theirs))
            straight.append(_Pair(least, theirs))
            copied.append(_Pair(raw, theirs))
    what = f"import of {sizes[0]:,} texts beside {sizes[1]:,}"
    return [
        *_compared(what, "items/s", kept, _LEAST_IMPORT),
        *_compared(f"{what}, until every item has its task", "items/s", ready, None),
        *_compared(
            f"{what}, the straight line: decoded and copied, not looked at", "items/s", straight, None
        ),
        *_compared(f"{what}, raw COPY of Cairn's finished rows", "items/s", copied, None),
    ]


async def _exporting(cairn: CairnStack, studio: LabelStudio, sizes: tuple[int, int]) -> list[Row]:
    ours = await cairn.labeled_project(sizes[0])
    theirs = await (await studio.empty_project()).imported(sizes[1], annotated=True)
    if (there := await theirs.exported()) != sizes[1]:
        raise RuntimeError(f"Label Studio exported {there} of {sizes[1]} tasks")
    pairs = [
        _Pair(
            await _rate(sizes[0], lambda: ours.exported(annotations=True)),
            await _rate(sizes[1], theirs.exported),
        )
        for _ in range(_ROUNDS)
    ]
    what = f"export of {sizes[0]:,} labels with annotations beside {sizes[1]:,}"
    return _compared(what, "items/s", pairs, _LEAST_EXPORT)


async def _rate(items: int, work: Callable[[], Awaitable[object]]) -> float:
    began = perf_counter()
    await work()
    return items / (perf_counter() - began)


def _compared(what: str, unit: str, pairs: Sequence[_Pair], least: float | None) -> list[Row]:
    ratios = [pair.ours / pair.theirs for pair in pairs]
    return [
        Row(what, unit, median(p.ours for p in pairs), median(p.theirs for p in pairs), _PEER),
        Row(
            f"{what}: times Label Studio's rate",
            "x",
            median(ratios),
            least=least,
            spread=max(ratios) - min(ratios),
        ),
    ]
