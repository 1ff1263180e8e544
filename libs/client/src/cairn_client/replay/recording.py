"""What was recorded: items, who answered what, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cairn_client.errors import InputError
from cairn_client.new_items import NewItem
from cairn_client.tables import ITEM, LABEL, LABELER, is_broken, item_records, read_csv
from cairn_client.words import counted, first_of, quoted


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One labeler's answer to one item, as written in the file."""

    item: str
    labeler: str
    label: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A crowd's work. `items` are in the order of the files; every answer's item is among them.

    `truth` is of these items only.
    `duplicates` counts answers that were left out because the same labeler had answered the same item before.
    `recorded` counts all, those included.
    """

    name: str
    items: tuple[NewItem, ...]
    answers: tuple[RecordedAnswer, ...]
    truth: Mapping[str, str]
    duplicates: int = 0
    has_content: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def recorded(self) -> int:
        """Answers in the file."""
        return len(self.answers) + self.duplicates


def load_recording(answers: Path, items: Path | None = None, truth: Path | None = None) -> Recording:
    """Read a recording: a folder with answers.csv (item,annotator,label), truth.csv (item,label) and perhaps
    items.csv (item,text or item,path), or the files one by one.

    Raises InputError that names the file, line or column at fault.
    """
    if answers.is_dir():
        folder = answers
        answers = folder / "answers.csv"
        if not answers.exists():
            raise InputError(f"The folder {folder} has no answers.csv (item,annotator,label).")
        items = items or _if_there(folder / "items.csv") or _if_there(folder / "items.jsonl")
        truth = truth or _if_there(folder / "truth.csv")
        name = folder.resolve().name
    else:
        name = answers.resolve().parent.name if answers.stem == "answers" else answers.stem
    kept, duplicates, notes = _read_answers(answers)
    told = {} if truth is None else _read_truth(truth)
    contents = {} if items is None else _read_items(items)
    if items is not None:
        without = [one.item for one in kept if one.item not in contents]
        if without:
            notes.append(
                f"{counted(len(set(without)), 'answered item')} not in {items.name}: the key serves as text."
            )
    keys = dict.fromkeys([*contents, *(one.item for one in kept)])
    if strangers := [key for key in told if key not in keys]:
        notes.append(
            f"The truth of {counted(len(strangers), 'item')} is of no use, as nobody knows such items:"
            f" {first_of(strangers)}."
        )
    return Recording(
        name=name,
        items=tuple(contents.get(key) or NewItem(key, text=key) for key in keys),
        answers=tuple(kept),
        truth={key: label for key, label in told.items() if key in keys},
        duplicates=duplicates,
        has_content=bool(contents),
        notes=tuple(notes),
    )


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _read_answers(path: Path) -> tuple[list[RecordedAnswer], int, list[str]]:
    """The answers, how many were duplicates, and a remark on rows that are damaged: they are left out alone."""
    table = read_csv(path)
    columns = table.column(ITEM), table.column(LABELER), table.column(LABEL)
    seen: set[tuple[str, str]] = set()
    kept: list[RecordedAnswer] = []
    damaged: list[str] = []
    duplicates = 0
    for row in table.rows:
        cells = [row.cells[column] for column in columns]
        wrong = [
            (c, "empty" if not cell else "not UTF-8 text")
            for c, cell in zip(columns, cells, strict=True)
            if not cell or is_broken(cell)
        ]
        if wrong:
            damaged.append(f"line {row.line}: the column {wrong[0][0]!r} is {wrong[0][1]}")
            continue
        one = RecordedAnswer(*cells)
        if (one.item, one.labeler) in seen:
            duplicates += 1
            continue
        seen.add((one.item, one.labeler))
        kept.append(one)
    if not kept:
        raise InputError(f"{path} has no answers" + (f"; {damaged[0]}." if damaged else "."))
    notes = (
        [f"{counted(len(damaged), 'damaged row')} of {path.name} left out, such as {damaged[0]}."]
        if damaged
        else []
    )
    return kept, duplicates, notes


def _read_truth(path: Path) -> dict[str, str]:
    table = read_csv(path)
    item, label = table.column(ITEM), table.column(LABEL)
    truth: dict[str, str] = {}
    for row in table.rows:
        key, value = row.cells[item], row.cells[label]
        if truth.setdefault(key, value) != value:
            raise InputError(f"{path}, line {row.line}: the item {quoted(key)} has two truths.")
    return truth


def _read_items(path: Path) -> dict[str, NewItem]:
    items: dict[str, NewItem] = {}
    for record in item_records(path):
        text, file = record.get("text"), record.get("path")
        if text is None and file is None:
            raise InputError(f"{path} must have a column 'text' or 'path' beside the item.")
        key = str(record["key"])
        items[key] = NewItem(key, text=None if text is None else str(text), path=Path(file) if file else None)
    return items
