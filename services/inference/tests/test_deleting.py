"""A deleted project leaves inference with its features, models and their files; late events of it make nothing anew."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from cairn.events.v1.annotation_store_events_pb2 import ProjectDeleted
from cairn.inference.v1 import inference_pb2 as api
from cairn_kit.errors import from_rpc_error
from cairn_kit.events import Event
from cairn_kit.testing import eventually
from services.inference.tests.stage import PROJECT, Stage, created, head, imported, labeled, texts, upload

TABLES = (
    "project", "item", "feature", "model_version", "out_of_fold", "training_run", "threshold", "other_label",
    "let_through",
)  # fmt: skip

LEARNED = (
    "INSERT INTO training_run (tenant, project, run, state, labels, ended_at) VALUES ('acme', 'reviews', 'r', 5, 9, now())",
    "INSERT INTO out_of_fold SELECT tenant, project, model, version, item, '' "
    "FROM model_version JOIN item USING (tenant, project)",
    "INSERT INTO threshold VALUES ('acme', 'reviews', 1, 0.9, 0.1, 0.2, 1, 0.1, 5, 0, 0.1, 0.5, 'mine', 1)",
    "INSERT INTO let_through SELECT tenant, project, 'polarity', item, 'good', 1 FROM item WHERE tenant = 'acme'",
)
"""What a training and a round of validation leave."""


async def rows_of(stage: Stage, tenant: str) -> dict[str, int]:
    counts = {
        table: await stage.service.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE tenant = $1 AND project = 'reviews'",
            tenant,
        )
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


def files_of(stage: Stage, tenant: str) -> list[Path]:
    return list((stage.world.folder / "blobs/models" / tenant / "reviews").glob("*"))


async def test_all_of_it_goes_and_nothing_of_another_tenants(stage: Stage) -> None:
    items = texts(10)
    for tenant in ("acme", "rival"):
        await stage.world.publish(created(tenant=tenant), *imported(items, tenant))
    await eventually(lambda: stage.count("feature_state = 1"), 2 * len(items), timeout=60)
    await stage.world.publish(*labeled(items[:2]), *labeled(items[:2], question="tone"))
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM other_label"), 2)
    await upload(stage, head())
    for statement in LEARNED:
        await stage.service.database.execute(statement)
    assert set(await rows_of(stage, "acme")) == set(TABLES)
    assert files_of(stage, "acme")
    beside = await rows_of(stage, "rival")
    handled = await stage.service.database.fetchval("SELECT count(*) FROM inbox")

    await stage.world.publish(Event(ProjectDeleted(project=PROJECT), "acme", "reviews", PROJECT, 9))
    gone = "SELECT count(*) FROM deleted_project WHERE gone_at IS NOT NULL"
    await eventually(lambda: stage.service.database.fetchval(gone), 1, timeout=30)
    late = [created(), *imported(texts(3, "late-")), *labeled(items[:1], revision=2)]
    await stage.world.publish(*late)
    await eventually(
        lambda: stage.service.database.fetchval("SELECT count(*) FROM inbox"), handled + 1 + len(late)
    )
    assert await rows_of(stage, "acme") == {}
    assert files_of(stage, "acme") == []
    assert await rows_of(stage, "rival") == beside
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await upload(stage, head())
    assert from_rpc_error(error.value).reason == "PROJECT_NOT_FOUND"
    assert await stage.service.database.fetchval("SELECT count(*) FROM dead_letter") == 0


async def test_a_project_that_is_being_deleted_is_told_of_to_nobody_and_ends_its_training(
    stage: Stage,
) -> None:
    await stage.world.publish(created())
    await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM project"), 1)
    version = await upload(stage, head())
    await stage.service.database.execute(
        "INSERT INTO training_run (tenant, project, run, state, labels) VALUES ('acme', 'reviews', 'r', 1, 10)"
    )
    async with stage.service.database.transaction() as older:  # nothing is deleted while it runs
        await older.fetchval("SELECT 1")
        await stage.world.publish(Event(ProjectDeleted(project=PROJECT), "acme", "reviews", PROJECT, 9))
        await eventually(lambda: stage.service.database.fetchval("SELECT count(*) FROM deleted_project"), 1)
        assert await stage.service.database.fetchval("SELECT state FROM training_run WHERE run = 'r'") in (
            4,
            5,
        )
        for call in (
            stage.api.GetRouting(api.GetRoutingRequest(project=PROJECT)),
            stage.api.GetModelVersion(api.GetModelVersionRequest(name=version.name)),
            stage.api.GetTrainingRun(api.GetTrainingRunRequest(name=f"{PROJECT}/trainingRuns/r")),
            stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert from_rpc_error(error.value).reason == "PROJECT_NOT_FOUND"


async def test_a_file_that_comes_to_light_after_its_project_is_gone_goes_too(
    stage: Stage, settings: Any
) -> None:
    from cairn_inference.deleting import deletions_of
    from cairn_inference.model_store import ModelStore
    from cairn_inference.store import InferenceStore

    await stage.world.publish(Event(ProjectDeleted(project=PROJECT), "acme", "reviews", PROJECT, 9))
    gone = "SELECT count(*) FROM deleted_project WHERE gone_at IS NOT NULL"
    await eventually(lambda: stage.service.database.fetchval(gone), 1)
    models = ModelStore(settings["blob_url"])
    await models.put("acme", "reviews", b"written by a process that was killed then")
    await models.put("rival", "reviews", b"another's")
    await deletions_of(stage.service.database, InferenceStore(), models).look_again()
    assert files_of(stage, "acme") == []
    assert len(files_of(stage, "rival")) == 1
