from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.handlers import watching
from cairn_annotation_store.handlers.projects import ProjectHandlers
from cairn_annotation_store.store import LabelStore, Progress
from cairn_kit.auth import Role
from cairn_kit.auth.caller import make_caller
from cairn_kit.testing import eventually
from cairn_kit.wakes import Wakes

WATCHERS = 20
POLL = 5.0
"""Seconds: far between, so that what is read is read because somebody was woken."""


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {"watch_poll_seconds": POLL}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A place for each read of the log."""
    places: list[Any] = []
    read = LabelStore.log_after

    async def noted(self: LabelStore, reader: Any, *where: Any, hidden: int) -> Any:
        places.append(where)
        return await read(self, reader, *where, hidden=hidden)

    monkeypatch.setattr(LabelStore, "log_after", noted)
    return places


@dataclass
class Watched:
    """What each of many watchers has seen, and since when they watch."""

    seen: list[set[str]]
    since: float

    def looks_unwoken(self) -> int:
        """How often they may have looked all together, by the time alone, or for the first time."""
        return WATCHERS * (1 + int((asyncio.get_running_loop().time() - self.since) / POLL))


@pytest.fixture
async def watched(birds: Any) -> AsyncIterator[Watched]:
    """A project whose first label all have seen."""
    await birds.create()
    await birds.texts(30)

    async def watch(items: set[str]) -> None:
        async for message in birds.stub.WatchLabels(pb.WatchLabelsRequest(parent="projects/birds")):
            items |= {label.name.split("/")[3] for label in message.labels}

    watched = Watched([set() for _ in range(WATCHERS)], asyncio.get_running_loop().time())
    tasks = [asyncio.create_task(watch(one)) for one in watched.seen]
    await birds.decide("a0000", "owl")
    await eventually(lambda: watched.seen == [{"a0000"}] * WATCHERS)
    yield watched
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_watches_labels_is_not_woken_by_annotations(
    birds: Any, tools: Any, watched: Watched, reads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given watchers who look as soon as they are woken
    monkeypatch.setattr(watching, "_GATHERED", 0.0)
    before = len(reads)
    for n in range(20):
        await birds.submit(birds.lease(f"a{n:04d}"), tools.chose("owl"))
    assert len(reads) - before <= watched.looks_unwoken()


async def test_one_read_serves_all_who_have_seen_the_same(
    birds: Any, watched: Watched, reads: list[Any]
) -> None:
    before = len(reads)
    await birds.decide("a0001", "owl")
    await eventually(lambda: watched.seen == [{"a0000", "a0001"}] * WATCHERS)
    assert len(reads) - before <= watched.looks_unwoken()  # each by itself would have read twice


async def test_what_changes_while_a_watcher_of_progress_pauses_is_seen_without_waiting_for_its_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wakes, items = Wakes(), itertools.count()
    handlers = ProjectHandlers(None, None, wakes, 3600.0)  # type: ignore[arg-type]  # it looks by what is below

    class Looks:
        async def get(self, key: object, age: float) -> Progress:
            return Progress(next(items), 0, 0, 0, 0, 0, 0, 0, datetime.now(UTC))

    async def pause(seconds: float) -> None:
        wakes.ring("acme", "birds")  # something is committed

    monkeypatch.setattr(handlers, "_looks", Looks())
    monkeypatch.setattr("cairn_annotation_store.handlers.projects.asyncio.sleep", pause)
    who = make_caller("acme", "ann", frozenset({Role.MANAGER}))
    progress = handlers.watch_progress(who, "projects/birds")
    seen = [await anext(progress)]
    wakes.ring("acme", "birds")
    async with asyncio.timeout(60.0):
        seen += [await anext(progress), await anext(progress)]
    assert [one.items for one in seen] == [0, 1, 2]
