"""Commands on a lease that there is: more time, giving it back. Calls that come together are committed together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.duration_pb2 import Duration

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import CairnError, NotFound
from cairn_kit.rpc import Coalescer, Submitted
from cairn_task_dispatch.domain.leases import Lease, lease_not_live
from cairn_task_dispatch.domain.names import LeaseId, TaskId, lease_not_found, parse_lease
from cairn_task_dispatch.domain.states import LeaseState
from cairn_task_dispatch.domain.wishes import ProjectPolicy
from cairn_task_dispatch.handlers.answering import close_leases
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms, wished_duration
from cairn_task_dispatch.handlers.together import answer_together
from cairn_task_dispatch.messages import lease_message
from cairn_task_dispatch.store import DispatchStore, LeaseChange, ProjectRef

Request = pb.ExtendLeaseRequest | pb.ReleaseLeaseRequest | pb.SkipTaskRequest | pb.GetLeaseRequest
MayTouch = Callable[[str], bool]
"""Whether the caller may see and change this labeler's leases."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """A call on a lease, by whoever may touch leases of some labelers."""

    tenant: str
    request: Request
    may_touch: MayTouch
    name: tuple[str, TaskId, LeaseId]
    wished: Duration | None = None
    """How much longer it is to last."""
    reason: str = ""
    """Why it is given back."""

    @property
    def lease(self) -> tuple[str, str, LeaseId]:
        """Tenant, project, lease."""
        project, _, lease = self.name
        return self.tenant, project, lease


_Found = Sequence[tuple[_Ask, Lease]]
_Changed = dict[LeaseId, pb.Lease]
_Policies = Mapping[ProjectRef, ProjectPolicy]
_Change = Callable[[Transaction, _Found, _Policies], Awaitable[_Changed]]


class Leasing:
    """The handlers of commands on leases."""

    def __init__(self, database: Database, store: DispatchStore, terms: LeaseTerms) -> None:
        self._database = database
        self._store = store
        self._terms = terms
        self._extensions = self._coalescer(self._extend)
        self._releases = self._coalescer(partial(self._give_back, LeaseState.RELEASED))
        self._skips = self._coalescer(partial(self._give_back, LeaseState.SKIPPED))

    def _coalescer(self, change: _Change) -> Coalescer[_Ask, pb.Lease]:
        return Coalescer(partial(self._flush, change))

    async def extend_lease(
        self, tenant: str, request: pb.ExtendLeaseRequest, may_touch: MayTouch
    ) -> pb.Lease:
        """Give a live lease more time, and a token that says so."""
        return await self._extensions.submit(
            _Ask(tenant, request, may_touch, parse_lease(request.name), wished_duration(request))
        )

    async def release_lease(
        self, tenant: str, request: pb.ReleaseLeaseRequest, may_touch: MayTouch
    ) -> pb.Lease:
        """Give a lease back."""
        return await self._releases.submit(_Ask(tenant, request, may_touch, parse_lease(request.name)))

    async def skip_task(self, tenant: str, request: pb.SkipTaskRequest, may_touch: MayTouch) -> pb.Lease:
        """Give a lease back for good: this labeler does not get the item again."""
        return await self._skips.submit(
            _Ask(tenant, request, may_touch, parse_lease(request.name), reason=request.reason)
        )

    async def get_lease(self, tenant: str, request: pb.GetLeaseRequest, may_touch: MayTouch) -> pb.Lease:
        """A lease, without its token."""
        ask = _Ask(tenant, request, may_touch, parse_lease(request.name))
        return lease_message(_touched(ask, await self._store.leases(self._database, [ask.lease])))

    # --- many at once

    async def _flush(
        self, change: _Change, batch: Sequence[Submitted[_Ask]]
    ) -> Sequence[pb.Lease | Exception]:
        return await answer_together(self._database, batch, pb.Lease, partial(self._change, change))

    async def _change(
        self, change: _Change, tx: Transaction, asks: Sequence[_Ask]
    ) -> list[pb.Lease | Exception]:
        leases = await self._store.leases(tx, {ask.lease for ask in asks})
        # A project that is being deleted is gone before its leases are.
        policies = await self._store.projects(tx, {_project(lease) for lease in leases})
        leases = [lease for lease in leases if _project(lease) in policies]
        found: dict[int, tuple[_Ask, Lease]] = {}
        refused: dict[int, CairnError] = {}
        for i, ask in enumerate(asks):
            try:
                found[i] = ask, _touched(ask, leases)
            except NotFound as error:
                refused[i] = error
        await self._store.lock_tasks(tx, {(le.tenant, le.project, le.task) for _, le in found.values()})
        first = {lease.lease: i for i, (_, lease) in reversed(found.items())}
        changed = await change(tx, [found[i] for i in sorted(first.values())], policies)
        outcomes: list[pb.Lease | Exception] = []
        for i in range(len(asks)):
            if i in refused:
                outcomes.append(refused[i])
                continue
            ask, lease = found[i]
            done = changed.get(lease.lease) if first[lease.lease] == i else None
            outcomes.append(done or lease_not_live(ask.request.name, lease.state))
        return outcomes

    async def _extend(self, tx: Transaction, found: _Found, policies: _Policies) -> _Changed:
        granting = [self._terms.granting(policies[_project(lease)], ask.wished) for ask, lease in found]
        extended = await self._store.extend_leases(tx, [lease for _, lease in found], granting)
        shown = self._terms.with_tokens(extended)
        return {lease.lease: message for lease, message in zip(extended, shown, strict=True)}

    async def _give_back(self, state: LeaseState, tx: Transaction, found: _Found, _: _Policies) -> _Changed:
        changes = [LeaseChange(lease, state, ask.reason) for ask, lease in found if lease.live_now]
        return {le.lease: lease_message(le) for le in await close_leases(tx, self._store, changes)}


def _project(lease: Lease) -> ProjectRef:
    return ProjectRef(lease.tenant, lease.project)


def _touched(ask: _Ask, leases: Sequence[Lease]) -> Lease:
    """The lease that a call names. Raises NotFound, also where the caller may not know of it."""
    _, task, _ = ask.name
    for lease in leases:
        named = (lease.tenant, lease.project, lease.lease) == ask.lease and lease.task == task
        if named and ask.may_touch(lease.labeler):
            return lease
    raise lease_not_found(ask.request.name)
