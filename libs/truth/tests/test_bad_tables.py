"""The command, given tables that are not as they should be: each is told with its file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cairn_truth.__main__ import main
from libs.truth.tests.test_commands import Printed, crowd, table_of, written

ODD = ("join", "labelers", "agreement")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "answers.csv is empty; expected a table item,annotator,label"),
        ("\n\n", "answers.csv is empty; expected a table item,annotator,label"),
        ("item,item,annotator,label\na,b,x,1\n", "answers.csv has column item 2 times; expected each once"),
        ("item,annotator,label,label\na,x,1,2\n", "answers.csv has column label 2 times; expected each once"),
        (
            'item,annotator,label\na,x,"1\na,y,1\n',
            "answers.csv line 2: a quote opens in this row and is never closed",
        ),
        ('item,annotator,label\n\n"a\nb",x,1\na,y,"1\n', "answers.csv line 5: a quote opens in this row"),
        ('item,annotator,label\na,x,1\na,y,"1"2\n', "answers.csv line 3: ',' expected after '\"'"),
        ("item,annotator,label\na,x,1\n\n\n,y,1\n", "answers.csv line 5, column item: is empty"),
        ("item,annotator,label\na,x,1\n\na,y\n", "answers.csv line 4 ends before column label"),
    ],
)
@pytest.mark.parametrize("command", ODD)
def test_a_table_that_is_none_is_told_with_its_line(
    command: str, table: str, told: str, tmp_path: Path, capsys: Printed
) -> None:
    (tmp_path / "answers.csv").write_text(table, encoding="utf-8")
    assert main([command, str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert told in printed.err
    assert not printed.out


def test_a_column_that_nobody_reads_may_be_there_twice(tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "answers.csv").write_text("note,item,annotator,label,note\n,a,x,1,\n", encoding="utf-8")
    assert main(["join", str(tmp_path), "--kind", "numbers"]) == 0
    assert table_of(capsys.readouterr().out)[0]["label"] == "1"


@pytest.mark.parametrize("command", [*ODD, "score", "replay"])
def test_an_empty_label_is_no_class(command: str, tmp_path: Path, capsys: Printed) -> None:
    rows = [(f"i{n}", who, "yes") for n in range(4) for who in "xyz"]
    place = written(tmp_path / "some", [*rows, ("i0", "w", " ")], truth="item,label\ni0,yes\n")
    assert main([command, str(place), "--kind", "classes"]) == 1
    assert "answers.csv line 14, column label: is empty; expected a class" in capsys.readouterr().err


def test_a_class_written_in_two_ways_agrees_with_itself(tmp_path: Path, capsys: Printed) -> None:
    rows = [(f"i{n}", who, f"{n % 2}{end}") for n in range(9) for who, end in (("x", ""), ("y", ".0"))]
    place = written(tmp_path / "some", rows)
    assert main(["agreement", str(place), "--kind", "classes", "--json"]) == 0
    assert {json.loads(line)["value"] for line in capsys.readouterr().out.splitlines()} == {1.0}


@pytest.mark.parametrize("bad", ["n/a", "unknown"])
@pytest.mark.parametrize("command", ODD)
def test_words_in_a_table_most_of_which_is_decimals_are_slips(
    command: str, bad: str, tmp_path: Path, capsys: Printed
) -> None:
    values = np.random.default_rng(3).normal(50.0, 9.0, 100)
    rows = [(f"i{n:03d}", who, f"{value:.2f}") for n, value in enumerate(values) for who in "xyz"]
    for at in range(7, 300, 9):
        rows[at] = (*rows[at][:2], bad)
    place = written(tmp_path / "some", rows)
    assert main([command, str(place)]) == 1
    printed = capsys.readouterr()
    assert f"answers.csv line 9, column label: label is {bad!r}; expected a finite number" in printed.err
    assert "some: numbers (most labels are numbers that are not whole" in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    "deep", ["[" * 100_000 + "]" * 100_000, "[" * 20 + "]" * 20, '[{"a":' * 9 + "1" + "}]" * 9]
)
@pytest.mark.parametrize("kind", ["choices", "spans", "boxes", "polygons"])
@pytest.mark.parametrize("command", [*ODD, "score"])
def test_a_label_nested_without_end_is_told_with_its_place(
    command: str, kind: str, deep: str, tmp_path: Path, capsys: Printed
) -> None:
    good = {
        "choices": '["a"]',
        "spans": "[[1, 2]]",
        "boxes": "[[0, 0, 9, 9]]",
        "polygons": "[[0, 0], [9, 0], [9, 9]]",
    }
    rows = [(f"i{n}", who, good[kind]) for n in range(15) for who in "xyz"]
    place = written(tmp_path / "some", [*rows, ("i0", "w", deep)], truth="item,label\ni0,\n")
    for options in ([], ["--kind", kind]):
        code = main([command, str(place), *options])
        told = capsys.readouterr().err
        if kind == "choices" and command in {"agreement", "score"}:
            assert "left out" in told
        else:
            assert (code, "answers.csv line 47, column label" in told) == (1, True)


@pytest.mark.parametrize("kind", ["numbers", "ratings", "choices", "spans", "boxes", "polygons"])
@pytest.mark.parametrize(
    "cell", ["[[0, 0, 1%s, 5]]", "[[0, 1%s], [9, 0], [9, 9]]", "[[3, 1%s]]", "[1%s]", "1%s"]
)
def test_numbers_without_end_are_told_with_their_place(
    kind: str, cell: str, tmp_path: Path, capsys: Printed
) -> None:
    for zeros in (400, 5000):
        place = written(tmp_path / f"{zeros}", [("a", "x", cell % ("0" * zeros))])
        assert main(["join", str(place), "--kind", kind]) == 1
        assert "answers.csv line 2, column label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gold", "told"),
    [
        ("i00,fox\ni01,\nelsewhere,cat\n", "1 known label\n"),
        ("i00,fox\ni01,dog\n", "2 known labels\n"),
        ("elsewhere,cat\n", "0 known labels\n"),
    ],
)
def test_known_labels_are_counted_where_they_are_used(
    gold: str, told: str, tmp_path: Path, capsys: Printed
) -> None:
    place = written(tmp_path / "some", crowd(), gold=f"item,label\n{gold}")
    assert main(["join", str(place)]) == 0
    assert told in capsys.readouterr().err
