"""When a training is asked for, and what it holds up meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from cairn_inference.__main__ import SERVICE
from cairn_inference.domain.features import TEXT_SPEC
from cairn_inference.store import InferenceStore
from cairn_inference.trainer import Trainer, TrainingLimits
from cairn_kit.testing import World
from services.inference.tests.plans import fill


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

    limits = TrainingLimits(interval=0.0, growth=1.5, labels=1000, deadline=60.0, margin=0.01)
    trainer = Trainer(database, Meanwhile(), nobody, nobody, nobody, tmp_path, limits)
    assert await trainer.step() == 0
    assert await database.fetchval("SELECT labels_changed FROM project") is come_in
