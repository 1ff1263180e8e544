"""Commands on leases: choose work, claim an item, extend, give back."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.auth import LeaseClaims
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import CairnError, FailedPrecondition, to_status
from cairn_kit.rpc import once
from cairn_task_dispatch.domain.gold import draw_gold
from cairn_task_dispatch.domain.leases import (
    Claim,
    ClaimedItem,
    Grant,
    Lease,
    decide_claims,
    lease_not_live,
    suspended,
)
from cairn_task_dispatch.domain.names import (
    LeaseId,
    TaskId,
    lease_name,
    lease_not_found,
    parse_lease,
    parse_project,
)
from cairn_task_dispatch.domain.states import LeaseState, TaskKind
from cairn_task_dispatch.domain.wishes import Closed, ProjectPolicy, label_wish
from cairn_task_dispatch.handlers.announcing import announce_granted
from cairn_task_dispatch.handlers.answering import close_leases
from cairn_task_dispatch.handlers.projects import Projects, project_not_found
from cairn_task_dispatch.messages import lease_message
from cairn_task_dispatch.store import DispatchStore, Granting, LabelerRow, LeaseChange, ProjectRef, ScanStart

MayTouch = Callable[[str], bool]
"""Whether the caller may see and change this labeler's leases."""


class ScanMemory:
    """How far a labeler's last long search for work went.

    Whoever has answered much of what is still open has all of it before them, each time anew. A search that was long
    is therefore not repeated from the beginning for a few seconds; meanwhile more urgent new work waits, for this
    labeler alone. Only a hint: a search that finds too little begins anew at the front.
    """

    _LONG = 0.02  # seconds; a lease that steps over nothing takes a tenth of it
    _REMEMBERED = 5.0  # seconds for which urgent new work may wait
    _MOST = 10_000  # labelers

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: OrderedDict[tuple[str, str, str], tuple[ScanStart, float]] = OrderedDict()

    def start(self, key: tuple[str, str, str]) -> ScanStart:
        """Where to begin."""
        start, until = self._starts.get(key, (ScanStart(), 0.0))
        return start if self._clock() < until else ScanStart()

    def took(self, key: tuple[str, str, str], seconds: float, start: ScanStart, reached: ScanStart) -> None:
        """Remember how far a search went, if it was long and began at the front; or move on from there."""
        _, until = self._starts.pop(key, (start, 0.0))
        if start == ScanStart():
            until = self._clock() + self._REMEMBERED if seconds >= self._LONG else 0.0
        if until > self._clock():
            self._starts[key] = (reached, until)
            if len(self._starts) > self._MOST:
                self._starts.popitem(last=False)


