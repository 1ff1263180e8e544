"""What is kept of the ledger: entries, nodes, checkpoints, keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from cairn_audit.domain.checkpoint import Head, LedgerPublicKey, SignedHead, origin_of
from cairn_audit.domain.merkle import Hash, NodeId
from cairn_audit.domain.names import Tenant
from cairn_audit.domain.records import Entry, Erasure, LedgerLeaf
from cairn_kit.database import Database, Queries, Transaction
from cairn_kit.database.transaction import Record

SQL = Queries.load("cairn_audit", "sql/queries.sql")

Rows = Database | Transaction
"""Whatever a single reading statement can be run on."""


@dataclass(frozen=True, slots=True)
class LedgerSize:
    """How long a ledger is, and up to where it is worth signing."""

    size: int
    news_size: int


class LedgerStore:
    """Entries, nodes, checkpoints and keys."""

    async def open(self, tx: Transaction, tenants: Iterable[str]) -> None:
        """Begin the ledgers that are new."""
        await tx.execute(SQL.open_ledgers, sorted(tenants))

    async def lock(self, tx: Transaction, tenant: str) -> LedgerSize:
        """Hold a tenant's ledger against other appends and signatures until the end of the transaction."""
        return _ledger_size(await tx.fetchrow(SQL.lock_ledger, tenant))

    async def size(self, rows: Rows, tenant: str) -> LedgerSize:
        """How long a tenant's ledger is; 0 where none was begun."""
        return _ledger_size(await rows.fetchrow(SQL.ledger_size, tenant))

    async def known(self, tx: Transaction, tenant: str, events: Sequence[UUID]) -> set[UUID]:
        """Which of these events are in the ledger already."""
        return {row["event_id"] for row in await tx.fetch(SQL.known_events, tenant, events)}

    async def append(
        self,
        tx: Transaction,
        tenant: str,
        start: int,
        leaves: Sequence[LedgerLeaf],
        nodes: Sequence[tuple[NodeId, Hash]],
    ) -> None:
        """Write entries from `start` on, and the nodes that they complete; of deleted projects the hashes alone."""
        await tx.execute(
            SQL.append_entries,
            tenant,
            start,
            [leaf.event_id for leaf in leaves],
            [leaf.record for leaf in leaves],
            [leaf.leaf_hash for leaf in leaves],
            [leaf.project for leaf in leaves],
        )
        await tx.execute(
            SQL.append_nodes,
            tenant,
            [node.level for node, _ in nodes],
            [node.place for node, _ in nodes],
            [hashed for _, hashed in nodes],
        )

    async def set_size(self, tx: Transaction, tenant: str, size: LedgerSize) -> None:
        """Write down how long the ledger is now."""
        await tx.execute(SQL.set_ledger_size, tenant, size.size, size.news_size)

    async def nodes(self, rows: Rows, tenant: str, wanted: Iterable[NodeId]) -> dict[NodeId, Hash]:
        """The hashes of leaves and nodes; those that are missing are left out."""
        wanted = list(wanted)
        inner = [node for node in wanted if node.level]
        leaves = [node.place for node in wanted if not node.level]
        found = await rows.fetch(
            SQL.nodes, tenant, [n.level for n in inner], [n.place for n in inner], leaves
        )
        return {NodeId(row["level"], row["index"]): Hash(row["hash"]) for row in found}

    async def entries(self, rows: Rows, tenant: str, start: int, end: int, most: int) -> list[Entry]:
        """Entries of [start, end) in order, at most so many."""
        return [_entry(row) for row in await rows.fetch(SQL.entries, tenant, start, end, most)]

    async def entry_of(self, rows: Rows, tenant: str, event_id: UUID) -> Entry | None:
        """The entry of an event."""
        row = await rows.fetchrow(SQL.entry_of_event, tenant, event_id)
        return _entry(row) if row else None

    async def entries_that_may_be_of(
        self, tx: Transaction, tenant: str, start: int, end: int, mark: bytes
    ) -> list[Entry]:
        """Entries of [start, end) whose record has these bytes somewhere."""
        return [_entry(row) for row in await tx.fetch(SQL.entries_that_may_be_of, tenant, start, end, mark)]

    async def erase(self, tx: Transaction, tenant: str, places: Sequence[int], event_id: UUID) -> None:
        """Erase what entries say, for this ProjectDeleted; what was erased, and the event itself, stay as they are."""
        await tx.execute(SQL.erase_entries, tenant, places, event_id)

    async def nodes_between(
        self, rows: Rows, tenant: str, ranges: Sequence[tuple[int, int, int]]
    ) -> dict[NodeId, Hash]:
        """The kept nodes of each (level, low, high), high excluded."""
        columns = [list(column) for column in zip(*ranges, strict=True)] or [[], [], []]
        found = await rows.fetch(SQL.nodes_between, tenant, *columns)
        return {NodeId(row["level"], row["index"]): Hash(row["hash"]) for row in found}

    async def count_nodes(self, rows: Rows, tenant: str) -> int:
        """How many nodes are kept."""
        return int(await rows.fetchval(SQL.count_nodes, tenant))

    async def with_news(self, rows: Rows) -> list[Tenant]:
        """The tenants whose ledgers have entries that are worth a new checkpoint."""
        return [Tenant(row["tenant"]) for row in await rows.fetch(SQL.ledgers_with_news)]

    async def newest_checkpoint(self, rows: Rows, tenant: str) -> SignedHead | None:
        """The newest checkpoint, or None before the first."""
        row = await rows.fetchrow(SQL.newest_checkpoint, tenant)
        return _signed_head(tenant, row) if row else None

    async def checkpoints_before(self, rows: Rows, tenant: str, size: int, most: int) -> list[SignedHead]:
        """Checkpoints smaller than `size`, newest first."""
        found = await rows.fetch(SQL.checkpoints_before, tenant, size, most)
        return [_signed_head(tenant, row) for row in found]

    async def checkpoints_between(
        self, rows: Rows, tenant: str, after: int, until: int, most: int
    ) -> list[SignedHead]:
        """Checkpoints of sizes in (after, until], oldest first, at most so many."""
        found = await rows.fetch(SQL.checkpoints_between, tenant, after, until, most)
        return [_signed_head(tenant, row) for row in found]

    async def keep_checkpoint(
        self, tx: Transaction, tenant: str, head: Head, note: str, key: LedgerPublicKey
    ) -> SignedHead:
        """Write a checkpoint down."""
        created = await tx.fetchval(SQL.keep_checkpoint, tenant, head.size, head.root, note, key.key_id)
        return SignedHead(head, note, key.key_id, created)

    async def keep_key(self, rows: Rows, key: LedgerPublicKey) -> None:
        """Remember a public key for ever."""
        await rows.execute(SQL.keep_key, key.key_id, key.public_key)

    async def keys(self, rows: Rows) -> list[LedgerPublicKey]:
        """Every key that signs or signed, newest first."""
        return [LedgerPublicKey(row["public_key"]) for row in await rows.fetch(SQL.keys)]


def _ledger_size(row: Record | None) -> LedgerSize:
    return LedgerSize(row["size"], row["news_size"]) if row else LedgerSize(0, 0)


def _entry(row: Record) -> Entry:
    erasure = None if row["erased_for"] is None else Erasure(row["erased_for"], row["erased_at"])
    return Entry(row["index"], row["event_id"], row["record"], Hash(row["leaf_hash"]), erasure)


def _signed_head(tenant: str, row: Record) -> SignedHead:
    head = Head(origin_of(tenant), row["size"], Hash(row["root_hash"]))
    return SignedHead(head, row["note"], row["key_id"], row["create_time"])
