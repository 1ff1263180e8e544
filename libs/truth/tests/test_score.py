"""`python -m cairn_truth score` and `agreement` measure every method alike, whatever kind of answer a folder holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn_truth.__main__ import main
from cairn_truth.measured.kinds import UnknownKindError, kind_of
from cairn_truth.measured.recorded import SCORINGS, read_any, read_folder
from cairn_truth.measured.replay import Recorded
from cairn_truth.measured.score import METHODS, macro_f1, score
from cairn_truth.measured.tables import read_answers, read_truth

DATA = Path(os.environ.get("CAIRN_DATA", Path(__file__).parents[4] / "shared" / "data"))


def folder(place: Path, answers: list[str], truths: list[str]) -> Path:
    place.mkdir()
    (place / "answers.csv").write_text("\n".join(["item,annotator,label", *answers]), encoding="utf-8")
    (place / "truth.csv").write_text("\n".join(["item,label", *truths]), encoding="utf-8")
    return place


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Three who answer four items; one truth is unknown, one class is only in the truth."""
    answers = [f"{i},{who},{'cat' if i < 2 else 'dog'}" for i in range(4) for who in ("ann", "bob", "cid")]
    return folder(tmp_path / "animals", answers, ["0,cat", "1,cat", "2,fox"])


def test_every_method_is_scored_and_the_default_is_first(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(animals), "--json", "--memory"]) == 0
    lines = lines_of(capsys)
    assert [line["method"] for line in lines] == list(METHODS)
    assert [line["default"] for line in lines] == [True] + [False] * (len(METHODS) - 1)
    majority = next(line for line in lines if line["method"] == "MajorityVote")
    assert majority["dataset"] == "animals"
    assert majority["kind"] == "classes"
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
    mean = next(row for row in rows if "mean of 2" in row and "MajorityVote" in row)
    assert f"{(2 / 3 + 1) / 2:.4f}" in mean
    assert rows[2].split()[1:5] == ["animals", "|", "BlockDawidSkene", "*"]


ANSWERS_OF_KIND = {
    "numbers": (["a,x,1.5", "a,y,2", "a,z,2.5", "b,x,7.5", "b,y,8.5"], ["a,2", "b,8.25"]),
    "text": ([f"{i},{w},the {i} of many words" for i in range(9) for w in "xyz"], ["0,the 0 of many words"]),
    "spans": (['a,x,"[[1, 5]]"', 'a,y,"[[1, 4], [7, 9]]"', "a,z,[]"], ['a,"[[1, 5]]"']),
    "boxes": (
        [f'{i},{w},"[[{i}, 2, 30, 40.5]]"' for i in range(3) for w in "xyz"],
        ['0,"[[0, 2, 30, 40]]"'],
    ),
    "polygons": (
        ['a,x,"1,1 9,1 9,9 1,9"', 'a,y,"2,1 9,1 9,9"', 'a,z,"1,1 9,2 8,9"'],
        ['a,"1,1 9,1 9,9 1,9"'],
    ),
    "preferences": (["p|q,x,a", "p|q,y,b", "p|q,z,a", "q|r,x,s"], ["p|q,a"]),
}


@pytest.mark.parametrize("kind", ANSWERS_OF_KIND)
def test_answers_of_every_kind_are_scored_by_the_methods_for_them(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folder(tmp_path / "some", *ANSWERS_OF_KIND[kind])), "--json"]) == 0
    lines = lines_of(capsys)
    assert [line["method"] for line in lines] == list(SCORINGS[kind].METHODS)
    assert lines[0]["method"] == SCORINGS[kind].DEFAULT
    assert [line["default"] for line in lines] == [True] + [False] * (len(lines) - 1)
    assert all(line["kind"] == kind and line["seconds"] > 0 for line in lines)
    assert "peak_mb" not in lines[0]  # nobody asked
    assert set(lines[0]) > {
        "dataset",
        next(iter(SCORINGS[kind].judge({}, {}) if kind != "numbers" else ["rmse"])),
    }


def test_preferences_agree_by_side_whatever_the_candidates_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flips = np.random.default_rng(2).integers(2, size=(400, 2)).tolist()
    cells = [
        (f"q{k}|m{k}|n{k}", who, side)
        for k, said in enumerate(flips)
        for who, side in zip("xy", said, strict=True)
    ]
    told = {}
    for form in ("names", "words"):
        rows = [
            f"{i},{who},{i.split('|')[1 + side] if form == 'names' else 'ab'[side]}" for i, who, side in cells
        ]
        assert main(["agreement", str(folder(tmp_path / form, rows, ["q0|m0|n0,a"])), "--json"]) == 0
        told[form] = [{**line, "dataset": ""} for line in lines_of(capsys)]
    assert told["names"] == told["words"]
    chance_corrected = [line for line in told["names"] if not line["statistic"].startswith("raw")]
    assert len(chance_corrected) == 5
    assert all(abs(line["value"]) < 0.15 for line in chance_corrected)  # who flips a coin agrees by chance


CROWD = np.random.default_rng(5)


