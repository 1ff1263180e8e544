"""Rows as the messages of the API, which calls answer with and events carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from google.rpc import status_pb2

from cairn.annotation.v1 import annotation_store_pb2 as pb
from cairn.events.v1 import annotation_store_events_pb2 as events_pb
from cairn.label.v1 import label_value_pb2 as value_pb
from cairn_annotation_store.domain.items import NewItem
from cairn_annotation_store.domain.labels import LabelRevision
from cairn_annotation_store.store import AnnotationRow, Deletion, ExportRow, ImportRow, Progress, ProjectRow
from cairn_kit.errors import CairnError, to_status
from cairn_kit.times import timestamp

EXPORT_MEDIA_TYPES = {
    pb.EXPORT_FORMAT_JSONL: "application/x-ndjson",
    pb.EXPORT_FORMAT_CSV: "text/csv",
}

_EVENT_BYTES = 200 * 1024
"""Items gathered into one event: well under its 256 KiB, with room for what else it says."""

_ITEM_FRAMING = 16
"""Tags and lengths of an item, its name and its time."""


def etag(revision: int) -> str:
    """Changes with each revision, and with nothing else."""
    return f'"{revision:x}"'


def project_message(row: ProjectRow, deletion: Deletion | None = None) -> pb.Project:
    """A project, whole."""
    message = pb.Project()
    message.CopyFrom(row.body)
    message.name = f"projects/{row.project}"
    message.schema_version = row.schema_version
    message.state = pb.PROJECT_STATE_ARCHIVED if row.archived else pb.PROJECT_STATE_ACTIVE
    message.etag = etag(row.revision)
    message.revision = row.revision
    message.create_time.CopyFrom(timestamp(row.created_at))
    message.update_time.CopyFrom(timestamp(row.updated_at))
    if deletion is not None:
        message.state = pb.PROJECT_STATE_DELETING
        message.deletion.CopyFrom(
            pb.ProjectDeletion(
                request_time=timestamp(deletion.requested_at),
                deleted_rows=deletion.deleted,
                total_rows=deletion.total,
            )
        )
    return message


def progress_message(project: str, counts: Progress) -> pb.ProjectProgress:
    """A project's counts."""
    return pb.ProjectProgress(
        project=f"projects/{project}",
        items=counts.items,
        labeled_items=counts.auto_items + counts.consensus_items + counts.gold_items + counts.corrected_items,
        consensus_items=counts.consensus_items,
        auto_items=counts.auto_items,
        corrected_items=counts.corrected_items,
        gold_items=counts.gold_items,
        annotations=counts.annotations,
        late_annotations=counts.late_annotations,
        label_annotations=counts.label_annotations,
        as_of=timestamp(counts.as_of),
    )


def item_message(project: str, body: pb.Item, created_at: datetime, *, with_gold: bool) -> pb.Item:
    """An item, whole; or, where gold may not be seen, as its labeler sees it: without all that sets gold apart.

    Gold often comes in an import of its own, at another time, and is marked in its metadata.
    """
    message = pb.Item()
    message.CopyFrom(body)
    message.name = f"projects/{project}/items/{body.key}"
    if with_gold:
        message.create_time.CopyFrom(timestamp(created_at))
    else:
        message.ClearField("gold_answers")
        message.ClearField("metadata")
        message.ClearField("priority")
    return message


def items_imported(
    project: str, import_name: str, items: Iterable[NewItem], created_at: datetime
) -> Iterator[events_pb.ItemsImported]:
    """What is told of items that were just written, in as many events as their sizes ask for.

    An item's encoding with more fields after it is that of the item with these fields set: nothing is encoded again.
    """
    prefix = f"projects/{project}/items/"
    more = pb.Item(create_time=timestamp(created_at)).SerializeToString()
    framing = len(prefix) + len(more) + _ITEM_FRAMING
    event, room = events_pb.ItemsImported(), 0
    for item in items:
        size = len(item.encoded) + len(item.key) + framing
        if size > room:
            if event.items:
                yield event
            event, room = events_pb.ItemsImported(project=f"projects/{project}"), _EVENT_BYTES
            setattr(event, "import", import_name)
        told = event.items.add()
        told.MergeFromString(item.encoded + more)
        told.name = prefix + item.key
        room -= size
    if event.items:
        yield event


