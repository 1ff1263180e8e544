"""All the wiring of consensus, read from top to bottom."""

from __future__ import annotations

from importlib.resources import files

from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.consensus.v1.consensus_pb2_grpc import add_ConsensusServiceServicer_to_server
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.handlers import Handlers
from cairn_consensus.mask_blobs import MaskBlobs
from cairn_consensus.omitted_answers import OmittedAnswers
from cairn_consensus.rpc import ConsensusRpc
from cairn_consensus.store import ConsensusStore
from cairn_consensus.subscriptions import subscriptions
from cairn_kit.lifecycle import Chassis, Service


async def wire(chassis: Chassis[ConsensusSettings]) -> None:
    """Put the parts together."""
    # What a project's votes say is kept in memory by one process at a time; another waits here, not yet ready.
    lock = await chassis.enter(chassis.database.exclusively("state"))

    async def stop_when_superseded() -> None:
        await lock.lost.wait()
        chassis.stop()

    annotations = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")
    handlers = Handlers(
        chassis.database,
        ConsensusStore(),
        OmittedAnswers(annotations),
        MaskBlobs(annotations),
        chassis.settings,
    )
    chassis.spawn("hold the state's lock", stop_when_superseded)
    chassis.serve(ConsensusRpc(handlers), add_ConsensusServiceServicer_to_server)
    chassis.consume(subscriptions(handlers))


SERVICE = Service(ConsensusSettings, wire, migrations=files("cairn_consensus") / "sql" / "migrations")

if __name__ == "__main__":
    SERVICE.main()
