"""Waiting for the services to have heard of what was done: people's time stands still while machines catch
up.

In life a labeler takes minutes and an event milliseconds; a replay compresses the first and must not
outrun the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cairn.dispatch.v1.task_dispatch_pb2 import Queue
from cairn.inference.v1.inference_pb2 import (
    TRAINING_RUN_STATE_PENDING,
    TRAINING_RUN_STATE_RUNNING,
    ListTrainingRunsRequest,
)
from cairn_client.aio import AsyncCairn
from cairn_client.errors import CairnError, NotFound
from cairn_client.names import project_name
from cairn_client.waiting import until

_UNDER_WAY = (TRAINING_RUN_STATE_PENDING, TRAINING_RUN_STATE_RUNNING)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds without any change after which waiting ends. `training` bounds the wait for one training."""

    routing: float = 60.0
    quiet: float = 5.0
    training: float = 60.0


class Pipeline:
    """What one project's services still have to do."""

    def __init__(self, client: AsyncCairn, project: str, *, model: bool, waits: Waits | None = None) -> None:
        self._client = client
        self._project = project
        self._model = model
        self._waits = waits or Waits()
        self._stuck = 0

    async def routed(self, items: int, on_change: Callable[[int], None] = lambda known: None) -> bool:
        """Wait until every item has its task or its label; False when that stopped short."""

        async def known() -> int:
            try:
                queue = await self._client.queue(self._project)
            except NotFound:
                return 0  # dispatch has not heard of the project yet
            found = queue.open_tasks + queue.filled_tasks + queue.closed_tasks
            if found < items and self._model:
                found += (await self._client.projects.progress(self._project)).auto_items
            on_change(min(found, items))
            return found

        return await until(known, lambda found: found >= items, self._waits.routing)

    async def quiet(self) -> Queue:
        """Wait until every answer given was heard and thought about, and no model is being trained."""
        queue = Queue()

        async def pending() -> int:
            nonlocal queue
            queue = await self._client.queue(self._project)
            return queue.live_leases + queue.filled_tasks

        if not await until(pending, lambda left: left <= self._stuck, self._waits.quiet):
            # Tasks that nothing will move (they wait for a reviewer, say) are not waited for again.
            self._stuck = queue.filled_tasks
        elif queue.live_leases + queue.filled_tasks < self._stuck:
            self._stuck = queue.live_leases + queue.filled_tasks
        if self._model and await self._training():
            await until(self._training, lambda running: not running, self._waits.training)
            await until(self._unwritten_auto_labels, lambda left: left <= 0, self._waits.quiet)
            queue = await self._client.queue(self._project)
        return queue

    async def _training(self) -> bool:
        transport = self._client.transport
        request = ListTrainingRunsRequest(parent=project_name(self._project), page_size=1)
        try:
            found = await transport.call(
                transport.inference.ListTrainingRuns, request, timeout=self._waits.quiet
            )
        except CairnError:
            return False  # a replay does not stand still because the model's service is away
        # The newest is enough: one runs at a time.
        return any(run.state in _UNDER_WAY for run in found.training_runs)

    async def _unwritten_auto_labels(self) -> int:
        routing = await self._client.models.routing(self._project)
        progress = await self._client.projects.progress(self._project)
        # Items that people labeled after all count as routed, but no longer as auto labels.
        return routing.auto_items - progress.auto_items - progress.consensus_items