def import_message(row: ImportRow, failures: Sequence[pb.ImportFailure]) -> pb.Import:
    """An import, with the first items it refused."""
    return pb.Import(
        name=f"projects/{row.project}/imports/{row.import_id}",
        state=_import_state(row),
        next_offset=row.next_offset,
        created_items=row.created,
        unchanged_items=row.unchanged,
        failed_items=row.failed,
        failures=failures,
        create_time=timestamp(row.created_at),
        update_time=timestamp(row.updated_at),
    )


def _import_state(row: ImportRow) -> pb.ImportState.ValueType:
    if row.cancelled:
        return pb.IMPORT_STATE_CANCELLED
    return pb.IMPORT_STATE_FINISHED if row.finished else pb.IMPORT_STATE_RUNNING


def annotation_name(row: AnnotationRow) -> str:
    """`projects/{project}/items/{item}/annotations/{annotation}`."""
    return f"projects/{row.project}/items/{row.item}/annotations/{row.annotation}"


def annotation_message(row: AnnotationRow, *, with_gold: bool) -> pb.Annotation:
    """An annotation. That it measured the labeler is told only where gold may be seen."""
    message = pb.Annotation.FromString(row.answers)
    message.name = annotation_name(row)
    message.labeler = row.labeler
    message.task = f"projects/{row.project}/tasks/{row.task}"
    message.lease = f"{message.task}/leases/{row.lease}"
    shown = row.kind if with_gold or row.kind != pb.ANNOTATION_KIND_GOLD else pb.ANNOTATION_KIND_LABEL
    message.kind = pb.AnnotationKind.ValueType(shown)
    message.late = row.late
    message.schema_version = row.schema_version
    if row.work_us is not None:
        message.work_duration.FromMicroseconds(row.work_us)
    message.submit_time.CopyFrom(timestamp(row.submitted_at))
    return message


def submission_result(result: pb.Annotation | CairnError) -> pb.SubmitAnnotationResult:
    """What became of one submission."""
    if isinstance(result, CairnError):
        return pb.SubmitAnnotationResult(error=to_status(result))
    return pb.SubmitAnnotationResult(annotation=result)


def label_message(label: LabelRevision, created_at: datetime) -> pb.Label:
    """A revision of a label."""
    key = label.key
    return pb.Label(
        name=f"projects/{key.project}/items/{key.item}/labels/{key.question}",
        revision=label.revision,
        answer=label.answer,
        confidence=label.confidence,
        source=pb.LabelSource.ValueType(label.rank.source),
        provenance=label.provenance,
        create_time=timestamp(created_at),
    )


def export_message(row: ExportRow) -> pb.Export:
    """An export, with its progress."""
    export_format = pb.ExportFormat.ValueType(row.format)
    message = pb.Export(
        name=f"projects/{row.project}/exports/{row.export}",
        format=export_format,
        state=pb.ExportState.ValueType(row.state),
        exported_labels=row.exported,
        total_labels=row.total,
        create_time=timestamp(row.created_at),
        include_annotations=row.include_annotations,
    )
    if row.file_sha256 is not None and row.file_bytes is not None:
        message.file.CopyFrom(
            value_pb.BlobRef(
                sha256=row.file_sha256,
                size_bytes=row.file_bytes,
                media_type=EXPORT_MEDIA_TYPES[export_format],
            )
        )
    if row.error is not None:
        message.error.CopyFrom(status_pb2.Status.FromString(row.error))
    if row.ended_at is not None:
        message.end_time.CopyFrom(timestamp(row.ended_at))
    return message
