"""annotation-store: all the wiring, read from top to bottom."""

from __future__ import annotations

from importlib.resources import files

import cairn_kit  # noqa: F401 - before gRPC, see there
from cairn_annotation_store.config import AnnotationStoreSettings
from cairn_annotation_store.export_process import ExportProcesses, Reached
from cairn_annotation_store.handlers.blobs import BlobHandlers
from cairn_annotation_store.handlers.deleting import DeletionHandlers, deletions_of
from cairn_annotation_store.handlers.export_parts import ExportParts
from cairn_annotation_store.handlers.export_worker import ExportWorker
from cairn_annotation_store.handlers.exports import ExportHandlers
from cairn_annotation_store.handlers.imports import ImportHandlers
from cairn_annotation_store.handlers.labeling import LabelHandlers
from cairn_annotation_store.handlers.projects import ProjectHandlers
from cairn_annotation_store.handlers.reading import ReadingHandlers
from cairn_annotation_store.handlers.streaming import AnnotationStreams
from cairn_annotation_store.handlers.submissions import LeaseGate, SubmissionHandlers
from cairn_annotation_store.handlers.watching import WatchHandlers
from cairn_annotation_store.lenient import add_to_server
from cairn_annotation_store.rpc import ELEMENTS, AnnotationStoreRpc
from cairn_annotation_store.storage import Storage, StorageUnusable
from cairn_annotation_store.store import (
    AnnotationStore,
    ExportedStore,
    ExportStore,
    ImportStore,
    ItemStore,
    LabelStore,
    ProjectStore,
)
from cairn_annotation_store.store.deleting import DeletingStore
from cairn_annotation_store.subscriptions import subscriptions
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.rpc.server import StartError
from cairn_kit.wakes import Wakes

_EXPORTS_EVERY = 2.0
_TIDY_EXPORTS_EVERY = 60.0
_RECOUNT_EVERY = 2.0
_DELETE_EVERY = 1.0
_LOOK_FOR_FILES_EVERY = 3600.0


async def wire(chassis: Chassis[AnnotationStoreSettings]) -> None:
    settings, database = chassis.settings, chassis.database
    try:
        storage = Storage.open(settings.blob_url)
    except StorageUnusable as error:
        raise StartError(str(error)) from error

    projects, items, annotations = ProjectStore(), ItemStore(), AnnotationStore()
    labels, imports, exports = LabelStore(), ImportStore(), ExportStore()
    wakes, label_wakes = Wakes(), Wakes()
    gate = LeaseGate(chassis.verifier)

    labeling = LabelHandlers(database, projects, items, annotations, labels, wakes, label_wakes)
    submissions = SubmissionHandlers(database, projects, items, annotations, wakes, gate)
    exporting = ExportHandlers(database, projects, exports, storage)
    processes = await chassis.enter(ExportProcesses(Reached.by(settings), settings.export_processes))
    parts = ExportParts(database, ExportedStore(), processes, settings.export_page)
    worker = ExportWorker(database, exports, parts, storage, claim_seconds=settings.export_claim_seconds)
    deletions = deletions_of(database, storage)
    poll = settings.watch_poll_seconds
    chassis.serve(
        AnnotationStoreRpc(
            projects=ProjectHandlers(database, projects, wakes, poll),
            deleting=DeletionHandlers(database, projects, DeletingStore(), deletions, wakes),
            imports=ImportHandlers(database, projects, imports, items, labeling),
            submissions=submissions,
            streams=AnnotationStreams(submissions, chassis.tracer),
            reading=ReadingHandlers(database, projects, items, annotations, labels, gate),
            watching=WatchHandlers(database, projects, labels, label_wakes, poll),
            blobs=BlobHandlers(database, projects, items, storage, gate, settings.max_blob_bytes),
            exports=exporting,
        ),
        add_to_server,
        elements=ELEMENTS,
    )
    chassis.consume(subscriptions(labeling))
    exporting.wake_worker = chassis.background("write exports", worker.work, every=_EXPORTS_EVERY).wake
    chassis.background("tidy exports", worker.tidy, every=_TIDY_EXPORTS_EVERY)
    chassis.background("recount items", labeling.recount, every=_RECOUNT_EVERY)
    deletions.wake = chassis.background("delete projects", deletions.work, every=_DELETE_EVERY).wake
    chassis.background("look for files", deletions.look_again, every=_LOOK_FOR_FILES_EVERY)


SERVICE = Service(
    AnnotationStoreSettings, wire, migrations=files("cairn_annotation_store") / "sql" / "migrations"
)

if __name__ == "__main__":
    SERVICE.main()
