"""Asking task-dispatch for more answers on the validation sample, which is worth more of them than other items.

What people leave in doubt there counts as error of the model. An answer that is wished for twice is asked for once (a wish
says how many are wanted in all), and a wish is noted only when task-dispatch has heard it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from cairn.dispatch.v1.task_dispatch_pb2 import TASK_KIND_LABEL, CreateTasksRequest, TaskWish
from cairn_inference.domain.names import item_name, project_name
from cairn_inference.domain.routing import VALIDATION_PRIORITY, certainty_wanted
from cairn_inference.records import Project
from cairn_inference.store import InferenceStore
from cairn_kit.auth.caller import acting_for
from cairn_kit.database import Database
from cairn_kit.telemetry.logs import get_logger

if TYPE_CHECKING:  # the stubs alone know of asynchronous clients
    from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceAsyncStub

_log = get_logger(__name__)

_AT_ONCE = 500
_REST = 10.0
"""Seconds in which nothing is asked of a task-dispatch that did not answer."""


class ValidationAnswers:
    """Wishes for all the answers a project allows, where people settled a validation item with doubt and a model waits."""

    def __init__(
        self, database: Database, store: InferenceStore, dispatch: TaskDispatchServiceAsyncStub
    ) -> None:
        self._database = database
        self._store = store
        self._dispatch = dispatch
        self._rests_until = 0.0

    async def step(self) -> int:
        """One batch of wishes for each project that has a serving version; how many were made."""
        clock = asyncio.get_running_loop().time
        if clock() < self._rests_until:
            return 0
        done = 0
        try:
            for project in await self._store.projects_with_work(self._database):
                done += await self._wish(project)
        except grpc.aio.AioRpcError as error:
            _log.warning("answers.postponed", error=repr(error))
            self._rests_until = clock() + _REST
        return done

    async def _wish(self, project: Project) -> int:
        policy = project.policy
        if policy.max_answers <= policy.min_answers:
            return 0
        keys = await self._store.doubtful_validation(
            self._database, project, certainty_wanted(policy.alpha), _AT_ONCE
        )
        if not keys:
            return 0
        request = CreateTasksRequest(
            parent=project_name(project.id),
            wishes=[
                TaskWish(
                    item=item_name(project.id, key),
                    kind=TASK_KIND_LABEL,
                    answers_wanted=policy.max_answers,
                    priority=VALIDATION_PRIORITY,
                )
                for key in keys
            ],
        )
        with acting_for(project.tenant):
            answer = await self._dispatch.CreateTasks(request)
        refused = sum(not result.HasField("task") for result in answer.results)
        if refused:  # archived, or unknown there: the doubt stays, and counts
            _log.warning("answers.refused", tenant=project.tenant, project=project.id, items=refused)
        async with self._database.transaction() as tx:
            await self._store.answers_wished(tx, project, keys)
        return len(keys)
