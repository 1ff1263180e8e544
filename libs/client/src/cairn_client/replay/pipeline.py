"""Waiting for the services to have heard of what was done: people's time stands still while machines catch
up.

In life a labeler takes minutes and an event milliseconds; a replay compresses the first and must not
outrun the second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cairn.annotation.v1.annotation_store_pb2 import LABEL_SOURCE_CONSENSUS
from cairn.consensus.v1.consensus_pb2 import DECISION_STATE_DECIDED, ConcludeProjectResponse
from cairn.dispatch.v1.task_dispatch_pb2 import Queue
from cairn.inference.v1.inference_pb2 import (
    TRAINING_RUN_STATE_PENDING,
    TRAINING_RUN_STATE_RUNNING,
    ListTrainingRunsRequest,
)
from cairn_client.aio import AsyncCairn
from cairn_client.errors import CairnError, FailedPrecondition, NotFound
from cairn_client.names import project_name, question_of

_FIRST_LOOK = 0.03
_SLOWEST_LOOK = 0.25
_UNDER_WAY = (TRAINING_RUN_STATE_PENDING, TRAINING_RUN_STATE_RUNNING)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds without any change after which waiting ends. `training` bounds the wait for one training."""

    routing: float = 60.0
    quiet: float = 5.0
    training: float = 60.0
    votes: float = 180.0
    labels: float = 60.0


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

    async def conclude(self) -> ConcludeProjectResponse:
        """Conclude the project once consensus has heard of every annotation that was kept."""
        deadline = time.monotonic() + self._waits.votes
        delay = 0.1
        while True:
            kept = (await self._client.projects.progress(self._project)).label_annotations
            try:
                return await self._client.projects.conclude(self._project, expected_annotations=kept)
            except FailedPrecondition as error:
                if error.reason != "VOTES_NOT_IN" or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(delay)
            delay = min(1.0, delay * 1.5)

    async def labels_stand(self, question: str, answered: list[str]) -> bool:
        """Wait until the store's labels of the answered items (keys) are what consensus decided last."""
        decided = {
            one.item: one.answer.SerializeToString(deterministic=True)
            async for one in self._client.labelers.posteriors(self._project, question, answered)
            if one.state == DECISION_STATE_DECIDED
        }

        async def missing() -> int:
            standing = {}
            async for label in self._client.labels(self._project):
                if question_of(label.name) == question:
                    item = label.name.split("/labels/", 1)[0]
                    # A label of a higher source stands whatever consensus says.
                    final = label.source > LABEL_SOURCE_CONSENSUS
                    standing[item] = None if final else label.answer.SerializeToString(deterministic=True)
            return sum(1 for item, answer in decided.items() if standing.get(item, b"") not in (None, answer))

        return await until(missing, lambda left: left == 0, self._waits.labels)


async def until(look: Callable[[], Awaitable[int]], enough: Callable[[int], bool], patience: float) -> bool:
    """Look again and again, ever more slowly, until it is enough; False after `patience` seconds without a
    change."""
    delay = _FIRST_LOOK
    seen = await look()
    changed_at = time.monotonic()
    while not enough(seen):
        if time.monotonic() - changed_at > patience:
            return False
        await asyncio.sleep(delay)
        delay = min(_SLOWEST_LOOK, delay * 1.4)
        now = await look()
        if now != seen:
            seen, changed_at = now, time.monotonic()
    return True