def drawn(values: list[Any], answers: int = 600, items: int = 60) -> list[str]:
    """Return answers to items, one of the values each."""
    return [f"{i % items},w{i // items},{values[CROWD.integers(len(values))]}" for i in range(answers)]


def sized(spread: float, answers: int = 600, items: int = 60) -> list[str]:
    """Return whole numbers from 0 to 100, near the item's own."""
    near = CROWD.integers(0, 101, items)
    return [
        f"{i % items},w{i // items},{int(np.clip(near[i % items] + CROWD.normal(0, spread), 0, 100))}"
        for i in range(answers)
    ]


@pytest.mark.parametrize(
    ("kind", "answers", "truths"),
    [
        ("numbers", ["a,x,-60", "a,y,20"], ["a,-66"]),
        ("numbers", ["a,x,0", "a,y,35", "b,x,90"], ["a,37", "b,80"]),
        ("numbers", sized(15.0), ["0,37"]),
        ("numbers", drawn([0, 10, 20, 30]), ["0,12.5"]),
        ("classes", drawn(["cat", "dog"]), ["0,cat"]),
        ("classes", drawn([-1, 0, 1]), ["0,-1"]),
        ("classes", drawn([1, 2, 3, 4, 5]), ["0,5"]),
        ("classes", drawn([0.5, 1, 1.5, 2]), ["0,1.5"]),
        ("classes", drawn([10, 200, 3000]), ["0,200"]),
        ("classes", drawn(list(range(77)), 4000), ["0,7"]),
        ("classes", drawn(["1", "2", "unsure"]), ["0,1"]),
        ("classes", drawn([f"some class of many {i}" for i in range(150)]), ["0,some class of many 1"]),
        ("classes", [row.replace(",", "|1,", 1) for row in drawn(["cat", "dog"])], ["0|1,cat"]),
        ("text", [f"{i},w{j},plate {i}" for i in range(30) for j in range(9)], ["0,plate 0"]),
        ("spans", ['a,x,"[[1, 2, ""drug""]]"', "a,y,[]"], ["a,[]"]),
        ("spans", ['a,x,"[[1, 20], [25, 30], [41, 50]]"', 'b,y,"[[5, 9], [11, 14], [18, 28]]"'], ["a,[]"]),
        ("boxes", ['a,x,"[1, 2, 30, 40]"', 'a,y,"[[1, 2, 30, 41, ""car""]]"'], ['a,"[1, 2, 30, 40]"']),
        ("polygons", ['a,x,"[[1, 2], [9, 2], [9, 8]]"'], ['a,"[[1, 2], [9, 2], [9, 8]]"']),
        ("polygons", ['a,x,"[[100, 200], [104, 202], [102, 206]]"'], ["a,[]"]),
        ("polygons", ['a,x,"[[[1, 2], [9, 2], [9, 8]]]"', "a,y,"], ["a,"]),
    ],
)
def test_the_kind_is_told_from_the_answers(
    kind: str, answers: list[str], truths: list[str], tmp_path: Path
) -> None:
    place = folder(tmp_path / "some", answers, truths)
    assert kind_of(read_answers(place), read_truth(place)) == kind


