"""What was found: labels, their revisions, the annotations behind them, and files of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cairn.annotation.v1 import annotation_store_pb2 as store
from cairn_client.calls.room import Calls
from cairn_client.errors import CairnError, InputError, error_of_status
from cairn_client.names import item_name, project_name
from cairn_client.transport import new_request_id, worth_repeating

FORMATS = {"jsonl": store.EXPORT_FORMAT_JSONL, "csv": store.EXPORT_FORMAT_CSV}
_POLL = 0.2
_ENDED = (store.EXPORT_STATE_FINISHED, store.EXPORT_STATE_FAILED, store.EXPORT_STATE_CANCELLED)


class LabelCalls(Calls):
    """Calls about labels and annotations."""

    async def labels(
        self, project: str, *, source: store.LabelSource.ValueType = store.LABEL_SOURCE_UNSPECIFIED
    ) -> AsyncIterator[store.Label]:
        """The labels that stand, by item key and question; all pages, as one."""
        request = store.ListLabelsRequest(parent=project_name(project), page_size=1000, source=source)
        async for page in self._transport.pages(
            self._transport.store.ListLabels, request, lambda r: r.labels
        ):
            for label in page:
                yield label

    async def label(
        self, project: str, item: str, question: str, *, revision: int | None = None
    ) -> store.Label:
        """The label that stands for one question of one item, or one of its revisions. Raises NotFound."""
        at = "" if revision is None else f"@{revision}"
        request = store.GetLabelRequest(name=f"{item_name(project, item)}/labels/{question}{at}")
        return await self._transport.call(self._transport.store.GetLabel, request)

    async def label_revisions(self, project: str, item: str, question: str) -> AsyncIterator[store.Label]:
        """Every revision of a label, newest first."""
        name = f"{item_name(project, item)}/labels/{question}"
        request = store.ListLabelRevisionsRequest(name=name, page_size=1000)
        method = self._transport.store.ListLabelRevisions
        async for page in self._transport.pages(method, request, lambda r: r.labels):
            for label in page:
                yield label

    async def watch_labels(self, project: str) -> AsyncIterator[store.Label]:
        """The labels there are, then each revision as it is written, without end; goes on after a broken
        stream."""
        request = store.WatchLabelsRequest(parent=project_name(project))
        async for message in self._transport.following(self._transport.store.WatchLabels, lambda: request):
            request.resume_token = message.resume_token
            for label in message.labels:
                yield label

    async def annotations(self, project: str, item: str = "-") -> AsyncIterator[store.Annotation]:
        """What labelers answered, oldest first: to one item, or to all of a project."""
        parent = f"{project_name(project)}/items/-" if item == "-" else item_name(project, item)
        request = store.ListAnnotationsRequest(parent=parent, page_size=1000)
        method = self._transport.store.ListAnnotations
        async for page in self._transport.pages(method, request, lambda r: r.annotations):
            for annotation in page:
                yield annotation

    async def export(
        self,
        project: str,
        path: Path | str,
        *,
        format: str = "",
        include_annotations: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> store.Export:
        """Write a project's labels to a local file: `jsonl` or `csv`, by default what the file's name ends
        in.

        `progress` is told labels written and labels in all. The file appears whole or not at all.
        """
        target = Path(path)
        wanted = (format or target.suffix.lstrip(".")).lower()
        if wanted not in FORMATS:
            raise CairnError(
                f"Cairn exports {' and '.join(FORMATS)}, not {wanted or 'a file without a suffix'}."
            )
        if include_annotations and wanted == "csv":
            raise InputError("A CSV file has no place for annotations: export to jsonl, or leave them out.")
        request = store.CreateExportRequest(
            parent=project_name(project),
            format=FORMATS[wanted],
            include_annotations=include_annotations,
            request_id=new_request_id(),
        )
        export = await self._transport.call(self._transport.store.CreateExport, request)
        while export.state not in _ENDED:
            await asyncio.sleep(_POLL)
            name = store.GetExportRequest(name=export.name)
            export = await self._transport.call(self._transport.store.GetExport, name)
            if progress is not None:
                progress(export.exported_labels, export.total_labels)
        if export.state == store.EXPORT_STATE_FAILED:
            raise error_of_status(export.error)
        if export.state == store.EXPORT_STATE_CANCELLED:
            raise CairnError(f"The export {export.name} was cancelled.")
        await self._download(export, target)
        return export

    async def _download(self, export: store.Export, target: Path) -> None:
        unfinished = target.with_name(target.name + ".part")
        tries = 0
        with unfinished.open("wb") as file:
            while True:
                request = store.DownloadExportRequest(name=export.name, offset=file.tell())
                try:
                    async for part in self._transport.receive(self._transport.store.DownloadExport, request):
                        file.write(part.chunk)
                    break
                except CairnError as error:
                    tries += 1
                    if not worth_repeating(error) or tries > 20:
                        raise
                    await asyncio.sleep(self._transport.patience.delay(tries, error.problem.retry_after))
        unfinished.replace(target)
