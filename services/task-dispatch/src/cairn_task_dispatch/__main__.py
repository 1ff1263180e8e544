"""task-dispatch: `python -m cairn_task_dispatch`, or `... migrate`."""

from __future__ import annotations

from importlib.resources import files

import cairn_kit  # noqa: F401 - before gRPC, see there
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.dispatch.v1 import task_dispatch_pb2_grpc as api
from cairn.events.v1.task_dispatch_events_pb2 import LeasesEnded, TasksOpened
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.rpc.server import StartError
from cairn_kit.wakes import Wakes
from cairn_task_dispatch.config import DispatchSettings
from cairn_task_dispatch.handlers.answers_heard import AnswersHeard
from cairn_task_dispatch.handlers.claiming import Claiming
from cairn_task_dispatch.handlers.deleting import deletions_of
from cairn_task_dispatch.handlers.expiry import Expiry
from cairn_task_dispatch.handlers.handing_out import HandingOut
from cairn_task_dispatch.handlers.hearing import Hearings
from cairn_task_dispatch.handlers.lease_terms import LeaseTerms
from cairn_task_dispatch.handlers.leasing import Leasing
from cairn_task_dispatch.handlers.projects import Projects
from cairn_task_dispatch.handlers.queues import Queues
from cairn_task_dispatch.handlers.streaming import LeaseStreams
from cairn_task_dispatch.handlers.tasks import Tasks
from cairn_task_dispatch.rpc import DispatchRpc
from cairn_task_dispatch.store import DispatchStore
from cairn_task_dispatch.subscriptions import subscriptions


async def wire(chassis: Chassis[DispatchSettings]) -> None:
    settings, database, store = chassis.settings, chassis.database, DispatchStore()
    if chassis.signer is None:
        raise StartError(
            "task-dispatch signs lease tokens: CAIRN_SERVICE_KEY_FILE must name its private key."
        )
    annotations = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")

    projects = Projects(database, store, annotations)
    terms = LeaseTerms(chassis.signer.sign_leases, settings.expiry_grace)
    answers = AnswersHeard()
    handing_out = HandingOut(database, store, projects, terms, answers)
    claiming = Claiming(database, store, projects, terms)
    leasing = Leasing(database, store, terms)
    opened = Wakes()
    streams = LeaseStreams(handing_out, leasing, opened, settings.stream_look_every)
    tasks = Tasks(database, store, projects)
    queues = Queues(database, store, projects)
    chassis.serve(
        DispatchRpc(handing_out, streams, claiming, leasing, tasks, queues),
        api.add_TaskDispatchServiceServicer_to_server,
        elements={"ClaimItems": "claims", "CreateTasks": "wishes"},
    )
    deletions = deletions_of(database)
    chassis.consume(subscriptions(Hearings(store, answers), deletions), in_order=False)
    chassis.overhear([TasksOpened, LeasesEnded], opened.ring)
    expiry = Expiry(database, store, annotations, batch=settings.expiry_batch, retry=settings.expiry_retry)
    chassis.background("expire leases", expiry.expire, every=settings.expiry_every)
    deletions.wake = chassis.background("delete projects", deletions.work, every=1.0).wake
    chassis.background("refresh statistics", lambda: store.refresh_statistics(database), every=1.0)


SERVICE = Service(DispatchSettings, wire, migrations=files("cairn_task_dispatch") / "sql" / "migrations")

if __name__ == "__main__":
    SERVICE.main()
