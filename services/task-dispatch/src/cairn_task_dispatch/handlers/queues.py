"""GetQueue and WatchQueue: a project's counts, which cost more the larger it is, for all who look at them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database
from cairn_kit.looks import Looks
from cairn_task_dispatch.domain.names import parse_project
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.messages import queue_message
from cairn_task_dispatch.store import DispatchStore, ProjectRef

LOOK_EVERY = 0.5
"""Seconds between two looks at a queue that is watched, however many watch it."""

_LONG = 0.1  # seconds: about what a hundred thousand tasks take


class Queues:
    """Counts queues. A count that takes long is shown for longer; `as_of` tells."""

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
        self._looks = Looks(self._count, long=_LONG, clock=clock)

    async def get(self, tenant: str, name: str) -> pb.Queue:
        """The counts as they are now, unless they take long. Raises NotFound."""
        return await self._looks.get(ProjectRef(tenant, parse_project(name)))

    async def watch(self, tenant: str, name: str) -> AsyncIterator[pb.Queue]:
        """The counts, and again whenever they have changed. Raises NotFound."""
        ref, last = ProjectRef(tenant, parse_project(name)), None
        while True:
            queue = await self._looks.get(ref, LOOK_EVERY)
            counts = pb.Queue()
            counts.CopyFrom(queue)
            counts.ClearField("as_of")
            if counts != last:
                last = counts
                yield queue
            await asyncio.sleep(LOOK_EVERY)

    async def _count(self, ref: ProjectRef) -> pb.Queue:
        await self._projects.must_know(*ref)
        return queue_message(ref.project, await self._store.queue(self._database, *ref))
