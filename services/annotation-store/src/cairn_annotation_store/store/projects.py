"""Projects, what of their schemas is in use, and their progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn_annotation_store.domain.schema import SchemaRules
from cairn_annotation_store.domain.schema_change import Use
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_annotation_store", "sql/projects.sql")
_REMEMBERED = 1000

ProjectKey = tuple[str, str]
"""Tenant and project id."""


class Reader(Protocol):
    """Runs a statement: a transaction, or the database for a statement on its own."""

    async def fetch(self, statement: str, *values: Any) -> list[Any]:
        """All rows."""

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        """The first row, or None."""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project as it is kept, its schema ready for checking answers."""

    tenant: str
    project: str
    revision: int
    schema_version: int
    archived: bool
    body: pb.Project
    created_at: datetime
    updated_at: datetime
    rules: SchemaRules


@dataclass(frozen=True, slots=True)
class Progress:
    """The counts of a project, at one moment."""

    items: int
    auto_items: int
    consensus_items: int
    gold_items: int
    corrected_items: int
    annotations: int
    label_annotations: int
    late_annotations: int
    as_of: datetime

    def counts(self) -> tuple[int, ...]:
        """Everything but the time: equal when nothing has changed."""
        return (
            self.items, self.auto_items, self.consensus_items, self.gold_items, self.corrected_items,
            self.annotations, self.label_annotations, self.late_annotations,
        )  # fmt: skip

    def without_gold(self) -> Progress:
        """What those may know who must not tell gold from other items: as if what gold labels did not exist.

        One's own answer adds to `label_annotations` exactly when its item was not gold.
        """
        return replace(self, items=self.items - self.gold_items, gold_items=0, label_annotations=0)


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far the deletion of a project has come: rows deleted, and rows in all as far as they are counted."""

    requested_at: datetime
    deleted: int
    total: int


class ProjectStore:
    """Reads and writes projects; remembers the schemas it has compiled, by revision."""

    def __init__(self) -> None:
        self._known: OrderedDict[ProjectKey, ProjectRow] = OrderedDict()
        self._uses: OrderedDict[ProjectKey, set[Use]] = OrderedDict()

    async def insert(self, tx: Transaction, tenant: str, project: str, body: pb.Project) -> ProjectRow | None:
        """The new project, or None when the id is taken."""
        row = await tx.fetchrow(SQL.insert_project, tenant, project, body.SerializeToString())
        tx.on_rollback(lambda: self._forget(tenant, project))
        return None if row is None else self._read(row)

    async def get(self, reader: Reader, tenant: str, project: str) -> ProjectRow | None:
        """A project, or None; also when it is being deleted."""
        row = await reader.fetchrow(SQL.project, tenant, project)
        return None if row is None else self._read(row)

    async def get_even_if_deleting(self, reader: Reader, tenant: str, project: str) -> ProjectRow | None:
        """A project as long as its row is there, or None."""
        row = await reader.fetchrow(SQL.project_even_if_deleting, tenant, project)
        return None if row is None else self._read(row)

    async def get_to_delete(self, tx: Transaction, tenant: str, project: str) -> ProjectRow | None:
        """The same, locked until the transaction ends."""
        row = await tx.fetchrow(SQL.project_to_delete, tenant, project)
        return None if row is None else self._read(row)

    async def deletion(self, reader: Reader, tenant: str, project: str) -> Deletion | None:
        """How far a project's deletion has come, or None when nobody asked for it; there is one for good afterwards."""
        return (await self.deletions(reader, tenant, [project])).get(project)

    async def deletions(self, reader: Reader, tenant: str, projects: Collection[str]) -> dict[str, Deletion]:
        """The same of several projects, by their ids."""
        if not projects:
            return {}
        rows = await reader.fetch(SQL.deletions, tenant, list(projects))
        return {row["project"]: Deletion(row["requested_at"], row["deleted"], row["total"]) for row in rows}

    async def get_to_change(self, tx: Transaction, tenant: str, project: str) -> ProjectRow | None:
        """A project, locked until the transaction ends, or None."""
        row = await tx.fetchrow(SQL.project_to_change, tenant, project)
        return None if row is None else self._read(row)

    async def in_use(self, tx: Transaction, keys: Collection[ProjectKey]) -> dict[ProjectKey, ProjectRow]:
        """Those of the projects that exist; none of them changes until the transaction ends."""
        wanted = sorted(set(keys))
        known = [self._known.get(key) for key in wanted]
        rows = await tx.fetch(
            SQL.projects_in_use,
            [tenant for tenant, _ in wanted],
            [project for _, project in wanted],
            [row.revision if row is not None else 0 for row in known],
        )
        kept = {key: row for key, row in zip(wanted, known, strict=True) if row is not None}
        return {
            key: kept[key] if row["body"] is None else self._read(row)
            for row in rows
            for key in [(row["tenant"], row["project"])]
        }

    async def list_after(
        self, reader: Reader, tenant: str, after: str, limit: int, only: Collection[str] | None
    ) -> list[ProjectRow]:
        """Projects by id, after the given one; `only` restricts to these."""
        rows = await reader.fetch(
            SQL.list_projects, tenant, after, None if only is None else list(only), limit
        )
        return [self._read(row) for row in rows]

    async def update(
        self,
        tx: Transaction,
        tenant: str,
        project: str,
        *,
        schema_version: int,
        archived: bool,
        body: pb.Project,
    ) -> ProjectRow:
        """The project in its next revision."""
        row = await tx.fetchrow(
            SQL.update_project, tenant, project, schema_version, archived, body.SerializeToString()
        )
        if row is None:
            raise LookupError(f"project {project} vanished under its lock")
        tx.on_rollback(lambda: self._forget(tenant, project))
        return self._read(row)

    async def uses(self, reader: Reader, tenant: str, project: str) -> set[Use]:
        """What of the schema some answer names."""
        rows = await reader.fetch(SQL.schema_uses, tenant, project)
        return {Use(row["question"], row["facet"], row["name"]) for row in rows}

    async def add_uses(self, tx: Transaction, uses: Iterable[tuple[ProjectKey, Use]]) -> None:
        """Note what of schemas is in use. What this process has noted before costs nothing."""
        fresh = sorted({(key, use) for key, use in uses if use not in self._uses.get(key, ())})
        if not fresh:
            return
        await tx.execute(
            SQL.add_schema_uses,
            [key[0] for key, _ in fresh],
            [key[1] for key, _ in fresh],
            [use.question for _, use in fresh],
            [use.facet for _, use in fresh],
            [use.name for _, use in fresh],
        )
        tx.after_commit(lambda: self._remember_uses(fresh))

    async def progress(self, reader: Reader, tenant: str, project: str) -> Progress:
        """The counts, now."""
        row = await reader.fetchrow(SQL.progress, tenant, project)
        return Progress(**row)

    async def ask_for_recount(self, tx: Transaction, tenant: str, project: str) -> None:
        """Have every item's completeness looked at again, from the beginning."""
        await tx.execute(SQL.ask_for_recount, tenant, project)

    async def recount_to_do(self, tx: Transaction) -> tuple[str, str, str] | None:
        """Tenant, project and last item of a recount that nobody works on, locked; or None."""
        row = await tx.fetchrow(SQL.recount_to_do)
        return None if row is None else (row["tenant"], row["project"], row["last_item"])

    async def items_to_recount(
        self, tx: Transaction, tenant: str, project: str, after: str, limit: int
    ) -> list[str]:
        """The next items, locked."""
        rows = await tx.fetch(SQL.items_to_recount, tenant, project, after, limit)
        return [row["item"] for row in rows]

    async def recount_advanced(self, tx: Transaction, tenant: str, project: str, last: str | None) -> None:
        """Remember how far a recount has come; None when it is done."""
        if last is None:
            await tx.execute(SQL.recount_done, tenant, project)
        else:
            await tx.execute(SQL.recount_advanced, tenant, project, last)

    def _read(self, row: Any) -> ProjectRow:
        key = (row["tenant"], row["project"])
        known = self._known.get(key)
        if known is not None and known.revision == row["revision"]:
            self._known.move_to_end(key)
            return known
        body = pb.Project.FromString(row["body"])
        read = ProjectRow(
            tenant=row["tenant"],
            project=row["project"],
            revision=row["revision"],
            schema_version=row["schema_version"],
            archived=row["archived"],
            body=body,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            rules=SchemaRules(body.schema),
        )
        self._known[key] = read
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return read

    def _forget(self, tenant: str, project: str) -> None:
        """Its change was rolled back: another one may get the same revision number."""
        self._known.pop((tenant, project), None)

    def _remember_uses(self, fresh: Iterable[tuple[ProjectKey, Use]]) -> None:
        for key, use in fresh:
            self._uses.setdefault(key, set()).add(use)
            self._uses.move_to_end(key)
        while len(self._uses) > _REMEMBERED:
            self._uses.popitem(last=False)
