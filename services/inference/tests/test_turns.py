"""What a turn of the endless work reads, and holds: no sample and no scores where nothing is due, nor the project."""

from typing import Any

import pytest

from cairn.consensus.v1.consensus_pb2 import BatchGetPosteriorsResponse, ClassProbability, Posterior
from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.scoring_rounds import ScoringRounds
from cairn_inference.store import InferenceStore
from cairn_inference.store.items import SQL as SQL_OF_ITEMS
from cairn_inference.store.validation import SQL as SQL_OF_VALIDATION
from cairn_inference.validation_rounds import ValidationRounds
from cairn_kit.database import Database
from cairn_kit.testing import World
from services.inference.tests.plans import fill, nodes, rows_read

NOBODY: Any = None

SERVES = """
INSERT INTO model_version (tenant, project, model, version, state, sha256, features, class_ids, training_labels)
VALUES ('acme', 'reviews', 'mine', 1, 2, '', $1, '{bad,good}', 0)
"""
IN_FORCE = """
WITH set AS (INSERT INTO threshold VALUES ('acme', 'reviews', 1, 0.5, 0.1, 0.2, 1, 0.1, 40, 0, 0.1, 1, 'mine', 1,
                                           now() - interval '1 hour'))
UPDATE project SET serving_model = 'mine', serving_version = 1, score_round = 1, routed_scores = 1, route_round = 1,
    threshold = 1
"""
SCORED = {
    "spec": f"'{TEXT_SPEC.name}'",
    "scored_round": "1",
    "predicted": "'good'",
    "score": "0.9",
    "margin": "0.8",
}


class Asked(InferenceStore):
    """A store that tells what it was asked for."""

    def __init__(self) -> None:
        self.questions: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name != "questions":
            self.questions.append(name)
        return super().__getattribute__(name)

    def times(self, question: str) -> int:
        return self.questions.count(question)


@pytest.fixture
async def database(world: World) -> Database:
    return await world.database("inference", SERVICE.migrations)


@pytest.fixture
def store() -> Asked:
    return Asked()


@pytest.fixture
def rounds(database: Database, store: Asked) -> ScoringRounds:
    return ScoringRounds(database, store, NOBODY, NOBODY, b"key", route_patience=30.0)


async def serve(database: Database) -> None:
    await database.execute(SERVES, TEXT_SPEC.name)
    await database.execute(IN_FORCE)


async def test_a_sample_that_is_no_round_yet_is_counted_and_not_read(
    database: Database, store: Asked, rounds: ScoringRounds
) -> None:
    await fill(database, 20, validation="true", lot="0.1", label="'good'", label_source="2", **SCORED)
    await serve(database)
    await rounds.step()
    assert store.times("settled_validation") == 1
    assert store.times("validation_scores") == 0


async def test_drift_is_not_looked_for_while_nothing_is_to_be_routed(
    database: Database, store: Asked, rounds: ScoringRounds
) -> None:
    await fill(database, 200, routed_round="1", **SCORED)
    await serve(database)
    await rounds.step()
    assert store.times("any_to_route") == 1
    assert store.times("items_since") + store.times("scores_since") + store.times("items_to_route") == 0


async def test_what_came_since_a_threshold_is_counted_once_until_there_may_be_enough_of_it(
    database: Database, store: Asked, rounds: ScoringRounds
) -> None:
    await fill(database, 40, **SCORED)
    await serve(database)
    for _ in range(3):
        await database.execute("UPDATE item SET routed_round = 0, open = true")
        assert await rounds.step() == 40
    assert store.times("items_since") == 1
    assert store.times("scores_since") == 0

    rounds.begin()
    await database.execute("UPDATE item SET routed_round = 0, open = true")
    await rounds.step()
    assert store.times("items_since") == 2, "another process may have scored more"


async def test_what_is_remembered_of_a_project_goes_with_its_routing(
    database: Database, store: Asked, rounds: ScoringRounds
) -> None:
    await fill(database, 40, **SCORED)
    await serve(database)
    await database.execute("UPDATE item SET routed_round = 0, open = true")
    await rounds.step()
    counted = store.times("items_since"), store.times("settled_validation")
    assert counted == (1, 1)

    await database.execute("UPDATE project SET question = ''")
    await rounds.step()
    await database.execute("UPDATE project SET question = 'polarity'")
    await database.execute("UPDATE item SET routed_round = 0, open = true")
    await rounds.step()
    assert (store.times("items_since"), store.times("settled_validation")) == (2, 2)


