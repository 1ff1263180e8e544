"""Two of each service on one database and bus: what happens to one replica nobody notices."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from cairn.annotation.v1.annotation_store_pb2 import QualityPolicy
from cairn_client import AsyncCairn
from cairn_client.new_items import NewItem
from cairn_kit.testing import eventually
from cairn_kit.testing.scratch import scratch_folder
from cairn_stack import PrivateStack
from tests.faults.crowd import CLASSES
from tests.faults.playing import (
    SERVICES,
    Outcome,
    check_promises,
    compare,
    play,
    submitted_in_ledger,
)

ITEMS = 3000


@pytest.fixture(scope="module")
def two_of_each() -> Iterator[PrivateStack]:
    with (
        scratch_folder() as folder,
        PrivateStack(folder, replicas=2, trace_ratio=0, timeout=300) as stack,
    ):
        yield stack


@pytest_asyncio.fixture
async def client(two_of_each: PrivateStack) -> AsyncIterator[AsyncCairn]:
    async with AsyncCairn(home=two_of_each.home) as connected:
        yield connected


@pytest.mark.timeout(300)
async def test_kill_9_of_one_replica_of_each_changes_nothing(
    two_of_each: PrivateStack, client: AsyncCairn
) -> None:
    chance = random.Random(5)

    def kill_one_of_each() -> None:
        for service in SERVICES:
            two_of_each.kill(f"{service}{chance.choice(('', '-2'))}")

    undisturbed: dict[str, Outcome] = {}
    replayed = await play(client, "killed-one-of-each", kill_one_of_each)
    await check_promises(client, replayed)
    await asyncio.to_thread(two_of_each.wait_until_ready)
    await compare(client, replayed, undisturbed)


class Load:
    """Callers of every service, who go on until they are told to stop; a call that fails ends them all."""

    def __init__(self, client: AsyncCairn, project: str) -> None:
        self._client, self._project = client, project
        self._enough = asyncio.Event()
        self.calls: Counter[str] = Counter()
        self.kept: list[str] = []
        """Annotations whose keeping was acknowledged."""
        self.watched = 0
        """Annotations that a watcher of the progress knows of."""

    async def run_beside(self, work: Callable[[], object]) -> None:
        """Call until `work`, which blocks, is done. Raises what a call raised."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            calling = [tasks.create_task(self._label()), tasks.create_task(self._look_around())]
            try:
                await asyncio.to_thread(work)
            finally:
                self._enough.set()
            await asyncio.wait(calling)
            await eventually(lambda: self.watched, len(self.kept))
            watching.cancel()

    async def _label(self) -> None:
        while not self._enough.is_set():
            for job in await self._client.lease(self._project, 5):
                kept = await self._client.submit(job, {"label": CLASSES[0]})
                self.kept.append(kept.name)

    async def _look_around(self) -> None:
        looks: dict[str, Callable[[], Awaitable[object]]] = {
            "annotation-store": lambda: self._client.projects.get(self._project),
            "task-dispatch": lambda: self._client.queue(self._project),
            "consensus": self._reliabilities,
            "inference": lambda: self._client.models.routing(self._project),
            "audit": self._client.ledger.public_keys,
        }
        while not self._enough.is_set():
            for service, look in looks.items():
                await look()
                self.calls[service] += 1

    async def _reliabilities(self) -> int:
        return len([one async for one in self._client.labelers.reliabilities(self._project)])

    async def _watch(self) -> None:
        async for progress in self._client.projects.watch(self._project):
            self.watched = progress.label_annotations


@pytest.mark.timeout(300)
async def test_a_rolling_restart_of_everything_fails_no_call(
    two_of_each: PrivateStack, client: AsyncCairn
) -> None:
    project = "rolled"
    await client.projects.create(
        project,
        {"questions": [{"id": "label", "title": "What is it?", "choice": list(CLASSES)}]},
        quality=QualityPolicy(min_answers=1, max_answers=1),
    )
    await client.import_items(project, [NewItem(f"item-{n:05}", text=f"item {n}") for n in range(ITEMS)])
    load = Load(client, project)

    await load.run_beside(two_of_each.restart_in_turn)

    assert set(load.calls) == set(SERVICES)
    assert len(set(load.kept)) == len(load.kept) > 0
    found = [annotation.name async for annotation in client.annotations(project)]
    assert sorted(found) == sorted(load.kept), "an acknowledged answer is missing, or one was kept twice"

    async def every_submission_once() -> bool:
        events = await submitted_in_ledger(client, project)
        return len(events) == len(load.kept) and set(events.values()) == {1}

    await eventually(every_submission_once, True, timeout=60)
    concluded = await client.projects.conclude(project)
    assert concluded.votes == len(load.kept), "an answer counts twice, or not at all"
