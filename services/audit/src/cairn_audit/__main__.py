"""audit: whether the labels are as good as claimed, and whether history is intact."""

from __future__ import annotations

from importlib.resources import files

import cairn_kit  # noqa: F401 - before gRPC, see there
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.audit.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceStub
from cairn_audit.config import AuditSettings
from cairn_audit.handlers import Handlers
from cairn_audit.ledger import SIGNING, ErasedEntries, Ledger
from cairn_audit.ledger_key import LedgerKeyError, read_ledger_key
from cairn_audit.omitted_answers import OmittedAnswers
from cairn_audit.reviews import Reviews
from cairn_audit.rpc import AuditRpc
from cairn_audit.store import AuditStore, LedgerStore
from cairn_audit.store.deleting import PARTS, PROJECT
from cairn_audit.subscriptions import subscriptions
from cairn_kit.database import ProjectDeletions
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.rpc.server import StartError


async def wire(chassis: Chassis[AuditSettings]) -> None:
    """All the wiring, read from top to bottom."""
    settings, database = chassis.settings, chassis.database
    try:
        signer = read_ledger_key(settings.ledger_key_file)
    except LedgerKeyError as error:
        raise StartError(str(error)) from error
    entries = LedgerStore()
    ledger = Ledger(database, entries, signer, chassis.metrics)
    await ledger.remember_key()

    store = AuditStore()
    handlers = Handlers(database, store)
    dispatch = chassis.peers.stub(TaskDispatchServiceStub, "task-dispatch")
    annotations = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")
    answers = OmittedAnswers(annotations)
    reviews = Reviews(database, store, handlers, dispatch, answers)

    deletions = ProjectDeletions(database, [*PARTS, ErasedEntries(entries)], at_once=PROJECT)

    chassis.serve(AuditRpc(handlers, ledger), add_AuditServiceServicer_to_server, projects=annotations)
    chassis.consume(subscriptions(handlers, ledger, answers, deletions), in_order=False)
    chassis.background(SIGNING, ledger.sign_news, every=settings.checkpoint_seconds)
    deletions.wake = chassis.background("delete projects", deletions.work, every=1.0).wake
    chassis.background("read large labels", reviews.read_labels, every=settings.audit_seconds)
    chassis.background("ask for reviews", reviews.ask_for_all, every=settings.audit_seconds)
    chassis.background("call reviews off", reviews.call_off_all, every=settings.audit_seconds)


SERVICE = Service(AuditSettings, wire, migrations=files("cairn_audit") / "sql" / "migrations")

if __name__ == "__main__":
    SERVICE.main()
