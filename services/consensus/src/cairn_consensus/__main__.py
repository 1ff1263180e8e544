"""All the wiring of consensus, read from top to bottom."""

from __future__ import annotations

from importlib.resources import files

import cairn_kit  # noqa: F401 - before gRPC, see there
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.consensus.v1.consensus_pb2_grpc import add_ConsensusServiceServicer_to_server
from cairn_consensus.asking import Asking
from cairn_consensus.computing import Computing
from cairn_consensus.config import ConsensusSettings
from cairn_consensus.deciding import Deciding
from cairn_consensus.deleting import deletions_of
from cairn_consensus.fitting import Fitting, place_of
from cairn_consensus.handlers import Handlers
from cairn_consensus.mask_blobs import MaskBlobs
from cairn_consensus.omitted_answers import OmittedAnswers
from cairn_consensus.refits import Refits
from cairn_consensus.rpc import ConsensusRpc
from cairn_consensus.shares import Shares
from cairn_consensus.states import States
from cairn_consensus.store import ConsensusStore
from cairn_consensus.subscriptions import subscriptions
from cairn_consensus.turns import Turns
from cairn_kit.lifecycle import Chassis, Service
from cairn_kit.shares import EventsForKeepers, KeeperCalls, Lines
from cairn_kit.wakes import Wakes


async def wire(chassis: Chassis[ConsensusSettings]) -> None:
    """Put the parts together."""
    annotations = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")
    # What a project's votes say is worked out by one replica: events and calls are taken there.
    lines = Lines(chassis.bus, chassis.settings.service_name)
    store = ConsensusStore()
    shares = Shares(chassis.database, store, lines)
    computing = Computing(store, chassis.settings.statement_timeout)
    turns = Turns(chassis.database, computing)
    states = States(store, computing, shares, chassis.settings.room_for_items)
    shares.ended = states.forget
    fitting = Fitting(store, computing, place_of(chassis.settings))
    deciding = Deciding(store, computing, states)
    wakes = Wakes()
    refits = await chassis.enter(
        Refits(chassis.database, store, turns, states, shares, deciding, fitting, wakes, chassis.settings)
    )
    asking = Asking(chassis.database, store, turns, states, shares, refits, wakes, chassis.settings)
    handlers = Handlers(
        chassis.database,
        store,
        OmittedAnswers(annotations),
        MaskBlobs(annotations),
        shares,
        turns,
        states,
        computing,
        deciding,
        refits,
        asking,
        chassis.settings.max_message_bytes,
    )
    calls = await chassis.enter(KeeperCalls(lines))
    chassis.serve(ConsensusRpc(handlers, calls), add_ConsensusServiceServicer_to_server, projects=annotations)
    deletions = deletions_of(chassis.database)
    chassis.consume(subscriptions(handlers, deletions), keepers=EventsForKeepers(lines))
    chassis.spawn("keep shares", shares.run)
    chassis.metrics.shares_kept.set_function(lambda: len(shares.kept))
    deletions.wake = chassis.background("delete projects", deletions.work, every=1.0).wake
    refits.wake = chassis.background("refit projects", refits.work, every=1.0).wake
    chassis.background("forget deleted projects", handlers.forget_deleted, every=1.0)
    chassis.background("forget what came of refits", asking.forget, every=60.0)


SERVICE = Service(ConsensusSettings, wire, migrations=files("cairn_consensus") / "sql" / "migrations")

if __name__ == "__main__":
    SERVICE.main()
