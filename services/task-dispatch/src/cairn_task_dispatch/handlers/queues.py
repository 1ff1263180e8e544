"""GetQueue and WatchQueue: a project's counts, which cost more the larger it is, for all who look at them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database
from cairn_task_dispatch.domain.names import parse_project
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.messages import queue_message
from cairn_task_dispatch.store import DispatchStore, ProjectRef

LOOK_EVERY = 0.5
"""Seconds between two looks at a queue that is watched, however many watch it."""

_LONG = 0.1  # seconds; a million tasks take ten times as long
_RESTS = 20.0  # times what a count took, if that was long
_LONGEST_REST = 60.0
_MOST = 1_000  # projects


@dataclass(frozen=True, slots=True)
class _Counted:
    """A project's counts, when counting began, and for how long they may be shown to whoever wants them new."""

    queue: pb.Queue
    began: float
    rests: float


class Queues:
    """Counts queues. A count that takes long is shown again for twenty times as long, so that those who look at a project
    of millions of tasks do not have the database count all the time; `as_of` tells."""

    def __init__(
        self,
        database: Database,
        store: DispatchStore,
        projects: Projects,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._store = store
        self._projects = projects
        self._clock = clock
        self._counted: OrderedDict[ProjectRef, _Counted] = OrderedDict()
        self._counting: dict[ProjectRef, asyncio.Task[pb.Queue]] = {}

    async def get(self, tenant: str, name: str) -> pb.Queue:
        """The counts as they are now, unless they take long. Raises NotFound."""
        return await self._get(ProjectRef(tenant, parse_project(name)), 0.0)

    async def watch(self, tenant: str, name: str) -> AsyncIterator[pb.Queue]:
        """The counts, and again whenever they have changed. Raises NotFound."""
        ref, last = ProjectRef(tenant, parse_project(name)), None
        while True:
            queue = await self._get(ref, LOOK_EVERY)
            counts = pb.Queue()
            counts.CopyFrom(queue)
            counts.ClearField("as_of")
            if counts != last:
                last = counts
                yield queue
            await asyncio.sleep(LOOK_EVERY)

    async def _get(self, ref: ProjectRef, oldest: float) -> pb.Queue:
        """Counts that are ``oldest`` seconds old, or as old as those of this project may be."""
        known = self._counted.get(ref)
        oldest = max(oldest, known.rests if known else 0.0)
        if known is not None and self._clock() - known.began < oldest:
            return known.queue
        counting = self._counting.get(ref) if oldest else None
        if counting is None:
            counting = self._counting[ref] = asyncio.create_task(self._count(ref))
            counting.add_done_callback(lambda ended: self._ended(ref, ended))
        return await asyncio.shield(counting)  # one who goes away does not take it from the others

    async def _count(self, ref: ProjectRef) -> pb.Queue:
        began = self._clock()
        await self._projects.must_know(*ref)
        queue = queue_message(ref.project, await self._store.queue(self._database, *ref))
        took = self._clock() - began
        rests = min(_RESTS * took, _LONGEST_REST) if took >= _LONG else 0.0
        self._counted[ref] = _Counted(queue, began, rests)
        self._counted.move_to_end(ref)
        if len(self._counted) > _MOST:
            self._counted.popitem(last=False)
        return queue

    def _ended(self, ref: ProjectRef, ended: asyncio.Task[pb.Queue]) -> None:
        if self._counting.get(ref) is ended:
            del self._counting[ref]
        if not ended.cancelled():
            ended.exception()  # whoever waits hears of it; nobody may, when all have gone away
