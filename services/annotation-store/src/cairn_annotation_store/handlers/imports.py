"""Imports: a stream of chunks, each one transaction, resumable from `next_offset`, idempotent by item key.

While a chunk is written the next one is examined, so that neither PostgreSQL nor this process waits for the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from opentelemetry.context import get_current

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn_annotation_store.domain.intake import Intake, Refusal
from cairn_annotation_store.domain.items import NewItem, blobs_of, new_item
from cairn_annotation_store.domain.labels import NO_EVENT, LabelKey, Proposal, Rank, Source
from cairn_annotation_store.domain.names import ItemKey, ProjectId, QuestionId, Tenant, child_id, project_id
from cairn_annotation_store.domain.violations import shortened
from cairn_annotation_store.handlers.found import active, found, parsed
from cairn_annotation_store.handlers.labeling import Caused, LabelHandlers
from cairn_annotation_store.lenient import broken_texts
from cairn_annotation_store.store import ImportRow, ImportStore, ItemStore, ProjectRow, ProjectStore
from cairn_annotation_store.wire import import_message, items_imported
from cairn_kit.auth import Caller
from cairn_kit.database import Database, Transaction
from cairn_kit.database.transaction import to_the_end
from cairn_kit.errors import FailedPrecondition, InvalidArgument, OutOfRange, to_status
from cairn_kit.events import Event, announce
from cairn_kit.rpc import once, page_of, page_size, read_page_token, write_page_token

T = TypeVar("T")
_FAILURES_KEPT = 1000
_VIOLATIONS_KEPT = 10
"""Of one refused item: who repairs it sees what is wrong, and a thousand of them are some MiB."""

_BREATHER = 200
"""Items examined before other calls get a turn on the event loop: some milliseconds."""

_NEWEST = (datetime.max.replace(tzinfo=UTC), "")


@dataclass(slots=True)
class _Stream:
    """An import's stream: what it goes on with, as far as is known before its next chunk is written."""

    project: ProjectRow
    import_id: str
    reached: int = 0
    """Up to here items were taken in, or are about to be."""

    @property
    def name(self) -> str:
        return f"projects/{self.project.project}/imports/{self.import_id}"


@dataclass(frozen=True, slots=True)
class _Examined:
    """A chunk of the stream, and what of it is to be taken in."""

    request: pb.ImportItemsRequest
    intake: Intake


