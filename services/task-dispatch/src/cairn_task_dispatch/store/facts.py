"""What others have said: the policies of projects, and the newest fact of each kind about an item."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import astuple
from typing import Any

from cairn_kit.database import Queries, Transaction
from cairn_task_dispatch.domain.states import Decision, Route
from cairn_task_dispatch.domain.tasks import ItemRef
from cairn_task_dispatch.domain.wishes import ItemFacts, ProjectPolicy
from cairn_task_dispatch.store.rows import ProjectRef, Reader, columns, item_ref, policy_of

SQL = Queries.load("cairn_task_dispatch", "sql/facts.sql")
_COLUMNS = (*ItemRef._fields, *ItemFacts._fields)


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
        rows = await tx.fetch(SQL.known_items, *columns(set(refs), 3))
        return {item_ref(row): _facts(row) for row in rows}

    async def items(
        self, tx: Reader, tenant: str, project: str, items: Iterable[str]
    ) -> dict[str, ItemFacts]:
        """The facts of those of a project's items that are known."""
        rows = await tx.fetch(SQL.items, tenant, project, list(set(items)))
        return {row["item"]: _facts(row) for row in rows}

    async def save_items(
        self, tx: Transaction, facts: Mapping[ItemRef, ItemFacts], known: Container[ItemRef]
    ) -> None:
        """Write the facts of locked items, of which some were known before."""
        new = [_row(ref, fact) for ref, fact in facts.items() if ref not in known]
        if new:
            await tx.copy_records_to_table("item", records=new, columns=_COLUMNS)
        changed = [_row(ref, fact) for ref, fact in facts.items() if ref in known]
        if changed:
            await tx.execute(SQL.save_items, *columns(changed, len(_COLUMNS)))


def _row(ref: ItemRef, f: ItemFacts) -> tuple[Any, ...]:
    return (
        *ref, f.imported, f.gold, f.route.value, f.route_revision, f.priority, f.decision.value, f.decision_revision,
        f.answers_wanted, f.skill, f.settled, f.wished, f.cancelled_at, f.review_cancelled_at, f.cancel_reason,
        f.reviews_wished, f.review_priority,
    )  # fmt: skip


def _facts(row: Any) -> ItemFacts:
    return ItemFacts(
        row["imported"], row["gold"], Route(row["route"]), row["route_revision"], row["priority"],
        Decision(row["decision"]), row["decision_revision"], row["answers_wanted"], row["skill"], row["settled"],
        row["wished"], row["cancelled_at"], row["review_cancelled_at"], row["cancel_reason"],
        row["reviews_wished"], row["review_priority"],
    )  # fmt: skip
