"""When a training is asked for, what it holds up meanwhile, and what one that was killed leaves."""

from pathlib import Path
from typing import Any

import pytest

from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.store import InferenceStore
from cairn_inference.trainer import Trainer, TrainingLimits
from cairn_inference.training_folders import TrainingFolders
from cairn_kit.testing import World
from services.inference.tests.plans import fill

LIMITS = TrainingLimits(interval=0.0, growth=1.5, labels=1000, deadline=60.0, margin=0.01)


@pytest.mark.parametrize("come_in", [False, True])
async def test_labels_are_counted_while_others_come_in_and_again_if_any_did(
    world: World, tmp_path: Path, come_in: bool
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    nobody: Any = None  # nothing comes so far
    await fill(database, 10, label="'good'", label_source="2", spec=f"'{TEXT_SPEC.name}'")
    await database.execute("UPDATE project SET labels_changed = true")

    class Meanwhile(InferenceStore):
        async def label_counts(self, reader: Any, project: Any) -> Any:
            async with database.transaction() as writer:
                await writer.fetch("SELECT FROM project FOR UPDATE NOWAIT")
                if come_in:
                    await writer.execute("UPDATE project SET labels_changed = true")
            return await super().label_counts(reader, project)

    trainer = Trainer(database, Meanwhile(), nobody, nobody, nobody, TrainingFolders(tmp_path), LIMITS)
    assert await trainer.step() == 0
    assert await database.fetchval("SELECT labels_changed FROM project") is come_in


@pytest.mark.parametrize("when", ["listed", "counted"])
async def test_nothing_is_trained_on_items_that_began_to_follow_to_another_question_a_moment_ago(
    world: World, tmp_path: Path, when: str
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    nobody: Any = None
    label = "CASE n % 2 WHEN 0 THEN 'good' ELSE 'bad' END"
    await fill(database, 400, label=label, label_source="2", spec=f"'{TEXT_SPEC.name}'")
    await database.execute("UPDATE project SET labels_changed = true")

    class Meanwhile(InferenceStore):
        async def begin_when(self, now: str) -> None:
            if now == when:
                await database.execute("UPDATE project SET moving_from = routed_question, moved_until = ''")

        async def projects_to_train(self, reader: Any, interval: float) -> Any:
            listed = await super().projects_to_train(reader, interval)
            await self.begin_when("listed")
            return listed

        async def label_counts(self, reader: Any, project: Any) -> Any:
            counts = await super().label_counts(reader, project)
            await self.begin_when("counted")
            return counts

        async def next_run(self, tx: Any) -> Any:
            return None  # whatever was asked for stays so

    trainer = Trainer(database, Meanwhile(), nobody, nobody, nobody, TrainingFolders(tmp_path), LIMITS)
    await trainer.step()
    assert await database.fetchval("SELECT count(*) FROM training_run") == 0


async def test_what_a_training_that_was_killed_leaves_goes_when_the_next_begins(
    world: World, tmp_path: Path
) -> None:
    database = await world.database("inference", SERVICE.migrations)
    left, words = tmp_path / "a-run-1", tmp_path / "stderr.txt"
    left.mkdir()
    (left / "request.npz").touch()
    words.touch()
    nobody: Any = None
    trainer = Trainer(database, InferenceStore(), nobody, nobody, nobody, TrainingFolders(tmp_path), LIMITS)
    await trainer.step()
    assert not left.exists()
    assert words.exists(), "the last words of the process that trains here"

    left.mkdir()
    trainer.begin()
    async with TrainingFolders(tmp_path).open("of-another-replica") as folder:
        await trainer.step()
        assert folder.exists(), "nothing is taken from under one that shares the disk"
    assert not folder.exists()
    trainer.begin()
    await trainer.step()
    assert not left.exists()
