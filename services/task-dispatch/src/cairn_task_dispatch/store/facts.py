"""What others have said: the policies of projects, and the newest fact of each kind about an item."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple
from typing import Any

from cairn_kit.database import Queries, Transaction
from cairn_task_dispatch.domain.states import Decision, Route
from cairn_task_dispatch.domain.tasks import ItemRef
from cairn_task_dispatch.domain.wishes import ONLY_IMPORTED, ItemFacts, ProjectPolicy
from cairn_task_dispatch.store.rows import ProjectRef, Reader, columns, item_ref, policy_of

SQL = Queries.load("cairn_task_dispatch", "sql/facts.sql")
_COLUMNS = (*ItemRef._fields, *ItemFacts._fields)
_IMPORTED = (*ItemRef._fields, "imported")
_ROUTES = {route.value: route for route in Route}
_DECISIONS = {decision.value: decision for decision in Decision}


class FactStore:
    """Projects and items, as far as dispatch must know them."""

    async def save_projects(self, tx: Reader, projects: Mapping[ProjectRef, ProjectPolicy]) -> None:
        """Write policies; an older revision changes nothing."""
        rows = [(*ref, *astuple(policy)) for ref, policy in projects.items()]
        await tx.execute(SQL.upsert_projects, *columns(rows, 9))

    async def projects(self, tx: Reader, refs: Iterable[ProjectRef]) -> dict[ProjectRef, ProjectPolicy]:
        """The policies of the projects that are known."""
        rows = await tx.fetch(SQL.projects, *columns(set(refs), 2))
        return {ProjectRef(row["tenant"], row["project"]): policy_of(row) for row in rows}

    async def lock_items(self, tx: Reader, refs: Collection[ItemRef]) -> dict[ItemRef, ItemFacts]:
        """Those of these items that are known, which nobody else decides about until the end of the transaction.

        For that their projects are locked.
        """
        projects = {(r.tenant, r.project) for r in refs}
        await tx.fetch(SQL.lock_projects, *columns(projects, 2))
        if len(projects) == 1:
            rows = await tx.fetch(SQL.items, *projects.pop(), [r.item for r in set(refs)])
        else:
            rows = await tx.fetch(SQL.known_items, *columns(set(refs), 3))
        return {item_ref(row): _facts(row) for row in rows}

    async def items(
        self, tx: Reader, tenant: str, project: str, items: Iterable[str]
    ) -> dict[str, ItemFacts]:
        """The facts of those of a project's items that are known."""
        rows = await tx.fetch(SQL.items, tenant, project, list(set(items)))
        return {row["item"]: _facts(row) for row in rows}

    async def save_items(
        self, tx: Transaction, facts: Mapping[ItemRef, ItemFacts], known: Mapping[ItemRef, ItemFacts]
    ) -> None:
        """Write the facts of locked items, given what was known of some of them before."""
        # An import is nearly all of items of which nothing else is known yet, and then of such that are routed: of
        # either there is little to write.
        new = {ref: fact for ref, fact in facts.items() if ref not in known}
        imported = [(*ref, True) for ref, fact in new.items() if fact == ONLY_IMPORTED]
        if imported:
            await tx.copy_records_to_table("item", records=imported, columns=_IMPORTED)
        heard_more = [_row(ref, fact) for ref, fact in new.items() if fact != ONLY_IMPORTED]
        if heard_more:
            await tx.copy_records_to_table("item", records=heard_more, columns=_COLUMNS)
        changed = {ref: fact for ref, fact in facts.items() if ref in known}
        routed = {ref: fact for ref, fact in changed.items() if known[ref].is_but_for_its_route(fact)}
        if routed:
            routes = [(*ref, f.route.value, f.route_revision, f.priority) for ref, f in routed.items()]
            await tx.execute(SQL.route_items, *columns(routes, 6))
        others = [_row(ref, fact) for ref, fact in changed.items() if ref not in routed]
        if others:
            await tx.execute(SQL.save_items, *columns(others, len(_COLUMNS)))


def _row(ref: ItemRef, f: ItemFacts) -> tuple[Any, ...]:
    return (
        *ref, f.imported, f.gold, f.route.value, f.route_revision, f.priority, f.decision.value, f.decision_revision,
        f.answers_wanted, f.skill, f.settled, f.wished, f.cancelled_at, f.review_cancelled_at, f.cancel_reason,
        f.reviews_wished, f.review_priority,
    )  # fmt: skip


def _facts(row: Any) -> ItemFacts:
    """The facts of a row of `known_items`, which has their order."""
    _, _, _, imported, gold, route, route_revision, priority, decision, *others = row
    return ItemFacts(imported, gold, _ROUTES[route], route_revision, priority, _DECISIONS[decision], *others)
