"""What the parts of the store share: who may run statements, keys, and rows as domain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import asyncpg

from cairn_task_dispatch.domain.leases import Lease
from cairn_task_dispatch.domain.states import LeaseState, TaskKind
from cairn_task_dispatch.domain.tasks import ItemRef
from cairn_task_dispatch.domain.wishes import ProjectPolicy


class Reader(Protocol):
    """A transaction, or the database for single statements on their own."""

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """All rows."""
        ...

    async def fetchrow(self, statement: str, *values: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        ...

    async def execute(self, statement: str, *values: Any) -> str:
        """The command tag."""
        ...


class ProjectRef(NamedTuple):
    """One project of one tenant."""

    tenant: str
    project: str


class Asker(NamedTuple):
    """A labeler who asks for work in a project."""

    tenant: str
    project: str
    labeler: str


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the columns that `unnest` wants."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def item_ref(row: Any) -> ItemRef:
    """The item of a row."""
    return ItemRef(row["tenant"], row["project"], row["item"])


def policy_of(row: Any) -> ProjectPolicy:
    """A row of `project`, its lease duration in seconds."""
    return ProjectPolicy(
        row["revision"], row["min_answers"], row["gold_share"], row["lease_seconds"], row["reviews_disputes"],
        row["required_skill"], row["archived"],
    )  # fmt: skip


def lease_of(row: Any) -> Lease:
    """A row of `lease`, and whether it is `live_now`."""
    return Lease(
        row["tenant"], row["project"], row["lease"], row["task"], row["slot"], row["item"], TaskKind(row["kind"]),
        row["audit"], row["labeler"], LeaseState(row["state"]), row["reason"], row["created_at"], row["expires_at"],
        row["live_now"],
    )  # fmt: skip
