"""`python -m cairn_truth score` measures every method alike, the default first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cairn_truth.__main__ import main
from cairn_truth.measured.replay import Recorded
from cairn_truth.measured.score import METHODS, macro_f1, score


def folder(place: Path, answers: list[str], truths: list[str]) -> Path:
    place.mkdir()
    (place / "answers.csv").write_text("\n".join(["item,annotator,label", *answers]), encoding="utf-8")
    (place / "truth.csv").write_text("\n".join(["item,label", *truths]), encoding="utf-8")
    return place


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Three who answer four items; one truth is unknown, one class is only in the truth."""
    answers = [f"{i},{who},{'cat' if i < 2 else 'dog'}" for i in range(4) for who in ("ann", "bob", "cid")]
    return folder(tmp_path / "animals", answers, ["0,cat", "1,cat", "2,fox"])


def test_every_method_is_scored_and_the_default_is_first(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(animals), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["method"] for line in lines] == list(METHODS)
    assert [line["default"] for line in lines] == [True] + [False] * (len(METHODS) - 1)
    majority = next(line for line in lines if line["method"] == "MajorityVote")
    assert majority["dataset"] == "animals"
    assert majority["accuracy"] == pytest.approx(2 / 3)
    assert majority["macro_f1"] == pytest.approx((1 + 0 + 0) / 3)
    assert majority["ece"] == pytest.approx(1 / 3)
    assert all(line["seconds"] > 0 and line["peak_mb"] > 0 for line in lines)


def test_a_table_ends_with_the_mean_of_several_sets(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder(tmp_path / "other", ["a,x,1", "a,y,1", "b,x,0", "b,y,0"], ["a,1", "b,0"])
    assert main(["score", str(animals), str(other)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len({len(row) for row in rows}) == 1
    mean = next(row for row in rows if "mean" in row and "MajorityVote" in row)
    assert f"{(2 / 3 + 1) / 2:.4f}" in mean
    assert "| animals        | HierarchicalDawidSkene * |" in rows[2]


@pytest.mark.parametrize(
    ("kind", "answers", "truths"),
    [
        ("numbers", ["a,x,-60", "a,y,20"], ["a,-66"]),
        ("numbers", ["a,x,1.5", "a,y,2"], ["a,2"]),
        ("numbers", ["a,x,0", "a,y,35", "b,x,90"], ["a,37", "b,80"]),
        ("text", [f"{i},x,the {i}th of many sentences" for i in range(30)], ["0,the 0th of them"]),
        ("spans or shapes", ['a,x,"[[1, 2]]"', "a,y,[]"], ["a,[]"]),
        ("preferences", ["p|q,x,a", "p|q,y,b"], ["p|q,a"]),
    ],
)
def test_answers_of_another_kind_are_named_and_left_out(
    kind: str, answers: list[str], truths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folder(tmp_path / "other", answers, truths)), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"holds no classes but {kind}" in printed.err


def test_a_folder_that_cannot_be_read_is_an_error_and_the_others_are_scored(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tmp_path / "absent"), str(animals), "--json"]) == 1
    printed = capsys.readouterr()
    assert "answers.csv" in printed.err
    assert len(printed.out.splitlines()) == len(METHODS)


def test_macro_f1_gives_every_class_the_same_weight() -> None:
    """Class 0: precision 2/3, recall 1; class 1: recall 0."""
    assert macro_f1([0, 0, 0], [0, 0, 1]) == pytest.approx(0.8 / 2)
    assert macro_f1([], []) == 0.0


def test_a_score_counts_only_items_with_a_truth(crowd: Any) -> None:
    truth = crowd.truth.copy()
    truth[10:] = -1
    best = next(score(Recorded(crowd.votes, truth)))
    assert best.method == "HierarchicalDawidSkene"
    assert best.accuracy in {n / 10 for n in range(11)}
