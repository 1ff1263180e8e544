"""The ledger's handlers: append, sign, prove, check."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import Message

from cairn.audit.v1.audit_pb2 import LedgerRecord
from cairn.events.v1.audit_events_pb2 import CheckpointSigned
from cairn_audit.domain import merkle
from cairn_audit.domain.checkpoint import Head, LedgerPublicKey, LedgerSigner, SignedHead, origin_of
from cairn_audit.domain.fsck import FoundDamage, LedgerCheck
from cairn_audit.domain.merkle import Hash, LeafRange
from cairn_audit.domain.names import Tenant
from cairn_audit.domain.records import Entry, LedgerLeaf, is_news, mark_of, of_project
from cairn_audit.messages import checkpoint_message
from cairn_audit.store import LedgerSize, LedgerStore, Rows
from cairn_kit.database import Database, Deleted, DeletedProject, Transaction
from cairn_kit.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Violation
from cairn_kit.events import Event, Received, announce
from cairn_kit.telemetry import get_logger
from cairn_kit.telemetry.metrics import Metrics

SIGNING = "sign checkpoints"
"""The job's name; a ledger that cannot be signed counts as a failure of it."""
_CHUNK_ENTRIES = 200
_CHUNK_BYTES = 1024 * 1024
"""A streamed message stays well below the 4 MiB that gRPC clients accept by default."""

_NO_END = (1 << 63) - 1
"""After the last entry there may be, and the last size."""

_LOOKED_AT = 4
"""Entries looked at for each row that a chunk may delete: most are other projects', and looking is cheap."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That an entry is in the ledger of a size."""

    entry: Entry
    size: int
    path: tuple[Hash, ...]


@dataclass(frozen=True, slots=True)
class Consistency:
    """That one ledger is the beginning of another."""

    first: int
    second: int
    path: tuple[Hash, ...]


