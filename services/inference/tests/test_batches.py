"""What a batch of scoring or routing reads: as much as it takes, however many items there are."""

import pytest

from cairn.events.v1.inference_events_pb2 import ItemsScored
from cairn.inference.v1 import inference_pb2 as api
from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import IMAGE_SPEC, TEXT_SPEC
from cairn_inference.store.items import SQL as SQL_OF_ITEMS
from cairn_inference.store.routes import SQL as SQL_OF_ROUTES
from cairn_inference.store.scores import SQL as SQL_OF_SCORES
from cairn_kit.testing import World, eventually
from services.inference.tests.plans import fill, nodes, rows_read
from services.inference.tests.stage import Stage, created, imported, model_that_always_says, texts, upload

MANY, BATCH = 20_000, 512


async def test_a_batch_to_score_is_all_that_is_read_though_nearly_all_items_are_of_one_round(
    world: World,
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    await fill(database, MANY, spec=f"CASE n % 2 WHEN 0 THEN '{IMAGE_SPEC.name}' ELSE '{TEXT_SPEC.name}' END")
    told = ("acme", "reviews", 1, TEXT_SPEC.name, "mine", 1, BATCH)
    steps = await nodes(database, SQL_OF_SCORES.items_to_score, *told)
    assert rows_read(steps, "item") == BATCH, (
        "items of features that the version does not read are a batch's, too"
    )
    assert "Sort" not in {step["Node Type"] for step in steps}


async def test_a_batch_to_route_reads_neither_the_rest_of_its_round_nor_what_gets_no_score(
    world: World,
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    await fill(database, MANY, feature_state="CASE n % 2 WHEN 0 THEN 2 ELSE 1 END", scored_round="n % 2")
    steps = await nodes(database, SQL_OF_ROUTES.items_to_route, "acme", "reviews", 1, 1, BATCH)
    assert rows_read(steps, "item") == BATCH
    assert not {step["Node Type"] for step in steps} & {"Sort", "Incremental Sort"}

    # and when all that has a score is routed, nothing is left to look through
    await database.execute("UPDATE item SET routed_round = 1 WHERE feature_state = 1")
    await database.execute("VACUUM ANALYZE item")
    assert (
        rows_read(await nodes(database, SQL_OF_ROUTES.items_to_route, "acme", "reviews", 1, 1, BATCH), "item")
        == 0
    )


@pytest.mark.parametrize("analyzed", [True, False])
async def test_labels_that_are_heard_have_their_own_items_read_and_no_others(
    world: World, analyzed: bool
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    await fill(database, MANY, analyzed=analyzed)
    keys = [str(n) for n in range(100)]
    steps = await nodes(database, SQL_OF_ITEMS.known_items, ["acme"] * 100, ["reviews"] * 100, keys)
    assert rows_read(steps, "item") == 100


async def test_items_that_the_version_does_not_read_are_passed_over_and_go_to_people(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(20)))
    await eventually(lambda: stage.count("feature_state = 1"), 20)
    foreign = await stage.service.database.fetch(
        "UPDATE item SET spec = $1 WHERE NOT validation RETURNING item", IMAGE_SPEC.name
    )
    scored = await stage.heard(ItemsScored)
    version = await upload(stage, model_that_always_says(1, 2))
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    await eventually(lambda: stage.count("scored_round = 1"), 20)
    await eventually(lambda: stage.count("routed_round = 1 AND route = 2"), len(foreign))
    assert await stage.count("score IS NULL") == len(foreign)
    assert not scored.events
