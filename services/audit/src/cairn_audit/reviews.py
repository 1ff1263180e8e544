"""Asking task-dispatch for the reviews that audits need, and calling off those that are needed no more.

Before a label's review is asked for, what it said is read from annotation-store where no event could carry it.

A job that can be killed at any moment: what is still to be asked for stands in the samples, asking twice is harmless
(a wish says how many answers are wanted in all), and an answer is written down only when task-dispatch has given it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from cairn.dispatch.v1.task_dispatch_pb2 import (
    TASK_KIND_REVIEW,
    CancelTaskRequest,
    CreateTasksRequest,
    TaskResult,
    TaskWish,
)
from cairn_audit.domain import names
from cairn_audit.domain.names import ItemKey
from cairn_audit.handlers import Handlers
from cairn_audit.omitted_answers import OmittedAnswers
from cairn_audit.store import AuditKey, AuditStore, ReviewTask, ReviewWish, UnreadLabel
from cairn_kit.auth import acting_for
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import CairnError, FailedPrecondition, NotFound, from_rpc_error, from_status
from cairn_kit.events.asking import AWAY
from cairn_kit.telemetry import get_logger

if TYPE_CHECKING:  # the generated code has this class in its types only
    from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceAsyncStub

_AT_ONCE = 500
_MOST_REFUSALS = 12
"""With delays that double up to a minute, some seven minutes; a label that cannot be reviewed is then left out."""
_PRIORITY = 1.0
"""Reviews go first: an audit that fails must stop automatic labeling soon."""

_log = get_logger(__name__)


class Reviews:
    """What audits ask of their neighbours."""

    def __init__(
        self,
        database: Database,
        store: AuditStore,
        handlers: Handlers,
        dispatch: TaskDispatchServiceAsyncStub,
        answers: OmittedAnswers,
    ) -> None:
        self._database = database
        self._store = store
        self._handlers = handlers
        self._dispatch = dispatch
        self._answers = answers

    async def ask_for_all(self) -> None:
        """Ask for every review that is wanted now: audits take turns, so that a large one keeps no other waiting.

        Nor does a failure: they are raised together, when all else is done.
        """
        failures: dict[AuditKey, Exception] = {}
        while keys := [
            key for key in await self._store.audits_to_ask_for(self._database) if key not in failures
        ]:
            for key in keys:
                try:
                    if wishes := await self._store.samples_to_ask_for(self._database, key, _AT_ONCE):
                        await self._ask(key, wishes)
                except (grpc.aio.AioRpcError, CairnError) as error:
                    failures[key] = error
        _raise_together([*failures.values()])

    async def call_off_all(self) -> None:
        """Call off the open reviews of cancelled audits, one by one. Failures are raised as in `ask_for_all`."""
        failures: list[Exception] = []
        for key in await self._store.audits_to_call_off(self._database):
            last = ""
            while tasks := await self._store.tasks_to_call_off(self._database, key, last, _AT_ONCE):
                for task in tasks:
                    try:
                        await self._call_off(task)
                    except (grpc.aio.AioRpcError, CairnError) as error:
                        failures.append(error)
                last = tasks[-1].name
        _raise_together(failures)

    async def read_labels(self) -> None:
        """Read what drawn labels said where no event could carry it; their reviews can be asked for then."""
        failures: list[Exception] = []
        for label in await self._store.labels_to_read(self._database, _AT_ONCE):
            try:
                await self._read(label)
            except grpc.aio.AioRpcError as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("annotation-store did not show these labels; it is asked again", failures)

    async def _read(self, label: UnreadLabel) -> None:
        try:
            answer = await self._answers.of_label(label.key.tenant, label.name)
        except grpc.aio.AioRpcError as error:
            if error.code() in AWAY:
                raise  # the next turn asks again
            refusal = from_rpc_error(error)
            async with self._database.transaction() as tx:
                await self._refused(tx, label.key, [(label.item, f"{refusal.reason}: {refusal.message}")])
        else:
            await self._store.label_read(self._database, label, answer)

    async def _ask(self, key: AuditKey, wishes: Sequence[ReviewWish]) -> None:
        request = CreateTasksRequest(
            parent=names.project_name(key.project),
            wishes=[
                TaskWish(
                    item=names.item_name(key.project, wish.item),
                    kind=TASK_KIND_REVIEW,
                    answers_wanted=wish.reviews,
                    priority=_PRIORITY,
                    audit=key.name,
                )
                for wish in wishes
            ],
        )
        with acting_for(key.tenant):
            response = await self._dispatch.CreateTasks(request)
        results = list(zip(wishes, response.results, strict=True))
        agreed = [(wish, result.task.name) for wish, result in results if result.HasField("task")]
        refused = [(wish.item, _why(result)) for wish, result in results if not result.HasField("task")]
        async with self._database.transaction() as tx:
            await self._store.lock_audit(tx, key)
            await self._store.reviews_agreed(tx, key, agreed)
            if refused:
                await self._refused(tx, key, refused)

    async def _refused(self, tx: Transaction, key: AuditKey, refused: Sequence[tuple[ItemKey, str]]) -> None:
        """Ask for these later; what was refused too often is left out, and that may end the audit."""
        audit = await self._store.lock_audit(tx, key)
        await self._store.reviews_refused(tx, key, refused, _MOST_REFUSALS)
        if audit is not None:
            await self._handlers.conclude(tx, audit)
        _log.warning("audit.reviews_refused", audit=key.name, refused=len(refused), why=refused[0][1])

    async def _call_off(self, task: ReviewTask) -> None:
        # The id makes a second try of the same call harmless.
        request_id = hashlib.sha256(task.name.encode()).hexdigest()
        try:
            with acting_for(task.key.tenant):
                await self._dispatch.CancelTask(
                    CancelTaskRequest(name=task.name, reason="the audit was cancelled", request_id=request_id)
                )
        except grpc.aio.AioRpcError as error:
            if not isinstance(from_rpc_error(error), NotFound | FailedPrecondition):
                raise  # not known whether it is closed: the next turn asks again
        await self._store.called_off(self._database, task)


def _raise_together(failures: Sequence[Exception]) -> None:
    if failures:
        raise ExceptionGroup("task-dispatch did not do all that was asked; it is asked again", failures)


def _why(result: TaskResult) -> str:
    error = from_status(result.error)
    return f"{error.reason}: {error.message}"