class ErasedEntries:
    """A project's entries in the ledger, as a part of what is deleted: what they say goes, their hashes stay."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def delete(self, tx: Transaction, which: DeletedProject, after: str, most: int) -> Deleted:
        """Erase those among the next entries of the tenant."""
        start = int(after or 0)
        end = min(start + _LOOKED_AT * most, (await self._store.size(tx, which.tenant)).size)
        if start >= end:
            return Deleted(0, None)
        mark = mark_of(which.project)
        found = await self._store.entries_that_may_be_of(tx, which.tenant, start, end, mark)
        places = of_project(found, which.project)
        await self._store.erase(tx, which.tenant, places, which.event_id)
        return Deleted(len(places), str(end))


class Ledger:
    """One append-only Merkle log for each tenant."""

    def __init__(
        self, database: Database, store: LedgerStore, signer: LedgerSigner, metrics: Metrics
    ) -> None:
        self._database = database
        self._store = store
        self._signer = signer
        self._unsigned = metrics.background_failures.labels(SIGNING)

    async def remember_key(self) -> None:
        """Keep the signing key's public half for ever: what it signs must stay verifiable after its rotation."""
        await self._store.keep_key(self._database, self._signer.public)

    # --- appending

    async def on_events(self, tx: Transaction, events: Sequence[Received[Message]]) -> None:
        """Append events, whatever they say, in the order in which they were heard."""
        by_tenant: dict[Tenant, list[LedgerLeaf]] = defaultdict(list)
        for event in events:
            by_tenant[Tenant(event.tenant)].append(_leaf(event))
        await self._store.open(tx, by_tenant)
        for tenant in sorted(by_tenant):  # one order for everybody: batches must not wait for each other
            await self._append(tx, tenant, by_tenant[tenant])

    async def _append(self, tx: Transaction, tenant: Tenant, heard: Sequence[LedgerLeaf]) -> None:
        head = await self._store.lock(tx, tenant)
        # The inbox forgets after a while, the ledger does not: an old event sent again is one it has.
        known = await self._store.known(tx, tenant, [leaf.event_id for leaf in heard])
        leaves = [leaf for leaf in heard if leaf.event_id not in known]
        if not leaves:
            return
        frontier = await self._frontier(tx, tenant, head.size)
        growth = merkle.grow(head.size, frontier, (leaf.leaf_hash for leaf in leaves))
        await self._store.append(tx, tenant, head.size, leaves, growth.nodes)
        news = [head.size + place + 1 for place, leaf in enumerate(leaves) if leaf.is_news]
        await self._store.set_size(tx, tenant, LedgerSize(growth.size, news[-1] if news else head.news_size))

    # --- signing

    async def sign_news(self) -> None:
        """Sign a checkpoint of every ledger that has grown; one tenant's damage does not keep the others waiting."""
        for tenant in await self._store.with_news(self._database):
            try:
                async with self._database.transaction() as tx:
                    await self._sign_if_news(tx, tenant)
            except DataLoss as damage:
                # Counted here and not raised: a job that raises steps back, and every tenant's checkpoints with it.
                self._unsigned.inc()
                _log.error("ledger.damaged", tenant=tenant, why=damage.message)

    async def checkpoint(self, tenant: Tenant, min_size: int = 0) -> SignedHead:
        """The newest checkpoint, made now if there is news or if it must be larger.

        The very first call on an empty ledger signs a checkpoint of size 0.
        """
        async with self._database.transaction() as tx:
            await self._store.open(tx, [tenant])
            return await self._sign_if_news(tx, tenant, min_size)

    async def _sign_if_news(self, tx: Transaction, tenant: Tenant, min_size: int = 0) -> SignedHead:
        size = await self._store.lock(tx, tenant)
        if size.size < min_size:
            raise _too_short(size.size, min_size)
        newest = await self._store.newest_checkpoint(tx, tenant)
        if newest is not None and newest.head.size >= max(size.news_size, min_size):
            return newest
        if newest is not None:
            await self._check_growth(tx, tenant, newest)
        head = Head(origin_of(tenant), size.size, await self._root(tx, tenant, size.size))
        signed = await self._store.keep_checkpoint(
            tx, tenant, head, self._signer.sign(head), self._signer.public
        )
        announce(tx, _signed_event(tenant, signed))
        return signed

    async def _check_growth(self, tx: Transaction, tenant: Tenant, newest: SignedHead) -> None:
        """Never sign what does not continue what was signed: a changed node must not be covered up by us."""
        if await self._root(tx, tenant, newest.head.size) != newest.head.root:
            raise DataLoss(
                "LEDGER_DAMAGED",
                f"The ledger of {tenant} does not have the root that was signed at {newest.head.size} entries: "
                "it was changed. Nothing is signed until it is restored; VerifyLedger tells what is wrong.",
            )

    # --- reading and proving

    async def checkpoints_before(self, tenant: Tenant, size: int, most: int) -> list[SignedHead]:
        """Signed heads smaller than `size`, newest first."""
        return await self._store.checkpoints_before(self._database, tenant, size, most)

    async def read(self, tenant: Tenant, start: int, end: int) -> AsyncIterator[list[Entry]]:
        """Entries of [start, end) in chunks; `end` 0 means all there are now."""
        size = (await self._store.size(self._database, tenant)).size
        if end > size:
            raise _too_short(size, end)
        end = end or size
        while start < end:
            entries = await self._store.entries(self._database, tenant, start, end, _CHUNK_ENTRIES)
            if not entries:
                raise DataLoss("LEDGER_DAMAGED", f"Entry {start} of the ledger of {tenant} is missing.")
            for chunk in _chunks(entries):
                yield chunk
            start = entries[-1].index + 1

    async def inclusion(self, tenant: Tenant, event_id: UUID, size: int) -> Inclusion:
        """Prove that an event is in the ledger of this size; 0 means the newest checkpoint's."""
        entry = await self._store.entry_of(self._database, tenant, event_id)
        if entry is None:
            raise NotFound("EVENT_NOT_FOUND", f"The ledger has no event {event_id}.", event_id=str(event_id))
        size = await self._proven_size(tenant, size, entry.index + 1)
        if entry.index >= size:
            raise FailedPrecondition(
                "EVENT_AFTER_TREE_SIZE",
                f"Event {event_id} is entry {entry.index}: a ledger of {size} entries does not have it yet.",
            )
        return Inclusion(entry, size, await self._path(tenant, merkle.inclusion_ranges(entry.index, size)))

    async def consistency(self, tenant: Tenant, first: int, second: int) -> Consistency:
        """Prove that the ledger of one size begins that of another; `second` 0 means the newest checkpoint's."""
        if 0 < second < first:
            raise InvalidArgument(
                "SIZES_REVERSED",
                f"A ledger of {first} entries cannot be the beginning of one of {second}.",
                violations=[Violation("first_size", "must be at most second_size")],
            )
        second = await self._proven_size(tenant, second, first)
        return Consistency(first, second, await self._path(tenant, merkle.consistency_ranges(first, second)))

    async def keys(self) -> list[LedgerPublicKey]:
        """The public keys, the one in use first."""
        others = [key for key in await self._store.keys(self._database) if key != self._signer.public]
        return [self._signer.public, *others]

    async def _proven_size(self, tenant: Tenant, asked: int, least: int) -> int:
        if asked == 0:
            return (await self.checkpoint(tenant, least)).head.size
        size = (await self._store.size(self._database, tenant)).size
        if asked > size:
            raise _too_short(size, asked)
        return asked

    async def _path(self, tenant: Tenant, ranges: Sequence[LeafRange]) -> tuple[Hash, ...]:
        wanted = [node for leaves in ranges for node in merkle.range_ids(leaves)]
        nodes = await self._store.nodes(self._database, tenant, wanted)
        try:
            return tuple(merkle.hash_of(leaves, nodes) for leaves in ranges)
        except KeyError as missing:
            raise _node_missing(tenant, missing) from None

    async def _frontier(self, rows: Rows, tenant: Tenant, size: int) -> list[Hash]:
        wanted = merkle.frontier_ids(size)
        nodes = await self._store.nodes(rows, tenant, wanted)
        try:
            return [nodes[node] for node in wanted]
        except KeyError as missing:
            raise _node_missing(tenant, missing) from None

    async def _root(self, rows: Rows, tenant: Tenant, size: int) -> Hash:
        return merkle.fold(await self._frontier(rows, tenant, size))

    # --- checking

    async def verify(self, tenant: Tenant) -> FoundDamage:
        """Compute the whole ledger again from its rows, as one moment shows them."""
        keys = await self.keys()
        async with self._database.transaction(isolation="repeatable_read") as tx:
            size = (await self._store.size(tx, tenant)).size
            check = LedgerCheck(tenant, size, keys)
            empty = await self._store.checkpoints_between(tx, tenant, -1, 0, 1)
            await asyncio.to_thread(check.add, [], {}, empty)
            start, signed_until = 0, 0
            while entries := await self._store.entries(tx, tenant, start, _NO_END, _CHUNK_ENTRIES):
                start, completed = entries[-1].index + 1, check.entries + len(entries)
                nodes = await self._store.nodes_between(tx, tenant, check.node_ranges(len(entries)))
                signed = await self._store.checkpoints_between(
                    tx, tenant, signed_until, completed, len(entries)
                )
                await asyncio.to_thread(check.add, entries, nodes, signed)
                signed_until = completed
            while later := await self._store.checkpoints_between(
                tx, tenant, signed_until, _NO_END, _CHUNK_ENTRIES
            ):
                await asyncio.to_thread(check.add_later, later)
                signed_until = later[-1].head.size
            return check.finish(await self._store.count_nodes(tx, tenant))