async def test_what_a_batch_lets_through_is_looked_for_in_the_batch(database: Database) -> None:
    await fill(database, 20_000, validation="true", lot="0.1", **SCORED)
    await serve(database)
    keys = [str(number) for number in range(100)]
    async with database.transaction() as tx:
        steps = await nodes(tx, SQL_OF_VALIDATION.let_through_of, "acme", "reviews", keys)
        assert rows_read(steps, "item") == len(keys)
        assert await tx.fetchval("SELECT count(*) FROM let_through") == len(keys)


async def test_those_whom_people_doubt_are_found_without_those_of_whom_they_are_sure(
    database: Database,
) -> None:
    sure = {
        "label": "'good'",
        "label_source": "2",
        "label_confidence": "CASE n % 1000 WHEN 0 THEN 0.9 ELSE 1 END",
    }
    await fill(database, 20_000, validation="true", lot="0.1", **sure, **SCORED)
    steps = await nodes(database, SQL_OF_VALIDATION.doubtful_validation, "acme", "reviews", 0.5, 0.99, 500)
    assert rows_read(steps, "item") == 20


async def test_whoever_stops_automatic_labeling_does_not_wait_until_all_items_are_counted(
    database: Database,
) -> None:
    await fill(
        database, 50_000, route="CASE n % 1000 WHEN 0 THEN 1 ELSE 2 END", validation="n % 1000 = 1",
        lot="CASE n % 1000 WHEN 1 THEN 0.1 END",
    )  # fmt: skip
    counts = await InferenceStore().item_counts(database, "acme", "reviews")
    assert (counts.auto, counts.validation) == (50, 50)
    assert rows_read(await nodes(database, SQL_OF_ITEMS.item_counts, "acme", "reviews"), "item") == 100


async def test_labels_are_looked_up_among_their_items(database: Database) -> None:
    await fill(database, 50_000)
    refs = [["acme"] * 100, ["reviews"] * 100, [str(number) for number in range(100)]]
    assert rows_read(await nodes(database, SQL_OF_ITEMS.known_items, *refs), "item") == 100


class Sure:
    """Consensus, sure of what the model says; while it answers, the project promises something else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def BatchGetPosteriors(self, request: Any) -> BatchGetPosteriorsResponse:
        await self._database.execute("UPDATE project SET alpha = 0.15")
        return BatchGetPosteriorsResponse(
            posteriors=[
                Posterior(item=item, classes=[ClassProbability(class_id="good", probability=0.999)], votes=3)
                for item in request.items
            ]
        )


async def test_a_round_ends_for_what_it_was_held_for_and_holds_the_project_no_longer_than_it_must(
    database: Database,
) -> None:
    sample = {"validation": "n % 2 = 0", "lot": "CASE n % 2 WHEN 0 THEN 0.1 END"}
    settled = {"label": "'good'", "label_source": "2", "open": "n % 2 = 1"}
    await fill(database, 400, **sample, **settled, **SCORED | {"score": "0.999"})
    await serve(database)
    await database.execute("UPDATE project SET threshold = NULL")
    await database.execute("DELETE FROM threshold")

    class Meanwhile(InferenceStore):
        async def open_coverage(self, reader: Any, project: Any, threshold: float) -> float:
            await database.fetch("SELECT FROM project FOR UPDATE NOWAIT")
            return await super().open_coverage(reader, project, threshold)

    store = Meanwhile()
    [project] = await store.projects_with_work(database)
    version = await store.serving(database, project)
    assert version is not None
    consensus: Any = Sure(database)
    await ValidationRounds(database, store, consensus).judge(project, version)
    assert await database.fetchval("SELECT (alpha, validation_round) = (0.15, 0) FROM project")

    [project] = await store.projects_with_work(database)
    await ValidationRounds(database, store, consensus).judge(project, version)
    assert await database.fetchval("SELECT validation_round FROM project") == 1