class ImportHandlers:
    """Takes items in."""

    def __init__(
        self,
        database: Database,
        projects: ProjectStore,
        imports: ImportStore,
        items: ItemStore,
        labels: LabelHandlers,
    ) -> None:
        self._database = database
        self._projects = projects
        self._imports = imports
        self._items = items
        self._labels = labels

    # --- commands

    async def take_in(self, who: Caller, requests: AsyncIterator[pb.ImportItemsRequest]) -> pb.Import:
        """A whole stream: a header, then chunks.

        What was taken in stays when the stream breaks, and what has come whole is still taken in: a line that always
        breaks before a chunk is written would else bring an import no further.
        """
        header = await _header(requests)
        stream = await self._opened(who.tenant, header)
        examined: asyncio.Queue[_Examined | None] = asyncio.Queue(maxsize=1)
        writing = asyncio.create_task(self._write_all(stream, examined))
        try:
            while (request := await _unless_over(writing, anext(requests, None))) is not None:
                if request.WhichOneof("part") != "chunk":
                    raise InvalidArgument(
                        "HEADER_REPEATED", "A header comes once, first; after it come chunks."
                    )
                intake = await self._examine_next(stream, request)
                await _unless_over(writing, examined.put(_Examined(request, intake)))
        finally:
            await to_the_end(_written(examined, writing))
        return await self.get(who, stream.name)

    async def cancel(self, who: Caller, request: pb.CancelImportRequest) -> pb.Import:
        """End an import that has not ended; one that is cancelled stays as it is. Waits for the chunk being written."""
        project, import_id = _ids(request.name)

        async def effect() -> pb.Import:
            row = found(
                await self._imports.get_to_change(tx, who.tenant, project, import_id), "import", request.name
            )
            found(await self._projects.get(tx, who.tenant, project), "project", f"projects/{project}")
            if row.finished and not row.cancelled:
                raise _finished(request.name)
            if not row.cancelled:
                row = await self._imports.cancel(tx, who.tenant, row)
                announce(tx, _event(who.tenant, row, _ended(events_pb.ImportCancelled(), row)))
            return import_message(row, ())

        async with self._database.transaction() as tx:
            return await once(tx, who.tenant, request, pb.Import, effect)

    # --- questions

    async def get(self, who: Caller, name: str) -> pb.Import:
        """An import, with its progress and the first items it refused."""
        project, import_id = _ids(name)
        row = found(await self._imports.get(self._database, who.tenant, project, import_id), "import", name)
        failures = await self._imports.failures(
            self._database, who.tenant, project, import_id, _FAILURES_KEPT
        )
        found(await self._projects.get(self._database, who.tenant, project), "project", f"projects/{project}")
        return import_message(row, page_of(failures, _FAILURES_KEPT))

    async def list(self, who: Caller, request: pb.ListImportsRequest) -> pb.ListImportsResponse:
        """A page of a project's imports, newest first, without what they refused."""
        project = parsed(project_id, request.parent, "parent")
        found(await self._projects.get(self._database, who.tenant, project), "project", request.parent)
        size = page_size(request.page_size, default=50)
        token = read_page_token(request)
        before = _NEWEST if token is None else (datetime.fromisoformat(token[0]), token[1])
        rows = await self._imports.list_before(self._database, who.tenant, project, before, size + 1)
        imports = page_of((import_message(row, ()) for row in rows), size)
        last = rows[len(imports) - 1] if len(imports) < len(rows) else None
        return pb.ListImportsResponse(
            imports=imports,
            next_page_token=write_page_token(request, last.created_at.isoformat(), last.import_id)
            if last
            else "",
        )

    # --- a stream

    async def _opened(self, tenant: str, header: pb.ImportHeader) -> _Stream:
        project = parsed(project_id, header.parent, "header.parent")
        async with self._database.transaction() as tx:
            there = await self._projects.in_use(tx, [(tenant, project)])
            stream = _Stream(active(there.get((tenant, project)), header.parent), header.import_id)
            await self._imports.open(tx, tenant, project, header.import_id)
            row = found(await self._imports.get(tx, tenant, project, header.import_id), "import", stream.name)
        stream.reached = row.next_offset
        return stream

    async def _examine_next(self, stream: _Stream, request: pb.ImportItemsRequest) -> Intake:
        """Examine what of a chunk has not come before, and count on its being written."""
        begins = max(stream.reached, request.chunk.offset)
        intake = await self._examine(stream.project, request, begins)
        stream.reached = max(stream.reached, intake.ends)
        return intake

    async def _examine(self, project: ProjectRow, request: pb.ImportItemsRequest, begins: int) -> Intake:
        """Sort the items of a chunk from the offset `begins` on."""
        first = begins - request.chunk.offset
        items, faults = request.chunk.items[first:], broken_texts(request)
        wanted = {ref.sha256 for item in items for ref in blobs_of(item)}
        blobs = await self._items.blobs(self._database, project.tenant, project.project, wanted)
        intake = Intake(project.project, project.schema_version, project.rules, blobs, begins)
        for place, item in enumerate(items, first):
            intake.take(item, faults.get(place, ()))
            if place % _BREATHER == _BREATHER - 1:
                await asyncio.sleep(0)
        return intake

    async def _write_all(self, stream: _Stream, examined: asyncio.Queue[_Examined | None]) -> None:
        while (chunk := await examined.get()) is not None:
            await self._write_chunk(stream, chunk)

    async def _write_chunk(self, stream: _Stream, chunk: _Examined) -> None:
        tenant, project = stream.project.tenant, stream.project.project

        async def work(tx: Transaction) -> None:
            there = await self._projects.in_use(tx, [(tenant, project)])
            row = stream.project = active(there.get((tenant, project)), f"projects/{project}")
            progress = found(
                await self._imports.get_to_change(tx, tenant, project, stream.import_id),
                "import",
                stream.name,
            )
            begins = _goes_on_at(progress, chunk.request.chunk, stream.name)
            intake = chunk.intake
            if (intake.begins, intake.schema_version) != (begins, row.schema_version):
                # The schema changed meanwhile, or another stream of the same import took some of the items in.
                intake = await self._examine(row, chunk.request, begins)
            last = chunk.request.chunk.last
            if intake.ends > begins or (last and not progress.finished):
                await self._write(tx, row, progress, intake, last=last)

        # Imports that run side by side may meet in the same keys; the database picks one to go first.
        await self._database.retrying(work)

    async def _write(
        self, tx: Transaction, project: ProjectRow, progress: ImportRow, intake: Intake, *, last: bool
    ) -> None:
        """Write what is new; what turns out to be there already is compared."""
        tenant, import_id = project.tenant, progress.import_id
        fresh = intake.fresh
        known = await self._insert(tx, project, fresh)
        same, conflicts = intake.meets(known)
        refused = [*intake.refused, *conflicts]
        row = await self._imports.advance(
            tx,
            tenant,
            project.project,
            import_id,
            created=len(fresh) - len(known),
            unchanged=intake.unchanged + same,
            failed=len(refused),
            last=last,
        )
        if failures := _kept(refused, progress.failed):
            await self._imports.add_failures(tx, tenant, project.project, import_id, failures)
        created = [item for key, item in fresh.items() if key not in known] if known else fresh.values()
        name = f"projects/{project.project}/imports/{import_id}"
        for event in items_imported(project.project, name, created, row.updated_at):
            announce(tx, _event(tenant, row, event))
        await self._write_gold(tx, project, name, created)
        self._labels.ring_after(tx, {(tenant, project.project)})
        if row.finished and not progress.finished:
            announce(tx, _event(tenant, row, _ended(events_pb.ImportFinished(), row)))

    async def _insert(
        self, tx: Transaction, project: ProjectRow, fresh: dict[str, NewItem]
    ) -> dict[str, NewItem]:
        """Write items; those that were there before, as they are kept."""
        if not fresh:
            return {}
        known = await self._items.insert(tx, project.tenant, project.project, fresh.values())
        there = await self._items.get(tx, project.tenant, project.project, known) if known else {}
        return {key: new_item(row.body, {}) for key, row in there.items()}

    async def _write_gold(
        self, tx: Transaction, project: ProjectRow, name: str, created: Collection[NewItem]
    ) -> None:
        gold = [item for item in created if item.is_gold]
        if not gold:
            return
        provenance = pb.Provenance(schema_version=project.schema_version, gold=pb.GoldProvenance())
        setattr(provenance.gold, "import", name)
        trace = get_current()
        proposals = [
            Caused(
                Proposal(
                    LabelKey(
                        Tenant(project.tenant),
                        ProjectId(project.project),
                        ItemKey(item.key),
                        QuestionId(answer.question),
                    ),
                    Rank(Source.GOLD, 0, NO_EVENT),
                    answer,
                    1.0,
                    provenance,
                ),
                trace,
            )
            for item in gold
            for answer in item.body.gold_answers
        ]
        await self._labels.write(tx, proposals)


