"""A project that fails holds up nobody else."""

from typing import Any

import pytest

from cairn.events.v1.inference_events_pb2 import (
    ItemsScored,
)
from cairn.inference.v1 import inference_pb2 as api
from cairn.inference.v1.inference_pb2_grpc import InferenceServiceStub
from cairn_inference.__main__ import SERVICE
from cairn_inference.messages import policy_of
from cairn_inference.model_store import ModelStore
from cairn_inference.scoring import Scorer
from cairn_inference.scoring_rounds import ScoringRounds
from cairn_inference.store import InferenceStore
from cairn_kit.database import Database
from cairn_kit.database.pool import OUTAGES
from cairn_kit.testing import World, eventually
from services.inference.tests.stage import (
    Blobs,
    Crowd,
    Stage,
    created,
    head,
    imported,
    project,
    texts,
    upload,
)


async def test_a_project_whose_model_is_gone_holds_up_nobody_else(stage: Stage) -> None:
    for tenant in ("acme", "globex"):
        await stage.world.publish(created(tenant=tenant), *imported(texts(6), tenant=tenant))
    await eventually(lambda: stage.count("feature_state = 1"), 12)
    scored = await stage.heard(ItemsScored)
    version = await upload(stage, head())
    for file in (stage.world.folder / "blobs").rglob("*.onnx"):
        file.unlink()
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    other = Stage(stage.world, stage.service, stage.crowd, stage.blobs)
    other.api = stage.service.stub(InferenceServiceStub, tenant="globex")
    theirs = await upload(other, head())
    await other.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=theirs.name))
    await scored.count(1)
    assert {event.tenant for event in scored.events} == {"globex"}


async def test_a_project_whose_statements_take_too_long_holds_up_nobody_else(
    world: World, crowd: Crowd, blobs: Blobs, settings: dict[str, Any]
) -> None:
    async with world.run(SERVICE, statement_timeout=1.0, **settings) as service:
        scored = await world.listen(ItemsScored)
        for tenant in ("acme", "globex"):
            await world.publish(created(tenant=tenant), *imported(texts(6), tenant=tenant))
        await eventually(
            lambda: service.database.fetchval("SELECT count(*) FROM item WHERE feature_state = 1"), 12
        )
        await service.database.execute(
            """CREATE FUNCTION wait_for_ever() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
               CREATE TRIGGER wait_for_ever BEFORE UPDATE OF score ON item FOR EACH ROW
               WHEN (NEW.tenant = 'acme') EXECUTE FUNCTION wait_for_ever()"""
        )
        for tenant in ("acme", "globex"):
            one = Stage(world, service, crowd, blobs)
            one.api = service.stub(InferenceServiceStub, tenant=tenant)
            version = await upload(one, head())
            await one.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
        await scored.count(1, timeout=30)
        assert {event.tenant for event in scored.events} == {"globex"}


async def test_a_database_that_is_lost_is_asked_about_no_further_project(world: World) -> None:
    database = Database(await world.dsn("inference", SERVICE.migrations), "inference")
    await database.open()
    asked: list[str] = []

    class LosesIt(InferenceStore):
        async def serving(self, reader: Any, project: Any) -> Any:
            asked.append(project.tenant)
            await database.close()
            return await super().serving(reader, project)

    store, scorer = LosesIt(), Scorer(ModelStore(f"file://{world.folder}/blobs").get, 1)
    async with database.transaction() as tx:
        for tenant in ("acme", "globex"):
            await store.keep_project(tx, tenant, "reviews", 1, policy_of(project()))
        await tx.execute("UPDATE project SET serving_model = 'mine', serving_version = 1")
    consensus: Any = None  # nothing comes so far
    rounds = ScoringRounds(database, store, scorer, consensus, b"key", route_patience=30.0)
    with pytest.raises(OUTAGES):
        await rounds.step()
    assert asked == ["acme"]
