"""Who keeps which share of all projects."""

from __future__ import annotations

from collections.abc import Mapping

from cairn_consensus.store.rows import Rows
from cairn_kit.database import Queries, Transaction

SQL = Queries.load("cairn_consensus", "sql/shares.sql")


class ShareStore:
    """Shares and their epochs."""

    async def begin_share(self, rows: Rows, share: int) -> int | None:
        """Begin to keep a share; its new epoch, or None while the keeper before still works on it."""
        epoch: int | None = await rows.fetchval(SQL.begin_share, share)
        return epoch

    async def hold_shares(self, tx: Transaction, epochs: Mapping[int, int]) -> set[int]:
        """Those of the shares whose epoch is still this one; nobody else begins to keep them before the end."""
        rows = await tx.fetch(SQL.hold_shares, list(epochs), list(epochs.values()))
        return {row["share"] for row in rows}