@pytest.mark.parametrize(
    "label", ['"{""start"": 1}"', '"[[0.5, 1.25], [1.5, 3.75]]"', '"[""cat"", ""dog""]"', '""']
)
def test_answers_that_nothing_scores_are_left_out_and_told(
    label: str, tmp_path: Path, animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder(tmp_path / "other", [f"a,x,{label}", f"a,y,{label}"], [f"a,{label}"])
    with pytest.raises(UnknownKindError, match="expected"):
        read_any(other)
    assert main(["score", str(other), str(animals), "--json"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == len(METHODS)
    assert "left out" in printed.err


def test_a_folder_that_cannot_be_read_is_an_error_and_the_others_are_scored(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tmp_path / "absent"), str(animals), "--json"]) == 1
    printed = capsys.readouterr()
    assert "answers.csv" in printed.err
    assert len(printed.out.splitlines()) == len(METHODS)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["a,x,1.5", "a,y,2.5", *["b,z,3.5"] * 30, "b,x,many"], "line 34, column label: label is 'many'; expected a finite"),
        (["a,x,1.25", "a,y"], "line 3 ends before column label; expected item,annotator,label"),
        (["a,x,well, no"], "line 2 has 4 columns; expected 3, and quotes"),
        ([",x,1"], "line 2, column item: is empty; expected a name"),
        (["a,x,yes", "a,y,", "b,x,no"], "line 3, column label: is empty; expected a class"),
        (['a,x,"two', 'lines"', *["a,z,yes"] * 3, "a,y"], "line 7 ends before column label"),
        (['a,x,"[[1, 2]]"'] * 30 + ['a,y,"[[4, 3]]"'], "line 32, column label: span 0 is [4, 3]; expected"),
        (["b,x,1", "b,y,1"], "no item of truth.csv has an answer"),
        ([], "answers.csv has no rows; expected one or more"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_its_line_and_what_was_expected(
    answers: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = '"[[1, 2]]"' if "span" in told else "1"
    place = folder(tmp_path / "bad", answers, [f"a,{label}"])
    assert main(["score", str(place), "--json"]) == 1
    assert told in capsys.readouterr().err


def test_one_class_written_in_two_ways_is_one_and_classes_are_in_order_of_number(tmp_path: Path) -> None:
    rows = [f"{i},{who},{i % 12}" for i in range(60) for who in "xyz"]
    recorded = read_folder(folder(tmp_path / "some", rows, ["10,10.0", "2,2", "3,"]))
    assert recorded.votes.classes == 12
    assert sorted(recorded.truth[recorded.truth >= 0]) == [2, 10]


def test_outlines_without_a_truth_are_judged_by_each_labeler_left_out_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "outlines"
    place.mkdir()
    square = '"1,1 9,1 9,9 1,9"'
    rows = [f"{i},{who},{square}" for i in "ab" for who in "xyz"] + [f"c,x,{square}"]
    (place / "polygons.csv").write_text("\n".join(["item,annotator,polygon", *rows]), encoding="utf-8")
    recorded = read_any(place)
    assert [sorted(play.crowd["a"]) for play in recorded.plays] == [["y", "z"], ["x", "z"], ["x", "y"]]
    assert main(["score", str(place), "--json"]) == 0
    assert all(line["iou"] == pytest.approx(1.0) for line in lines_of(capsys))
    assert main(["agreement", str(place), "--json"]) == 0
    assert lines_of(capsys)[0]["value"] == pytest.approx(1.0)


def test_agreement_is_told_with_intervals_and_two_labelers_have_kappas_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{i},{who},{'yes' if (i + (who == 'y' and i % 5 == 0)) % 2 else 'no'}"
        for i in range(20)
        for who in "xy"
    ]
    assert main(["agreement", str(folder(tmp_path / "two", rows, ["0,yes"])), "--json"]) == 0
    told = {line["statistic"]: line for line in lines_of(capsys)}
    assert list(told) == [
        "Krippendorff's alpha, nominal", "Fleiss' kappa", "Gwet's AC1", "raw agreement", "Cohen's kappa", "Scott's pi",
    ]  # fmt: skip
    assert told["raw agreement"]["value"] == pytest.approx(0.8)
    assert told["Cohen's kappa"]["value"] == pytest.approx(0.6)
    assert all(line["low"] < line["value"] <= line["high"] for line in told.values())


@pytest.mark.parametrize("kind", ANSWERS_OF_KIND)
def test_agreement_suits_the_kind(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agreement", str(folder(tmp_path / "some", *ANSWERS_OF_KIND[kind]))]) == 0
    rows = capsys.readouterr().out.splitlines()
    expected = {"numbers": "alpha, interval", "text": "alpha, nominal", "preferences": "Gwet's AC1"}
    assert expected.get(kind, "of two answers") in "".join(rows)
    assert len({len(row) for row in rows}) == 1


def test_agreement_that_is_not_defined_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder(tmp_path / "one", ["a,x,yes", "a,y,yes", "b,x,yes"], ["a,yes"])
    assert main(["agreement", str(place), "--json"]) == 0
    printed = capsys.readouterr()
    assert "expected two" in printed.err
    assert [json.loads(line)["statistic"] for line in printed.out.splitlines()] == ["raw agreement"]


def test_macro_f1_gives_every_class_the_same_weight() -> None:
    """Class 0: precision 2/3, recall 1; class 1: recall 0."""
    assert macro_f1([0, 0, 0], [0, 0, 1]) == pytest.approx(0.8 / 2)
    assert macro_f1([], []) == 0.0


def test_a_score_counts_only_items_with_a_truth(crowd: Any) -> None:
    truth = crowd.truth.copy()
    truth[10:] = -1
    best = next(score(Recorded(crowd.votes, truth)))
    assert best.method == "BlockDawidSkene"
    assert best.measures["accuracy"] in {n / 10 for n in range(11)}


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("labelme", "classes"), ("music_genre", "classes"), ("snow_temp", "classes"), ("snow_anger", "numbers"),
        ("snow_valence", "numbers"), ("crowdwsa_t1", "text"), ("pico_spans", "spans"),
        ("music_similarity_pairs", "preferences"),
    ],
)  # fmt: skip
def test_kinds_of_recorded_answers_are_told_with_and_without_truths(name: str, kind: str) -> None:
    answers, truths = read_answers(DATA / name), read_truth(DATA / name)
    assert kind_of(answers, truths) == kind_of(answers) == kind


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs recorded real answers (CAIRN_DATA)")
def test_agreement_of_recorded_answers_is_what_other_programs_find(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("d_possent", "rte", "snow_valence")
    assert main(["agreement", "--json", *(str(DATA / name) for name in names)]) == 0
    alpha = {
        line["dataset"]: line["value"] for line in reversed(lines_of(capsys)) if "alpha" in line["statistic"]
    }
    assert alpha == pytest.approx({"d_possent": 0.14930, "rte": 0.24148, "snow_valence": 0.32556}, abs=1e-5)
