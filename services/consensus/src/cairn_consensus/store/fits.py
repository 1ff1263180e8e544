"""The newest fit of each project."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cairn_consensus.store.rows import ProjectKey
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/fits.sql")


@dataclass(frozen=True, slots=True)
class RefitRow:
    """The newest fit to all votes, and the state it left."""

    refit: int
    votes: int
    state: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is told of a refit."""

    refit: int
    votes: int
    labelers: int
    changed_items: int
    state_sha256: bytes


class FitStore:
    """Fits to all votes."""

    async def save_refit(self, tx: Transaction, key: ProjectKey, fitted: Fitted, state: bytes) -> None:
        """Write the newest fit, with the state it left, over the one before."""
        await tx.execute(
            SQL.save_refit,
            *key.columns,
            fitted.refit,
            fitted.votes,
            fitted.labelers,
            fitted.changed_items,
            state,
            fitted.state_sha256,
        )

    async def newest_refit(self, tx: Transaction, key: ProjectKey) -> RefitRow | None:
        """The newest fit to all votes, if there was one."""
        row = await tx.fetchrow(SQL.newest_refit, *key.columns)
        return None if row is None else RefitRow(*row)

    async def note_changed_items(self, tx: Transaction, key: ProjectKey, more: int) -> Fitted | None:
        """Write down that so many items more changed by the newest refit, whoever judges by it; what is to be told of it.

        None where the project is being deleted.
        """
        row = await tx.fetchrow(SQL.note_changed_items, *key.columns, more)
        return None if row is None else Fitted(*row)