def _leaf(event: Received[Message]) -> LedgerLeaf:
    record = LedgerRecord(
        event_id=str(event.id),
        event_type=event.type,
        source=event.source,
        subject=event.resource,
        time=event.headers["ce-time"],
        tenant=event.tenant,
        project=event.project,
        data=event.body,
    ).SerializeToString(deterministic=True)
    return LedgerLeaf(event.id, record, merkle.leaf_hash(record), event.project, is_news(event.type))


def _signed_event(tenant: Tenant, signed: SignedHead) -> Event:
    return Event(
        CheckpointSigned(checkpoint=checkpoint_message(signed)),
        tenant=tenant,
        project="",
        resource=f"checkpoints/{signed.head.size}",
        revision=signed.head.size,
    )


def _chunks(entries: Sequence[Entry]) -> list[list[Entry]]:
    chunks: list[list[Entry]] = [[]]
    room = _CHUNK_BYTES
    for entry in entries:
        if chunks[-1] and len(entry.record) > room:
            chunks.append([])
            room = _CHUNK_BYTES
        chunks[-1].append(entry)
        room -= len(entry.record)
    return chunks


def _too_short(size: int, wanted: int) -> FailedPrecondition:
    return FailedPrecondition(
        "LEDGER_TOO_SHORT", f"The ledger has {size} entries, not {wanted}.", size=str(size)
    )


def _node_missing(tenant: str, missing: KeyError) -> DataLoss:
    return DataLoss("LEDGER_DAMAGED", f"The ledger of {tenant} has lost the node {missing}.")
