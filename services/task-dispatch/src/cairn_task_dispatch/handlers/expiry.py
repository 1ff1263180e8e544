"""Leases whose time is over come back, but only after annotation-store was asked which of them were answered.

An answer whose event is still on its way is never asked for again. When the store cannot be asked, nothing is
re-issued. A lease ends at the latest `grace + every + retry` seconds after its time, while the store is in reach.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from cairn.annotation.v1.annotation_store_pb2 import (
    BatchGetAnsweredLeasesRequest,
    BatchGetAnsweredLeasesResponse,
)
from cairn_kit.auth import acting_for
from cairn_kit.database import Database, Transaction
from cairn_kit.telemetry.logs import get_logger
from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.names import lease_name
from cairn_task_dispatch.domain.states import LeaseState
from cairn_task_dispatch.handlers.answering import close_leases
from cairn_task_dispatch.store import DispatchStore, LeaseChange

_log = get_logger(__name__)
_ASK_TIMEOUT = 5.0  # seconds; it is one look-up by key


class AnnotationStore(Protocol):
    """What is asked of annotation-store."""

    @property
    def BatchGetAnsweredLeases(  # noqa: N802 - the name of the RPC
        self,
    ) -> Callable[..., Awaitable[BatchGetAnsweredLeasesResponse]]:
        """Which of these leases have been answered."""
        ...


class Expiry:
    """Finds leases that are over, asks, and settles them."""

    def __init__(
        self,
        database: Database,
        store: DispatchStore,
        annotations: AnnotationStore,
        *,
        batch: int,
        retry: float,
    ) -> None:
        self._database = database
        self._store = store
        self._annotations = annotations
        self._batch = batch
        self._retry = retry

    async def expire(self) -> None:
        """Settle every lease that is over. Replicas share the work: each takes what no other has taken.

        A tenant whose leases cannot be settled keeps no other's waiting, and is not tried again in this turn: each
        attempt may last as long as the question. Nor does the turn go on with it for longer than until it is due again,
        which would be for ever. Raises an ExceptionGroup of the failures.
        """
        failures: dict[str, Exception] = {}
        ends = time.monotonic() + self._retry
        while True:
            due = await self._store.take_due_leases(self._database, self._batch, self._retry)
            for tenant in sorted({lease.tenant for lease in due} - failures.keys()):
                try:
                    await self._settle(tenant, [lease for lease in due if lease.tenant == tenant])
                except Exception as error:
                    _log.warning("leases.not_settled", tenant=tenant, error=repr(error))
                    failures[tenant] = error
            if len(due) < self._batch or (failures and time.monotonic() >= ends):
                break
        if failures:
            raise ExceptionGroup(
                f"leases of {len(failures)} tenants were not settled", list(failures.values())
            )

    async def _settle(self, tenant: str, due: Sequence[Lease]) -> None:
        request = BatchGetAnsweredLeasesRequest(leases=[_name(lease) for lease in due])
        with acting_for(tenant):
            response = await self._annotations.BatchGetAnsweredLeases(request, timeout=_ASK_TIMEOUT)
        late = dict(zip(response.answered_leases, response.late, strict=True))

        async def work(tx: Transaction) -> int:
            await self._store.lock_tasks(tx, {(le.tenant, le.project, le.task) for le in due})
            leases = await self._store.leases(tx, {(le.tenant, le.project, le.lease) for le in due})
            over = [lease for lease in leases if lease.state is LeaseState.LIVE and not lease.live_now]
            closed = await close_leases(
                tx, self._store, [_change(lease, late.get(_name(lease))) for lease in over]
            )
            return sum(lease.state is LeaseState.EXPIRED for lease in closed)

        expired = await self._database.retrying(work)
        _log.info("leases.settled", tenant=tenant, over=len(due), answered=len(late), expired=expired)


def _name(lease: Lease) -> str:
    return lease_name(lease.project, lease.task, lease.lease)


def _change(lease: Lease, late: bool | None) -> LeaseChange:
    if late is None:
        return LeaseChange(lease, LeaseState.EXPIRED)
    return LeaseChange(lease, LeaseState.ANSWERED_LATE if late else LeaseState.ANSWERED)
