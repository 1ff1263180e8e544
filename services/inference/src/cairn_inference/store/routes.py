"""Where items go, a routing round after the other, and whether a model may answer alone."""

from __future__ import annotations

from collections.abc import Sequence

from cairn_inference.domain.routing import Route, Stop
from cairn_inference.records import ItemRef, Overdue, Project, Routable, Routed
from cairn_inference.store.rows import Reader, item_columns, item_ref
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_inference", "sql/routes.sql")


class RouteStore:
    """Items to be routed, those that have waited too long, and stops."""

    async def begin_routing_round(self, tx: Transaction, project: Project) -> None:
        """Every open item is to be routed again, by the scores of this round."""
        await tx.execute(SQL.begin_routing_round, project.tenant, project.id)

    async def any_to_route(self, reader: Reader, project: Project) -> bool:
        """Whether `items_to_route` would find any."""
        found: bool = await reader.fetchval(
            SQL.any_to_route, project.tenant, project.id, project.route_round, project.score_round
        )
        return found

    async def items_to_route(self, tx: Transaction, project: Project, limit: int) -> list[Routable]:
        """Open items behind the routing round that have been looked at in this scoring round, locked."""
        rows = await tx.fetch(
            SQL.items_to_route, project.tenant, project.id, project.route_round, project.score_round, limit
        )
        return [
            Routable(
                row["item"],
                row["score"],
                row["margin"],
                row["predicted"],
                row["gold"],
                Route(row["route"]),
                row["priority"],
                row["route_revision"],
            )
            for row in rows
        ]

    async def keep_routes(self, tx: Transaction, project: Project, routes: Sequence[Routed]) -> None:
        """Write where items go."""
        await tx.execute(
            SQL.keep_routes,
            project.tenant,
            project.id,
            project.route_round,
            [routed.key for routed in routes],
            [int(routed.route) for routed in routes],
            [routed.priority for routed in routes],
            [routed.revision for routed in routes],
        )

    async def overdue_items(self, tx: Transaction, patience: float, limit: int) -> list[Overdue]:
        """Items that have waited for their score longer than `patience` seconds, or will get none."""
        rows = await tx.fetch(SQL.overdue_items, patience, limit)
        return [Overdue(item_ref(row), row["hint"], row["route_revision"]) for row in rows]

    async def send_to_people(self, tx: Transaction, items: Sequence[tuple[ItemRef, float, int]]) -> None:
        """Route items to people: item, priority, revision."""
        await tx.execute(
            SQL.send_to_people,
            *item_columns([ref for ref, _, _ in items]),
            [priority for _, priority, _ in items],
            [revision for _, _, revision in items],
        )

    async def set_stop(self, tx: Transaction, tenant: str, project: str, stop: Stop, reason: str) -> None:
        """Stop automatic labeling."""
        await tx.execute(SQL.set_stop, tenant, project, int(stop), reason)

    async def clear_stop(self, tx: Transaction, tenant: str, project: str) -> None:
        """Let a round decide again."""
        await tx.execute(SQL.clear_stop, tenant, project)
