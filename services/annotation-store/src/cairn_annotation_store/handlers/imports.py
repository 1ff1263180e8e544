"""Imports: a stream of chunks, each one transaction, resumable from `next_offset`, idempotent by item key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from google.rpc import status_pb2
from opentelemetry.context import get_current

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.items import (
    BlobFacts,
    blob_text_length,
    blobs_of,
    check_item,
    digest,
    normalised,
)
from cairn_annotation_store.domain.labels import NO_EVENT, LabelKey, Proposal, Rank, Source
from cairn_annotation_store.domain.names import ItemKey, ProjectId, QuestionId, Tenant, child_id, project_id
from cairn_annotation_store.handlers.found import active, found, parsed
from cairn_annotation_store.handlers.labeling import Caused, LabelHandlers
from cairn_annotation_store.lenient import broken_texts
from cairn_annotation_store.store import ImportRow, ItemStore, NewItem, ProjectRow, ProjectStore
from cairn_annotation_store.wire import import_message, item_message
from cairn_kit.auth import Caller
from cairn_kit.database import Database, Transaction
from cairn_kit.errors import (
    AlreadyExists,
    CairnError,
    FailedPrecondition,
    InvalidArgument,
    OutOfRange,
    Violation,
    to_status,
)
from cairn_kit.events import Event, announce

_EVENT_BYTES = 200 * 1024
"""Items gathered into one event: well under its 256 KiB, with room for one item's name and time."""

_FAILURES_KEPT = 1000
_BREATHER = 200
"""Items checked before other calls get a turn on the event loop."""


@dataclass(slots=True)
class _Taken:
    """What became of one chunk's items."""

    fresh: dict[str, NewItem] = field(default_factory=dict)
    """New by all that is known before writing, by key, in the chunk's order."""
    offsets: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    failures: list[pb.ImportFailure] = field(default_factory=list)

    def refuse(self, offset: int, key: str, error: CairnError) -> None:
        """Note that an item is refused alone."""
        self.failures.append(pb.ImportFailure(offset=offset, key=key[:256], error=_status(error)))


class ImportHandlers:
    """Takes items in."""

    def __init__(
        self, database: Database, projects: ProjectStore, items: ItemStore, labels: LabelHandlers
    ) -> None:
        self._database = database
        self._projects = projects
        self._items = items
        self._labels = labels

    async def take_in(self, who: Caller, requests: AsyncIterator[pb.ImportItemsRequest]) -> pb.Import:
        """A whole stream: a header, then chunks. What was taken in stays when the stream breaks."""
        header = await _header(requests)
        project = parsed(project_id, header.parent, "header.parent")
        async with self._database.transaction() as tx:
            there = await self._projects.in_use(tx, [(who.tenant, project)])
            active(there.get((who.tenant, project)), header.parent)
            await self._items.open_import(tx, who.tenant, project, header.import_id)
        async for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise InvalidArgument("HEADER_REPEATED", "A header comes once, first; after it come chunks.")
            await self._take_chunk(who.tenant, project, header.import_id, request.chunk)
        return await self.get(who, f"{header.parent}/imports/{header.import_id}")

    async def get(self, who: Caller, name: str) -> pb.Import:
        """An import, with its progress and the first items it refused."""
        project, import_id = parsed(lambda text: child_id(text, "imports"), name, "name")
        row = found(
            await self._items.get_import(self._database, who.tenant, project, import_id), "import", name
        )
        return await self._message(self._database, who.tenant, row)

    async def _take_chunk(self, tenant: str, project: str, import_id: str, chunk: pb.ImportChunk) -> None:
        async def work(tx: Transaction) -> None:
            there = await self._projects.in_use(tx, [(tenant, project)])
            row = active(there.get((tenant, project)), f"projects/{project}")
            name = f"projects/{project}/imports/{import_id}"
            progress = found(
                await self._items.import_to_change(tx, tenant, project, import_id), "import", name
            )
            items = _not_taken_in(progress, chunk, name)
            if items or (chunk.last and not progress.finished):
                await self._write(tx, row, progress, items, last=chunk.last)

        # Imports that run side by side may meet in the same keys; the database picks one to go first.
        await self._database.retrying(work)

    async def _write(
        self,
        tx: Transaction,
        project: ProjectRow,
        progress: ImportRow,
        items: Sequence[pb.Item],
        *,
        last: bool,
    ) -> None:
        tenant, import_id = project.tenant, progress.import_id
        wanted = {ref.sha256 for item in items for ref in blobs_of(item)}
        blobs = await self._items.blobs(tx, tenant, project.project, wanted)
        taken = await _examine(items, progress.next_offset, project, blobs)
        written = await self._insert(tx, project, taken)
        row = await self._items.advance_import(
            tx,
            tenant,
            project.project,
            import_id,
            created=len(written),
            unchanged=taken.unchanged,
            failed=len(taken.failures),
            last=last,
        )
        room = max(0, _FAILURES_KEPT - progress.failed)
        if taken.failures[:room]:
            first = sorted(taken.failures, key=lambda failure: failure.offset)[:room]
            await self._items.add_failures(tx, tenant, project.project, import_id, first)
        await self._announce(
            tx, project, row, [taken.fresh[key] for key in taken.fresh if key in written], written
        )
        if row.finished and not progress.finished:
            message = events_pb.ImportFinished()
            getattr(message, "import").CopyFrom(
                import_message(row, ())
            )  # the failures may be larger than an event
            announce(tx, _event(tenant, row, message))

    async def _insert(self, tx: Transaction, project: ProjectRow, taken: _Taken) -> dict[str, datetime]:
        """Write what is new; what turns out to be there already is compared."""
        if not taken.fresh:
            return {}
        written = await self._items.insert(tx, project.tenant, project.project, list(taken.fresh.values()))
        known = [key for key in taken.fresh if key not in written]
        there = await self._items.get(tx, project.tenant, project.project, known) if known else {}
        for key in known:
            item = taken.fresh[key]
            if there[key].digest == item.digest or there[key].body == item.body:
                taken.unchanged += 1
            else:
                taken.refuse(taken.offsets[key], key, _conflict(project.project, key))
        return written

    async def _announce(
        self,
        tx: Transaction,
        project: ProjectRow,
        row: ImportRow,
        created: Sequence[NewItem],
        moments: Mapping[str, datetime],
    ) -> None:
        name = f"projects/{project.project}/imports/{row.import_id}"
        batch = events_pb.ItemsImported()
        size = 0
        for item in created:
            message = item_message(project.project, item.body, moments[item.body.key], with_gold=True)
            if size and size + message.ByteSize() > _EVENT_BYTES:
                announce(tx, _event(project.tenant, row, batch))
                batch, size = events_pb.ItemsImported(), 0
            if not size:
                batch.project = f"projects/{project.project}"
                setattr(batch, "import", name)
            batch.items.append(message)
            size += message.ByteSize() + 8
        if size:
            announce(tx, _event(project.tenant, row, batch))
        await self._write_gold(tx, project, name, created)
        self._labels.ring_after(tx, {(project.tenant, project.project)})

    async def _write_gold(
        self, tx: Transaction, project: ProjectRow, name: str, created: Sequence[NewItem]
    ) -> None:
        provenance = pb.Provenance(schema_version=project.schema_version, gold=pb.GoldProvenance())
        setattr(provenance.gold, "import", name)
        trace = get_current()
        proposals = [
            Caused(
                Proposal(
                    LabelKey(
                        Tenant(project.tenant),
                        ProjectId(project.project),
                        ItemKey(item.body.key),
                        QuestionId(answer.question),
                    ),
                    Rank(Source.GOLD, 0, NO_EVENT),
                    answer,
                    1.0,
                    provenance,
                ),
                trace,
            )
            for item in created
            for answer in item.body.gold_answers
        ]
        await self._labels.write(tx, proposals)

    async def _message(self, reader: Database, tenant: str, row: ImportRow) -> pb.Import:
        failures = await self._items.failures(reader, tenant, row.project, row.import_id, _FAILURES_KEPT)
        return import_message(row, failures)


