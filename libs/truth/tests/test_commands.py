"""The command: labels and labelers out of a folder, and what is told of a folder that is not as it should be."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cairn_truth import BlockDawidSkene, NamedVotes
from cairn_truth.__main__ import main
from cairn_truth.measured.joins import READERS
from cairn_truth.measured.recorded import SCORINGS, read_folder
from libs.truth.tests.test_score import ANSWERS_OF_KIND, folder

Printed = pytest.CaptureFixture[str]


def crowd(items: int = 40, people: int = 5, seed: int = 0) -> list[tuple[str, str, str]]:
    chance = np.random.default_rng(seed)
    truth = chance.choice(["cat", "dog", "fox"], items)
    return [
        (f"i{i:02d}", f"w{w}", str(truth[i]) if chance.random() < 0.8 else str(chance.choice(["cat", "dog", "fox"])))
        for i in range(items)
        for w in range(people)
    ]  # fmt: skip


def written(place: Path, rows: list[tuple[str, str, str]], **tables: str) -> Path:
    place.mkdir()
    with (place / "answers.csv").open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("item", "annotator", "label"), *rows])
    for name, text in tables.items():
        (place / f"{name}.csv").write_text(text, encoding="utf-8")
    return place


def table_of(printed: str) -> list[dict[str, str]]:
    return list(csv.DictReader(printed.splitlines()))


# --- join


def test_joined_classes_are_those_of_the_default_by_name(tmp_path: Path, capsys: Printed) -> None:
    rows = crowd()
    assert main(["join", str(written(tmp_path / "some", rows))]) == 0
    found = table_of(capsys.readouterr().out)
    named = NamedVotes.of(*zip(*rows, strict=True))
    expected = named.labels(BlockDawidSkene().fit(named.votes).posterior)
    assert [row["item"] for row in found] == sorted(expected)
    for row in found:
        assert row["label"] == expected[row["item"]].label
        assert float(row["confidence"]) == pytest.approx(expected[row["item"]].confidence, abs=1e-3)
        assert row["answers"] == "5"


def test_known_labels_are_kept_from_the_folder_or_from_a_table_of_ones_own(
    tmp_path: Path, capsys: Printed
) -> None:
    place = written(tmp_path / "some", crowd(), gold="item,label\ni00,fox\ni01,dog\nelsewhere,cat\n")
    other = tmp_path / "mine.csv"
    other.write_text("item,label\ni00,dog\n", encoding="utf-8")
    for options, label in (([], "fox"), (["--gold", str(other)], "dog")):
        assert main(["join", str(place), *options]) == 0
        first = table_of(capsys.readouterr().out)[0]
        assert (first["item"], first["label"], float(first["confidence"])) == ("i00", label, 1.0)


EVERY_KIND: dict[str, tuple[list[str], list[str]]] = {
    **ANSWERS_OF_KIND,
    "preferences": (["p|q,x,p", "p|q,y,q", "p|q,z,p", "q|r,x,"], ["p|q,p"]),
    "ratings": ([f"{i},{w},{1 + (i + (w == 'z')) % 5}" for i in range(9) for w in "xyz"], ["0,1"]),
    "choices": ([f'{i},{w},"[""a"", ""b""]"' for i in range(4) for w in "xyz"], ['0,"[""a"", ""b""]"']),
    "rankings": ([f"{i},{w},a>b=c>d" for i in range(4) for w in "xyz"], ["0,a>b=c>d"]),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_joined_labels_of_every_kind_are_cells_that_can_be_read_again(
    kind: str, tmp_path: Path, capsys: Printed
) -> None:
    place = folder(tmp_path / "some", *EVERY_KIND[kind])
    assert main(["join", str(place), "--kind", kind]) == 0
    found = table_of(capsys.readouterr().out)
    assert {row["item"] for row in found} == {line.split(",")[0] for line in EVERY_KIND[kind][0]}
    values = {row["item"]: READERS[kind](row["label"]) for row in found}
    assert all(0.0 <= float(row["confidence"]) <= 1.0 for row in found)
    if kind in SCORINGS:
        item, label = next(csv.reader([EVERY_KIND[kind][1][0]]))
        scoring = SCORINGS[kind]
        # What is joined is near the truth, by the kind's own measure.
        measure, value = next(
            iter(scoring.judge({item: _value(kind, values[item])}, {item: scoring.read(label)}).items())
        )
        assert value <= 1.0 if measure in {"rmse", "wer"} else value > 0.5
    if kind in {"choices", "rankings"}:
        assert {row["label"] for row in found} == {
            EVERY_KIND[kind][0][0].split(",", 2)[2].strip('"').replace('""', '"')
        }


def _value(kind: str, read: Any) -> Any:
    """Preferences are judged by chances; the side that was chosen has all of it."""
    return ((1.0, 0.0, 0.0) if read == "p" else (0.0, 1.0, 0.0)) if kind == "preferences" else read


def test_labels_in_json_are_one_object_a_line(tmp_path: Path, capsys: Printed) -> None:
    assert main(["join", str(written(tmp_path / "some", crowd(items=3))), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(line) for line in lines] == [{"item", "label", "confidence", "answers"}] * 3


# --- labelers


def test_labelers_have_an_interval_and_who_does_not_look_is_told(tmp_path: Path, capsys: Printed) -> None:
    rows = [*crowd(items=200), *((f"i{i:02d}", "lazy", "cat") for i in range(60))]
    place = written(tmp_path / "some", rows)
    assert main(["labelers", str(place), "--json"]) == 0
    told = {line["labeler"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert told.keys() == {"w0", "w1", "w2", "w3", "w4", "lazy"}
    assert told["w0"]["low"] < 0.87 < told["w0"]["high"]
    assert told["lazy"]["answers"] == 60
    assert told["lazy"]["found"][0].startswith("constant (")
    assert not told["w0"]["found"]
    assert main(["labelers", str(place)]) == 0
    rows_shown = capsys.readouterr().out.splitlines()
    assert rows_shown[-1].split("|")[1].strip() == "lazy"
    assert "95 % interval" in rows_shown[0]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_labelers_of_every_kind_are_told(kind: str, tmp_path: Path, capsys: Printed) -> None:
    assert main(["labelers", str(folder(tmp_path / "some", *EVERY_KIND[kind])), "--kind", kind]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {row.split("|")[1].strip() for row in shown[2:]} == {"x", "y", "z"}


# --- several folders


@pytest.mark.parametrize("command", ["join", "labelers"])
def test_of_several_folders_each_row_says_of_which(command: str, tmp_path: Path, capsys: Printed) -> None:
    places = [
        str(written(tmp_path / name, crowd(items=4, people=3, seed=n)))
        for n, name in enumerate(("one", "other"))
    ]
    alone = []
    for place in places:
        assert main([command, place, "--json"]) == 0
        alone += [
            {"dataset": Path(place).name, **json.loads(line)} for line in capsys.readouterr().out.splitlines()
        ]
    assert main([command, *places, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == alone
    assert main([command, *places]) == 0
    shown = capsys.readouterr().out
    if command == "join":
        assert [(row["dataset"], row["item"]) for row in table_of(shown)] == [
            (row["dataset"], row["item"]) for row in alone
        ]  # under one title
    else:
        cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in shown.splitlines()]
        assert cells.count(["dataset", "labeler"]) == 2
        assert all([row["dataset"], row["labeler"]] in cells for row in alone)


def test_one_table_of_known_labels_is_of_one_folder(tmp_path: Path, capsys: Printed) -> None:
    assert main(["join", "here", "there", "--gold", str(tmp_path / "gold.csv")]) == 2
    assert "--gold is of one DIR, not of 2; expected gold.csv in each" in capsys.readouterr().err


# --- what kind, and why


@pytest.mark.parametrize("command", ["join", "labelers", "agreement", "score"])
def test_the_kind_is_told_with_why_and_may_be_said(command: str, tmp_path: Path, capsys: Printed) -> None:
    place = folder(
        tmp_path / "some", [f"doc{i}|s1,{w},{'ab'[i % 2]}" for i in range(6) for w in "xyz"], ["doc0|s1,a"]
    )
    assert main([command, str(place)]) == 0
    assert "some: preferences (items are named left|right" in capsys.readouterr().err
    assert main([command, str(place), "--kind", "classes"]) == 0
    assert "some: classes (as was said)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1", "2", "two", "7"], "75% of the labels are numbers, but answers.csv line 4 is 'two'"),
        (
            ["a>b>c", "b>a>c", "a", "c>b>a"],
            "75% of the labels are rankings a>b>c, but answers.csv line 4 is 'a'",
        ),
    ],
)
def test_the_cell_that_breaks_a_pattern_is_named(
    cells: list[str], told: str, tmp_path: Path, capsys: Printed
) -> None:
    place = written(tmp_path / "some", [(f"i{n}", f"w{n}", cell) for n, cell in enumerate(cells)])
    main(["agreement", str(place)])
    printed = capsys.readouterr().err
    assert told in printed
    assert "taken to be classes (--kind says otherwise)" in printed


def test_a_table_of_scores_says_what_its_measures_are(tmp_path: Path, capsys: Printed) -> None:
    for kind, answers in ANSWERS_OF_KIND.items():
        assert main(["score", str(folder(tmp_path / kind, *answers))]) == 0
        printed = capsys.readouterr()
        for title in printed.out.splitlines()[0].split("|")[3:-1]:
            assert f"{title.strip()}: " in printed.err


def test_outlines_in_two_forms_are_outlines(tmp_path: Path, capsys: Printed) -> None:
    answers = ['a,x,"[[0, 0], [10, 0], [10, 10], [0, 10]]"', 'a,y,"[[0, 0], [10, 0], [10, 10], [0, 10]]"']
    place = folder(tmp_path / "some", answers, ['a,"0,0 10,0 10,10 0,10"'])
    assert main(["score", str(place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["iou"] == 1.0


def test_what_nothing_scores_can_yet_be_joined(tmp_path: Path, capsys: Printed) -> None:
    place = folder(tmp_path / "some", *EVERY_KIND["rankings"])
    assert main(["score", str(place)]) == 0
    assert (
        "holds rankings, which nothing here scores (join and labelers take them)" in capsys.readouterr().err
    )
    assert main(["join", str(place)]) == 0


# --- what may be a slip, and what is an error


def test_what_may_be_a_slip_is_a_note(tmp_path: Path, capsys: Printed) -> None:
    rows = [("a", "x", "cat"), ("a", "", "dog"), ("a", "", "dog"), ("b", "x", "cat"), ("b", "x", "dog")]
    place = written(tmp_path / "some", rows, truth="item,label\na,cow\nb,dog\nz,cat\n")
    assert main(["score", str(place), "--json"]) == 0
    told = capsys.readouterr().err
    assert "2 answers have no annotator (first: line 3)" in told
    assert (
        "1 answer was given anew by the same labeler to the same item (first: 'x' to 'b', line 5); each is"
        in told
    )
    assert "1 item of truth.csv without an answer (first: 'z', line 4)" in told
    assert "1 class(es) of truth.csv that nobody answered ('cow'; first on line 2)" in told


def test_a_labelers_second_answer_is_a_vote_on_classes_and_a_correction_elsewhere_and_strangers_are_several(
    tmp_path: Path,
) -> None:
    rows = [("a", "x", "cat"), ("a", "", "dog"), ("a", "", "dog"), ("b", "x", "cat"), ("b", "x", "dog")]
    votes = read_folder(written(tmp_path / "some", rows, truth="item,label\na,dog\nb,dog\n")).votes
    assert votes.tally().tolist() == [[1.0, 2.0], [1.0, 1.0]]
    assert votes.labelers == 3


@pytest.mark.parametrize(
    ("answers", "truth", "told"),
    [
        ("item,annotator,label\na,x,1\n", "item,label\na,1\na,2\n", "truth.csv line 3, column item: 'a' is on line 2, too"),
        ("item;annotator;label\na;x;1\n", None, "separated by ';'; expected commas"),
        ("task,worker,label\na,x,1\n", None, "rename 'task' to 'item', 'worker' to 'annotator'?"),
        ("item,annotator,verdict\na,x,1\n", None, "no column label; expected item,annotator,label; it has 'item'"),
        ("item,annotator,label\na,x,1\n", None, "has no truth.csv to score by; expected a table item,label"),
    ],
)  # fmt: skip
def test_an_error_says_its_likely_cause(
    answers: str, truth: str | None, told: str, tmp_path: Path, capsys: Printed
) -> None:
    (tmp_path / "answers.csv").write_text(answers, encoding="utf-8")
    if truth is not None:
        (tmp_path / "truth.csv").write_text(truth, encoding="utf-8")
    assert main(["score", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert told in printed.err
    assert not printed.out


@pytest.mark.parametrize("command", ["join", "labelers", "agreement", "score"])
def test_a_preference_for_nobody_is_told_with_its_place(
    command: str, tmp_path: Path, capsys: Printed
) -> None:
    place = folder(tmp_path / "some", ["p|q,x,p", "p|q,y,zebra", "p|q,z,q"], ["p|q,p"])
    assert main([command, str(place), "--kind", "preferences"]) == 1
    assert (
        "answers.csv line 3, column label: label of 'p|q' is 'zebra'; expected 'p', 'q'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["join", "labelers"])
def test_a_ranking_that_places_an_id_twice_is_told_with_its_place(
    command: str, tmp_path: Path, capsys: Printed
) -> None:
    place = folder(tmp_path / "some", ["a,x,a>b", "a,y,b>a", "b,x,a>a"], [])
    assert main([command, str(place)]) == 1
    printed = capsys.readouterr()
    assert "some: rankings" in printed.err  # one slip does not make them another kind
    assert "answers.csv line 4, column label: label is 'a>a', which places 'a' 2 times" in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("answers", "known", "told"),
    [
        (["p|q,x,p", "p|q,y,q"], "p|q,zebra", "mine.csv line 2, column label: label of 'p|q' is 'zebra'"),
        (["a,x,a>b", "a,y,b>a"], "a,b>b", "mine.csv line 2, column label: label is 'b>b'"),
    ],
)
def test_a_known_label_that_cannot_be_is_told_with_its_place(
    answers: list[str], known: str, told: str, tmp_path: Path, capsys: Printed
) -> None:
    gold = tmp_path / "mine.csv"
    gold.write_text(f"item,label\n{known}\n", encoding="utf-8")
    kind = "preferences" if "|" in known else "rankings"
    assert (
        main(["join", str(folder(tmp_path / "some", answers, [])), "--kind", kind, "--gold", str(gold)]) == 1
    )
    assert told in capsys.readouterr().err


def test_a_table_of_known_labels_that_is_not_there_is_named(tmp_path: Path, capsys: Printed) -> None:
    place, gold = written(tmp_path / "some", crowd(items=3)), tmp_path / "nofile.csv"
    assert main(["join", str(place), "--gold", str(gold)]) == 1
    assert f"no such file {gold}; expected a table item,label" in capsys.readouterr().err


def test_bytes_that_are_no_utf_8_are_told_with_their_line(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "answers.csv").write_bytes("item,annotator,label\na,x,caf\u00e9\n".encode("latin-1"))
    assert main(["join", str(tmp_path)]) == 1
    assert (
        "answers.csv line 2 is not UTF-8 (byte 0xe9); expected a table saved as UTF-8"
        in capsys.readouterr().err
    )


def test_a_folder_is_named_as_it_was_typed_and_looked_for_elsewhere_only_if_somebody_said_where(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAIRN_DATA", raising=False)
    assert main(["join", "nosuch"]) == 1
    assert capsys.readouterr().err == "nosuch: no such folder; expected one with answers.csv\n"
    written(tmp_path / "nosuch", crowd(items=3))
    monkeypatch.setenv("CAIRN_DATA", str(tmp_path))
    assert main(["join", "nosuch"]) == 0


def test_the_folder_one_is_in_has_a_name(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written(tmp_path / "here", crowd(items=3), truth="item,label\ni00,cat\n"))
    assert main(["score", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["dataset"] == "here"


def test_who_reads_only_the_first_rows_is_told_of_no_error(tmp_path: Path) -> None:
    place = written(tmp_path / "some", crowd(items=3000, people=2))
    run = subprocess.run(
        f"{sys.executable} -m cairn_truth join {place} | head -1",
        shell=True, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.stdout == "item,label,confidence,answers\n"
    assert "pipe" not in run.stderr.lower()
    assert "Traceback" not in run.stderr
