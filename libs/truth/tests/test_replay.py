"""A recorded crowd played back: adaptive asking buys fewer answers for the same accuracy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn_truth.__main__ import main, read_folder
from cairn_truth.measured.replay import Recorded, majority_accuracy, replay
from cairn_truth.routing.stop_rule import StopPolicy

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_asking_where_it_is_worth_it_costs_less_and_is_as_good(crowd: Any) -> None:
    recorded = Recorded(crowd.votes, crowd.truth)
    adaptive = replay(recorded, seed=0)
    assert adaptive.accuracy >= majority_accuracy(crowd.votes, crowd.truth) - 0.01
    assert adaptive.used_share < 0.85
    assert adaptive.stop_accuracy == pytest.approx(adaptive.stop_confidence, abs=0.04)


@pytest.fixture(scope="module")
def three_each(crowd: Any) -> Any:
    return _three_each(crowd)


def _three_each(crowd: Any) -> Any:
    policy = StopPolicy(max_answers=3, fixed=True)
    return replay(Recorded(crowd.votes, crowd.truth), seed=3, policy=policy)


def test_the_same_seed_is_the_same_replay(crowd: Any, three_each: Any) -> None:
    assert _three_each(crowd) == three_each


def test_a_fixed_number_uses_just_that(crowd: Any, three_each: Any) -> None:
    assert three_each.answers_used == 3 * crowd.votes.items


def test_a_table_is_printed_for_each_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "answers.csv").write_text(
        "\ufeffitem,annotator,label\na,x,1\na,y,1\nb,x,0\nb,y,0\n", encoding="utf-8"
    )
    (folder / "truth.csv").write_text("item,label\na,1\nb,0\n", encoding="utf-8")
    assert main(["replay", str(folder), "--seeds", "1"]) == 0
    assert "| tiny | 1.0000" in capsys.readouterr().out
    (folder / "truth.csv").write_text("item,truth\na,1\n", encoding="utf-8")
    assert main(["replay", str(folder)]) == 1
    assert "truth.csv has no column label" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_a_real_crowd_of_twenty_answers_an_item_is_outdone_with_a_third_of_them() -> None:
    recorded = read_folder(DATA / "d_possent")
    runs = [replay(recorded, seed=seed, policy=StopPolicy(max_answers=20), lag=500) for seed in range(5)]
    assert np.mean([run.accuracy for run in runs]) >= 0.95
    assert all(run.accuracy > run.majority_accuracy for run in runs)  # of all twenty
    assert all(run.used_share <= 0.38 for run in runs)