async def _header(requests: AsyncIterator[pb.ImportItemsRequest]) -> pb.ImportHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise InvalidArgument("HEADER_MISSING", "The first message of an import must be its header.")


def _not_taken_in(progress: ImportRow, chunk: pb.ImportChunk, name: str) -> Sequence[pb.Item]:
    """Those of the chunk's items that come next; what overlaps with what was taken in is skipped."""
    overlap = progress.next_offset - chunk.offset
    if overlap < 0:
        raise OutOfRange(
            "CHUNK_OUT_OF_ORDER",
            f"The chunk begins at {chunk.offset}, and {name} goes on at {progress.next_offset}.",
            next_offset=str(progress.next_offset),
        )
    items = chunk.items[overlap:]
    if items and progress.finished:
        raise FailedPrecondition(
            "IMPORT_FINISHED", f"{name} was finished; take another import id for more items.", resource=name
        )
    return items


async def _examine(
    items: Sequence[pb.Item], offset: int, project: ProjectRow, blobs: Mapping[str, BlobFacts]
) -> _Taken:
    """Sort a chunk's items into new ones and refused ones, and those that come twice in the chunk."""
    taken = _Taken()
    for i, given in enumerate(items):
        item = normalised(given, blobs)
        error = _unkeepable(given) or check_item(item, project.rules, blobs)
        if error is not None:
            taken.refuse(offset + i, given.key, error)
            continue
        earlier = taken.fresh.get(item.key)
        if earlier is None:
            taken.fresh[item.key] = NewItem(item, digest(item), blob_text_length(item, blobs))
            taken.offsets[item.key] = offset + i
        elif earlier.body == item:
            taken.unchanged += 1
        else:
            taken.refuse(offset + i, item.key, _conflict(project.project, item.key))
        if i % _BREATHER == _BREATHER - 1:
            await asyncio.sleep(0)
    return taken


def _unkeepable(item: pb.Item) -> CairnError | None:
    violations = [Violation(path, fault.value) for path, fault in broken_texts(item)]
    if not violations:
        return None
    first = violations[0]
    return InvalidArgument(
        "ITEM_INVALID", f"The item is refused: {first.field}: {first.description}", violations=violations
    )


def _conflict(project: str, key: str) -> AlreadyExists:
    name = f"projects/{project}/items/{key}"
    return AlreadyExists("ITEM_CONFLICT", f"{name} exists with other content.", resource=name)


def _status(error: CairnError) -> status_pb2.Status:
    return to_status(error)


def _event(tenant: str, row: ImportRow, message: events_pb.ItemsImported | events_pb.ImportFinished) -> Event:
    return Event(
        message,
        tenant=tenant,
        project=row.project,
        resource=f"projects/{row.project}/imports/{row.import_id}",
        revision=row.next_offset,
    )
