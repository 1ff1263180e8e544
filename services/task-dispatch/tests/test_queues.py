"""Counts are new for whoever asks, and made once for all who watch; those that take long are shown for longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cairn_kit.errors import NotFound
from cairn_kit.testing import eventually
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.handlers.queues import Queues


class Counter:
    """Counts how often queues are counted; each count takes so many seconds of a clock that stands still otherwise."""

    def __init__(self, desk: Any, monkeypatch: pytest.MonkeyPatch, takes: float = 0.0) -> None:
        self.counts = 0
        self.now = 0.0
        count = desk.store.queue

        async def counting(*of: Any) -> Any:
            self.counts += 1
            self.now += takes
            return await count(*of)

        monkeypatch.setattr(desk.store, "queue", counting)
        projects = Projects(desk.database, desk.store, desk.answered)
        self.queues = Queues(desk.database, desk.store, projects, clock=lambda: self.now)

    async def open_tasks(self, desk: Any) -> int:
        return int((await self.queues.get(desk.tenant, desk.words.name)).open_tasks)


async def test_who_asks_is_told_what_is_there_now(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(desk, monkeypatch)
    await desk.open("a")
    assert await counter.open_tasks(desk) == 1
    await desk.open("b")
    assert await counter.open_tasks(desk) == 2


async def test_however_many_watch_a_queue_it_is_counted_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(desk, monkeypatch)
    await desk.open("a")
    told: list[int] = []

    async def watch() -> None:
        async for queue in counter.queues.watch(desk.tenant, desk.words.name):
            told.append(queue.open_tasks)

    watching = [asyncio.create_task(watch()) for _ in range(100)]
    await eventually(lambda: len(told), 100)
    assert counter.counts == 1
    await desk.open("b")
    counter.now += 0.6
    await eventually(lambda: len(told), 200)
    assert (counter.counts, set(told)) == (2, {1, 2})
    for task in watching:
        task.cancel()
    await asyncio.wait(watching)


async def test_a_count_that_takes_long_is_shown_for_twenty_times_as_long(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(desk, monkeypatch, takes=0.5)
    await desk.open("a")
    assert await counter.open_tasks(desk) == 1
    await desk.open("b")
    counter.now = 9.9
    assert await counter.open_tasks(desk) == 1
    counter.now = 10.0
    assert await counter.open_tasks(desk) == 2


async def test_one_who_goes_away_does_not_take_the_count_from_the_others(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(desk, monkeypatch)
    await desk.open("a")
    first, second = (counter.queues.watch(desk.tenant, desk.words.name) for _ in range(2))
    leaving = asyncio.ensure_future(anext(first))
    staying = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).open_tasks == 1


async def test_a_project_that_nobody_knows_is_told_to_each(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(desk, monkeypatch)

    async def unknown(request: Any) -> Any:
        raise NotFound("PROJECT_NOT_FOUND", "There is no such project.")

    monkeypatch.setattr(desk.answered, "GetProject", unknown)
    for _ in range(2):
        with pytest.raises(NotFound):
            await counter.open_tasks(desk)