class Leasing:
    """The handlers of commands on leases."""

    def __init__(
        self,
        database: Database,
        store: DispatchStore,
        sign: Callable[[LeaseClaims], str],
        projects: Projects,
        *,
        grace: float,
    ) -> None:
        self._database = database
        self._store = store
        self._projects = projects
        self._sign = sign
        self._grace = grace
        self._scans = ScanMemory()

    # --- choosing

    async def lease_tasks(
        self, tenant: str, labeler: str, request: pb.LeaseTasksRequest
    ) -> pb.LeaseTasksResponse:
        """Lease the most urgent tasks that this labeler may do and has not done."""
        project = parse_project(request.parent)

        async def work(tx: Transaction) -> pb.LeaseTasksResponse:
            async def effect() -> pb.LeaseTasksResponse:
                terms = await self._store.lock_lease_terms(tx, tenant, project, labeler)
                if terms is None:
                    raise project_not_found(project)
                policy, me = terms
                must_be_open(project, policy)
                if me.suspended:
                    raise suspended(labeler)
                granting = self._granting(policy, request)
                count = request.max_tasks or 1
                if request.reviews:
                    leases = await self._store.lease_reviews(tx, tenant, project, labeler, count, granting)
                else:
                    leases = await self._lease_labels(tx, tenant, project, me, policy, count, granting)
                announce_granted(tx, leases)
                return pb.LeaseTasksResponse(leases=[self._with_token(lease) for lease in leases])

            return await once(tx, tenant, request, pb.LeaseTasksResponse, effect)

        return await self._projects.knowing(tenant, project, lambda: self._database.retrying(work))

    async def _lease_labels(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        me: LabelerRow,
        policy: ProjectPolicy,
        count: int,
        granting: Granting,
    ) -> list[Lease]:
        skills = _servable(policy.required_skill, me.skills)
        if not skills:
            return []
        key = (tenant, project, me.labeler)
        draw = draw_gold(policy.gold_share, count, _entropy())
        start = self._scans.start(key)
        began = time.monotonic()
        leases, reached = await self._store.lease_labels(
            tx, tenant, project, me.labeler, skills, draw, granting, start
        )
        if len(leases) < count and start != ScanStart():
            start, left = ScanStart(), count - len(leases)
            draw = draw_gold(policy.gold_share, left, _entropy())
            more, reached = await self._store.lease_labels(
                tx, tenant, project, me.labeler, skills, draw, granting, start
            )
            leases += more
        self._scans.took(key, time.monotonic() - began, start, reached)
        if len(leases) < count:
            left = count - len(leases)
            leases += await self._store.lease_given_back(
                tx, tenant, project, me.labeler, skills, left, granting
            )
        return leases

    # --- claiming

    async def claim_items(
        self,
        tenant: str,
        request: pb.ClaimItemsRequest,
        claims: Mapping[int, Claim],
        refused: Mapping[int, CairnError],
    ) -> pb.ClaimItemsResponse:
        """Lease given items to given labelers, each for itself.

        `claims` and `refused` together are the elements of the request, by index.
        """
        project = parse_project(request.parent)

        async def work(tx: Transaction) -> pb.ClaimItemsResponse:
            async def effect() -> pb.ClaimItemsResponse:
                outcomes: dict[int, Lease | CairnError] = dict(refused)
                outcomes |= dict(
                    zip(
                        claims,
                        await self._claim(tx, tenant, project, request, list(claims.values())),
                        strict=True,
                    )
                )
                return pb.ClaimItemsResponse(
                    results=[self._claim_result(outcomes[index]) for index in range(len(request.claims))]
                )

            return await once(tx, tenant, request, pb.ClaimItemsResponse, effect)

        return await self._projects.knowing(tenant, project, lambda: self._database.retrying(work))

    async def _claim(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        request: pb.ClaimItemsRequest,
        claims: Sequence[Claim],
    ) -> list[Lease | CairnError]:
        if not claims:
            return []
        await self._store.lock_labelers(tx, tenant, project, {claim.labeler for claim in claims})
        policy = await self._project(tx, tenant, project)
        must_be_open(project, policy)
        items = await self._claimed_items(tx, tenant, project, policy, claims)
        tasks = await self._store.claimed_tasks(tx, tenant, project, claims)
        held = await self._store.held_leases(tx, tenant, project, claims)
        outcomes = decide_claims(project, policy.required_skill, claims, items, tasks, held)
        grants = list(dict.fromkeys(o for o in outcomes if isinstance(o, Grant)))
        if not grants:
            return [o for o in outcomes if not isinstance(o, Grant)]
        leases = await self._store.grant(tx, tenant, project, grants, self._granting(policy, request))
        announce_granted(tx, leases)
        granted = dict(zip(grants, leases, strict=True))
        return [granted[o] if isinstance(o, Grant) else o for o in outcomes]

    async def _claimed_items(
        self, tx: Transaction, tenant: str, project: str, policy: ProjectPolicy, claims: Sequence[Claim]
    ) -> dict[Claim, ClaimedItem]:
        facts = await self._store.items(tx, tenant, project, {claim.item for claim in claims})
        labelers = await self._store.labelers(tx, tenant, {claim.labeler for claim in claims})
        closed = {}
        for item, fact in facts.items():
            wish = label_wish(fact, policy, 0)
            closed[item] = wish.reason if isinstance(wish, Closed) else ""
        return {
            claim: ClaimedItem(
                facts[claim.item].imported,
                closed[claim.item],
                labelers[claim.labeler].suspended,
                frozenset(labelers[claim.labeler].skills),
            )
            for claim in claims
            if claim.item in facts
        }

    def _claim_result(self, outcome: Lease | CairnError) -> pb.ClaimResult:
        if isinstance(outcome, Lease):
            return pb.ClaimResult(lease=self._with_token(outcome))
        return pb.ClaimResult(error=to_status(outcome))

    # --- what becomes of a lease

    async def extend_lease(
        self, tenant: str, request: pb.ExtendLeaseRequest, may_touch: MayTouch
    ) -> pb.Lease:
        """Give a live lease more time, and a token that says so."""

        async def change(tx: Transaction, lease: Lease) -> pb.Lease:
            policy = await self._project(tx, tenant, lease.project)
            extended = await self._store.extend_lease(tx, lease, self._granting(policy, request))
            if extended is None:
                raise lease_not_live(request.name, lease.state)
            return self._with_token(extended)

        return await self._on_lease(tenant, request, may_touch, change)

    async def release_lease(
        self, tenant: str, request: pb.ReleaseLeaseRequest, may_touch: MayTouch
    ) -> pb.Lease:
        """Give a lease back."""
        return await self._give_back(tenant, request, may_touch, LeaseState.RELEASED, "")

    async def skip_task(self, tenant: str, request: pb.SkipTaskRequest, may_touch: MayTouch) -> pb.Lease:
        """Give a lease back for good: this labeler does not get the item again."""
        return await self._give_back(tenant, request, may_touch, LeaseState.SKIPPED, request.reason)

    async def _give_back(
        self,
        tenant: str,
        request: pb.ReleaseLeaseRequest | pb.SkipTaskRequest,
        may_touch: MayTouch,
        state: LeaseState,
        reason: str,
    ) -> pb.Lease:
        async def change(tx: Transaction, lease: Lease) -> pb.Lease:
            await self._store.lock_tasks(tx, [(tenant, lease.project, lease.task)])
            closed = []
            if lease.live_now:
                closed = await close_leases(tx, self._store, [LeaseChange(lease, state, reason)])
            if not closed:
                raise lease_not_live(request.name, lease.state)
            return lease_message(closed[0])

        return await self._on_lease(tenant, request, may_touch, change)

    async def _on_lease(
        self,
        tenant: str,
        request: pb.ExtendLeaseRequest | pb.ReleaseLeaseRequest | pb.SkipTaskRequest,
        may_touch: MayTouch,
        change: Callable[[Transaction, Lease], Awaitable[pb.Lease]],
    ) -> pb.Lease:
        key = parse_lease(request.name)

        async def work(tx: Transaction) -> pb.Lease:
            async def effect() -> pb.Lease:
                return await change(tx, await self._find(tx, tenant, key, may_touch))

            return await once(tx, tenant, request, pb.Lease, effect)

        return await self._database.retrying(work)

    async def get_lease(self, tenant: str, request: pb.GetLeaseRequest, may_touch: MayTouch) -> pb.Lease:
        """A lease, without its token."""
        return lease_message(await self._find(self._database, tenant, parse_lease(request.name), may_touch))

    async def _find(
        self,
        tx: Transaction | Database,
        tenant: str,
        key: tuple[str, TaskId, LeaseId],
        may_touch: MayTouch,
    ) -> Lease:
        project, task, lease_id = key
        lease = await self._store.lease(tx, tenant, project, lease_id)
        if lease is None or lease.task != task or not may_touch(lease.labeler):
            raise lease_not_found(lease_name(project, task, lease_id))
        return lease

    # --- shared

    async def _project(self, tx: Transaction, tenant: str, project: str) -> ProjectPolicy:
        ref = ProjectRef(tenant, project)
        policy = (await self._store.projects(tx, [ref])).get(ref)
        if policy is None:
            raise project_not_found(project)
        return policy

    def _granting(
        self,
        policy: ProjectPolicy,
        request: pb.LeaseTasksRequest | pb.ClaimItemsRequest | pb.ExtendLeaseRequest,
    ) -> Granting:
        seconds = policy.lease_seconds
        if request.HasField("lease_duration"):
            seconds = request.lease_duration.ToNanoseconds() / 1e9
        return Granting(seconds, self._grace)

    def _with_token(self, lease: Lease) -> pb.Lease:
        # The token is signed, not encrypted: its bearer can read it. So gold is a label there too, and the store
        # knows by its own items which answers measure labelers.
        kind = "REVIEW" if lease.kind is TaskKind.REVIEW else "LABEL"
        claims = LeaseClaims(
            tenant=lease.tenant,
            project=lease.project,
            item=lease.item,
            task=str(lease.task),
            lease=str(lease.lease),
            labeler=lease.labeler,
            kind=kind,  # type: ignore[arg-type]
            expires_at=lease.expires_at.timestamp(),
            audit=lease.audit,
        )
        return lease_message(lease, self._sign(claims))


def _entropy() -> bytes:
    """What nobody else knows. A call that is repeated draws no second time: `once` remembers its answer."""
    return secrets.token_bytes(32)


def _servable(required: str, skills: Sequence[str]) -> list[str]:
    """The skills of slots that a labeler can serve; '' stands for the project's own."""
    own = [""] if not required or required in skills else []
    return own + list(skills)


def must_be_open(project: str, policy: ProjectPolicy) -> None:
    """Raise FailedPrecondition PROJECT_ARCHIVED when the project takes no new work."""
    if policy.archived:
        raise FailedPrecondition(
            "PROJECT_ARCHIVED", f"projects/{project} is archived.", resource=f"projects/{project}"
        )
