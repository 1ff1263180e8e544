"""Files as people have them are read; what is wrong with them is said with its line."""

from pathlib import Path

import pytest

from cairn_client.errors import InputError
from cairn_client.replay.recording import load_recording
from cairn_client.tables import item_records, read_csv, read_jsonl


def written(folder: Path, name: str, data: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


def test_a_byte_order_mark_crlf_and_quotes_are_no_trouble(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", b'\xef\xbb\xbfitem,text\r\n1,"a, ""b""\r\nc"\r\n2,d\r\n')

    table = read_csv(file)

    assert [row.cells["text"] for row in table.rows] == ['a, "b"\r\nc', "d"]
    assert [row.line for row in table.rows] == [3, 4]


def test_utf_16_as_spreadsheets_write_it_is_read(tmp_path: Path) -> None:
    assert (
        read_csv(written(tmp_path, "a.csv", "item,text\n1,é\n".encode("utf-16"))).rows[0].cells["text"] == "é"
    )


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    table = read_csv(written(tmp_path, "a.csv", "item,anotator,label\n1,2,3\n"))

    with pytest.raises(InputError) as error:
        table.column(("annotator", "labeler"))

    assert "has no column 'annotator'" in str(error.value)
    assert "'item', 'anotator', 'label'" in str(error.value)
    assert "Did you mean 'anotator'" in str(error.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("item,text\n1,a,b\n", "line 2: 3 fields; the header has 2"),
        ("item,text\n1\n", "line 2: 1 field; the header has 2"),
        ('item,text\n1,"a\n2,b\n', "Is a double quote missing?"),
        ("item,item\n1,2\n", "the column 'item' twice"),
        ("", "is empty"),
    ],
)
def test_a_broken_csv_names_the_line(tmp_path: Path, data: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        read_csv(written(tmp_path, "a.csv", data))

    assert told in str(error.value)


def test_json_lines_name_the_line_that_is_not_an_object(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", '{"key": "a"}\n\n[1]\n')

    with pytest.raises(InputError, match=r"line 3: each line must be an object"):
        list(read_jsonl(file))


def test_a_folder_of_images_becomes_items_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    written(tmp_path, "cats/1.PNG", b"x")
    written(tmp_path, "notes.txt", b"x")

    assert [record["key"] for record in item_records(tmp_path)] == ["cats/1.PNG"]
    with pytest.raises(InputError, match="has no images"):
        list(item_records(_empty(tmp_path)))


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_paths_in_a_csv_are_meant_from_its_own_folder(tmp_path: Path) -> None:
    file = written(tmp_path, "items.csv", "item,path,note\na,pic.png,hi\n")

    assert list(item_records(file)) == [
        {"item": "a", "key": "a", "path": str(tmp_path / "pic.png"), "note": "hi"}
    ]


def test_a_recording_is_a_folder_of_three_files(tmp_path: Path) -> None:
    written(tmp_path, "answers.csv", "item,annotator,label\n1,ann,x\n1,bob,y\n1,ann,x\n3,ann,x\n")
    written(tmp_path, "truth.csv", "item,label\n1,x\n")
    written(tmp_path, "items.csv", "item,text\n1,one\n2,two\n")

    recording = load_recording(tmp_path)

    assert [item.key for item in recording.items] == ["1", "2", "3"]
    assert recording.items[2].text == "3"
    assert (len(recording.answers), recording.duplicates, recording.recorded) == (3, 1, 4)
    assert recording.truth == {"1": "x"}
    assert "1 answered item not in items.csv" in recording.notes[0]


def test_a_recording_without_answers_or_with_two_truths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no answers\.csv"):
        load_recording(tmp_path)
    written(tmp_path, "answers.csv", "item,annotator,label\n1,ann,x\n")
    written(tmp_path, "truth.csv", "item,label\n1,x\n1,y\n")
    with pytest.raises(InputError, match="line 3: the item '1' has two truths"):
        load_recording(tmp_path)


def test_damaged_rows_of_a_recording_are_left_out_and_said(tmp_path: Path) -> None:
    written(tmp_path, "answers.csv", b"item,annotator,label\n1,,x\n1,ann,\xff\n1,bob,x\n")

    recording = load_recording(tmp_path)

    assert [(one.labeler, one.label) for one in recording.answers] == [("bob", "x")]
    assert (
        "2 damaged rows of answers.csv left out, such as line 2: the column 'annotator' is empty"
        in recording.notes[0]
    )
    written(tmp_path, "answers.csv", b"item,annotator,label\n1,,x\n")
    with pytest.raises(InputError, match="has no answers; line 2"):
        load_recording(tmp_path)


def test_truth_of_items_that_do_not_exist_is_left_out_and_said(tmp_path: Path) -> None:
    written(tmp_path, "answers.csv", "item,annotator,label\n1,ann,x\n")
    written(tmp_path, "truth.csv", "item,label\n1,x\n7,x\n8,y\n")

    recording = load_recording(tmp_path)

    assert recording.truth == {"1": "x"}
    assert recording.notes == ("The truth of 2 items is of no use, as nobody knows such items: '7', '8'.",)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"key": "b", "text": NaN}', "line 2: 'text' is NaN; expected a string"),
        ('{"key": "b", "text": 5}', "line 2: 'text' is 5; expected a string"),
        ('{"key": true, "text": "x"}', "line 2: 'key' is true; expected a string"),
        ('{"key": "", "text": "x"}', "line 2: the key is empty"),
    ],
)
def test_what_is_no_string_in_json_lines_is_refused_with_its_line(
    tmp_path: Path, line: str, told: str
) -> None:
    file = written(tmp_path, "a.jsonl", '{"key": 1, "text": null}\n' + line)

    with pytest.raises(InputError) as error:
        list(item_records(file))

    assert f"{file}, {told}" in str(error.value)