async def _header(requests: AsyncIterator[pb.ImportItemsRequest]) -> pb.ImportHeader:
    async for request in requests:
        if request.WhichOneof("part") == "header":
            return request.header
        break
    raise InvalidArgument("HEADER_MISSING", "The first message of an import must be its header.")


async def _unless_over(writing: asyncio.Task[None], step: Awaitable[T]) -> T:
    """Wait for a step. Raises what the writing raised, as soon as it does."""
    waiting = asyncio.ensure_future(step)
    try:
        await asyncio.wait({waiting, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
        return await waiting
    finally:
        waiting.cancel()


async def _written(examined: asyncio.Queue[_Examined | None], writing: asyncio.Task[None]) -> None:
    """Wait until all that was examined is written. Raises what the writing raised."""
    await _unless_over(writing, examined.put(None))
    await writing


def _goes_on_at(progress: ImportRow, chunk: pb.ImportChunk, name: str) -> int:
    """The offset of the chunk's first item to be taken in; what overlaps with what was taken in is skipped."""
    if progress.cancelled:
        raise FailedPrecondition("IMPORT_CANCELLED", f"{name} was cancelled.", resource=name)
    if chunk.offset > progress.next_offset:
        raise OutOfRange(
            "CHUNK_OUT_OF_ORDER",
            f"The chunk begins at {chunk.offset}, and {name} goes on at {progress.next_offset}.",
            next_offset=str(progress.next_offset),
        )
    if progress.finished and chunk.offset + len(chunk.items) > progress.next_offset:
        raise _finished(name)
    return progress.next_offset


def _finished(name: str) -> FailedPrecondition:
    return FailedPrecondition(
        "IMPORT_FINISHED", f"{name} was finished; take another import id for more items.", resource=name
    )


def _kept(refused: Sequence[Refusal], earlier: int) -> list[pb.ImportFailure]:
    """What is kept of refusals, when so many came earlier."""
    first = sorted(refused, key=lambda one: one.offset)[: max(0, _FAILURES_KEPT - earlier)]
    return [
        pb.ImportFailure(
            offset=one.offset, key=one.key[:256], error=to_status(shortened(one.error, _VIOLATIONS_KEPT))
        )
        for one in first
    ]


def _ids(name: str) -> tuple[str, str]:
    return parsed(lambda text: child_id(text, "imports"), name, "name")


def _ended(
    message: events_pb.ImportFinished | events_pb.ImportCancelled, row: ImportRow
) -> events_pb.ImportFinished | events_pb.ImportCancelled:
    """What is announced when an import ends: without its failures, which may be larger than an event."""
    getattr(message, "import").CopyFrom(import_message(row, ()))
    return message


def _event(
    tenant: str,
    row: ImportRow,
    message: events_pb.ItemsImported | events_pb.ImportFinished | events_pb.ImportCancelled,
) -> Event:
    return Event(
        message,
        tenant=tenant,
        project=row.project,
        resource=f"projects/{row.project}/imports/{row.import_id}",
        revision=row.next_offset,
    )
