"""All the wiring of inference, read from top to bottom."""

from __future__ import annotations

from importlib.resources import files

import cairn_kit  # noqa: F401 - before gRPC, see there
from cairn.annotation.v1.annotation_store_pb2_grpc import AnnotationStoreServiceStub
from cairn.consensus.v1.consensus_pb2_grpc import ConsensusServiceStub
from cairn.dispatch.v1.task_dispatch_pb2_grpc import TaskDispatchServiceStub
from cairn.inference.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server
from cairn_inference.config import InferenceSettings, forbid_network
from cairn_inference.deleting import deletions_of
from cairn_inference.featurising import Extractors, Featuriser
from cairn_inference.handlers import Handlers
from cairn_inference.loaded_model import cpu_limit
from cairn_inference.model_store import ModelStore
from cairn_inference.predicting import Predictor
from cairn_inference.question_moves import QuestionMoves
from cairn_inference.rpc import InferenceRpc
from cairn_inference.scoring import Scorer
from cairn_inference.scoring_rounds import ScoringRounds
from cairn_inference.store import InferenceStore
from cairn_inference.subscriptions import subscriptions
from cairn_inference.trainer import Trainer, TrainingLimits
from cairn_inference.training_folders import TrainingFolders
from cairn_inference.training_process import TrainingProcess
from cairn_inference.uploads import Uploads
from cairn_inference.validation_answers import ValidationAnswers
from cairn_inference.working import Worker
from cairn_kit.lifecycle import Chassis, Service


async def wire(chassis: Chassis[InferenceSettings]) -> None:
    settings, database = chassis.settings, chassis.database
    threads = settings.threads or cpu_limit()
    key = settings.sampling_key.get_secret_value().encode()
    annotations = chassis.peers.stub(AnnotationStoreServiceStub, "annotation-store")
    consensus = chassis.peers.stub(ConsensusServiceStub, "consensus")
    dispatch = chassis.peers.stub(TaskDispatchServiceStub, "task-dispatch")

    store = InferenceStore()
    models = ModelStore(settings.blob_url)
    extractors = Extractors(settings.work_dir / "embeddings", threads)
    scorer = Scorer(models.get, threads)
    handlers = Handlers(database, store, models, key)
    predictor = Predictor(database, store, extractors, scorer)

    featuriser = Featuriser(database, store, extractors, annotations)
    rounds = ScoringRounds(database, store, scorer, consensus, key, settings.route_patience)
    wishes = ValidationAnswers(database, store, dispatch)
    limits = TrainingLimits(
        interval=settings.training_interval,
        growth=settings.training_growth,
        labels=settings.training_labels,
        deadline=settings.training_deadline,
        margin=settings.promotion_margin,
    )
    trainings = settings.work_dir / "trainings"
    process = await chassis.enter(TrainingProcess(trainings))
    trainer = Trainer(database, store, models, scorer, process, TrainingFolders(trainings), limits)
    routing = Worker(database, "routing", [featuriser.step, wishes.step, rounds.step], rounds.begin)
    training = Worker(database, "training", [trainer.step], trainer.begin)
    moving = Worker(database, "questions", [QuestionMoves(database, store).step])

    def wake() -> None:
        routing.wake()
        training.wake()
        moving.wake()

    handlers.wake = wake
    calls = InferenceRpc(database, store, handlers, predictor, Uploads(settings.work_dir / "uploads"))
    chassis.serve(calls, add_InferenceServiceServicer_to_server, projects=annotations)
    deletions = deletions_of(database, store, models)
    chassis.consume(subscriptions(handlers, deletions), in_order=False)
    deletions.wake = chassis.background("delete projects", deletions.work, every=1.0).wake
    chassis.background("look for files", deletions.look_again, every=3600.0)
    chassis.spawn("score and route", routing.run)
    chassis.spawn("train", training.run)
    chassis.spawn("follow the routed question", moving.run)


forbid_network()
SERVICE = Service(InferenceSettings, wire, migrations=files("cairn_inference") / "sql" / "migrations")

if __name__ == "__main__":
    SERVICE.main()
