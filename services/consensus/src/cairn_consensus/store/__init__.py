"""The only callers of SQL: rows in, rows out; they decide nothing.

Each part has its statements in the file of its name in sql/.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cairn_consensus.domain.ids import ItemKey
from cairn_consensus.store.counts import CountStore
from cairn_consensus.store.fits import FitStore, Fitted, RefitRow
from cairn_consensus.store.items import DecisionRow, ItemRow, ItemStore
from cairn_consensus.store.projects import ProjectStore
from cairn_consensus.store.refits import AskedRefit, RefitStore, Refitting, WhichRefit
from cairn_consensus.store.rows import ProjectKey, is_lost
from cairn_consensus.store.said import Said, SaidStore, TruthRank
from cairn_consensus.store.shares import ShareStore
from cairn_kit.database import Transaction


@dataclass(frozen=True, slots=True)
class KeptItems:
    """All that is kept of some items."""

    said: Said
    items: list[ItemRow]
    decisions: list[DecisionRow]


class ConsensusStore(ShareStore, ProjectStore, SaidStore, CountStore, ItemStore, FitStore, RefitStore):
    """All of it: a step of the service's work touches several tables in one transaction."""

    async def stay(self, tx: Transaction) -> None:
        """Show that the transaction is in use: to the server a session that says nothing is idle, whatever is computed
        for it."""
        await tx.execute("SELECT")

    async def kept(self, tx: Transaction, key: ProjectKey, items: Sequence[ItemKey]) -> KeptItems:
        """All that is kept of some items, in an order that does not depend on when it came."""
        said = await self.said_of(tx, key, items)
        return KeptItems(said, await self.item_rows(tx, key, items), await self.decisions(tx, key, items))


__all__ = [
    "AskedRefit",
    "ConsensusStore",
    "DecisionRow",
    "Fitted",
    "ItemRow",
    "KeptItems",
    "ProjectKey",
    "RefitRow",
    "Refitting",
    "Said",
    "TruthRank",
    "WhichRefit",
    "is_lost",
]
