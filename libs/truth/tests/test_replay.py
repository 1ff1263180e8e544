"""A recorded crowd played back: adaptive asking buys fewer answers for the same accuracy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn_truth import Votes
from cairn_truth.__main__ import main, read_folder
from cairn_truth.measured.kinds import CLASSES, KINDS
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
    titles, _, row = (
        [cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()
    )
    assert row[1:3] == ["tiny", "1.0000 (1.0000)"]
    assert titles[3:5] == ["default on all answers", "majority of all"]
    assert row[3:5] == ["1.0000", "1.0000"]
    (folder / "truth.csv").write_text("item,truth\na,1\n", encoding="utf-8")
    assert main(["replay", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "truth.csv has no column label" in printed.err
    assert not printed.out  # no title above an error


def test_the_kind_may_be_said_and_only_classes_are_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers.csv").write_text(
        "item,annotator,label\np|q,x,a\np|q,y,a\nq|r,x,b\nq|r,y,b\n", encoding="utf-8"
    )
    (tmp_path / "truth.csv").write_text("item,label\np|q,a\nq|r,b\n", encoding="utf-8")
    assert main(["replay", str(tmp_path), "--seeds", "1", "--kind", "classes"]) == 0
    assert "1.0000 (1.0000)" in capsys.readouterr().out
    assert main(["replay", str(tmp_path)]) == 1
    assert "holds no classes but preferences; only classes are replayed" in capsys.readouterr().err
    (tmp_path / "truth.csv").unlink()
    for kind in sorted(set(KINDS) - {CLASSES}):
        assert main(["replay", str(tmp_path), "--kind", kind]) == 1
        printed = capsys.readouterr()
        assert f"holds no classes but {kind}; only classes are replayed" in printed.err
        assert not printed.out


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--target", "2", "no number between 0 and 1"),
        ("--target", "nan", "no number between 0 and 1"),
        ("--min-answers", "0", "no whole number, at least 1"),
        ("--seeds", "0", "no whole number, at least 1"),
        ("--lag", "-3", "no whole number, at least 1"),
        ("--lag", "1.5", "no whole number, at least 1"),
    ],
)
def test_an_option_of_no_sense_is_refused_in_one_line(
    option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["replay", "anywhere", f"{option}={value}"])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_no_fewer_answers_may_be_allowed_than_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "anywhere", "--max-answers", "1"]) == 2
    assert "--min-answers is 2, --max-answers 1" in capsys.readouterr().err


@pytest.mark.parametrize("lag", [0, -1, 1.5])
def test_no_answer_is_known_before_one_is_claimed(crowd: Any, lag: Any) -> None:
    with pytest.raises(ValueError, match="lag is"):
        replay(Recorded(crowd.votes, crowd.truth), seed=0, lag=lag)


def test_a_tie_is_the_lower_classs_as_in_the_table_of_scores() -> None:
    votes = Votes.of([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], classes=2)
    assert majority_accuracy(votes, [0, 1]) == 0.5
    assert majority_accuracy(votes, [0, 0]) == 1.0


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_a_real_crowd_of_twenty_answers_an_item_is_outdone_with_a_third_of_them() -> None:
    recorded = read_folder(DATA / "d_possent")
    runs = [replay(recorded, seed=seed, policy=StopPolicy(max_answers=20), lag=500) for seed in range(5)]
    assert np.mean([run.accuracy for run in runs]) >= 0.95
    assert all(run.accuracy > run.majority_accuracy for run in runs)  # of all twenty
    assert all(run.used_share <= 0.38 for run in runs)
