"""What a turn of the endless work reads where nothing is due: no sample, and no scores."""

from typing import Any

import pytest

from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.scoring_rounds import ScoringRounds
from cairn_inference.store import InferenceStore
from cairn_inference.store.validation import SQL as SQL_OF_VALIDATION
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
