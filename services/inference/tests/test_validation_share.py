"""What judges a model is like what is left to it, whatever shares of the items were drawn to judge it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cairn.events.v1.inference_events_pb2 import ThresholdSet
from cairn.inference.v1 import inference_pb2 as api
from cairn.label.v1.label_schema_pb2 import LabelClass
from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.routing import Evidence, Promise, hold_round, lot, sampling_odds
from cairn_kit.database.migrations import migrate
from cairn_kit.testing import World, eventually
from services.inference.tests.stage import (
    Dispatch,
    Stage,
    created,
    head,
    imported,
    labeled,
    model_that_always_says,
    project,
    texts,
    upload,
)


def test_a_share_that_is_lowered_lets_no_easy_beginning_judge_a_hard_end() -> None:
    """Of 20,000 easy items half are drawn, of 200,000 hard ones that follow one in a hundred: most of the sample is
    easy, and little of what the model gets."""
    generator = np.random.default_rng(0)
    share = np.repeat([0.5, 0.01], [20_000, 200_000])
    hard = share < 0.5
    lots = np.array([lot(*one) for one in zip(generator.random(share.size), share, strict=True)])
    drawn = lots < np.array([sampling_odds(one) for one in share])
    judges = lots < sampling_odds(0.01)

    assert not (judges & ~drawn).any(), "whoever judges is of the sample"
    assert hard[drawn].mean() < 0.2
    assert abs(hard[judges].mean() - hard[~drawn].mean()) < 0.02

    wrong = hard & (generator.random(share.size) < 0.15)

    def passes(sample: np.ndarray) -> bool:
        says = np.where(wrong[sample], 0.0, 1.0)
        evidence = Evidence(
            scores=np.full(says.size, 0.9),
            predicted=np.zeros(says.size, dtype=np.int64),
            posteriors=np.column_stack([says, 1.0 - says]),
            through=np.zeros(says.size, dtype=np.bool_),
            earlier_errors=np.zeros(0),
        )
        return hold_round(evidence, Promise(0.05, 0.1, 1, int((~drawn).sum()))).allows_any

    assert passes(drawn), "the sample that is mostly easy knows nothing of it"
    assert not passes(judges)


def test_a_share_that_never_changes_lets_all_of_the_sample_judge() -> None:
    chances = np.random.default_rng(0).random(10_000)
    assert [lot(one, 0.3) < sampling_odds(0.3) for one in chances] == [one < 0.3 for one in chances]


async def test_those_judge_that_the_smallest_share_would_have_drawn(stage: Stage, dispatch: Dispatch) -> None:
    early, late = texts(200), texts(200, "late-")
    stage.crowd.truth_of = lambda _: "good"
    thresholds = await stage.heard(ThresholdSet)
    share = "SELECT validation_share FROM project"
    await stage.world.publish(created(project(validation_share=0.5)), *imported(early))
    await eventually(lambda: stage.count("validation IS NOT NULL"), 200)
    await stage.world.publish(created(project(2, validation_share=0.2)))
    await eventually(lambda: stage.service.database.fetchval(share), 0.2)
    await stage.world.publish(*imported(late))
    await eventually(lambda: stage.count("feature_state = 1"), 400)
    await stage.world.publish(created(project(3, validation_share=0.4)))
    await eventually(lambda: stage.service.database.fetchval(share), 0.4)

    async with stage.no_training():
        await stage.world.publish(*labeled([*early, *late]))
        await eventually(lambda: stage.count("label IS NOT NULL"), 400)
        version = await upload(stage, model_that_always_says(1, 2, 0.999))
        await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
        judging = await stage.count("lot < 0.25")
        assert judging < await stage.count("validation")
        await eventually(lambda: stage.count("answers_wished"), judging)
        assert await stage.count("answers_wished AND lot < 0.25") == judging
        await thresholds.count(1, timeout=30)
        assert thresholds.events[0].message.threshold.validation_items == judging
        through = "SELECT count(*) FROM let_through JOIN item USING (tenant, project, item) WHERE lot < 0.25"
        assert await stage.service.database.fetchval(through) == judging
    assert await stage.count("validation AND route = 1") == 0, (
        "the others of the sample stay with people, too"
    )


async def test_where_fewer_judge_from_now_on_the_evidence_of_before_is_no_measure_of_more(
    stage: Stage,
) -> None:
    evidence = "SELECT validation_items FROM project WHERE revision = $1"
    await stage.world.publish(created(project(1, validation_share=0.3)))
    await eventually(lambda: stage.service.database.fetchval(evidence, 1), 0)
    await stage.service.database.execute("UPDATE project SET validation_items = 500")
    await stage.world.publish(created(project(2, validation_share=0.4)))
    await eventually(lambda: stage.service.database.fetchval(evidence, 2), 500)
    await stage.world.publish(created(project(3, validation_share=0.2)))
    await eventually(lambda: stage.service.database.fetchval(evidence, 3), 0)


async def test_a_class_that_is_added_withdraws_the_threshold(stage: Stage) -> None:
    await stage.world.publish(created(), *imported(texts(6)))
    await eventually(lambda: stage.count("feature_state = 1"), 6)
    version = await upload(stage, head())
    await stage.api.PromoteModelVersion(api.PromoteModelVersionRequest(name=version.name))
    await stage.service.database.execute(
        """WITH set AS (INSERT INTO threshold SELECT tenant, project, 1, 0.5, 0.1, 0.2, 1, 0.1, 40, 0, 0.1, 1, 'mine', 1
                        FROM project)
           UPDATE project SET threshold = 1"""
    )
    in_force = "SELECT threshold FROM project WHERE revision = $1"
    same = project(2)
    same.schema.questions[0].choice.classes.reverse()
    await stage.world.publish(created(same))
    await eventually(lambda: stage.service.database.fetchval(in_force, 2), 1)
    more = project(3)
    more.schema.questions[0].choice.classes.append(LabelClass(id="mixed"))
    await stage.world.publish(created(more))
    await eventually(lambda: stage.service.database.fetchval("SELECT revision FROM project"), 3)
    assert await stage.service.database.fetchval(in_force, 3) is None


@pytest.fixture
def migrations_of_before(tmp_path: Path) -> Path:
    for file in Path(str(SERVICE.migrations)).glob("000[1-6]_*.sql"):
        shutil.copy(file, tmp_path)
    return tmp_path


async def test_items_of_before_judge_as_evenly_as_if_their_lots_had_been_kept(
    world: World, migrations_of_before: Path
) -> None:
    dsn = await world.dsn("inference", migrations_of_before)
    database = await world.database("inference")
    await database.execute(
        """INSERT INTO project (tenant, project, revision, question, unroutable, class_ids, alpha, delta, validation_share,
                                min_answers, automatic)
           VALUES ('acme', 'reviews', 1, 'polarity', '', '{bad,good}', 0.1, 0.1, 0.4, 2, true)"""
    )
    await database.execute(
        """INSERT INTO item (tenant, project, item, validation, gold, hint, content, feature_state, route, route_revision,
                             priority, open)
           SELECT 'acme', 'reviews', n, n % 5 < 2, false, 0, 1, 0, 2, 1, 0.5, true FROM generate_series(1, 5000) n"""
    )
    await migrate(dsn, "inference", SERVICE.migrations)
    assert await database.fetchval("SELECT smallest_share FROM project") == 0.4
    judges = "SELECT count(*) FROM item WHERE lot < $1"
    assert await database.fetchval(judges, sampling_odds(0.4)) == 2000, "all of them, while the share stays"
    of_a_fifth = 5000 * 0.6 * sampling_odds(0.2)
    assert abs(await database.fetchval(judges, sampling_odds(0.2)) - of_a_fifth) < 100
