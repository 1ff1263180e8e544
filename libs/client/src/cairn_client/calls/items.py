"""Items: imported in resumable streams, uploaded with their files, listed and read."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn.label.v1.label_schema_pb2 import LabelSchema
from cairn.label.v1.label_value_pb2 import BlobRef
from cairn_client.answers import answers_of
from cairn_client.calls.room import Calls
from cairn_client.errors import CairnError, NotFound, OutOfRange, Problem, problem_of_status
from cairn_client.names import item_id, item_key, item_name, project_name
from cairn_client.new_items import ItemLike, NewItem, media_type_of, new_item, records_of
from cairn_client.transport import worth_repeating

_CHUNK_ITEMS = 500
_CHUNK_BYTES = 1024 * 1024
_CHUNKS_A_CALL = 16
"""What is kept in memory until the server has said that it has it: at most about 16 MiB."""
_BLOB_CHUNK = 512 * 1024
_UPLOADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item that was refused: its place among the items given, from 0, and why."""

    place: int
    key: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of an import. `failures` has the first of `failed` that the server refused, 1,000 at most, and all
    that could not even be sent."""

    name: str
    created: int
    unchanged: int
    failed: int
    failures: tuple[ItemFailure, ...] = ()


@dataclass
class _Sending:
    """An import under way: what was handed over, and what could not be."""

    project: str
    import_id: str
    sent: int = 0
    unsendable: list[ItemFailure] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.project}/imports/{self.import_id}"

    def place_of(self, offset: int) -> int:
        """The place among the given items of the one at `offset` of the stream, which lacks the
        unsendable."""
        place = offset
        for unsendable in sorted(failure.place for failure in self.unsendable):
            if unsendable > place:
                break
            place += 1
        return place


class ItemCalls(Calls):
    """Calls about items and their files."""

    async def import_items(
        self,
        project: str,
        items: Iterable[ItemLike] | AsyncIterable[ItemLike] | object,
        *,
        progress: Callable[[int], None] | None = None,
        import_id: str | None = None,
    ) -> ImportResult:
        """Write items: NewItem, dicts, (key, text) pairs, `{key: text}`, a DataFrame or an Arrow table.

        Files (`path`) are uploaded on the way. A broken stream is taken up where the server stopped. Items
        that are
        refused are in the result, the others are written. `progress` is told how many are written so far.
        The same
        `import_id` again goes on with an import; importing the same items again changes nothing.
        """
        sending = _Sending(project_name(project), import_id or f"import-{uuid.uuid4().hex}")
        held: list[store.ImportChunk] = []
        result = store.Import()
        async for chunk in self._chunks(sending, items):
            held.append(chunk)
            if chunk.last or len(held) >= _CHUNKS_A_CALL:
                result = await self._hand_over(sending, held)
                held = []
                if progress is not None:
                    progress(result.next_offset + len(sending.unsendable))
        refused = [
            ItemFailure(sending.place_of(f.offset), item_key(f.key), problem_of_status(f.error))
            for f in result.failures
        ]
        return ImportResult(
            name=sending.name,
            created=result.created_items,
            unchanged=result.unchanged_items,
            failed=result.failed_items + len(sending.unsendable),
            failures=tuple(sorted([*sending.unsendable, *refused], key=lambda f: f.place)),
        )

    async def _chunks(self, sending: _Sending, items: object) -> AsyncIterator[store.ImportChunk]:
        """The items in chunks, at most so many and so large; the last one says so, and may be empty."""
        schema: LabelSchema | None = None
        records: list[tuple[int, NewItem | store.Item]] = []
        size = 0
        async for place, record in _numbered(items):
            try:
                one = new_item(record)
            except CairnError as error:
                sending.unsendable.append(ItemFailure(place, "", error.problem))
                continue
            if isinstance(one, NewItem) and one.gold and schema is None:
                schema = await self._schema(sending.project)
            records.append((place, one))
            size += len(one.text or "") if isinstance(one, NewItem) else one.ByteSize()
            if len(records) >= _CHUNK_ITEMS or size >= _CHUNK_BYTES:
                yield await self._chunk(sending, records, schema)
                records, size = [], 0
        last = await self._chunk(sending, records, schema)
        last.last = True
        yield last

    async def _schema(self, project: str) -> LabelSchema:
        found = await self._transport.call(
            self._transport.store.GetProject, store.GetProjectRequest(name=project)
        )
        return found.schema

    async def _chunk(
        self,
        sending: _Sending,
        records: list[tuple[int, NewItem | store.Item]],
        schema: LabelSchema | None,
    ) -> store.ImportChunk:
        """The records as a chunk, their files uploaded."""
        slots = asyncio.Semaphore(_UPLOADS_AT_ONCE)

        async def ready(place: int, one: NewItem | store.Item) -> store.Item | ItemFailure:
            try:
                if isinstance(one, store.Item):
                    return one
                message = _message(one, schema)
                if one.has_blob:
                    async with slots:
                        data, media_type = one.content()
                        message.blob.CopyFrom(await self.upload(sending.project, data, media_type=media_type))
                return message
            except CairnError as error:
                if worth_repeating(error):
                    raise  # the service is away: that is no fault of the item
                return ItemFailure(place, one.key, error.problem)
            except UnicodeEncodeError:
                problem = Problem("INVALID_ARGUMENT", "TEXT_NOT_UTF8", "The text is not valid Unicode.", {})
                return ItemFailure(place, one.key, problem)

        made = await asyncio.gather(*(ready(place, one) for place, one in records))
        items = [one for one in made if isinstance(one, store.Item)]
        sending.unsendable += [one for one in made if isinstance(one, ItemFailure)]
        chunk = store.ImportChunk(offset=sending.sent, items=items)
        sending.sent += len(items)
        return chunk

    async def _hand_over(self, sending: _Sending, chunks: list[store.ImportChunk]) -> store.Import:
        """Send chunks in one stream; after a break, ask how far the server came and send the rest."""
        header = store.ImportHeader(parent=sending.project, import_id=sending.import_id)
        remaining = chunks
        first_try = True

        async def attempt(seconds: float) -> store.Import:
            nonlocal remaining, first_try
            if not first_try:
                remaining = _from_offset(chunks, await self._next_offset(sending))
            first_try = False

            async def messages() -> AsyncIterator[store.ImportItemsRequest]:
                yield store.ImportItemsRequest(header=header)
                for chunk in remaining:
                    yield store.ImportItemsRequest(chunk=chunk)

            method = self._transport.store.ImportItems
            return await method(messages(), timeout=seconds, metadata=self._transport.metadata())

        for again in range(3):
            try:
                return await self._transport.repeating(attempt, timeout=600.0, attempt_timeout=300.0)
            except OutOfRange:
                # A try whose answer was lost had gone further than we knew: ask, and go on from there.
                if again == 2:
                    raise
        raise AssertionError("unreachable")

    async def _next_offset(self, sending: _Sending) -> int:
        try:
            found = await self._transport.call(
                self._transport.store.GetImport, store.GetImportRequest(name=sending.name)
            )
        except NotFound:
            return 0
        return found.next_offset

    async def upload(self, project: str, content: bytes | str | Path, *, media_type: str = "") -> BlobRef:
        """Store bytes or a file, named by their content; the same content again is stored once."""
        if isinstance(content, bytes):
            data, kind = content, media_type or "application/octet-stream"
        else:
            path = Path(content)
            data, kind = NewItem("", path=path).content()
            kind = media_type or media_type_of(path)
        header = store.BlobHeader(
            parent=project_name(project), media_type=kind, expected_sha256=hashlib.sha256(data).hexdigest()
        )

        async def messages() -> AsyncIterator[store.UploadBlobRequest]:
            yield store.UploadBlobRequest(header=header)
            for start in range(0, len(data), _BLOB_CHUNK):
                yield store.UploadBlobRequest(chunk=data[start : start + _BLOB_CHUNK])

        blob = await self._transport.send(self._transport.store.UploadBlob, messages)
        return blob.ref

    async def download(self, project: str, blob: BlobRef | str, *, lease_token: str = "") -> bytes:
        """The bytes of a blob; `lease_token` for those who may see only what they leased."""
        sha256 = blob if isinstance(blob, str) else blob.sha256
        request = store.DownloadBlobRequest(
            name=f"{project_name(project)}/blobs/{sha256}", lease_token=lease_token
        )
        parts = [p.chunk async for p in self._transport.receive(self._transport.store.DownloadBlob, request)]
        return b"".join(parts)

    async def item(self, project: str, key: str) -> store.Item:
        """One item. Raises NotFound."""
        request = store.GetItemRequest(name=item_name(project, key))
        return await self._transport.call(self._transport.store.GetItem, request)

    async def items(self, project: str) -> AsyncIterator[store.Item]:
        """All items of a project, by key. `cairn_client.item_key(item.name)` is the key as it was given."""
        request = store.ListItemsRequest(parent=project_name(project), page_size=1000)
        async for page in self._transport.pages(self._transport.store.ListItems, request, lambda r: r.items):
            for item in page:
                yield item


def _message(one: NewItem, schema: LabelSchema | None) -> store.Item:
    message = store.Item(key=item_id(one.key), metadata=one.metadata, priority=one.priority)
    if one.text is not None:
        message.text = one.text
    for ident, text in one.candidates.items():
        message.candidates.add(id=ident, text=text)
    if one.gold and schema is not None:
        message.gold_answers.extend(answers_of(schema, one.gold))
    return message


def _from_offset(chunks: list[store.ImportChunk], offset: int) -> list[store.ImportChunk]:
    """The chunks that lie at or after `offset`, the one it falls into cut. The last is never dropped."""
    rest = []
    for chunk in chunks:
        skip = max(0, offset - chunk.offset)
        if skip < len(chunk.items) or chunk.last:
            items = chunk.items[skip:]
            rest.append(
                store.ImportChunk(
                    offset=chunk.offset + min(skip, len(chunk.items)), items=items, last=chunk.last
                )
            )
    return rest


async def _numbered(items: object) -> AsyncIterator[tuple[int, ItemLike]]:
    if isinstance(items, AsyncIterable):
        place = 0
        async for record in items:
            yield place, record
            place += 1
    else:
        for place, record in enumerate(records_of(items)):
            yield place, record
