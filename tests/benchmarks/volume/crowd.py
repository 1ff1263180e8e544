"""Machine labelers who go on through everything, and write down what they saw; whoever watches memory and lag."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import psutil

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.label.v1.label_schema_pb2 import ChoiceQuestion, LabelClass, LabelSchema, Question
from cairn_client import AsyncCairn, Job
from cairn_client.errors import CairnError
from cairn_stack import PrivateStack, api
from tests.benchmarks.volume.history import Granted, History, Kept
from tests.benchmarks.volume.load import until
from tests.benchmarks.volume.targets import CLASSES, QUESTION, text_item

_REST = 0.2
_LOOK = 1.0
_PATIENCE = 3600.0


@dataclass(slots=True)
class Run:
    """A project that a crowd works through, and what its clients saw of it."""

    project: str
    items: int
    answers: int
    history: History = field(default_factory=History)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    import_seconds: float = 0.0
    task_seconds: float = 0.0
    """From the import's end until every item had its task."""
    seconds: float = 0.0
    """From the first lease until every item had its label."""
    export_seconds: float = 0.0


async def begin(client: AsyncCairn, project: str, items: int, answers: int, lease_seconds: float) -> Run:
    """Make a project whose items want so many answers each, and import them."""
    question = Question(
        id=QUESTION, required=True, choice=ChoiceQuestion(classes=[LabelClass(id=c) for c in CLASSES])
    )
    quality = store.QualityPolicy(min_answers=answers, max_answers=answers, stop_rule=store.STOP_RULE_FIXED)
    quality.lease_duration.FromMilliseconds(round(1000 * lease_seconds))
    await client.projects.create(project, LabelSchema(questions=[question]), quality=quality)
    run = Run(project, items, answers)
    began = perf_counter()
    await client.import_items(project, map(text_item, range(items)))
    run.import_seconds = perf_counter() - began
    run.history.imported.update(text_item(n).key for n in range(items))
    return run


async def tasks_are_there(client: AsyncCairn, run: Run) -> None:
    """Wait until every item has its task. Raises TimeoutError."""

    async def open_tasks() -> int:
        return int((await client.queue(run.project)).open_tasks)

    began = perf_counter()
    await until(open_tasks, run.items, every=_LOOK, patience=_PATIENCE)
    run.task_seconds = perf_counter() - began


async def work_through(
    client: AsyncCairn, run: Run, labelers: int, tasks: int, lease_seconds: float, patience: float
) -> None:
    """Let so many labelers take so many tasks at a time until every item has its label. Raises TimeoutError."""
    began = perf_counter()
    async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
        for number in range(labelers):
            group.create_task(_label(client, run, f"l{number}", tasks, lease_seconds))
        async for progress in client.projects.watch(run.project):
            if progress.labeled_items >= run.items:
                break
        run.seconds = perf_counter() - began
        run.done.set()


async def _label(client: AsyncCairn, run: Run, labeler: str, tasks: int, lease_seconds: float) -> None:
    while not run.done.is_set():
        asked = perf_counter()
        jobs = await client.lease(run.project, tasks, labeler=labeler)
        seen = perf_counter()
        for job in jobs:
            run.history.granted[job.lease.name] = Granted(
                job.key, job.lease.labeler, asked, seen, lease_seconds
            )
        answerable = [job for job in jobs if job.item is not None]
        if answerable:
            await _answer(client, run.history, answerable)
        else:
            await asyncio.sleep(_REST)


async def _answer(client: AsyncCairn, history: History, jobs: Sequence[Job]) -> None:
    history.tried.update(job.lease.name for job in jobs)
    results = await client.submit_many(
        (job, {QUESTION: CLASSES[hash(job.key) % len(CLASSES)]}) for job in jobs
    )
    for job, result in zip(jobs, results, strict=True):
        if not isinstance(result, CairnError):
            history.kept[result.name] = Kept(job.lease.name, result.late)


async def export(client: AsyncCairn, run: Run, folder: Path) -> Path:
    """Export the labels of a run with all annotations."""
    target = folder / f"{run.project}.jsonl"
    began = perf_counter()
    await client.export(run.project, target, include_annotations=True)
    run.export_seconds = perf_counter() - began
    return target


class Watch:
    """Memory of each process of a stack, and the lag of each service, every second while it watches."""

    def __init__(self, stack: PrivateStack) -> None:
        self._stack = stack
        self.memory: dict[str, list[float]] = defaultdict(list)
        """MB of each process and all below it, a sample a second."""
        self.lag: dict[str, list[float]] = defaultdict(list)
        """Seconds that each service was behind its events."""

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch for as long as the block lasts."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(_LOOK)

    def _look(self) -> None:
        status = self._stack.status
        for process in status.processes:
            if process.pid is not None:
                self.memory[process.name].append(_held(process.pid))
        for name, lag in api.lags(status).items():
            self.lag[name].append(lag.seconds)


def _held(pid: int) -> float:
    """MB that a process and all below it hold for themselves: what PostgreSQL's share is counted once for none of them."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    except psutil.Error:
        pass  # it has just ended
    return total / 1e6
