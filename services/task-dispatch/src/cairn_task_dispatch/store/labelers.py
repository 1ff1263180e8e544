"""What labelers are able to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cairn_kit.database import Queries
from cairn_task_dispatch.store.rows import Reader, columns

SQL = Queries.load("cairn_task_dispatch", "sql/labelers.sql")


@dataclass(frozen=True, slots=True)
class LabelerRow:
    """What a labeler is able to do."""

    labeler: str
    skills: tuple[str, ...] = ()
    suspended: bool = False
    revision: int = 0
    """0: never set up."""


@dataclass(frozen=True, slots=True)
class LabelerChange:
    """What becomes of a labeler; None is left as it is."""

    labeler: str
    skills: tuple[str, ...] | None
    suspended: bool | None
    revision: int | None
    """The revision that must stand, 0 when there must be none; None: whatever stands."""


class LabelerStore:
    """Labelers and their skills."""

    async def labelers(
        self, tx: Reader, labelers: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], LabelerRow]:
        """Each of these (tenant, labeler); one that was never set up has no skills."""
        keys = set(labelers)
        rows = await tx.fetch(SQL.labelers, *columns(keys, 2))
        found = {(row["tenant"], row["labeler"]): _labeler(row) for row in rows}
        return {key: found.get(key) or LabelerRow(key[1]) for key in keys}

    async def list_labelers(self, tx: Reader, tenant: str, after: str, limit: int) -> list[LabelerRow]:
        """Labelers that were set up, by name."""
        return [_labeler(row) for row in await tx.fetch(SQL.list_labelers, tenant, after, limit)]

    async def save_labeler(self, tx: Reader, tenant: str, change: LabelerChange) -> LabelerRow | None:
        """Change a labeler, or make one; None when another revision stands than the change was made for."""
        skills = None if change.skills is None else list(change.skills)
        row = await tx.fetchrow(
            SQL.save_labeler, tenant, change.labeler, skills, change.suspended, change.revision
        )
        return None if row is None else _labeler(row)


def _labeler(row: Any) -> LabelerRow:
    return LabelerRow(row["labeler"], tuple(row["skills"]), row["suspended"], row["revision"])
