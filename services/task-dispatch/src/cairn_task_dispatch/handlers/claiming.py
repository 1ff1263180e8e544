"""ClaimItems: given items to given labelers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cairn.dispatch.v1 import task_dispatch_pb2 as pb
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import CairnError, project_not_found, to_status
from cairn_kit.rpc import once
from cairn_task_dispatch.domain.leases import Claim, ClaimedItem, Grant, Lease, decide_claims
from cairn_task_dispatch.domain.names import parse_project
from cairn_task_dispatch.domain.wishes import Closed, ProjectPolicy, label_wish
from cairn_task_dispatch.handlers.announcing import announce_granted
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms, must_be_open, wished_duration
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.store import Asker, DispatchStore, ProjectRef


class Claiming:
    """Leases given items to given labelers, each for itself."""

    def __init__(
        self, database: Database, store: DispatchStore, projects: Projects, terms: LeaseTerms
    ) -> None:
        self._database = database
        self._store = store
        self._projects = projects
        self._terms = terms

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
                in_order = [outcomes[index] for index in range(len(request.claims))]
                return pb.ClaimItemsResponse(results=self._results(in_order))

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
        await self._store.lock_labelers(tx, {Asker(tenant, project, claim.labeler) for claim in claims})
        policy = await self._project(tx, tenant, project)
        must_be_open(project, policy)
        items = await self._claimed_items(tx, tenant, project, policy, claims)
        tasks = await self._store.claimed_tasks(tx, tenant, project, claims)
        held = await self._store.held_leases(tx, tenant, project, claims)
        outcomes = decide_claims(project, policy.required_skill, claims, items, tasks, held)
        grants = list(dict.fromkeys(o for o in outcomes if isinstance(o, Grant)))
        if not grants:
            return [o for o in outcomes if not isinstance(o, Grant)]
        granting = [self._terms.granting(policy, wished_duration(request))] * len(grants)
        leases = await self._store.grant(tx, tenant, project, grants, granting)
        announce_granted(tx, leases)
        granted = dict(zip(grants, leases, strict=True))
        return [granted[o] if isinstance(o, Grant) else o for o in outcomes]

    async def _claimed_items(
        self, tx: Transaction, tenant: str, project: str, policy: ProjectPolicy, claims: Sequence[Claim]
    ) -> dict[Claim, ClaimedItem]:
        facts = await self._store.items(tx, tenant, project, {claim.item for claim in claims})
        labelers = await self._store.labelers(tx, {(tenant, claim.labeler) for claim in claims})
        closed = {}
        for item, fact in facts.items():
            wish = label_wish(fact, policy, 0)
            closed[item] = wish.reason if isinstance(wish, Closed) else ""
        return {
            claim: ClaimedItem(
                facts[claim.item].imported,
                closed[claim.item],
                labelers[tenant, claim.labeler].suspended,
                frozenset(labelers[tenant, claim.labeler].skills),
            )
            for claim in claims
            if claim.item in facts
        }

    def _results(self, outcomes: Sequence[Lease | CairnError]) -> Iterator[pb.ClaimResult]:
        shown = iter(self._terms.with_tokens([one for one in outcomes if isinstance(one, Lease)]))
        for one in outcomes:
            if isinstance(one, Lease):
                yield pb.ClaimResult(lease=next(shown))
            else:
                yield pb.ClaimResult(error=to_status(one))

    async def _project(self, tx: Transaction, tenant: str, project: str) -> ProjectPolicy:
        ref = ProjectRef(tenant, project)
        policy = (await self._store.projects(tx, [ref])).get(ref)
        if policy is None:
            raise project_not_found(project)
        return policy
